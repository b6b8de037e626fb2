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
    /// By how much the wall clock was ahead of the boot clock when that was last settled: the kernel keeps it the same to the
    /// nanosecond until somebody sets the wall clock, and two looks at the clocks do not.
    ahead: Arc<AtomicU64>,
}

/// A deadline of the wall clock is exact to so many nanoseconds, and the same each time it is told: so who saves it again finds
/// it unchanged.
const AHEAD_STEP: u64 = 1_000_000;
/// Looks at the clocks, of which the quickest counts.
const AHEAD_LOOKS: u32 = 3;

/// What is told of how far a clock is ahead: what was told before, as long as it is near; else the next whole step, which another
/// process tells as well.
fn settled(told: u64, found: u64) -> u64 {
    let (told, found) = (told.cast_signed(), found.cast_signed());
    if told.abs_diff(found) <= AHEAD_STEP {
        return told.cast_unsigned();
    }
    let step = AHEAD_STEP.cast_signed();
    (found.saturating_add(step / 2).div_euclid(step) * step).cast_unsigned()
}

impl Clock {
    #[cfg(test)]
    pub(crate) fn fixed(now: u64) -> Self {
        Self { fixed: Some(Arc::new(AtomicU64::new(now))), ..Self::default() }
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

    /// By how much the wall clock is ahead of the boot clock, in two's complement.
    fn ahead(&self) -> u64 {
        let look = |_| {
            let begun = self.boot();
            let ahead = self.wall().wrapping_sub(begun);
            (self.boot().saturating_sub(begun), ahead)
        };
        let quickest = (0..AHEAD_LOOKS).map(look).min_by_key(|(took, _)| *took);
        let told = self.ahead.load(Ordering::Relaxed);
        let now = settled(told, quickest.map_or(told, |(_, ahead)| ahead));
        if now != told {
            self.ahead.store(now, Ordering::Relaxed);
        }
        now
    }

    /// When a moment of the boot clock is, in nanoseconds since 1970; never 0.
    pub(crate) fn wall_of(&self, boot: u64) -> u64 {
        boot.saturating_add_signed(self.ahead().cast_signed()).max(1)
    }

    /// The moment of the boot clock for one in nanoseconds since 1970; never 0, which is none.
    pub(crate) fn boot_of(&self, wall: u64) -> u64 {
        wall.saturating_sub_signed(self.ahead().cast_signed()).max(1)
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

#[cfg(test)]
mod tests {
    use super::settled;

    /// Promise: two looks that differ by little are told as one, by every process; a clock that was set is followed.
    /// Plants: what was found told as it is; rounded each time.
    #[test]
    fn what_two_looks_tell_is_the_same() {
        let steps = [0, 1, 1_699_000_000_000, (-1_699_000_000_000_i64).cast_unsigned()];
        for ahead in steps.map(|steps: u64| steps.wrapping_mul(1_000_000)) {
            for off in [0, 300, 400_000, 1_000_000] {
                let (more, less) = (ahead.wrapping_add(off), ahead.wrapping_sub(off));
                assert_eq!([settled(ahead, more), settled(ahead, less)], [ahead; 2]);
            }
            let far = ahead.wrapping_add(1 << 50);
            for off in [0, 300, 499_999] {
                let (more, less) = (ahead.wrapping_add(off), ahead.wrapping_sub(off));
                assert_eq!([settled(far, more), settled(far, less)], [ahead; 2]);
            }
        }
    }
}
