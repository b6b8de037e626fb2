//! What does an owner that is killed leave to the others?
//!
//! A process takes a lock, or writes, and gets SIGKILL; it is waited for, so that the kernel has freed
//! what it held. From then on it is timed when another process has the lock, or has written.
//!
//! `raw_sync`'s mutex, in a page of `shared_memory`, is a word that names no owner, so nobody can
//! ever tell that it is dead: the one who waits is let go by a time-out of its own, and no other one
//! would end differently. With membus a lock is an ephemeral key: whoever keeps the bus takes it
//! away with its dead owner, at its next turn of a tenth of a second. A writer that dies within a
//! batch holds the locks of its stripes and of the commit; the next writer sees whose they are,
//! asks the kernel whether he lives, finishes or drops the batch and goes on.
//!
//! Beside that, what both cost while nobody dies. That is not one thing: the mutex guards one value
//! at a fixed place, while membus finds a value by its key, and a change of it is logged, told to
//! watches, and whole whoever dies.

use std::hint::black_box;
use std::io::{self, Write, stdin, stdout};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use membus::{Batch, Bus, ReadBus, Waited};
use nix::unistd::alarm;
use serde::{Deserialize, Serialize};

use crate::args::Plan;
use crate::child::Running;
use crate::engines::{self, Fail, Name};
use crate::figure::{Figure, percentile};
use crate::machine;
use crate::note;
use crate::page::{Guarded, Page, VALUE_SIZE};
use crate::role::Role;
use crate::workload::{Key, key};

/// Seconds for which the mutex of a dead owner is waited for.
const HANG: u64 = 1;
/// Longest wait for anything of membus.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Seconds after which an owner ends that was not killed.
const LIFE_MAX: u32 = 60;
/// Sets of a batch; its title in the table says it too.
const BATCH: u64 = 1000;
/// Operations of an uncontended round.
const OPERATIONS: usize = 2000;
/// The ephemeral key that stands for a lock.
const LOCK: &str = "lock";

/// What an owner holds when it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Held {
    /// `raw_sync`'s mutex.
    Mutex,
    /// An ephemeral key of membus.
    Key,
    /// What a batch of membus takes while it is committed.
    Batch,
}

impl Held {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 3] = [Self::Mutex, Self::Key, Self::Batch];

    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Mutex => "mutex",
            Self::Key => "key",
            Self::Batch => "batch",
        }
    }

    /// What `word` names.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|held| held.word() == word)
    }

    /// What the table calls it.
    fn title(self) -> &'static str {
        match self {
            Self::Mutex => "raw_sync, its mutex",
            Self::Key => "membus, an ephemeral key as a lock",
            Self::Batch => "membus, in a batch of 1000 sets",
        }
    }

    /// How many owners are killed.
    fn kills(self, plan: &Plan) -> usize {
        match self {
            Self::Mutex => 1,
            Self::Key => 4 * plan.rounds,
            Self::Batch => 20 * plan.rounds,
        }
    }

    /// How long an owner lives on: another time for each, so that no death is in step with the
    /// keeper's turns, and no two are at the same place of a batch.
    fn lives_on(self, kill: usize) -> Duration {
        match self {
            Self::Mutex => Duration::ZERO,
            Self::Key => Duration::from_millis(kill as u64 * 37 % 100),
            Self::Batch => Duration::from_micros(500 + kill as u64 * 997 % 5000),
        }
    }
}

/// What became of what dead owners held.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DeathFigure {
    /// What they held.
    held: Held,
    /// Owners killed.
    kills: usize,
    /// Milliseconds until somebody else went on, sorted; none when nobody could.
    times: Vec<f64>,
    /// What the one who waited in vain was told.
    error: Option<String>,
}

/// One thing, done uncontended by both, in nanoseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UncontendedFigure {
    /// What is done.
    what: String,
    /// With the mutex.
    raw_sync: Figure,
    /// With membus.
    membus: Figure,
}

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OwnersReport {
    /// Rounds whose median counts.
    rounds: usize,
    /// While nobody dies.
    uncontended: Vec<UncontendedFigure>,
    /// When somebody does.
    deaths: Vec<DeathFigure>,
}

