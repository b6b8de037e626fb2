//! Snapshots: all live entries as of one revision, read while writers go on.
//!
//! 1. While a snapshot {id, R, C} is on, a dead entry with C ≤ born ≤ R < died in a stripe that is
//!    not done is not freed: it stays occupied, and the bitmaps of occupied entries are the list of
//!    what there is to read, living and dead.
//! 2. A walk takes no lock: what is needed stays where it is until `done`, in a span that is there all
//!    the while. Of the rest some is found as it comes and goes; what was read of it counts only when the
//!    span's block word and the entry's `born` are after that what they were before.
//! 3. `done` := id comes after the reading. It is the id and no flag, so that a stale reader's
//!    store does no harm.
//! 4. The image is good when, after all reading, the snapshot is still on with the same id. Who
//!    would be told `Full` ends it instead.
//!
//! A death leaves a snapshot that is on; its burial, the next snapshot, or `Full` ends it.

pub(crate) mod format;

use crate::heap::{BlockWord, Pieces, Room};
use crate::lock::{LockError, Patience};
use crate::region::BadRegion;
use crate::region::layout::{LINE, header, stripe};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::fence;
use crate::table::Core;
use crate::table::entry::{Entry, Header};
use crate::word::Realm;
use format::{SnapshotEntry, SnapshotHead};
use std::time::Duration;

/// Entries ahead of the one that is read, of which the processor is told.
const AHEAD: usize = 16;
/// Spans whose bitmaps are copied at a time.
const SPANS: usize = 4;

/// A snapshot that is being read.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    core: &'a Core,
    me: u32,
    id: u64,
    cleared: u64,
    pub(crate) head: SnapshotHead,
    stripe: u64,
    /// What of the stripe is still to be copied.
    pieces: Pieces,
    spans: Vec<SpanCopy>,
}

/// A span as it was found, less what was read already.
#[derive(Debug)]
struct SpanCopy {
    of: SpanOf,
    entries: Vec<u64>,
}

/// Which span an entry was in: its first block, that block's word, and the size of its rooms.
#[derive(Debug, Clone, Copy)]
struct SpanOf {
    first: u64,
    word: BlockWord,
    size: u64,
}

/// Why a snapshot was not read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WalkError {
    /// Somebody needed the room.
    Aborted,
    Lock(LockError),
    Bad(BadRegion),
}

impl From<BadRegion> for WalkError {
    fn from(bad: BadRegion) -> Self {
        Self::Bad(bad)
    }
}
impl From<LockError> for WalkError {
    fn from(error: LockError) -> Self {
        Self::Lock(error)
    }
}

impl<'a> Walk<'a> {
    /// SNAPSHOT, step 1. `owner` is the member in slot `me`, as entries name it.
    pub(crate) fn begin(core: &'a Core, me: u32, owner: u64) -> Result<Self, WalkError> {
        let guard = core.lock_commit(me, &core.patience())?;
        let region = &core.region;
        let id = region.load_count(header::SNAP_ID, Relaxed)? + 1;
        let revision = region.load_count(header::HEAD, Relaxed)?;
        let cleared = region.load_count(header::CLEARED_AT, Relaxed)?;
        region.store(header::SNAP_ON, 0, Release)?;
        region.store(header::SNAP_ID, id, Release)?;
        region.store(header::SNAP_REVISION, revision, Release)?;
        region.store(header::SNAP_CLEARED, cleared, Release)?;
        region.store(header::SNAP_OWNER, owner, Release)?;
        region.store(header::SNAP_ON, 1, Release)?;
        drop(guard);
        let geometry = &core.geometry;
        let head = SnapshotHead {
            bus_id: geometry.bus_id,
            incarnation: geometry.incarnation,
            revision,
            created: core.clock.wall(),
        };
        let pieces = Pieces::of(0);
        Ok(Self { core, me, id, cleared, head, stripe: 0, pieces, spans: Vec::new() })
    }

    fn still_on(&self) -> Result<bool, BadRegion> {
        // ORDERING: [snap] Acquire fence: what was read comes before this look; pairs with the
        // Release fence in `abort_snapshot`.
        fence(Acquire);
        let region = &self.core.region;
        Ok(region.load(header::SNAP_ON, Relaxed)? == 1
            && region.load(header::SNAP_ID, Relaxed)? == self.id)
    }

    /// Copies which entries of the stripe's next spans are occupied.
    fn copy_piece(&mut self) -> Result<(), BadRegion> {
        let core = self.core;
        for (first, word) in self.pieces.next(core, SPANS)? {
            if !word.holds_entries() {
                continue;
            }
            let copied = core.look_in((first, word), || {
                let cut = core.cut(first, word)?;
                let of = SpanOf { first, word, size: cut.size };
                Ok(SpanCopy { of, entries: core.occupied_entries(first, &cut)? })
            })?;
            // One that has ended is not needed.
            self.spans.extend(copied);
        }
        Ok(())
    }

