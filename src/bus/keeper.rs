//! The keeper: the one member whose thread buries the dead, takes away what expired, sweeps, grows
//! the file ahead of need and takes snapshots.
//!
//! It is who holds the lock on one byte of the `members` file, beyond the slots' bytes; when it
//! dies, the kernel drops the lock, and the next member that looks takes over. Nothing depends on
//! it for being right, only for being soon.

#[cfg(test)]
#[cfg(not(loom))]
mod tests;

use super::Inner;
use super::files::KEEPER_BYTE;
use super::going::Going;
use super::journal::keep::JournalThread;
use super::persist::SnapshotInfo;
use crate::error::{OpenError, SnapshotError};
use crate::lock::{GLANCE, LockError};
use crate::region::BadRegion;
use crate::region::layout::{header, member, stripe};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sys::lock::{try_lock_byte, unlock_byte};
use crate::table::wish::WriteFailure;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the keeper looks after everything.
const TURN: Duration = Duration::from_millis(100);
/// How often the others look whether there is a keeper.
const CANDIDATE_TURN: Duration = Duration::from_millis(250);
/// How long a round of expiry, or of sweeps, may take: those who die meanwhile wait for their burial. The next turn goes on.
const ROUND: Duration = Duration::from_millis(50);
/// The part of its time that the keeper may spend with what expires, once it is through: one in so many.
const EXPIRY_SHARE: u32 = 5;
/// The same for sweeps: who writes sweeps before the bus is full, and what a snapshot keeps is swept in vain.
const SWEEP_SHARE: u32 = 10;
/// How often the files are looked for.
const FILES: Duration = Duration::from_millis(500);
/// How soon a failed snapshot is tried again, doubled each time.
const RETRY: Duration = Duration::from_secs(1);
/// Free blocks below which the file grows: this many, or a sixteenth of all.
const SPARE_BLOCKS: u64 = 64;

/// Tells a thread to end.
#[derive(Debug, Default)]
pub(super) struct Stop {
    wanted: AtomicBool,
    /// Held by who sets the word, and from a look at it to the sleep.
    asleep: Mutex<()>,
    changed: Condvar,
}

impl Stop {
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed)
    }
    pub(super) fn want(&self) {
        let asleep = self.asleep.lock();
        self.wanted.store(true, Relaxed);
        drop(asleep);
        self.changed.notify_all();
    }
    /// Sleeps until it is wanted, or so long.
    fn sleep(&self, pause: Duration) {
        let asleep = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        let _woken = self.changed.wait_timeout_while(asleep, pause, |()| !self.is_wanted());
    }
}

/// The thread of one handle, that is the keeper or waits to become it.
#[derive(Debug)]
pub(crate) struct KeeperThread {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
    process: u64,
}

impl KeeperThread {
    pub(crate) fn start(inner: &Arc<Inner>) -> Result<Self, OpenError> {
        let stop = Arc::new(Stop::default());
        let (weak, told) = (Arc::downgrade(inner), Arc::clone(&stop));
        let run = move || run(&weak, &told);
        let thread = std::thread::Builder::new().name("membus-keeper".into()).spawn(run);
        let thread = thread.map_err(|source| OpenError::Io {
            what: "starting the keeper's thread for",
            path: inner.path.clone(),
            source,
        })?;
        Ok(Self { stop, thread: Some(thread), process: crate::sys::fork::lineage() })
    }
}

impl Drop for KeeperThread {
    fn drop(&mut self) {
        // A forked child has the handle, but not the thread, and perhaps a lock that it held. Its own first thread may have the
        // same stack, and with it the same number: that one is not to be detached.
        if self.process != crate::sys::fork::lineage() {
            std::mem::forget(self.thread.take());
            return;
        }
        self.stop.want();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ended = thread.join();
        }
    }
}

/// What the thread remembers from turn to turn.
#[derive(Debug)]
struct Turn {
    keeper: bool,
    files: Instant,
    /// Not before this are expired entries looked for again.
    expiry: Instant,
    /// Not before this is swept again.
    sweep: Instant,
    /// The stripes in which expiry and sweep go on, and how long a round of each may take.
    stripes: (u64, u64),
    round: Duration,
    /// Claims of blocks up to the last look at how many are free.
    claims: u64,
    saved: Instant,
    /// Failed snapshots in a row.
    failed: u32,
    /// The snapshot that is being taken: on a thread of its own, since burials do not wait for it.
    saver: Option<JoinHandle<Result<(), ()>>>,
    /// Keeps the journal, where there is one.
    journal: Option<JournalThread>,
}

impl Turn {
    fn first() -> Self {
        let now = Instant::now();
        Self {
            keeper: false,
            files: now,
            expiry: now,
            sweep: now,
            stripes: (0, 0),
            round: ROUND,
            claims: 0,
            saved: now,
            failed: 0,
            saver: None,
            journal: None,
        }
    }
}

