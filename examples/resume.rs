//! A job runner that is killed again and again, and does each job exactly once.
//!
//! Jobs are keys that others set. The runner follows them from the cursor that it kept, and commits
//! the result of a job together with the cursor behind it: both are there, or neither is. Whoever starts
//! it again need not know where it was.
//!
//!     cargo run --example resume

#![expect(clippy::print_stdout, reason = "it shows what it does")]

use membus::{Batch, Bus, ChangeKind, Cursor, Event, ReadBus};
use std::error::Error;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

const JOBS: u64 = 3000;
const PATIENCE: Duration = Duration::from_secs(60);

fn run(bus: &Bus) -> Result<(), Box<dyn Error>> {
    let kept = bus.get::<String>("runner/cursor")?;
    // A cursor of another life of the bus would be told as lagged: then everything is looked at anew.
    let begin = Cursor { incarnation: 0, revision: 0 };
    let cursor = kept.and_then(|text| text.parse().ok()).unwrap_or(begin);
    let mut watch = bus.watch_from("job/", cursor)?;
    loop {
        let Event::Change(change) = watch.recv()? else { continue };
        if change.kind != ChangeKind::Set {
            continue;
        }
        let Some(number) = change.decode::<u64>()? else { continue };
        let mut done = Batch::new();
        done.set(format!("result/{number}"), &(number * number))?;
        done.add("runner/done", 1);
        done.set("runner/cursor", &watch.cursor().to_string())?;
        bus.commit(&done)?;
    }
}

fn start(path: &Path) -> std::io::Result<Child> {
    let me = std::env::current_exe()?;
    Command::new(me).arg(path).spawn()
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(path) = std::env::args().nth(1) {
        return run(&Bus::options().label("runner").keeper(false).attach_at(path)?);
    }
    let directory = tempfile::tempdir_in("/dev/shm")?;
    let path = directory.path().join("jobs");
    let bus = Bus::options().state(directory.path()).open_at(&path)?;
    let mut runner = start(&path)?;
    let mut kills = 0;
    for number in 0..JOBS {
        bus.set(format!("job/{number}"), &number)?;
        if number % 500 == 499 {
            // Wherever it is: it may have committed this job, or not.
            runner.kill().and_then(|()| runner.wait())?;
            kills += 1;
            runner = start(&path)?;
        }
    }
    let all = |entry: Option<&membus::Entry>| {
        entry.and_then(membus::Entry::counter).is_some_and(|done| done >= JOBS as i64)
    };
    bus.wait_for("runner/done", PATIENCE, all)?;
    runner.kill().and_then(|()| runner.wait())?;
    assert_eq!(bus.get::<i64>("runner/done")?, Some(JOBS as i64), "a job was done twice, or not");
    for number in 0..JOBS {
        assert_eq!(bus.get::<u64>(format!("result/{number}"))?, Some(number * number));
    }
    println!("{JOBS} jobs, {kills} kills, each job done once");
    Ok(())
}
