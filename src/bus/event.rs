//! What a watch tells.

use crate::error::ReadError;
use crate::log::{Old, RecordKind};
use crate::types::{Cursor, Key, Kind, Revision, time_of};
use crate::value::{Entry, decode};
use serde::de::DeserializeOwned;
use std::fmt;
use std::time::SystemTime;

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An entry that was there when the watch began.
    Current(Entry),
    /// All entries were told; what follows are changes after this cursor.
    CaughtUp(Cursor),
    /// A change.
    Change(Change),
    /// The writers came round the log: so many changes were missed. The watch goes on after
    /// `resume`; a new watch would list what is there now.
    Lagged {
        /// Changes of the bus, of any key, that were missed; as far as anybody can know, perhaps 0, where a
        /// watch begins at a cursor of another life of the bus.
        missed: u64,
        /// Where it goes on.
        resume: Cursor,
    },
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Its place in the bus's order.
    pub revision: Revision,
    /// What happened.
    pub kind: ChangeKind,
    /// To which key; empty for a clear.
    pub key: Key,
    /// Who did it, when they said.
    pub who: Option<String>,
    /// When.
    pub time: SystemTime,
    /// The new value.
    pub value: ChangeValue,
    /// Kind of the new value.
    pub value_kind: Kind,
    /// What was there before: only on a bus whose log tells it ([`Options::old_values`](crate::Options::old_values)),
    /// for a set, a delete and an expiry.
    pub old: Option<OldValue>,
}

/// What a change replaced or took away.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OldValue {
    /// Its kind.
    pub kind: Kind,
    /// Its bytes, or [`ChangeValue::TooLarge`].
    pub value: ChangeValue,
}

impl From<Old> for OldValue {
    fn from(old: Old) -> Self {
        let value = match old.bytes {
            Some(bytes) => ChangeValue::Here(bytes),
            None => ChangeValue::TooLarge { size: old.size },
        };
        Self { kind: Kind::from_byte(old.kind), value }
    }
}

impl Change {
    /// That an entry is there, as it was found.
    pub(crate) fn of(entry: Entry) -> Self {
        let Entry { key, value, stat } = entry;
        Self {
            revision: stat.revision,
            kind: ChangeKind::Set,
            key,
            who: stat.who,
            time: stat.time,
            value: ChangeValue::Here(value),
            value_kind: stat.kind,
            old: None,
        }
    }

    /// That a key was found absent, at this revision and time: who took it away nobody knows.
    pub(crate) fn gone(key: Vec<u8>, revision: u64, time: u64) -> Option<Self> {
        Some(Self {
            revision: Revision::new(revision)?,
            kind: ChangeKind::Delete,
            key: Key::from(key),
            who: None,
            time: time_of(time),
            value: ChangeValue::None,
            value_kind: Kind::Bytes,
            old: None,
        })
    }

    /// The new value as a type; `None` when the change brought none, or none that is still there.
    ///
    /// # Errors
    /// [`ReadError::NotThisKind`] for bytes, [`ReadError::Decode`] when it is another type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<Option<T>, ReadError> {
        match &self.value {
            ChangeValue::Here(value) => decode(&self.key, self.value_kind, value).map(Some),
            _ => Ok(None),
        }
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeKind {
    /// A value was set.
    Set,
    /// An entry was deleted.
    Delete,
    /// An entry's time had come.
    Expire,
    /// The bus was emptied.
    Clear,
    /// A message was published.
    Message,
    /// A snapshot was taken.
    Snapshot,
    /// The bus was restored from a backup.
    Restore,
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Set => "set",
            Self::Delete => "delete",
            Self::Expire => "expire",
            Self::Clear => "clear",
            Self::Message => "message",
            Self::Snapshot => "snapshot",
            Self::Restore => "restore",
        })
    }
}

impl From<RecordKind> for ChangeKind {
    fn from(kind: RecordKind) -> Self {
        match kind {
            RecordKind::Set => Self::Set,
            RecordKind::Delete => Self::Delete,
            RecordKind::Expire => Self::Expire,
            RecordKind::Clear => Self::Clear,
            RecordKind::Message => Self::Message,
            RecordKind::Snapshot => Self::Snapshot,
            RecordKind::Restore => Self::Restore,
        }
    }
}

/// The value that a change brought.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeValue {
    /// The change brought none.
    None,
    /// This one.
    Here(Vec<u8>),
    /// One that no record carries and that was replaced meanwhile, or is an old one.
    TooLarge {
        /// Its bytes.
        size: u64,
    },
}
