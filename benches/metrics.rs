//! What does counting cost a get, a get of an absent key and a set, in one thread and in several that share
//! a handle?
//!
//! Back of the envelope: a get counts by a load and a store of a line that its thread has to itself, after
//! a look at which one that is: some 2 ns, most of which passes while the lookup waits for memory. One get
//! in 256 is timed: two looks at the clock of 30 ns each, 0.2 ns a get.
//!
//! Two handles of one bus, one that counts and one that does not (`Options::metrics(false)`), take turns,
//! round by round; what is printed are medians over the rounds, and the median of the rounds' ratios.
//!
//! `cargo bench --bench metrics -- [KEYS] [VALUE_BYTES] [ROUNDS]`
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use membus::{Bus, Options, Persist, ReadBus};
use std::hint::black_box;
use std::path::Path;
use std::thread;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;
type Step<'a> = &'a (dyn Fn(&Bus, usize, &mut Vec<u8>) -> Result<(), Failure> + Sync);

/// Operations of each round and thread.
const STEPS: usize = 20_000;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Nanoseconds of each step of one thread, when so many do the same.
fn round(bus: &Bus, threads: usize, step: Step<'_>) -> Result<f64, Failure> {
    let run = || {
        let mut buffer = Vec::new();
        let begun = Instant::now();
        for number in 0..STEPS {
            step(bus, number, &mut buffer).map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(begun.elapsed().as_nanos() as f64 / STEPS as f64)
    };
    if threads == 1 {
        return Ok(run()?);
    }
    thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let mut sum = 0.0;
        for one in all {
            sum += one.join().map_err(|_| "a thread panicked")??;
        }
        Ok(sum / threads as f64)
    })
}

fn compare(
    name: &str,
    [counts, not]: [&Bus; 2],
    (threads, rounds): (usize, usize),
    step: Step<'_>,
) -> Result<(), Failure> {
    let (mut with, mut without, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..rounds {
        let (one, two) = if number % 2 == 0 {
            let one = round(counts, threads, step)?;
            (one, round(not, threads, step)?)
        } else {
            let two = round(not, threads, step)?;
            (round(counts, threads, step)?, two)
        };
        with.push(one);
        without.push(two);
        ratios.push(one / two);
    }
    let (with, without, ratio) = (median(with), median(without), median(ratios));
    println!("{name:11} {threads:7} {with:9.1} {without:9.1} {:+8.2} %", 100.0 * (ratio - 1.0));
    Ok(())
}

fn options(place: &Path) -> Options {
    Bus::options().max_capacity(8 << 30).persist(Persist::None).state(place).keeper(false)
}

fn main() -> Result<(), Failure> {
    let words: Vec<u64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let at = |index: usize, default| words.get(index).copied().unwrap_or(default) as usize;
    let (count, size, rounds) = (at(0, 100_000), at(1, 64), at(2, 201));
    let place = tempfile::tempdir_in("/dev/shm")?;
    let path = place.path().join("bus");
    let counts = options(place.path()).create_at(&path)?;
    let not = options(place.path()).metrics(false).attach_at(&path)?;
    let value = vec![7; size];
    let keys: Vec<String> = (0..count).map(|number| format!("key/{number:012}")).collect();
    for key in &keys {
        counts.set_bytes(key, &value)?;
    }
    // A step far enough from the last one that nobody guesses it.
    let key = |number: usize| &keys[number.wrapping_mul(0x9e37_79b1) % count];
    println!(
        "{count} keys of 16 B, values of {size} B, ns per operation, {rounds} rounds of {STEPS}"
    );
    println!("            threads  counting       not   counting costs");
    let buses = [&counts, &not];
    for threads in [1, 2, 8] {
        let how = (threads, if threads == 1 { rounds } else { rounds / 8 + 1 });
        compare("get", buses, how, &|bus, number, buffer| {
            black_box(bus.get_into(key(number), buffer)?);
            Ok(())
        })?;
        compare("get absent", buses, how, &|bus, number, buffer| {
            black_box(bus.get_into(number.to_le_bytes(), buffer)?);
            Ok(())
        })?;
        compare("set", buses, how, &|bus, number, _| {
            black_box(bus.set_bytes(key(number), &value)?);
            Ok(())
        })?;
    }
    Ok(())
}
