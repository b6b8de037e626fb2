//! The figures of two processes, which are this binary again, each on a core of its own.
//!
//! Beside the shared store stand two processes that share nothing, each with a store of its own,
//! and one process alone: what the cores themselves give is known from the same run.
//!
//! A worker says `ready` when it has joined and made its sequence, waits for a line, runs for its
//! time and answers with the operations done and the nanoseconds they took.

use std::io::{Write, stdin, stdout};
use std::path::{Path, PathBuf};

use crate::args::Plan;
use crate::child::Running;
use crate::engines::{self, Engine, Fail, Name};
use crate::figure::{Figure, MIXES, Setup, TwoFigure, TwoReport};
use crate::machine;
use crate::note;
use crate::role::{Role, Worker};
use crate::workload::{Data, value};

/// Keys of one worker's sequence.
const SEQUENCE_LENGTH: usize = 1_000_000;
/// Under the run's directory, the store that only one of two processes uses.
const APART: &str = "apart";

/// Takes the figures of two processes for the stores among `open` that processes can share.
pub(crate) fn two_processes(
    plan: &Plan,
    data: &Data,
    open: &[Name],
    value_size: usize,
    directory: &Path,
) -> Result<TwoReport, Fail> {
    let cores = machine::cores()?;
    if cores.len() < 2 {
        note("one core only: the figures of two processes are left out");
        return Ok(TwoReport::default());
    }
    let mut cases = Vec::new();
    let mut apart: Vec<Box<dyn Engine>> = Vec::new();
    for name in [Name::Membus, Name::Lmdb].into_iter().filter(|name| open.contains(name)) {
        note(&format!("{name}: loading a second store"));
        let second = engines::open(name, &directory.join(APART), plan.keys, value_size)?;
        let mut second = second.ok_or("a store vanished")?;
        second.load(&data.all(), &value(value_size))?;
        second.settle()?;
        apart.push(second);
        cases.extend([Setup::Alone, Setup::Apart, Setup::Shared].map(|setup| (name, setup)));
    }
    let mut figures = Vec::new();
    for reads in MIXES {
        note(&format!("{value_size} B, {reads} % reads, two processes"));
        let mut samples: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
        for _ in 0..plan.rounds {
            for ((name, setup), rates) in cases.iter().zip(&mut samples) {
                let worker = |place: usize| {
                    Role::Worker(Worker {
                        engine: *name,
                        directory: store(directory, *setup, place),
                        keys: plan.keys,
                        value_size,
                        reads,
                        core: cores[place],
                        time: plan.two_time,
                    })
                };
                let count = if *setup == Setup::Alone { 1 } else { 2 };
                rates.push(rate(&(0..count).map(worker).collect::<Vec<_>>())?);
            }
        }
        for ((engine, setup), rates) in cases.iter().copied().zip(samples) {
            figures.push(TwoFigure { engine, setup, reads, rate: Figure::of(rates) });
        }
    }
    apart.into_iter().try_for_each(<dyn Engine>::close)?;
    Ok(TwoReport { figures })
}

/// The directory of the store that the process at `place` joins.
fn store(directory: &Path, setup: Setup, place: usize) -> PathBuf {
    let is_second = setup == Setup::Apart && place == 1;
    if is_second { directory.join(APART) } else { directory.to_owned() }
}

/// Runs the workers together; the sum of their operations per second.
fn rate(workers: &[Role]) -> Result<f64, Fail> {
    let mut running = workers.iter().map(Running::start).collect::<Result<Vec<_>, _>>()?;
    for worker in &mut running {
        worker.answer()?;
    }
    running.iter_mut().try_for_each(|worker| worker.tell("go"))?;
    let mut sum = 0.0;
    for mut worker in running {
        let line = worker.answer()?;
        let (done, took_ns) = line.trim().split_once(' ').ok_or("a worker's odd answer")?;
        sum += done.parse::<f64>()? / took_ns.parse::<f64>()? * 1e9;
        worker.finish()?;
    }
    Ok(sum)
}

/// Is one worker.
pub(crate) fn work(worker: &Worker) -> Result<(), Fail> {
    let steps =
        Data::new(worker.keys).mixed(SEQUENCE_LENGTH, worker.reads, worker.core as u64 + 11);
    let content = value(worker.value_size);
    let mut engine =
        engines::join(worker.engine, &worker.directory, worker.keys, worker.value_size)?;
    machine::pin(&[worker.core])?;
    writeln!(stdout(), "ready")?;
    stdin().read_line(&mut String::new())?;
    let (done, took) = engine.run_steps(&steps, &content, worker.time)?;
    writeln!(stdout(), "{done} {}", took.as_nanos())?;
    Ok(())
}
