//! Batches: changes and conditions as data, all or none.

use super::counters::{Counter, Hot};
use super::locks::Fence;
use super::write::encode;
use super::{Bus, Inner};
use crate::doorbell::Sort;
use crate::error::{BatchError, WriteError};
use crate::journal::Durability;
use crate::table::entry::Note;
use crate::table::wish::{
    Action, Condition, Done, KIND_BYTES, KIND_COUNTER, KIND_STRUCTURE, Wish, WriteFailure,
};
use crate::types::{Key, Revision};
use crate::word::Name;
use serde::Serialize;
use std::time::Duration;

/// Keys of a batch that are rung for one by one.
const RINGS_MAX: usize = 64;

#[derive(Debug, Clone)]
enum Op {
    Set {
        value: Vec<u8>,
        kind: u8,
        ttl: Option<Duration>,
        ephemeral: bool,
    },
    Add(i64),
    Delete,
    Require,
    /// The key is a lock's.
    RequireLock,
}

/// Changes and conditions that are committed together. The same key twice: the last change counts.
/// It is data, and may be committed again.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    ops: Vec<(Key, Op, Condition)>,
    who: Option<String>,
    durability: Option<Durability>,
    /// Its values may take of the blocks that others leave.
    pub(super) reserve: bool,
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
    /// A change of one key that is put together: time to live, conditions, ephemeral.
    pub fn put<K: AsRef<[u8]>>(&mut self, key: K) -> BatchPut<'_, K> {
        BatchPut { batch: self, key, ttl: None, ephemeral: false, condition: Condition::Any }
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
        self.put(key).set(value)
    }
    /// Bytes as they are.
    pub fn set_bytes(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.put(key).set_bytes(value)
    }
    /// A counter.
    pub fn set_counter(&mut self, key: impl AsRef<[u8]>, value: i64) -> &mut Self {
        self.put(key).set_counter(value)
    }
    /// Adds to a counter.
    pub fn add(&mut self, key: impl AsRef<[u8]>, by: i64) -> &mut Self {
        self.put(key).add(by)
    }
    /// Deletes; nothing when there is nothing.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.put(key).delete()
    }
    /// Nothing of the batch unless there is no such entry.
    pub fn require_absent(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.push(key, Op::Require, Condition::Absent)
    }
    /// Nothing of the batch unless the entry has this revision.
    pub fn require_revision(&mut self, key: impl AsRef<[u8]>, revision: Revision) -> &mut Self {
        self.push(key, Op::Require, Condition::Revision(revision.get()))
    }
    /// Nothing of the batch unless this lock, lease, write lock or leadership is held still when the batch
    /// is committed: it is refused as [`WriteError::LockLost`]. Whoever lost what it holds without
    /// knowing, because it was stopped or slow, writes nothing any more. A renewal of a lease does not matter.
    pub fn require_lock(&mut self, held: &impl AsRef<Fence>) -> &mut Self {
        let (key, condition) = held.as_ref().condition();
        self.push(key, Op::RequireLock, condition)
    }
    /// Who makes the changes; otherwise the member's label.
    pub fn who(&mut self, who: &str) -> &mut Self {
        self.who = Some(who.to_owned());
        self
    }
    /// What its commit waits for, other than the handle's [`durability`](crate::Options::durability).
    pub fn durability(&mut self, durability: Durability) -> &mut Self {
        self.durability = Some(durability);
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
    /// The key of a change or condition.
    pub(crate) fn key_at(&self, index: usize) -> Option<&Key> {
        self.ops.get(index).map(|(key, ..)| key)
    }
    /// The bytes to which it sets a key, as it stands.
    pub(crate) fn planned(&self, key: &[u8]) -> Option<&[u8]> {
        self.ops.iter().rev().find_map(|(found, op, _)| match op {
            Op::Set { value, .. } if **found == *key => Some(value.as_slice()),
            _ => None,
        })
    }
    /// Empties it.
    pub fn clear(&mut self) {
        self.ops.clear();
    }
}

/// A change of a batch that is being put together.
#[derive(Debug)]
#[must_use = "nothing goes into the batch before `set`, `set_bytes`, `set_counter`, `add` or `delete`"]
pub struct BatchPut<'b, K> {
    batch: &'b mut Batch,
    key: K,
    ttl: Option<Duration>,
    ephemeral: bool,
    condition: Condition,
}