impl OwnersReport {
    /// Milliseconds below which a share of the owners were got over, when all of them were.
    pub(crate) fn recovery(&self, held: Held, share: f64) -> Option<f64> {
        let figure = self.deaths.iter().find(|figure| figure.held == held)?;
        figure.error.is_none().then(|| percentile(&figure.times, share))
    }

    /// Sets the tables.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let rounds = self.rounds;
        writeln!(
            out,
            "\nraw_sync's mutex in shared_memory beside membus, uncontended: \
             ns, median of {rounds} rounds"
        )?;
        writeln!(out, "(one value of {VALUE_SIZE} B at its place; membus finds it by key)\n")?;
        writeln!(out, "{:44}{:>12}{:>12}", "", "raw_sync", "membus")?;
        for UncontendedFigure { what, raw_sync, membus } in &self.uncontended {
            writeln!(out, "{what:44}{:>12.1}{:>12.1}", raw_sync.median, membus.median)?;
        }
        writeln!(
            out,
            "\nan owner gets SIGKILL: ms until another process has the lock or has written\n"
        )?;
        writeln!(out, "{:44}{:>12}{:>12}{:>12}{:>12}", "", "kills", "p50", "p99", "longest")?;
        for figure in &self.deaths {
            write!(out, "{:44}{:>12}", figure.held.title(), figure.kills)?;
            if let Some(error) = &figure.error {
                writeln!(out, "  hangs: not within {HANG} s ({error})")?;
                continue;
            }
            for share in [0.5, 0.99, 1.0] {
                write!(out, "{:>12.3}", percentile(&figure.times, share))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// Takes the figures.
pub(crate) fn measure(plan: &Plan, directory: &Path) -> Result<OwnersReport, Fail> {
    let keeper = engines::open(Name::Membus, directory, 1, VALUE_SIZE)?.ok_or("no membus")?;
    let (page, bus) = (Page::create(directory)?, engines::join_bus(directory)?);
    note("raw_sync's mutex beside membus");
    let uncontended = uncontended(plan, &Guarded::join(directory)?, &bus)?;
    let mut deaths = Vec::new();
    for held in Held::ALL {
        note(&format!("killing owners: {}", held.title()));
        deaths.push(kill_owners(plan, held, directory, &bus)?);
    }
    bus.close()?;
    drop(page);
    keeper.close()?;
    Ok(OwnersReport { rounds: plan.short_rounds(), uncontended, deaths })
}

/// Nanoseconds of an operation.
fn time(mut operation: impl FnMut() -> Result<(), Fail>) -> Result<f64, Fail> {
    let start = Instant::now();
    for _ in 0..OPERATIONS {
        operation()?;
    }
    Ok(start.elapsed().as_nanos() as f64 / OPERATIONS as f64)
}

/// What both cost while nobody dies, in turns, on one core.
fn uncontended(plan: &Plan, guarded: &Guarded, bus: &Bus) -> Result<Vec<UncontendedFigure>, Fail> {
    let cores = machine::cores()?;
    machine::pin(cores.get(..1).unwrap_or_default())?;
    let (mut value, mut buffer) = ([7; VALUE_SIZE], Vec::new());
    bus.set_bytes("value", value)?;
    let whats = [
        "lock, copy out, unlock / get",
        "lock, copy in, unlock / set",
        "lock, unlock / set, delete an ephemeral key",
    ];
    let mut samples = vec![(Vec::new(), Vec::new()); whats.len()];
    for _ in 0..plan.short_rounds() {
        let raw_sync = [
            time(|| guarded.read(black_box(&mut value)))?,
            time(|| guarded.write(black_box(&value)))?,
            time(|| guarded.pass())?,
        ];
        let membus = [
            time(|| Ok(bus.get_into("value", &mut buffer).map(drop)?))?,
            time(|| Ok(bus.set_bytes("value", black_box(&value)).map(drop)?))?,
            time(|| {
                take(bus)?;
                Ok(bus.delete(LOCK).map(drop)?)
            })?,
        ];
        for ((theirs, ours), times) in samples.iter_mut().zip(raw_sync.into_iter().zip(membus)) {
            theirs.push(times.0);
            ours.push(times.1);
        }
    }
    machine::pin(&cores)?;
    let figure = |(what, (raw_sync, membus)): (&str, (Vec<f64>, Vec<f64>))| UncontendedFigure {
        what: what.to_owned(),
        raw_sync: Figure::of(raw_sync),
        membus: Figure::of(membus),
    };
    Ok(whats.into_iter().zip(samples).map(figure).collect())
}

/// Takes the lock that an ephemeral key is; an error when somebody has it.
fn take(bus: &Bus) -> Result<(), Fail> {
    bus.put(LOCK).if_absent().ephemeral().set_bytes(b"mine")?;
    Ok(())
}

/// Kills owners one after the other, and times who goes on.
fn kill_owners(plan: &Plan, held: Held, directory: &Path, bus: &Bus) -> Result<DeathFigure, Fail> {
    let mut figure = DeathFigure { held, kills: held.kills(plan), times: Vec::new(), error: None };
    for kill in 0..figure.kills {
        let owner = Running::ready(&Role::Owner { held, directory: directory.to_owned() })?;
        thread::sleep(held.lives_on(kill));
        owner.kill()?;
        let start = Instant::now();
        match held {
            Held::Mutex => {
                if let Err(error) = Guarded::join(directory)?.lock_within(HANG) {
                    if start.elapsed() < Duration::from_secs(HANG) {
                        return Err(error);
                    }
                    figure.error = Some(error.to_string());
                    continue;
                }
            }
            Held::Key => {
                wait_for_lock(bus)?;
                take(bus)?;
            }
            Held::Batch => drop(bus.set_bytes(key(0), b"written after a death")?),
        }
        figure.times.push(start.elapsed().as_secs_f64() * 1e3);
        match held {
            Held::Mutex => {}
            Held::Key => drop(bus.delete(LOCK)?),
            Held::Batch => verify_batch(bus)?,
        }
    }
    figure.times.sort_by(f64::total_cmp);
    Ok(figure)
}

fn wait_for_lock(bus: &Bus) -> Result<(), Fail> {
    match bus.wait_for(LOCK, WAIT_MAX, |entry| entry.is_none())? {
        Waited::Holds(_) => Ok(()),
        Waited::TimedOut(_) => Err("the lock of a dead owner was not freed".into()),
    }
}

/// Whether the keys of the last batch, but the first one, have one value: that of one batch, whole.
fn verify_batch(bus: &Bus) -> Result<(), Fail> {
    let value = |number| bus.get_bytes(key(number));
    let first = value(1)?.ok_or("a batch is lost")?;
    for number in 2..BATCH {
        if value(number)?.as_ref() != Some(&first) {
            return Err("a batch was torn by a death".into());
        }
    }
    Ok(())
}

/// Is an owner, until it is killed.
pub(crate) fn hold(held: Held, directory: &Path) -> Result<(), Fail> {
    let ready = || writeln!(stdout(), "ready");
    // Where nobody is left to kill it.
    alarm::set(LIFE_MAX);
    match held {
        Held::Mutex => {
            let guarded = Guarded::join(directory)?;
            let _guard = guarded.lock_within(HANG)?;
            ready()?;
            stdin().read_line(&mut String::new())?;
        }
        Held::Key => {
            let bus = engines::join_bus(directory)?;
            take(&bus)?;
            ready()?;
            stdin().read_line(&mut String::new())?;
        }
        Held::Batch => {
            let bus = engines::join_bus(directory)?;
            let keys: Vec<Key> = (0..BATCH).map(key).collect();
            for number in 0u64.. {
                let mut batch = Batch::new();
                for key in &keys {
                    batch.set_bytes(key, [number.to_le_bytes(); VALUE_SIZE / 8].as_flattened());
                }
                bus.commit(&batch)?;
                if number == 0 {
                    ready()?;
                }
            }
        }
    }
    Ok(())
}
