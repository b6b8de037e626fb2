//! Backends: where snapshots go. They know a snapshot's entries, never the region.
//!
//! Whoever wants another one writes [`Backend`] and keeps its three rules; the tests of `conformance_tests`
//! hold each one of membus's own to them.

#[cfg(test)]
pub(crate) mod conformance_tests;
#[cfg(feature = "text")]
mod content;
mod copy;
mod files;
mod growing;
pub(crate) mod image;
#[cfg(feature = "json")]
pub(crate) mod json;
mod progress;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
pub(crate) mod staged;
mod stream;
#[cfg(feature = "text")]
mod text;

pub use copy::copy;
pub use progress::{Progress, Stage};

use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Entries of the snapshot.
    pub entries: u64,
    /// Bytes that were written.
    pub bytes: u64,
    /// The file, where there is one.
    pub path: Option<PathBuf>,
}

/// What was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What the snapshot is of.
    pub head: SnapshotHead,
    /// Entries in it.
    pub entries: u64,
    /// Newer snapshots that were refused: where they are, and why.
    pub refused: Vec<(String, String)>,
}

/// Why a backend did not do what it was asked for. What it had before is there still.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The other end of the stream gave up; it knows why.
    #[error("it was given up")]
    GivenUp,
    /// A file, a directory or a connection failed.
    #[error("{at}: {source}")]
    Io {
        /// Which one.
        at: String,
        /// Why.
        source: io::Error,
    },
    /// There are snapshots, and none of them is good.
    #[error("{at}: {reason}")]
    Damaged {
        /// The newest one.
        at: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store behind it refused.
    #[error("{at}: {reason}")]
    Refused {
        /// Which store.
        at: String,
        /// What it said.
        reason: String,
    },
}

impl BackendError {
    /// A failure of the file at this path.
    pub fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        let at = path.display().to_string();
        move |source| Self::Io { at: at.clone(), source }
    }
}

/// Gives a snapshot's entries, in no order.
pub trait Source {
    /// The next entry, or `None` when there are no more.
    ///
    /// # Errors
    /// [`BackendError::GivenUp`]: the save is to be abandoned, and leaves nothing.
    fn next_entry(&mut self) -> Result<Option<SnapshotEntry>, BackendError>;

    /// The same, put into `entry`: `false` when there are no more. What is saved of a bus uses its buffers again, which
    /// spares three allocations an entry.
    ///
    /// # Errors
    /// As [`next_entry`](Self::next_entry).
    fn next_into(&mut self, entry: &mut SnapshotEntry) -> Result<bool, BackendError> {
        let next = self.next_entry()?;
        let is_there = next.is_some();
        *entry = next.unwrap_or_default();
        Ok(is_there)
    }
}

/// Takes a snapshot's entries.
pub trait Sink {
    /// Before [`begin`](Self::begin), by a backend that knows it: how many entries there are, about. A new bus makes room for
    /// the places of so many at once, some 20 bytes each: fewer than there are cost time, more cost room.
    fn expect(&mut self, _entries: u64) {}
    /// Before the first entry of a snapshot that is good.
    ///
    /// # Errors
    /// [`BackendError::GivenUp`]: nothing more is wanted.
    fn begin(&mut self, head: &SnapshotHead) -> Result<(), BackendError>;
    /// Each entry.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    fn entry(&mut self, entry: &SnapshotEntry) -> Result<(), BackendError>;
}

/// Where snapshots go.
///
/// 1. *Whole or absent*: after a `save` that failed or was killed, at any instruction or by a power cut,
///    `load` gives the snapshot before.
/// 2. *Exact*: `load` gives every entry that `save` was given, byte for byte, and no other.
/// 3. *Refuses*: damaged data is told in [`Loaded::refused`] or as an error, never as a shorter snapshot.
///
/// Neither holds all entries in memory at a time. One member saves at a time; others may load meanwhile.
pub trait Backend: fmt::Debug + Send + Sync {
    /// Saves the snapshot that `entries` gives to its end.
    ///
    /// # Errors
    /// [`BackendError`]; what was there before stays.
    fn save(&self, head: &SnapshotHead, entries: &mut dyn Source) -> Result<Saved, BackendError>;

    /// Gives the newest good snapshot to `sink`; `None` when there is none at all.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] when there are some, and none of them is good.
    fn load(&self, sink: &mut dyn Sink) -> Result<Option<Loaded>, BackendError>;

    /// The same of the newest good snapshot whose head is wanted; `None` when there is none such. A backend that
    /// keeps more than one overrides it: a bus with a journal can then go back further.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    fn load_where(
        &self,
        is_wanted: &dyn Fn(&SnapshotHead) -> bool,
        sink: &mut dyn Sink,
    ) -> Result<Option<Loaded>, BackendError> {
        let mut wanted = IfWanted { is_wanted, sink, is_unwanted: false };
        match self.load(&mut wanted) {
            Err(BackendError::GivenUp) if wanted.is_unwanted => Ok(None),
            end => end,
        }
    }

    /// What the oldest snapshot is of that [`load_where`](Self::load_where) may give; `None`: only the newest one
    /// is there. What the journal has from there on is kept: a backend whose `load` falls back to an older one overrides it.
    ///
    /// # Errors
    /// [`BackendError`] when it can not be found out.
    fn oldest(&self) -> Result<Option<SnapshotHead>, BackendError> {
        Ok(None)
    }

    /// Whether there is a snapshot, good or not.
    ///
    /// # Errors
    /// [`BackendError`] when it can not be found out.
    fn exists(&self) -> Result<bool, BackendError>;

    /// Removes all snapshots: afterwards there is none, also after a power cut.
    ///
    /// # Errors
    /// [`BackendError`]; some may be gone.
    fn delete(&self) -> Result<(), BackendError>;
}

/// Passes a snapshot on when its head is wanted.
struct IfWanted<'a> {
    is_wanted: &'a dyn Fn(&SnapshotHead) -> bool,
    sink: &'a mut dyn Sink,
    is_unwanted: bool,
}

impl Sink for IfWanted<'_> {
    fn expect(&mut self, entries: u64) {
        self.sink.expect(entries);
    }
    fn begin(&mut self, head: &SnapshotHead) -> Result<(), BackendError> {
        self.is_unwanted = !(self.is_wanted)(head);
        if self.is_unwanted { Err(BackendError::GivenUp) } else { self.sink.begin(head) }
    }
    fn entry(&mut self, entry: &SnapshotEntry) -> Result<(), BackendError> {
        self.sink.entry(entry)
    }
}

/// A source from a closure.
pub(crate) struct FromFn<F>(pub(crate) F);

impl<F: FnMut() -> Result<Option<SnapshotEntry>, BackendError>> Source for FromFn<F> {
    fn next_entry(&mut self) -> Result<Option<SnapshotEntry>, BackendError> {
        (self.0)()
    }
}

#[cfg(feature = "json")]
impl SnapshotEntry {
    /// As a JSON object on one line, without its end: what a snapshot in JSON has of it (`docs/backends.md`), exact
    /// to the byte. Cost: the entry's size.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut line = Vec::new();
        // Writing to memory does not fail.
        let _written = json::entry_line(&mut line, self);
        line
    }

    /// What [`to_json`](Self::to_json) wrote, or somebody: `key` and `value` are enough. A value is a structure
    /// where no `kind` is said.
    ///
    /// # Errors
    /// What is wrong with it, for people to read.
    pub fn from_json(line: &[u8]) -> Result<Self, String> {
        json::entry_of(line)
    }
}
