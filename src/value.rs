//! Entries as they are told, and values as types.

use crate::error::ReadError;
use crate::types::{Key, Kind, Revision};
use serde::de::DeserializeOwned;
use std::time::{Duration, SystemTime};

/// What is known of an entry beside its value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stat {
    /// Revision of the change that made it.
    pub revision: Revision,
    /// Kind of its value.
    pub kind: Kind,
    /// Who made it, when they said.
    pub who: Option<String>,
    /// When.
    pub time: SystemTime,
    /// Bytes of the value.
    pub size: u64,
    /// How long it will still be there, when it has a time to live.
    pub expires_in: Option<Duration>,
    /// Whether it vanishes with the member that set it.
    pub ephemeral: bool,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value's bytes; of a counter 8, little-endian.
    pub value: Vec<u8>,
    /// All else.
    pub stat: Stat,
}

impl Entry {
    /// The value as a type.
    ///
    /// # Errors
    /// [`ReadError::NotThisKind`] for bytes, [`ReadError::Decode`] when it is another type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ReadError> {
        decode(&self.key, self.stat.kind, &self.value)
    }
    /// The value of a counter.
    #[must_use]
    pub fn counter(&self) -> Option<i64> {
        let bytes = self.value.as_slice().try_into().ok()?;
        (self.stat.kind == Kind::Counter).then(|| i64::from_le_bytes(bytes))
    }
}

/// Decodes a value; every byte has to be used.
pub(crate) fn decode<T: DeserializeOwned>(
    key: &[u8],
    kind: Kind,
    value: &[u8],
) -> Result<T, ReadError> {
    let key = || Key::from(key);
    match kind {
        Kind::Bytes => Err(ReadError::NotThisKind { key: key(), kind, wanted: Kind::Structure }),
        Kind::Counter => {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(value.get(..8).unwrap_or(&[0; 8]));
            let number = serde::de::value::I64Deserializer::<serde::de::value::Error>::new(
                i64::from_le_bytes(bytes),
            );
            T::deserialize(number).map_err(|error| ReadError::Decode {
                key: key(),
                kind,
                position: 0,
                reason: error.to_string(),
            })
        }
        Kind::Structure => {
            let mut reader = rmp_serde::Deserializer::new(std::io::Cursor::new(value));
            let end = T::deserialize(&mut reader);
            let position = reader.get_ref().position();
            let reason = match end {
                Ok(decoded) if position == value.len() as u64 => return Ok(decoded),
                Ok(_) => format!("{} bytes are left over", value.len() as u64 - position),
                Err(error) => error.to_string(),
            };
            Err(ReadError::Decode { key: key(), kind, position, reason })
        }
    }
}