fn run(weak: &Weak<Inner>, stop: &Arc<Stop>) {
    let mut turn = Turn::first();
    while let Some(pause) = turn_until(weak, stop, &mut turn) {
        stop.sleep(pause);
        if stop.is_wanted() {
            break;
        }
    }
    // It has been told to give up, or its bus is gone.
    if let Some(saver) = turn.saver {
        let _ended = saver.join();
    }
    drop(turn.journal);
    // A watch or a lock may hold the member for long still.
    if let Some(inner) = weak.upgrade() {
        let _end = inner.leave_office(turn.keeper);
    }
}

/// One turn: how long to wait for the next one, or nothing when the bus is gone. The first turn comes
/// at once: the first handle of a bus is its keeper from the beginning on.
fn turn_until(weak: &Weak<Inner>, stop: &Arc<Stop>, turn: &mut Turn) -> Option<Duration> {
    let inner = weak.upgrade()?;
    if inner.is_gone() {
        return None;
    }
    // What fails in one turn is tried again in the next; operations report it meanwhile.
    let _end = inner.keeper_turn(turn, stop);
    if turn.keeper {
        inner.save_in_time(turn, stop);
        if turn.journal.is_none() {
            turn.journal = JournalThread::start(&inner);
        }
    }
    Some(if turn.keeper { TURN } else { CANDIDATE_TURN })
}

impl Inner {
    /// Says that this member will not be keeper any more, so that another one may.
    fn leave_office(&self, was_keeper: bool) -> Result<(), BadRegion> {
        let (Some(seat), region) = (self.seat(), &self.core.region) else { return Ok(()) };
        let state = self.member_at(u64::from(seat.slot)) + member::STATE;
        let _before =
            region.exchange(state, member::STATE_MAY_KEEP, member::STATE_IN_USE, AcqRel)?;
        if was_keeper {
            let _before = region.exchange(header::KEEPER, u64::from(seat.slot) + 1, 0, AcqRel)?;
            // What can't be unlocked is locked until the member ends.
            let _end = unlock_byte(&seat.file, KEEPER_BYTE);
        }
        Ok(())
    }

    fn keeper_turn(&self, turn: &mut Turn, stop: &Stop) -> Result<(), WriteFailure> {
        let Some(seat) = self.seat() else { return Ok(()) };
        let region = &self.core.region;
        if !turn.keeper {
            if !try_lock_byte(&seat.file, KEEPER_BYTE).unwrap_or(false) {
                return Ok(());
            }
            turn.keeper = true;
            turn.saved = self.last_saved();
            // What fails is not tried the sooner since somebody else is keeper.
            let failed = region.load(header::SNAPSHOT_FAILURES, Relaxed)?;
            if failed > 0 {
                (turn.failed, turn.saved) = (failed.try_into().unwrap_or(u32::MAX), Instant::now());
            }
        }
        region.store(header::KEEPER, u64::from(seat.slot) + 1, Release)?;
        self.core.beat(seat.slot)?;
        // What a stopped member holds up in one of them is no reason to leave the others.
        let ends = [
            self.bury_all(seat.slot).map(drop).map_err(WriteFailure::from),
            self.expire_in_time(seat.slot, turn, stop),
            self.sweep_in_time(seat.slot, turn, stop),
            self.grow_ahead(seat.slot, turn),
            self.look_for_files(turn).map_err(WriteFailure::from),
        ];
        ends.into_iter().collect()
    }

    /// When the bus was saved last, as far as that counts for the next time: by whomever, so that it is saved in time also where no
    /// handle lives as long as the interval. After a clock that was set back nobody knows: the next one is due.
    fn last_saved(&self) -> Instant {
        let (every, wall) = (self.saving.every, self.core.clock.wall());
        let saved = self.core.region.load(header::SNAPSHOT_TIME, Acquire).unwrap_or_default();
        let saved = if saved == 0 { self.core.geometry.created } else { saved };
        let age = wall.checked_sub(saved);
        let age = age.map_or(every, |age| Duration::from_nanos(age).min(every));
        let now = Instant::now();
        now.checked_sub(age).unwrap_or(now)
    }

    /// Begins a snapshot when its time has come, or its number of changes; after a failure sooner than by the
    /// interval, but later each time, however much has changed.
    fn save_in_time(self: &Arc<Self>, turn: &mut Turn, stop: &Arc<Stop>) {
        if let Some(saver) = turn.saver.take_if(|saver| saver.is_finished()) {
            turn.failed = match saver.join() {
                Ok(Ok(())) => 0,
                // What it begins with is read from the region.
                _ => turn.failed.saturating_add(1),
            };
        }
        let every = self.saving.every;
        let wait = match turn.failed {
            0 => every,
            failed => RETRY.saturating_mul(1 << failed.min(10)).min(every),
        };
        let (after, unsaved) = (self.saving.after, self.unsaved());
        // Many changes, or a journal that begins anew and builds on a snapshot that is not there yet.
        let is_wanted = after > 0 && unsaved >= after || self.is_snapshot_wanted();
        let is_due = turn.failed == 0 && is_wanted || unsaved > 0 && turn.saved.elapsed() >= wait;
        if self.saving.backend.is_none() || turn.saver.is_some() || !is_due {
            return;
        }
        turn.saved = Instant::now();
        let (inner, stop) = (Arc::clone(self), Arc::clone(stop));
        let save = move || match inner.save_slowly(&|| stop.is_wanted()) {
            Ok(_) => Ok(()),
            Err(SnapshotError::GivenUp) => Err(()),
            Err(error) => {
                inner.saving.failures.fetch_add(1, Relaxed);
                tracing::warn!(%error, bus = %inner.path.display(), "the snapshot failed");
                Err(())
            }
        };
        match std::thread::Builder::new().name("membus-snapshot".into()).spawn(save) {
            Ok(saver) => turn.saver = Some(saver),
            Err(_) => turn.failed = turn.failed.saturating_add(1),
        }
    }

