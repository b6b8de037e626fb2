//! Filling a new region from a snapshot, before anybody else sees it.

use super::Core;
use super::entry::{Note, size_of};
use super::wish::{KIND_COUNTER, WriteFailure};
use crate::heap::HeapError;
use crate::region::BadRegion;
use crate::region::layout::{entry, stripe};
use crate::snapshot_entry::SnapshotEntry;
use crate::sync::Ordering::Relaxed;
use crate::word::Name;

/// Why an entry was not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LoadError {
    Heap(HeapError),
    /// The entry can't have been in any bus.
    Wrong(&'static str),
}

impl From<HeapError> for LoadError {
    fn from(error: HeapError) -> Self {
        Self::Heap(error)
    }
}
impl From<BadRegion> for LoadError {
    fn from(bad: BadRegion) -> Self {
        Self::Heap(bad.into())
    }
}

impl Core {
    /// What is noted of an entry that comes from a snapshot; nothing when its time has come. `Err`: it
    /// can't have been in any bus.
    pub(crate) fn note_of<'a>(
        &self,
        from: &'a SnapshotEntry,
    ) -> Result<Option<Note<'a>>, &'static str> {
        if from.kind > KIND_COUNTER {
            return Err("a kind that no entry has");
        }
        if from.kind == KIND_COUNTER && from.value.len() != 8 {
            return Err("a counter that is not 8 bytes");
        }
        let deadline = match from.expires {
            0 => 0,
            expires if expires <= self.clock.wall() => return Ok(None),
            expires => self.clock.boot_of(expires),
        };
        let (kind, time, who) = (from.kind, from.time, from.who.as_slice());
        // What had room by the reserve gets it there again.
        Ok(Some(Note { kind, time, deadline, owner: 0, who, reserve: true }))
    }

    /// Asks for what a key's entry will be put into.
    pub(crate) fn prefetch_place(&self, key: &[u8]) {
        let site = self.site(key.into(), &|_| false);
        if let Ok(array) = self.array_word(site.stripe) {
            self.prefetch_bucket(array, site.hash);
        }
    }

    /// Gives the arrays of a region that is empty room for so many entries; a hint that is far too large does no harm
    /// but to the room. `NoRoom`: the region is to grow first.
    pub(crate) fn widen_for(&self, entries: u64) -> Result<(), HeapError> {
        // An entry with its header, key and value takes more than that.
        let entries = entries.min(self.geometry.max_capacity / 128);
        // Stripes are chosen by a hash: hardly one gets a sixteenth less than its part. So no array gets longer than it
        // would have grown to: a bus that is nearly full has no room to spare.
        let each = entries / self.geometry.stripes;
        (0..self.geometry.stripes).try_for_each(|stripe| self.widen(stripe, each - each / 16))
    }

    /// Puts an entry in its place, with the revision it had. Nobody else is attached.
    pub(crate) fn load_entry(&self, from: &SnapshotEntry) -> Result<(), LoadError> {
        if from.revision == 0 || from.revision > self.geometry.first_revision {
            return Err(LoadError::Wrong("a revision that no entry has"));
        }
        let Some(note) = self.note_of(from).map_err(LoadError::Wrong)? else { return Ok(()) };
        let name = Name::from(from.key.as_slice());
        let mut site = self.site(name, &|_| false);
        if self.current(name, site.hash, site.stripe)?.is_some() {
            return Err(LoadError::Wrong("the same key twice"));
        }
        let slot = loop {
            match self.slot_for(&site) {
                Ok(slot) => break slot,
                Err(WriteFailure::Double { full, .. }) => match self.double(site.stripe) {
                    Err(HeapError::NoRoom(_)) if !full => site.may_double = false,
                    end => end?,
                },
                Err(WriteFailure::Bad(bad)) => return Err(bad.into()),
                Err(_) => return Err(LoadError::Wrong("no room for its stripe")),
            }
        };
        let size = size_of(name, &from.value, &note);
        let entry =
            self.entry_in(self.allocate(site.stripe, size, (note.is_timed(), note.reserve))?)?;
        entry.fill(entry::NONE, name, &from.value, &note)?;
        if note.deadline != 0 {
            self.note_deadline(site.stripe, note.deadline)?;
        }
        entry.set_born(from.revision)?;
        self.region.store(slot, site.hash.word(entry.at()), Relaxed)?;
        self.region.add(self.geometry.stripe(site.stripe) + stripe::COUNT, 1, Relaxed)?;
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::array::LOAD_MAX;
    use super::super::testing::{bus, small};
    use super::*;
    use crate::region::geometry::{Geometry, Shape};

    fn entry(number: u64) -> SnapshotEntry {
        let (key, value) = (format!("k{number}").into_bytes(), number.to_le_bytes().to_vec());
        SnapshotEntry { key, value, revision: 1, ..SnapshotEntry::default() }
    }

    /// Promise: arrays are as long as loading would have made them, and none is doubled on the way; what is there afterwards
    /// is whole.
    /// Plants: `widen_for` that makes room for all entries in each stripe, or for none.
    #[test]
    fn what_is_expected_has_arrays_of_its_size() {
        let shape = Shape { first_revision: 1, ..(*small(16 << 20)).clone() };
        let (core, _yard) = bus(Geometry::new(shape));
        core.widen_for(18_000).unwrap();
        let arrays = || (0..4).map(|stripe| core.array_word(stripe).unwrap()).collect::<Vec<_>>();
        let made = arrays();
        (0..18_000).for_each(|number| core.load_entry(&entry(number)).unwrap());
        assert_eq!(arrays(), made, "none was doubled");
        for (stripe, array) in (0..).zip(made) {
            let at = core.geometry.stripe(stripe) + stripe::COUNT;
            let count = core.region.load(at, Relaxed).unwrap();
            assert!(count > LOAD_MAX << array.log2() >> 1, "{count} in 2^{}", array.log2());
        }
        assert_eq!(core.count_entries().unwrap(), 18_000);
        assert!(core.check().is_clean());
    }

    /// Promise: a hint of more than there can be asks for less room than there may be.
    /// Plant: no bound by the greatest capacity.
    #[test]
    fn a_hint_beyond_all_bounds_asks_for_little() {
        let (core, _yard) = bus(small(16 << 20));
        core.widen_for(u64::MAX).unwrap();
        assert!(core.check().is_clean());
    }
}
