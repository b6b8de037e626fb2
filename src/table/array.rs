//! Arrays of buckets: making, searching and doubling them, under the stripe's lock.

use crate::heap::class::ARRAY;
use crate::heap::{HeapError, Space, State};
use crate::region::layout::{BUCKET_SLOTS, CHAIN_MAX, LINE, array, stripe};
use crate::region::{BadRegion, Words};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::fence;
use crate::word::{ArrayWord, Hash, Name, offset_of, tag_matches};

/// Where a bucket's link stands, behind its slot words.
const LINK: usize = BUCKET_SLOTS as usize;

/// Entries per bucket from which on an array is doubled.
pub(crate) const LOAD_MAX: u64 = 5;

/// Lines of slot words ahead of the one that is walked over, whose entries the processor is told of.
const LINES_AHEAD: u64 = 2;

/// No region has room for as many buckets, as a power of two.
const LOG2_MAX: u64 = 32;

/// How a walk along a chain of buckets ended.
enum Chain<T> {
    Found(T),
    /// At this bucket, which has no link.
    Ended(u64),
    /// After as many buckets as a chain may have.
    Full(u64),
}

impl<T> Chain<T> {
    /// What was found, if anything; a chain that goes on for too long is damage.
    #[inline]
    fn found(self) -> Result<Option<T>, BadRegion> {
        match self {
            Self::Found(found) => Ok(Some(found)),
            Self::Ended(_) => Ok(None),
            Self::Full(bucket) => Err(BadRegion::new(bucket, CHAIN_MAX, "a chain that ends")),
        }
    }
}

/// Where a new entry may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// This slot word is empty.
    Slot(u64),
    /// The array has no bucket left for this chain.
    Double,
}

