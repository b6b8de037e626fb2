//! Watch slots, the bits that say who sleeps, and ringing.
//!
//! 1. A watch's filter stands before its bit is set and does not change while it is in use.
//! 2. The bit is the level, the socket its edge: who clears a bit that was set sends one message.
//! 3. A watch sets its bit, fences, looks at the head again, and only then blocks.
//! 4. A watch's bit stands in the bitmap of its group, and by how many bytes it is grouped is noted in
//!    the header before it: so a writer looks into the groups that its key may concern, and nowhere else.
//!
//! The group of a filter is a hash of its sort and of its first bytes: of all of them, as long as its sort
//! has few lengths, else of as many as the nearest shorter one has. A key has one group for each length
//! that is in use; a thousand watches of other keys cost its writer little more than one.
//!
//! A writer may die between clearing and sending: therefore a burial rings every watch
//! (`docs/design.md`, Watching; model E).

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

/// A watch as others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watching {
    /// Its member, as in entries.
    pub(crate) owner: u64,
    pub(crate) sort: u64,
    /// Up to which revision it has told or passed by, if it reads the log.
    pub(crate) passed: Option<u64>,
    pub(crate) is_asleep: bool,
}

/// Bytes of a filter by which it is grouped, at the most: each length has a bit in a word.
const GROUPED_MAX: usize = 63;
/// Lengths by which the filters of a sort are grouped; of those that register at a time, some more.
/// A writer makes a hash for each, and they are never given back: a death could take one from others.
const LENGTHS_MAX: u32 = 8;

/// The word with a bit for each length by which filters of this sort were ever grouped.
fn lengths_at(sort: Sort) -> u64 {
    header::BELL_LENGTHS + 8 * sort as u64
}

/// By how many of its bytes a filter of `len` is grouped, where the others of its sort have `lengths`.
fn grouped_by(lengths: u64, len: usize) -> usize {
    let len = len.min(GROUPED_MAX);
    if lengths >> len & 1 != 0 || lengths.count_ones() < LENGTHS_MAX {
        return len;
    }
    (lengths & ((1 << len) - 1)).checked_ilog2().unwrap_or(0) as usize
}

