//! RESTORE: what a snapshot has takes the place of all there is, by one commit of one revision.
//!
//! 1. All stripes are locked, so nobody writes meanwhile; readers go on with what was there.
//! 2. New entries are filled while they come, and named by nothing. Their slot words are chosen when all are
//!    there: only then are arrays of their last size.
//! 3. All are born with the revision that clears what was there. The floor counts as the head until that
//!    follows (`commit`), so the one store of it shows the new state, whole.
//!
//! A death before `READY` leaves entries without a name, which the stripes' repairs free; after it, whoever
//! comes next finishes, and what was cleared is swept as after any clear (`docs/design.md`, RESTORE; model B).

use super::array::LOAD_MAX;
use super::batch::record_of_all;
use super::guard::StripeGuard;
use super::wish::WriteFailure;
use super::write::Site;
use super::{Core, free::FREE_BATCH};
use crate::commit::Stored;
use crate::heap::HeapError;
use crate::heap::class::LIST;
use crate::lock::GLANCE;
use crate::log::{NewRecord, RecordKind};
use crate::region::BadRegion;
use crate::region::layout::{CHANGE_SIZE, INLINE_CHANGES, entry, header, span, stripe};
use crate::snapshot_entry::SnapshotEntry;
use crate::sync::Ordering::Relaxed;
use crate::word::{ArrayWord, Hash, Name, Realm, offset_of};
use std::cell::RefCell;

/// Why nothing was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RestoreFailure {
    Write(WriteFailure),
    /// The entry can't have been in any bus.
    Wrong(&'static str),
}

impl<F: Into<WriteFailure>> From<F> for RestoreFailure {
    fn from(failure: F) -> Self {
        Self::Write(failure.into())
    }
}

/// A restore that is being put together. Dropped before its commit it leaves nothing.
#[derive(Debug)]
pub(crate) struct Restoring<'c> {
    core: &'c Core,
    me: u32,
    /// New entries, by stripe.
    filled: Vec<Vec<Filled>>,
    /// Dropped last.
    guards: Vec<StripeGuard<'c>>,
}

/// A new entry.
#[derive(Debug, Clone, Copy)]
struct Filled {
    hash: Hash,
    at: u64,
    /// The entry in whose place it comes, or [`entry::NONE`].
    old: u64,
}

/// What happens to slot words, stripe by stripe.
#[derive(Debug, Default)]
struct Placed {
    stored: Vec<Stored>,
    stripes: Vec<PlacedStripe>,
}

/// What of it is a stripe's.
#[derive(Debug)]
struct PlacedStripe {
    changes: usize,
    /// Keys that had no slot word.
    new: i64,
}

impl Core {
    /// Locks everything. Blocks until each writer is done.
    pub(crate) fn restore(&self, me: u32) -> Result<Restoring<'_>, RestoreFailure> {
        let patience = self.patience();
        let (mut guards, mut filled) = (Vec::new(), Vec::new());
        for stripe in 0..self.geometry.stripes {
            guards.push(self.lock_stripe(stripe, me, &patience)?);
            self.free_retired(stripe, FREE_BATCH)?;
            filled.push(Vec::new());
        }
        Ok(Restoring { core: self, me, filled, guards })
    }

    /// Makes room in a stripe's array for so many new entries.
    pub(super) fn widen(&self, stripe: u64, more: u64) -> Result<(), HeapError> {
        loop {
            let log2 = self.array_word(stripe)?.log2();
            let count = self.region.load(self.geometry.stripe(stripe) + stripe::COUNT, Relaxed)?;
            if count.saturating_add(more) < LOAD_MAX << log2 {
                return Ok(());
            }
            self.double(stripe)?;
        }
    }
}

