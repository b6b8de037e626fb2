//! What processes coordinate by: locks, leases, read-write locks, semaphores, barriers, elections.
//!
//! Each is one entry in the realm of locks (`crate::word::Realm`): no clear frees it, and no listing,
//! count or snapshot has it. A letter before its name says what it is, so that a lock and a
//! semaphore of one name are two. What one alone can hold is a [`hold`], what several can hold a [`roll`]:
//!
//! ```text
//! l NAME   lock or lease        | id | token | since |             an entry with an owner, and perhaps a deadline
//! e NAME   election             the same
//! r NAME   read-write lock      | id of the writer | limit 32, count 32 | holder … |
//! s NAME   semaphore            the same, with the permits as limit
//! b NAME   barrier              the same, with its width as limit
//! ```
//!
//! 1. An entry is changed by one commit, on a condition that says what it must still be: so two never
//!    both succeed, and a death leaves it as it was before or after.
//! 2. Whoever waits finds out by itself whether a holder died: it takes the byte of the holder's slot,
//!    and buries it. It needs no keeper. A stopped holder lives.
//! 3. There is no queue. Who is free takes what is free: a stopped waiter delays nobody.
//! 4. Each acquisition has an id of its own. Threads of one process are holders like any others, and
//!    nothing may be taken twice by who has it already.
//! 5. No lock of the bus is held while anybody waits here, and no code of the user runs under one.
//!
//! A death leaves what its member held until somebody looks, or buries it. `docs/coordination.md` says
//! what each guarantees when its holder is killed, stopped or slow.

pub(crate) mod barrier;
#[cfg(test)]
pub(super) mod crash_tests;
pub(crate) mod election;
mod hold;
pub(crate) mod lock;
mod roll;
pub(crate) mod rw;
pub(crate) mod semaphore;
mod share;
#[cfg(test)]
mod tests;
mod wait;

use super::Inner;
use super::files::LIFE_BYTES;
use crate::error::{LockError, ReadError};
use crate::region::layout::member;
use crate::sync::Ordering::Acquire;
use crate::table::read::ReadFailure;
use crate::table::wish::Condition;
use crate::types::limits::LOCK_NAME_MAX;
use crate::types::{Key, LockHolder, MemberId, time_of};
use crate::word::Name;
use std::time::Duration;

/// What a name names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Lock,
    Election,
    ReadWrite,
    Semaphore,
    Barrier,
}

impl Sort {
    fn letter(self) -> u8 {
        match self {
            Self::Lock => b'l',
            Self::Election => b'e',
            Self::ReadWrite => b'r',
            Self::Semaphore => b's',
            Self::Barrier => b'b',
        }
    }
    fn what(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Election => "election",
            Self::ReadWrite => "read-write lock",
            Self::Semaphore => "semaphore",
            Self::Barrier => "barrier",
        }
    }
}

/// Where something stands that processes meet at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    sort: Sort,
    /// The letter, and the name.
    key: Key,
}

impl Address {
    fn new(sort: Sort, name: impl AsRef<[u8]>) -> Result<Self, LockError> {
        let name = name.as_ref();
        if name.is_empty() || name.len() > LOCK_NAME_MAX {
            let (what, size) = (sort.what(), name.len());
            return Err(LockError::Name { what, size, limit: LOCK_NAME_MAX });
        }
        let mut key = vec![sort.letter()];
        key.extend_from_slice(name);
        Ok(Self { sort, key: key.into() })
    }
    fn what(&self) -> &'static str {
        self.sort.what()
    }
    /// What the user calls it.
    fn name(&self) -> Key {
        Key::from(self.key.get(1..).unwrap_or_default())
    }
    fn in_realm(&self) -> Name<'_> {
        Name::lock(&self.key)
    }
}

/// The proof that something was taken, for [`Batch::require_lock`](crate::Batch::require_lock): data that
/// may be cloned and kept. It holds nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    address: Address,
    id: u64,
}

impl Fence {
    pub(super) fn condition(&self) -> (&Key, Condition) {
        (&self.address.key, Condition::Begins(self.id))
    }
}

impl AsRef<Fence> for Fence {
    fn as_ref(&self) -> &Fence {
        self
    }
}

/// An entry of the realm, as it was seen.
#[derive(Debug, Clone, Default)]
struct Found {
    value: Vec<u8>,
    /// The entry's revision.
    born: u64,
    deadline: u64,
    owner: u64,
}

/// An id that no other acquisition has.
fn new_id() -> Result<u64, LockError> {
    let random = crate::sys::process::random();
    let fail = |source| LockError::Io { what: "drawing a random number", source };
    // 0 stands for nobody.
    Ok(random.map_err(fail)?.max(1))
}

