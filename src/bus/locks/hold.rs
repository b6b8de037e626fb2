//! What one alone can hold: a lock, a lease, a leadership.
//!
//! ```text
//! | id of the acquisition | token | since, by the wall clock |
//! ```
//!
//! It is held while there is an entry. It is taken by a set on the condition that there is none, and kept
//! and given back on the condition that the value still begins with the own id. The entry belongs to its
//! member, so a burial takes it away; a lease has a deadline, so it is absent to everybody from then on,
//! whether or not anybody looks, and conditions are looked at again under the commit lock: what
//! commits on the word of a lease commits before its deadline.
//!
//! The token is the revision with which it was taken. The first entry has 0 in its place, since nobody
//! knows its own revision before it has one; who renews writes it down.
//!
//! A death before the commit takes nothing, after it the entry goes with the member.

use super::super::Inner;
use super::wait::Busy;
use super::{Address, Fence, Found, new_id};
use crate::error::{LockError, WriteError};
use crate::sync::AtomicU64;
use crate::sync::Ordering::{Acquire, Release};
use crate::table::entry::Note;
use crate::table::wish::{Action, Condition, KIND_BYTES, Wish};
use crate::types::{LockHolder, Revision};
use std::sync::Arc;
use std::time::Duration;

/// What the entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Claim {
    id: u64,
    token: u64,
    since: u64,
}

/// Bytes of a claim.
const CLAIM: usize = 24;

