//! A live quote board: one process feeds prices, others show them as they change.
//!
//! A viewer's watch tells first what is there, then each change, in order; a slow viewer would be told
//! that it lagged. Nobody asks the feeder for anything, and it does not know who looks.
//!
//!     cargo run --example quote_board

#![expect(clippy::print_stdout, reason = "it shows what it does")]

use membus::{Bus, BusReader, Event, ReadBus, Waited};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

const SYMBOLS: [&str; 4] = ["ACME", "BOLT", "CRUX", "DUNE"];
const ROUNDS: i64 = 2000;
const PATIENCE: Duration = Duration::from_secs(30);

/// Walks the prices at random, one commit for the whole board.
fn feed(bus: &Bus) -> Result<(), Box<dyn Error>> {
    let mut seed = 1_u64;
    for round in 0..ROUNDS {
        let mut board = membus::Batch::new();
        for symbol in SYMBOLS {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let price = 100.0 + (seed >> 40) as f64 / 1e6 + round as f64 / 100.0;
            board.set(format!("price/{symbol}"), &price)?;
        }
        bus.commit(&board)?;
    }
    bus.set("market", &"closed")?;
    Ok(())
}

/// Shows the board when the market has closed; until then it follows.
fn view(name: &str, bus: &Bus) -> Result<(), Box<dyn Error>> {
    let mut watch = bus.watch("")?;
    let (mut board, mut changes, mut missed) = (BTreeMap::new(), 0, 0);
    loop {
        match watch.recv()? {
            Event::Current(entry) if entry.key.starts_with(b"price/") => {
                board.insert(entry.key.clone(), entry.decode::<f64>()?);
            }
            Event::Change(change) if &*change.key == b"market" => break,
            Event::Change(change) if change.key.starts_with(b"price/") => {
                changes += 1;
                board.extend(change.decode::<f64>()?.map(|price| (change.key, price)));
            }
            Event::Lagged { missed: more, .. } => missed += more,
            _ => {}
        }
    }
    for (key, price) in &board {
        // What the watch told last is what is there.
        assert!(missed > 0 || bus.get::<f64>(key)? == Some(*price));
    }
    println!("{name}: {} symbols, {changes} changes seen, {missed} missed", board.len());
    Ok(())
}

fn start(role: &str, path: &Path) -> std::io::Result<Child> {
    let me = std::env::current_exe()?;
    Command::new(me).arg(role).arg(path).spawn()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    if let (Some(role), Some(path)) = (arguments.next(), arguments.next()) {
        let bus = Bus::options().label(&role).attach_at(path)?;
        bus.put(format!("here/{role}")).ephemeral().set(&true)?;
        return if role == "feeder" { feed(&bus) } else { view(&role, &bus) };
    }
    let directory = tempfile::tempdir_in("/dev/shm")?;
    let path = directory.path().join("quotes");
    let bus = Bus::options().state(directory.path()).open_at(&path)?;
    let viewers = ["viewer 1", "viewer 2"].map(|name| start(name, &path));
    for name in ["viewer 1", "viewer 2"] {
        let here = bus.wait_for(format!("here/{name}"), PATIENCE, |entry| entry.is_some())?;
        assert!(matches!(here, Waited::Holds(_)), "{name} did not come");
    }
    let feeder = start("feeder", &path);
    for child in [feeder].into_iter().chain(viewers) {
        assert!(child?.wait()?.success());
    }
    let reader = BusReader::open_at(&path)?;
    println!("closed at {:?}", reader.get::<f64>("price/ACME")?);
    Ok(())
}
