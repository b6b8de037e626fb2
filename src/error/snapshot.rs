//! Errors of snapshots, and of the close that takes the last one.

use super::{ReadError, WriteError};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a snapshot was not taken or not read. The last good one stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The bus has no backend.
    #[error("this bus has no backend; create it with one (persist image:DIR)")]
    NoBackend,
    /// The bus is saved, and where is not known to this handle.
    #[error(
        "where {} is saved, the state directory {} does not know: use the one of who made the bus (by its user, XDG_STATE_HOME \
         or HOME); if what that had of the bus is lost: backup, destroy, create, restore",
        path.display(), state.display()
    )]
    Unknown {
        /// The bus.
        path: PathBuf,
        /// The state directory.
        state: PathBuf,
    },
    /// The bus is saved by a backend that this handle has not.
    #[error(
        "the bus is saved to `{backend}`, which this program has not: another program's own, or left out of its build"
    )]
    NotHere {
        /// Which one.
        backend: String,
    },
    /// There is nothing to be restored.
    #[error("there is no snapshot in {at}")]
    Absent {
        /// Which backend.
        at: String,
    },
    /// A snapshot was refused, and there is none before it that is good.
    #[error("{at}: {reason}")]
    Damaged {
        /// Where it is: a path, mostly.
        at: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store behind the backend refused.
    #[error("{at}: {reason}")]
    Refused {
        /// Which store.
        at: String,
        /// What it said.
        reason: String,
    },
    /// Whoever asked for it said to end it.
    #[error("it was given up, as was asked for; what was there before stays")]
    GivenUp,
    /// Somebody ran out of room, and the snapshot gave way.
    #[error("the snapshot gave way to writers who needed room, {tries} times")]
    Aborted {
        /// How often.
        tries: u32,
    },
    /// Another snapshot took too long.
    #[error("another snapshot has been running for {0:?}")]
    Busy(Duration),
    /// A setting of the snapshot is wrong.
    #[error("{0}")]
    Setting(String),
    /// Reading the bus failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Locking the bus failed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The kernel refused.
    #[error("{at}: {source}")]
    Io {
        /// On which path, or to which server.
        at: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Why a close was not clean. The handle is gone all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The last snapshot failed.
    #[error("the snapshot at the close failed: {0}")]
    Snapshot(#[from] SnapshotError),
}
