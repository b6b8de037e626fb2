//! A place of its own for the bus of a test.

use super::Bus;
use super::options::Options;
use std::path::{Path, PathBuf};

/// Fills a bus until hardly a block is free that anybody may have, without growth.
pub(crate) fn brim(bus: &Bus) {
    for number in 0.. {
        let free = bus.inner.core.free_blocks().unwrap().1;
        if free <= 2 {
            return;
        }
        // Near the end a block at a time: who needs several might find no run of them, and grow.
        let size = if free > 40 { 15_000 } else { 3_000 };
        bus.set_bytes(format!("filler{number}"), vec![1; size]).unwrap();
    }
}

/// A directory in `/dev/shm` with room for a bus and what is kept of it.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir_in("/dev/shm").unwrap())
    }
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
    pub(crate) fn bus(&self) -> PathBuf {
        self.path().join("bus")
    }
    pub(crate) fn state(&self) -> PathBuf {
        self.path().join("state")
    }
    /// A small bus that nobody keeps; snapshots go where nobody said.
    pub(crate) fn options(&self) -> Options {
        Bus::options().keeper(false).state(self.state()).max_capacity(4 << 20)
    }
    pub(crate) fn make(&self) -> Bus {
        self.options().create_at(self.bus()).unwrap()
    }
}
