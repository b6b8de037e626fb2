//! The handle that only reads: its mapping is `PROT_READ`, so the kernel holds it to that.

use super::options::Options;
use super::{Inner, watch::Watch};
use crate::error::{OpenError, WatchError};
use crate::types::Cursor;
use std::path::Path;
use std::sync::Arc;

/// A handle of a bus that reads. It takes no member slot, no lock and no pin, and what it can't do
/// it has no method for. Its watches look every few milliseconds, since writers do not know of
/// them. Clones share the mapping.
#[derive(Debug, Clone)]
pub struct BusReader {
    pub(crate) inner: Arc<Inner>,
}

impl BusReader {
    /// Opens the bus with this name for reading; never creates.
    ///
    /// # Errors
    /// [`OpenError::Absent`] when there is none, and each check of the files has its own.
    pub fn open(name: &str) -> Result<Self, OpenError> {
        Options::default().reader(name)
    }

    /// Like [`open`](Self::open), by path.
    ///
    /// # Errors
    /// As there.
    pub fn open_at(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Options::default().reader_at(path)
    }

    /// All entries whose keys begin with `prefix`, then every later change, by polling.
    ///
    /// # Errors
    /// [`WatchError`].
    pub fn watch(&self, prefix: impl AsRef<[u8]>) -> Result<Watch, WatchError> {
        Watch::new(&self.inner, prefix.as_ref(), None)
    }

    /// Every change after a cursor, by polling.
    ///
    /// # Errors
    /// [`WatchError::Future`] for a cursor beyond the newest change.
    pub fn watch_from(
        &self,
        prefix: impl AsRef<[u8]>,
        cursor: Cursor,
    ) -> Result<Watch, WatchError> {
        Watch::new(&self.inner, prefix.as_ref(), Some(cursor))
    }
}