    /// One entry, when it belongs to the snapshot. Whether it does.
    fn read(&self, span: SpanOf, at: u64, into: &mut SnapshotEntry) -> Result<bool, BadRegion> {
        let (core, revision) = (self.core, self.head.revision);
        let entry = core.entry_in(Room { at, size: span.size })?;
        let born = entry.born(Acquire)?;
        let died = entry.died(Acquire)?;
        if born == 0 || born < self.cleared || born > revision || (died != 0 && died <= revision) {
            return Ok(false);
        }
        let copied = entry.header().and_then(|header| self.copy(&entry, &header, into));
        // ORDERING: [entry.refill] [block.cut] Acquire fence: the copy comes before the second look;
        // pairs with the Release fences in `occupy`, `take_spare` and `make_span`.
        fence(Acquire);
        if entry.born(Relaxed)? != born || core.block_word(span.first)? != span.word {
            // Reused: so nobody kept it, so it was not needed.
            return Ok(false);
        }
        into.revision = born;
        copied
    }

    /// Copies all but its revision. Whether it outlives the bus.
    fn copy(
        &self,
        entry: &Entry<'_>,
        header: &Header,
        into: &mut SnapshotEntry,
    ) -> Result<bool, BadRegion> {
        let core = self.core;
        if header.realm() == Realm::Locks || entry.owner(header)? != 0 {
            return Ok(false);
        }
        into.expires = match entry.deadline(header)? {
            0 => 0,
            // Most have none, and a look at the clock takes longer than the copy.
            deadline if deadline <= core.clock.boot() => return Ok(false),
            deadline => core.clock.wall_of(deadline),
        };
        into.clear();
        entry.copy_key(header, &mut into.key)?;
        entry.copy_value(header, &mut into.value)?;
        entry.copy_who(header, &mut into.who)?;
        (into.kind, into.time) = (header.kind, entry.time()?);
        Ok(true)
    }

    /// The next entry of the piece that was copied. Whether there is one.
    fn next_copied(&mut self, into: &mut SnapshotEntry) -> Result<bool, WalkError> {
        while let Some(span) = self.spans.last_mut() {
            let Some(at) = span.entries.pop() else {
                self.spans.pop();
                continue;
            };
            if let Some(ahead) = span.entries.iter().nth_back(AHEAD) {
                self.core.region.prefetch(*ahead);
                self.core.region.prefetch(ahead + LINE);
            }
            let of = span.of;
            match self.read(of, at, into) {
                Ok(false) => {}
                Ok(true) => return Ok(true),
                Err(bad) if self.still_on()? => return Err(bad.into()),
                Err(_) => return Err(WalkError::Aborted),
            }
        }
        Ok(false)
    }

    /// Copies the next entry into `into`, whose buffers are used again; `false` when the whole snapshot was read and
    /// is good.
    pub(crate) fn next_into(&mut self, into: &mut SnapshotEntry) -> Result<bool, WalkError> {
        loop {
            if self.next_copied(into)? {
                return Ok(true);
            }
            if self.pieces.is_over() {
                let done = self.core.geometry.stripe(self.stripe) + stripe::SNAP_DONE;
                self.core.region.store(done, self.id, Release)?;
                self.stripe += 1;
                self.pieces = Pieces::of(self.stripe);
            }
            if !self.still_on()? {
                return Err(WalkError::Aborted);
            }
            if self.stripe == self.core.geometry.stripes {
                return Ok(false);
            }
            self.copy_piece()?;
        }
    }
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        // When the lock can't be had, the next snapshot or the next `Full` ends this one.
        if let Ok(guard) = self.core.lock_commit(self.me, &self.core.patience()) {
            if self.core.region.load(header::SNAP_ID, Relaxed) == Ok(self.id) {
                let _end = self.core.region.store(header::SNAP_ON, 0, Release);
            }
            drop(guard);
        }
    }
}

impl Core {
    /// Ends the snapshot that a dead member was taking.
    pub(crate) fn abort_snapshot_of(
        &self,
        me: u32,
        owner: u64,
        most: Duration,
    ) -> Result<(), LockError> {
        if self.region.load(header::SNAP_OWNER, Acquire)? == owner {
            self.abort_snapshot(me, most)?;
        }
        Ok(())
    }

    /// Whether a snapshot is on.
    pub(crate) fn is_snapshot_on(&self) -> bool {
        self.region.load(header::SNAP_ON, Relaxed) == Ok(1)
    }

