//! Semaphores: so many permits, of which each holder has some.
//!
//! The permits that are taken never add up to more than there are, whatever dies when: they are counted
//! on the roll, by the commit that takes them.

use super::super::Bus;
use super::roll::{Line, Next, Role, attempt, read, timed_out};
use super::share::Share;
use super::wait::{Busy, Limit, until};
use super::{Address, Sort, new_id};
use crate::error::LockError;
use std::time::Duration;

/// A semaphore by its name and its number of permits. Cheap to make; it holds nothing.
#[derive(Debug, Clone)]
pub struct Semaphore {
    bus: Bus,
    address: Address,
    permits: u32,
}

/// Permits of a semaphore, until they are dropped or their member is gone.
///
/// Killed: they are free as soon as somebody finds the death; who waits looks after 10 ms, then every 100 ms
/// at the least. Stopped or slow: they stay taken.
#[derive(Debug)]
#[must_use = "they are released when they are dropped"]
pub struct Permits {
    share: Share,
    count: u32,
}

impl Permits {
    /// How many.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }
    /// Whether they are held still; a forked child's copy is not.
    ///
    /// # Errors
    /// When the bus can't be read.
    pub fn is_held(&self) -> Result<bool, LockError> {
        self.share.is_held()
    }
    /// Releases them, and says if that failed.
    ///
    /// # Errors
    /// [`LockError`]; a failed one is tried again at the drop.
    pub fn release(mut self) -> Result<(), LockError> {
        self.share.release().map(|_| ())
    }
}

impl Semaphore {
    /// Takes `count` permits, and waits for them as long as it takes: until so many are free at one moment.
    /// There is no queue: those who want few may starve one who wants many.
    ///
    /// # Errors
    /// [`LockError::Differs`] when others use another number of permits, [`LockError::Setting`] when there
    /// are not so many; nothing is held then.
    pub fn acquire(&self, count: u32) -> Result<Permits, LockError> {
        self.wait(count, None)
    }

    /// As [`acquire`](Self::acquire), without waiting: `None` when not so many are free.
    ///
    /// # Errors
    /// As there.
    pub fn try_acquire(&self, count: u32) -> Result<Option<Permits>, LockError> {
        self.within(count, Limit::new(Some(Duration::ZERO)))
    }

    /// As [`acquire`](Self::acquire), and waits for so long.
    ///
    /// # Errors
    /// As there; [`LockError::TimedOut`] names one who has some.
    pub fn acquire_timeout(&self, count: u32, timeout: Duration) -> Result<Permits, LockError> {
        self.wait(count, Some(timeout))
    }

    /// Permits that are free. The dead whom nobody found yet have theirs; by the time it is read it may be
    /// another number.
    ///
    /// # Errors
    /// When the bus can't be read.
    pub fn available(&self) -> Result<u32, LockError> {
        let (roll, _) = read(&self.bus.inner, &self.address)?;
        let taken = u32::try_from(roll.units()).unwrap_or(u32::MAX);
        Ok(self.permits.saturating_sub(taken))
    }

    fn wait(&self, count: u32, timeout: Option<Duration>) -> Result<Permits, LockError> {
        let limit = Limit::new(timeout);
        if let Some(permits) = self.within(count, limit)? {
            return Ok(permits);
        }
        Err(timed_out(&self.bus.inner, &self.address, limit.waited(), |_| true)?)
    }

    fn within(&self, count: u32, limit: Limit) -> Result<Option<Permits>, LockError> {
        if count == 0 || count > self.permits {
            let (what, setting, rule) = ("semaphore", "number of permits", "from 1 to all of them");
            return Err(LockError::Setting { what, setting, asked: count.to_string(), rule });
        }
        let inner = &self.bus.inner;
        let ((me, owner), id) = (inner.holding_as()?, new_id()?);
        let attempt = |probe| self.take(count, (me, owner, id), probe);
        let end = until(inner, &self.address, limit, None, attempt)?;
        Ok(end.map(|_| Permits { share: Share::new(inner, &self.address, (id, owner)), count }))
    }

    fn take(
        &self,
        count: u32,
        (me, owner, id): (u32, u64, u64),
        probe: bool,
    ) -> Result<Result<((), u64), Busy>, LockError> {
        let inner = &self.bus.inner;
        attempt(inner, &self.address, me, probe, |roll| {
            if !roll.lines.is_empty() && roll.limit != self.permits {
                return Err(LockError::Differs {
                    what: "semaphore",
                    name: self.address.name(),
                    setting: "permits",
                    asked: self.permits,
                    found: roll.limit,
                });
            }
            if roll.units() + u64::from(count) > u64::from(self.permits) {
                return Ok(Next::Keep(Err(0)));
            }
            roll.limit = self.permits;
            let (since, role) = (inner.core.clock.wall(), Role::Permits);
            roll.lines.push(Line { owner, id, deadline: 0, since, role, units: count });
            Ok(Next::Write(Ok(())))
        })
    }
}

impl Bus {
    /// A semaphore of so many permits. Nothing is taken yet. Whoever takes the first permit says how many
    /// there are, for as long as any is held; who comes with another number is told so.
    ///
    /// # Errors
    /// [`LockError::Name`]; [`LockError::Setting`] for no permits.
    pub fn semaphore(&self, name: impl AsRef<[u8]>, permits: u32) -> Result<Semaphore, LockError> {
        let address = Address::new(Sort::Semaphore, name)?;
        if permits == 0 {
            let (what, setting, rule) = ("semaphore", "number of permits", "at least 1");
            return Err(LockError::Setting { what, setting, asked: "0".to_owned(), rule });
        }
        Ok(Semaphore { bus: self.clone(), address, permits })
    }
}
