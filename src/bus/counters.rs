//! Counting: each handle in words of its member's slot, a reader in words of its own.
//!
//! What is counted where, and why a death costs nothing: `crate::tally`.

use super::Inner;
use super::metrics::lanes::{Lanes, SHARED};
use super::seat::Seat;
use crate::error::{ReadError, WriteError};
use crate::region::layout::{LINE, member};
use crate::region::{BadRegion, Line, Words};
use crate::sync::AtomicU64;
use crate::sync::Ordering::Relaxed;
use crate::sys::clock;
use crate::table::wish::Sorts;
pub(crate) use crate::tally::{Counter, Hot};
use crate::tally::{HOT, Sums, TALLY_BYTES, sample};
use std::io;

/// One get in so many is timed: what two looks at the clock cost is spread over them.
const GETS_A_SAMPLE: u32 = 256;
/// One set in so many.
const SETS_A_SAMPLE: u32 = 64;
/// 2^64 by the golden ratio: multiples of it are spread evenly, with no period that a program's loop could
/// share.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Operations of all members that ever were, since the region was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Operations {
    /// Lookups by members.
    pub gets: u64,
    /// Calls that set a value.
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

/// Where a handle counts.
#[derive(Debug)]
pub(crate) enum Counting {
    /// In its member's slot.
    Slot,
    /// In words of its own: a reader has no slot.
    Own(Own),
    /// In its slot, but not what it does often.
    Seldom,
}

/// What a reader counts by.
#[derive(Debug)]
pub(crate) struct Own {
    lanes: Lanes,
    words: Box<[AtomicU64]>,
}

impl Counting {
    /// Of a member.
    pub(crate) fn of_member(counts_all: bool) -> Self {
        if counts_all { Self::Slot } else { Self::Seldom }
    }

    /// Of a reader.
    pub(crate) fn of_reader() -> io::Result<Self> {
        let words = (0..TALLY_BYTES / 8).map(|_| AtomicU64::new(0)).collect();
        Ok(Self::Own(Own { lanes: Lanes::new()?, words }))
    }
}

/// Where a thread counts.
#[derive(Clone, Copy)]
struct Lane<'a> {
    line: Line<'a>,
    /// Whether nobody else writes there.
    alone: bool,
}

impl Lane<'_> {
    /// Counts so many; gives how many there were.
    #[inline(always)]
    fn add(self, hot: Hot, many: u64) -> u64 {
        if self.alone {
            self.line.add_alone(hot as usize, many)
        } else {
            self.line.add(hot as usize, many)
        }
    }
}

/// An operation that was counted, and that is being timed, or not.
pub(crate) struct Begun<'a> {
    lane: Option<Lane<'a>>,
    /// When it began; 0: it is not timed.
    at: u64,
}

impl<'a> Begun<'a> {
    /// What the library does for itself.
    #[inline]
    pub(crate) fn uncounted() -> Self {
        Self { lane: None, at: 0 }
    }

    /// Counts one; of `part` (a power of two) one is timed.
    #[inline(always)]
    fn count(lane: Option<Lane<'a>>, hot: Hot, part: u32) -> Self {
        let Some(counting) = lane else { return Self { lane, at: 0 } };
        let before = counting.add(hot, 1);
        let is_chosen = part > 1 && before.wrapping_mul(SPREAD) >> (64 - part.ilog2()) == 0;
        Self { lane, at: if is_chosen { now() } else { 0 } }
    }
}

#[cold]
fn now() -> u64 {
    clock::monotonic_ns()
}

impl Own {
    #[inline(never)]
    fn lane(&self) -> Option<Lane<'_>> {
        let lane = self.lanes.mine();
        let line = Line::of(self.words.get(lane * HOT..(lane + 1) * HOT)?)?;
        Some(Lane { line, alone: lane < SHARED })
    }
}