    /// Ends the running snapshot, so that what it keeps can be freed. Whether there was one.
    pub(crate) fn abort_snapshot(&self, me: u32, most: Duration) -> Result<bool, LockError> {
        if self.region.load(header::SNAP_ON, Acquire)? == 0 {
            return Ok(false);
        }
        let guard = self.lock_commit(me, &Patience::new(most))?;
        self.region.store(header::SNAP_ON, 0, Relaxed)?;
        // ORDERING: [snap] Release fence: the end comes before any reuse; pairs with the Acquire
        // fence in `still_on`. So do the fence in `needed` and the Release store of `born` := 0, with
        // which a reuse begins.
        fence(Release);
        drop(guard);
        Ok(true)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::region::geometry::{Geometry, Shape};
    use crate::table::Clock;
    use crate::table::entry::Note;
    use crate::table::testing::{bus, delete, set, small};
    use crate::table::wish::{Action, Condition, Wish};
    use std::collections::BTreeMap;

    fn rest(walk: &mut Walk<'_>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, WalkError> {
        let (mut all, mut entry) = (BTreeMap::new(), SnapshotEntry::default());
        while walk.next_into(&mut entry)? {
            let (key, value) = (entry.key.clone(), entry.value.clone());
            assert!(all.insert(key, value).is_none(), "a key twice");
        }
        Ok(all)
    }

    /// Plants: freeing whatever is not pinned (an entry is missing); walking the slot words alone.
    #[test]
    fn a_snapshot_is_of_one_revision_whatever_writers_do() {
        let (core, _yard) = bus(small(4 << 20));
        let mut model = BTreeMap::new();
        for number in 0..400_u32 {
            let key = format!("k{number}");
            core.write_one(0, &set(&key, &number.to_le_bytes())).unwrap();
            model.insert(key.into_bytes(), number.to_le_bytes().to_vec());
        }
        let mut walk = Walk::begin(&core, 1, 2).unwrap();
        for number in 0..400_u32 {
            let key = format!("k{number}");
            if number % 3 == 0 {
                core.write_one(0, &delete(&key)).unwrap();
            }
            for again in 0..20 {
                core.write_one(0, &set(&key, &[again; 60])).unwrap();
            }
        }
        core.clear(0, 1, b"").unwrap();
        core.write_one(0, &set("later", b"x")).unwrap();
        assert_eq!(rest(&mut walk).unwrap(), model);
        drop(walk);
        let mut walk = Walk::begin(&core, 1, 2).unwrap();
        assert_eq!(rest(&mut walk).unwrap().len(), 1);
        drop(walk);
        assert!(core.check().is_clean());
    }

    /// Promise: a walk waits for no writer, and none for it: it reads on while the locks are others'.
    /// Plant: the bitmaps are copied under the stripe's lock.
    #[test]
    fn a_walk_takes_no_stripe() {
        let (core, _yard) = bus(small(4 << 20));
        for number in 0..400_u32 {
            core.write_one(0, &set(&format!("k{number}"), &[7; 60])).unwrap();
        }
        let mut walk = Walk::begin(&core, 1, 2).unwrap();
        let stripes = 0..core.geometry.stripes;
        let held: Vec<_> =
            stripes.map(|index| core.lock_stripe(index, 0, &core.patience()).unwrap()).collect();
        assert_eq!(rest(&mut walk).unwrap().len(), 400);
        drop(held);
    }

    #[test]
    fn a_snapshot_that_gives_way_says_so() {
        let (core, _yard) = bus(small(1 << 20));
        core.write_one(0, &set("k", b"v")).unwrap();
        let mut walk = Walk::begin(&core, 1, 2).unwrap();
        assert!(core.abort_snapshot(0, core.patience).unwrap());
        assert_eq!(rest(&mut walk), Err(WalkError::Aborted));
    }
    /// Promise: an entry that did not change is the same in each snapshot, also one with a deadline, and also of a bus that was
    /// built from one: so a save finds what it has written.
    /// Plants: a deadline told by two looks at the clocks; one taken in so.
    #[test]
    fn a_deadline_is_told_the_same_each_time() {
        let (mut core, _yard) = bus(small(4 << 20));
        core.clock = Clock::default();
        let deadline = core.clock.boot() + 3_600_000_000_000;
        for number in 0..400_u32 {
            let (key, condition) = (format!("k{number}"), Condition::Any);
            let note = Note { deadline: deadline + u64::from(number), ..Note::default() };
            let action = Action::Set { value: b"v", note };
            core.write_one(0, &Wish { key: key.as_bytes().into(), action, condition }).unwrap();
        }
        let read = |core: &Core| {
            let (mut all, mut entry) = (BTreeMap::new(), SnapshotEntry::default());
            let mut walk = Walk::begin(core, 1, 2).unwrap();
            while walk.next_into(&mut entry).unwrap() {
                all.insert(entry.key.clone(), entry.clone());
            }
            all
        };
        let first = read(&core);
        assert!(first.len() == 400 && first.values().all(|entry| entry.expires > deadline));
        assert!(read(&core) == first, "of the same bus");
        let shape = Shape { first_revision: 1000, ..(*small(4 << 20)).clone() };
        let (mut built, _yard) = bus(Geometry::new(shape));
        built.clock = core.clock.clone();
        first.values().for_each(|entry| built.load_entry(entry).unwrap());
        assert!(read(&built) == first, "of one that was built from it");
    }
}
