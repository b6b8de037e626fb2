//! How long does it take to wake another process?
//!
//! Two processes, each on a core of its own, ring each other in turn: the near one rings and waits,
//! the far one waits and rings. A figure is the time from before the near one's call that rings to
//! after the far one's call that waited, both read from the system's one monotonic clock. What
//! carries a number carries the round's, and the far one checks it.
//!
//! Busy, the near one rings again at once; both sides sleep in between, though not for long. Idle,
//! it sleeps for 300 µs first, and both cores with it.
//!
//! **Back of the envelope.** Every means here ends in the same wake-up by the kernel, some
//! microseconds where both cores run, tens where a virtual one has to be fetched back. A raw socket
//! adds a buffer and a look at its tables. membus sets a key, a third of a microsecond, and sends a
//! datagram to the watch that sleeps: it should be where the raw datagram is. iceoryx2 sends a
//! datagram, too. ZeroMQ hands over to a thread of its own on both sides, and Redis is a process
//! between the two: two or three wake-ups instead of one. Where the other side has not gone to
//! sleep, membus makes no system call: the set, and a cache line's way to the other core.
//!
//! Rounds go from means to means, so that noise falls on all alike; each gives a median and a 99th
//! percentile, of which the medians count.

mod end;
mod iceoryx;
mod membus;
mod redis;
mod report;
mod sockets;
mod zeromq;

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::args::Plan;
use crate::child::Running;
use crate::engines::{self, Fail, Name};
use crate::figure::{Figure, percentile};
use crate::iceoryx::Sweep;
use crate::machine;
use crate::note;
use crate::page::Page;
use crate::role::Role;

pub(crate) use end::work;
pub(crate) use report::WakeReport;

/// Rings of a round before those that count.
const WARM_UP: usize = 50;
/// The pause before each ring of an idle round.
pub(crate) const PAUSE: Duration = Duration::from_micros(300);

/// What wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Means {
    /// The subject, as an event loop has it: the watch sleeps at once.
    MembusPoll,
    /// The subject, as a thread has it: the watch spins for a little while, then sleeps.
    MembusRecv,
    /// The subject, seen to spin when it is rung.
    MembusAwake,
    /// A Unix datagram socket.
    Datagram,
    /// A Unix stream socket.
    Stream,
    /// A futex in a shared page.
    Futex,
    /// An event of `raw_sync` in a page of `shared_memory`.
    RawSync,
    /// An event of iceoryx2.
    Iceoryx2,
    /// A pair of ZeroMQ sockets over `ipc`.
    #[serde(rename = "zeromq")]
    ZeroMq,
    /// Redis publish and subscribe, over a Unix socket.
    Redis,
}

impl Means {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 10] = [
        Self::MembusPoll,
        Self::MembusRecv,
        Self::MembusAwake,
        Self::Datagram,
        Self::Stream,
        Self::Futex,
        Self::RawSync,
        Self::Iceoryx2,
        Self::ZeroMq,
        Self::Redis,
    ];

    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::MembusPoll => "membus-poll",
            Self::MembusRecv => "membus-recv",
            Self::MembusAwake => "membus-awake",
            Self::Datagram => "datagram",
            Self::Stream => "stream",
            Self::Futex => "futex",
            Self::RawSync => "raw-sync",
            Self::Iceoryx2 => "iceoryx2",
            Self::ZeroMq => "zeromq",
            Self::Redis => "redis",
        }
    }

    /// What the table calls it.
    fn title(self) -> &'static str {
        match self {
            Self::MembusPoll => "membus, event loop",
            Self::MembusRecv => "membus, recv",
            Self::MembusAwake => "membus, seen awake",
            Self::Datagram => "Unix datagram",
            Self::Stream => "Unix stream",
            Self::Futex => "futex",
            Self::RawSync => "raw_sync event",
            Self::Iceoryx2 => "iceoryx2 event",
            Self::ZeroMq => "ZeroMQ ipc",
            Self::Redis => "Redis pub/sub",
        }
    }

    /// The means that `word` names.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|means| means.word() == word)
    }

    /// Whether a pace makes sense: nobody spins through a pause.
    fn has(self, pace: Pace) -> bool {
        self != Self::MembusAwake || pace == Pace::Busy
    }
}

/// One of the two processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that rings first, and that makes what must be made.
    Near,
    /// The other one.
    Far,
}

impl Side {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
        }
    }

    /// The side that `word` names.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Near, Self::Far].into_iter().find(|side| side.word() == word)
    }

    /// Whom it rings.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }
}