impl Inner {
    /// Where this thread counts what it does often: nowhere, in a forked child that did not write yet.
    #[inline(always)]
    fn lane(&self) -> Option<Lane<'_>> {
        match &self.counting {
            Counting::Slot => self.lane_of(self.seat()?),
            Counting::Own(own) => own.lane(),
            Counting::Seldom => None,
        }
    }

    #[inline(always)]
    fn lane_of<'a>(&'a self, seat: &Seat) -> Option<Lane<'a>> {
        let lane = seat.lanes.mine();
        let line = self.core.region.line(seat.lanes_at + LINE * lane as u64)?;
        Some(Lane { line, alone: lane < SHARED })
    }

    /// Counts so many of what is done often.
    #[inline]
    pub(crate) fn count_hot(&self, hot: Hot, many: u64) {
        if let Some(lane) = self.lane() {
            lane.add(hot, many);
        }
    }

    /// Counts a get and begins to time it, if it is one of those.
    #[inline(always)]
    pub(crate) fn begin_get(&self) -> Begun<'_> {
        Begun::count(self.lane(), Hot::Gets, GETS_A_SAMPLE)
    }

    /// Its end: whether something was found.
    #[inline(always)]
    pub(crate) fn end_get(&self, begun: &Begun<'_>, found: bool) {
        if !found && let Some(lane) = &begun.lane {
            lane.add(Hot::Misses, 1);
        }
        if begun.at != 0 {
            self.time(member::GET_TIMES, begun.at);
        }
    }

    /// Its end by an error, if it was counted.
    #[cold]
    pub(crate) fn failed_get(&self, begun: &Begun<'_>, error: ReadError) -> ReadError {
        if let Some(lane) = &begun.lane {
            lane.add(Hot::Misses, 1);
            self.failed_read(&error);
        }
        error
    }

    /// Counts a change and begins to time it, if it is one of those: sets and additions are.
    #[inline]
    pub(crate) fn begin_change(&self, hot: Hot) -> Begun<'_> {
        let is_timed = matches!(hot, Hot::Sets | Hot::Adds);
        Begun::count(self.lane(), hot, if is_timed { SETS_A_SAMPLE } else { 1 })
    }

    /// Its good end: what became of keys by it.
    #[inline]
    pub(crate) fn end_change(&self, begun: &Begun<'_>, sorts: &Sorts) {
        if begun.at != 0 {
            self.time(member::SET_TIMES, begun.at);
        }
        if let Some(lane) = begun.lane {
            let hot = [(Hot::Created, sorts.created), (Hot::Updated, sorts.updated)];
            for (hot, many) in hot.into_iter().filter(|(_, many)| *many > 0) {
                lane.add(hot, many.into());
            }
        }
        if sorts.deleted | sorts.expired != 0 {
            self.count_many(Counter::Deleted, sorts.deleted.into());
            self.count_many(Counter::Expired, sorts.expired.into());
        }
    }

    #[cold]
    fn time(&self, times: u64, begun: u64) {
        let took = clock::monotonic_ns().saturating_sub(begun);
        let Some(words) = self.tally() else { return };
        let _timed = words
            .part(
                ((times - member::LANES) / 8) as usize,
                (member::SET_TIMES - member::GET_TIMES) as usize,
            )
            .and_then(|times| sample(&times, took));
    }

    /// All that this handle counts by.
    pub(crate) fn tally(&self) -> Option<Words<'_>> {
        match &self.counting {
            Counting::Own(own) => Some(Words::local(&own.words)),
            _ => self.core.tally_of(u64::from(self.seat()?.slot)).ok(),
        }
    }

    /// Counts one of this handle.
    #[inline]
    pub(crate) fn count(&self, counter: Counter) {
        self.count_many(counter, 1);
    }

    /// Counts so many of this handle.
    pub(crate) fn count_many(&self, counter: Counter, many: u64) {
        if many == 0 {
            return;
        }
        let index = ((member::COUNTERS - member::LANES) / 8) as usize + counter as usize;
        let Some(words) = self.tally() else { return };
        let _counted = words.add(index, many, Relaxed);
    }

    /// Counts a read that failed.
    #[cold]
    pub(crate) fn failed_read(&self, _: &ReadError) {
        self.count(Counter::ReadErrors);
    }

    /// Counts a write that failed; a condition that did not hold is no error.
    #[cold]
    pub(crate) fn failed_write(&self, error: &WriteError) {
        match error {
            WriteError::Conflict { .. } | WriteError::LockLost { .. } => {
                return self.count(Counter::Conflicts);
            }
            WriteError::Full { .. } => self.count(Counter::Full),
            WriteError::Stalled { .. } => self.count(Counter::Stalled),
            _ => {}
        }
        self.count(Counter::WriteErrors);
    }

    /// The sums over the slots below `high`.
    pub(crate) fn sums(&self, high: u64) -> Result<Sums, BadRegion> {
        let mut sums = Sums::default();
        for slot in 0..high {
            sums.add(&self.core.tally_of(slot)?)?;
        }
        Ok(sums)
    }
}

impl From<&Sums> for Operations {
    fn from(sums: &Sums) -> Self {
        Self {
            gets: sums.hot(Hot::Gets),
            sets: sums.hot(Hot::Sets),
            deletes: sums.hot(Hot::Deletes),
            adds: sums.hot(Hot::Adds),
            commits: sums.hot(Hot::Commits),
            changes: sums.of(Counter::Changes),
            conflicts: sums.of(Counter::Conflicts),
            messages: sums.of(Counter::Messages),
            burials: sums.of(Counter::Burials),
            snapshots: sums.of(Counter::Snapshots),
            snapshot_failures: sums.of(Counter::SnapshotErrors),
        }
    }
}
