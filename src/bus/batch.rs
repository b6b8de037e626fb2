//! Batches: changes and conditions as data, all or none.

use super::Bus;
use super::info::Counter;
use super::write::encode;
use crate::error::{BatchError, WriteError};
use crate::table::entry::Note;
use crate::table::write::{
    Action, Condition, KIND_BYTES, KIND_COUNTER, KIND_STRUCTURE, Wish, WriteFailure,
};
use crate::types::{Key, Revision};
use serde::Serialize;
use std::time::Duration;

#[derive(Debug, Clone)]
enum Op {
    Set { value: Vec<u8>, kind: u8, ttl: Option<Duration>, ephemeral: bool },
    Add(i64),
    Delete,
    Require,
}

/// Changes and conditions that are committed together. The same key twice: the last change counts.
/// It is data, and may be committed again.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    ops: Vec<(Key, Op, Condition)>,
    who: Option<String>,
}

impl Batch {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    fn push(&mut self, key: impl AsRef<[u8]>, op: Op, condition: Condition) -> &mut Self {
        self.ops.push((Key::from(key.as_ref()), op, condition));
        self
    }
    /// Any `serde` value, as MessagePack.
    ///
    /// # Errors
    /// [`WriteError::Encode`] when it can't be encoded.
    pub fn set<T: Serialize + ?Sized>(
        &mut self,
        key: impl AsRef<[u8]>,
        value: &T,
    ) -> Result<&mut Self, WriteError> {
        let value = encode(key.as_ref(), value)?;
        let op = Op::Set { value, kind: KIND_STRUCTURE, ttl: None, ephemeral: false };
        Ok(self.push(key, op, Condition::Any))
    }
    /// Bytes as they are.
    pub fn set_bytes(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref().to_vec();
        let op = Op::Set { value, kind: KIND_BYTES, ttl: None, ephemeral: false };
        self.push(key, op, Condition::Any)
    }
    /// A counter.
    pub fn set_counter(&mut self, key: impl AsRef<[u8]>, value: i64) -> &mut Self {
        let value = value.to_le_bytes().to_vec();
        let op = Op::Set { value, kind: KIND_COUNTER, ttl: None, ephemeral: false };
        self.push(key, op, Condition::Any)
    }
    /// Adds to a counter.
    pub fn add(&mut self, key: impl AsRef<[u8]>, by: i64) -> &mut Self {
        self.push(key, Op::Add(by), Condition::Any)
    }
    /// Deletes; nothing when there is nothing.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.push(key, Op::Delete, Condition::Any)
    }
    /// Nothing of the batch unless there is no such entry.
    pub fn require_absent(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.push(key, Op::Require, Condition::Absent)
    }
    /// Nothing of the batch unless the entry has this revision.
    pub fn require_revision(&mut self, key: impl AsRef<[u8]>, revision: Revision) -> &mut Self {
        self.push(key, Op::Require, Condition::Revision(revision.get()))
    }
    /// Gives the value set last a time to live.
    pub fn ttl_last(&mut self, time: Duration) -> &mut Self {
        if let Some((_, Op::Set { ttl, .. }, _)) = self.ops.last_mut() {
            *ttl = Some(time);
        }
        self
    }
    /// Lets the value set last vanish with the member that commits.
    pub fn ephemeral_last(&mut self) -> &mut Self {
        if let Some((_, Op::Set { ephemeral, .. }, _)) = self.ops.last_mut() {
            *ephemeral = true;
        }
        self
    }
    /// Who makes the changes; otherwise the member's label.
    pub fn who(&mut self, who: &str) -> &mut Self {
        self.who = Some(who.to_owned());
        self
    }
    /// Changes and conditions in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
    /// Empties it.
    pub fn clear(&mut self) {
        self.ops.clear();
    }
}

impl Bus {
    /// Commits a batch: all of it becomes visible at one instant, or nothing. Gives the revision of
    /// the last change, or the newest revision when nothing changed.
    ///
    /// # Errors
    /// [`BatchError`] names the change that was refused.
    pub fn commit(&self, batch: &Batch) -> Result<Revision, BatchError> {
        let inner = &self.inner;
        let fail = |index| move |source| BatchError { index, source };
        let me = inner.writer().map_err(fail(0))?;
        let time = inner.core.clock.wall();
        let who = batch.who.as_deref().unwrap_or(inner.label()).as_bytes();
        let mut wishes = Vec::with_capacity(batch.ops.len());
        for (index, (key, op, condition)) in batch.ops.iter().enumerate() {
            let action = match op {
                Op::Set { value, kind, ttl, ephemeral } => {
                    let owner =
                        if *ephemeral { inner.note_ephemeral().map_err(fail(index))? } else { 0 };
                    let deadline = ttl.map_or(0, |ttl| inner.deadline_in(ttl));
                    Action::Set { value, note: Note { kind: *kind, time, deadline, owner, who } }
                }
                Op::Add(by) => Action::Add { by: *by, time, who },
                Op::Delete => Action::Delete { time, who },
                Op::Require => Action::Require,
            };
            let wish = Wish { key, action, condition: *condition };
            inner.check_wish(&wish).map_err(fail(index))?;
            wishes.push(wish);
        }
        inner.count(Counter::Commits);
        let end = inner.with_room(me, None, || inner.core.write_batch(me, &wishes));
        let done = end.map_err(|failure| {
            let index = match failure {
                WriteFailure::Conflict { index, .. }
                | WriteFailure::NotCounter { index, .. }
                | WriteFailure::Overflow { index, .. } => index,
                _ => 0,
            };
            let key = batch.ops.get(index).map(|(key, ..)| key.to_vec()).unwrap_or_default();
            BatchError { index, source: inner.explain(failure, &key, 0) }
        })?;
        let revision = match done.revision {
            0 => inner.core.head().map_err(|bad| fail(0)(bad.into()))?,
            last => last,
        };
        let gone = || fail(0)(WriteError::Gone { path: inner.path.clone() });
        Revision::new(revision).ok_or_else(gone)
    }
}
