//! One change of a key, with what it is to be like.

use super::Bus;
use super::write::{done, encode};
use crate::error::WriteError;
use crate::journal::Durability;
use crate::table::entry::Note;
use crate::table::wish::{Action, Condition, KIND_BYTES, KIND_COUNTER, KIND_STRUCTURE, Wish};
use crate::types::Revision;
use serde::Serialize;
use std::time::Duration;

/// A change of one key that is being put together.
#[derive(Debug)]
#[must_use = "nothing is written before `set`, `set_bytes`, `set_counter` or `delete`"]
pub struct Put<'a, K> {
    bus: &'a Bus,
    key: K,
    who: Option<String>,
    ttl: Option<Duration>,
    condition: Condition,
    ephemeral: bool,
    durability: Option<Durability>,
    /// Its value may take of the blocks that others leave.
    pub(super) reserve: bool,
}

impl<K: AsRef<[u8]>> Put<'_, K> {
    /// Who makes the change; otherwise the member's label.
    pub fn who(mut self, who: &str) -> Self {
        self.who = Some(who.to_owned());
        self
    }
    /// How long the value is there.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
    /// Only when there is no entry.
    pub fn if_absent(mut self) -> Self {
        self.condition = Condition::Absent;
        self
    }
    /// Only when the entry has this revision.
    pub fn if_revision(mut self, revision: Revision) -> Self {
        self.condition = Condition::Revision(revision.get());
        self
    }
    /// What the change waits for, other than the handle's [`durability`](crate::Options::durability).
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }
    /// Gone with this member: at a clean detach, or when it dies.
    pub fn ephemeral(mut self) -> Self {
        self.ephemeral = true;
        self
    }

    /// Writes any `serde` value, as MessagePack.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] when the condition does not hold; the old value stays.
    pub fn set<T: Serialize + ?Sized>(self, value: &T) -> Result<Revision, WriteError> {
        let bytes = encode(self.key.as_ref(), value)?;
        self.write(&bytes, KIND_STRUCTURE)
    }
    /// Writes bytes as they are.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_bytes(self, value: impl AsRef<[u8]>) -> Result<Revision, WriteError> {
        self.write(value.as_ref(), KIND_BYTES)
    }
    /// Writes a counter.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_counter(self, value: i64) -> Result<Revision, WriteError> {
        self.write(&value.to_le_bytes(), KIND_COUNTER)
    }
    /// Deletes the entry: `None` when there was none.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn delete(self) -> Result<Option<Revision>, WriteError> {
        let inner = &self.bus.inner;
        let who = self.who.as_deref().unwrap_or(inner.label()).as_bytes();
        let action = Action::Delete { time: inner.core.clock.wall(), who };
        let wish = Wish { key: self.key.as_ref().into(), action, condition: self.condition };
        inner.change_durably(&wish, self.durability).map(done)
    }

    /// Adds to a counter, which is 0 when absent; gives its new value. Time to live and owner stay.
    ///
    /// # Errors
    /// As [`set`](Self::set), [`WriteError::NotACounter`] and [`WriteError::Overflow`].
    #[expect(clippy::should_implement_trait, reason = "the same word as `Bus::add`")]
    pub fn add(self, by: i64) -> Result<i64, WriteError> {
        let inner = &self.bus.inner;
        let who = self.who.as_deref().unwrap_or(inner.label()).as_bytes();
        let action = Action::Add { by, time: inner.core.clock.wall(), who };
        let wish = Wish { key: self.key.as_ref().into(), action, condition: self.condition };
        Ok(inner.change_durably(&wish, self.durability)?.value)
    }
    /// Gives the entry a time to live, or takes it away; value and owner stay. `None` when there is
    /// no entry.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn expire(self, ttl: Option<Duration>) -> Result<Option<Revision>, WriteError> {
        let inner = &self.bus.inner;
        let who = self.who.as_deref().unwrap_or(inner.label()).as_bytes();
        let deadline = ttl.map_or(0, |ttl| inner.deadline_in(ttl));
        let action = Action::Deadline { deadline, time: inner.core.clock.wall(), who };
        let wish = Wish { key: self.key.as_ref().into(), action, condition: self.condition };
        inner.change_durably(&wish, self.durability).map(done)
    }

    fn write(self, value: &[u8], kind: u8) -> Result<Revision, WriteError> {
        let inner = &self.bus.inner;
        let who = self.who.as_deref().unwrap_or(inner.label()).as_bytes();
        // A forked child becomes a member of its own first: the key is to go with it.
        inner.writer()?;
        let note = Note {
            kind,
            time: inner.core.clock.wall(),
            deadline: self.ttl.map_or(0, |ttl| inner.deadline_in(ttl)),
            owner: if self.ephemeral { inner.note_ephemeral()? } else { 0 },
            who,
            reserve: self.reserve,
        };
        let action = Action::Set { value, note };
        let wish = Wish { key: self.key.as_ref().into(), action, condition: self.condition };
        let revision = done(inner.change_durably(&wish, self.durability)?);
        revision.ok_or_else(|| WriteError::Gone { path: inner.path.clone() })
    }
}

impl Bus {
    /// A change with conditions, a time to live, or somebody else's name.
    pub fn put<K: AsRef<[u8]>>(&self, key: K) -> Put<'_, K> {
        let (who, ttl, durability) = (None, None, None);
        let condition = Condition::Any;
        let (ephemeral, reserve) = (false, false);
        Put { bus: self, key, who, ttl, condition, ephemeral, durability, reserve }
    }
}
