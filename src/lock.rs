//! The robust lock: a 32-bit word that survives the death of its owner.
//!
//! | bit 31 contended | bits 0-30 owner | meaning                  |
//! |------------------|-----------------|--------------------------|
//! | 0                | 0               | free                     |
//! | 0                | slot + 1        | held, nobody sleeps      |
//! | 1                | slot + 1        | held, somebody may sleep |
//!
//! 1. Who waits longer than [`PROBE_AFTER`] asks [`Liveness`] to *acquire* the owner's byte. Acquired
//!    means: the owner is dead, and its slot can't be handed out again while the byte is held.
//! 2. The word changes from a dead owner to a living one by one compare-and-swap, under that byte.
//! 3. A stopped owner is alive and is never robbed: the wait ends at its deadline.
//!
//! A death while holding leaves the word in the dead slot's name. What the lock protects is
//! repaired by whoever takes it over ([`LockOutcome::OwnerDied`]); the steps are in
//! `docs/design.md`, LOCK. Futexes: `man 2 futex`; the shape of the fast path follows Drepper,
//! "Futexes Are Tricky".

use crate::hook;
use crate::region::{BadRegion, Region};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long a waiter sleeps before it asks whether the owner lives.
pub(crate) const PROBE_AFTER: Duration =
    if cfg!(test) { Duration::from_micros(50) } else { Duration::from_millis(5) };
/// What is waited for a lock by who can come again, or leave it to others: long enough to take it over from a dead owner.
pub(crate) const GLANCE: Duration = Duration::from_millis(20);
/// Looks at the word before the first sleep.
const SPINS: u32 = if cfg!(loom) { 0 } else { 100 };
const FREE: u32 = 0;
pub(crate) const CONTENDED: u32 = 1 << 31;

/// How the lock was got.
#[must_use = "after `OwnerDied`, repair what the lock protects before touching it"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockOutcome {
    Clean,
    OwnerDied,
}

/// Why a lock was not got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LockError {
    /// The deadline passed; this slot held the lock.
    Stalled {
        owner: u32,
        what: &'static str,
    },
    Bad(BadRegion),
}

impl From<BadRegion> for LockError {
    fn from(bad: BadRegion) -> Self {
        Self::Bad(bad)
    }
}

/// How long an operation may wait, over all its locks: counted from its first wait on, so that one
/// that need not wait asks no clock.
#[derive(Debug)]
pub(crate) struct Patience {
    most: Duration,
    until: Cell<Option<Instant>>,
    #[cfg(loom)]
    last: Cell<Option<Instant>>,
}

impl Patience {
    pub(crate) fn new(most: Duration) -> Self {
        Self {
            most,
            until: Cell::new(None),
            #[cfg(loom)]
            last: Cell::new(None),
        }
    }
    /// What is left of it.
    pub(crate) fn left(&self) -> Duration {
        let now = self.now();
        let until = self.until.get().or_else(|| now.checked_add(self.most));
        self.until.set(until);
        // Beyond the clock's end is for ever.
        until.map_or(self.most, |until| until.saturating_duration_since(now))
    }
    #[cfg(not(loom))]
    fn now(&self) -> Instant {
        Instant::now()
    }
    /// In a model, one wait passes from each look to the next.
    #[cfg(loom)]
    fn now(&self) -> Instant {
        let last = self.last.get().map_or_else(Instant::now, |last| last + PROBE_AFTER);
        self.last.set(Some(last));
        last
    }
}

/// Tells the living from the dead.
pub(crate) trait Liveness: Send + Sync + std::fmt::Debug {
    /// Begins to probe: nobody else of this process probes until the [`Probe`] is dropped. `None`
    /// when somebody does already: it is tried again later.
    fn probe(&self) -> Option<Box<dyn Probe + '_>>;
}

/// Bytes of dead members, held until this is dropped.
pub(crate) trait Probe {
    /// Acquires the byte of a dead member. `false`: alive, or no telling.
    fn acquire(&mut self, slot: u32) -> bool;
}

/// Which member slot a lock word names.
pub(crate) fn owner_of(word: u32) -> Option<u32> {
    (word & !CONTENDED).checked_sub(1)
}

/// One lock of a region.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RobustLock<'r> {
    region: &'r Region,
    at: u64,
    /// What it is called when it is not to be had.
    what: &'static str,
}

