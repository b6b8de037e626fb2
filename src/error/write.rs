//! Errors of writing, publishing and batches.

use super::{OpenError, ReadError};
use crate::region::BadRegion;
use crate::types::{Key, Kind, Revision};
use std::path::PathBuf;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The key breaks the rules.
    #[error("a key of {size} bytes: 1 to {limit} are possible")]
    Key {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The value is too large.
    #[error("a value of {size} bytes: this bus takes up to {limit} (a quarter of its maximum)")]
    ValueTooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A label or `who` is too long.
    #[error("a label of {size} bytes: up to {limit} are possible")]
    Label {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The topic breaks the rules.
    #[error("`{topic}` is no topic for a message: {reason}")]
    Topic {
        /// What was given.
        topic: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The message is too large.
    #[error(
        "a message of {size} bytes: up to {limit} are possible (an eighth of the log); set a key and tell of it, or make a bus with a larger log"
    )]
    MessageTooLarge {
        /// Bytes of its payload, target and id.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// No room.
    #[error("the bus is full: {asked} bytes were asked for, the largest free run has {largest_free}, the region {capacity} of at most {max_capacity} bytes; delete something, or make a larger bus{}", reason.as_ref().map(|r| format!(" (growing failed: {r})")).unwrap_or_default())]
    Full {
        /// Bytes asked for.
        asked: u64,
        /// The longest free run.
        largest_free: u64,
        /// Bytes of the region now.
        capacity: u64,
        /// Bytes that it may grow to.
        max_capacity: u64,
        /// Why it did not grow, when it could have.
        reason: Option<String>,
    },
    /// The condition did not hold.
    #[error("the condition did not hold: expected {expected}, found {}", found.map_or("no entry".into(), |r| format!("revision {r}")))]
    Conflict {
        /// What was asked.
        expected: Expected,
        /// The revision that is there.
        found: Option<Revision>,
    },
    /// A lock that the batch requires is not held any more by who made the batch. Nothing was written.
    #[error("`{lock}`, which this change requires, is lost: {}; take it anew before you write", found.map_or("nobody holds it".into(), |r| format!("revision {r} is there")))]
    LockLost {
        /// Its name.
        lock: Key,
        /// The revision of what is there instead.
        found: Option<Revision>,
    },
    /// The entry is no counter.
    #[error("`{key}` is of kind {kind}, not a counter")]
    NotACounter {
        /// Which key.
        key: Key,
        /// Its kind.
        kind: Kind,
    },
    /// The counter would leave the range of `i64`.
    #[error("`{key}` is {value}: adding {by} leaves the range of a 64-bit number")]
    Overflow {
        /// Which key.
        key: Key,
        /// Its value.
        value: i64,
        /// What was to be added.
        by: i64,
    },
    /// The value could not be encoded.
    #[error("the value of `{key}` can't be encoded: {reason}")]
    Encode {
        /// Which key.
        key: Key,
        /// Why.
        reason: String,
    },
    /// Somebody holds a lock for longer than this handle waits.
    #[error("member {member} ({}pid {pid}) holds {what} and does not go on; is it stopped?", label.as_ref().map(|l| format!("{l}, ")).unwrap_or_default())]
    Stalled {
        /// Its slot.
        member: u32,
        /// Its label.
        label: Option<String>,
        /// Its process, as it saw it.
        pid: u32,
        /// What it holds.
        what: &'static str,
    },
    /// Durability was asked for, and the bus has no journal. Nothing was written.
    #[error("the bus at {} has no journal, which would make changes durable one by one; make it with one, or take a snapshot", path.display())]
    NoJournal {
        /// Where it is.
        path: PathBuf,
    },
    /// The change was made and is there for everybody, but is not durable yet: the journal did not come to it within
    /// this handle's deadline. It still will, unless the power fails before.
    #[error("the change is made (revision {}) and not durable yet: the journal is at revision {journaled}; {reason}", revision.map_or(0, Revision::get))]
    NotDurable {
        /// Its revision.
        revision: Option<Revision>,
        /// Up to where changes are durable.
        journaled: u64,
        /// Why, as far as it can be told.
        reason: String,
    },
    /// The region is damaged.
    #[error(transparent)]
    Bad(#[from] BadRegion),
    /// The bus was destroyed.
    #[error("the bus at {} was destroyed or its files were removed; open it again", path.display())]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// A forked child can't register anew.
    #[error("this process was forked and could not become a member of its own: {source}")]
    Forked {
        /// Why.
        source: Box<OpenError>,
    },
    /// Reading what an update changes failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What a condition asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// No entry.
    Absent,
    /// This revision.
    Revision(Revision),
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("no entry"),
            Self::Revision(revision) => write!(f, "revision {revision}"),
        }
    }
}

/// Why a batch was not committed. Nothing of it was.
#[derive(Debug, thiserror::Error)]
#[error("change {index} of the batch: {source}")]
#[non_exhaustive]
pub struct BatchError {
    /// Which change.
    pub index: usize,
    /// Why.
    pub source: WriteError,
}