impl Restoring<'_> {
    /// Fills an entry. One whose time has come is passed over.
    pub(crate) fn add(&mut self, from: &SnapshotEntry) -> Result<(), RestoreFailure> {
        let core = self.core;
        let Some(note) = core.note_of(from).map_err(RestoreFailure::Wrong)? else { return Ok(()) };
        let name = Name::from(from.key.as_slice());
        let hash = Hash::of(name, core.geometry.seed);
        let stripe = hash.stripe(core.geometry.stripes);
        let old = core.current(name, hash, stripe)?.map(|current| offset_of(current.word));
        let room = core.entry_in(core.allocate_or_sweep(stripe, name, &from.value, &note)?)?;
        let old = old.unwrap_or(entry::NONE);
        if let Some(filled) = self.filled.get_mut(stripe as usize) {
            filled.push(Filled { hash, at: room.at(), old });
        }
        room.fill(old, name, &from.value, &note)?;
        if note.deadline != 0 {
            core.note_deadline(stripe, note.deadline)?;
        }
        Ok(())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.filled.iter().map(|filled| filled.len() as u64).sum()
    }

    /// Makes it what there is, and sweeps what was there before; gives the revision. Its log record tells who
    /// did it, and from what.
    pub(crate) fn commit(
        mut self,
        time: u64,
        who: &[u8],
        from: &[u8],
    ) -> Result<u64, RestoreFailure> {
        let (core, me) = (self.core, self.me);
        let placed = self.place_all()?;
        let count = placed.stored.len() as u64;
        let mut list = None;
        if count > INLINE_CHANGES {
            let bytes = span::BITMAP + count * CHANGE_SIZE;
            let blocks = bytes.div_ceil(core.geometry.block_size());
            list = Some(core.make_span(0, LIST, (blocks, true), span::BITMAP)?);
        }
        let record = record_of_all(RecordKind::Restore, time, who, from);
        let committed = self.commit_placed(&placed, list, record);
        if let Some(first) = list {
            core.free_span(first)?;
        }
        let revision = committed?;
        core.settle_placed(&placed)?;
        drop(self);
        let sweep = |stripe, most| core.sweep_cleared(me, stripe, most);
        let _swept = core.in_each_stripe((0, GLANCE), &|| false, sweep);
        Ok(revision)
    }

    /// The commit itself. What fails before `READY` has not happened.
    fn commit_placed(
        &mut self,
        placed: &Placed,
        list: Option<u64>,
        record: NewRecord<'_>,
    ) -> Result<u64, RestoreFailure> {
        let core = self.core;
        let list = list.map_or(0, |first| core.geometry.block(first) + span::BITMAP);
        let guard = core.lock_commit(self.me, &core.patience())?;
        let revision = core.region.load_count(header::HEAD, Relaxed)? + 1;
        let tail = core.write_records(revision - 1, std::iter::once(record))?;
        let nothing = [Stored::default()];
        let stored = if placed.stored.is_empty() { &nothing[..] } else { &placed.stored[..] };
        core.commit_record(stored.iter().copied(), list, revision, tail, revision)?;
        // They are the bus's from here on.
        self.filled.clear();
        core.finish()?;
        drop(guard);
        Ok(revision)
    }

    fn place_all(&mut self) -> Result<Placed, RestoreFailure> {
        let (core, mut placed) = (self.core, Placed::default());
        for (stripe, filled) in (0..).zip(&mut self.filled) {
            let begin = placed.stored.len();
            match core.widen(stripe, filled.len() as u64) {
                // An array that is crowded does as well.
                Err(HeapError::NoRoom(_)) => {}
                end => end?,
            }
            let new = loop {
                match core.place_filled(stripe, filled, &mut placed.stored) {
                    Err(RestoreFailure::Write(WriteFailure::Double { .. })) => {
                        placed.stored.truncate(begin);
                        core.double(stripe)?;
                    }
                    end => break end?,
                }
            };
            placed.stripes.push(PlacedStripe { changes: filled.len(), new });
        }
        Ok(placed)
    }
}

impl Core {
    /// Chooses the slot words of a stripe's entries, bucket after bucket; gives how many of their keys had none.
    fn place_filled(
        &self,
        stripe: u64,
        filled: &mut [Filled],
        stored: &mut Vec<Stored>,
    ) -> Result<i64, RestoreFailure> {
        let array = self.array_word(stripe)?;
        let bucket_of = |entry: &Filled| entry.hash.bucket(array.log2());
        filled.sort_unstable_by_key(bucket_of);
        let taken = RefCell::new(Vec::new());
        let is_taken = |slot| taken.borrow().contains(&slot);
        let mut new = 0;
        for bucket in filled.chunk_by(|one, two| bucket_of(one) == bucket_of(two)) {
            // Nobody else looks for room in this chain.
            taken.borrow_mut().clear();
            for (index, Filled { hash, at, old }) in bucket.iter().copied().enumerate() {
                for other in bucket.iter().take(index).filter(|other| other.hash == hash) {
                    self.refuse_twins(at, other.at)?;
                }
                let site = Site { hash, stripe, may_double: false, taken: &is_taken };
                let (slot, old) = match old {
                    entry::NONE => (self.slot_for(&site)?, 0),
                    old => self.slot_naming(array, hash, old)?,
                };
                taken.borrow_mut().push(slot);
                new += i64::from(old == 0);
                stored.push(Stored { slot, new: hash.word(at), old });
            }
        }
        Ok(new)
    }

    /// Refuses two entries of one key.
    fn refuse_twins(&self, one: u64, two: u64) -> Result<(), RestoreFailure> {
        let (one, two) = (self.entry(one)?, self.entry(two)?);
        let (realm, key) = one.key(&one.header()?)?;
        if two.has_key(&two.header()?, Name { realm, bytes: &key })? {
            return Err(RestoreFailure::Wrong("the same key twice"));
        }
        Ok(())
    }

    /// The slot word that names an entry, under the stripe's lock: where it stands, and what it is.
    fn slot_naming(&self, array: ArrayWord, hash: Hash, at: u64) -> Result<(u64, u64), BadRegion> {
        let found = self.search(array, hash, |line, index, word| {
            Ok((offset_of(word) == at).then_some((line.at() + 8 * index as u64, word)))
        })?;
        found.ok_or_else(|| BadRegion::new(at, hash.tag(), "an entry that its key's bucket names"))
    }

    /// After the commit: retires what was replaced, and counts.
    fn settle_placed(&self, placed: &Placed) -> Result<(), BadRegion> {
        let mut stored = placed.stored.iter();
        for (stripe, of) in (0..).zip(&placed.stripes) {
            for change in stored.by_ref().take(of.changes).filter(|change| change.old != 0) {
                self.retire(stripe, offset_of(change.old))?;
            }
            if of.new != 0 {
                self.recount(stripe, Realm::Keys, of.new)?;
            }
        }
        Ok(())
    }
}

impl Drop for Restoring<'_> {
    fn drop(&mut self) {
        for entry in self.filled.iter().flatten() {
            // What a damaged region keeps goes with the stripe's next repair.
            let _freed = self.core.place(entry.at).and_then(|place| self.core.vacate(&place));
        }
    }
}