impl<'b, K: AsRef<[u8]>> BatchPut<'b, K> {
    /// How long the value is there, from the commit on.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
    /// Gone with the member that commits.
    pub fn ephemeral(mut self) -> Self {
        self.ephemeral = true;
        self
    }
    /// Nothing of the batch unless there is no such entry.
    pub fn if_absent(mut self) -> Self {
        self.condition = Condition::Absent;
        self
    }
    /// Nothing of the batch unless the entry has this revision.
    pub fn if_revision(mut self, revision: Revision) -> Self {
        self.condition = Condition::Revision(revision.get());
        self
    }
    /// Any `serde` value, as MessagePack.
    ///
    /// # Errors
    /// [`WriteError::Encode`] when it can't be encoded; the batch stays as it was.
    pub fn set<T: Serialize + ?Sized>(self, value: &T) -> Result<&'b mut Batch, WriteError> {
        let value = encode(self.key.as_ref(), value)?;
        Ok(self.value(value, KIND_STRUCTURE))
    }
    /// Bytes as they are.
    pub fn set_bytes(self, value: impl AsRef<[u8]>) -> &'b mut Batch {
        self.value(value.as_ref().to_vec(), KIND_BYTES)
    }
    /// A counter.
    pub fn set_counter(self, value: i64) -> &'b mut Batch {
        self.value(value.to_le_bytes().to_vec(), KIND_COUNTER)
    }
    /// Adds to a counter; time to live and owner of what is there stay.
    #[expect(clippy::should_implement_trait, reason = "the same word as `Bus::add`")]
    pub fn add(self, by: i64) -> &'b mut Batch {
        self.batch.push(self.key, Op::Add(by), self.condition)
    }
    /// Deletes; nothing when there is nothing.
    pub fn delete(self) -> &'b mut Batch {
        self.batch.push(self.key, Op::Delete, self.condition)
    }
    /// A value that is encoded already.
    pub(crate) fn value(self, value: Vec<u8>, kind: u8) -> &'b mut Batch {
        let op = Op::Set { value, kind, ttl: self.ttl, ephemeral: self.ephemeral };
        self.batch.push(self.key, op, self.condition)
    }
}

impl Inner {
    /// Wakes whom a batch concerns: key by key, or everybody when it is a big one.
    pub(super) fn ring_for(&self, wishes: &[Wish<'_>]) {
        if wishes.len() > RINGS_MAX {
            return self.ring_watches(Sort::Keys, None);
        }
        for wish in wishes.iter().filter(|wish| !matches!(wish.action, Action::Require)) {
            self.ring_watches(Sort::of(wish.key.realm), Some(wish.key.bytes));
        }
    }
}

impl Bus {
    /// Commits a batch: all of it becomes visible at one instant, or nothing. Gives the revision of
    /// the last change; `None` when there was nothing to change and the conditions held.
    ///
    /// # Errors
    /// [`BatchError`] names the change that was refused.
    pub fn commit(&self, batch: &Batch) -> Result<Option<Revision>, BatchError> {
        let inner = &self.inner;
        let me = inner.writer();
        let begun = inner.begin_change(Hot::Commits);
        let end = me.map_err(|source| BatchError { index: 0, source });
        let end = end.and_then(|me| self.make_commit(me, batch));
        match end {
            Ok(done) => {
                inner.end_change(&begun, &done.sorts);
                inner.count_many(Counter::Changes, done.count);
                Ok(Revision::new(done.revision))
            }
            Err(error) => {
                inner.failed_write(&error.source);
                Err(error)
            }
        }
    }

    fn make_commit(&self, me: u32, batch: &Batch) -> Result<Done, BatchError> {
        let inner = &self.inner;
        let fail = |index| move |source| BatchError { index, source };
        let durability = batch.durability.unwrap_or_else(|| inner.durability());
        inner.check_durability(durability).map_err(fail(0))?;
        let time = inner.core.clock.wall();
        let who = batch.who.as_deref().unwrap_or(inner.label()).as_bytes();
        let mut wishes = Vec::with_capacity(batch.ops.len());
        let (mut bytes, reserve) = (0, batch.reserve);
        for (index, (key, op, condition)) in batch.ops.iter().enumerate() {
            let action = match op {
                Op::Set { value, kind, ttl, ephemeral } => {
                    let owner =
                        if *ephemeral { inner.note_ephemeral().map_err(fail(index))? } else { 0 };
                    let deadline = ttl.map_or(0, |ttl| inner.deadline_in(ttl));
                    bytes += (key.len() + value.len()) as u64;
                    Action::Set {
                        value,
                        note: Note { kind: *kind, time, deadline, owner, who, reserve },
                    }
                }
                Op::Add(by) => Action::Add { by: *by, time, who },
                Op::Delete => Action::Delete { time, who },
                Op::Require | Op::RequireLock => Action::Require,
            };
            let key = match op {
                Op::RequireLock => Name::lock(key),
                _ => Name::from(&**key),
            };
            let wish = Wish { key, action, condition: *condition };
            inner.check_wish(&wish).map_err(fail(index))?;
            wishes.push(wish);
        }
        let end =
            inner.with_room(me, || inner.ring_for(&wishes), || inner.core.write_batch(me, &wishes));
        let done = end.map_err(|refused| {
            let index = match refused.failure {
                WriteFailure::Conflict { index, .. }
                | WriteFailure::NotCounter { index, .. }
                | WriteFailure::NoRoom { index, .. }
                | WriteFailure::Overflow { index, .. } => index,
                _ => 0,
            };
            let key = batch.ops.get(index).map(|(key, ..)| key.to_vec()).unwrap_or_default();
            BatchError { index, source: inner.explain(refused, &key, bytes) }
        })?;
        inner.make_durable(done.revision, durability).map_err(fail(0))?;
        Ok(done)
    }
}
