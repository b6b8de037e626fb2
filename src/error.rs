//! Errors: one type for each family of operations. Each says what was asked, what is there and
//! what to do; the old state stays.

mod lock;
mod queue;
mod snapshot;
mod write;

pub use lock::LockError;
pub use queue::QueueError;
pub use snapshot::{CloseError, SnapshotError};
pub use write::{BatchError, Expected, WriteError};

use crate::region::BadRegion;
use crate::region::geometry::HeaderError;
use crate::types::{Key, Kind};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Any error of membus.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// From opening, creating, attaching, destroying.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// From reading.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// From writing.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// From a batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// From watching.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// From locks, leases, semaphores, barriers and elections.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// From queues.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// From snapshots.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// From closing.
    #[error(transparent)]
    Close(#[from] CloseError),
}

/// Why a bus was not opened, created or destroyed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name breaks the rules.
    #[error(
        "`{name}` is no bus name: 1 to 64 of A-Z a-z 0-9 . _ -, not beginning with . or - (a path contains a /)"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// No such bus.
    #[error("there is no bus at {}; create it, or look with `membus buses`", path.display())]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The directory is somebody's, and no bus.
    #[error("{} has {found} in it, which is not of a bus; give a directory that is empty, or not there yet", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of what is there.
        found: String,
    },
    /// A part of a bus that is there was removed.
    #[error("{} has a region and no `{missing}`: somebody removed it; end its members, remove the directory and open the bus: it is rebuilt from its newest snapshot", path.display())]
    Incomplete {
        /// The bus's directory.
        path: PathBuf,
        /// What is not there.
        missing: &'static str,
    },
    /// The bus is there already.
    #[error("there is a bus at {} already; it was left untouched", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// An option is outside of its limits.
    #[error("{setting} = {asked} is not possible: {rule}")]
    Setting {
        /// Which option.
        setting: &'static str,
        /// What was asked.
        asked: String,
        /// What is possible.
        rule: String,
    },
    /// The bus was made with something else.
    #[error(
        "{setting} of this bus is {found}, asked was {asked}; open it without asking; to change it: back up, destroy, create, restore"
    )]
    Differs {
        /// Which setting.
        setting: &'static str,
        /// What was asked.
        asked: String,
        /// What the bus has.
        found: String,
    },
    /// Something else stands where a file of the bus belongs.
    #[error("{} is {found}, expected {expected}", path.display())]
    WrongFile {
        /// Which path.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// The region belongs to somebody else, or others may write it.
    #[error("{} belongs to user {found} alone, this is user {expected}", path.display())]
    Owner {
        /// Which path.
        path: PathBuf,
        /// Its owner.
        found: u32,
        /// Who asks.
        expected: u32,
    },
    /// Others may do more with it than the bus was made for.
    #[error("{} has mode {found:o}, expected is {expected:o}; change it back", path.display())]
    Mode {
        /// Which path.
        path: PathBuf,
        /// Its permissions.
        found: u32,
        /// Those that belong to it.
        expected: u32,
    },
    /// The file is shorter than its header says.
    #[error("{} has {found} bytes, its header says {expected}: it was truncated", path.display())]
    Truncated {
        /// Which file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// What it should be.
        expected: u64,
    },
    /// The header was refused.
    #[error("{}: {source}", path.display())]
    Header {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: HeaderError,
    },
    /// The members file belongs to another life of the bus.
    #[error("{} belongs to another life of this bus: its id is {found:032x}, the region's is {expected:032x}", path.display())]
    BusId {
        /// Which file.
        path: PathBuf,
        /// The id in it; 0 when it has none.
        found: u128,
        /// The region's.
        expected: u128,
    },
    /// The region was made before the host was started anew.
    #[error("{} was made in an earlier boot of this host ({found:032x}, now it is {expected:032x}), so its last changes may be missing; open the bus, not only attach: it is rebuilt from its newest snapshot, and this region set aside", path.display())]
    OtherBoot {
        /// Which file.
        path: PathBuf,
        /// The boot's id that is noted there.
        found: u128,
        /// This one's, as in `/proc/sys/kernel/random/boot_id`.
        expected: u128,
    },
    /// No space for the region.
    #[error("no space to reserve {asked} bytes at {}; on /dev/shm in a container see its shm-size setting: {source}", path.display())]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Bytes that were asked for.
        asked: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// All member slots are taken by living members.
    #[error("all {limit} member slots of the bus are taken")]
    TooManyMembers {
        /// How many there are.
        limit: u64,
    },
    /// Somebody is in the way for too long.
    #[error("waited {waited:?} for {what} at {}", path.display())]
    Busy {
        /// Where.
        path: PathBuf,
        /// For what.
        what: &'static str,
        /// How long.
        waited: Duration,
    },
    /// Members live.
    #[error("{count} members are attached to {}; end them, or force it", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
        /// How many.
        count: u64,
    },
    /// The region is damaged.
    #[error("{}: {source}", path.display())]
    Bad {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: BadRegion,
    },
    /// The snapshot was refused, or could not be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
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
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The key breaks the rules.
    #[error("a key of {size} bytes: 1 to {limit} are possible")]
    Key {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The value is of another kind.
    #[error("the value of `{key}` is of kind {kind}, asked was {wanted}; `get_bytes` reads any")]
    NotThisKind {
        /// Which key.
        key: Key,
        /// Its kind.
        kind: Kind,
        /// What was asked.
        wanted: Kind,
    },
    /// The value is another type.
    #[error("the value of `{key}` ({kind}) is not of this type, at byte {position}: {reason}")]
    Decode {
        /// Which key.
        key: Key,
        /// Its kind.
        kind: Kind,
        /// Where in the value.
        position: u64,
        /// What was wrong there.
        reason: String,
    },
    /// Writers overtook the read again and again.
    #[error("the read was overtaken by writers {attempts} times; try again")]
    Contended {
        /// How often.
        attempts: u32,
    },
    /// The region is damaged.
    #[error(transparent)]
    Bad(#[from] BadRegion),
    /// The bus was destroyed.
    #[error("the bus at {} was destroyed or its files were removed; open it again", path.display())]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
}

/// Why a watch could not begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// All watch slots are taken.
    #[error("all {limit} watches of the bus are taken")]
    TooMany {
        /// How many there are.
        limit: u64,
    },
    /// The pattern breaks the rules.
    #[error("`{pattern}` is no pattern of topics: {reason}")]
    Pattern {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The prefix is longer than a key.
    #[error("a prefix of {size} bytes: keys have up to {limit}")]
    Prefix {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The cursor lies beyond the newest change.
    #[error("the cursor {cursor} lies beyond the newest revision {head}")]
    Future {
        /// What was given.
        cursor: crate::types::Cursor,
        /// The newest revision.
        head: u64,
    },
    /// The cursor is of another life of the bus, whose log is gone. (A watch tells
    /// [`Lagged`](crate::Event::Lagged) instead, and goes on with this life.)
    #[error(
        "the cursor {cursor} is of another life of the bus; this one is {incarnation:016x}, its log knows nothing of it: list what is there"
    )]
    OtherLife {
        /// What was given.
        cursor: crate::types::Cursor,
        /// The present life.
        incarnation: u64,
    },
    /// The watch's canceller was used. No event is lost; the watch may be asked again.
    #[error("the wait for an event was cancelled")]
    Cancelled,
    /// The watch belongs to the process that this one was forked from.
    #[error("this watch belongs to the process that this one was forked from; begin one here")]
    Forked,
    /// Reading failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Registering failed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The kernel refused.
    #[error("the doorbell: {0}")]
    Io(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    /// Promise: no error that says how a bus is built anew says that it be destroyed, which forgets what it is built from.
    /// Plant: the texts as they were, of another layout and of an earlier boot.
    #[test]
    fn nobody_is_told_to_destroy_what_is_to_be_rebuilt() {
        let texts = [include_str!("error.rs"), include_str!("region/geometry.rs")];
        let code = texts.iter().flat_map(|text| text.split("#[cfg(test)]").take(1));
        // An attribute with a text, to its end.
        let errors = code.flat_map(|code| code.split("#[error(").skip(1));
        let errors: Vec<_> = errors.filter_map(|text| text.split(")]").next()).collect();
        assert!(errors.len() > 40, "{} errors", errors.len());
        for text in errors {
            let is_trap = text.contains("destroy ") && text.contains("rebuil");
            assert!(!is_trap, "{text}");
        }
    }
}
