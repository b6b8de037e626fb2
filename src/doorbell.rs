//! Watch slots, the bits that say who sleeps, and ringing.
//!
//! 1. A watch's filter stands before its bit is set and does not change while it is in use.
//! 2. The bit is the level, the socket its edge: who clears a bit that was set sends one message.
//! 3. A watch sets its bit, fences, looks at the head again, and only then blocks.
//! 4. A watch's bit stands in the bitmap of its group, and its sort of filter is noted in the header
//!    before it: so a writer looks into the groups that its key may concern, and nowhere else.
//!
//! The group of a filter is a hash of its sort and of its first bytes, as many as its class says: the
//! longest of [`CLASSES`] that it reaches. A key has one group for each class that is in use; a thousand
//! watches of other keys cost its writer no more than one.
//!
//! A writer may die between clearing and sending: therefore a burial rings every watch
//! (`docs/design.md`, WATCH; model E).

use crate::heap::Space;
use crate::region::BadRegion;
use crate::region::layout::{WATCH_GROUPS, WATCH_PREFIX_MAX, header, watch};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::sync::fence;
use crate::sys::socket::BellName;
use crate::word::Realm;

/// What a watch is rung for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Sort {
    /// Changes of keys.
    Keys = 0,
    /// Changes of locks.
    Locks = 1,
    /// Messages, by topic.
    Topics = 2,
    /// Members that come and go.
    Members = 3,
    /// All of these.
    All = 7,
}

impl Sort {
    /// What a change of a key in this realm rings for.
    pub(crate) fn of(realm: Realm) -> Self {
        match realm {
            Realm::Keys => Self::Keys,
            Realm::Locks => Self::Locks,
        }
    }
}

/// Bytes of a filter by which it is grouped.
const CLASSES: [usize; 8] = [0, 1, 2, 4, 8, 16, 32, 64];

/// The class of a filter: the longest that it reaches.
pub(crate) fn class_of(prefix: &[u8]) -> usize {
    CLASSES.partition_point(|len| *len <= prefix.len()) - 1
}

/// The bit of a sort and class in the word of those that were ever used.
fn sort_bit(sort: Sort, class: usize) -> u64 {
    1 << (8 * sort as u64 + class as u64)
}

/// The group of filters that begin like `bytes`; `None` when these are too few for the class.
#[inline]
pub(crate) fn group_of(sort: Sort, class: usize, bytes: &[u8]) -> Option<u64> {
    let bytes = bytes.get(..*CLASSES.get(class)?)?;
    let seed = 8 * sort as u64 + class as u64;
    Some(xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed) % WATCH_GROUPS)
}

impl Space {
    fn watches(&self) -> Result<u64, BadRegion> {
        Ok(self.region.load(header::WATCHES_HIGH, Acquire)?.min(self.geometry.watches_max))
    }

    /// Takes a free watch slot for `owner` and stores its filter: `None` when all are taken.
    pub(crate) fn watch_take(
        &self,
        owner: u64,
        nonce: u64,
        (sort, prefix): (Sort, &[u8]),
    ) -> Result<Option<u64>, BadRegion> {
        let known = prefix.get(..WATCH_PREFIX_MAX as usize).unwrap_or(prefix);
        let class = class_of(known);
        let group = group_of(sort, class, known).unwrap_or_default();
        for index in 0..self.geometry.watches_max {
            let at = self.geometry.watch(index);
            if self.region.load(at + watch::STATE, Relaxed)? != 0 {
                continue;
            }
            self.reach_watch(index)?;
            if self.region.exchange(at + watch::STATE, 0, owner, AcqRel)?.is_err() {
                continue;
            }
            let filter = known.len() as u64 | (sort as u64) << 32;
            self.region.store(at + watch::NONCE, nonce, Relaxed)?;
            self.region.store(at + watch::FILTER, filter, Relaxed)?;
            self.region.store(at + watch::GROUP, group, Relaxed)?;
            if !known.is_empty() {
                self.region.write(at + watch::PREFIX, known)?;
            }
            if self.region.load(header::BELL_SORTS, Relaxed)? & sort_bit(sort, class) == 0 {
                self.region.set_bits(header::BELL_SORTS, sort_bit(sort, class), AcqRel)?;
            }
            // ORDERING: [watch.filter] SeqCst fence: the filter comes before any bit; pairs with
            // the Acquire load of the bits in `rouse`. So does the bit's own AcqRel. And the sort
            // comes before the look at the head; pairs with the SeqCst fence in `each_sleeper`.
            fence(SeqCst);
            return Ok(Some(index));
        }
        Ok(None)
    }

    /// Lets whoever looks at the watches look at this one too. Before it is taken: a death between leaves
    /// a slot that is looked at in vain, and never one that no burial finds.
    fn reach_watch(&self, index: u64) -> Result<(), BadRegion> {
        let mut high = self.region.load(header::WATCHES_HIGH, Acquire)?;
        while high <= index {
            match self.region.exchange(header::WATCHES_HIGH, high, index + 1, AcqRel)? {
                Ok(_) => break,
                Err(now) => high = now,
            }
        }
        Ok(())
    }

    /// Gives a watch slot back.
    pub(crate) fn watch_give(&self, index: u64) -> Result<(), BadRegion> {
        self.wakes(index)?;
        self.region.store(self.geometry.watch(index) + watch::STATE, 0, Release)
    }

