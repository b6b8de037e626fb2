//! The member that a handle is: its slot, the descriptions whose locks say that it lives, and what
//! becomes of it in a forked child.
//!
//! 1. A seat belongs to the process that took it. A forked child finds that the seat is not its own
//!    by one load, and takes another one before its first write; pins, locks and watches of its
//!    parent it leaves alone.
//! 2. What names a slot is mended before the slot is used (`docs/design.md`, Attach): the threads of a forked child wait
//!    for the one of them that takes a seat. Only who mends the slot probes through it before.
//!
//! A death leaves the slot to its next user or to a burial.

#[cfg(test)]
#[cfg(not(loom))]
mod tests;

use super::Inner;
use super::callback::Callbacks;
use super::counters::Counter;
use super::files::{CREATE_PATIENCE, LIFE_BYTES, io, open_members};
use super::metrics::lanes::Lanes;
use crate::doorbell::Sort;
use crate::error::OpenError;
use crate::heap::Space;
use crate::lock::{Liveness, LockError, Probe};
use crate::member::Prober;
use crate::region::layout::{header, member};
use crate::sync::AtomicU64;
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sys::directory::Directory;
use crate::sys::fork::{NoFork, Private, leave_all};
use crate::sys::lock::{locked_range, try_lock_byte, unlock_all};
use crate::sys::map::WipeOnFork;
use crate::sys::{clock, process};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// A member slot, and how its user proves to be alive.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) slot: u32,
    /// Which user of the slot it is.
    pub(crate) generation: u64,
    /// The description that holds the slot's byte, and the keeper's.
    pub(crate) file: Private,
    pub(crate) prober: Prober<Private>,
    /// Holds the bytes of the dead while they are buried: a description of its own, so that locks
    /// can be probed meanwhile.
    pub(crate) undertaker: Prober<Private>,
    /// The subscriptions with callbacks of the handle in this process.
    pub(super) callbacks: Callbacks,
    /// Snapshots of one handle, one at a time. Not the handle's: a forked child would have it as its parent's thread held it.
    pub(super) one: Mutex<()>,
    /// Whose burials have begun to wait, by slot: that they did is rung once.
    stalled: Mutex<HashMap<u32, u64>>,
    /// The stripe in which expiry begins, where nobody keeps the bus; at first any of them.
    pub(super) tended: AtomicU64,
    /// How many threads wait for it.
    pub(super) awaited: AtomicU64,
    /// Hazard slots of the member that are in use, a bit each.
    pub(crate) pins: AtomicU64,
    /// Where its threads count.
    pub(crate) lanes: Lanes,
    /// Where these stand in the region.
    pub(crate) lanes_at: u64,
    fork: WipeOnFork,
    /// One of the three below.
    stage: AtomicU64,
    /// The seat of a forked child, or the one after this was given up.
    heir: OnceLock<Box<Seat>>,
}

/// What names the slot is being mended.
const SITTING: u64 = 0;
/// In use.
const SEATED: u64 = 1;
/// The slot could not be had after all.
const GIVEN_UP: u64 = 2;
/// Seats of a process that are given up, each with its descriptors, before the last of them is tried again and again.
const GIVEN_UP_MAX: usize = 8;

/// How entries name a member.
pub(crate) fn owner_word(slot: u32, generation: u64) -> u64 {
    generation << 16 | (u64::from(slot) + 1)
}