    /// Whether the journal has begun anew, and asks for a snapshot to build on.
    pub(super) fn is_snapshot_wanted(&self) -> bool {
        let word = |at| self.core.region.load(at, Acquire).unwrap_or_default();
        word(header::SNAPSHOT_WANTED) > word(header::SNAPSHOT_REVISION)
    }

    /// Saves by the rate that the bus has.
    fn save_slowly(&self, is_unwanted: &dyn Fn() -> bool) -> Result<SnapshotInfo, SnapshotError> {
        self.take_snapshot(&mut Going::until(self.saving.rate, is_unwanted))
    }

    /// Takes away what expired: for readers it is gone already, so this may wait when it is much.
    fn expire_in_time(&self, me: u32, turn: &mut Turn, stop: &Stop) -> Result<(), WriteFailure> {
        let begun = Instant::now();
        if begun < turn.expiry {
            return Ok(());
        }
        let core = &self.core;
        let is_over = || stop.is_wanted() || begun.elapsed() > turn.round;
        let mut gone = 0;
        let expire = |index, most| core.expire_stripe(me, index, most, &is_over, &mut gone);
        let round = core.in_each_stripe((turn.stripes.0, GLANCE), &is_over, expire);
        self.ring_expired(gone);
        let round = round?;
        turn.stripes.0 = round.next.unwrap_or(0);
        // Waiting is no work: what was passed over is looked at again in the next turn.
        if round.stalled.is_none() && round.next.is_none() {
            turn.expiry = Instant::now() + begun.elapsed() * (EXPIRY_SHARE - 1);
        }
        Ok(())
    }

    /// Frees what the stripes' rings have no room for, and what was cleared by somebody who died.
    fn sweep_in_time(&self, me: u32, turn: &mut Turn, stop: &Stop) -> Result<(), WriteFailure> {
        let begun = Instant::now();
        if begun < turn.sweep {
            return Ok(());
        }
        let core = &self.core;
        let is_over = || stop.is_wanted() || begun.elapsed() > turn.round;
        let round = core.in_each_stripe((turn.stripes.1, GLANCE), &is_over, |index, most| {
            core.sweep_cleared(me, index, most)?;
            let wanted = core.geometry.stripe(index) + stripe::SWEEP_WANTED;
            if core.region.load(wanted, Relaxed)? == 0 {
                return Ok(0);
            }
            Ok(core.sweep_in_pieces(me, index, most)?)
        })?;
        turn.stripes.1 = round.next.unwrap_or(0);
        if round.stalled.is_none() {
            turn.sweep = Instant::now() + begun.elapsed() * (SWEEP_SHARE - 1);
        }
        Ok(())
    }

    fn grow_ahead(&self, me: u32, turn: &mut Turn) -> Result<(), WriteFailure> {
        let core = &self.core;
        let claims = core.region.load(header::CLAIMS, Relaxed)?;
        if claims == turn.claims {
            return Ok(());
        }
        turn.claims = claims;
        let (free, _) = core.free_blocks()?;
        let spare = (core.blocks()? / 16).max(SPARE_BLOCKS);
        if free < spare && core.region.load(header::SIZE, Acquire)? < core.geometry.max_capacity {
            // No room is told by the write that needs it.
            let _grown = self.grow(me, (spare - free).min(SPARE_BLOCKS))?;
        }
        Ok(())
    }

    /// When the files were unlinked under us: says so to every handle.
    fn look_for_files(&self, turn: &mut Turn) -> Result<(), LockError> {
        if turn.files.elapsed() < FILES {
            return Ok(());
        }
        turn.files = Instant::now();
        if self.files_are_gone() {
            // The last turn of the journal takes what there is, as long as nobody is told: who builds the next bus waits for it.
            drop(turn.journal.take());
            // The state is still mapped: it is saved before anybody is told.
            if self.saving.backend.is_some() && self.unsaved() > 0 {
                self.save_lost();
            }
            self.core.region.store(header::DESTROYED, 1, Release)?;
            self.ring_all()?;
        }
        Ok(())
    }
}
