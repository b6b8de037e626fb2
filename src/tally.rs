//! What members count: words of their slots that only ever rise, whoever uses the slot.
//!
//! ```text
//! lanes    | 4 lines, each one thread's at a time | a line that all threads share |
//! counters | a word for each of what happens more seldom                          |
//! times    | get: 30 buckets, sum, longest | set: 30 buckets, sum, longest        |
//! base     | what the lanes came to when the slot's present user attached         |
//! ```
//!
//! 1. No word is ever set back: a slot's next user counts on. So the sum over all slots is the sum over the
//!    living and the dead, and no burial has anything to carry over, once or twice.
//! 2. One count is one store: a death leaves it counted or not.
//! 3. Nothing is decided by these words. Any content is a figure like another: sums saturate.
//!
//! A lane's line is written by plain loads and stores of the thread that has it (`bus::metrics::lanes`); all
//! other words by atomic additions. Why so: `docs/design.md`, COUNTING.

use crate::heap::Space;
use crate::region::layout::{LANES_MAX, LINE, TIMES_MAX, member};
use crate::region::{BadRegion, Words};
use crate::sync::Ordering::Relaxed;

/// What each operation counts, in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Hot {
    /// Lookups.
    Gets,
    /// Those that found nothing, or failed.
    Misses,
    Sets,
    Adds,
    Deletes,
    /// Batches.
    Commits,
    /// Keys that were absent and are there.
    Created,
    /// Keys that were there and have a new value.
    Updated,
}
/// Words of a lane.
pub(crate) const HOT: usize = 8;
const _: () = assert!(HOT as u64 * 8 == LINE && Hot::Updated as usize + 1 == HOT);

/// What is counted more seldom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Counter {
    /// Changes made by batches.
    Changes,
    /// Entries that a delete took away.
    Deleted,
    /// Entries whose end by expiry was committed.
    Expired,
    Clears,
    Conflicts,
    ReadErrors,
    WriteErrors,
    /// Of these: no room.
    Full,
    /// Of these: a lock that was not got in time.
    Stalled,
    WatchErrors,
    SnapshotErrors,
    LockErrors,
    /// Messages published.
    Messages,
    /// Of these: for whoever listens.
    Broadcasts,
    Delivered,
    /// Messages that had expired when they were their subscriber's turn.
    MessagesExpired,
    /// Events that watches told.
    Events,
    /// How often a watch or a subscriber was told that it had fallen behind.
    Lagged,
    /// Changes and messages that these missed.
    Missed,
    Callbacks,
    CallbackPanics,
    /// Datagrams sent to wake somebody.
    Bells,
    /// Locks taken over from a dead owner.
    Takeovers,
    /// Commits of the dead that were carried out.
    Finished,
    Burials,
    Snapshots,
    Backups,
    Restores,
    /// Changes of locks, leases, semaphores, barriers and elections.
    LockChanges,
    Growths,
    GrowthFailures,
    Scans,
}
/// Words of counters.
pub(crate) const COUNTERS: usize = 32;
const _: () = assert!(COUNTERS as u64 == crate::region::layout::COUNTERS_MAX);
const _: () = assert!(Counter::Scans as usize + 1 == COUNTERS);

/// Buckets of a histogram.
pub(crate) const BUCKETS: usize = TIMES_MAX as usize - 2;
/// Behind the buckets: the nanoseconds of all samples.
pub(crate) const SUM: usize = BUCKETS;
/// Behind it: those of the longest.
pub(crate) const LONGEST: usize = BUCKETS + 1;
/// Buckets have two steps a doubling from 2^FIRST nanoseconds on, and one from 2^COARSE.
const FIRST: u32 = 5;
const COARSE: u32 = 12;
const FINE: usize = 2 * (COARSE - FIRST) as usize;

/// The bucket that a time belongs to.
#[inline]
pub(crate) fn bucket(ns: u64) -> usize {
    let power = ns.max(1).ilog2();
    if power < FIRST {
        0
    } else if power < COARSE {
        1 + 2 * (power - FIRST) as usize + (ns >> (power - 1) & 1) as usize
    } else {
        (1 + FINE + (power - COARSE) as usize).min(BUCKETS - 1)
    }
}

/// The shortest time of a bucket, in nanoseconds; of the first beyond all, where the last one would end.
pub(crate) fn bucket_from(bucket: usize) -> u64 {
    match bucket.checked_sub(1) {
        None => 0,
        Some(fine) if fine < FINE => {
            let power = FIRST + fine as u32 / 2;
            (1 << power) + (fine as u64 & 1) * (1 << (power - 1))
        }
        Some(coarse) => 1 << (COARSE as usize + coarse - FINE).min(63),
    }
}

