//! A build farm: a queue of jobs, workers that die, and results that each come once.
//!
//! Workers are processes that take jobs from one queue. What a worker has built becomes visible by the
//! commit that acknowledges its job: both are there, or neither. Half of the workers are killed; what
//! they had is handed on to the others.
//!
//!     cargo run --example build_farm

#![expect(clippy::print_stdout, reason = "it shows what it does")]

use membus::{Bus, Entry, Notice, ReadBus, Waited};
use std::error::Error;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

const JOBS: u64 = 400;
const WORKERS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// What building is here: some work whose result can be checked.
fn build(source: u64) -> u64 {
    (0..20_000).fold(source, |hash, round| (hash ^ round).wrapping_mul(0x0000_0100_0000_01b3))
}

fn work(bus: &Bus) -> Result<(), Box<dyn Error>> {
    let mut queue = bus.queue("build")?;
    loop {
        let job = queue.take()?;
        let source: u64 = job.decode()?;
        if job.attempt() > 1 {
            bus.publish("farm/again", &source)?;
        }
        let object = build(source);
        job.finish(|batch| {
            batch.set(format!("object/{source}"), &object)?;
            batch.add("built", 1);
            Ok(())
        })?;
    }
}

fn start(path: &Path) -> std::io::Result<Child> {
    let me = std::env::current_exe()?;
    Command::new(me).arg(path).spawn()
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(path) = std::env::args().nth(1) {
        return work(&Bus::options().label("worker").keeper(false).attach_at(path)?);
    }
    let directory = tempfile::tempdir_in("/dev/shm")?;
    let path = directory.path().join("farm");
    let bus = Bus::options().state(directory.path()).open_at(&path)?;
    let mut again = bus.subscribe("farm/")?;
    let mut workers = (0..WORKERS).map(|_| start(&path)).collect::<Result<Vec<_>, _>>()?;
    // No more than fifty wait: who puts faster than they build is made to wait.
    let mut queue = bus.queue("build")?.limit(50);
    for source in 0..JOBS {
        queue.offer().timeout(PATIENCE).put(&source)?;
        if source % 100 == 50 {
            let worker = &mut workers[source as usize / 100 % WORKERS];
            worker.kill().and_then(|()| worker.wait())?;
            *worker = start(&path)?;
        }
    }
    let all = |entry: Option<&Entry>| entry.and_then(Entry::counter) == Some(JOBS as i64);
    let built = bus.wait_for("built", PATIENCE, all)?;
    assert!(matches!(built, Waited::Holds(_)), "not all was built: {built:?}");
    for source in 0..JOBS {
        assert_eq!(bus.get::<u64>(format!("object/{source}"))?, Some(build(source)));
    }
    for worker in &mut workers {
        worker.kill().and_then(|()| worker.wait())?;
    }
    let mut handed_on = 0;
    while let Some(Notice::Message(_)) = again.try_recv()? {
        handed_on += 1;
    }
    println!("{JOBS} jobs built once each, 4 workers killed, {handed_on} jobs handed on");
    Ok(())
}
