//! Read-write locks: one writes, or several read.
//!
//! Who has to wait to write puts itself on the roll, for [`ANNOUNCED`], and again as long as it waits; new
//! readers hold back meanwhile, so that readers who overlap for ever starve no writer. A waiting
//! writer that is killed or stopped is forgotten after that time. Among writers nobody is first.

use super::super::{Bus, Inner};
use super::roll::{Line, Next, Role, attempt, timed_out};
use super::share::{Share, strike};
use super::wait::{Busy, Limit, until};
use super::{Address, Fence, Sort, new_id};
use crate::error::LockError;
use crate::types::Revision;
use std::sync::Arc;
use std::time::Duration;

/// For how long a waiting writer holds new readers back without saying so again.
const ANNOUNCED: Duration = Duration::from_secs(1);

/// A share of a read-write lock, until it is dropped or its member is gone. Several read at a time.
///
/// Killed: it does not count any more as soon as somebody finds the death; a waiting writer looks after
/// 10 ms, then every 100 ms at the least. Stopped or slow: it counts, and no writer comes in.
#[derive(Debug)]
#[must_use = "it is released when it is dropped"]
pub struct ReadGuard {
    share: Share,
}

/// A read-write lock that is held to write, until it is dropped or its member is gone. Nobody else reads
/// or writes. Killed, stopped, slow: as a [`ReadGuard`]. A batch can
/// [require](crate::Batch::require_lock) it.
#[derive(Debug)]
#[must_use = "it is released when it is dropped"]
pub struct WriteGuard {
    share: Share,
    token: Revision,
}

impl ReadGuard {
    /// Whether it is held still; a forked child's copy is not.
    ///
    /// # Errors
    /// When the bus can't be read.
    pub fn is_held(&self) -> Result<bool, LockError> {
        self.share.is_held()
    }
    /// Releases it, and says if that failed.
    ///
    /// # Errors
    /// [`LockError`]; a failed one is tried again at the drop.
    pub fn release(mut self) -> Result<(), LockError> {
        self.share.release().map(|_| ())
    }
}

impl WriteGuard {
    /// The fencing token: each writer of this name has a higher one than all before it.
    #[must_use]
    pub fn token(&self) -> Revision {
        self.token
    }
    /// Whether it is held still; a forked child's copy is not.
    ///
    /// # Errors
    /// When the bus can't be read.
    pub fn is_held(&self) -> Result<bool, LockError> {
        self.share.is_held()
    }
    /// Releases it, and says if that failed.
    ///
    /// # Errors
    /// [`LockError::Lost`] when it was not held any more.
    pub fn release(mut self) -> Result<(), LockError> {
        if self.share.release()? {
            return Ok(());
        }
        let address = &self.share.fence.address;
        Err(LockError::Lost { what: address.what(), name: address.name(), token: self.token })
    }
}

impl AsRef<Fence> for WriteGuard {
    fn as_ref(&self) -> &Fence {
        &self.share.fence
    }
}

/// Who tries, and by what.
struct Try<'a> {
    inner: &'a Arc<Inner>,
    address: &'a Address,
    me: u32,
    owner: u64,
    id: u64,
}

impl Try<'_> {
    fn line(&self, role: Role, deadline: u64) -> Line {
        let since = self.inner.core.clock.wall();
        Line { owner: self.owner, id: self.id, deadline, since, role, units: 0 }
    }

    fn read(&self, probe: bool) -> Result<Result<((), u64), Busy>, LockError> {
        attempt(self.inner, self.address, self.me, probe, |roll| {
            if roll.alone == 0 && !roll.has(Role::WaitsToWrite) {
                roll.lines.push(self.line(Role::Reads, 0));
                return Ok(Next::Write(Ok(())));
            }
            // When the first of those who wait to write may be forgotten.
            let forgotten = roll.of(Role::WaitsToWrite).map(|line| line.deadline).min();
            Ok(Next::Keep(Err(forgotten.unwrap_or(0))))
        })
    }

    /// `waits`: whether readers are to hold back when it does not succeed.
    fn write(&self, probe: bool, waits: bool) -> Result<Result<((), u64), Busy>, LockError> {
        let clock = &self.inner.core.clock;
        attempt(self.inner, self.address, self.me, probe, |roll| {
            if roll.alone == 0 && !roll.has(Role::Reads) {
                roll.strike(self.id);
                roll.lines.push(self.line(Role::Writes, 0));
                roll.alone = self.id;
                return Ok(Next::Write(Ok(())));
            }
            let again = u64::try_from(ANNOUNCED.as_nanos() / 2).unwrap_or(u64::MAX);
            let deadline = self.inner.deadline_in(ANNOUNCED);
            match roll.find(self.id) {
                _ if !waits => return Ok(Next::Keep(Err(0))),
                Some(line) if line.deadline > clock.boot().saturating_add(again) => {
                    return Ok(Next::Keep(Err(line.deadline - again)));
                }
                Some(line) => line.deadline = deadline,
                None => roll.lines.push(self.line(Role::WaitsToWrite, deadline)),
            }
            Ok(Next::Write(Err(deadline - again)))
        })
    }
}