/// The group of filters that begin with these bytes.
#[inline]
pub(crate) fn group_of(sort: Sort, bytes: &[u8]) -> u64 {
    let seed = sort as u64;
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed) % WATCH_GROUPS
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
            let lengths = self.region.load(lengths_at(sort), Relaxed)?;
            let grouped = grouped_by(lengths, known.len());
            let group = group_of(sort, known.get(..grouped).unwrap_or(known));
            self.region.store(at + watch::NONCE, nonce, Relaxed)?;
            self.region.store(at + watch::FILTER, filter, Relaxed)?;
            self.region.store(at + watch::GROUP, group, Relaxed)?;
            self.region.store(at + watch::PASSED, 0, Relaxed)?;
            if !known.is_empty() {
                self.region.write(at + watch::PREFIX, known)?;
            }
            if lengths >> grouped & 1 == 0 {
                self.region.set_bits(lengths_at(sort), 1 << grouped, AcqRel)?;
            }
            // ORDERING: [watch.filter] SeqCst fence: the filter comes before any bit; pairs with
            // the Acquire load of the bits in `rouse`. So does the bit's own AcqRel. And the length
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
        // ORDERING: [asleep] SeqCst fence: the head comes before the look at the lengths and bits; pairs
        // with the SeqCst fences in `falls_asleep` and `watch_take`.
        fence(SeqCst);
        for filters in [sort, Sort::All] {
            let mut lengths = self.region.load(lengths_at(filters), Relaxed)?;
            if lengths == 0 {
                continue;
            }
            let Some(known) = key else {
                return self.rouse_all(sort, ring);
            };
            while lengths != 0 {
                let grouped = lengths.trailing_zeros() as usize;
                lengths &= lengths - 1;
                if let Some(bytes) = known.get(..grouped) {
                    self.rouse(group_of(filters, bytes), sort, known, ring)?;
                }
            }
        }
        Ok(())
    }

    /// Wakes the sleepers of a sort, whatever their filters.
    fn rouse_all(&self, sort: Sort, ring: &dyn Fn(BellName)) -> Result<(), BadRegion> {
        for index in 0..self.watches()? {
            // A filter or a group that is not seen yet belongs to a watch that sees the head.
            if self.watch_matches(index, sort, None)? && self.wakes(index)? {
                self.send(index, ring)?;
            }
        }
        Ok(())
    }

    /// Wakes the sleepers of one group that are concerned.
    fn rouse(
        &self,
        group: u64,
        sort: Sort,
        key: &[u8],
        ring: &dyn Fn(BellName),
    ) -> Result<(), BadRegion> {
        let words = self.watches()?.div_ceil(64);
        let row = self.region.words(self.geometry.asleep(group, 0), 8 * words)?;
        for word in 0..row.len() {
            // ORDERING: [watch.filter] Acquire; pairs with the SeqCst fence in `watch_take`. `wakes`
            // acquires it before the door's name is read; a filter that is not seen yet belongs to
            // a watch that sees the head.
            let mut bits = row.load(word, Acquire)?;
            while bits != 0 {
                let index = 64 * word as u64 + u64::from(bits.trailing_zeros());
                bits &= bits - 1;
                if self.watch_matches(index, sort, Some(key))? && self.wakes(index)? {
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

    /// Notes up to which revision a watch has told or passed by: for people, who see how far behind it is.
    #[inline]
    pub(crate) fn watch_passes(&self, index: u64, revision: u64) -> Result<(), BadRegion> {
        // One more: 0 stands for who reads no log.
        let at = self.geometry.watch(index) + watch::PASSED;
        self.region.store(at, revision.saturating_add(1), Relaxed)
    }

    /// A watch slot as it is seen from outside: nothing when it is free.
    pub(crate) fn watch_seen(&self, index: u64) -> Result<Option<Watching>, BadRegion> {
        let at = self.geometry.watch(index);
        let owner = self.region.load(at + watch::STATE, Acquire)?;
        if owner == 0 {
            return Ok(None);
        }
        let bit = 1 << (index % 64);
        Ok(Some(Watching {
            owner,
            sort: self.region.load(at + watch::FILTER, Relaxed)? >> 32,
            passed: self.region.load(at + watch::PASSED, Relaxed)?.checked_sub(1),
            is_asleep: self.region.load(self.asleep_at(index)?, Relaxed)? & bit != 0,
        }))
    }

    /// All that are registered.
    pub(crate) fn all_watching(&self) -> Result<Vec<Watching>, BadRegion> {
        let seen = (0..self.watches()?).map(|index| self.watch_seen(index));
        seen.filter_map(Result::transpose).collect()
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::bus::testing::Place;
    use std::cell::RefCell;

    /// Promise (watching): whatever the lengths of filters, in whatever order they came, a change rings
    /// every sleeping watch whose filter its key begins with, and no other.
    /// Plants: no note of a length after the eighth; the longest length of all instead of the nearest
    /// shorter one; a prefix that is not compared.
    #[test]
    fn every_filter_is_rung_for_its_keys() {
        let place = Place::new();
        let bus = place.make();
        let core = &bus.inner.core;
        let long: Vec<u8> = (0..100).collect();
        let other: Vec<u8> =
            (0..100).map(|byte| if byte < 30 { byte } else { 200 - byte }).collect();
        for stride in [1, 7, 31, 59] {
            let filters: Vec<_> = (0..83)
                .map(|turn| (turn * stride + 40) % 83)
                .flat_map(|len| [&long[..len], &other[..len]])
                .collect();
            let owner = bus.inner.seat().unwrap().owner();
            let taken = |filter: &&[u8]| core.watch_take(owner, 1, (Sort::Keys, *filter)).unwrap();
            let indices: Vec<_> = filters.iter().map(|filter| taken(filter).unwrap()).collect();
            for key in [&long[..], &other, &long[..1], &long[..20], &other[..64], b"else"] {
                for index in &indices {
                    core.falls_asleep(*index).unwrap();
                }
                let rung = RefCell::new(Vec::new());
                let ring = |name: BellName| rung.borrow_mut().push(name.index);
                core.each_sleeper(Sort::Keys, Some(key), &ring).unwrap();
                let mut rung = rung.take();
                rung.sort_unstable();
                let concerned = |(_, filter): &(&u64, &&[u8])| key.starts_with(filter);
                let due = indices.iter().zip(&filters).filter(concerned);
                let mut due: Vec<_> = due.map(|(index, _)| *index).collect();
                due.sort_unstable();
                assert_eq!(rung, due, "stride {stride}, key of {}", key.len());
            }
            for index in indices {
                core.watch_give(index).unwrap();
            }
        }
    }

    /// Promise (watching): a clear rings every sleeping watch of its sort, and no other.
    /// Plant: sorts that are not compared.
    #[test]
    fn a_clear_rings_its_sort() {
        let place = Place::new();
        let bus = place.make();
        let core = &bus.inner.core;
        let owner = bus.inner.seat().unwrap().owner();
        let watches = [Sort::Keys, Sort::Locks, Sort::All, Sort::Keys, Sort::Topics];
        let taken = |sort: &Sort| core.watch_take(owner, 1, (*sort, b"some/")).unwrap().unwrap();
        let indices: Vec<_> = watches.iter().map(taken).collect();
        // One does not sleep.
        indices[..4].iter().for_each(|index| core.falls_asleep(*index).unwrap());
        let rung = RefCell::new(Vec::new());
        let ring = |name: BellName| rung.borrow_mut().push(name.index);
        core.each_sleeper(Sort::Keys, None, &ring).unwrap();
        core.each_sleeper(Sort::Keys, None, &ring).unwrap();
        core.each_sleeper(Sort::Topics, None, &ring).unwrap();
        assert_eq!(rung.take(), [indices[0], indices[2], indices[3]]);
    }

    /// A writer makes a hash for each length that is noted. Plant: no bound.
    #[test]
    fn few_lengths_are_noted() {
        let mut lengths = 0;
        for turn in 0..1000 {
            lengths |= 1 << grouped_by(lengths, turn * 37 % 90);
        }
        assert!(lengths.count_ones() <= LENGTHS_MAX + 1, "{lengths:#x}");
        assert_eq!(grouped_by(lengths, 0), 0);
    }
}
