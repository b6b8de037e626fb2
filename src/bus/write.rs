//! Writing.

use super::counters::{Begun, Counter, Hot};
use super::{Bus, Inner};
use crate::doorbell::Sort;
use crate::error::{Expected, WriteError};
use crate::journal::Durability;
use crate::lock::LockError;
use crate::region::layout::{header, member};
use crate::sync::Ordering::{Relaxed, Release};
use crate::table::wish::{Action, Condition, Done, KIND_STRUCTURE, Wish, WriteFailure};
use crate::types::limits::{KEY_MAX, LABEL_MAX, VALUE_MAX};
use crate::types::{Key, Kind, Revision};
use crate::word::Realm;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Why nothing was written, and why the file did not grow for it.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) failure: WriteFailure,
    pub(crate) reason: Option<String>,
}

impl<F: Into<WriteFailure>> From<F> for Refused {
    fn from(failure: F) -> Self {
        Self { failure: failure.into(), reason: None }
    }
}

/// Encodes a value as MessagePack with field names.
pub(crate) fn encode<T: Serialize + ?Sized>(key: &[u8], value: &T) -> Result<Vec<u8>, WriteError> {
    rmp_serde::to_vec_named(value)
        .map_err(|error| WriteError::Encode { key: Key::from(key), reason: error.to_string() })
}

impl Inner {
    /// Bytes of a value at the most.
    pub(crate) fn value_max(&self) -> u64 {
        (self.core.geometry.max_capacity / 4).min(VALUE_MAX)
    }

    pub(crate) fn check_wish(&self, wish: &Wish<'_>) -> Result<(), WriteError> {
        let size = wish.key.bytes.len();
        if size == 0 || size > KEY_MAX {
            return Err(WriteError::Key { size, limit: KEY_MAX });
        }
        let (value, who) = match wish.action {
            Action::Set { value, note } => (value.len(), note.who),
            Action::Replace { value, who, .. } => (value.len(), who),
            Action::Add { who, .. } | Action::Deadline { who, .. } | Action::Delete { who, .. } => {
                (0, who)
            }
            _ => (0, &[][..]),
        };
        let limit = self.value_max();
        if value as u64 > limit {
            return Err(WriteError::ValueTooLarge { size: value as u64, limit });
        }
        if who.len() > LABEL_MAX {
            return Err(WriteError::Label { size: who.len(), limit: LABEL_MAX });
        }
        Ok(())
    }

    /// Runs a write; when there is no room, grows or sweeps, and tries again. `ring` wakes whom the
    /// change concerns.
    pub(crate) fn with_room(
        &self,
        me: u32,
        ring: impl Fn(),
        mut write: impl FnMut() -> Result<Done, WriteFailure>,
    ) -> Result<Done, Refused> {
        self.spare_journal()?;
        let (mut looked, mut swept): (_, Option<Option<LockError>>) = (false, None);
        loop {
            let failure = match write() {
                Err(failure @ WriteFailure::NoRoom { .. }) => failure,
                Err(failure) => return Err(failure.into()),
                Ok(done) => {
                    if done.count > 0 {
                        ring();
                    }
                    return Ok(done);
                }
            };
            let WriteFailure::NoRoom { blocks, .. } = failure else { continue };
            // Nobody may have swept what was cleared.
            if !std::mem::replace(&mut looked, true) && self.core.is_sweep_due()? {
                self.sweep(me)?;
                continue;
            }
            let Err(reason) = self.grow(me, blocks)? else { continue };
            if let Some(stalled) = swept
                && !self.core.abort_snapshot(me, self.core.patience)?
            {
                // There may be room behind a lock that was not to be had.
                let failure = stalled.map_or(failure, WriteFailure::Lock);
                return Err(Refused { failure, reason: Some(reason) });
            }
            swept = Some(self.sweep(me)?.stalled);
        }
    }

    /// What a refusal is told: about this key, and so many bytes.
    pub(crate) fn explain(&self, refused: Refused, key: &[u8], size: u64) -> WriteError {
        let Refused { failure, reason } = refused;
        match failure {
            WriteFailure::Conflict { expected: Condition::Begins(_), found, .. } => {
                // Its first byte says what it is.
                let lock = Key::from(key.get(1..).unwrap_or_default());
                WriteError::LockLost { lock, found: found.and_then(Revision::new) }
            }
            WriteFailure::Conflict { expected, found, .. } => {
                let expected = match expected {
                    Condition::Revision(revision) => {
                        Revision::new(revision).map_or(Expected::Absent, Expected::Revision)
                    }
                    _ => Expected::Absent,
                };
                WriteError::Conflict { expected, found: found.and_then(Revision::new) }
            }
            WriteFailure::NotCounter { kind, .. } => {
                WriteError::NotACounter { key: Key::from(key), kind: Kind::from_byte(kind) }
            }
            WriteFailure::Overflow { value, by, .. } => {
                WriteError::Overflow { key: Key::from(key), value, by }
            }
            WriteFailure::NoRoom { blocks, .. } => self.full(blocks, size, reason),
            WriteFailure::Lock(LockError::Stalled { owner, what }) => {
                let (label, pid) = self.describe(owner);
                WriteError::Stalled { member: owner, label, pid, what }
            }
            WriteFailure::Lock(LockError::Bad(bad)) | WriteFailure::Bad(bad) => bad.into(),
            WriteFailure::Again | WriteFailure::Double { .. } => self.full(1, size, reason),
        }
    }