/// How long somebody waits: `None` is as long as it takes.
type Patience = Option<Duration>;

fn begin(inner: &Inner, name: &[u8]) -> Result<(Address, (u32, u64), u64), LockError> {
    Ok((Address::new(Sort::ReadWrite, name)?, inner.holding_as()?, new_id()?))
}

fn read(inner: &Arc<Inner>, name: &[u8], timeout: Patience) -> Result<Option<Share>, LockError> {
    let (address, (me, owner), id) = begin(inner, name)?;
    let (who, limit) = (Try { inner, address: &address, me, owner, id }, Limit::new(timeout));
    let end = until(inner, &address, limit, None, |probe| who.read(probe))?;
    Ok(end.map(|_| Share::new(inner, &address, (id, owner))))
}

fn write(
    inner: &Arc<Inner>,
    name: &[u8],
    timeout: Patience,
) -> Result<Option<WriteGuard>, LockError> {
    let (address, (me, owner), id) = begin(inner, name)?;
    let (who, limit) = (Try { inner, address: &address, me, owner, id }, Limit::new(timeout));
    let waits = timeout != Some(Duration::ZERO);
    match until(inner, &address, limit, None, |probe| who.write(probe, waits)) {
        Ok(Some(((), revision))) => {
            let share = Share::new(inner, &address, (id, owner));
            Ok(Revision::new(revision).map(|token| WriteGuard { share, token }))
        }
        end => {
            // Readers need not wait for it any more. What fails here is forgotten by itself.
            let _end = strike(inner, &address, id);
            end.map(|_| None)
        }
    }
}

impl Bus {
    fn rw_timed_out(&self, name: &[u8], limit: Limit) -> LockError {
        let counts = |line: &Line| line.role != Role::WaitsToWrite;
        let end = Address::new(Sort::ReadWrite, name)
            .and_then(|address| timed_out(&self.inner, &address, limit.waited(), counts));
        end.unwrap_or_else(|error| error)
    }

    /// Takes a share of a read-write lock, and waits for it as long as it takes: for who writes, and for who
    /// waits to write. A thread that reads already and asks again may wait for a writer that waits for it.
    ///
    /// # Errors
    /// [`LockError`]; nothing is held then.
    pub fn read_lock(&self, name: impl AsRef<[u8]>) -> Result<ReadGuard, LockError> {
        let (name, limit) = (name.as_ref(), Limit::new(None));
        let share = read(&self.inner, name, None)?;
        share.map(|share| ReadGuard { share }).ok_or_else(|| self.rw_timed_out(name, limit))
    }

    /// As [`read_lock`](Self::read_lock), without waiting: `None` when somebody writes or waits to.
    ///
    /// # Errors
    /// [`LockError`]; nothing is held then.
    pub fn try_read_lock(&self, name: impl AsRef<[u8]>) -> Result<Option<ReadGuard>, LockError> {
        let share = read(&self.inner, name.as_ref(), Some(Duration::ZERO))?;
        Ok(share.map(|share| ReadGuard { share }))
    }

    /// As [`read_lock`](Self::read_lock), and waits for so long.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] names who is in the way.
    pub fn read_lock_timeout(
        &self,
        name: impl AsRef<[u8]>,
        timeout: Duration,
    ) -> Result<ReadGuard, LockError> {
        let (name, limit) = (name.as_ref(), Limit::new(Some(timeout)));
        let share = read(&self.inner, name, Some(timeout))?;
        share.map(|share| ReadGuard { share }).ok_or_else(|| self.rw_timed_out(name, limit))
    }

    /// Takes a read-write lock to write, and waits for it as long as it takes. New readers hold back
    /// meanwhile; writers that follow each other without a gap starve readers.
    ///
    /// # Errors
    /// [`LockError`]; nothing is held then.
    pub fn write_lock(&self, name: impl AsRef<[u8]>) -> Result<WriteGuard, LockError> {
        let (name, limit) = (name.as_ref(), Limit::new(None));
        write(&self.inner, name, None)?.ok_or_else(|| self.rw_timed_out(name, limit))
    }

    /// As [`write_lock`](Self::write_lock), without waiting: `None` when somebody reads or writes.
    ///
    /// # Errors
    /// [`LockError`]; nothing is held then.
    pub fn try_write_lock(&self, name: impl AsRef<[u8]>) -> Result<Option<WriteGuard>, LockError> {
        write(&self.inner, name.as_ref(), Some(Duration::ZERO))
    }

    /// As [`write_lock`](Self::write_lock), and waits for so long.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] names who is in the way.
    pub fn write_lock_timeout(
        &self,
        name: impl AsRef<[u8]>,
        timeout: Duration,
    ) -> Result<WriteGuard, LockError> {
        let (name, limit) = (name.as_ref(), Limit::new(Some(timeout)));
        let guard = write(&self.inner, name, Some(timeout))?;
        guard.ok_or_else(|| self.rw_timed_out(name, limit))
    }
}
