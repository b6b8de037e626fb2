//! What does it cost to look again and again at a value of which one keeps hold?
//!
//! A cell of membus beside a held handle of iceoryx2's blackboard and, for scale, a lookup by key:
//! one thread, one value; at rest, and while a second thread changes another value, or this one,
//! every microsecond.
//!
//! **Back of the envelope.** The handle copies the value out of its shared memory, and looks at a
//! counter before and, by a compare-and-swap, after: 7 ns and more, growing with the value. The cell
//! has the value, and looks at five words in four lines, whatever its size: some 4 ns at rest. While
//! others write it waits once a commit for the line of the last clear, which each commit stores to;
//! the blackboard has no word that all writers share, and no clear.

use std::hint::{black_box, spin_loop};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use membus::{Bus, ReadBus};
use serde::{Deserialize, Serialize};

use crate::args::Plan;
use crate::engines::{self, Fail, Name};
use crate::figure::Figure;
use crate::iceoryx::{self, Sweep};
use crate::machine;
use crate::{note, own_directory};

/// How long one figure is taken.
const ROUND: Duration = Duration::from_millis(40);
/// Reads between two looks at the clock.
const READS: u32 = 1000;
/// Time from one change to the next.
const PAUSE: Duration = Duration::from_micros(1);
/// Who reads, in the order of the table.
const COLUMNS: [&str; 3] = ["membus, cell", "iceoryx2, handle", "membus, get_into"];

/// What a second thread does meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Meanwhile {
    Nothing,
    /// It changes another value.
    Another,
    /// It changes the value that is read.
    This,
}

impl Meanwhile {
    const ALL: [Self; 3] = [Self::Nothing, Self::Another, Self::This];

    fn word(self) -> &'static str {
        match self {
            Self::Nothing => "at rest",
            Self::Another => "another changes",
            Self::This => "it changes",
        }
    }

    /// The value that is changed, by its number; the first is the one that is read.
    fn changed(self) -> Option<usize> {
        match self {
            Self::Nothing => None,
            Self::Another => Some(1),
            Self::This => Some(0),
        }
    }
}

/// Nanoseconds of a read.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct CellFigure {
    value_size: usize,
    meanwhile: Meanwhile,
    /// As in [`COLUMNS`].
    times: [Figure; COLUMNS.len()],
}

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CellReport {
    /// Rounds whose median counts.
    rounds: usize,
    /// By size of the value and what happened meanwhile, small values at rest first.
    figures: Vec<CellFigure>,
}

