//! Waiting until an attempt succeeds.
//!
//! 1. Who waits tries, sleeps until the entry is another one than it saw, and tries again. It looks once
//!    more after it said that it sleeps (`super::super::sleeper`), so no change is slept through.
//! 2. What nobody rings for it looks at by itself: a deadline when it comes, deaths after [`PROBE_FIRST`],
//!    then ever more seldom, at the latest after [`PROBE_LAST`].
//!
//! A death leaves its watch slot to its burial, and nothing else: waiting writes nothing.

use super::super::Inner;
use super::super::sleeper::{Alarm, Sleeper};
use super::Address;
use crate::doorbell;
use crate::error::{LockError, WatchError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How soon who waits looks whether a holder died, after it began to wait.
pub(super) const PROBE_FIRST: Duration = Duration::from_millis(10);
/// The longest time between two of these looks.
const PROBE_LAST: Duration = Duration::from_millis(100);
/// How often who has no doorbell looks, since all are taken.
const POLL: Duration = Duration::from_millis(2);

/// Why an attempt did not succeed, and when to look again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Busy {
    /// Revision of the entry that is in the way; 0: there was none when it was looked at.
    pub(super) seen: u64,
    /// Boot time at which something changes without anybody's doing; 0: none.
    pub(super) until: u64,
}

/// What may end a wait from outside.
#[derive(Clone, Copy)]
pub(super) struct Cancel<'a> {
    /// Whether it is to end.
    pub(super) wanted: &'a dyn Fn() -> bool,
    /// Gets what wakes it.
    pub(super) alarm: &'a dyn Fn(Alarm),
}

/// How long somebody waits, and from when on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    begun: Instant,
    timeout: Option<Duration>,
}

impl Limit {
    /// From now on; `None`: as long as it takes.
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        Self { begun: Instant::now(), timeout }
    }
    pub(super) fn waited(&self) -> Duration {
        self.begun.elapsed()
    }
    fn left(&self) -> Duration {
        self.timeout.map_or(Duration::MAX, |timeout| timeout.saturating_sub(self.waited()))
    }
}

/// When dead holders are looked for: at the first attempt, and then from time to time.
#[derive(Debug)]
struct Probes {
    due: Instant,
    pause: Duration,
}

impl Probes {
    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = now >= self.due;
        if is_due {
            self.due = now + self.pause;
            self.pause = (self.pause * 2).min(PROBE_LAST);
        }
        is_due
    }
}

/// Tries until it succeeds; `None` when the time ran out, or it was cancelled. `attempt` is told whether
/// to look for dead holders.
pub(super) fn until<T>(
    inner: &Arc<Inner>,
    address: &Address,
    limit: Limit,
    cancel: Option<Cancel<'_>>,
    mut attempt: impl FnMut(bool) -> Result<Result<T, Busy>, LockError>,
) -> Result<Option<T>, LockError> {
    let mut probes = Probes { due: Instant::now(), pause: PROBE_FIRST };
    let mut bed = None;
    loop {
        let busy = match attempt(probes.is_due())? {
            Ok(value) => return Ok(Some(value)),
            Err(busy) => busy,
        };
        let left = limit.left();
        if left.is_zero() {
            return Ok(None);
        }
        let bed = match &mut bed {
            Some(bed) => bed,
            None => bed.insert(Bed::make(inner, address, cancel)?),
        };
        // After the alarm was given: who cancels later rings it.
        if cancel.is_some_and(|cancel| (cancel.wanted)()) {
            return Ok(None);
        }
        let mut pause = left.min(probes.due.saturating_duration_since(Instant::now()));
        if busy.until != 0 {
            let soon = busy.until.saturating_sub(inner.core.clock.boot());
            pause = pause.min(Duration::from_nanos(soon));
        }
        bed.sleep(inner, address, busy.seen, pause)?;
    }
}

/// What somebody sleeps in: with a doorbell, or without one, where all are taken.
#[derive(Debug)]
struct Bed(Option<Sleeper>);

impl Bed {
    fn make(
        inner: &Arc<Inner>,
        address: &Address,
        cancel: Option<Cancel<'_>>,
    ) -> Result<Self, LockError> {
        match Sleeper::new(inner, doorbell::Sort::Locks, &address.key) {
            Ok(sleeper) => {
                if let Some(cancel) = cancel {
                    (cancel.alarm)(sleeper.alarm());
                }
                Ok(Self(Some(sleeper)))
            }
            Err(WatchError::TooMany { .. }) => Ok(Self(None)),
            Err(error) => Err(error.into()),
        }
    }

    /// Sleeps until the entry is not the one with revision `seen`, for `pause` at most.
    fn sleep(
        &mut self,
        inner: &Inner,
        address: &Address,
        seen: u64,
        pause: Duration,
    ) -> Result<(), LockError> {
        let Some(sleeper) = &mut self.0 else {
            if inner.lock_revision(address)? == seen {
                std::thread::sleep(pause.min(POLL));
            }
            return Ok(());
        };
        let look = |inner: &Arc<Inner>| {
            let now = inner.lock_revision(address)?;
            Ok((now != seen).then_some(()))
        };
        match sleeper.wait(pause, pause, look) {
            Ok(_) | Err(WatchError::Cancelled) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
