//! A snapshot on its way to a bus: a file of this host, whatever the backend that it came from.
//!
//! Whoever holds locks while it is read waits for no server, and reads what was found to be good, as often as
//! it likes. The file goes with its owner; what a dead one left goes with the next one.

use super::files::{Temporary, sweep};
use super::stream::{Input, Output};
use super::{Backend, BackendError, Loaded, Sink};
use crate::snapshot::format::{FormatError, Reader, Writer};
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use crate::sys::file;
use std::fs::File;
use std::path::Path;

/// What the files are called.
const TEMPORARY: &str = ".staged-";

/// The file, whole.
#[derive(Debug)]
pub(crate) struct Staged {
    file: Temporary,
    /// What the backend said of it.
    pub(crate) loaded: Loaded,
}

/// Writes what is loaded, and shows it to another sink.
struct Staging<'a> {
    file: &'a File,
    directory: &'a Path,
    writer: Option<Writer<Output<'a>>>,
    look: &'a mut dyn Sink,
}

impl Sink for Staging<'_> {
    fn begin(&mut self, head: &SnapshotHead) -> Result<(), BackendError> {
        let output = Output::new(self.file, false);
        let writer = output.and_then(|output| Writer::new(output, head));
        self.writer = Some(writer.map_err(BackendError::io(self.directory))?);
        self.look.begin(head)
    }
    fn entry(&mut self, entry: &SnapshotEntry) -> Result<(), BackendError> {
        if let Some(writer) = &mut self.writer {
            writer.push(entry).map_err(|error| BackendError::io(self.directory)(error))?;
        }
        self.look.entry(entry)
    }
}

impl Staged {
    /// Loads from a backend into a file in `directory`; `look` sees all of it on the way. `None` when there is
    /// no snapshot.
    pub(crate) fn of(
        from: &dyn Backend,
        directory: &Path,
        look: &mut dyn Sink,
    ) -> Result<Option<Self>, BackendError> {
        let fail = |error| BackendError::io(directory)(error);
        file::make_directories(directory).map_err(fail)?;
        sweep(directory, TEMPORARY).map_err(fail)?;
        let file = Temporary::new(directory, TEMPORARY).map_err(fail)?;
        let loaded = {
            let mut staging = Staging { file: &file.file, directory, writer: None, look };
            let loaded = from.load(&mut staging)?;
            if let Some(writer) = staging.writer {
                let (output, _) = writer.finish().map_err(fail)?;
                output.finish().map_err(fail)?;
            }
            loaded
        };
        Ok(loaded.map(|loaded| Self { file, loaded }))
    }

    /// Gives all entries to a sink.
    pub(crate) fn give(&self, sink: &mut dyn Sink) -> Result<(), BackendError> {
        let damaged = |error: FormatError| BackendError::Damaged {
            at: "the copy of it on this host".to_owned(),
            reason: error.to_string(),
        };
        let input = Input::new(&self.file.file);
        let input = input.map_err(|source| damaged(FormatError::Io { at: 0, source }))?;
        let mut reader = Reader::new(input).map_err(damaged)?;
        let mut entry = SnapshotEntry::default();
        while reader.next_into(&mut entry).map_err(damaged)? {
            sink.entry(&entry)?;
        }
        Ok(())
    }
}
