//! Messages: what is published beside the state, and how it stands in the value of a log record.
//!
//! ```text
//! | version 1, target 1, target length 1, id length 1, priority 4 | deadline 8 | target slot 4, 0 4 |
//! | target generation 8 | target label | id | payload                                              |
//! ```
//!
//! Nothing is padded. The record has the rest: topic, source, wall time, kind of the payload. Whatever
//! the bytes are, they give a message or [`None`].

use crate::error::ReadError;
use crate::types::{Cursor, Key, Kind, MemberId};
use crate::value::decode;
use serde::de::DeserializeOwned;
use std::time::{Duration, SystemTime};

/// Version of the packing above.
const VERSION: u8 = 1;
/// Bytes before the label.
pub(crate) const FIXED: usize = 32;

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Every member with this label.
    Label(String),
    /// This member alone.
    Member(MemberId),
}

impl From<&str> for Target {
    fn from(label: &str) -> Self {
        Self::Label(label.to_owned())
    }
}
impl From<String> for Target {
    fn from(label: String) -> Self {
        Self::Label(label)
    }
}
impl From<MemberId> for Target {
    fn from(member: MemberId) -> Self {
        Self::Member(member)
    }
}

/// A message as it is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Its place in the bus's order, which no other message of this life shares.
    pub cursor: Cursor,
    /// What its sender called it; otherwise the cursor as a text.
    pub id: String,
    /// Under which topic it was published.
    pub topic: String,
    /// Who published it: the member's label, unless they said otherwise.
    pub source: Option<String>,
    /// When.
    pub time: SystemTime,
    /// Of what waits, the highest comes first; 0 unless asked otherwise.
    pub priority: i32,
    /// Whom it is for; everybody, when it is nobody.
    pub target: Option<Target>,
    /// How long it still may be delivered, as of when it was.
    pub expires_in: Option<Duration>,
    /// What the payload is.
    pub kind: Kind,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// Of which key it tells, under a topic of the bus's own: its value is the payload, which is empty when
    /// no record carries it and it was replaced meanwhile.
    pub key: Option<Key>,
}

impl Message {
    /// The payload as a type.
    ///
    /// # Errors
    /// [`ReadError::NotThisKind`] for bytes, [`ReadError::Decode`] when it is another type; the topic
    /// stands in the place of a key.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ReadError> {
        decode(self.topic.as_bytes(), self.kind, &self.payload)
    }
}

/// What goes before the payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Envelope<'a> {
    pub(crate) priority: i32,
    /// Boot time after which it is not delivered, or 0.
    pub(crate) deadline: u64,
    pub(crate) target: Option<To<'a>>,
    pub(crate) id: &'a [u8],
}

/// Whom a message is for, as it stands in its envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To<'a> {
    Label(&'a [u8]),
    Member(MemberId),
}

impl<'a> From<&'a Target> for To<'a> {
    fn from(target: &'a Target) -> Self {
        match target {
            Target::Label(label) => Self::Label(label.as_bytes()),
            Target::Member(member) => Self::Member(*member),
        }
    }
}

impl To<'_> {
    pub(crate) fn to_target(self) -> Target {
        match self {
            Self::Label(label) => Target::Label(String::from_utf8_lossy(label).into_owned()),
            Self::Member(member) => Target::Member(member),
        }
    }
}

impl<'a> Envelope<'a> {
    /// The value of the record: label and id have at most 64 bytes.
    pub(crate) fn seal(&self, payload: &[u8]) -> Vec<u8> {
        let (sort, label, member) = match self.target {
            None => (0, &[][..], None),
            Some(To::Label(label)) => (1, label, None),
            Some(To::Member(member)) => (2, &[][..], Some(member)),
        };
        let member = member.unwrap_or(MemberId { slot: 0, generation: 0 });
        let mut value = Vec::with_capacity(FIXED + label.len() + self.id.len() + payload.len());
        value.extend([VERSION, sort, label.len() as u8, self.id.len() as u8]);
        value.extend(self.priority.to_le_bytes());
        value.extend(self.deadline.to_le_bytes());
        value.extend(member.slot.to_le_bytes());
        value.extend([0; 4]);
        value.extend(member.generation.to_le_bytes());
        for part in [label, self.id, payload] {
            value.extend_from_slice(part);
        }
        value
    }

    /// The envelope of a record's value, and the payload.
    pub(crate) fn open(value: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (fixed, rest) = value.split_first_chunk::<FIXED>()?;
        let [version, sort, label_len, id_len, fields @ ..] = fixed;
        if *version != VERSION {
            return None;
        }
        let (priority, fields) = fields.split_first_chunk::<4>()?;
        let (deadline, fields) = fields.split_first_chunk::<8>()?;
        let (slot, fields) = fields.split_first_chunk::<4>()?;
        let generation = fields.last_chunk::<8>()?;
        let (label, rest) = rest.split_at_checked(usize::from(*label_len))?;
        let (id, payload) = rest.split_at_checked(usize::from(*id_len))?;
        let member = MemberId {
            slot: u32::from_le_bytes(*slot),
            generation: u64::from_le_bytes(*generation),
        };
        let target = match sort {
            0 => None,
            1 => Some(To::Label(label)),
            2 => Some(To::Member(member)),
            _ => return None,
        };
        let (priority, deadline) = (i32::from_le_bytes(*priority), u64::from_le_bytes(*deadline));
        Some((Self { priority, deadline, target, id }, payload))
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target() -> impl Strategy<Value = Option<Target>> {
        prop_oneof![
            Just(None),
            "[a-z]{0,64}".prop_map(|label| Some(Target::Label(label))),
            any::<(u32, u64)>().prop_map(|(slot, generation)| {
                Some(Target::Member(MemberId { slot, generation }))
            }),
        ]
    }

    proptest! {
        /// Plants: label and id in the other order; a length that is not looked at.
        #[test]
        fn what_is_sealed_is_opened(
            priority: i32, deadline: u64, target in target(), id in "[a-z]{0,64}", payload: Vec<u8>,
        ) {
            let to = target.as_ref().map(To::from);
            let envelope = Envelope { priority, deadline, target: to, id: id.as_bytes() };
            let value = envelope.seal(&payload);
            prop_assert_eq!(Envelope::open(&value), Some((envelope, &payload[..])));
            prop_assert_eq!(to.map(To::to_target), target);
        }

        #[test]
        fn any_bytes_are_opened_or_refused(value: Vec<u8>) {
            let _opened = Envelope::open(&value);
        }
    }
}