/// Locks the byte of a free slot, looked for from this one on.
fn free_slot(file: &Private, path: &Path, space: &Space, from: u64) -> Result<u64, OpenError> {
    let fail = |source| io("locking a member slot of", path)(source);
    let (limit, begun) = (space.geometry.members_max, Instant::now());
    loop {
        for slot in (from.min(limit)..limit).chain(0..from.min(limit)) {
            if try_lock_byte(file, slot).map_err(fail)? {
                return Ok(slot);
            }
        }
        // Who holds several bytes destroys the bus; the region tells when it has begun to.
        let held = locked_range(file, 0, limit).map_err(fail)?;
        let bad = |source| OpenError::Bad { path: path.join("region"), source };
        if space.region.load(header::DESTROYED, Acquire).map_err(bad)? != 0 {
            return Err(OpenError::Absent { path: path.to_owned() });
        }
        if held.is_some_and(|(start, end)| end - start == 1) {
            return Err(OpenError::TooManyMembers { limit });
        }
        if begun.elapsed() > CREATE_PATIENCE {
            let what = "another process that destroys the bus";
            return Err(OpenError::Busy { path: path.to_owned(), what, waited: begun.elapsed() });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Which user of a slot its next one is.
fn next_generation(path: &Path, space: &Space, slot: u64) -> Result<u64, OpenError> {
    let word = space.geometry.member(slot) + member::GENERATION;
    let bad = |source| OpenError::Bad { path: path.join("region"), source };
    Ok(space.region.load(word, Relaxed).map_err(bad)?.wrapping_add(1))
}

impl Seat {
    /// Takes a free slot's byte, from this slot on. It is not used yet.
    fn take(
        directory: &Directory,
        path: &Path,
        space: &Space,
        from: u64,
        held: &NoFork,
    ) -> Result<Self, OpenError> {
        let members = || {
            let file = open_members(directory, path, &space.geometry)?;
            Private::new(file, held).map_err(io("opening the members of", path))
        };
        let file = members()?;
        let slot = free_slot(&file, path, space, from)?;
        Ok(Self {
            slot: slot as u32,
            generation: next_generation(path, space, slot)?,
            file,
            prober: Prober::new(members()?),
            undertaker: Prober::new(members()?),
            callbacks: Callbacks::default(),
            one: Mutex::default(),
            stalled: Mutex::default(),
            tended: AtomicU64::new(clock::wall_ns()),
            awaited: AtomicU64::new(0),
            pins: AtomicU64::new(0),
            lanes_at: space.geometry.member(slot) + member::LANES,
            lanes: Lanes::new().map_err(io("drawing an id for", path))?,
            fork: WipeOnFork::new().map_err(io("preparing for forks of", path))?,
            stage: AtomicU64::new(SITTING),
            heir: OnceLock::new(),
        })
    }

    /// How entries name their owner.
    pub(crate) fn owner(&self) -> u64 {
        owner_word(self.slot, self.generation)
    }

    /// Notes that the burial of this user of a slot has to wait: whether that is new.
    pub(super) fn begins_to_stall(&self, slot: u32, generation: u64) -> bool {
        let mut stalled = self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        stalled.insert(slot, generation) != Some(generation)
    }

    /// Lets the member die: the kernel drops its locks, and the handle cleans nothing up.
    #[cfg(test)]
    pub(crate) fn die(&self) {
        self.file.die();
        self.prober.die();
        self.undertaker.die();
        self.fork.wipe();
    }

    /// Whether the process was forked from the one that took the seat.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.fork.is_child()
    }

    /// Whether it is this process's, and in this stage.
    fn is(&self, stage: u64) -> bool {
        // ORDERING: [seat.stage] Acquire; pairs with the Release store in `sit_down`. Not for loom to show: a word of the
        // process.
        !self.is_forked() && self.stage.load(Acquire) == stage
    }

    /// Whether its slot was mended and not given up.
    pub(super) fn is_seated(&self) -> bool {
        self.is(SEATED)
    }

    /// Takes the slot of a seat that was given up once more: whether it is still to be had.
    fn take_again(&self, path: &Path, space: &Space) -> Result<bool, OpenError> {
        let slot = u64::from(self.slot);
        let is_ours =
            try_lock_byte(&self.file, slot).map_err(io("locking a member slot of", path))?;
        if is_ours && next_generation(path, space, slot)? == self.generation {
            self.stage.store(SITTING, Release);
            return Ok(true);
        }
        let _end = unlock_all(&self.file);
        Ok(false)
    }

    /// The last of those that followed it, or itself.
    fn last(&self) -> &Seat {
        let mut seat = self;
        while let Some(heir) = seat.heir.get() {
            seat = heir;
        }
        seat
    }
}

/// The seat of a handle, and those of its forked copies.
#[derive(Debug)]
pub(crate) struct Seats {
    first: Seat,
}

impl Seats {
    pub(crate) fn take(
        directory: &Directory,
        path: &Path,
        space: &Space,
    ) -> Result<Arc<Self>, OpenError> {
        let held = NoFork::begin();
        Ok(Arc::new(Self { first: Seat::take(directory, path, space, 0, &held)? }))
    }

    /// The seat that a handle was opened with.
    pub(crate) fn first(&self) -> &Seat {
        &self.first
    }

    /// The seat that a forked child sits on.
    #[cold]
    fn heir(&self) -> Option<&Seat> {
        Some(self.first.last()).filter(|seat| seat.is(SEATED))
    }

    /// This process's seat: none in a forked child that has none yet.
    #[inline(always)]
    pub(crate) fn current(&self) -> Option<&Seat> {
        if self.first.is_forked() { self.heir() } else { Some(&self.first) }
    }

    /// How many seats of this process were given up.
    fn given_up(&self) -> usize {
        let seats =
            std::iter::successors(Some(&self.first), |seat| seat.heir.get().map(|heir| &**heir));
        seats.filter(|seat| seat.is(GIVEN_UP)).count()
    }

    /// The same, or the one that is being taken.
    fn newest(&self) -> Option<&Seat> {
        Some(self.first.last()).filter(|seat| seat.is(SITTING) || seat.is(SEATED))
    }
}

impl Liveness for Arc<Seats> {
    fn probe(&self) -> Option<Box<dyn Probe + '_>> {
        Some(Box::new(self.newest()?.prober.try_begin()?))
    }
}

impl Inner {
    /// This process's seat: none for a reader, and none in a forked child that did not write yet.
    #[inline(always)]
    pub(crate) fn seat(&self) -> Option<&Seat> {
        self.seats.as_ref()?.current()
    }

    /// The same, also while it is being taken: for what its slot's last user left.
    pub(super) fn newest_seat(&self) -> Option<&Seat> {
        self.seats.as_ref()?.newest()
    }

    /// Takes a seat in a forked child. Its other threads wait until this one sits, or has given up; so do forks.
    #[cold]
    pub(crate) fn sit_down_anew(&self, seats: &Seats) -> Result<u32, OpenError> {
        let held = NoFork::begin();
        if let Some(seat) = seats.heir() {
            return Ok(seat.slot);
        }
        leave_all(&held);
        let (last, space) = (seats.first.last(), &self.core.space);
        let is_again = last.is(GIVEN_UP)
            && seats.given_up() >= GIVEN_UP_MAX
            && last.take_again(&self.path, space)?;
        // Set before it sits down: who mends the slot probes through the new descriptions.
        let seat = if is_again {
            last
        } else {
            let from = if last.is(GIVEN_UP) { u64::from(last.slot) + 1 } else { 0 };
            let seat = Seat::take(&self.directory, &self.path, space, from, &held)?;
            last.heir.get_or_init(|| Box::new(seat))
        };
        if let Err(error) = self.sit_down(seat, false) {
            // The next write tries the next slot. Who finds these bytes free finds a slot that nobody mended to the end.
            seat.stage.store(GIVEN_UP, Release);
            let _end = unlock_all(&seat.file);
            return Err(error);
        }
        Ok(seat.slot)
    }

    /// ATTACH: mends what names the slot, then uses it. Its byte is held. `may_keep`: there is a thread for it.
    pub(crate) fn sit_down(&self, seat: &Seat, may_keep: bool) -> Result<(), OpenError> {
        let (core, path, slot) = (&self.core, self.path.join("region"), seat.slot);
        let bad = |source| OpenError::Bad { path: path.clone(), source };
        let high = u64::from(slot) + 1;
        let mut seen = core.region.load(header::MEMBERS_HIGH, Relaxed).map_err(bad)?;
        while seen < high {
            match core.region.exchange(header::MEMBERS_HIGH, seen, high, AcqRel).map_err(bad)? {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        let found = self.bury(slot, slot, member::ENDED_DIED, core.patience);
        let found = found.map_err(|error| match error {
            LockError::Bad(source) => bad(source),
            LockError::Stalled { .. } => OpenError::Busy {
                path: path.clone(),
                what: "a member that holds a lock of the bus",
                waited: core.patience,
            },
        })?;
        // From here on the slot's user lives: its predecessor is buried.
        let life = LIFE_BYTES + u64::from(slot);
        let locked = try_lock_byte(&seat.file, life);
        if !locked.map_err(io("locking a member slot of", &self.path))? {
            let (path, what) = (self.path.clone(), "a member that has left its slot by half");
            return Err(OpenError::Busy { path, what, waited: Duration::ZERO });
        }
        let at = self.member_at(u64::from(slot));
        core.note_base(slot).map_err(bad)?;
        let put = |offset, value| core.region.store(at + offset, value, Release).map_err(bad);
        put(member::GENERATION, seat.generation)?;
        put(member::PID, u64::from(process::pid()))?;
        put(member::JOINED, clock::wall_ns())?;
        put(member::LABEL_LEN, self.label.len() as u64)?;
        if !self.label.is_empty() {
            core.region.write(at + member::LABEL, self.label.as_bytes()).map_err(bad)?;
        }
        let state = if may_keep { member::STATE_MAY_KEEP } else { member::STATE_IN_USE };
        put(member::STATE, state)?;
        // ORDERING: [seat.stage] Release; pairs with the Acquire load in `is`. Not for loom to show: a word of the process.
        seat.stage.store(SEATED, Release);
        if found {
            self.count(Counter::Burials);
        }
        self.ring_watches(Sort::Members, Some(b""));
        Ok(())
    }
}
