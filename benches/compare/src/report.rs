//! What a run found: kept for JSON, set as tables, held against the goals.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::cell::CellReport;
use crate::engines::Name;
use crate::figure::{Column, MIXES, Pass, Setup, TwoReport};
use crate::machine::Machine;
use crate::owners::OwnersReport;
use crate::snapshot::SnapshotReport;
use crate::wake::WakeReport;
use crate::watches::WatchesReport;
use crate::workload::KEY_SIZE;

/// All figures for one size of values.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ValueReport {
    /// Keys stored.
    pub(crate) keys: u32,
    /// Size of their values in bytes.
    pub(crate) value_size: usize,
    /// Each store's.
    pub(crate) columns: Vec<Column>,
    /// Stores that this machine lacks.
    pub(crate) skipped: Vec<Name>,
    /// Of two processes.
    pub(crate) two: TwoReport,
}

impl ValueReport {
    /// A report with nothing in it.
    pub(crate) fn new(keys: u32, value_size: usize) -> Self {
        let (columns, skipped, two) = Default::default();
        Self { keys, value_size, columns, skipped, two }
    }

    fn column(&self, engine: Name) -> Option<&Column> {
        self.columns.iter().find(|column| column.engine == engine)
    }

    /// Nanoseconds per operation, when measured.
    pub(crate) fn time(&self, engine: Name, pass: Pass) -> Option<f64> {
        self.column(engine)?.figures.get(&pass).map(|figure| figure.median)
    }

    /// Bytes in use per entry beyond its key and value.
    pub(crate) fn overhead(&self, engine: Name) -> Option<f64> {
        let used = self.column(engine)?.memory.used as f64 / f64::from(self.keys);
        Some(used - (KEY_SIZE + self.value_size) as f64)
    }
}

/// The whole run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    /// What it ran on.
    pub(crate) machine: Machine,
    /// Rounds whose median counts.
    pub(crate) rounds: usize,
    /// The figures, by size of the values.
    pub(crate) values: Vec<ValueReport>,
    /// Of waking another process.
    pub(crate) wake: Option<WakeReport>,
    /// Of what a killed process leaves.
    pub(crate) owners: Option<OwnersReport>,
    /// Of one value that is read again and again.
    pub(crate) cell: Option<CellReport>,
    /// Of a set beside watches of other keys.
    pub(crate) watches: Option<WatchesReport>,
    /// Of saving and coming back.
    pub(crate) snapshot: Option<SnapshotReport>,
}

impl Report {
    /// A report with the figures of one thread and of two processes.
    pub(crate) fn new(machine: Machine, rounds: usize, values: Vec<ValueReport>) -> Self {
        let (cell, wake, owners, watches, snapshot) = Default::default();
        Self { machine, rounds, values, cell, wake, owners, watches, snapshot }
    }

    /// Sets the report as text.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.machine.line())?;
        for value in &self.values {
            print_times(value, self.rounds, out)?;
            print_memory(value, out)?;
            print_two(value, out)?;
        }
        self.wake.iter().try_for_each(|wake| wake.print(out))?;
        self.cell.iter().try_for_each(|cell| cell.print(out))?;
        self.watches.iter().try_for_each(|watches| watches.print(out))?;
        self.owners.iter().try_for_each(|owners| owners.print(out))?;
        self.snapshot.iter().try_for_each(|snapshot| snapshot.print(out))
    }
}

/// Nanoseconds per operation, and how many times membus's each other store takes.
fn print_times(value: &ValueReport, rounds: usize, out: &mut impl Write) -> io::Result<()> {
    let passes: Vec<Pass> = Pass::ALL
        .into_iter()
        .filter(|pass| value.columns.iter().any(|column| column.figures.contains_key(pass)))
        .collect();
    if passes.is_empty() {
        return Ok(());
    }
    let (keys, size) = (value.keys, value.value_size);
    writeln!(out, "\n{keys} keys of {KEY_SIZE} B, values of {size} B")?;
    writeln!(out, "ns per operation, one thread, median of {rounds} rounds (× membus's time)\n")?;
    write!(out, "{:8}", "")?;
    for pass in &passes {
        write!(out, "{:>18}", pass.word())?;
    }
    writeln!(out)?;
    for column in &value.columns {
        write!(out, "{:8}", column.engine)?;
        for pass in &passes {
            let Some(time) = value.time(column.engine, *pass) else { continue };
            let own = value.time(Name::Membus, *pass).filter(|_| column.engine != Name::Membus);
            let ratio = own.map_or_else(String::new, |own| format!("({:.2})", time / own));
            write!(out, "{time:>9.1} {ratio:>8}")?;
        }
        writeln!(out)?;
    }
    for name in &value.skipped {
        writeln!(out, "{name:8}  not on this machine")?;
    }
    Ok(())
}

fn print_memory(value: &ValueReport, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nmemory, {} B values: bytes per entry", value.value_size)?;
    writeln!(out, "{:8}{:>9}{:>24}{:>16}", "", "in use", "beyond key and value", "held")?;
    for column in &value.columns {
        let per_entry = |bytes: u64| bytes as f64 / f64::from(value.keys);
        let beyond = value.overhead(column.engine).unwrap_or(f64::NAN);
        let (used, held) = (per_entry(column.memory.used), per_entry(column.memory.held));
        writeln!(out, "{:8}{used:>9.1}{beyond:>24.1}{held:>16.1}", column.engine)?;
    }
    Ok(())
}

fn print_two(value: &ValueReport, out: &mut impl Write) -> io::Result<()> {
    if value.two.figures.is_empty() {
        return Ok(());
    }
    let size = value.value_size;
    writeln!(out, "\ntwo processes, zipf keys, {size} B values: million operations per second")?;
    write!(out, "{:30}", "")?;
    for reads in MIXES {
        write!(out, "{:>12}", format!("{reads}/{}", 100 - reads))?;
    }
    writeln!(out)?;
    for engine in Name::ALL {
        for setup in [Setup::Alone, Setup::Apart, Setup::Shared] {
            let rates = MIXES.map(|reads| value.two.rate(engine, setup, reads));
            if rates.iter().all(Option::is_none) {
                continue;
            }
            write!(out, "{engine:8} {:21}", setup.word())?;
            for rate in rates {
                write!(out, "{:>12.3}", rate.unwrap_or(f64::NAN) / 1e6)?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::Memory;
    use crate::figure::Figure;

    #[test]
    fn a_report_survives_json() {
        let mut value = ValueReport::new(10, 64);
        let mut column = Column::new(Name::Membus, Memory { used: 1520, held: 4096 });
        column.figures.insert(Pass::GetZipf, Figure::of(vec![1.5, 2.5]));
        value.columns.push(column);
        let machine = Machine::default();
        let report = Report::new(machine, 2, vec![value]);
        let text = serde_json::to_string(&report).unwrap();
        let again: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(again.values[0].time(Name::Membus, Pass::GetZipf), Some(2.0));
        assert_eq!(again.values[0].overhead(Name::Membus), Some(72.0));
    }
}
