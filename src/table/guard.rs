//! Taking the commit lock and the stripes' locks, through deaths.
//!
//! 1. Order: stripes in rising index, then the commit lock.
//! 2. Whoever takes the commit lock over runs FINISH before anything else.
//! 3. Whoever takes a stripe over passes through the commit lock *first*, holding the dead owner's
//!    byte, then swaps the word and repairs the stripe.
//! 4. A guard that is dropped while its thread panics repairs before it unlocks.

use super::Core;
use super::wish::WriteFailure;
use crate::lock::{LockError, LockOutcome, PROBE_AFTER, Patience, Probe, RobustLock};
use crate::region::BadRegion;
use crate::region::layout::{PINS_MAX, header, member, stripe};
use crate::sync::Ordering::{Relaxed, Release};
use crate::tally::Counter;
use std::time::Duration;

/// What became of a round through all stripes.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// The first lock that was not to be had.
    pub(crate) stalled: Option<LockError>,
    /// Where to go on, where it was over before the end.
    pub(crate) next: Option<u64>,
}

/// The commit lock, held.
#[derive(Debug)]
pub(crate) struct CommitGuard<'a> {
    core: &'a Core,
}

impl Drop for CommitGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A damaged record stays for the next owner, who reports it.
            let _end = self.core.finish();
        }
        self.core.commit_lock().unlock();
    }
}

/// One stripe's lock, held.
#[derive(Debug)]
pub(crate) struct StripeGuard<'a> {
    core: &'a Core,
    pub(crate) stripe: u64,
}

impl Drop for StripeGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _end = self.core.repair(self.stripe);
        }
        self.core.stripe_lock(self.stripe).unlock();
    }
}