    fn full(&self, blocks: u64, size: u64, reason: Option<String>) -> WriteError {
        let block = self.core.geometry.block_size();
        let longest = self.core.free_blocks().map_or(0, |(_, longest)| longest);
        WriteError::Full {
            asked: if size == 0 { blocks * block } else { size },
            largest_free: longest * block,
            capacity: self.core.region.load(header::SIZE, Relaxed).unwrap_or_default(),
            max_capacity: self.core.geometry.max_capacity,
            reason,
        }
    }

    /// One change, as durable as the bus's are.
    pub(crate) fn change(&self, wish: &Wish<'_>) -> Result<Done, WriteError> {
        self.change_durably(wish, None)
    }

    /// One change, as durable as is asked for. One of a lock is for the living: it waits for no disk.
    pub(crate) fn change_durably(
        &self,
        wish: &Wish<'_>,
        durability: Option<Durability>,
    ) -> Result<Done, WriteError> {
        let durability = match wish.key.realm {
            Realm::Locks => Durability::Visible,
            Realm::Keys => durability.unwrap_or_else(|| self.durability()),
        };
        self.check_durability(durability)?;
        // A forked child counts as the member that it becomes by this.
        let me = match self.writer() {
            Ok(me) => me,
            Err(error) => return Err(self.failed_change(wish, error)),
        };
        let begun = match (wish.key.realm, wish.action) {
            (Realm::Locks, _) => Begun::uncounted(),
            (_, Action::Add { .. }) => self.begin_change(Hot::Adds),
            (_, Action::Delete { .. }) => self.begin_change(Hot::Deletes),
            _ => self.begin_change(Hot::Sets),
        };
        if let Err(error) = self.check_wish(wish) {
            return Err(self.failed_change(wish, error));
        }
        let ring = || self.ring_watches(Sort::of(wish.key.realm), Some(wish.key.bytes));
        match self.with_room(me, ring, || self.core.write_one(me, wish)) {
            Ok(done) => {
                self.end_change(&begun, &done.sorts);
                if wish.key.realm == Realm::Locks {
                    self.count(Counter::LockChanges);
                }
                match self.make_durable(done.revision, durability) {
                    Ok(()) => Ok(done),
                    Err(error) => Err(self.failed_change(wish, error)),
                }
            }
            Err(refused) => Err(self.refuse(wish, refused)),
        }
    }

    /// What a change that was refused is told, and counts as.
    #[cold]
    fn refuse(&self, wish: &Wish<'_>, refused: Refused) -> WriteError {
        let size = match wish.action {
            Action::Set { value, .. } | Action::Replace { value, .. } => value.len() as u64,
            _ => 0,
        };
        self.failed_change(wish, self.explain(refused, wish.key.bytes, size))
    }

    /// Counts a change that failed. A lock that somebody else has is no failure.
    #[cold]
    fn failed_change(&self, wish: &Wish<'_>, error: WriteError) -> WriteError {
        match (wish.key.realm, &error) {
            (Realm::Keys, _) => self.failed_write(&error),
            (Realm::Locks, WriteError::Conflict { .. } | WriteError::LockLost { .. }) => {}
            (Realm::Locks, _) => self.count(Counter::LockErrors),
        }
        error
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Says that this member has keys that vanish with it.
    pub(crate) fn note_ephemeral(&self) -> Result<u64, WriteError> {
        let Some(seat) = self.seat() else { return Ok(0) };
        let at = self.member_at(u64::from(seat.slot)) + member::EPHEMERAL;
        self.core.region.store(at, 1, Release)?;
        Ok(seat.owner())
    }

    pub(crate) fn deadline_in(&self, ttl: Duration) -> u64 {
        let ttl = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX / 4);
        self.core.clock.boot().saturating_add(ttl).max(1)
    }
}

pub(super) fn done(done: Done) -> Option<Revision> {
    Revision::new(done.revision)
}

