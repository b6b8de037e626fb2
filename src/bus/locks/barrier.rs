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
//! A death before that commit does not count; after it, it is a death behind the barrier.

use super::super::Bus;
use super::roll::{Line, Next, Role, Roll, change, read, timed_out};
use super::share::strike;
use super::wait::{Busy, Limit, until};
use super::{Address, Sort, new_id};
use crate::error::LockError;
use std::time::Duration;

/// A barrier by its name and the number that it waits for. Cheap to make; it holds nothing.
#[derive(Debug, Clone)]
pub struct Barrier {
    bus: Bus,
    address: Address,
    width: u32,
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
    /// [`LockError::Differs`] when others wait there for another number.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<BarrierWait, LockError> {
        let (inner, limit) = (&self.bus.inner, Limit::new(timeout));
        let ((me, owner), id) = (inner.holding_as()?, new_id()?);
        if matches!(self.arrive((me, owner, id))?, Arrival::Leads) {
            return Ok(BarrierWait { is_leader: true });
        }
        let passed = until(inner, &self.address, limit, None, |_| self.look(me, id));
        match passed {
            Ok(Some(())) => Ok(BarrierWait { is_leader: false }),
            Ok(None) => self.withdraw(me, id, limit),
            Err(error) => {
                // What can't be taken off now counts as long as this member lives.
                let _end = strike(inner, &self.address, id);
                Err(error)
            }
        }
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
        let attempt = |probe: bool| {
            let end = change(inner, &self.address, me, probe, |roll| {
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
        match attempt(false) {
            Ok(Arrival::Nearly) | Err(LockError::Differs { .. }) => attempt(true),
            end => end,
        }
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

    /// After the time ran out: takes the arrival back, unless it may pass.
    fn withdraw(&self, me: u32, id: u64, limit: Limit) -> Result<BarrierWait, LockError> {
        let inner = &self.bus.inner;
        let (passes, _) = change(inner, &self.address, me, false, |roll| {
            let passes = roll.find(id).is_some_and(|line| line.role == Role::Passes);
            roll.strike(id);
            Ok(Next::Write(passes))
        })?;
        if passes {
            return Ok(BarrierWait { is_leader: false });
        }
        let arrived = |line: &Line| line.role == Role::Arrived;
        Err(timed_out(inner, &self.address, limit.waited(), arrived)?)
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
        Ok(Barrier { bus: self.clone(), address, width })
    }
}
