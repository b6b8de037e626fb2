//! Errors of locks and of what else processes meet at.

use super::{ReadError, WatchError, WriteError};
use crate::types::{Key, LockHolder, Revision};
use std::io;
use std::time::Duration;

/// Why a lock, a lease, a semaphore, a barrier or an election did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The name breaks the rules.
    #[error("a name of {size} bytes for a {what}: 1 to {limit} are possible")]
    Name {
        /// What was to be named.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// A number or a time is outside of its limits.
    #[error("{asked} is no {setting} of a {what}: {rule}")]
    Setting {
        /// Of what.
        what: &'static str,
        /// Which one.
        setting: &'static str,
        /// What was asked.
        asked: String,
        /// What is possible.
        rule: &'static str,
    },
    /// The time ran out. Nothing is held, and nothing of the wait is left.
    #[error("waited {waited:?} for {what} `{name}`: {}", holder.as_ref().map_or_else(
        || "nobody holds it now; try again".to_owned(),
        |holder| holders(holder, *others),
    ))]
    TimedOut {
        /// For what.
        what: &'static str,
        /// Its name.
        name: Key,
        /// How long.
        waited: Duration,
        /// Who holds it, or waits there: one of them.
        holder: Option<Box<LockHolder>>,
        /// How many more do.
        others: usize,
    },
    /// It is not held any more: its time passed before it was renewed, or somebody took it away.
    /// Whoever holds it now has a higher token.
    #[error("{what} `{name}` with token {token} is lost; stop what it guards, and take it anew")]
    Lost {
        /// What was held.
        what: &'static str,
        /// Its name.
        name: Key,
        /// The token with which it was held.
        token: Revision,
    },
    /// Others use it with another number. Nothing was taken.
    #[error(
        "{what} `{name}` is used with {setting} {found}, asked was {asked}; use the same number everywhere"
    )]
    Differs {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: Key,
        /// Which number.
        setting: &'static str,
        /// What was asked.
        asked: u32,
        /// What the others use.
        found: u32,
    },
    /// What stands there was not written by this library.
    #[error("what is noted of {what} `{name}` makes no sense ({size} bytes); run `membus check`")]
    Damaged {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: Key,
        /// Bytes that are there.
        size: usize,
    },
    /// It belongs to the process that this one was forked from.
    #[error("this belongs to the process that this one was forked from; take one here")]
    Forked,
    /// Looking at it failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Changing it failed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Waiting failed.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The kernel refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

fn holders(holder: &LockHolder, others: usize) -> String {
    match others {
        0 => format!("{holder} has it"),
        others => format!("{holder} and {others} more have it"),
    }
}
