//! The table: stripes of buckets of slot words, read without locks and written under one.
//!
//! ```text
//! array   | header line | bucket | bucket | ... | overflow bucket | ...
//! bucket  | slot word x 7 | link to an overflow bucket (its number, or 0) |
//! ```
//!
//! 1. A slot word never moves within an array, and an entry's replacement takes its slot word.
//! 2. An overflow bucket stays linked until the array is replaced; one store links it, zeroed.
//! 3. One store of the array word publishes a doubled array; readers look at that word again.
//!
//! Arguments: `docs/design.md`, READ, CELL, WRITE, DOUBLE and REPAIR.

pub(crate) mod array;
pub(crate) mod batch;
pub(crate) mod cell;
#[cfg(test)]
#[cfg(not(loom))]
mod crash_tests;
pub(crate) mod entry;
pub(crate) mod expire;
pub(crate) mod free;
pub(crate) mod guard;
pub(crate) mod load;
#[cfg(test)]
#[cfg(not(loom))]
mod model_tests;
pub(crate) mod pin;
pub(crate) mod plan;
pub(crate) mod read;
pub(crate) mod records;
pub(crate) mod repair;
pub(crate) mod restore;
pub(crate) mod scan;
#[cfg(test)]
#[cfg(not(loom))]
mod schedule_tests;
#[cfg(test)]
#[cfg(not(loom))]
pub(crate) mod testing;
pub(crate) mod wish;
pub(crate) mod write;

use crate::heap::Space;
use crate::lock::{Liveness, Probe};
use crate::sync::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

/// Where the time comes from; tests set it by hand.
#[derive(Debug, Default, Clone)]
pub(crate) struct Clock {
    fixed: Option<Arc<AtomicU64>>,
}

impl Clock {
    #[cfg(test)]
    pub(crate) fn fixed(now: u64) -> Self {
        Self { fixed: Some(Arc::new(AtomicU64::new(now))) }
    }
    #[cfg(test)]
    pub(crate) fn advance(&self, by: u64) {
        if let Some(fixed) = &self.fixed {
            fixed.fetch_add(by, Ordering::Relaxed);
        }
    }
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub(crate) fn boot(&self) -> u64 {
        match &self.fixed {
            Some(now) => now.load(Ordering::Relaxed),
            None => crate::sys::clock::boottime_ns(),
        }
    }
    /// Nanoseconds since 1970.
    pub(crate) fn wall(&self) -> u64 {
        match &self.fixed {
            Some(now) => now.load(Ordering::Relaxed),
            None => crate::sys::clock::wall_ns(),
        }
    }
}

/// A region with everything that operations need beside it.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) space: Space,
    pub(crate) liveness: Box<dyn Liveness>,
    pub(crate) clock: Clock,
    /// A head that this process has seen; shared by its threads.
    pub(crate) known_head: AtomicU64,
    /// How long a write may wait.
    pub(crate) patience: Duration,
}

impl Core {
    pub(crate) fn new(space: Space, liveness: Box<dyn Liveness>, patience: Duration) -> Self {
        let (clock, known_head) = (Clock::default(), AtomicU64::new(0));
        Self { space, liveness, clock, known_head, patience }
    }
}

/// Nobody is known to be dead: for who holds no lock that others wait for.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Liveness for Nobody {
    fn probe(&self) -> Option<Box<dyn Probe + '_>> {
        None
    }
}

impl std::ops::Deref for Core {
    type Target = Space;
    fn deref(&self) -> &Space {
        &self.space
    }
}
