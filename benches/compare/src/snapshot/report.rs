//! The figures of snapshots, as tables.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::setter::Sets;
use super::stores::Return;
use super::{VALUE_SIZE, Way};
use crate::figure::Figure;
use crate::workload::KEY_SIZE;

/// Nanoseconds of a set, and sets a second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Times {
    rate: Figure,
    p50: Figure,
    p99: Figure,
    p999: Figure,
    longest: Figure,
}

impl Times {
    /// Those of some rounds.
    pub(super) fn of(rounds: &[Sets]) -> Self {
        let [p50, p99, p999, longest] =
            [0, 1, 2, 3].map(|at: usize| Figure::of(rounds.iter().map(|r| r.times[at]).collect()));
        let rate = Figure::of(rounds.iter().map(|round| round.rate).collect());
        Self { rate, p50, p99, p999, longest }
    }
}

/// One way to save.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WayFigure {
    /// Which one.
    pub(super) way: Way,
    /// Bytes that it made.
    pub(super) bytes: u64,
    /// Seconds, while nobody writes.
    pub(super) quiet: Figure,
    /// Seconds that the disk takes for as many bytes.
    pub(super) raw: Figure,
    /// Seconds, beside a writer.
    pub(super) loaded: Figure,
    /// The writer's sets while nobody saves.
    pub(super) without: Times,
    /// The writer's sets meanwhile.
    pub(super) during: Times,
}

impl WayFigure {
    /// Bytes per second over those of the disk.
    fn of_raw(&self) -> f64 {
        self.raw.median / self.quiet.median
    }

    /// The writer's p99.9 meanwhile over that without.
    fn waits(&self) -> f64 {
        self.during.p999.median / self.without.p999.median
    }
}

/// Memory before a save under load, and what the save added at most.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MemoryFigure {
    /// Which way to save.
    pub(super) way: Way,
    /// Bytes before.
    pub(super) before: u64,
    /// Bytes more.
    pub(super) grown: u64,
}

impl MemoryFigure {
    fn growth(&self) -> f64 {
        self.grown as f64 / self.before as f64
    }
}

/// One way to come back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ReturnFigure {
    /// Which one.
    pub(super) by: Return,
    /// Seconds.
    pub(super) took: Figure,
}

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SnapshotReport {
    keys: u32,
    rounds: usize,
    /// Where the snapshots went.
    file_system: String,
    pub(super) ways: Vec<WayFigure>,
    pub(super) memory: Vec<MemoryFigure>,
    pub(super) returns: Vec<ReturnFigure>,
    /// What this machine lacks.
    pub(super) skipped: Vec<String>,
}

impl SnapshotReport {
    /// A report with nothing in it.
    pub(super) fn new(keys: u32, rounds: usize, file_system: String) -> Self {
        let (ways, memory, returns, skipped) = Default::default();
        Self { keys, rounds, file_system, ways, memory, returns, skipped }
    }

    fn image(&self) -> Option<&WayFigure> {
        self.ways.iter().find(|figure| figure.way == Way::Image)
    }

    /// An image's bytes per second over those of the disk.
    pub(crate) fn of_raw(&self) -> Option<f64> {
        self.image().map(WayFigure::of_raw)
    }

    /// A writer's p99.9 beside an image that is saved, over that without.
    pub(crate) fn waits(&self) -> Option<f64> {
        self.image().map(WayFigure::waits)
    }

    /// What an image that is saved under load adds to the memory, over what is there.
    pub(crate) fn growth(&self) -> Option<f64> {
        self.memory.iter().find(|figure| figure.way == Way::Image).map(MemoryFigure::growth)
    }

    /// Seconds of a way to come back, for a million entries: of fewer it says nothing.
    pub(crate) fn return_of_a_million(&self, by: Return) -> Option<f64> {
        let figure = self.returns.iter().find(|figure| figure.by == by)?;
        (self.keys == 1_000_000).then_some(figure.took.median)
    }

    /// Sets the tables.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let (keys, rounds, disk) = (self.keys, self.rounds, &self.file_system);
        writeln!(out, "\nsnapshots of {keys} × ({KEY_SIZE} + {VALUE_SIZE}) B onto {disk}")?;
        writeln!(out, "(median of {rounds} rounds; × the disk's raw write + fsync of as much)\n")?;
        writeln!(
            out,
            "{:20}{:>9}{:>9}{:>9}{:>9}{:>9}{:>18}",
            "", "MB", "s", "MB/s", "raw MB/s", "× raw", "s beside a writer"
        )?;
        for figure in &self.ways {
            let megabytes = figure.bytes as f64 / 1e6;
            writeln!(
                out,
                "{:20}{megabytes:>9.1}{:>9.3}{:>9.1}{:>9.1}{:>9.2}{:>18.3}",
                figure.way.title(),
                figure.quiet.median,
                megabytes / figure.quiet.median,
                megabytes / figure.raw.median,
                figure.of_raw(),
                figure.loaded.median
            )?;
        }
        self.print_waits(out)?;
        self.print_memory(out)?;
        writeln!(out, "\ncoming back, the file in the system's cache: s\n")?;
        for ReturnFigure { by, took } in &self.returns {
            writeln!(out, "{:38}{:>9.3}", by.title(), took.median)?;
        }
        self.skipped.iter().try_for_each(|what| writeln!(out, "{what}  not on this machine"))
    }

    fn print_waits(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "\none writer at full load, without a snapshot and during it: µs of a set\n"
        )?;
        writeln!(
            out,
            "{:30}{:>12}{:>12}{:>12}{:>10}{:>12}{:>10}",
            "", "p50", "p99", "p99.9", "× without", "longest", "sets/s"
        )?;
        for figure in &self.ways {
            let title = figure.way.title();
            for (word, times, ratio) in [
                ("without", &figure.without, None),
                ("during", &figure.during, Some(figure.waits())),
            ] {
                let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
                let [p50, p99, p999, longest] =
                    [&times.p50, &times.p99, &times.p999, &times.longest].map(|f| f.median / 1e3);
                writeln!(
                    out,
                    "{title:20}{word:10}{p50:>12.2}{p99:>12.2}{p999:>12.2}{ratio:>10}{longest:>12.1}{:>10.0}",
                    times.rate.median
                )?;
            }
        }
        Ok(())
    }

    fn print_memory(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "\nmemory during a snapshot beside that writer: MB before, MB more at most\n"
        )?;
        for figure in &self.memory {
            let (before, grown) = (figure.before as f64 / 1e6, figure.grown as f64 / 1e6);
            let (title, share) = (figure.way.title(), 100.0 * figure.growth());
            writeln!(out, "{title:20}{before:>9.1}{grown:>9.1}  ({share:.0} %)")?;
        }
        Ok(())
    }
}
