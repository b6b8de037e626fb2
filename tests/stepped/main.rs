//! Every instruction: a process is stepped through an operation, one instruction at a time, and what
//! others would find if it were killed there is recovered.
//!
//! The crash hook of the unit tests lets a process die between two stores *that the source names*.
//! This is the proof beside it, of what the processor is given: an optimizing compiler may reorder
//! stores, split or merge them, and a store may have been written past the hook. A parent traces the
//! victim (`man 2 ptrace`), compares the region with the last copy after each instruction, and takes a
//! copy whenever it differs. Each distinct copy becomes a bus of which nobody lives, and must be whole:
//! `recover`.
//!
//! Creating, rebuilding from a snapshot and destroying are stepped by `files`: there a state is all files of the bus
//! and of what outlives it, and whoever opens, creates or destroys next must find all, or nothing.
//!
//! Each operation on a bus that is there is stepped twice: the victim's slot goes to who comes next, which mends
//! it before it uses it, and another one, whose owner is buried.
//!
//! | variable | what | default |
//! | --- | --- | --- |
//! | `MEMBUS_STEPPED` | `all`, or the name of one: which operations besides | |
//!
//! `cargo test --release --test stepped` steps through what is shipped.
//!
//! Plants, each seen to fail here: a commit that is ready before its record is written (`replace`), a
//! clear that is seen before its event (`clear`), a new deadline told without its value (`give time to
//! live`), a watch slot taken before it counts as used (`watch`), records behind an intent that a death
//! left far ahead (`big batch`). Of files: settings written under a name that only a process with the same number
//! overwrites (`create`), a region built under its own name (`create`, `rebuild`), a `region.new` that nobody replaces
//! (`create`), a bus forgotten after its files are gone, or that counts as there although it says that it is destroyed
//! (`destroy`).

#![cfg(target_arch = "x86_64")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that can not go on has failed; what was stepped is told"
)]

mod files;
mod operations;
mod recover;
mod stage;
mod trace;

use operations::{OPERATIONS, Operation};
use recover::{Found, Recovery};
use stage::{Role, Workshop};
use std::collections::HashSet;
use std::sync::mpsc::sync_channel;
use trace::{RegionEye, Traced};

/// Copies that wait to be recovered.
const WAITING_MAX: usize = 64;

/// The victims of the tests: this binary, run anew. Does nothing unless it is told a part.
#[test]
fn victim() {
    stage::play();
}

/// Steps through one operation in both roles, and recovers every state on the way.
fn step_through(name: &str) {
    let operation = Operation::named(name);
    for role in [Role::Inherited, Role::Buried] {
        let shop = Workshop::new(operation);
        let eye = |_| RegionEye::new(stage::bus_at(shop.place.path()));
        let mut victim = match Traced::start(shop.victim(operation, role), eye) {
            Ok(victim) => victim,
            Err(refused) => return println!("skipped: no process may be traced here: {refused}"),
        };
        let begun = std::time::Instant::now();
        let (sender, copies) = sync_channel::<Found>(WAITING_MAX);
        let recovery = Recovery::new(operation, &shop, victim.look());
        let (steps, states) = std::thread::scope(|scope| {
            scope.spawn(|| {
                for found in copies {
                    recovery.whole(&found);
                }
            });
            let mut seen = HashSet::new();
            let steps = victim.step_to_the_end(|step, look| {
                // Nobody takes it: a recovery has failed, and says so when it is joined.
                if seen.insert(look.hash()) && sender.send(Found { step, look }).is_err() {
                    return false;
                }
                true
            });
            drop(sender);
            (steps, seen.len())
        });
        recovery.end(victim.look());
        let took = begun.elapsed().as_secs_f64();
        println!("{name}, {role:?}: {steps} steps, {states} states recovered, {took:.1} s");
        println!("earned {steps} single steps");
        println!("earned {states} states between instructions");
        assert!(steps > 100 && states > 1, "{name}: the operation was stepped through");
    }
}

#[test]
fn replacing_a_value_survives_every_instruction() {
    step_through("replace");
}

#[test]
fn a_new_key_that_grows_the_file_survives_every_instruction() {
    step_through("grow");
}

#[test]
fn a_batch_survives_every_instruction() {
    step_through("batch");
}

#[test]
fn creating_survives_every_instruction() {
    files::step_through("create");
}

#[test]
fn rebuilding_survives_every_instruction() {
    files::step_through("rebuild");
}

#[test]
fn destroying_survives_every_instruction() {
    files::step_through("destroy");
}

#[test]
fn every_operation_survives_every_instruction() {
    let Ok(asked) = std::env::var("MEMBUS_STEPPED") else {
        return println!("skipped: MEMBUS_STEPPED=all steps through every operation");
    };
    let is_asked = |operation: &&Operation| asked == "all" || asked == operation.name;
    let asked: Vec<_> = OPERATIONS.iter().filter(is_asked).collect();
    assert!(!asked.is_empty(), "an operation of that name");
    for operation in asked {
        step_through(operation.name);
    }
}