impl<'r> RobustLock<'r> {
    pub(crate) fn at(region: &'r Region, at: u64, what: &'static str) -> Self {
        Self { region, at, what }
    }

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        self.what
    }

    /// The slot that holds it, if any.
    pub(crate) fn owner(self) -> Result<Option<u32>, BadRegion> {
        // ORDERING: [lock.word] Acquire; pairs with the Release swap in `unlock`. Relaxed would do:
        // who takes it over acquires it then.
        Ok(owner_of(self.region.half(self.at)?.load(Acquire)))
    }

    fn swap_in(self, old: u32, new: u32) -> Result<bool, BadRegion> {
        let word = self.region.half(self.at)?;
        // ORDERING: [lock.word] Acquire; pairs with the Release swap in `unlock`.
        Ok(hook::step() && word.compare_exchange(old, new, Acquire, Relaxed).is_ok())
    }

    /// Takes the lock for `me`, as long as `patience` lasts. `on_dead` is asked with the owner after
    /// [`PROBE_AFTER`]; it answers `true` when the word is now ours.
    #[inline]
    pub(crate) fn lock<E: From<LockError>>(
        self,
        me: u32,
        patience: &Patience,
        on_dead: impl FnMut(u32) -> Result<bool, E>,
    ) -> Result<LockOutcome, E> {
        if self.swap_in(FREE, me + 1).map_err(LockError::Bad)? {
            return Ok(LockOutcome::Clean);
        }
        self.lock_contended(me, patience, on_dead)
    }

    #[cold]
    fn lock_contended<E: From<LockError>>(
        self,
        me: u32,
        patience: &Patience,
        mut on_dead: impl FnMut(u32) -> Result<bool, E>,
    ) -> Result<LockOutcome, E> {
        let word = self.region.half(self.at).map_err(LockError::Bad)?;
        #[cfg_attr(loom, expect(clippy::reversed_empty_ranges, reason = "a model does not spin"))]
        for _ in 0..SPINS {
            if word.load(Relaxed) == FREE && self.swap_in(FREE, me + 1).map_err(LockError::Bad)? {
                return Ok(LockOutcome::Clean);
            }
            crossbeam_utils::Backoff::new().spin();
        }
        let mut slept_on = FREE;
        loop {
            let seen = word.load(Relaxed);
            if hook::dead() {
                return Err(LockError::Stalled { owner: me, what: self.what }.into());
            }
            let Some(owner) = owner_of(seen) else {
                // Somebody may still sleep: the contended bit is kept. From what was seen: a word that
                // names nobody is free, whatever bit somebody gone mad has set in it.
                if self.swap_in(seen, (me + 1) | CONTENDED).map_err(LockError::Bad)? {
                    return Ok(LockOutcome::Clean);
                }
                continue;
            };
            let sleepy = seen | CONTENDED;
            if seen != sleepy && !self.swap_in(seen, sleepy).map_err(LockError::Bad)? {
                continue;
            }
            if slept_on == sleepy && on_dead(owner)? {
                return Ok(LockOutcome::OwnerDied);
            }
            let left = patience.left();
            if left.is_zero() {
                return Err(LockError::Stalled { owner, what: self.what }.into());
            }
            crate::sys::futex::wait(word, sleepy, left.min(PROBE_AFTER));
            slept_on = sleepy;
        }
    }

    /// Takes the word over from a dead owner, as long as it names it: waiters may set the contended
    /// bit meanwhile. The caller holds the owner's byte.
    pub(crate) fn take_over(self, owner: u32, me: u32) -> Result<bool, BadRegion> {
        let word = self.region.half(self.at)?;
        loop {
            let seen = word.load(Relaxed);
            if owner_of(seen) != Some(owner) || hook::dead() {
                return Ok(false);
            }
            if self.swap_in(seen, (me + 1) | CONTENDED)? {
                return Ok(true);
            }
        }
    }

    /// Gives the lock back and wakes one waiter.
    #[inline]
    pub(crate) fn unlock(self) {
        if !hook::step() {
            return;
        }
        let Ok(word) = self.region.half(self.at) else { return };
        // ORDERING: [lock.word] Release; pairs with the Acquire compare-and-swap in `swap_in`.
        if word.swap(FREE, Release) & CONTENDED != 0 {
            crate::sys::futex::wake_one(word);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
