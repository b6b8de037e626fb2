//! Locks and leases: held by one at a time.

use super::super::{Bus, Inner, reader::BusReader};
use super::hold::{Hold, holder, take};
use super::wait::{Limit, until};
use super::{Address, Fence, Sort};
use crate::error::LockError;
use crate::types::{LockHolder, Revision};
use std::sync::Arc;
use std::time::Duration;

/// A lock that is held, until it is released or dropped, or its member is gone.
///
/// Killed: it is free as soon as somebody finds the death; who waits for it looks after 10 ms, then every
/// 100 ms at the least. Stopped: it stays held. Slow: it stays held, and what others may have done
/// meanwhile is nothing, since they could not get it. In a forked child the copy is not held,
/// and its drop releases nothing.
#[derive(Debug)]
#[must_use = "it is released when it is dropped"]
pub struct LockGuard {
    hold: Hold,
}

/// A lock that is held for a time, unless it is renewed.
///
/// Killed: as a [`LockGuard`]. Stopped or slow for longer than its time: it is lost, at one instant for
/// everybody; [`renew`](Self::renew) and a batch that [requires](crate::Batch::require_lock) it say so, and
/// nothing that such a batch says is written. What is done outside of the bus needs the
/// [`token`](Self::token) there: who is asked to do something with a token lower than the highest that
/// it has seen, refuses.
#[derive(Debug)]
#[must_use = "it is released when it is dropped"]
pub struct Lease {
    hold: Hold,
    ttl: Duration,
}

impl LockGuard {
    /// The fencing token: each acquisition of this name has a higher one than all before it.
    #[must_use]
    pub fn token(&self) -> Revision {
        self.hold.token()
    }
    /// Whether it is held still. Somebody may have destroyed the bus, or this may be a forked child's copy.
    ///
    /// # Errors
    /// When the bus can't be read.
    pub fn is_held(&self) -> Result<bool, LockError> {
        self.hold.is_held()
    }
    /// Releases it, and says if that failed.
    ///
    /// # Errors
    /// [`LockError::Lost`] when it was not held any more.
    pub fn release(mut self) -> Result<(), LockError> {
        self.hold.release()
    }
}

impl AsRef<Fence> for LockGuard {
    fn as_ref(&self) -> &Fence {
        self.hold.fence()
    }
}

impl Lease {
    /// The fencing token: each acquisition of this name has a higher one than all before it. A renewal
    /// does not change it.
    #[must_use]
    pub fn token(&self) -> Revision {
        self.hold.token()
    }
    /// Holds it for its whole time from now on. It takes one write.
    ///
    /// # Errors
    /// [`LockError::Lost`] when its time had passed: somebody else may have it.
    pub fn renew(&self) -> Result<(), LockError> {
        self.hold.renew(self.ttl)
    }
    /// How long it is held from now on: zero when it is lost. By the clock alone; between the answer and
    /// what is done about it this thread may be stopped.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.hold.left().unwrap_or_default()
    }
    /// Whether it is held still, by a look at the bus.
    ///
    /// # Errors
    /// When the bus can't be read.
    pub fn is_held(&self) -> Result<bool, LockError> {
        self.hold.is_held()
    }
    /// Releases it, and says if that failed.
    ///
    /// # Errors
    /// [`LockError::Lost`] when its time had passed.
    pub fn release(mut self) -> Result<(), LockError> {
        self.hold.release()
    }
}

impl AsRef<Fence> for Lease {
    fn as_ref(&self) -> &Fence {
        self.hold.fence()
    }
}

/// Waits for what one alone can hold.
fn acquire(
    inner: &Arc<Inner>,
    name: &[u8],
    ttl: Option<Duration>,
    timeout: Option<Duration>,
) -> Result<Hold, LockError> {
    let (address, limit) = (Address::new(Sort::Lock, name)?, Limit::new(timeout));
    let attempt = |probe| take(inner, &address, ttl, probe);
    if let Some(hold) = until(inner, &address, limit, None, attempt)? {
        return Ok(hold);
    }
    let holder = holder(inner, &address)?.map(Box::new);
    let (what, name, waited) = (address.what(), address.name(), limit.waited());
    Err(LockError::TimedOut { what, name, waited, holder, others: 0 })
}

