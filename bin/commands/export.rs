//! `export`: what is there, as JSON lines.

use crate::error::{Failure, Outcome};
use crate::tool::Tool;
use membus::{Backend, BackendError, Loaded, Saved, Sink, SnapshotHead, Source};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufWriter, Stdout, Write, stdout};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Write all entries of one moment as JSON lines, in no order
///
/// Each line is an object with key, value, kind, revision, time, who and expires, exact to the byte: what is no
/// text and no JSON is in base64, marked by "encoding". `membus import` reads them. Ephemeral keys are left
/// out; others go on writing meanwhile.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
}

/// Standard output as a place for a snapshot.
struct Lines {
    out: Mutex<BufWriter<Stdout>>,
    /// Why it was not written.
    failed: Mutex<Option<io::Error>>,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output")
    }
}

impl Backend for Lines {
    fn save(&self, _: &SnapshotHead, from: &mut dyn Source) -> Result<Saved, BackendError> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut entries, mut bytes) = (0, 0);
        let failed = |error| {
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            BackendError::io(Path::new("standard output"))(io::ErrorKind::Other.into())
        };
        while let Some(entry) = from.next_entry()? {
            let mut line = entry.to_json();
            line.push(b'\n');
            out.write_all(&line).map_err(failed)?;
            (entries, bytes) = (entries + 1, bytes + line.len() as u64);
        }
        out.flush().map_err(failed)?;
        Ok(Saved { entries, bytes, path: None })
    }
    fn load(&self, _: &mut dyn Sink) -> Result<Option<Loaded>, BackendError> {
        Ok(None)
    }
    fn exists(&self) -> Result<bool, BackendError> {
        Ok(false)
    }
    fn delete(&self) -> Result<(), BackendError> {
        Ok(())
    }
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        out.flush()?;
        let bus = tool.attach(&self.name, None)?;
        let lines = Lines { out: Mutex::new(BufWriter::new(stdout())), failed: Mutex::default() };
        let end = bus.backup(&lines);
        // A pipe that nobody reads any more is told as such.
        match lines.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.into()),
            None => end.map(|_| Outcome::Done).map_err(Failure::from),
        }
    }
}
