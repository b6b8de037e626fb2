//! The figures of one thread: all engines loaded, then round by round and engine by engine.
//!
//! A round gives every engine the same sequence before the next round begins, in an order that
//! turns, so that what the machine does meanwhile falls on all of them alike.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::args::Plan;
use crate::engines::{self, Engine, Fail, Memory};
use crate::machine;
use crate::note;
use crate::report::{Column, Figure, ValueReport};
use crate::workload::{Data, Key, value};

/// One kind of pass over an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Pass {
    /// Gets of stored keys, evenly.
    GetUniform,
    /// Gets of stored keys, few of them often.
    GetZipf,
    /// Gets of absent keys.
    GetMiss,
    /// Sets of stored keys, evenly.
    SetUniform,
    /// Sets of stored keys, few of them often.
    SetZipf,
    /// Additions to one counter.
    Add,
}

impl Pass {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 6] = [
        Self::GetUniform,
        Self::GetZipf,
        Self::GetMiss,
        Self::SetUniform,
        Self::SetZipf,
        Self::Add,
    ];

    /// The word for it, also in `--only`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::GetUniform => "get-uniform",
            Self::GetZipf => "get-zipf",
            Self::GetMiss => "get-miss",
            Self::SetUniform => "set-uniform",
            Self::SetZipf => "set-zipf",
            Self::Add => "add",
        }
    }

    /// The pass that `word` names.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|pass| pass.word() == word)
    }

    fn keys(self, data: &Data, length: usize, seed: u64) -> Vec<Key> {
        match self {
            Self::GetUniform | Self::SetUniform => data.uniform(length, seed),
            Self::GetZipf | Self::SetZipf => data.zipf(length, seed),
            Self::GetMiss => data.missing(length, seed),
            Self::Add => vec![*b"a counter's name"; length],
        }
    }
}

/// Stores that are open and loaded.
type Open = Vec<Box<dyn Engine>>;

/// Loads every engine with `value_size` values and takes its figures; the engines stay open.
pub(crate) fn one_thread(
    plan: &Plan,
    data: &Data,
    value_size: usize,
    directory: &Path,
) -> Result<(Open, ValueReport), Fail> {
    let cores = machine::cores()?;
    let mut report = ValueReport::new(plan.keys, value_size);
    let mut open = load_all(plan, data, directory, &mut report)?;
    // Only now, so that neither the server nor a keeper thread is kept on the measured core.
    machine::pin(cores.get(..1).unwrap_or_default())?;
    let measured = measure_all(plan, data, &mut open, &mut report);
    machine::pin(&cores)?;
    measured?;
    Ok((open, report))
}

fn load_all(
    plan: &Plan,
    data: &Data,
    directory: &Path,
    report: &mut ValueReport,
) -> Result<Open, Fail> {
    let (keys, content) = (data.all(), value(report.value_size));
    let mut open = Open::new();
    for name in &plan.engines {
        let Some(mut engine) = engines::open(*name, directory, plan.keys, report.value_size)?
        else {
            note(&format!("{name} is not on this machine: its column is left out"));
            report.skipped.push(*name);
            continue;
        };
        note(&format!("{name}: loading {} keys of {} B", plan.keys, report.value_size));
        let before = engine.memory()?;
        engine.load(&keys, &content)?;
        engine.settle()?;
        let after = engine.memory()?;
        let memory = Memory {
            used: after.used.saturating_sub(before.used),
            held: after.held.saturating_sub(before.held),
        };
        report.columns.push(Column::new(*name, memory));
        open.push(engine);
    }
    Ok(open)
}

fn measure_all(
    plan: &Plan,
    data: &Data,
    open: &mut Open,
    report: &mut ValueReport,
) -> Result<(), Fail> {
    let content = value(report.value_size);
    for pass in &plan.passes {
        note(&format!("{} B, {}", report.value_size, pass.word()));
        let mut samples: Vec<Vec<f64>> = vec![Vec::new(); open.len()];
        for round in 0..plan.rounds {
            let keys = pass.keys(data, plan.keys as usize, round as u64 + 1);
            for turn in 0..open.len() {
                let place = (turn + round) % open.len();
                samples[place].push(nanoseconds(&mut *open[place], *pass, &keys, &content)?);
            }
        }
        for (column, rounds) in report.columns.iter_mut().zip(samples) {
            column.figures.insert(*pass, Figure::of(rounds));
        }
    }
    Ok(())
}

/// One pass; nanoseconds per operation.
fn nanoseconds(
    engine: &mut dyn Engine,
    pass: Pass,
    keys: &[Key],
    content: &[u8],
) -> Result<f64, Fail> {
    let keys = &keys[..(keys.len() / engine.name().slowness()).max(1)];
    let took = match pass {
        Pass::GetUniform | Pass::GetZipf | Pass::GetMiss => {
            let (took, hits) = engine.run_gets(keys)?;
            let expected = if pass == Pass::GetMiss { 0 } else { keys.len() };
            if hits != expected {
                let name = engine.name();
                return Err(format!("{name} found {hits} keys instead of {expected}").into());
            }
            took
        }
        Pass::SetUniform | Pass::SetZipf => engine.run_sets(keys, content)?,
        Pass::Add => engine.run_adds(&keys[0], keys.len())?,
    };
    Ok(took.as_nanos() as f64 / keys.len() as f64)
}

/// Looks at every key once: each has a value of the size it was given.
pub(crate) fn verify(open: &mut Open, data: &Data, value_size: usize) -> Result<(), Fail> {
    let content = value(value_size);
    for engine in open {
        let mut buffer = Vec::new();
        for key in data.all().iter().step_by(engine.name().slowness()) {
            if !engine.get(key, &mut buffer)? || buffer != content {
                let key = String::from_utf8_lossy(key).into_owned();
                return Err(format!("{} lost or bent the value of {key}", engine.name()).into());
            }
        }
    }
    Ok(())
}