impl Claim {
    fn encode(self) -> [u8; CLAIM] {
        let mut bytes = [0; CLAIM];
        for (to, word) in bytes.chunks_exact_mut(8).zip([self.id, self.token, self.since]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
    fn decode(found: &Found, address: &Address) -> Result<Self, LockError> {
        let word = |index: usize| {
            let bytes = found.value.get(8 * index..8 * index + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        match (found.value.len(), word(0), word(1), word(2)) {
            (CLAIM, Some(id), Some(token), Some(since)) => Ok(Self { id, token, since }),
            (size, ..) => {
                Err(LockError::Damaged { what: address.what(), name: address.name(), size })
            }
        }
    }
}

/// Something that this process holds alone.
#[derive(Debug)]
pub(super) struct Hold {
    inner: Arc<Inner>,
    fence: Fence,
    owner: u64,
    since: u64,
    token: Revision,
    /// Boot time until which it is held; 0: as long as its member lives.
    deadline: AtomicU64,
    /// Whether it was given back.
    is_over: bool,
}

/// Takes what is at `address`, unless somebody holds it. With `probe` a dead holder is found.
pub(super) fn take(
    inner: &Arc<Inner>,
    address: &Address,
    ttl: Option<Duration>,
    probe: bool,
) -> Result<Result<Hold, Busy>, LockError> {
    let (me, owner) = inner.holding_as()?;
    // By itself a look costs the holder nothing.
    if let Some(found) = inner.find_lock(address)?
        && !(inner.has_gone(found.owner, me, probe)? && inner.find_lock(address)?.is_none())
    {
        return Ok(Err(Busy { seen: found.born, until: found.deadline }));
    }
    // Before the entry is there: whoever buries this member looks for what it owned.
    inner.note_ephemeral()?;
    let (id, since) = (new_id()?, inner.core.clock.wall());
    let deadline = ttl.map_or(0, |ttl| inner.deadline_in(ttl));
    let claim = Claim { id, token: 0, since };
    match write(inner, address, claim, (owner, deadline), Condition::Absent)? {
        Ok(token) => {
            let fence = Fence { address: address.clone(), id };
            let (inner, deadline) = (Arc::clone(inner), AtomicU64::new(deadline));
            let is_over = false;
            Ok(Ok(Hold { inner, fence, owner, since, token, deadline, is_over }))
        }
        Err(found) => Ok(Err(Busy { seen: found.map_or(0, Revision::get), until: 0 })),
    }
}

/// Writes a claim: its revision, or that of what is there instead.
fn write(
    inner: &Inner,
    address: &Address,
    claim: Claim,
    (owner, deadline): (u64, u64),
    condition: Condition,
) -> Result<Result<Revision, Option<Revision>>, LockError> {
    let (time, who) = (inner.core.clock.wall(), inner.label().as_bytes());
    let note = Note { kind: KIND_BYTES, time, deadline, owner, who, reserve: true };
    let value = claim.encode();
    let action = Action::Set { value: &value, note };
    match inner.change(&Wish { key: address.in_realm(), action, condition }) {
        Ok(done) => match Revision::new(done.revision) {
            Some(revision) => Ok(Ok(revision)),
            None => Err(WriteError::Gone { path: inner.path.clone() }.into()),
        },
        Err(WriteError::Conflict { found, .. } | WriteError::LockLost { found, .. }) => {
            Ok(Err(found))
        }
        Err(error) => Err(error.into()),
    }
}

/// Who holds what is at `address`.
pub(super) fn holder(inner: &Inner, address: &Address) -> Result<Option<LockHolder>, LockError> {
    let Some(found) = inner.find_lock(address)? else { return Ok(None) };
    let claim = Claim::decode(&found, address)?;
    let holder = inner.holder(found.owner, claim.since, found.deadline);
    let token = if claim.token == 0 { found.born } else { claim.token };
    Ok(holder.map(|holder| LockHolder { token: Revision::new(token), ..holder }))
}

impl Hold {
    pub(super) fn fence(&self) -> &Fence {
        &self.fence
    }
    pub(super) fn token(&self) -> Revision {
        self.token
    }

    /// Boot time until which it is held; 0: as long as its member lives.
    pub(super) fn deadline(&self) -> u64 {
        self.deadline.load(Acquire)
    }

    fn lost(&self) -> LockError {
        let address = &self.fence.address;
        LockError::Lost { what: address.what(), name: address.name(), token: self.token }
    }

    /// How long it is held without being renewed: nothing when that time has passed.
    pub(super) fn left(&self) -> Option<Duration> {
        match self.deadline() {
            0 => Some(Duration::MAX),
            deadline => {
                let left = deadline.checked_sub(self.inner.core.clock.boot())?;
                (left > 0).then(|| Duration::from_nanos(left))
            }
        }
    }

    /// Whether it is held still, by a look at the entry.
    pub(super) fn is_held(&self) -> Result<bool, LockError> {
        if self.is_over || self.left().is_none() || !self.inner.is_own(self.owner) {
            return Ok(false);
        }
        let Some(found) = self.inner.find_lock(&self.fence.address)? else { return Ok(false) };
        Ok(Claim::decode(&found, &self.fence.address)?.id == self.fence.id)
    }

    /// Holds it for `ttl` from now on.
    pub(super) fn renew(&self, ttl: Duration) -> Result<(), LockError> {
        if !self.inner.is_own(self.owner) {
            return Err(LockError::Forked);
        }
        let deadline = self.inner.deadline_in(ttl);
        let claim = Claim { id: self.fence.id, token: self.token.get(), since: self.since };
        let (address, condition) = (&self.fence.address, Condition::Begins(self.fence.id));
        match write(&self.inner, address, claim, (self.owner, deadline), condition)? {
            Ok(_) => {
                self.deadline.store(deadline, Release);
                Ok(())
            }
            Err(_) => Err(self.lost()),
        }
    }

    /// Gives it back.
    pub(super) fn release(&mut self) -> Result<(), LockError> {
        if std::mem::replace(&mut self.is_over, true) {
            return Ok(());
        }
        if !self.inner.is_own(self.owner) {
            return Err(LockError::Forked);
        }
        let (time, who) = (self.inner.core.clock.wall(), self.inner.label().as_bytes());
        let condition = Condition::Begins(self.fence.id);
        let key = self.fence.address.in_realm();
        let end = self.inner.change(&Wish { key, action: Action::Delete { time, who }, condition });
        match end {
            Ok(_) => Ok(()),
            Err(WriteError::LockLost { .. }) => Err(self.lost()),
            Err(error) => {
                // It is held still, and may be tried again.
                self.is_over = false;
                Err(error.into())
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // What can't be given back now goes with its member. A forked child's copy gives nothing back.
        let _end = self.release();
    }
}
