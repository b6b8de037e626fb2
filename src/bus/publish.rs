//! Publishing: one record of the log, in the order of all changes, that changes no entry.
//!
//! It is a commit like any other (`docs/design.md`, COMMIT): a death before it leaves nothing, after it
//! the message is there.

use super::counters::Counter;
use super::write::encode;
use super::{Bus, Inner};
use crate::doorbell::Sort;
use crate::error::WriteError;
use crate::log::{NewRecord, RecordKind};
use crate::message::{Envelope, FIXED, Target, To};
use crate::table::wish::{KIND_BYTES, KIND_STRUCTURE};
use crate::topic;
use crate::types::limits::{LABEL_MAX, MESSAGE_ID_MAX, MESSAGE_MAX};
use crate::types::{MemberId, Revision};
use crate::word::Name;
use serde::Serialize;
use std::time::Duration;

/// A message that is being put together.
#[derive(Debug)]
#[must_use = "nothing is published before `send` or `send_bytes`"]
pub struct Publish<'a> {
    bus: &'a Bus,
    topic: &'a str,
    source: Option<&'a str>,
    id: Option<&'a str>,
    priority: i32,
    ttl: Option<Duration>,
    target: Option<Target>,
}

impl<'a> Publish<'a> {
    /// Who publishes it; otherwise the member's label. Up to [`LABEL_MAX`] bytes.
    pub fn source(mut self, source: &'a str) -> Self {
        self.source = Some(source);
        self
    }
    /// What it is called; otherwise its cursor. Up to [`MESSAGE_ID_MAX`] bytes. The bus does not look
    /// whether there was one with this id before.
    pub fn id(mut self, id: &'a str) -> Self {
        self.id = Some(id);
        self
    }
    /// Of what waits for a subscriber, the highest comes first (default 0).
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }
    /// Not delivered any more after this time; it goes on while the host sleeps.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
    /// For one member, or for those with one label; others never see it.
    pub fn target(mut self, target: impl Into<Target>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// Publishes any `serde` value, as MessagePack.
    ///
    /// # Errors
    /// [`WriteError::Topic`], [`WriteError::MessageTooLarge`], [`WriteError::Label`]; nothing was
    /// published.
    pub fn send<T: Serialize + ?Sized>(self, payload: &T) -> Result<Revision, WriteError> {
        let payload = encode(self.topic.as_bytes(), payload)?;
        self.publish(&payload, KIND_STRUCTURE)
    }

    /// Publishes bytes as they are.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_bytes(self, payload: impl AsRef<[u8]>) -> Result<Revision, WriteError> {
        self.publish(payload.as_ref(), KIND_BYTES)
    }

    fn publish(self, payload: &[u8], kind: u8) -> Result<Revision, WriteError> {
        let inner = &self.bus.inner;
        let wrong = |reason| WriteError::Topic { topic: self.topic.to_owned(), reason };
        topic::check(self.topic).map_err(wrong)?;
        let source = self.source.unwrap_or(inner.label()).as_bytes();
        let envelope = Envelope {
            priority: self.priority,
            deadline: self.ttl.map_or(0, |ttl| inner.deadline_in(ttl)),
            target: self.target.as_ref().map(To::from),
            id: self.id.unwrap_or_default().as_bytes(),
        };
        let label = match envelope.target {
            Some(To::Label(label)) => label.len(),
            _ => 0,
        };
        let checks =
            [(source.len(), LABEL_MAX), (label, LABEL_MAX), (envelope.id.len(), MESSAGE_ID_MAX)];
        for (size, limit) in checks {
            if size > limit {
                return Err(WriteError::Label { size, limit });
            }
        }
        let (size, limit) =
            ((label + envelope.id.len() + payload.len()) as u64, inner.message_max());
        if size > limit {
            return Err(WriteError::MessageTooLarge { size, limit });
        }
        let end = inner.publish(self.topic, source, &envelope.seal(payload), kind);
        match &end {
            Ok(_) => {
                inner.count(Counter::Messages);
                inner.count_many(Counter::Broadcasts, self.target.is_none().into());
            }
            Err(error) => inner.failed_write(error),
        }
        end
    }
}

impl Inner {
    /// Bytes that a message may have, label of its target and id included: an eighth of the log, so that
    /// some always stand in it.
    pub(crate) fn message_max(&self) -> u64 {
        (self.core.geometry.log_size / 8 - FIXED as u64).min(MESSAGE_MAX)
    }

    fn publish(
        &self,
        topic: &str,
        source: &[u8],
        value: &[u8],
        kind: u8,
    ) -> Result<Revision, WriteError> {
        let me = self.writer()?;
        self.spare_journal().map_err(|refused| self.explain(refused, b"", 0))?;
        let record = NewRecord {
            kind: RecordKind::Message,
            value_kind: kind,
            time: self.core.clock.wall(),
            who: source,
            key: Name::from(topic.as_bytes()),
            value,
            value_max: u64::MAX,
            is_timed: false,
            old: None,
        };
        let revision = self.core.write_record(me, record, false);
        let revision = revision.map_err(|failure| self.explain(failure.into(), b"", 0))?;
        self.ring_watches(Sort::Topics, Some(topic.as_bytes()));
        Revision::new(revision).ok_or_else(|| WriteError::Gone { path: self.path.clone() })
    }
}

impl Bus {
    /// Publishes any `serde` value under a topic, for everybody who subscribes to it: it reaches those
    /// that are slow as long as the log holds it, and nobody is waited for.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was published.
    pub fn publish<T: Serialize + ?Sized>(
        &self,
        topic: &str,
        payload: &T,
    ) -> Result<Revision, WriteError> {
        self.message(topic).send(payload)
    }

    /// A message with a priority, a target, a time to live, an id, or somebody else's name.
    pub fn message<'a>(&'a self, topic: &'a str) -> Publish<'a> {
        let (source, id, ttl, target) = (None, None, None, None);
        Publish { bus: self, topic, source, id, priority: 0, ttl, target }
    }

    /// This member, as messages name it.
    #[must_use]
    pub fn member_id(&self) -> Option<MemberId> {
        self.inner.member_id()
    }
}

impl Inner {
    /// The member that this process is; none for a reader, and none in a forked child that has not
    /// written yet.
    pub(crate) fn member_id(&self) -> Option<MemberId> {
        let seat = self.seat()?;
        Some(MemberId { slot: seat.slot, generation: seat.generation })
    }
}
