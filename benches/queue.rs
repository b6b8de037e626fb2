//! How many items go through a work queue a second, put, taken and acknowledged?
//!
//! Back of the envelope: each of the three is a batch of two or three changes, and a single `set` takes
//! some half a microsecond; so an item costs a little more than eight sets, half of them in another
//! process when there are two, less what these wait for each other.
//!
//! `cargo bench --bench queue -- [ITEMS] [PAYLOAD_BYTES] [LIMIT]`
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use membus::{Bus, Persist, Queue, ReadBus};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

const PATIENCE: Duration = Duration::from_secs(60);
const ROUNDS: u32 = 7;

fn attach(at: &Path) -> Result<Bus, Failure> {
    Ok(Bus::options().state(at.join("state")).keeper(false).attach_at(at.join("bus"))?)
}

/// This binary again, as the consumer of a queue.
fn consumer(at: &Path, items: u64) -> Result<Child, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    Ok(command.env("MEMBUS_BENCH_CONSUMER", at).arg(items.to_string()).spawn()?)
}

fn consume(at: &Path, items: u64) -> Result<(), Failure> {
    let bus = attach(at)?;
    let mut queue = bus.queue("q")?;
    bus.set("ready", &true)?;
    for _ in 0..items {
        queue.take_timeout(PATIENCE)?.ok_or("no item came")?.ack()?;
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// One thread: all puts, then all takes with their acknowledgements; by rounds.
fn alone(queue: &mut Queue, payload: &[u8], items: u64) -> Result<(), Failure> {
    let each = |time: Duration| time.as_nanos() as f64 / items as f64;
    let (mut puts, mut takes, mut acks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for _ in 0..items {
            queue.put_bytes(payload)?;
        }
        puts.push(each(begun.elapsed()));
        let (begun, mut ack) = (Instant::now(), Duration::ZERO);
        for _ in 0..items {
            let taken = queue.try_take()?.ok_or("no item is there")?;
            let taken_at = Instant::now();
            taken.ack()?;
            ack += taken_at.elapsed();
        }
        takes.push(each(begun.elapsed() - ack));
        acks.push(each(ack));
    }
    for (what, times) in [("put", puts), ("take", takes), ("ack", acks)] {
        println!("{what:8}{:8.0} ns", median(times));
    }
    Ok(())
}

/// A producer and a consumer, each a process: items a second.
fn two(bus: &Bus, at: &Path, payload: &[u8], items: u64, limit: u64) -> Result<f64, Failure> {
    bus.delete("ready")?;
    let mut child = consumer(at, items)?;
    bus.wait_for("ready", PATIENCE, |entry| entry.is_some())?;
    let mut queue = bus.queue("q")?.limit(limit);
    let begun = Instant::now();
    for _ in 0..items {
        queue.put_bytes(payload)?;
    }
    child.wait()?.success().then_some(()).ok_or("the consumer failed")?;
    Ok(items as f64 / begun.elapsed().as_secs_f64())
}

fn main() -> Result<(), Failure> {
    let words: Vec<u64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let at = |index: usize, default| words.get(index).copied().unwrap_or(default);
    let (items, size, limit) = (at(0, 50_000), at(1, 64) as usize, at(2, 1000));
    if let Some(place) = std::env::var_os("MEMBUS_BENCH_CONSUMER") {
        return consume(Path::new(&place), items);
    }
    let place = tempfile::tempdir_in("/dev/shm")?;
    let options = Bus::options().max_capacity(4 << 30).persist(Persist::None);
    let bus = options.state(place.path().join("state")).create_at(place.path().join("bus"))?;
    let payload = vec![7; size];
    println!("{items} items of {size} B, median of {ROUNDS} rounds; one thread:");
    alone(&mut bus.queue("q")?, &payload, items)?;
    println!("a producer and a consumer, each a process; put, taken and acknowledged:");
    for limit in [limit, u64::MAX] {
        let rates: Result<_, _> =
            (0..ROUNDS).map(|_| two(&bus, place.path(), &payload, items, limit)).collect();
        let bound = if limit == u64::MAX { "none".to_owned() } else { limit.to_string() };
        println!("{:8.0} a second, limit {bound}", median(rates?));
    }
    Ok(())
}