/// Adds a time to a histogram.
pub(crate) fn sample(times: &Words<'_>, ns: u64) -> Result<(), BadRegion> {
    times.add(bucket(ns), 1, Relaxed)?;
    times.add(SUM, ns, Relaxed)?;
    // Named bound: who is overtaken so often was not the longest by much.
    for _ in 0..8 {
        let longest = times.load(LONGEST, Relaxed)?;
        if ns <= longest || times.exchange(LONGEST, longest, ns)? {
            break;
        }
    }
    Ok(())
}

/// Sums over slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) hot: [u64; HOT],
    pub(crate) counters: [u64; COUNTERS],
    pub(crate) get_times: [u64; TIMES_MAX as usize],
    pub(crate) set_times: [u64; TIMES_MAX as usize],
}

impl Default for Sums {
    fn default() -> Self {
        let times = [0; TIMES_MAX as usize];
        Self { hot: [0; HOT], counters: [0; COUNTERS], get_times: times, set_times: times }
    }
}

/// Words of a slot from its lanes to its base, as [`Sums::add`] reads them.
pub(crate) const TALLY_BYTES: u64 = member::BASE - member::LANES;

fn part(
    words: &Words<'_>,
    from: u64,
    into: &mut [u64],
    longest: Option<usize>,
) -> Result<(), BadRegion> {
    let first = ((from - member::LANES) / 8) as usize;
    for (index, sum) in into.iter_mut().enumerate() {
        let word = words.load(first + index, Relaxed)?;
        *sum = if longest == Some(index) { word.max(*sum) } else { sum.saturating_add(word) };
    }
    Ok(())
}

/// What the lanes of a slot come to.
pub(crate) fn lanes(words: &Words<'_>) -> Result<[u64; HOT], BadRegion> {
    let mut hot = [0; HOT];
    for lane in 0..LANES_MAX {
        part(words, member::LANES + lane * LINE, &mut hot, None)?;
    }
    Ok(hot)
}

impl Sums {
    /// Adds what a slot has counted: its [`TALLY_BYTES`].
    pub(crate) fn add(&mut self, words: &Words<'_>) -> Result<(), BadRegion> {
        for (sum, more) in self.hot.iter_mut().zip(lanes(words)?) {
            *sum = sum.saturating_add(more);
        }
        part(words, member::COUNTERS, &mut self.counters, None)?;
        part(words, member::GET_TIMES, &mut self.get_times, Some(LONGEST))?;
        part(words, member::SET_TIMES, &mut self.set_times, Some(LONGEST))
    }

    pub(crate) fn hot(&self, hot: Hot) -> u64 {
        self.hot[hot as usize]
    }

    pub(crate) fn of(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }
}

impl Space {
    /// What the slot has counted.
    #[inline]
    pub(crate) fn tally_of(&self, slot: u64) -> Result<Words<'_>, BadRegion> {
        self.region.words(self.geometry.member(slot) + member::LANES, TALLY_BYTES)
    }

    /// Counts so many for the member in `slot`. Outside of the region there is nothing to count.
    pub(crate) fn tally(&self, slot: u32, counter: Counter, many: u64) {
        if many == 0 {
            return;
        }
        let at = self.geometry.member(u64::from(slot)) + member::COUNTERS + 8 * counter as u64;
        let _counted = self.region.add(at, many, Relaxed);
    }

    /// Notes what the lanes of a slot came to before its new user, whose byte is held. A death before the
    /// slot is in use leaves it to the next one, who notes it anew.
    pub(crate) fn note_base(&self, slot: u32) -> Result<(), BadRegion> {
        let at = self.geometry.member(u64::from(slot)) + member::BASE;
        for (index, word) in lanes(&self.tally_of(u64::from(slot))?)?.into_iter().enumerate() {
            self.region.store(at + 8 * index as u64, word, Relaxed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plant: one step a doubling below 4 microseconds.
    #[test]
    fn buckets_cover_every_time_once() {
        for index in 0..BUCKETS {
            let (from, to) = (bucket_from(index), bucket_from(index + 1));
            assert!(from < to, "{index}");
            assert_eq!((bucket(from), bucket(to - 1)), (index, index), "{index}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!([bucket(47), bucket(48), bucket(64)], [1, 2, 3]);
        assert_eq!(bucket_from(BUCKETS - 1), 1 << 26);
    }
}
