//! What does it cost to look again and again at a value of which one keeps hold?
//!
//! A cell of membus beside a held handle of iceoryx2's blackboard and, for scale, a lookup by key:
//! one thread, one value, 64 B and 1 KiB; at rest, and while a second thread changes another value,
//! or this one, every microsecond.
//!
//! **Back of the envelope.** The handle copies the value out of its shared memory, and looks at a
//! counter before and, by a compare-and-swap, after: 7 ns and more, growing with the value. The cell
//! has the value, and looks at five words in four lines, whatever its size: some 4 ns at rest. While
//! others write it waits once a commit for the line of the last clear, which each commit stores to;
//! the blackboard has no word that all writers share, and no clear.
//!
//! Rounds go by turns, and medians count; the goal is a ratio within the run.
//!
//! `cargo run --profile bench -p membus-compare --bin cell -- [ROUNDS]`
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::error::Error;
use std::fs;
use std::hint::{black_box, spin_loop};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use iceoryx2::config::Config;
use iceoryx2::node::Node;
use iceoryx2::prelude::{
    FileName, NodeBuilder, Path as IceoryxPath, SemanticString, SignalHandlingMode, ipc,
};
use membus::{Bus, Persist, ReadBus};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

type Fail = Box<dyn Error + Send + Sync>;

/// Where both lie.
const MEMORY_DIRECTORY: &str = "/dev/shm";
/// How long one figure is taken.
const ROUND: Duration = Duration::from_millis(60);
/// Reads between two looks at the clock.
const READS: u32 = 1000;
/// Time from one change to the next.
const PAUSE: Duration = Duration::from_micros(1);
/// The cell's time over the handle's, at rest, for small values.
const GOAL: f64 = 1.0;

/// What a second thread does meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    /// It changes another value.
    Other,
    /// It changes the value that is read.
    This,
}

impl Meanwhile {
    const ALL: [Self; 3] = [Self::Nothing, Self::Other, Self::This];

    fn word(self) -> &'static str {
        match self {
            Self::Nothing => "at rest",
            Self::Other => "another changes",
            Self::This => "it changes",
        }
    }

    /// The value that is changed, by its number; the first is the one that is read.
    fn changed(self) -> Option<u64> {
        match self {
            Self::Nothing => None,
            Self::Other => Some(1),
            Self::This => Some(0),
        }
    }
}

/// Who reads.
const COLUMNS: [&str; 3] = ["membus cell", "iceoryx2 handle", "membus get_into"];