impl CellReport {
    /// The cell's time over the handle's, of a small value at rest.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let [cell, handle, _] = &self.figures.first()?.times;
        Some(cell.median / handle.median)
    }

    /// Sets the table.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let rounds = self.rounds;
        writeln!(out, "\none value, read again and again: ns, median of {rounds} rounds")?;
        writeln!(out, "(× membus's cell)\n")?;
        write!(out, "{:24}", "")?;
        COLUMNS.iter().try_for_each(|column| write!(out, "{column:>20}"))?;
        writeln!(out)?;
        for CellFigure { value_size, meanwhile, times } in &self.figures {
            write!(out, "{:24}", format!("{value_size} B, {}", meanwhile.word()))?;
            for time in times {
                let ratio = format!("({:.2})", time.median / times[0].median);
                write!(out, "{:>11.1} {ratio:>8}", time.median)?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// Takes the figures.
pub(crate) fn measure(plan: &Plan) -> Result<CellReport, Fail> {
    let rounds = plan.more_rounds();
    note("one value, read again and again");
    let mut figures = Vec::new();
    for meanwhile in Meanwhile::ALL {
        figures.push(measure_one::<8>(rounds, meanwhile)?);
        figures.push(measure_one::<128>(rounds, meanwhile)?);
    }
    Ok(CellReport { rounds, figures })
}

/// The key of a value.
fn key(number: usize) -> [u8; 8] {
    number.to_le_bytes()
}

/// Takes the figures of values of so many words, of one after the other in each round.
fn measure_one<const WORDS: usize>(
    rounds: usize,
    meanwhile: Meanwhile,
) -> Result<CellFigure, Fail> {
    let (directory, value) = (own_directory()?, [7; WORDS]);
    let (place, bytes) = (directory.path(), value.map(u64::to_le_bytes).concat());
    let owner = engines::open(Name::Membus, place, 2, bytes.len())?.ok_or("no membus")?;
    let (bus, writer): (Bus, Bus) = (engines::join_bus(place)?, engines::join_bus(place)?);
    [0, 1].into_iter().try_for_each(|number| bus.set_bytes(key(number), &bytes).map(drop))?;

    let _sweep = Sweep(place.to_owned());
    let node = iceoryx::node(place)?;
    let board = node.service_builder(&"cell".try_into()?).blackboard_creator::<u64>();
    let board = board.add::<[u64; WORDS]>(0, value).add::<[u64; WORDS]>(1, value).create()?;
    let handle = board.reader_builder().create()?.entry::<[u64; WORDS]>(&0)?;
    let entries = board.writer_builder().create()?;
    let entries = [entries.entry::<[u64; WORDS]>(&0)?, entries.entry::<[u64; WORDS]>(&1)?];

    let set = |number| Ok(writer.set_bytes(key(number), &bytes).map(drop)?);
    let update = |number: usize| {
        entries[number].update_with_copy(black_box(value));
        Ok(())
    };
    let (mut cell, mut buffer) = (bus.cell::<[u8]>(key(0))?, Vec::new());
    let mut samples: [Vec<f64>; COLUMNS.len()] = Default::default();
    for _ in 0..rounds {
        samples[0].push(beside(meanwhile, &set, || {
            black_box(cell.get()?);
            Ok(())
        })?);
        samples[1].push(beside(meanwhile, &update, || {
            black_box(&*handle.get());
            Ok(())
        })?);
        samples[2].push(beside(meanwhile, &set, || {
            black_box(bus.get_into(key(0), &mut buffer)?);
            Ok(())
        })?);
    }
    drop(cell);
    [bus, writer].into_iter().try_for_each(Bus::close)?;
    owner.close()?;
    Ok(CellFigure { value_size: 8 * WORDS, meanwhile, times: samples.map(Figure::of) })
}

/// Nanoseconds of a read on the first core, while a second thread on the last one makes changes.
fn beside(
    meanwhile: Meanwhile,
    change: &(dyn Fn(usize) -> Result<(), Fail> + Sync),
    mut read: impl FnMut() -> Result<(), Fail>,
) -> Result<f64, Fail> {
    let cores = machine::cores()?;
    let is_over = AtomicBool::new(false);
    let took = thread::scope(|scope| {
        let changes = meanwhile.changed().map(|number| {
            let (last, is_over) = (cores.last(), &is_over);
            scope.spawn(move || {
                machine::pin(last.map_or(&[], std::slice::from_ref))?;
                while !is_over.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    change(number)?;
                    while begun.elapsed() < PAUSE {
                        spin_loop();
                    }
                }
                Ok::<_, Fail>(())
            })
        });
        machine::pin(cores.get(..1).unwrap_or_default())?;
        let took = time(&mut read);
        is_over.store(true, Ordering::Relaxed);
        if let Some(changes) = changes {
            changes.join().map_err(|_| "the thread that makes changes panicked")??;
        }
        took
    });
    machine::pin(&cores)?;
    took
}

fn time(read: &mut impl FnMut() -> Result<(), Fail>) -> Result<f64, Fail> {
    let (begun, mut count) = (Instant::now(), 0.0);
    while begun.elapsed() < ROUND {
        (0..READS).try_for_each(|_| read())?;
        count += f64::from(READS);
    }
    Ok(begun.elapsed().as_nanos() as f64 / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plant: what is changed is the other value.
    #[test]
    fn the_table_has_the_small_value_at_rest_first() {
        let figure = |value_size, ns| CellFigure {
            value_size,
            meanwhile: Meanwhile::Nothing,
            times: [ns, 2.0 * ns, 9.0 * ns].map(|ns| Figure::of(vec![ns])),
        };
        let report = CellReport { rounds: 1, figures: vec![figure(64, 4.0), figure(1024, 8.0)] };
        assert_eq!(report.ratio(), Some(0.5));
        let mut out = Vec::new();
        report.print(&mut out).unwrap();
        let table = String::from_utf8(out).unwrap();
        assert!(table.contains("64 B, at rest"), "{table}");
        assert!(table.lines().last().unwrap().ends_with("(9.00)"), "{table}");
        assert_eq!(Meanwhile::This.changed(), Some(0), "the one that is read");
    }
}
