//! Backends: where snapshots go. They know a snapshot's entries, never the region.

pub(crate) mod image;

use crate::snapshot::format::{SnapshotEntry, SnapshotHead};
use std::fmt::Debug;
use std::io;
use std::path::PathBuf;

/// What was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) path: PathBuf,
}

/// What was loaded.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) head: SnapshotHead,
    pub(crate) entries: u64,
    /// Newer snapshots that were refused, with the reason.
    pub(crate) refused: Vec<(PathBuf, String)>,
}

/// Why a save or a load failed; `E` is what the other end of the stream says.
#[derive(Debug)]
pub(crate) enum BackendError<E> {
    /// The source of a save, or the sink of a load, gave up.
    Stream(E),
    Io(PathBuf, io::Error),
    /// No snapshot is good: the newest one's path and what is wrong with it.
    Damaged(PathBuf, String),
}

/// Entries, one after another; an error abandons the save.
pub(crate) type Source<'a, E> = &'a mut dyn FnMut() -> Result<Option<SnapshotEntry>, E>;
/// Takes entries, one after another.
pub(crate) type Sink<'a, E> = &'a mut dyn FnMut(SnapshotEntry) -> Result<(), E>;

/// Where snapshots go.
///
/// * B1 whole or absent: after a failed or killed `save`, `load` gives the snapshot before.
/// * B2 exact: `load` gives every entry that `save` was given, byte for byte.
/// * B3 refuses: damaged data is told in `Loaded::refused` or as an error, never a shorter snapshot.
pub(crate) trait Backend<E>: Send + Debug {
    fn save(&self, head: &SnapshotHead, source: Source<'_, E>) -> Result<Saved, BackendError<E>>;
    /// The newest good snapshot, streamed; `None` when there is none at all.
    fn load(
        &self,
        begin: &mut dyn FnMut(&SnapshotHead) -> Result<(), E>,
        sink: Sink<'_, E>,
    ) -> Result<Option<Loaded>, BackendError<E>>;
    /// The newest snapshot's file, whether it is good or not.
    fn newest(&self) -> Result<Option<PathBuf>, BackendError<E>>;
}
