//! Retiring entries, and freeing what nobody can be reading any more.
//!
//! FREE of an entry: after a SeqCst fence, not in a hazard slot, and not kept by a running
//! snapshot; then `born` := 0, `died` := 0, occupied := 0, retired := 0, in this order.

use crate::heap::{Place, Space};
use crate::region::BadRegion;
use crate::region::layout::{PINS_MAX, RETIRED_MAX, entry, header, member, stripe};
use crate::sync::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::fence;

/// Entries in a stripe's ring of retired ones from which on a writer frees them.
pub(crate) const FREE_BATCH: u64 = 16;

/// What the running snapshot keeps.
#[derive(Debug, Clone, Copy)]
struct Kept {
    on: bool,
    id: u64,
    revision: u64,
    cleared: u64,
}

impl Space {
    fn ring_slot(&self, stripe: u64, index: u64) -> u64 {
        self.geometry.stripe(stripe) + stripe::RETIRED + 8 * index
    }

    /// Notes in the ring that an entry is retired; a full ring asks for a sweep.
    pub(crate) fn note_retired(&self, stripe: u64, at: u64) -> Result<(), BadRegion> {
        let base = self.geometry.stripe(stripe);
        let count = self.region.load(base + stripe::RETIRED_COUNT, Relaxed)?;
        if count >= RETIRED_MAX {
            return self.region.store(base + stripe::SWEEP_WANTED, 1, Relaxed);
        }
        self.region.store(self.ring_slot(stripe, count), at, Relaxed)?;
        self.region.store(base + stripe::RETIRED_COUNT, count + 1, Relaxed)
    }

    /// Marks an entry retired. The stripe's lock is held.
    pub(crate) fn retire(&self, stripe: u64, at: u64) -> Result<(), BadRegion> {
        let place = self.place(at)?;
        self.mark(&place, true, true)?;
        self.note_retired(stripe, at)
    }

    fn pinned(&self) -> Result<Vec<u64>, BadRegion> {
        let mut pinned = Vec::new();
        let high = self.region.load(header::MEMBERS_HIGH, Acquire)?.min(self.geometry.members_max);
        for slot in 0..high {
            for pin in 0..PINS_MAX {
                let at = self.geometry.member(slot) + member::PINS + 8 * pin;
                // ORDERING: [pin] Acquire; pairs with the Release store that unpins.
                let entry = self.region.load(at, Acquire)?;
                if entry != 0 {
                    pinned.push(entry);
                }
            }
        }
        Ok(pinned)
    }

    fn kept(&self) -> Result<Kept, BadRegion> {
        let word = |at| self.region.load(at, Acquire);
        Ok(Kept {
            on: word(header::SNAP_ON)? != 0,
            id: word(header::SNAP_ID)?,
            revision: word(header::SNAP_REVISION)?,
            cleared: word(header::SNAP_CLEARED)?,
        })
    }

    /// Frees an entry that is retired, or leaves it when somebody may still need it.
    fn free_one(
        &self,
        at: u64,
        place: &Place,
        pinned: &[u64],
        kept: &Kept,
        reading: bool,
    ) -> Result<bool, BadRegion> {
        if pinned.contains(&at) {
            return Ok(false);
        }
        if reading {
            let born = self.region.load(at + entry::BORN, Acquire)?;
            let died = self.region.load(at + entry::DIED, Acquire)?;
            let died = if died == 0 { u64::MAX } else { died };
            if kept.cleared <= born && born <= kept.revision && kept.revision < died {
                return Ok(false);
            }
        }
        // ORDERING: [entry.born] Release; pairs with the Acquire loads of readers.
        self.region.store(at + entry::BORN, 0, Release)?;
        self.region.store(at + entry::DIED, 0, Release)?;
        self.vacate(place, reading)?;
        Ok(true)
    }

    fn reading(&self, stripe: u64, kept: &Kept) -> Result<bool, BadRegion> {
        let done = self.geometry.stripe(stripe) + stripe::SNAP_DONE;
        Ok(kept.on && self.region.load(done, Acquire)? != kept.id)
    }

    /// Frees what the ring of a stripe names. The stripe's lock is held.
    pub(crate) fn free_retired(&self, stripe: u64, at_least: u64) -> Result<(), BadRegion> {
        let counter = self.geometry.stripe(stripe) + stripe::RETIRED_COUNT;
        let count = self.region.load(counter, Relaxed)?.min(RETIRED_MAX);
        if count < at_least.max(1) {
            return Ok(());
        }
        // ORDERING: [pin.scan] SeqCst fence: the slot words left these entries before the hazard
        // slots are read; pairs with the SeqCst fence between a pin and its look at the slot word.
        fence(SeqCst);
        let (pinned, kept) = (self.pinned()?, self.kept()?);
        let reading = self.reading(stripe, &kept)?;
        let mut left = 0;
        for index in 0..count {
            let at = self.region.load(self.ring_slot(stripe, index), Relaxed)?;
            let Ok(place) = self.place(at) else { continue };
            if !self.is_set(&place, true)? || self.block_word(place.block)?.stripe() != stripe {
                continue;
            }
            if !self.free_one(at, &place, &pinned, &kept, reading)? {
                self.region.store(self.ring_slot(stripe, left), at, Relaxed)?;
                left += 1;
            }
        }
        self.region.store(counter, left, Relaxed)?;
        if left >= RETIRED_MAX / 2 {
            // Whoever holds them back would have every write look at them again.
            let base = self.geometry.stripe(stripe);
            self.region.store(base + stripe::SWEEP_WANTED, 1, Relaxed)?;
            self.region.store(counter, 0, Relaxed)?;
        }
        Ok(())
    }

    /// Frees every retired entry of a stripe that may go, and its empty spans. The stripe's lock
    /// is held. Gives the number freed.
    pub(crate) fn sweep_retired(&self, stripe: u64) -> Result<u64, BadRegion> {
        let base = self.geometry.stripe(stripe);
        self.region.store(base + stripe::SWEEP_WANTED, 0, Relaxed)?;
        self.region.store(base + stripe::RETIRED_COUNT, 0, Relaxed)?;
        // ORDERING: [pin.scan] SeqCst fence, as in `free_retired`.
        fence(SeqCst);
        let (pinned, kept) = (self.pinned()?, self.kept()?);
        let reading = self.reading(stripe, &kept)?;
        let mut found = Vec::new();
        self.spans(
            stripe,
            |first, word| {
                if word.holds_entries() {
                    found.push((first, word));
                }
                Ok(())
            },
            |_| Ok(()),
        )?;
        let mut freed = 0;
        for (first, word) in found {
            let cut = self.cut(first, word)?;
            for index in 0..cut.entries {
                let place = Place { block: first, cut, index };
                if !self.is_set(&place, true)? {
                    continue;
                }
                let at = self.entry_at(first, &cut, index);
                if self.free_one(at, &place, &pinned, &kept, reading)? {
                    freed += 1;
                } else {
                    self.note_retired(stripe, at)?;
                }
                if self.block_word(first)? != word {
                    break;
                }
            }
        }
        Ok(freed)
    }
}
