//! The one commit point of the bus: the commit record, FINISH, and the head.
//!
//! 1. The record is complete before `READY` is stored, and that store is the commit.
//! 2. FINISH makes absolute stores only, each computed from the record: whoever runs it again,
//!    from the start, after any prefix of it, gets the same bytes.
//! 3. A change becomes visible with the store of the head; a clear with that of `CLEARED_AT`, which
//!    counts as the head until the head follows. Changes of a commit that clears have one revision, the
//!    floor, and become visible with it.
//! 4. Only the holder of the commit lock stores any of these words.
//!
//! A death before `READY` leaves a record that nobody reads; after it, whoever takes the commit
//! lock over runs FINISH first.

use crate::heap::class::LIST;
use crate::heap::{Space, State};
use crate::region::BadRegion;
use crate::region::layout::{CHANGE_SIZE, INLINE_CHANGES, entry, header};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::word::offset_of;

/// Changes ahead of the one that is stored, of which the processor is told.
const CHANGES_AHEAD: u64 = 8;

/// One change of a table: what FINISH stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stored {
    /// Where the slot word stands; 0: no slot word changes.
    pub(crate) slot: u64,
    /// Slot word of the new entry, or 0.
    pub(crate) new: u64,
    /// Slot word of the entry that dies, or 0.
    pub(crate) old: u64,
}

impl Space {
    #[inline]
    fn change_at(&self, list: u64, index: u64) -> u64 {
        let base = if list == 0 { header::INLINE } else { list };
        base + index * CHANGE_SIZE
    }

    /// Stores the record of the commit that ends with revision `last`; `list` is where its changes
    /// go when they are too many for the record itself. The last store is the commit.
    #[inline]
    pub(crate) fn commit_record(
        &self,
        changes: impl Iterator<Item = Stored>,
        list: u64,
        last: u64,
        tail: u64,
        cleared: u64,
    ) -> Result<(), BadRegion> {
        let mut count = 0;
        for change in changes {
            let words = self.region.words(self.change_at(list, count), CHANGE_SIZE)?;
            words.store(0, change.slot, Relaxed)?;
            words.store(1, change.new, Relaxed)?;
            words.store(2, change.old, Relaxed)?;
            count += 1;
        }
        self.region.store(header::COUNT, count, Relaxed)?;
        self.region.store(header::TAIL, tail, Relaxed)?;
        self.region.store(header::CLEARED, cleared, Relaxed)?;
        self.region.store(header::LIST, list, Relaxed)?;
        // ORDERING: [commit.ready] Release; pairs with the Acquire load in `finish`. For the order
        // of a death alone: who reads it has the lock.
        self.region.store(header::READY, last, Release)
    }

    /// Changes that the list at `list` can hold.
    pub(crate) fn list_room(&self, list: u64) -> Result<u64, BadRegion> {
        if list == 0 {
            return Ok(INLINE_CHANGES);
        }
        let block = self.geometry.block_of(list)?;
        let word = self.block_word(block)?;
        if word.state() != State::Head || word.class() != LIST {
            let expected = "the list of a batch";
            return Err(BadRegion::new(list, word.0, expected));
        }
        let end =
            self.geometry.block(block) + (self.span_blocks(block)? << self.geometry.block_shift);
        Ok(end.saturating_sub(list) / CHANGE_SIZE)
    }

    /// FINISH: carries the committed record out. Nothing to do is nothing done.
    #[inline]
    pub(crate) fn finish(&self) -> Result<(), BadRegion> {
        // ORDERING: [commit.ready] Acquire; pairs with the Release store in `commit_record`. Relaxed
        // would do: the lock carries it, or the kernel's proof of a death.
        let last = self.region.load_count(header::READY, Acquire)?;
        if last == 0 {
            return Ok(());
        }
        let count = self.region.load(header::COUNT, Relaxed)?;
        let list = self.region.load(header::LIST, Relaxed)?;
        let cleared = self.region.load_count(header::CLEARED, Relaxed)?;
        // What comes in the place of what is cleared has one revision.
        let revisions = if cleared == 0 { count } else { 1 };
        if revisions > last || count > self.list_room(list)? {
            let expected = "a count of changes";
            return Err(BadRegion::new(header::COUNT, count, expected));
        }
        for index in 0..count {
            self.prefetch_change(list, index + CHANGES_AHEAD, count);
            let revision = if cleared == 0 { last - count + 1 + index } else { last };
            self.finish_change(list, index, revision)?;
        }
        let tail = self.region.load_count(header::TAIL, Relaxed)?;
        self.region.store(header::LOG_TAIL, tail, Relaxed)?;
        if cleared != 0 {
            // ORDERING: [cleared] Release; pairs with the Acquire loads of readers and watches.
            self.region.store(header::CLEARED_AT, cleared, Release)?;
        }
        // ORDERING: [head] Release; pairs with the Acquire loads of readers and watches.
        self.region.store(header::HEAD, last, Release)?;
        // Only now: a slot that were empty before the head would show half of a batch.
        for index in 0..count {
            let change = self.region.words(self.change_at(list, index), CHANGE_SIZE)?;
            let (slot, new) = (change.load(0, Relaxed)?, change.load(1, Relaxed)?);
            if slot != 0 && new == 0 {
                // ORDERING: [slot] Release; pairs with the Acquire loads of readers.
                self.region.store(slot, 0, Release)?;
            }
        }
        self.region.store(header::READY, 0, Release)
    }

    /// The newest visible revision: a clear is visible before the head has followed it.
    #[inline]
    pub(crate) fn visible_head(&self) -> Result<u64, BadRegion> {
        // ORDERING: [head] Acquire; pairs with the Release store in `finish`.
        let head = self.region.load_count(header::HEAD, Acquire)?;
        // ORDERING: [cleared] Acquire; pairs with the Release store in `finish`.
        Ok(head.max(self.region.load_count(header::CLEARED_AT, Acquire)?))
    }

    /// Asks for what a change will be stored to, if it is one of so many.
    #[inline]
    fn prefetch_change(&self, list: u64, index: u64, count: u64) {
        if cfg!(loom) || index >= count {
            return;
        }
        let Ok(change) = self.region.words(self.change_at(list, index), CHANGE_SIZE) else {
            return;
        };
        for word in 0..3 {
            if let Ok(word) = change.load(word, Relaxed) {
                self.region.prefetch(offset_of(word));
            }
        }
    }

    #[inline]
    fn finish_change(&self, list: u64, index: u64, revision: u64) -> Result<(), BadRegion> {
        let change = self.region.words(self.change_at(list, index), CHANGE_SIZE)?;
        let (slot, new, old) =
            (change.load(0, Relaxed)?, change.load(1, Relaxed)?, change.load(2, Relaxed)?);
        if new != 0 {
            // ORDERING: [entry.born] Release; pairs with the Acquire loads of readers.
            self.region.store(offset_of(new) + entry::BORN, revision, Release)?;
        }
        if old != 0 {
            // ORDERING: [entry.died] Release; pairs with the Acquire loads of readers. For the order
            // of a death alone: the head carries it to readers.
            self.region.store(offset_of(old) + entry::DIED, revision, Release)?;
        }
        if slot != 0 && new != 0 {
            // ORDERING: [slot] Release; pairs with the Acquire loads of readers.
            self.region.store(slot, new, Release)?;
        }
        Ok(())
    }
}