/// The key of a value.
fn key(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

fn main() -> Result<(), Fail> {
    let rounds = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(9);
    println!("ns per read, one thread, median of {rounds} rounds (x membus cell)\n");
    print!("{:24}", "");
    COLUMNS.iter().for_each(|column| print!("{column:>24}"));
    println!();
    let mut at_rest = f64::NAN;
    for meanwhile in Meanwhile::ALL {
        let ratio = measure::<8>(rounds, meanwhile)?;
        if meanwhile == Meanwhile::Nothing {
            at_rest = ratio;
        }
        measure::<128>(rounds, meanwhile)?;
    }
    let verdict = if at_rest <= GOAL { "reached" } else { "goal missed" };
    println!("\ncell 64 B at rest, time / the handle's: {at_rest:.2}, goal <= {GOAL}: {verdict}");
    Ok(())
}

/// Takes and prints the figures of values of so many words: the cell's time over the handle's.
fn measure<const WORDS: usize>(rounds: usize, meanwhile: Meanwhile) -> Result<f64, Fail> {
    let place = tempfile::Builder::new().prefix("membus-cell-").tempdir_in(MEMORY_DIRECTORY)?;
    let (path, value) = (place.path().join("bus"), [7; WORDS]);
    let bytes = value.map(u64::to_le_bytes).concat();
    let options = Bus::options().state(place.path()).persist(Persist::None).keeper(false);
    let bus = options.create_at(&path)?;
    [0, 1].into_iter().try_for_each(|number| bus.set_bytes(key(number), &bytes).map(drop))?;
    let writer = Bus::options().keeper(false).attach_at(&path)?;

    let _sweep = Sweep(prefix(place.path()));
    let node = node(place.path())?;
    let board = node.service_builder(&"cell".try_into()?).blackboard_creator::<u64>();
    let board = board.add::<[u64; WORDS]>(0, value).add::<[u64; WORDS]>(1, value).create()?;
    let handle = board.reader_builder().create()?.entry::<[u64; WORDS]>(&0)?;
    let entries = board.writer_builder().create()?;
    let entries = [entries.entry::<[u64; WORDS]>(&0)?, entries.entry::<[u64; WORDS]>(&1)?];

    let set = |number| Ok(writer.set_bytes(key(number), &bytes).map(drop)?);
    let update = |number| {
        if let Some(entry) = entries.get(number as usize) {
            entry.update_with_copy(black_box(value));
        }
        Ok(())
    };
    let (mut cell, mut buffer) = (bus.cell::<[u8]>(key(0))?, Vec::new());
    let mut times: [Vec<f64>; COLUMNS.len()] = Default::default();
    for _ in 0..rounds {
        times[0].push(beside(meanwhile, &set, || {
            black_box(cell.get()?);
            Ok(())
        })?);
        times[1].push(beside(meanwhile, &update, || {
            black_box(&*handle.get());
            Ok(())
        })?);
        times[2].push(beside(meanwhile, &set, || {
            black_box(bus.get_into(key(0), &mut buffer)?);
            Ok(())
        })?);
    }
    let times = times.map(median);
    print!("{:24}", format!("{} B, {}", 8 * WORDS, meanwhile.word()));
    times.iter().for_each(|time| print!("{time:>14.1} {:>9}", format!("({:.2})", time / times[0])));
    println!();
    Ok(times[0] / times[1])
}

/// Nanoseconds of a read, while a second thread changes what it is to change.
fn beside(
    meanwhile: Meanwhile,
    change: &(dyn Fn(u64) -> Result<(), Fail> + Sync),
    mut read: impl FnMut() -> Result<(), Fail>,
) -> Result<f64, Fail> {
    let cores = cores()?;
    let (first, last) = (cores.first().copied(), cores.last().copied());
    let is_over = AtomicBool::new(meanwhile == Meanwhile::Nothing);
    thread::scope(|scope| {
        let changes = scope.spawn(|| {
            pin(last)?;
            while !is_over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                meanwhile.changed().map_or(Ok(()), change)?;
                while begun.elapsed() < PAUSE {
                    spin_loop();
                }
            }
            Ok::<_, Fail>(())
        });
        let took = time_on(first, &mut read);
        is_over.store(true, Ordering::Relaxed);
        changes.join().map_err(|_| "the writing thread panicked")??;
        took
    })
}

fn time_on(core: Option<usize>, read: &mut impl FnMut() -> Result<(), Fail>) -> Result<f64, Fail> {
    pin(core)?;
    let (begun, mut count) = (Instant::now(), 0.0);
    while begun.elapsed() < ROUND {
        (0..READS).try_for_each(|_| read())?;
        count += f64::from(READS);
    }
    Ok(begun.elapsed().as_nanos() as f64 / count)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The cores that this process may run on.
fn cores() -> Result<Vec<usize>, Fail> {
    static CORES: OnceLock<Vec<usize>> = OnceLock::new();
    if let Some(cores) = CORES.get() {
        return Ok(cores.clone());
    }
    let set = sched_getaffinity(Pid::from_raw(0))?;
    let cores = (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect();
    Ok(CORES.get_or_init(|| cores).clone())
}

/// Keeps this thread on a core.
fn pin(core: Option<usize>) -> Result<(), Fail> {
    let Some(core) = core else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// What the names of a run's files of iceoryx2 begin with, in the one place where they all lie.
fn prefix(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    format!("iox2-{}-", name.rsplit('-').next().unwrap_or_default())
}

/// Removes, when dropped, what iceoryx2 left in the common place.
struct Sweep(String);

impl Drop for Sweep {
    fn drop(&mut self) {
        for file in fs::read_dir(MEMORY_DIRECTORY).into_iter().flatten().flatten() {
            if file.file_name().to_string_lossy().starts_with(&self.0) {
                fs::remove_file(file.path()).ok();
            }
        }
    }
}

/// A node of iceoryx2 with its files under `directory`.
fn node(directory: &Path) -> Result<Node<ipc::Service>, Fail> {
    let root = directory.join("iceoryx2");
    let root = root.to_str().ok_or("the temporary directory's path is not UTF-8")?;
    let mut config = Config::default();
    config.global.set_root_path(&IceoryxPath::new(root.as_bytes())?);
    config.global.prefix = FileName::new(prefix(directory).as_bytes())?;
    let node = NodeBuilder::new().config(&config);
    Ok(node.signal_handling_mode(SignalHandlingMode::Disabled).create::<ipc::Service>()?)
}
