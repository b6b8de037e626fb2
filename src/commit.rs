//! The one commit point of the bus: the commit record, FINISH, and the head.
//!
//! 1. The record is complete before `READY` is stored, and that store is the commit.
//! 2. FINISH makes absolute stores only, each computed from the record: whoever runs it again,
//!    from the start, after any prefix of it, gets the same bytes.
//! 3. A change becomes visible with the store of the head, or of `CLEARED_AT` for a clear.
//! 4. Only the holder of the commit lock stores any of these words.
//!
//! A death before `READY` leaves a record that nobody reads; after it, whoever takes the commit
//! lock over runs FINISH first.

use crate::heap::Space;
use crate::region::BadRegion;
use crate::region::layout::{CHANGE_SIZE, INLINE_CHANGES, entry, header};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::word::offset_of;

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
    fn change_at(&self, list: u64, index: u64) -> u64 {
        let base = if list == 0 { header::INLINE } else { list };
        base + index * CHANGE_SIZE
    }

    /// Stores the record of the commit that ends with revision `last`; `list` is where its changes
    /// go when they are too many for the record itself. The last store is the commit.
    pub(crate) fn commit_record(
        &self,
        changes: &[Stored],
        list: u64,
        last: u64,
        tail: u64,
        cleared: u64,
    ) -> Result<(), BadRegion> {
        for (index, change) in changes.iter().enumerate() {
            let at = self.change_at(list, index as u64);
            self.region.store(at, change.slot, Relaxed)?;
            self.region.store(at + 8, change.new, Relaxed)?;
            self.region.store(at + 16, change.old, Relaxed)?;
        }
        self.region.store(header::COUNT, changes.len() as u64, Relaxed)?;
        self.region.store(header::TAIL, tail, Relaxed)?;
        self.region.store(header::CLEARED, cleared, Relaxed)?;
        self.region.store(header::LIST, list, Relaxed)?;
        // ORDERING: [commit.ready] Release; pairs with the Acquire load in `finish`.
        self.region.store(header::READY, last, Release)
    }

    /// FINISH: carries the committed record out. Nothing to do is nothing done.
    pub(crate) fn finish(&self) -> Result<(), BadRegion> {
        // ORDERING: [commit.ready] Acquire; pairs with the Release store in `commit_record`.
        let last = self.region.load(header::READY, Acquire)?;
        if last == 0 {
            return Ok(());
        }
        let count = self.region.load(header::COUNT, Relaxed)?;
        let list = self.region.load(header::LIST, Relaxed)?;
        if count > last || (list == 0 && count > INLINE_CHANGES) {
            let expected = "a count of changes";
            return Err(BadRegion { offset: header::COUNT, found: count, expected });
        }
        for index in 0..count {
            self.finish_change(list, index, last - count + 1 + index)?;
        }
        let cleared = self.region.load(header::CLEARED, Relaxed)?;
        if cleared != 0 {
            // ORDERING: [cleared] Release; pairs with the Acquire loads of readers.
            self.region.store(header::CLEARED_AT, cleared, Release)?;
        }
        let tail = self.region.load(header::TAIL, Relaxed)?;
        self.region.store(header::LOG_TAIL, tail, Relaxed)?;
        // ORDERING: [head] Release; pairs with the Acquire loads of readers and watches.
        self.region.store(header::HEAD, last, Release)?;
        for index in 0..count {
            let at = self.change_at(list, index);
            let slot = self.region.load(at, Relaxed)?;
            if slot != 0 {
                let new = self.region.load(at + 8, Relaxed)?;
                // ORDERING: [slot] Release; pairs with the Acquire loads of readers.
                self.region.store(slot, new, Release)?;
            }
        }
        self.region.store(header::READY, 0, Release)
    }

    fn finish_change(&self, list: u64, index: u64, revision: u64) -> Result<(), BadRegion> {
        let at = self.change_at(list, index);
        let slot = self.region.load(at, Relaxed)?;
        let new = self.region.load(at + 8, Relaxed)?;
        let old = self.region.load(at + 16, Relaxed)?;
        if new != 0 {
            // ORDERING: [entry.born] Release; pairs with the Acquire loads of readers.
            self.region.store(offset_of(new) + entry::BORN, revision, Release)?;
        }
        if old != 0 {
            // ORDERING: [entry.died] Release; pairs with the Acquire loads of readers.
            self.region.store(offset_of(old) + entry::DIED, revision, Release)?;
        }
        if slot != 0 && new != 0 {
            // ORDERING: [slot] Release; pairs with the Acquire loads of readers.
            self.region.store(slot, new, Release)?;
        }
        Ok(())
    }
}
