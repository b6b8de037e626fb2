//! The process that writes while snapshots are taken, and how it is told to.
//!
//! It is told how many milliseconds to write, or [`GO`], and then another line to stop. It answers with the sets
//! done, the nanoseconds they took together, and how many nanoseconds one took: p50, p99, p99.9, longest.

use std::io::{Write, stdin, stdout};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::stores::Target;
use super::{Kind, VALUE_SIZE};
use crate::child::Running;
use crate::engines::Fail;
use crate::workload::{Data, value};

/// Write until another line comes.
pub(super) const GO: &str = "go";
/// Keys of the sequence.
const SEQUENCE_LENGTH: usize = 1_000_000;
/// Sets between two looks at what is told.
const SETS_PER_LOOK: usize = 16;
/// Digits that count in a time.
const DIGITS: u8 = 3;

/// What the writer answers: sets a second, and nanoseconds of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sets {
    /// Sets a second.
    pub(super) rate: f64,
    /// p50, p99, p99.9 and the longest, in nanoseconds.
    pub(super) times: [f64; 4],
}

fn answer(setter: &mut Running) -> Result<Sets, Fail> {
    let line = setter.answer()?;
    let numbers: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
    let [done, took, p50, p99, p999, longest] = numbers?[..] else {
        return Err("a writer's odd answer".into());
    };
    Ok(Sets { rate: done / took * 1e9, times: [p50, p99, p999, longest] })
}

/// Lets it write for a time.
pub(super) fn run_for(setter: &mut Running, time: Duration) -> Result<Sets, Fail> {
    setter.tell(&time.as_millis().to_string())?;
    answer(setter)
}

/// Ends what [`GO`] began.
pub(super) fn stop(setter: &mut Running) -> Result<Sets, Fail> {
    setter.tell("stop")?;
    answer(setter)
}

/// Is the writer, until its input ends.
pub(crate) fn set_keys(kind: Kind, count: u32, directory: &Path) -> Result<(), Fail> {
    let mut target = Target::join(kind, directory)?;
    let (keys, content) = (Data::new(count).uniform(SEQUENCE_LENGTH, 5), value(VALUE_SIZE));
    let (tell, told) = mpsc::channel();
    thread::spawn(move || stdin().lines().map_while(Result::ok).try_for_each(|l| tell.send(l)));
    writeln!(stdout(), "ready")?;
    let mut keys = keys.iter().cycle();
    while let Ok(line) = told.recv() {
        let limit = if line == GO { None } else { Some(Duration::from_millis(line.parse()?)) };
        let mut times = Histogram::<u64>::new(DIGITS)?;
        let start = Instant::now();
        while !is_over(start, limit, &told) {
            for key in keys.by_ref().take(SETS_PER_LOOK) {
                let before = Instant::now();
                target.set(key, &content)?;
                times.record(u64::try_from(before.elapsed().as_nanos())?.max(1))?;
            }
        }
        let took = start.elapsed().as_nanos();
        let at = [0.5, 0.99, 0.999].map(|share| times.value_at_quantile(share));
        let ([p50, p99, p999], longest) = (at, times.max());
        writeln!(stdout(), "{} {took} {p50} {p99} {p999} {longest}", times.len())?;
    }
    Ok(())
}

/// Whether the time is over, or the line to stop has come.
fn is_over(start: Instant, limit: Option<Duration>, told: &Receiver<String>) -> bool {
    match limit {
        Some(limit) => start.elapsed() >= limit,
        None => !matches!(told.try_recv(), Err(mpsc::TryRecvError::Empty)),
    }
}
