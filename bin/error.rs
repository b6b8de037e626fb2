//! How a command ends, and why it failed.

use std::io;
use std::path::{Path, PathBuf};

/// How a command that did not fail ends.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Exit status 0.
    Done,
    /// Exit status 1, without a word: no such key, nothing deleted, the time ran out.
    Absent,
    /// Exit status 1, and why: a condition that did not hold, a bus that is there already.
    Refused(String),
    /// This exit status, and why: of a command that runs others.
    Status(u8, Option<String>),
}

/// Why a command failed: exit status 2 and one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The library refused.
    #[error(transparent)]
    Bus(Box<membus::Error>),
    /// The results could not be written.
    #[error("writing the output: {0}")]
    Output(#[from] io::Error),
    /// What was given on the command line or on standard input makes no sense.
    #[error("{0}")]
    Input(String),
    /// A line of a batch.
    #[error("line {line}: {reason}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// `check` found something; the list is on standard output.
    #[error("{count} findings in {}; they are listed on standard output", path.display())]
    Findings {
        /// How many.
        count: usize,
        /// In which bus.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The demo did not come to its end.
    #[error("demo: {0}")]
    Demo(String),
    /// A signal said to end.
    #[error("ended by signal {0}")]
    Interrupted(i32),
}

impl Failure {
    /// For `map_err`: the kernel refused something on a path.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// Whether whoever read the output has seen enough.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Each family of the library's errors is a failure by way of [`membus::Error`].
macro_rules! from_families {
    ($($family:ident),*) => {$(
        impl From<membus::$family> for Failure {
            fn from(error: membus::$family) -> Self {
                Self::Bus(Box::new(error.into()))
            }
        }
    )*};
}

from_families!(
    OpenError,
    ReadError,
    WriteError,
    BatchError,
    WatchError,
    LockError,
    QueueError,
    SnapshotError,
    CloseError
);
