//! Child processes that work through seeds, and the parent that names the seed at which one died.
//!
//! A child is this test binary once more, running one test that does nothing unless it is told to. It
//! says which seed it begins, before it begins; who says nothing for too long is killed.

use crate::setting;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Address space of a child: a length taken from damaged bytes is not allocated in it.
const ADDRESS_SPACE_KIB: u64 = 2 << 20;
/// How long a child may say nothing; an operation that takes longer than it may is told by the child.
const SILENCE: Duration = Duration::from_secs(20);
/// Failures after which a worker gives up.
const FAILURES_MAX: usize = 20;

/// What a child is told to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub(crate) first: u64,
    pub(crate) step: u64,
    pub(crate) end: u64,
}

/// What children did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    /// Sums by name, as children told them.
    pub(crate) sums: std::collections::BTreeMap<String, u64>,
    pub(crate) failures: Vec<String>,
    /// Seeds with an operation that took too long, and what it was.
    slow: Vec<(u64, String)>,
}

impl Report {
    /// Says a sum in the form that `tests/release` adds up.
    pub(crate) fn earned(&self, name: &str, what: &str) {
        println!("earned {} {what}", self.sums.get(name).copied().unwrap_or_default());
    }

    fn add(&mut self, other: Self) {
        for (name, sum) in other.sums {
            *self.sums.entry(name).or_default() += sum;
        }
        self.failures.extend(other.failures);
        self.slow.extend(other.slow);
    }
}

/// The order of this process, when it is a child.
pub(crate) fn order() -> Option<(Order, std::path::PathBuf)> {
    let first = setting("MEMBUS_CHILD_FIRST")?;
    let root = std::env::var_os("MEMBUS_CHILD_ROOT")?;
    let order =
        Order { first, step: setting("MEMBUS_CHILD_STEP")?, end: setting("MEMBUS_CHILD_END")? };
    Some((order, root.into()))
}

fn start(test: &str, order: Order, root: &Path) -> Child {
    let exe = std::env::current_exe().unwrap();
    let limited = format!("ulimit -c 0; ulimit -v {ADDRESS_SPACE_KIB}; exec \"$0\" \"$@\"");
    Command::new("sh")
        .args(["-c", &limited])
        .arg(exe)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("MEMBUS_CHILD_FIRST", order.first.to_string())
        .env("MEMBUS_CHILD_STEP", order.step.to_string())
        .env("MEMBUS_CHILD_END", order.end.to_string())
        .env("MEMBUS_CHILD_ROOT", root)
        .env("MALLOC_ARENA_MAX", "2")
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs one child to its end: the seed at which it died or hung, if it did.
fn run(test: &str, order: Order, root: &Path, report: &mut Report) -> Option<u64> {
    let mut child = start(test, order, root);
    let (tell, told) = channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut err = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        // Who does not listen any more has killed the child.
        out.lines().map_while(Result::ok).for_each(|line| drop(tell.send(line)));
    });
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ended = err.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let (mut seed, mut hung) = (None, false);
    loop {
        match told.recv_timeout(SILENCE) {
            Ok(line) => match line.split_once(' ') {
                Some(("seed", number)) => seed = number.parse().ok(),
                Some(("failed", what)) => report.failures.push(what.to_owned()),
                Some(("slow", what)) => {
                    let (seed, what) = what.split_once(' ').unwrap_or_default();
                    report.slow.extend(seed.parse().ok().map(|seed| (seed, what.to_owned())));
                }
                Some(("sum", sum)) => {
                    if let Some((name, Ok(sum))) =
                        sum.split_once('=').map(|(n, s)| (n, s.parse::<u64>()))
                    {
                        *report.sums.entry(name.to_owned()).or_default() += sum;
                    }
                }
                _ => {}
            },
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                hung = true;
                child.kill().unwrap();
                break;
            }
        }
    }
    let status = child.wait().unwrap();
    reader.join().unwrap();
    let errors = errors.join().unwrap();
    if status.success() {
        return None;
    }
    let how = if hung { "hung".to_owned() } else { status.to_string() };
    // What was said, and the lines of ours that led there.
    let tells = |line: &&str| !line.starts_with(' ') || line.contains(" at ./");
    let lines: Vec<_> = errors.lines().filter(tells).map(str::trim).take(12).collect();
    report.failures.push(format!("seed {seed:?}: {how}: {}", lines.join(" / ")));
    Some(seed.unwrap_or(order.end))
}

/// Works through `count` seeds from `MEMBUS_FIRST` (0) on, or the one in `MEMBUS_SEED`, with as many
/// children as there are cores. `test` is the test that a child runs.
pub(crate) fn work(test: &str, count: u64) -> Report {
    let orders: Vec<Order> = match setting("MEMBUS_SEED") {
        Some(seed) => vec![Order { first: seed, step: 1, end: seed + 1 }],
        None => {
            let begin = setting("MEMBUS_FIRST").unwrap_or(0);
            let step = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
            let end = begin.saturating_add(count);
            (0..step).map(|first| Order { first: begin + first, step, end }).collect()
        }
    };
    let worker = |mut order: Order| {
        let mut report = Report::default();
        while order.first < order.end && report.failures.len() < FAILURES_MAX {
            let root = tempfile::tempdir_in("/dev/shm").unwrap();
            match run(test, order, root.path(), &mut report) {
                Some(seed) => order.first = seed + order.step,
                None => break,
            }
        }
        report
    };
    let mut all = Report::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            orders.into_iter().map(|order| scope.spawn(move || worker(order))).collect();
        workers.into_iter().for_each(|worker| all.add(worker.join().unwrap()));
    });
    confirm(test, &mut all);
    all
}

/// What was slow is tried again, alone: the machine may have been busy with others.
fn confirm(test: &str, report: &mut Report) {
    for (seed, _) in std::mem::take(&mut report.slow) {
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut again = Report::default();
        run(test, Order { first: seed, step: 1, end: seed + 1 }, root.path(), &mut again);
        report.failures.extend(again.failures);
        report
            .failures
            .extend(again.slow.into_iter().map(|(seed, what)| format!("seed {seed}: {what}")));
    }
}
