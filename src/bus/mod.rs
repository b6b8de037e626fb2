//! The bus: a region with its directory, its member slot, and the operations of the public face.

mod ahead;
pub(crate) mod arrivals;
mod backends;
pub(crate) mod batch;
pub(crate) mod callback;
pub(crate) mod cancel;
pub(crate) mod cell;
pub(crate) mod conflate;
#[cfg(test)]
mod conflate_tests;
pub(crate) mod counters;
#[cfg(test)]
mod crash_tests;
pub(crate) mod create;
pub(crate) mod destroy;
pub(crate) mod event;
#[cfg(test)]
mod failing_tests;
pub(crate) mod feed;
pub(crate) mod files;
pub(crate) mod follow;
pub(crate) mod going;
pub(crate) mod grow;
pub(crate) mod guard;
pub(crate) mod health;
pub(crate) mod history;
mod import;
pub(crate) mod info;
pub(crate) mod iter;
pub(crate) mod journal;
pub(crate) mod keeper;
pub(crate) mod locks;
mod lost;
pub(crate) mod marks;
pub(crate) mod members;
pub(crate) mod metrics;
mod office;
pub(crate) mod open;
pub(crate) mod options;
mod pace;
pub(crate) mod persist;
#[cfg(test)]
mod power_tests;
pub(crate) mod publish;
pub(crate) mod put;
pub(crate) mod queue;
pub(crate) mod read;
pub(crate) mod reader;
pub(crate) mod restore;
pub(crate) mod scan;
pub(crate) mod seat;
mod simple;
pub(crate) mod sleeper;
#[cfg(feature = "stream")]
pub(crate) mod stream;
pub(crate) mod subscribe;
mod take;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod wait;
pub(crate) mod watch;
pub(crate) mod write;

use crate::error::{OpenError, WriteError};
use crate::region::layout::{header, member};
use crate::sync::Ordering::{Acquire, Relaxed};
use crate::sys::directory::Directory;
use crate::sys::socket::Ringer;
use crate::table::Core;
use counters::Counting;
use keeper::KeeperThread;
use options::Options;
use persist::Saving;
use seat::Seats;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What all clones of a handle share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) core: Core,
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) label: String,
    /// Whether the handle may host the keeper.
    pub(crate) may_keep: bool,
    pub(crate) region: File,
    /// What `path` named when it was opened.
    pub(crate) directory: Directory,
    /// A reader has none.
    pub(crate) bells: Option<Directory>,
    pub(crate) ringer: Ringer,
    /// A reader has none.
    pub(crate) seats: Option<Arc<Seats>>,
    pub(crate) counting: Counting,
    pub(crate) saving: Saving,
}

impl Inner {
    /// Whether the bus is gone: destroyed, or its files removed.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.core.region.load(header::DESTROYED, Relaxed).unwrap_or(1) != 0
    }

    /// The slot to write by.
    #[inline]
    pub(crate) fn writer(&self) -> Result<u32, WriteError> {
        if self.is_gone() {
            return Err(WriteError::Gone { path: self.path.clone() });
        }
        let Some(seats) = &self.seats else {
            return Err(WriteError::Gone { path: self.path.clone() });
        };
        if let Some(seat) = seats.current() {
            return Ok(seat.slot);
        }
        self.sit_down_anew(seats).map_err(|error| WriteError::Forked { source: Box::new(error) })
    }

    /// Where a member slot stands.
    pub(crate) fn member_at(&self, slot: u64) -> u64 {
        self.core.geometry.member(slot)
    }

    /// Label and pid of a slot, for people.
    pub(crate) fn describe(&self, slot: u32) -> (Option<String>, u32) {
        let at = self.member_at(u64::from(slot));
        let word = |offset| self.core.region.load(at + offset, Acquire).unwrap_or_default();
        let mut label = Vec::new();
        let len = word(member::LABEL_LEN).min(64);
        let read = self.core.region.read_into(at + member::LABEL, len, &mut label);
        let label =
            read.ok().and_then(|()| String::from_utf8(label).ok()).filter(|l| !l.is_empty());
        (label, word(member::PID) as u32)
    }
}

/// A handle of a bus that reads and writes. Clones share one member slot; cheap to clone, and
/// usable from several threads.
#[derive(Debug, Clone)]
pub struct Bus {
    /// Dropped before `inner`: the keeper's thread ends first.
    pub(crate) keeper: Arc<Option<KeeperThread>>,
    pub(crate) inner: Arc<Inner>,
}

impl Bus {
    /// Attaches to the bus with this name, or creates it with the defaults.
    ///
    /// # Errors
    /// [`OpenError`] says what is in the way.
    pub fn open(name: &str) -> Result<Self, OpenError> {
        Options::default().open(name)
    }
    /// Attaches to the bus with this name; never creates.
    ///
    /// # Errors
    /// [`OpenError::Absent`] when there is none.
    pub fn attach(name: &str) -> Result<Self, OpenError> {
        Options::default().attach(name)
    }
    /// Like [`open`](Self::open), by path.
    ///
    /// # Errors
    /// As there.
    pub fn open_at(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Options::default().open_at(path)
    }
    /// Like [`attach`](Self::attach), by path.
    ///
    /// # Errors
    /// As there.
    pub fn attach_at(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Options::default().attach_at(path)
    }
    /// How to open, create or attach.
    #[must_use]
    pub fn options() -> Options {
        Options::default()
    }
    /// Removes a bus with its files. Handles that are still open say that it is gone.
    ///
    /// # Errors
    /// [`OpenError::InUse`] while members live, unless `force`.
    pub fn destroy(name: &str, force: bool) -> Result<(), OpenError> {
        Options::default().destroy(name, force)
    }
    /// Like [`destroy`](Self::destroy), by path.
    ///
    /// # Errors
    /// As there.
    pub fn destroy_at(path: impl AsRef<Path>, force: bool) -> Result<(), OpenError> {
        Options::default().destroy_at(path, force)
    }
    /// Verifies every structure of the region, read-only. Exact when nobody writes meanwhile.
    #[must_use]
    pub fn check(&self) -> crate::check::CheckReport {
        self.inner.core.check()
    }
}

impl Drop for Inner {
    /// Detaches: what belongs to this member goes, and its slot is free.
    fn drop(&mut self) {
        // The seat of a forked child's parent is not the child's to give up.
        // Nor is a slot that was not mended anybody's yet.
        let Some(seat) = self.seat().filter(|seat| seat.is_seated()) else { return };
        if self.is_gone() {
            return;
        }
        if !self.may_keep {
            // Nobody needs it to succeed.
            let _end = self.tend_unkept();
        }
        let _end = self.bury(seat.slot, seat.slot, member::ENDED_LEFT, self.core.patience);
    }
}
