//! What does a journal cost a write, and how many durable writes a second are there?
//!
//! Back of the envelope: writers store nothing for a journal that the system or an interval syncs; one thread beside
//! them reads the log, some 150 ns a record, and writes it out. So as long as a core is left for that, a set costs no more;
//! else it shares its core. A durable set costs a sync of the disk, and as many as wait at the same time share it.
//!
//! `cargo bench --bench journal -- [SECONDS]`, with `TMPDIR` on the disk in question
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use membus::{Bus, JournalSync};
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

const ROUNDS: usize = 5;
const KEYS: u64 = 100_000;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// What sets cost, and how many there were; each thread sets keys of its own until the time is over.
fn sets(sync: Option<JournalSync>, threads: u64, time: Duration) -> Result<f64, Failure> {
    let (memory, disk) = (tempfile::tempdir_in("/dev/shm")?, tempfile::tempdir()?);
    let options = Bus::options().state(disk.path()).journal(sync).snapshot_every(time * 1000);
    let bus =
        options.max_capacity(1 << 30).log_size(64 << 20).create_at(memory.path().join("b"))?;
    let begun = Instant::now();
    let set = |thread: u64| -> Result<u64, membus::WriteError> {
        let mut count = 0_u64;
        while begun.elapsed() < time {
            bus.set_bytes(format!("{thread}/{}", count % KEYS), [7; 64])?;
            count += 1;
        }
        Ok(count)
    };
    let count = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || set(thread))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or(Ok(0))).sum::<Result<u64, _>>()
    })?;
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// Syncs a second of a file to which 128 bytes are appended before each.
fn raw(time: Duration) -> Result<f64, Failure> {
    let mut file: File = tempfile::tempfile()?;
    let (begun, mut count) = (Instant::now(), 0_u64);
    while begun.elapsed() < time {
        file.write_all(&[7; 128])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

fn main() -> Result<(), Failure> {
    let seconds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1.0);
    let time = Duration::from_secs_f64(seconds);
    let every = JournalSync::Every(Duration::from_millis(10));
    let cases = [
        ("no journal", None, 1),
        ("system", Some(JournalSync::System), 1),
        ("every 10 ms", Some(every), 1),
        ("always, 1 thread", Some(JournalSync::Always), 1),
        ("always, 8 threads", Some(JournalSync::Always), 8),
        ("always, 64 threads", Some(JournalSync::Always), 64),
    ];
    let mut rates = vec![Vec::new(); cases.len() + 1];
    for _ in 0..ROUNDS {
        for ((_, sync, threads), rates) in cases.iter().zip(&mut rates) {
            rates.push(sets(*sync, *threads, time)?);
        }
        if let Some(last) = rates.last_mut() {
            last.push(raw(time)?);
        }
    }
    let mut rates = rates.into_iter().map(median);
    let none = rates.next().unwrap_or_default();
    let raw = rates.next_back().unwrap_or_default();
    println!(
        "{ROUNDS} rounds of {seconds} s, 64 B, medians; a raw append and sync: {raw:.0} a second"
    );
    println!("{:20} {none:>12.0} sets/s {:>8.0} ns", cases[0].0, 1e9 / none);
    for ((name, ..), rate) in cases.iter().skip(1).zip(rates) {
        let (times, syncs) = (none / rate, rate / raw);
        println!(
            "{name:20} {rate:>12.0} sets/s {:>8.0} ns  {times:.2} × none, {syncs:.2} a raw sync",
            1e9 / rate
        );
    }
    Ok(())
}
