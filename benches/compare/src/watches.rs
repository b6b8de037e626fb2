//! What do watches of other keys cost a writer?
//!
//! Four buses, beside each of which another process has so many watches, all asleep, each of the
//! keys of an entity of its own; the writer sets the states of the entities between them, whose keys
//! begin alike and differ in a digit.
//!
//! **Back of the envelope.** A writer looks at the words that say who sleeps in the groups that its
//! key may concern, one for each length by which watches are grouped: a few lines that stay in its
//! cache beside a set of a few hundred nanoseconds. Of the watches that share such a group, here the
//! five nearest numbers, it compares the prefix: a line each, which nobody writes. Without groups a
//! thousand sleepers would be a thousand lines, and the set ten times as dear.

use std::hint::black_box;
use std::io::{self, Write, stdin, stdout};
use std::path::Path;
use std::time::Instant;

use membus::{Bus, Cursor};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::args::Plan;
use crate::child::Running;
use crate::engines::{self, Engine, Fail, Name};
use crate::figure::Figure;
use crate::machine;
use crate::note;
use crate::role::Role;
use crate::workload::value;

/// Watches asleep beside the writer.
const COUNTS: [usize; 4] = [0, 1, 10, 1000];
/// Entities whose state is set.
const WRITTEN: usize = 1000;
/// Sets of a round.
const SETS: usize = 500;
/// Bytes of a state.
const SIZE: usize = 64;

/// The keys of an entity: of one that is watched, or of its neighbour that is written.
fn prefix(entity: usize, is_watched: bool) -> String {
    format!("job/{:05}/", 2 * entity + usize::from(is_watched))
}

/// A set's time beside so many watches.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WatchesFigure {
    /// Watches asleep.
    watches: usize,
    /// Nanoseconds of a set.
    time: Figure,
}

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WatchesReport {
    /// Rounds whose median counts.
    rounds: usize,
    /// By the number of watches.
    figures: Vec<WatchesFigure>,
}

impl WatchesReport {
    /// A set's time beside the most watches over that beside none.
    pub(crate) fn ratio(&self) -> Option<f64> {
        Some(self.figures.last()?.time.median / self.figures.first()?.time.median)
    }

    /// How many those are.
    pub(crate) fn most(&self) -> usize {
        self.figures.last().map_or(0, |figure| figure.watches)
    }

    /// Sets the table.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let rounds = self.rounds;
        writeln!(
            out,
            "\nset of {SIZE} B beside sleeping watches of other keys in another process: \
             ns, median of {rounds} rounds"
        )?;
        writeln!(out, "(× without watches)\n")?;
        write!(out, "{:8}", "")?;
        for figure in &self.figures {
            let title = format!("{} watches", figure.watches);
            write!(out, "{title:>20}")?;
        }
        write!(out, "\n{:8}", Name::Membus)?;
        let without = self.figures.first().map_or(f64::NAN, |figure| figure.time.median);
        for figure in &self.figures {
            let ratio = format!("({:.2})", figure.time.median / without);
            write!(out, "{:>11.1} {ratio:>8}", figure.time.median)?;
        }
        writeln!(out)
    }
}

/// A bus, a writer of it, and a process whose watches of it sleep.
struct Case {
    owner: Box<dyn Engine>,
    writer: Bus,
    watcher: Running,
}

impl Case {
    fn open(directory: &Path, watches: usize) -> Result<Self, Fail> {
        let directory = directory.join(watches.to_string());
        let owner = engines::open(Name::Membus, &directory, 1, SIZE)?.ok_or("no membus")?;
        let watcher = Running::ready(&Role::Watcher { watches, directory: directory.clone() })?;
        let writer = engines::join_bus(&directory)?;
        let found = writer.info()?.watches;
        if found as usize != watches {
            return Err(format!("{found} watches instead of {watches}").into());
        }
        Ok(Self { owner, writer, watcher })
    }

    /// Nanoseconds of a set.
    fn round(&self, keys: &[String], content: &[u8]) -> Result<f64, Fail> {
        let start = Instant::now();
        for key in keys.iter().cycle().take(SETS) {
            self.writer.set_bytes(key, black_box(content))?;
        }
        Ok(start.elapsed().as_nanos() as f64 / SETS as f64)
    }

    fn close(self) -> Result<(), Fail> {
        self.watcher.finish()?;
        self.writer.close()?;
        self.owner.close()
    }
}

/// Takes the figures, bus by bus in each round.
pub(crate) fn measure(plan: &Plan, directory: &Path) -> Result<WatchesReport, Fail> {
    let cores = machine::cores()?;
    note("a set beside watches of other keys");
    let keys: Vec<String> = (0..WRITTEN).map(|at| prefix(at, false) + "state").collect();
    let content = value(SIZE);
    let cases = COUNTS.map(|watches| Case::open(directory, watches));
    let cases = cases.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut samples = vec![Vec::new(); cases.len()];
    // Only now, so that no keeper is kept on this core.
    machine::pin(cores.get(..1).unwrap_or_default())?;
    for round in 0..plan.short_rounds() {
        for turn in 0..cases.len() {
            let place = (turn + round) % cases.len();
            samples[place].push(cases[place].round(&keys, &content)?);
        }
    }
    machine::pin(&cores)?;
    cases.into_iter().try_for_each(Case::close)?;
    let figures = COUNTS.into_iter().zip(samples);
    let figure = |(watches, rounds)| WatchesFigure { watches, time: Figure::of(rounds) };
    Ok(WatchesReport { rounds: plan.short_rounds(), figures: figures.map(figure).collect() })
}

/// Is the process whose watches sleep, until its input ends.
pub(crate) fn sleep(watches: usize, directory: &Path) -> Result<(), Fail> {
    // Each watch has a socket, and a shell commonly allows a thousand files.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let bus = engines::join_bus(directory)?;
    let mut asleep = Vec::new();
    for entity in 0..watches {
        let mut watch = bus.watch_from(prefix(entity, true), Cursor::NOW)?;
        // One that has nothing to tell asks to be rung.
        while watch.try_recv()?.is_some() {}
        asleep.push(watch);
    }
    writeln!(stdout(), "ready")?;
    stdin().read_line(&mut String::new())?;
    drop(asleep);
    Ok(bus.close()?)
}
