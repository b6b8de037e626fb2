//! What a write is asked for, and how it ends.

use super::entry::Note;
use crate::heap::HeapError;
use crate::lock::LockError;
use crate::region::BadRegion;
use crate::word::Name;

/// Kind of an entry: raw bytes.
pub(crate) const KIND_BYTES: u8 = 0;
/// Kind of an entry: MessagePack.
pub(crate) const KIND_STRUCTURE: u8 = 1;
/// Kind of an entry: an `i64`.
pub(crate) const KIND_COUNTER: u8 = 2;

/// What is to happen to a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action<'a> {
    Set {
        value: &'a [u8],
        note: Note<'a>,
    },
    /// Adds to a counter; an absent one counts as 0. Time to live and owner stay.
    Add {
        by: i64,
        time: u64,
        who: &'a [u8],
    },
    /// Sets the deadline of what is there (0: none).
    Deadline {
        deadline: u64,
        time: u64,
        who: &'a [u8],
    },
    /// Sets a value, and keeps time to live and owner of what is there.
    Replace {
        value: &'a [u8],
        kind: u8,
        time: u64,
        who: &'a [u8],
    },
    Delete {
        time: u64,
        who: &'a [u8],
    },
    /// Logs an expired entry and lets it go; one that has not expired stays.
    Expire {
        time: u64,
    },
    /// Deletes only what belongs to this dead owner.
    DeleteOwned {
        owner: u64,
        time: u64,
    },
    /// Only the condition counts.
    Require,
}

impl Action<'_> {
    /// When the change is made, in wall-clock nanoseconds.
    #[inline]
    pub(crate) fn time(&self) -> u64 {
        match self {
            Self::Set { note, .. } => note.time,
            Self::Add { time, .. }
            | Self::Deadline { time, .. }
            | Self::Replace { time, .. }
            | Self::Delete { time, .. }
            | Self::Expire { time }
            | Self::DeleteOwned { time, .. } => *time,
            Self::Require => 0,
        }
    }

    /// Whether there may be an entry where there was none.
    pub(crate) fn may_create(&self) -> bool {
        matches!(self, Self::Set { .. } | Self::Add { .. } | Self::Replace { .. })
    }
}

/// What must hold for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Any,
    Absent,
    Revision(u64),
    /// There is an entry, and its value begins with this word.
    Begins(u64),
}

/// One change that is wished for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) key: Name<'a>,
    pub(crate) action: Action<'a>,
    pub(crate) condition: Condition,
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Done {
    /// Revision of the last change; 0 when nothing changed.
    pub(crate) revision: u64,
    /// Value of the last counter.
    pub(crate) value: i64,
    /// Changes made.
    pub(crate) count: u64,
    /// Of what sort they were, those of keys.
    pub(crate) sorts: Sorts,
}

/// How many changes were of which sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sorts {
    /// Sets of a key that was absent.
    pub(crate) created: u32,
    /// Sets of one that was there.
    pub(crate) updated: u32,
    pub(crate) deleted: u32,
    pub(crate) expired: u32,
}

/// Why nothing was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriteFailure {
    Conflict {
        index: usize,
        expected: Condition,
        found: Option<u64>,
    },
    NotCounter {
        index: usize,
        kind: u8,
    },
    Overflow {
        index: usize,
        value: i64,
        by: i64,
    },
    /// No run of so many free blocks, for the wish of this index.
    NoRoom {
        blocks: u64,
        index: usize,
    },
    Lock(LockError),
    Bad(BadRegion),
    /// A clear came between: the caller decides again.
    Again,
    /// This stripe's array is crowded, or a chain of it is full.
    Double {
        stripe: u64,
        full: bool,
    },
}

impl From<BadRegion> for WriteFailure {
    fn from(bad: BadRegion) -> Self {
        Self::Bad(bad)
    }
}
impl From<LockError> for WriteFailure {
    fn from(error: LockError) -> Self {
        Self::Lock(error)
    }
}
impl From<HeapError> for WriteFailure {
    fn from(error: HeapError) -> Self {
        match error {
            HeapError::NoRoom(no) => Self::NoRoom { blocks: no.blocks, index: 0 },
            HeapError::Bad(bad) => Self::Bad(bad),
        }
    }
}