impl Space {
    /// The word in which a stripe's array word stands.
    #[inline]
    pub(crate) fn lane(&self, stripe: u64) -> Result<Words<'_>, BadRegion> {
        self.region.words(self.geometry.stripe(stripe) + stripe::ARRAY, 8)
    }

    /// The stripe's array word as readers see it.
    #[inline]
    pub(crate) fn array_word(&self, stripe: u64) -> Result<ArrayWord, BadRegion> {
        // ORDERING: [array] Acquire; pairs with the Release store in `publish_array`.
        let word = ArrayWord(self.lane(stripe)?.load(0, Acquire)?);
        if word.log2() > LOG2_MAX {
            let at = self.geometry.stripe(stripe) + stripe::ARRAY;
            return Err(BadRegion::new(at, word.0, "an array of possible size"));
        }
        Ok(word)
    }

    #[inline]
    pub(crate) fn bucket(&self, array: ArrayWord, line: u64) -> u64 {
        array.at() + array::FIRST + line * LINE
    }

    /// Where the link of the bucket in `line` stands.
    pub(crate) fn link_at(&self, array: ArrayWord, line: u64) -> u64 {
        self.bucket(array, line) + 8 * BUCKET_SLOTS
    }
    /// The slot word at `slot`, as readers see it.
    #[inline]
    pub(crate) fn slot(&self, slot: u64) -> Result<u64, BadRegion> {
        // ORDERING: [slot] Acquire; pairs with the Release stores in `finish`.
        self.region.load(slot, Acquire)
    }

    /// The overflow bucket after the one in `line`, if any.
    #[inline]
    fn next_bucket(&self, array: ArrayWord, line: &Words<'_>) -> Result<Option<u64>, BadRegion> {
        // ORDERING: [link] Acquire; pairs with the Release store in `append_bucket`. Relaxed would
        // do, as said there.
        let link = line.load(LINK, Acquire)?;
        if link > self.geometry.max_capacity / LINE {
            return Err(BadRegion::new(line.at(), link, "a line of the array"));
        }
        Ok((link != 0).then(|| self.bucket(array, link)))
    }

    /// Calls `visit` with each bucket of the chain that begins with bucket `first`, until it answers
    /// with something.
    #[inline]
    fn chain<T>(
        &self,
        array: ArrayWord,
        first: u64,
        mut visit: impl FnMut(&Words<'_>) -> Result<Option<T>, BadRegion>,
    ) -> Result<Chain<T>, BadRegion> {
        let mut bucket = self.bucket(array, first);
        for _ in 0..CHAIN_MAX {
            let line = self.region.words(bucket, LINE)?;
            if let Some(found) = visit(&line)? {
                return Ok(Chain::Found(found));
            }
            match self.next_bucket(array, &line)? {
                Some(next) => bucket = next,
                None => return Ok(Chain::Ended(bucket)),
            }
        }
        Ok(Chain::Full(bucket))
    }

    /// Calls `visit` with the slot words of the chain of `hash` that bear its tag, until it
    /// answers with something.
    #[inline]
    pub(crate) fn search<T>(
        &self,
        array: ArrayWord,
        hash: Hash,
        mut visit: impl FnMut(&Words<'_>, usize, u64) -> Result<Option<T>, BadRegion>,
    ) -> Result<Option<T>, BadRegion> {
        let tag = hash.tag();
        let end = self.chain(array, hash.bucket(array.log2()), |line| {
            let mut candidates = 0_u32;
            for index in 0..LINK {
                let word = line.load(index, Relaxed)?;
                candidates |= u32::from(tag_matches(word, tag)) << index;
            }
            while candidates != 0 {
                let index = candidates.trailing_zeros() as usize;
                candidates &= candidates - 1;
                // ORDERING: [slot] Acquire; pairs with the Release stores in `finish`.
                let word = line.load(index, Acquire)?;
                if word != 0
                    && tag_matches(word, tag)
                    && let Some(found) = visit(line, index, word)?
                {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        })?;
        end.found()
    }

    /// Calls `visit` with the slot words of every chain as they stand, empty ones left out: for
    /// who holds no lock.
    pub(crate) fn each_chain_slot(
        &self,
        array: ArrayWord,
        mut visit: impl FnMut(u64) -> Result<(), BadRegion>,
    ) -> Result<(), BadRegion> {
        for first in 0..1u64 << array.log2() {
            let end = self.chain(array, first, |line| {
                for index in 0..LINK {
                    if line.load(index, Relaxed)? != 0 {
                        visit(line.at() + 8 * index as u64)?;
                    }
                }
                Ok(None::<()>)
            })?;
            end.found()?;
        }
        Ok(())
    }

    /// Asks for the bucket in which a hash is looked for.
    #[inline]
    pub(crate) fn prefetch_bucket(&self, array: ArrayWord, hash: Hash) {
        self.region.prefetch(self.bucket(array, hash.bucket(array.log2())));
    }

    /// An empty slot word in the chain of `hash` that is not among `taken`.
    pub(crate) fn room(
        &self,
        array: ArrayWord,
        hash: Hash,
        taken: &dyn Fn(u64) -> bool,
    ) -> Result<Room, BadRegion> {
        let end = self.chain(array, hash.bucket(array.log2()), |line| {
            for index in 0..LINK {
                let at = line.at() + 8 * index as u64;
                if line.load(index, Relaxed)? == 0 && !taken(at) {
                    return Ok(Some(at));
                }
            }
            Ok(None)
        })?;
        Ok(match end {
            Chain::Found(at) => Room::Slot(at),
            // A bucket that was appended is all zeros.
            Chain::Ended(last) => self.append_bucket(array, last)?.map_or(Room::Double, Room::Slot),
            Chain::Full(_) => Room::Double,
        })
    }

    fn append_bucket(&self, array: ArrayWord, bucket: u64) -> Result<Option<u64>, BadRegion> {
        let used = self.region.load(array.at() + array::USED, Relaxed)?;
        let lines = self.region.load(array.at() + array::LINES, Relaxed)?;
        if lines > self.geometry.max_capacity / LINE {
            return Err(BadRegion::new(array.at() + array::LINES, lines, "an array's lines"));
        }
        if used >= lines {
            return Ok(None);
        }
        // Before the link: a death between leaves a line that nobody uses, never one with two links.
        self.region.store(array.at() + array::USED, used + 1, Release)?;
        // ORDERING: [link] Release; pairs with the Acquire load in `next_bucket`. For the order of a
        // death alone: the bucket was zero before its array was published.
        self.region.store(bucket + 8 * BUCKET_SLOTS, used, Release)?;
        Ok(Some(self.bucket(array, used)))
    }

    /// Makes an empty array of `1 << log2` buckets, with a quarter as many for overflow.
    pub(crate) fn make_array(
        &self,
        stripe: u64,
        log2: u64,
        generation: u64,
    ) -> Result<ArrayWord, HeapError> {
        let buckets = 1u64 << log2;
        let bytes = array::FIRST + (buckets + buckets.div_ceil(4)) * LINE;
        let blocks = bytes.div_ceil(self.geometry.block_size());
        let size = blocks << self.geometry.block_shift;
        let first = self.make_span(stripe, ARRAY, (blocks, false), size)?;
        let at = self.geometry.block(first);
        self.region.store(at + array::BUCKETS, buckets, Relaxed)?;
        self.region.store(at + array::LINES, (size - array::FIRST) / LINE, Relaxed)?;
        self.region.store(at + array::USED, buckets, Relaxed)?;
        Ok(ArrayWord::new(at, log2, generation & 0x3ff))
    }

    /// Publishes a stripe's array by one store.
    pub(crate) fn publish_array(&self, stripe: u64, word: ArrayWord) -> Result<(), BadRegion> {
        let at = self.geometry.stripe(stripe) + stripe::ARRAY;
        // ORDERING: [array] Release; pairs with the Acquire load in `array_word`.
        self.region.store(at, word.0, Release)
    }

    /// Buckets (log2) that a stripe's first array has.
    pub(crate) fn first_log2(&self) -> u64 {
        u64::from(self.geometry.block_shift) - 7
    }

    /// Calls `visit` with each slot word of an array that is not empty.
    pub(crate) fn each_slot(
        &self,
        array: ArrayWord,
        mut visit: impl FnMut(u64, u64) -> Result<(), BadRegion>,
    ) -> Result<(), BadRegion> {
        let lines = self.region.load(array.at() + array::USED, Relaxed)?;
        let room = self.region.load(array.at() + array::LINES, Relaxed)?;
        let first = self.geometry.block_of(array.at())?;
        let word = self.block_word(first)?;
        let most = (self.span_blocks(first)? << self.geometry.block_shift) / LINE;
        if lines > room || room > most || word.state() != State::Head || word.class() != ARRAY {
            let offset = array.at() + array::USED;
            return Err(BadRegion::new(offset, lines, "an array's bucket count"));
        }
        for line in 0..lines {
            self.prefetch_entries(array, line + LINES_AHEAD, lines);
            for index in 0..BUCKET_SLOTS {
                let at = self.bucket(array, line) + 8 * index;
                let word = self.slot(at)?;
                if word != 0 {
                    visit(at, word)?;
                }
            }
        }
        Ok(())
    }

    /// Asks for the entries that a line of slot words names, if it is one of so many: of their headers and keys.
    #[inline]
    fn prefetch_entries(&self, array: ArrayWord, line: u64, lines: u64) {
        // Loom would try each value that the words ever had.
        if cfg!(loom) || line >= lines {
            return;
        }
        let Ok(words) = self.region.words(self.bucket(array, line), LINE) else { return };
        for index in 0..LINK {
            if let Ok(word) = words.load(index, Relaxed)
                && word != 0
            {
                self.region.prefetch(offset_of(word));
                self.region.prefetch(offset_of(word) + LINE);
            }
        }
    }

    /// Doubles a stripe's array. The stripe's lock is held. `hash_of` gives an entry's hash.
    pub(crate) fn double(&self, stripe: u64) -> Result<(), HeapError> {
        let old = self.array_word(stripe)?;
        let mut log2 = old.log2() + 1;
        'bigger: loop {
            let new = self.make_array(stripe, log2, old.generation() + 1)?;
            let (mut crowded, mut key) = (false, Vec::new());
            self.each_slot(old, |_, word| {
                if crowded {
                    return Ok(());
                }
                let hash = self.hash_of_entry(offset_of(word), &mut key)?;
                match self.room(new, hash, &|_| false)? {
                    Room::Slot(at) => self.region.store(at, word, Relaxed),
                    Room::Double => {
                        crowded = true;
                        Ok(())
                    }
                }
            })?;
            if crowded {
                self.free_span(self.geometry.block_of(new.at())?)?;
                log2 += 1;
                continue 'bigger;
            }
            self.publish_array(stripe, new)?;
            // ORDERING: [array.reuse] Release fence: the array word comes before new bytes in the
            // old array; pairs with the Acquire fence of readers before they look at it again. A
            // second time: whoever cuts the block anew fences in `make_span`.
            fence(Release);
            self.free_span(self.geometry.block_of(old.at())?)?;
            return Ok(());
        }
    }

    /// The hash of the key of an entry that is named by a slot word, under the stripe's lock. `key` is where the key is
    /// copied to.
    pub(crate) fn hash_of_entry(&self, at: u64, key: &mut Vec<u8>) -> Result<Hash, BadRegion> {
        let entry = self.entry(at)?;
        let header = entry.header()?;
        key.clear();
        entry.copy_key(&header, key)?;
        Ok(Hash::of(Name { realm: header.realm(), bytes: key }, self.geometry.seed))
    }
}

impl Space {
    /// Gives each stripe of a new region its first array.
    pub(crate) fn format_stripes(&self) -> Result<(), HeapError> {
        for index in 0..self.geometry.stripes {
            let array = self.make_array(index, self.first_log2(), 0)?;
            self.publish_array(index, array)?;
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::testing::{bus, small};
    use super::*;

    /// Plant: without the bound on an array's word, doubling shifts by more bits than there are.
    #[test]
    fn an_array_of_impossible_size_is_not_doubled() {
        let (core, _graves) = bus(small(1 << 20));
        let word = core.array_word(1).unwrap();
        let at = core.geometry.stripe(1) + stripe::ARRAY;
        core.region.store(at, word.0 | 63 << 48, Release).unwrap();
        assert!(matches!(core.double(1), Err(HeapError::Bad(bad)) if bad.offset() == at));
    }
}
