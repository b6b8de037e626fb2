//! A watch and a subscriber as streams, in one task: once under tokio, once under futures-lite.
//!
//! Another process quotes prices, and says when the market closes. The task waits for both at once;
//! whichever it does not wait for any longer loses nothing.
//!
//!     cargo run --features stream --example stream

#![expect(clippy::print_stdout, reason = "it shows what it does")]

use futures_lite::{StreamExt, future};
use membus::{Bus, Event, Notice, ReadBus, Streamed, Subscriber, Watch};
use std::error::Error;
use std::path::Path;
use std::process::{Child, Command};

const QUOTES: u32 = 5000;

/// What the task waits for.
enum Heard {
    Quote(Event),
    Call(Notice),
}

async fn hear(
    quotes: &mut Streamed<Watch>,
    calls: &mut Streamed<Subscriber>,
) -> Result<Option<Heard>, membus::Error> {
    let quote = async { Ok(quotes.next().await.transpose()?.map(Heard::Quote)) };
    let call = async { Ok(calls.next().await.transpose()?.map(Heard::Call)) };
    future::or(quote, call).await
}

/// Follows the quotes until the market closes: the sum of all, and how often one came.
async fn follow(bus: &Bus) -> Result<(u64, u32), Box<dyn Error>> {
    let mut calls = bus.subscribe("market/")?.into_stream()?;
    let mut quotes = bus.watch("quote/")?.into_stream()?;
    bus.set("ready", &true)?;
    let (mut sum, mut count) = (0, 0);
    while let Some(heard) = hear(&mut quotes, &mut calls).await? {
        match heard {
            Heard::Quote(Event::Change(change)) => {
                sum += u64::from(change.decode::<u32>()?.unwrap_or_default());
                count += 1;
            }
            Heard::Call(Notice::Message(message)) if message.topic == "market/close" => break,
            _ => {}
        }
    }
    // What was quoted before the close, and waits still.
    for event in quotes.into_inner().try_iter() {
        let Event::Change(change) = event? else { continue };
        sum += u64::from(change.decode::<u32>()?.unwrap_or_default());
        count += 1;
    }
    Ok((sum, count))
}

/// The other process.
fn quote(path: &Path) -> Result<(), Box<dyn Error>> {
    let bus = Bus::options().keeper(false).attach_at(path)?;
    bus.wait_for("ready", std::time::Duration::from_secs(60), |entry| entry.is_some())?;
    for price in 1..=QUOTES {
        bus.set(format!("quote/{}", price % 10), &price)?;
    }
    bus.publish("market/close", &())?;
    Ok(bus.close()?)
}

fn start(path: &Path) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?).arg(path).spawn()
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(path) = std::env::args_os().nth(1) {
        return quote(Path::new(&path));
    }
    let directory = tempfile::tempdir_in("/dev/shm")?;
    let path = directory.path().join("market");
    let bus = Bus::options().state(directory.path()).open_at(&path)?;
    for executor in ["tokio", "futures-lite"] {
        bus.clear()?;
        let mut other = start(&path)?;
        let (sum, count) = match executor {
            "tokio" => {
                tokio::runtime::Builder::new_current_thread().build()?.block_on(follow(&bus))?
            }
            _ => future::block_on(follow(&bus))?,
        };
        assert!(other.wait()?.success());
        assert_eq!((sum, count), (u64::from(QUOTES) * u64::from(QUOTES + 1) / 2, QUOTES));
        println!("{executor}: {count} quotes, and the close");
    }
    Ok(())
}
