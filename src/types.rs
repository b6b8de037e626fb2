//! The plain values of the public face: revisions, cursors, keys, kinds, entries.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// Limits, each with a test on both sides.
pub mod limits {
    /// Longest key in bytes; the shortest has 1.
    pub const KEY_MAX: usize = 1024;
    /// Longest label or `who` in bytes.
    pub const LABEL_MAX: usize = 64;
    /// Longest name of a bus or a queue in bytes.
    pub const NAME_MAX: usize = 64;
    /// Changes of one batch that are always accepted; records that the log can't hold are left out, and watches told so.
    pub const BATCH_MAX: usize = 65_536;
    /// Bytes of a new bus, unless asked otherwise.
    pub const DEFAULT_CAPACITY: u64 = 8 << 20;
    /// Bytes that a bus grows to, unless asked otherwise.
    pub const DEFAULT_MAX_CAPACITY: u64 = 1 << 30;
    /// Fewest bytes that a bus may grow to.
    pub const MIN_CAPACITY: u64 = 4 << 20;
    /// Most bytes that a bus may grow to.
    pub const MAX_CAPACITY: u64 = 1 << 38;
    /// Handles that may be attached for writing at a time.
    pub const MEMBERS_MAX: u64 = 1024;
    /// Watches at a time.
    pub const WATCHES_MAX: u64 = 2048;
    /// Longest topic of a message, and longest pattern, in bytes; the shortest has 1.
    pub const TOPIC_MAX: usize = 256;
    /// Longest id of a message in bytes.
    pub const MESSAGE_ID_MAX: usize = 64;
    /// Longest name of a lock, lease, semaphore, barrier or election in bytes; the shortest has 1.
    pub const LOCK_NAME_MAX: usize = KEY_MAX - 1;
    /// Largest value, in bytes, where a quarter of the bus's maximum is more: with its key and label it has a length of 32 bits
    /// in snapshots and journals.
    pub const VALUE_MAX: u64 = u32::MAX as u64 - (64 << 10);
    /// Largest message, in bytes, where an eighth of the log is more.
    pub const MESSAGE_MAX: u64 = VALUE_MAX;
    /// Largest value that a change record carries, in bytes; larger ones are read by key.
    pub const RECORD_VALUE_MAX: u64 = crate::log::RECORD_VALUE_MAX;
}

/// The position of a change in the bus's one order of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(NonZeroU64);

impl Revision {
    /// The revision with this number; there is no revision 0.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }
    /// Its number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Revision {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A place in the log of one life of a bus: everything up to `revision` has been seen. Its text is
/// `INCARNATION:REVISION`, and may be kept for later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Which life of the bus; 0 stands for the present one.
    pub incarnation: u64,
    /// The last revision seen.
    pub revision: u64,
}

impl Cursor {
    /// Stands for the present: what follows are the changes from now on.
    pub const NOW: Self = Self { incarnation: u64::MAX, revision: u64::MAX };
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}:{}", self.incarnation, self.revision)
    }
}

/// A text that is no cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no cursor: expected INCARNATION:REVISION (16 hexadecimal digits, then a number), or a revision"
)]
pub struct CursorError {
    /// What was given.
    pub text: String,
}

impl FromStr for Cursor {
    type Err = CursorError;
    fn from_str(text: &str) -> Result<Self, CursorError> {
        let wrong = || CursorError { text: text.to_owned() };
        let (incarnation, revision) = match text.split_once(':') {
            Some((incarnation, revision)) => {
                (u64::from_str_radix(incarnation, 16).map_err(|_| wrong())?, revision)
            }
            None => (0, text),
        };
        Ok(Self { incarnation, revision: revision.parse().map_err(|_| wrong())? })
    }
}

/// One user of a member slot: no other member of this life of the bus ever has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    /// Its slot.
    pub slot: u32,
    /// Which user of the slot it is.
    pub generation: u64,
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.slot, self.generation)
    }
}

/// A text that is no member's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no member: expected SLOT:GENERATION, as `membus members` prints them")]
pub struct MemberIdError {
    /// What was given.
    pub text: String,
}

impl FromStr for MemberId {
    type Err = MemberIdError;
    fn from_str(text: &str) -> Result<Self, MemberIdError> {
        let wrong = || MemberIdError { text: text.to_owned() };
        let (slot, generation) = text.split_once(':').ok_or_else(wrong)?;
        let slot = slot.parse().map_err(|_| wrong())?;
        Ok(Self { slot, generation: generation.parse().map_err(|_| wrong())? })
    }
}

/// Who holds a lock or a part of it, for people. By the time it is read it may be another one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockHolder {
    /// Which member.
    pub member: MemberId,
    /// What it is called.
    pub label: Option<String>,
    /// Its process, in its own PID namespace.
    pub pid: u32,
    /// Since when, by the wall clock.
    pub since: SystemTime,
    /// The fencing token, of what only one can hold.
    pub token: Option<Revision>,
    /// How long it is still held without being renewed; `None`: as long as its member lives.
    pub expires_in: Option<Duration>,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {} (", self.member)?;
        if let Some(label) = &self.label {
            write!(f, "{label}, ")?;
        }
        write!(f, "pid {})", self.pid)
    }
}

/// An owned key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(Vec<u8>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}
impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}
impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}
impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
impl std::ops::Deref for Key {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// What an entry's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Bytes as they were given.
    Bytes,
    /// MessagePack with field names.
    Structure,
    /// A signed 64-bit number.
    Counter,
}

impl Kind {
    pub(crate) fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Structure,
            2 => Self::Counter,
            _ => Self::Bytes,
        }
    }
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Bytes => 0,
            Self::Structure => 1,
            Self::Counter => 2,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Structure => "structure",
            Self::Counter => "counter",
        })
    }
}

/// Wall-clock nanoseconds as a time.
pub(crate) fn time_of(ns: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(ns)
}