impl Inner {
    /// What stands at an address; `None`: nothing.
    fn find_lock(&self, address: &Address) -> Result<Option<Found>, LockError> {
        if self.is_gone() {
            return Err(ReadError::Gone { path: self.path.clone() }.into());
        }
        let (mut found, patience) = (Found::default(), self.core.patience());
        loop {
            let end = self.core.read(address.in_realm(), |seen| {
                found.value.clear();
                seen.entry.copy_value(&seen.header, &mut found.value)?;
                found.owner = seen.entry.owner(&seen.header)?;
                (found.born, found.deadline) = (seen.born, seen.deadline);
                Ok(())
            });
            match end {
                // Writers overtook it: they are done at once, since these entries are small.
                Err(ReadFailure::Contended { .. }) if !patience.left().is_zero() => {}
                Err(failure) => return Err(ReadError::from(failure).into()),
                Ok(true) => return Ok(Some(found)),
                Ok(false) => return Ok(None),
            }
        }
    }

    /// The revision of what stands at an address, or 0.
    fn lock_revision(&self, address: &Address) -> Result<u64, ReadError> {
        let mut born = 0;
        let end = self.core.read(address.in_realm(), |seen| {
            born = seen.born;
            Ok(())
        });
        match end {
            Ok(true) => Ok(born),
            Ok(false) => Ok(0),
            // Who was overtaken saw a change.
            Err(ReadFailure::Contended { .. }) => Ok(u64::MAX),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Whether the member that an owner word names has gone. With `probe` the dead are found, and buried;
    /// else those alone that were buried already.
    fn has_gone(&self, owner: u64, me: u32, probe: bool) -> Result<bool, LockError> {
        let Some(id) = member_of(owner).filter(|id| {
            // A word that names no slot was written by nobody who lives.
            u64::from(id.slot) < self.core.geometry.members_max
        }) else {
            return Ok(true);
        };
        let at = self.member_at(u64::from(id.slot));
        let word = |offset| self.core.region.load(at + offset, Acquire).map_err(ReadError::from);
        // Generations only rise, and the state of one is 0 before it holds anything and after its end.
        let is_past =
            || Ok(word(member::GENERATION)? != id.generation || word(member::STATE)? == 0);
        if is_past()? || id.slot == me || !probe {
            return is_past();
        }
        match self.bury(id.slot, me, member::ENDED_DIED, crate::lock::GLANCE) {
            Ok(_) => is_past(),
            Err(crate::lock::LockError::Bad(bad)) => Err(ReadError::from(bad).into()),
            // What it held inside the bus is being waited for: no telling yet.
            Err(crate::lock::LockError::Stalled { .. }) => Ok(false),
        }
    }

    /// Whether the member that an owner word names lives, for certain. Who is not found to have
    /// [gone](Self::has_gone) may be dead all the same, as long as somebody else buries it.
    fn lives(&self, owner: u64) -> Result<bool, LockError> {
        let Some(id) = member_of(owner) else { return Ok(false) };
        let life = self.byte_is_locked(LIFE_BYTES + u64::from(id.slot));
        let fail = |source| LockError::Io { what: "looking whether a member lives", source };
        // The byte may be that of the slot's next user: by then the generation's end is noted.
        Ok(life.map_err(fail)? && !self.has_gone(owner, id.slot, false)?)
    }

    /// An owner, for people.
    fn holder(&self, owner: u64, since: u64, deadline: u64) -> Option<LockHolder> {
        let member = member_of(owner)?;
        if u64::from(member.slot) >= self.core.geometry.members_max {
            return None;
        }
        let (label, pid) = self.describe(member.slot);
        let left = |deadline: u64| deadline.saturating_sub(self.core.clock.boot());
        Some(LockHolder {
            member,
            label,
            pid,
            since: time_of(since),
            token: None,
            expires_in: (deadline != 0).then(|| Duration::from_nanos(left(deadline))),
        })
    }

    /// Slot and owner word to take something by.
    fn holding_as(&self) -> Result<(u32, u64), LockError> {
        // First: a forked child becomes a member of its own here.
        let me = self.writer()?;
        let owner = self.seat().map(super::seat::Seat::owner);
        owner.map(|owner| (me, owner)).ok_or(LockError::Forked)
    }

    /// Whether what was taken by this owner is this process's to give back.
    fn is_own(&self, owner: u64) -> bool {
        self.seat().is_some_and(|seat| seat.owner() == owner)
    }
}

/// The member that an owner word names.
fn member_of(owner: u64) -> Option<MemberId> {
    let slot = u32::try_from(owner & 0xffff).ok()?.checked_sub(1)?;
    Some(MemberId { slot, generation: owner >> 16 })
}