    /// Says that a watch is about to block. The caller looks at the head again after it.
    pub(crate) fn falls_asleep(&self, index: u64) -> Result<(), BadRegion> {
        let at = self.asleep_at(index)?;
        self.region.set_bits(at, 1 << (index % 64), AcqRel)?;
        // ORDERING: [asleep] SeqCst fence: the bit comes before the look at the head; pairs with
        // the SeqCst fence in `each_sleeper`.
        fence(SeqCst);
        Ok(())
    }

    /// Clears a watch's bit: whether it was set.
    pub(crate) fn wakes(&self, index: u64) -> Result<bool, BadRegion> {
        let bit = 1 << (index % 64);
        let at = self.asleep_at(index)?;
        if self.region.load(at, Relaxed)? & bit == 0 {
            return Ok(false);
        }
        Ok(self.region.clear_bits(at, bit, AcqRel)? & bit != 0)
    }

    /// Where the bit of a watch stands.
    pub(crate) fn asleep_at(&self, index: u64) -> Result<u64, BadRegion> {
        let group = self.region.load(self.geometry.watch(index) + watch::GROUP, Relaxed)?;
        Ok(self.geometry.asleep(group, index))
    }

    /// Whether the filter of a watch lets a key pass, as far as writers compare it; `None` is any key.
    fn watch_matches(&self, index: u64, sort: Sort, key: Option<&[u8]>) -> Result<bool, BadRegion> {
        let at = self.geometry.watch(index);
        let filter = self.region.load(at + watch::FILTER, Relaxed)?;
        let sorts = [sort as u64, Sort::All as u64];
        let len = (filter & 0xffff_ffff).min(WATCH_PREFIX_MAX) as usize;
        if !sorts.contains(&(filter >> 32)) {
            return Ok(false);
        }
        let Some(key) = key else { return Ok(true) };
        Ok(key.len() >= len && self.region.equals(at + watch::PREFIX, &key[..len])?)
    }

    /// After a commit: wakes each sleeping watch that a change of `key` concerns, by `ring` with its
    /// socket's name; `None` concerns all of the sort.
    #[inline]
    pub(crate) fn each_sleeper(
        &self,
        sort: Sort,
        key: Option<&[u8]>,
        ring: &dyn Fn(BellName),
    ) -> Result<(), BadRegion> {
        // ORDERING: [asleep] SeqCst fence: the head comes before the look at the sorts and bits; pairs
        // with the SeqCst fences in `falls_asleep` and `watch_take`.
        fence(SeqCst);
        let sorts = self.region.load(header::BELL_SORTS, Relaxed)?;
        let all = sort_bit(Sort::All, 0);
        let mut classes = sorts >> (8 * sort as u64) & 0xff;
        if classes == 0 && sorts & all == 0 {
            return Ok(());
        }
        let Some(known) = key else {
            return (0..WATCH_GROUPS).try_for_each(|group| self.rouse(group, sort, None, ring));
        };
        while classes != 0 {
            let class = classes.trailing_zeros() as usize;
            classes &= classes - 1;
            if let Some(group) = group_of(sort, class, known) {
                self.rouse(group, sort, key, ring)?;
            }
        }
        match group_of(Sort::All, 0, known) {
            Some(group) if sorts & all != 0 => self.rouse(group, sort, key, ring),
            _ => Ok(()),
        }
    }

    /// Wakes the sleepers of one group that are concerned.
    fn rouse(
        &self,
        group: u64,
        sort: Sort,
        key: Option<&[u8]>,
        ring: &dyn Fn(BellName),
    ) -> Result<(), BadRegion> {
        for first in (0..self.watches()?).step_by(64) {
            // ORDERING: [watch.filter] Acquire; pairs with the SeqCst fence in `watch_take`. `wakes`
            // acquires it before the door's name is read; a filter that is not seen yet belongs to
            // a watch that sees the head.
            let mut bits = self.region.load(self.geometry.asleep(group, first), Acquire)?;
            while bits != 0 {
                let index = first + u64::from(bits.trailing_zeros());
                bits &= bits - 1;
                if self.watch_matches(index, sort, key)? && self.wakes(index)? {
                    self.send(index, ring)?;
                }
            }
        }
        Ok(())
    }

    fn send(&self, index: u64, ring: &dyn Fn(BellName)) -> Result<(), BadRegion> {
        let nonce = self.region.load(self.geometry.watch(index) + watch::NONCE, Acquire)?;
        ring(BellName { index, nonce });
        Ok(())
    }

    /// Rings every watch, whether its bit is set or not: what a burial does.
    pub(crate) fn ring_all(&self, ring: &dyn Fn(BellName)) -> Result<(), BadRegion> {
        for index in 0..self.watches()? {
            if self.region.load(self.geometry.watch(index) + watch::STATE, Acquire)? != 0 {
                self.wakes(index)?;
                self.send(index, ring)?;
            }
        }
        Ok(())
    }

    /// Gives back the watches of a dead owner; `ring` names their sockets, to be removed.
    pub(crate) fn watches_of(
        &self,
        owner: u64,
        gone: &mut dyn FnMut(BellName),
    ) -> Result<(), BadRegion> {
        for index in 0..self.watches()? {
            let at = self.geometry.watch(index);
            if self.region.load(at + watch::STATE, Acquire)? == owner {
                let nonce = self.region.load(at + watch::NONCE, Acquire)?;
                gone(BellName { index, nonce });
                self.watch_give(index)?;
            }
        }
        Ok(())
    }

    /// Watches that are registered.
    pub(crate) fn watch_count(&self) -> Result<u64, BadRegion> {
        let mut count = 0;
        for index in 0..self.watches()? {
            let state = self.region.load(self.geometry.watch(index) + watch::STATE, Acquire)?;
            count += u64::from(state != 0);
        }
        Ok(count)
    }
}
