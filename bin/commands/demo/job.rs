//! What the processes of the demo share: where the bus is, what its keys are called.
//!
//! | key | value | who writes it |
//! | --- | --- | --- |
//! | `job/todo/ID` | a piece | the demo, at first |
//! | `job/claim/ID` | who counts it; ephemeral | a worker |
//! | `job/done/ID` | what it was; once there, it stays | the worker, in one batch with … |
//! | `count/WORD` | a counter | … these, and the end of the claim |

use crate::error::Failure;
use membus::{Bus, Options, Persist};
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// What is watched: claims, marks and pieces, no counts.
pub(super) const JOB: &str = "job/";
pub(super) const TODO: &str = "job/todo/";
pub(super) const CLAIM: &str = "job/claim/";
pub(super) const DONE: &str = "job/done/";
pub(super) const COUNT: &str = "count/";

/// Bytes of the log: a few of the largest batches, so that no watch falls behind.
const LOG_SIZE: u64 = 16 << 20;
/// Free bytes without which `/dev/shm` is no place for the demo, in a container for one.
const ROOM: u64 = 256 << 20;
/// Longer than the demo runs: it takes its snapshots itself.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// A piece that is to be counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Piece {
    path: Vec<u8>,
    pub(super) start: u64,
    pub(super) len: u64,
}

impl Piece {
    pub(super) fn new(path: &Path, start: u64, len: u64) -> Self {
        Self { path: path.as_os_str().as_bytes().to_vec(), start, len }
    }
    pub(super) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }
}

/// The mark of a piece that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) bytes: u64,
    pub(super) words: u64,
}

/// Where the bus of a demo is, and what outlives it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Site {
    /// Directory of the bus
    #[arg(long)]
    pub(super) bus: PathBuf,
    /// Directory of settings and snapshots
    #[arg(long)]
    pub(super) store: PathBuf,
}

impl Site {
    /// With what a member opens the bus; only the demo itself may be keeper.
    pub(super) fn options(&self, label: &str) -> Options {
        Bus::options()
            .label(label)
            .keeper(false)
            .log_size(LOG_SIZE)
            .state(self.store.join("state"))
            .persist(Persist::Image(self.store.join("snapshots")))
            .snapshot_every(NEVER)
    }
}

/// The directories of a demo, gone when this is dropped.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) site: Site,
    bus: TempDir,
    store: TempDir,
}

impl Ground {
    /// The bus in the directory of buses that was named, or in memory; the store where temporary
    /// files are.
    pub(super) fn new(buses: Option<&Path>) -> Result<Self, Failure> {
        let named = std::env::var_os("MEMBUS_DIR").map(PathBuf::from);
        let named = buses.map(Path::to_owned).or(named).filter(|named| named.is_dir());
        let memory = Path::new("/dev/shm");
        let place = named.unwrap_or_else(|| match statvfs(memory) {
            Ok(room) if room.blocks_available() * room.fragment_size() >= ROOM => memory.into(),
            _ => std::env::temp_dir(),
        });
        let make = |at: &Path| {
            let made = tempfile::Builder::new().prefix("membus-demo-").tempdir_in(at);
            made.map_err(Failure::io("making a directory in", at))
        };
        let (bus, store) = (make(&place)?, make(&std::env::temp_dir())?);
        let site = Site { bus: bus.path().join("words"), store: store.path().to_owned() };
        Ok(Self { site, bus, store })
    }

    /// Removes it all, and says so when that fails.
    pub(super) fn remove(self) -> Result<(), Failure> {
        let (bus, store) = (self.bus.path().to_owned(), self.store.path().to_owned());
        self.bus.close().map_err(Failure::io("removing", &bus))?;
        self.store.close().map_err(Failure::io("removing", &store))
    }
}

/// `PREFIX` and the number of a piece.
pub(super) fn key(prefix: &str, id: &str) -> String {
    format!("{prefix}{id}")
}

/// What stands behind a prefix, when the key begins with it.
pub(super) fn behind<'k>(prefix: &str, key: &'k [u8]) -> Option<&'k str> {
    std::str::from_utf8(key.strip_prefix(prefix.as_bytes())?).ok()
}