/// What is between two rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pace {
    /// Nothing.
    Busy,
    /// A pause.
    Idle,
}

impl Pace {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Busy, Self::Idle];

    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Idle => "idle",
        }
    }

    /// Rings of a round that count.
    fn rings(self) -> usize {
        match self {
            Self::Busy => 1000,
            Self::Idle => 300,
        }
    }

    fn pause(self) -> Duration {
        match self {
            Self::Busy => Duration::ZERO,
            Self::Idle => PAUSE,
        }
    }
}

/// One means at one pace, one way, in microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WakeFigure {
    /// What wakes.
    pub(crate) means: Means,
    /// How often.
    pub(crate) pace: Pace,
    /// Each round's median.
    pub(crate) p50: Figure,
    /// Each round's 99th percentile.
    pub(crate) p99: Figure,
}

/// The two processes of one means.
#[derive(Debug)]
struct Pair {
    means: Means,
    near: Running,
    far: Running,
}

impl Pair {
    fn start(means: Means, directory: &Path, cores: &[usize]) -> Result<Self, Fail> {
        let role = |side, core| Role::End { means, side, directory: directory.to_owned(), core };
        let near = Running::ready(&role(Side::Near, cores[0]))?;
        let far = Running::ready(&role(Side::Far, cores[1]))?;
        Ok(Self { means, near, far })
    }

    /// One round; microseconds one way of each ring that counts, sorted.
    fn round(&mut self, pace: Pace) -> Result<Vec<f64>, Fail> {
        let order = format!("{} {}", WARM_UP + pace.rings(), pace.pause().as_micros());
        for side in [&mut self.far, &mut self.near] {
            side.tell(&order)?;
        }
        let (sent, woken) = (stamps(&self.near.answer()?)?, stamps(&self.far.answer()?)?);
        if sent.len() != woken.len() {
            return Err("a ring was lost".into());
        }
        let way = |(sent, woken): (&u64, &u64)| woken.saturating_sub(*sent) as f64 / 1e3;
        let mut ways: Vec<f64> = sent.iter().zip(&woken).skip(WARM_UP).map(way).collect();
        ways.sort_by(f64::total_cmp);
        Ok(ways)
    }

    fn finish(self) -> Result<(), Fail> {
        self.far.finish()?;
        self.near.finish()
    }
}

fn stamps(line: &str) -> Result<Vec<u64>, Fail> {
    Ok(line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

/// Takes the figures of all means, each in two processes that live through all rounds.
pub(crate) fn measure(plan: &Plan, directory: &Path) -> Result<Option<WakeReport>, Fail> {
    let cores = machine::cores()?;
    if cores.len() < 2 {
        note("one core only: the figures of waking are left out");
        return Ok(None);
    }
    let bus = engines::open(Name::Membus, directory, 1, 8)?;
    let redis = engines::open(Name::Redis, directory, 1, 8)?;
    let (page, _sweep) = (Page::create(directory)?, Sweep(directory.to_owned()));
    let mut pairs = Vec::new();
    for means in Means::ALL {
        if means == Means::Redis && redis.is_none() {
            note("redis is not on this machine: it is left out");
            continue;
        }
        pairs.push(Pair::start(means, directory, &cores)?);
    }
    let mut report = WakeReport { rounds: plan.more_rounds(), figures: Vec::new() };
    for pace in Pace::ALL {
        note(&format!("waking another process, {}", pace.word()));
        report.figures.extend(rounds(&mut pairs, pace, report.rounds)?);
    }
    pairs.into_iter().try_for_each(Pair::finish)?;
    drop(page);
    redis.into_iter().chain(bus).try_for_each(|engine| engine.close())?;
    Ok(Some(report))
}

/// All rounds of one pace.
fn rounds(pairs: &mut [Pair], pace: Pace, count: usize) -> Result<Vec<WakeFigure>, Fail> {
    let mut samples = vec![(Vec::new(), Vec::new()); pairs.len()];
    for round in 0..count {
        for turn in 0..pairs.len() {
            let place = (turn + round) % pairs.len();
            if !pairs[place].means.has(pace) {
                continue;
            }
            let ways = pairs[place].round(pace)?;
            samples[place].0.push(percentile(&ways, 0.5));
            samples[place].1.push(percentile(&ways, 0.99));
        }
    }
    let taken = pairs.iter().zip(samples).filter(|(pair, _)| pair.means.has(pace));
    Ok(taken
        .map(|(pair, (p50, p99))| {
            let (p50, p99) = (Figure::of(p50), Figure::of(p99));
            WakeFigure { means: pair.means, pace, p50, p99 }
        })
        .collect())
}
