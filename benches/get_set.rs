//! How many nanoseconds do `get` and `set` take in one thread, and what of it is waiting for memory?
//!
//! Back of the envelope: a get of a key that is in no cache waits for a bucket and for an entry, one
//! after the other; a plain walk that follows one pointer from a table into a heap of the same size
//! does the same, and is printed beside it. A set waits for the same two, and writes a log record.
//! A cell waits for nothing while its key stays as it is: five loads from the nearest cache and their
//! bounds checks, some 5 ns; when other keys change, for the one line that each commit writes.
//!
//! `cargo bench --bench get_set -- [KEYS] [VALUE_BYTES] [ROUNDS]`
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use membus::{Bus, Cell, Persist, ReadBus};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

/// A small generator of evenly spread numbers (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn key(number: u64) -> [u8; 16] {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
    std::array::from_fn(|digit| b"0123456789abcdef"[(mixed >> (60 - 4 * digit)) as usize & 15])
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Nanoseconds of each of `keys`' operations, by rounds.
fn rounds(
    count: usize,
    keys: &[[u8; 16]],
    mut run: impl FnMut(&[u8; 16]) -> Result<(), Failure>,
) -> Result<f64, Failure> {
    let mut times = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        for key in keys {
            run(key)?;
        }
        times.push(begun.elapsed().as_nanos() as f64 / keys.len() as f64);
    }
    Ok(median(times))
}

/// The plain walk: a table of 16 bytes an entry, then an entry of 128.
fn walk(keys: u64, order: &[u64], count: usize) -> f64 {
    let table: Vec<[u64; 2]> = (0..keys).map(|n| [n.wrapping_mul(0x9e37_79b9) % keys, n]).collect();
    let heap: Vec<[u64; 16]> = (0..keys).map(|n| [n; 16]).collect();
    let mut times = Vec::new();
    for _ in 0..count {
        let (begun, mut sum) = (Instant::now(), 0);
        for number in order {
            let entry = &heap[table[*number as usize][0] as usize];
            sum += entry[0] + entry[15];
        }
        black_box(sum);
        times.push(begun.elapsed().as_nanos() as f64 / order.len() as f64);
    }
    median(times)
}

/// Nanoseconds of a cell's `get`, by rounds; each finds an entry or none, as is said.
fn cell(count: usize, cell: &mut Cell<[u8]>, is_there: bool) -> Result<f64, Failure> {
    const GETS: u32 = 2_000_000;
    let mut times = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        for _ in 0..GETS {
            if black_box(cell.get()?).is_some() != is_there {
                return Err("an entry that came or went".into());
            }
        }
        times.push(begun.elapsed().as_nanos() as f64 / f64::from(GETS));
    }
    Ok(median(times))
}

/// Cells of a key and of an absent one: at rest, and while another thread sets another key.
fn cells(bus: &Bus, count: usize, there: &[u8], value: &[u8]) -> Result<(), Failure> {
    let (mut there, mut absent) = (bus.cell(there)?, bus.cell("absent")?);
    for when in ["", ", others write"] {
        let is_over = AtomicBool::new(when.is_empty());
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    bus.set_bytes("other", value).ok();
                }
            });
            let times = cell(count, &mut there, true).and_then(|time| {
                println!("cell        {time:8.1}{when}");
                cell(count, &mut absent, false)
            });
            is_over.store(true, Ordering::Relaxed);
            println!("cell absent {:8.1}{when}", times?);
            Ok::<_, Failure>(())
        })?;
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let words: Vec<u64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let at = |index: usize, default| words.get(index).copied().unwrap_or(default);
    let (count, size, repeat) = (at(0, 1_000_000), at(1, 64) as usize, at(2, 5) as usize);
    let place = tempfile::tempdir_in("/dev/shm")?;
    let options = Bus::options().max_capacity(8 << 30).persist(Persist::None);
    let bus = options.state(place.path()).create_at(place.path().join("bus"))?;
    let value = vec![7; size];
    for number in 0..count {
        bus.set_bytes(key(number), &value)?;
    }
    let mut random = Random(88_172_645_463_325_252);
    let order: Vec<u64> = (0..count).map(|_| random.below(count)).collect();
    let keys: Vec<[u8; 16]> = order.iter().map(|number| key(*number)).collect();
    let absent: Vec<[u8; 16]> = (0..count).map(|_| key(count + random.below(count))).collect();
    let mut buffer = Vec::new();
    println!("{count} keys of 16 B, values of {size} B, ns per operation, median of {repeat}");
    println!("plain walk  {:8.1}", walk(count, &order, repeat));
    let get = rounds(repeat, &keys, |key| {
        black_box(bus.get_into(key, &mut buffer)?);
        Ok(())
    })?;
    println!("get         {get:8.1}");
    // In place: what `ValueGuard`'s unsafe code spares is the copy.
    let read = rounds(repeat, &keys, |key| {
        black_box(bus.read(key)?.map(|value| value.first().copied()));
        Ok(())
    })?;
    println!("read        {read:8.1}  {:.2} x get", read / get);
    let miss = rounds(repeat, &absent, |key| {
        black_box(bus.get_into(key, &mut buffer)?);
        Ok(())
    })?;
    println!("get absent  {miss:8.1}");
    let set = rounds(repeat, &keys, |key| {
        black_box(bus.set_bytes(key, &value)?);
        Ok(())
    })?;
    println!("set         {set:8.1}");
    let Some(there) = keys.first() else { return Ok(()) };
    cells(&bus, repeat, there, &value)
}
