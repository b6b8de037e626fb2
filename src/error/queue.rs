//! Errors of queues.

use super::{BatchError, ReadError, WatchError, WriteError};
use crate::types::{Key, Kind};

/// Why a queue did not do what it was asked. Nothing of it was done, but for [`WriteError::NotDurable`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The name breaks the rules.
    #[error("`{name}` is no queue name: 1 to 64 of A-Z a-z 0-9 . _ -, not beginning with . or -")]
    Name {
        /// What was given.
        name: String,
    },
    /// No room, within the time that was given.
    #[error(
        "queue `{queue}` is full: it has {items} items, the limit is {limit}; try again when some are done, or raise the limit"
    )]
    Full {
        /// Which queue.
        queue: String,
        /// The limit of the handle that was to put.
        limit: u64,
        /// Items that are there at least, those that are being worked on too.
        items: u64,
    },
    /// The item is not this consumer's any more: what it did about it does not count.
    #[error("item {number} of queue `{queue}` is not this consumer's any more: {}", match holder {
        Some(holder) => format!("{holder} has it"),
        None => "it was given back, or is done or gone".to_owned(),
    })]
    Lost {
        /// Which queue.
        queue: String,
        /// Which item.
        number: u64,
        /// Who has it now, when somebody has.
        holder: Option<String>,
    },
    /// What stands where the queue has its numbers was not written by a queue.
    #[error("`{key}` is {}, not a number of a queue; delete the queue's entries, or take another name", match value {
        Some(value) => value.to_string(),
        None => format!("of kind {kind}"),
    })]
    NotAQueue {
        /// Which key.
        key: Key,
        /// The kind of what is there.
        kind: Kind,
        /// Its value, when it is a counter.
        value: Option<i64>,
    },
    /// The item was taken by the process that this one was forked from.
    #[error("this item was taken by the process that this one was forked from, which still has it")]
    Forked,
    /// Reading failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Writing failed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A batch was not committed.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Waiting failed.
    #[error(transparent)]
    Watch(#[from] WatchError),
}
