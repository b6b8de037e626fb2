//! Barriers: so many arrive, then all go on.
//!
//! ```text
//! arrives ──► Arrived ──► Passes ──► off the roll
//!             waits        the last one wrote it, for all at once
//! ```
//!
//! Who completes the number turns every `Arrived` into `Passes` by one commit, having looked first
//! whether each of them lives. So all pass or none does, a time-out either comes before that commit
//! and takes the line off, or finds that it may pass; and there is one who made the commit.
//!
//! A wait that fails ends in the same way: it has passed, or is taken off. What can't be taken off then is
//! remembered by the handle, and goes with the commit of its next arrival: it does not count beside it.
//!
//! A death before that commit does not count; after it, it is a death behind the barrier.

use super::super::Bus;
use super::roll::{Line, Next, Role, Roll, change, read, timed_out};
use super::wait::{Busy, Limit, until};
use super::{Address, Sort, new_id};
use crate::error::LockError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A barrier by its name and the number that it waits for. Cheap to make; it holds nothing.
#[derive(Debug, Clone)]
pub struct Barrier {
    bus: Bus,
    address: Address,
    width: u32,
    left: Arc<Left>,
}

/// Arrivals that failed and could not be taken off.
#[derive(Debug)]
struct Left {
    /// A forked child has a copy, and perhaps the lock that one of its parent's threads held.
    process: u64,
    ids: Mutex<Vec<u64>>,
}