impl Core {
    pub(crate) fn commit_lock(&self) -> RobustLock<'_> {
        RobustLock::at(&self.space.region, header::COMMIT_LOCK, "the commit lock")
    }

    /// Held by whoever makes the file longer; no other lock is held meanwhile.
    pub(crate) fn grow_lock(&self) -> RobustLock<'_> {
        RobustLock::at(&self.space.region, header::GROW_LOCK, "the grow lock")
    }

    pub(crate) fn stripe_lock(&self, index: u64) -> RobustLock<'_> {
        let at = self.geometry.stripe(index) + stripe::LOCK;
        RobustLock::at(&self.space.region, at, "the lock of a stripe")
    }

    /// What an operation that begins now may wait.
    #[inline]
    pub(crate) fn patience(&self) -> Patience {
        Patience::new(self.patience)
    }

    /// Does something in every stripe, beginning with one of them, until it is over; in one at least. One in which a lock is
    /// not to be had within `most` is passed over: who stands still must not hold up what there is to do in the others, which
    /// are waited for less from then on.
    pub(crate) fn in_each_stripe<T>(
        &self,
        (from, mut most): (u64, Duration),
        is_over: &dyn Fn() -> bool,
        mut work: impl FnMut(u64, Duration) -> Result<T, WriteFailure>,
    ) -> Result<Round, WriteFailure> {
        let mut round = Round::default();
        let stripes = self.geometry.stripes;
        for step in 0..stripes {
            let index = (from % stripes + step) % stripes;
            if step > 0 && is_over() {
                round.next = Some(index);
                break;
            }
            match work(index, most) {
                Err(WriteFailure::Lock(stall @ LockError::Stalled { .. })) => {
                    round.stalled.get_or_insert(stall);
                    // Still enough to take a lock over from the dead.
                    most = most.min(PROBE_AFTER * 2);
                }
                end => drop(end?),
            }
        }
        Ok(round)
    }

    /// LOCK(commit).
    #[inline]
    pub(crate) fn lock_commit(
        &self,
        me: u32,
        patience: &Patience,
    ) -> Result<CommitGuard<'_>, LockError> {
        let outcome = self.commit_lock().lock(me, patience, |owner| {
            let Some(mut probe) = self.liveness.probe() else { return Ok(false) };
            Ok::<_, LockError>(probe.acquire(owner) && self.commit_lock().take_over(owner, me)?)
        })?;
        self.commit_taken(me, outcome)
    }

    /// LOCK(commit) by somebody who probes already.
    fn lock_commit_probing(
        &self,
        me: u32,
        patience: &Patience,
        probe: &mut dyn Probe,
    ) -> Result<CommitGuard<'_>, LockError> {
        let outcome = self.commit_lock().lock(me, patience, |owner| {
            Ok::<_, LockError>(probe.acquire(owner) && self.commit_lock().take_over(owner, me)?)
        })?;
        self.commit_taken(me, outcome)
    }

    fn commit_taken(&self, me: u32, outcome: LockOutcome) -> Result<CommitGuard<'_>, LockError> {
        let guard = CommitGuard { core: self };
        // A record that is ready although the lock was given back: its FINISH met a damaged word.
        let is_ready = self.region.load(header::READY, Relaxed)? != 0;
        if outcome == LockOutcome::OwnerDied || is_ready {
            self.finish()?;
            self.tally(me, Counter::Finished, is_ready.into());
            self.tally(me, Counter::Takeovers, (outcome == LockOutcome::OwnerDied).into());
        }
        Ok(guard)
    }

    /// LOCK(stripe).
    #[inline]
    pub(crate) fn lock_stripe(
        &self,
        index: u64,
        me: u32,
        patience: &Patience,
    ) -> Result<StripeGuard<'_>, LockError> {
        let lock = self.stripe_lock(index);
        let outcome = lock.lock(me, patience, |owner| {
            let Some(mut probe) = self.liveness.probe() else { return Ok(false) };
            if !probe.acquire(owner) {
                return Ok::<_, LockError>(false);
            }
            drop(self.lock_commit_probing(me, patience, &mut *probe)?);
            Ok(lock.take_over(owner, me)?)
        })?;
        let guard = StripeGuard { core: self, stripe: index };
        if outcome == LockOutcome::OwnerDied {
            self.repair(index)?;
            self.tally(me, Counter::Takeovers, 1);
        }
        Ok(guard)
    }

    /// Repairs what still names the dead slot `dead`: the commit first, then the stripes, then the
    /// grow lock. The
    /// caller holds the slot's byte, through `probe` or, when it is the newcomer in that slot, by
    /// itself (`dead == me`). Gives the number of locks that were repaired.
    pub(crate) fn mend_slot(
        &self,
        dead: u32,
        me: u32,
        patience: &Patience,
        probe: &mut dyn Probe,
    ) -> Result<u64, LockError> {
        let mut mended = 0;
        if self.commit_lock().take_over(dead, me)? {
            drop(self.commit_taken(me, LockOutcome::OwnerDied)?);
            mended += 1;
        }
        for index in 0..self.geometry.stripes {
            let lock = self.stripe_lock(index);
            if lock.owner()? != Some(dead) {
                continue;
            }
            drop(self.lock_commit_probing(me, patience, probe)?);
            if lock.take_over(dead, me)? {
                let guard = StripeGuard { core: self, stripe: index };
                self.repair(index)?;
                drop(guard);
                self.tally(me, Counter::Takeovers, 1);
                mended += 1;
            }
        }
        // A dead grower leaves a longer file at most: the size word counts.
        if self.grow_lock().take_over(dead, me)? {
            self.grow_lock().unlock();
            self.tally(me, Counter::Takeovers, 1);
            mended += 1;
        }
        Ok(mended)
    }

    /// Clears the pins of a slot whose byte is held.
    pub(crate) fn clear_pins(&self, slot: u32) -> Result<(), BadRegion> {
        let (bitmap, bit) = (self.geometry.pinned(u64::from(slot)), 1 << (slot % 64));
        for pin in 0..PINS_MAX {
            let at = self.geometry.member(u64::from(slot)) + member::PINS + 8 * pin;
            // ORDERING: [pin] Release; pairs with the Acquire load of who frees. For the order of a
            // death alone: the dead read nothing through their pins.
            self.region.store(at, 0, Release)?;
        }
        if self.region.load(bitmap, Relaxed)? & bit != 0 {
            // ORDERING: [pin] Release; pairs with the Acquire load of who frees. For the order of a
            // death alone: a pin that is still seen only holds an entry back.
            self.region.clear_bits(bitmap, bit, Release)?;
        }
        Ok(())
    }
}