/// A time for which something is held.
pub(super) fn checked_ttl(sort: Sort, ttl: Duration) -> Result<Duration, LockError> {
    if ttl.is_zero() {
        let (what, setting, rule) = (sort.what(), "time to live", "it must be more than nothing");
        return Err(LockError::Setting { what, setting, asked: format!("{ttl:?}"), rule });
    }
    Ok(ttl)
}

impl Bus {
    /// Takes a lock, and waits for it as long as it takes. Names: 1 to
    /// [`LOCK_NAME_MAX`](crate::limits::LOCK_NAME_MAX) bytes, in a namespace of their own; `clear` frees none.
    ///
    /// Who waits sleeps. There is no queue: among those who wait, whoever comes first takes it. Threads of
    /// one process exclude each other too; a thread that takes what it holds waits for ever.
    ///
    /// ```no_run
    /// use membus::{Batch, Bus};
    ///
    /// let bus = Bus::open("orders")?;
    /// let guard = bus.lock("book")?;
    /// let mut batch = Batch::new();
    /// // Whatever happened since the lock was taken: nothing is written unless it is held.
    /// batch.require_lock(&guard).set("book/best", &101.5)?;
    /// bus.commit(&batch)?;
    /// guard.release()?;
    /// # Ok::<(), membus::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`LockError`]; nothing is held then.
    pub fn lock(&self, name: impl AsRef<[u8]>) -> Result<LockGuard, LockError> {
        Ok(LockGuard { hold: acquire(&self.inner, name.as_ref(), None, None)? })
    }

    /// Takes a lock if it is free, and does not wait: `None` when somebody has it. A dead holder is found.
    ///
    /// # Errors
    /// [`LockError`]; nothing is held then.
    pub fn try_lock(&self, name: impl AsRef<[u8]>) -> Result<Option<LockGuard>, LockError> {
        let address = Address::new(Sort::Lock, name)?;
        Ok(take(&self.inner, &address, None, true)?.ok().map(|hold| LockGuard { hold }))
    }

    /// Takes a lock, and waits for it for so long.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] names who has it.
    pub fn lock_timeout(
        &self,
        name: impl AsRef<[u8]>,
        timeout: Duration,
    ) -> Result<LockGuard, LockError> {
        Ok(LockGuard { hold: acquire(&self.inner, name.as_ref(), None, Some(timeout))? })
    }

    /// Takes a lock for `ttl`, and waits for it as long as it takes. It excludes locks of the same name. The
    /// time goes on while the process is stopped and while the host sleeps.
    ///
    /// # Errors
    /// [`LockError`]; nothing is held then.
    pub fn lease(&self, name: impl AsRef<[u8]>, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = checked_ttl(Sort::Lock, ttl)?;
        Ok(Lease { hold: acquire(&self.inner, name.as_ref(), Some(ttl), None)?, ttl })
    }

    /// As [`lease`](Self::lease), if it is free: `None` when somebody has it.
    ///
    /// # Errors
    /// [`LockError`]; nothing is held then.
    pub fn try_lease(
        &self,
        name: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<Option<Lease>, LockError> {
        let (address, ttl) = (Address::new(Sort::Lock, name)?, checked_ttl(Sort::Lock, ttl)?);
        Ok(take(&self.inner, &address, Some(ttl), true)?.ok().map(|hold| Lease { hold, ttl }))
    }

    /// As [`lease`](Self::lease), and waits for so long.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] names who has it.
    pub fn lease_timeout(
        &self,
        name: impl AsRef<[u8]>,
        ttl: Duration,
        timeout: Duration,
    ) -> Result<Lease, LockError> {
        let ttl = checked_ttl(Sort::Lock, ttl)?;
        Ok(Lease { hold: acquire(&self.inner, name.as_ref(), Some(ttl), Some(timeout))?, ttl })
    }

    /// Who holds a lock or a lease. For people: it may be another one by the time it is read, and a dead
    /// one is there until somebody finds the death.
    ///
    /// # Errors
    /// When the bus can't be read.
    pub fn lock_holder(&self, name: impl AsRef<[u8]>) -> Result<Option<LockHolder>, LockError> {
        holder(&self.inner, &Address::new(Sort::Lock, name)?)
    }
}

impl BusReader {
    /// As [`Bus::lock_holder`].
    ///
    /// # Errors
    /// When the bus can't be read.
    pub fn lock_holder(&self, name: impl AsRef<[u8]>) -> Result<Option<LockHolder>, LockError> {
        holder(&self.inner, &Address::new(Sort::Lock, name)?)
    }
}
