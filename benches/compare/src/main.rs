//! What does sharing state between processes cost, beside keeping it in one?
//!
//! membus beside `dashmap`, `RwLock<HashMap>`, LMDB and Redis: 1,000,000 keys of 16 bytes, values of
//! 64 B and 1 KiB, get, get of an absent key, set and counter add, on one pinned thread, with evenly
//! drawn and zipf(0.99) keys; then two processes, reading and mixed; then memory per entry. Then what
//! needs no large data: looking at one value again and again (`cell`), waking another process
//! (`wake`), a set beside watches of other keys (`watches`), and what a killed process leaves to the
//! others (`owners`). Then saving a store onto a disk, and bringing it back (`snapshot`). Each has its own question
//! and its own envelope at its head.
//!
//! **Back of the envelope.** The data (150 MB and more) is far beyond the second-level cache, so a
//! get costs the lines it misses and hardly anything else. dashmap: shard and group of the table,
//! the bucket (two vectors), the key's allocation, the value's: four lines in a chain, each known
//! only from the one before. membus: the slot's group and the entry, which holds key and value side
//! by side: two or three lines, so 0.6–0.8 of dashmap's time at 64 B. At 1 KiB the copy is as dear
//! as the search, and the stores come together. A miss needs one line in either, and dashmap's tags
//! decide it in a few nanoseconds; membus does somewhat more. A set adds to membus a lock, a block
//! and a log record: three more lines, written; dashmap allocates and frees twice: about equal.
//! LMDB walks a tree of four levels in a transaction (4 × membus); a set copies a path of pages
//! (6 ×). Redis is two system calls and two wake-ups: 10 µs and more, whatever is stored.
//! Two processes that only read share nothing they write; they should run as two that never meet.
//!
//! Every round gives each store the same sequence in turn; medians count. Each size of values is
//! measured by a process of its own, so that no map inherits another's heap.
//!
//! `cargo run --profile bench -p membus-compare -- --help`

mod args;
mod cell;
mod child;
mod engines;
mod figure;
mod goals;
mod iceoryx;
mod machine;
mod measure;
mod owners;
mod page;
mod report;
mod role;
mod snapshot;
mod two;
mod wake;
mod watches;
mod workload;

use std::env;
use std::io::{Write, stderr, stdout};
use std::process::{Command, ExitCode, Stdio};

use tempfile::TempDir;

use crate::args::{Asked, Part, Plan};
use crate::engines::{Engine, Fail, Name};
use crate::machine::Machine;
use crate::report::{Report, ValueReport};
use crate::role::Role;
use crate::workload::Data;

/// Where all stores lie: in memory, as membus does by default.
const MEMORY_DIRECTORY: &str = "/dev/shm";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    match run(&words) {
        Ok(code) => code,
        Err(e) => {
            note(&e.to_string());
            ExitCode::from(2)
        }
    }
}

/// Says on standard error what is going on.
fn note(text: &str) {
    writeln!(stderr(), "compare: {text}").ok();
}

fn run(words: &[String]) -> Result<ExitCode, Fail> {
    let plan = match args::parse(words)? {
        Asked::Help => {
            write!(stdout(), "{}", args::HELP)?;
            return Ok(ExitCode::SUCCESS);
        }
        Asked::Part(role) => {
            play(&role)?;
            return Ok(ExitCode::SUCCESS);
        }
        Asked::Run(plan) => plan,
    };
    let mut values = Vec::new();
    match plan.value_sizes[..] {
        _ if plan.passes.is_empty() && !plan.has(Part::Two) => {}
        [value_size] => values.push(measure_size(&plan, value_size)?),
        _ => {
            for value_size in &plan.value_sizes {
                values.extend(measure_elsewhere(&plan, *value_size)?);
            }
        }
    }
    let mut report = Report::new(Machine::here()?, plan.rounds, values);
    measure_parts(&plan, &mut report)?;
    if plan.json {
        writeln!(stdout(), "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        report.print(&mut stdout().lock())?;
        goals::print(&report, &mut stdout().lock())?;
    }
    let is_failure = plan.enforce && !goals::due_limits_hold(&report);
    Ok(if is_failure { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Is one of the processes of a run.
fn play(role: &Role) -> Result<(), Fail> {
    match role {
        Role::Worker(worker) => two::work(worker),
        Role::End { means, side, directory, core } => wake::work(*means, *side, directory, *core),
        Role::Owner { held, directory } => owners::hold(*held, directory),
        Role::Setter { kind, keys, directory } => snapshot::set_keys(*kind, *keys, directory),
        Role::Watcher { watches, directory } => watches::sleep(*watches, directory),
    }
}

/// A directory of the run's own, in memory.
fn own_directory() -> Result<TempDir, Fail> {
    Ok(tempfile::Builder::new().prefix("membus-compare-").tempdir_in(MEMORY_DIRECTORY)?)
}

/// Takes the figures that need no large data.
fn measure_parts(plan: &Plan, report: &mut Report) -> Result<(), Fail> {
    if plan.has(Part::Cell) {
        report.cell = Some(cell::measure(plan)?);
    }
    if plan.has(Part::Wake) {
        let directory = own_directory()?;
        report.wake = wake::measure(plan, directory.path())?;
        directory.close()?;
    }
    if plan.has(Part::Watches) {
        let directory = own_directory()?;
        report.watches = Some(watches::measure(plan, directory.path())?);
        directory.close()?;
    }
    if plan.has(Part::Owners) {
        let directory = own_directory()?;
        report.owners = Some(owners::measure(plan, directory.path())?);
        directory.close()?;
    }
    if plan.has(Part::Snapshot) {
        let directory = own_directory()?;
        report.snapshot = Some(snapshot::measure(plan, directory.path())?);
        directory.close()?;
    }
    Ok(())
}

/// Takes the figures of one size of values in this process.
fn measure_size(plan: &Plan, value_size: usize) -> Result<ValueReport, Fail> {
    let directory = own_directory()?;
    let data = Data::new(plan.keys);
    let (mut open, mut report) = measure::one_thread(plan, &data, value_size, directory.path())?;
    measure::verify(&mut open, &data, value_size)?;
    if plan.has(Part::Two) {
        let names: Vec<Name> = open.iter().map(|engine| engine.name()).collect();
        report.two = two::two_processes(plan, &data, &names, value_size, directory.path())?;
    }
    open.into_iter().try_for_each(<dyn Engine>::close)?;
    directory.close()?;
    Ok(report)
}

/// Takes them in a process of their own. Two processes are measured with the first size alone.
fn measure_elsewhere(plan: &Plan, value_size: usize) -> Result<Vec<ValueReport>, Fail> {
    let with_two = plan.has(Part::Two) && plan.value_sizes.first() == Some(&value_size);
    if plan.passes.is_empty() && !with_two {
        return Ok(Vec::new());
    }
    let output = Command::new(env::current_exe()?)
        .args(plan.to_words(value_size, with_two))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the run for {value_size} B failed ({})", output.status).into());
    }
    let report: Report = serde_json::from_slice(&output.stdout)?;
    Ok(report.values)
}