impl Left {
    fn ids(&self) -> Option<MutexGuard<'_, Vec<u64>>> {
        let is_own = self.process == crate::sys::fork::lineage();
        is_own.then(|| self.ids.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How somebody passed a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BarrierWait {
    /// Whether it completed the number: exactly one did. If that one is killed at once, nobody learns it.
    pub is_leader: bool,
}

/// What an arrival came to.
enum Arrival {
    /// It waits; the roll has this revision.
    Waits,
    /// It completed the number.
    Leads,
    /// It seems to complete the number: whether the others live is to be looked at first.
    Nearly,
}

impl Barrier {
    /// Arrives, and waits until so many have, this one among them; `None`: as long as it takes. The barrier
    /// may be used again at once, by the same and by others.
    ///
    /// Killed: who dies while it waits does not count. Stopped: who has arrived counts, whatever it does since;
    /// it passes when it goes on. Slow: the others wait for it.
    ///
    /// # Errors
    /// [`LockError::TimedOut`]: it has not arrived then, and the others wait for one more.
    /// [`LockError::Differs`] when others wait there for another number. Any other error: the same, unless the
    /// bus takes no change; then the arrival counts until this handle, or a clone of it, arrives again, or the
    /// process ends.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<BarrierWait, LockError> {
        let (inner, limit) = (&self.bus.inner, Limit::new(timeout));
        let ((me, owner), id) = (inner.holding_as()?, new_id()?);
        if matches!(self.arrive((me, owner, id))?, Arrival::Leads) {
            return Ok(BarrierWait { is_leader: true });
        }
        let passed = until(inner, &self.address, limit, None, |_| self.look(me, id));
        self.conclude(passed, me, id, limit)
    }

    /// How many have arrived and wait.
    ///
    /// # Errors
    /// When the bus can't be read.
    pub fn waiting(&self) -> Result<u32, LockError> {
        let (roll, _) = read(&self.bus.inner, &self.address)?;
        Ok(u32::try_from(roll.of(Role::Arrived).count()).unwrap_or(u32::MAX))
    }

    fn arrive(&self, (me, owner, id): (u32, u64, u64)) -> Result<Arrival, LockError> {
        let inner = &self.bus.inner;
        let line = |role| {
            let since = inner.core.clock.wall();
            Line { owner, id, deadline: 0, since, role, units: 0 }
        };
        let left = self.left.ids().map(|ids| ids.clone()).unwrap_or_default();
        let attempt = |probe: bool| {
            let end = change(inner, &self.address, me, probe, |roll| {
                for id in &left {
                    roll.strike(*id);
                }
                if probe {
                    self.strike_dying(roll)?;
                }
                self.check(roll)?;
                if roll.of(Role::Arrived).count() + 1 < self.width as usize {
                    roll.limit = self.width;
                    roll.lines.push(line(Role::Arrived));
                    return Ok(Next::Write(Arrival::Waits));
                }
                if !probe {
                    return Ok(Next::Keep(Arrival::Nearly));
                }
                for line in roll.lines.iter_mut().filter(|line| line.role == Role::Arrived) {
                    line.role = Role::Passes;
                }
                // Alone it needs no roll.
                let is_written = self.width > 1;
                Ok(if is_written {
                    Next::Write(Arrival::Leads)
                } else {
                    Next::Keep(Arrival::Leads)
                })
            });
            Ok(end?.0)
        };
        let end = match attempt(false) {
            Ok(Arrival::Nearly) | Err(LockError::Differs { .. }) => attempt(true),
            end => end,
        };
        if end.is_ok()
            && let Some(mut ids) = self.left.ids()
        {
            ids.retain(|id| !left.contains(id));
        }
        end
    }

    /// Takes off who does not live for certain: it is not enough that a burial was not to be had, since
    /// somebody else may be at it.
    fn strike_dying(&self, roll: &mut Roll) -> Result<(), LockError> {
        let mut dying = Vec::new();
        for line in roll.of(Role::Arrived) {
            if !self.bus.inner.lives(line.owner)? {
                dying.push(line.id);
            }
        }
        for id in dying {
            roll.strike(id);
        }
        Ok(())
    }

    /// Who waits there waits for the same number.
    fn check(&self, roll: &Roll) -> Result<(), LockError> {
        if !roll.has(Role::Arrived) || roll.limit == self.width {
            return Ok(());
        }
        Err(LockError::Differs {
            what: "barrier",
            name: self.address.name(),
            setting: "a width of",
            asked: self.width,
            found: roll.limit,
        })
    }

    /// Whether it may pass.
    fn look(&self, me: u32, id: u64) -> Result<Result<(), Busy>, LockError> {
        let (mut roll, seen) = read(&self.bus.inner, &self.address)?;
        match roll.find(id).map(|line| line.role) {
            Some(Role::Arrived) => Ok(Err(Busy { seen, until: 0 })),
            Some(_) => {
                change(&self.bus.inner, &self.address, me, false, |roll| {
                    Ok(if roll.strike(id) { Next::Write(()) } else { Next::Keep(()) })
                })?;
                Ok(Ok(()))
            }
            // Only who holds the line takes it off while its member lives.
            None => {
                let (what, name) = (self.address.what(), self.address.name());
                Err(LockError::Damaged { what, name, size: 0 })
            }
        }
    }

    /// What a wait came to that passed, whose time ran out, or that failed: others may have passed with it.
    fn conclude(
        &self,
        passed: Result<Option<()>, LockError>,
        me: u32,
        id: u64,
        limit: Limit,
    ) -> Result<BarrierWait, LockError> {
        let failed = match passed {
            Ok(Some(())) => return Ok(BarrierWait { is_leader: false }),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        match (self.withdraw(me, id), failed) {
            (Ok(true), _) => Ok(BarrierWait { is_leader: false }),
            (_, Some(error)) | (Err(error), None) => Err(error),
            (Ok(false), None) => {
                let arrived = |line: &Line| line.role == Role::Arrived;
                Err(timed_out(&self.bus.inner, &self.address, limit.waited(), arrived)?)
            }
        }
    }

    /// Takes an arrival back, unless it may pass: whether it may.
    fn withdraw(&self, me: u32, id: u64) -> Result<bool, LockError> {
        let mut passes = false;
        let end = change(&self.bus.inner, &self.address, me, false, |roll| {
            passes = roll.find(id).is_some_and(|line| line.role == Role::Passes);
            Ok(if roll.strike(id) { Next::Write(()) } else { Next::Keep(()) })
        });
        if end.is_err()
            && let Some(mut ids) = self.left.ids()
        {
            ids.push(id);
        }
        // The others have passed with it, whether or not its line is off.
        if passes { Ok(true) } else { end.map(|_| false) }
    }
}

impl Bus {
    /// A barrier for so many; threads of one process count each. Nobody has arrived yet.
    ///
    /// # Errors
    /// [`LockError::Name`]; [`LockError::Setting`] for a barrier that waits for nobody.
    pub fn barrier(&self, name: impl AsRef<[u8]>, width: u32) -> Result<Barrier, LockError> {
        let address = Address::new(Sort::Barrier, name)?;
        if width == 0 {
            let (what, setting, rule) = ("barrier", "number to wait for", "at least 1");
            return Err(LockError::Setting { what, setting, asked: "0".to_owned(), rule });
        }
        let left = Left { process: crate::sys::fork::lineage(), ids: Mutex::default() };
        Ok(Barrier { bus: self.clone(), address, width, left: Arc::new(left) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::Place;

    const SHORT: Duration = Duration::from_millis(1);

    fn arrived(barrier: &Barrier) -> (u32, u64) {
        let ((me, owner), id) = (barrier.bus.inner.holding_as().unwrap(), new_id().unwrap());
        assert!(matches!(barrier.arrive((me, owner, id)).unwrap(), Arrival::Waits));
        (me, id)
    }

    fn failed() -> Result<Option<()>, LockError> {
        let source = std::io::Error::from_raw_os_error(libc::EMFILE);
        Err(LockError::Io { what: "making a doorbell", source })
    }

    /// Promise (locks): all pass a barrier or none does, also when a wait fails behind its arrival.
    /// Plant: the line is taken off whatever it says: the others passed with one that is told an error.
    #[test]
    fn who_fails_to_wait_has_passed_with_the_others_or_did_not_arrive() {
        let place = Place::new();
        let barrier = place.make().barrier("b", 2).unwrap();
        let (me, id) = arrived(&barrier);
        assert!(barrier.clone().wait(None).unwrap().is_leader);
        let end = barrier.conclude(failed(), me, id, Limit::new(None));
        assert_eq!(end.unwrap(), BarrierWait { is_leader: false });
        let (me, id) = arrived(&barrier);
        let end = barrier.conclude(failed(), me, id, Limit::new(None));
        assert!(matches!(end, Err(LockError::Io { .. })), "{end:?}");
        assert_eq!(barrier.waiting().unwrap(), 0);
        assert!(read(&barrier.bus.inner, &barrier.address).unwrap().0.lines.is_empty());
    }

    /// Promise (locks): who tries again after an error counts once.
    /// Plant: an arrival that could not be taken off is forgotten.
    #[test]
    fn an_arrival_that_could_not_be_taken_off_does_not_count_beside_the_next() {
        let place = Place::new();
        let options = place.options().deadline(Duration::from_millis(20));
        let bus = options.create_at(place.bus()).unwrap();
        let barrier = bus.barrier("b", 3).unwrap();
        let (me, id) = arrived(&barrier);
        let core = &bus.inner.core;
        let hash = crate::word::Hash::of(barrier.address.in_realm(), core.geometry.seed);
        let stripe = hash.stripe(core.geometry.stripes);
        let other = place.options().attach_at(place.bus()).unwrap();
        let theirs = &other.inner.core;
        let me_too = other.inner.writer().unwrap();
        let held = theirs.lock_stripe(stripe, me_too, &theirs.patience()).unwrap();
        let end = barrier.conclude(failed(), me, id, Limit::new(None));
        drop(held);
        assert!(matches!(end, Err(LockError::Io { .. })), "{end:?}");
        assert_eq!(barrier.waiting().unwrap(), 1, "it was taken off");
        let end = barrier.clone().wait(Some(SHORT));
        assert!(matches!(end, Err(LockError::TimedOut { others: 0, holder: None, .. })), "{end:?}");
        assert_eq!(barrier.waiting().unwrap(), 0);
        arrived(&barrier);
        arrived(&barrier);
        assert!(barrier.wait(None).unwrap().is_leader);
    }
}
