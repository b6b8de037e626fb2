//! The figures of one thread: all engines loaded, then round by round and engine by engine.
//!
//! A round gives every engine the same sequence before the next round begins, in an order that
//! turns, so that what the machine does meanwhile falls on all of them alike.

use std::path::Path;

use crate::args::Plan;
use crate::engines::{self, Engine, Fail, Memory};
use crate::figure::{Column, Figure, Pass};
use crate::machine;
use crate::note;
use crate::report::ValueReport;
use crate::workload::{Data, Key, value};

/// The keys of a pass, in their order.
fn keys_of(pass: Pass, data: &Data, length: usize, seed: u64) -> Vec<Key> {
    match pass {
        Pass::GetUniform | Pass::SetUniform => data.uniform(length, seed),
        Pass::GetZipf | Pass::SetZipf => data.zipf(length, seed),
        Pass::GetMiss => data.missing(length, seed),
        Pass::Add => vec![*b"a counter's name"; length],
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
            let keys = keys_of(*pass, data, plan.keys as usize, round as u64 + 1);
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