/// What an update makes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update<T> {
    /// This one instead.
    Set(T),
    /// None any more.
    Delete,
    /// As it is.
    Keep,
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Updated<T> {
    /// This value is there now.
    Set(T, Revision),
    /// The entry is gone.
    Deleted(Revision),
    /// Nothing changed.
    Kept,
}

impl Bus {
    /// Writes any `serde` value, as MessagePack with field names.
    ///
    /// # Errors
    /// [`WriteError`]; the old value stays.
    pub fn set<T: Serialize + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        value: &T,
    ) -> Result<Revision, WriteError> {
        self.put(key).set(value)
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// [`WriteError`]; the old value stays.
    pub fn set_bytes(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Revision, WriteError> {
        self.put(key).set_bytes(value)
    }

    /// Deletes an entry: `None` when there was none, and nothing is logged then.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<Option<Revision>, WriteError> {
        self.put(key).delete()
    }

    /// Deletes every entry whose key begins with `prefix`, one by one; gives how many.
    ///
    /// # Errors
    /// [`WriteError`]; what was deleted by then is gone.
    pub fn delete_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<u64, WriteError> {
        use super::read::ReadBus;
        let mut deleted = 0;
        for key in self.keys(prefix)? {
            deleted += u64::from(self.delete(key)?.is_some());
        }
        Ok(deleted)
    }

    /// Makes the bus empty by one change.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn clear(&self) -> Result<Revision, WriteError> {
        let inner = &self.inner;
        let end = self.make_clear();
        match &end {
            Ok(_) => inner.count(Counter::Clears),
            Err(error) => inner.failed_write(error),
        }
        end
    }

    fn make_clear(&self) -> Result<Revision, WriteError> {
        let inner = &self.inner;
        let me = inner.writer()?;
        let (time, who) = (inner.core.clock.wall(), inner.label().as_bytes());
        let cleared = inner.core.clear(me, time, who);
        let revision = cleared.map_err(|failure| inner.explain(failure.into(), b"", 0))?;
        inner.ring_watches(Sort::Keys, None);
        inner.make_durable(revision, inner.durability())?;
        Revision::new(revision).ok_or_else(|| WriteError::Gone { path: inner.path.clone() })
    }

    /// Adds to a counter, which is 0 when absent; gives its new value. Time to live and owner stay.
    ///
    /// # Errors
    /// [`WriteError::NotACounter`], [`WriteError::Overflow`]; the old value stays.
    pub fn add(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64, WriteError> {
        self.put(key).add(by)
    }

    /// Gives an entry a time to live, or takes it away: `None` when there is no entry.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn expire(
        &self,
        key: impl AsRef<[u8]>,
        ttl: Option<Duration>,
    ) -> Result<Option<Revision>, WriteError> {
        self.put(key).expire(ttl)
    }

    /// Changes a value by a closure, which runs under no lock and perhaps several times: when
    /// somebody else changed the key meanwhile, it gets the new value. Time to live and owner stay.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] when it was overtaken until the handle's deadline.
    pub fn update<T: Serialize + DeserializeOwned>(
        &self,
        key: impl AsRef<[u8]>,
        mut change: impl FnMut(Option<T>) -> Update<T>,
    ) -> Result<Updated<T>, WriteError> {
        use super::read::ReadBus;
        let (inner, key) = (&self.inner, key.as_ref());
        let patience = inner.core.patience();
        loop {
            let entry = self.get_entry(key)?;
            let condition = match &entry {
                Some(entry) => Condition::Revision(entry.stat.revision.get()),
                None => Condition::Absent,
            };
            let old = entry.map(|entry| entry.decode()).transpose()?;
            let (time, who) = (inner.core.clock.wall(), inner.label().as_bytes());
            let wish = |action| Wish { key: key.into(), action, condition };
            let end = match change(old) {
                Update::Keep => return Ok(Updated::Kept),
                Update::Delete => match inner.change(&wish(Action::Delete { time, who })) {
                    Ok(end) => return Ok(done(end).map_or(Updated::Kept, Updated::Deleted)),
                    Err(error) => error,
                },
                Update::Set(value) => {
                    let bytes = encode(key, &value)?;
                    let kind = KIND_STRUCTURE;
                    match inner.change(&wish(Action::Replace { value: &bytes, kind, time, who })) {
                        Ok(end) => {
                            return Ok(done(end).map_or(Updated::Kept, |r| Updated::Set(value, r)));
                        }
                        Err(error) => error,
                    }
                }
            };
            if !matches!(end, WriteError::Conflict { .. }) || patience.left().is_zero() {
                return Err(end);
            }
        }
    }
}
