//! What members count: a word each in the member's slot, summed over the living and the dead.

use super::Inner;
use crate::region::BadRegion;
use crate::region::layout::{header, member};
use crate::sync::Ordering::Relaxed;

/// What members count, each in a word of its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Counter {
    Gets,
    Sets,
    Deletes,
    Adds,
    Commits,
    Conflicts,
    Burials,
    Snapshots,
    Changes,
    Messages,
}

/// Operations of all members that ever were, since the region was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Operations {
    /// Values read by members; threads that share a handle may lose a few counts to each other.
    pub gets: u64,
    /// Values set.
    pub sets: u64,
    /// Deletes, also of absent keys.
    pub deletes: u64,
    /// Additions to counters.
    pub adds: u64,
    /// Batches committed.
    pub commits: u64,
    /// Changes made by batches.
    pub changes: u64,
    /// Conditions that did not hold.
    pub conflicts: u64,
    /// Messages published.
    pub messages: u64,
    /// Members buried.
    pub burials: u64,
    /// Snapshots taken.
    pub snapshots: u64,
    /// Snapshots that failed.
    pub snapshot_failures: u64,
}

impl Inner {
    fn counter(&self, slot: u64, counter: Counter) -> u64 {
        self.member_at(slot) + member::COUNTERS + 8 * counter as u64
    }

    /// Counts one operation of this member.
    #[inline]
    pub(crate) fn count(&self, counter: Counter) {
        self.count_many(counter, 1);
    }

    /// Counts so many of this member. A load and a store: no other process writes the word.
    #[inline]
    pub(crate) fn count_many(&self, counter: Counter, many: u64) {
        let Some(seat) = self.seat() else { return };
        let at = self.counter(u64::from(seat.slot), counter);
        // Outside of the region there is nothing to count.
        let Ok(word) = self.core.region.words(at, 8) else { return };
        let _counted = word
            .load(0, Relaxed)
            .and_then(|count| word.store(0, count.wrapping_add(many), Relaxed));
    }

    /// The sums over the slots below `high`.
    pub(crate) fn operations(&self, high: u64) -> Result<Operations, BadRegion> {
        let sum = |counter| -> Result<u64, BadRegion> {
            let mut words =
                (0..high).map(|slot| self.core.region.load(self.counter(slot, counter), Relaxed));
            words.try_fold(0_u64, |sum, word| Ok(sum.saturating_add(word?)))
        };
        Ok(Operations {
            gets: sum(Counter::Gets)?,
            sets: sum(Counter::Sets)?,
            deletes: sum(Counter::Deletes)?,
            adds: sum(Counter::Adds)?,
            commits: sum(Counter::Commits)?,
            changes: sum(Counter::Changes)?,
            conflicts: sum(Counter::Conflicts)?,
            messages: sum(Counter::Messages)?,
            burials: sum(Counter::Burials)?,
            snapshots: sum(Counter::Snapshots)?,
            snapshot_failures: self.core.region.load(header::SNAPSHOT_FAILURES, Relaxed)?,
        })
    }
}
