//! What a bus is and what was done with it.

use super::counters::Operations;
use super::files::{KEEPER_BYTE, io, map};
use super::reader::BusReader;
use super::{Bus, Inner};
use crate::check::CheckReport;
use crate::error::{OpenError, ReadError};
use crate::region::BadRegion;
use crate::region::layout::{header, member};
use crate::sync::Ordering::Acquire;
use crate::table::{Core, Nobody};
use crate::types::time_of;
use nix::fcntl::OFlag;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What a bus is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
    /// The random id of its files.
    pub bus_id: u128,
    /// The random id of this life of its region.
    pub incarnation: u64,
    /// The newest revision; 0 before the first change.
    pub revision: u64,
    /// Bytes of the region now.
    pub capacity: u64,
    /// Bytes that it may grow to.
    pub max_capacity: u64,
    /// Bytes of blocks that are in use.
    pub used: u64,
    /// Bytes of blocks that are free, without growth.
    pub free: u64,
    /// Entries.
    pub entries: u64,
    /// Stripes of the table.
    pub stripes: u32,
    /// Members attached, the dead that are not buried yet too.
    pub members: u32,
    /// Watches registered.
    pub watches: u32,
    /// Bytes of the log's ring.
    pub log_size: u64,
    /// The oldest revision that the log still holds, or the next one when it holds none.
    pub log_oldest: u64,
    /// Permissions of the files.
    pub mode: u32,
    /// Whether the log tells old values.
    pub old_values: bool,
    /// Where snapshots go, as a URL; `unknown` when the bus is saved, and this handle's state directory has nothing of it.
    pub persist: String,
    /// The state directory of this handle.
    pub state: PathBuf,
    /// How often the keeper takes a snapshot, by the settings that this handle has.
    pub snapshot_every: Duration,
    /// After how many changes it takes one before that; 0: by time alone.
    pub snapshot_after: u64,
    /// Bytes a second that it takes at most for that; 0: full speed.
    pub snapshot_rate: u64,
    /// Slot of the member that is keeper, when one lives.
    pub keeper: Option<u32>,
    /// How long ago the keeper last gave a sign.
    pub keeper_seen: Option<Duration>,
    /// Revision of the last snapshot of this life; 0 before the first.
    pub last_snapshot_revision: u64,
    /// When it was taken.
    pub last_snapshot_time: Option<SystemTime>,
    /// What was done.
    pub operations: Operations,
}

impl Inner {
    /// Whether somebody holds a byte of the members file. Asked through a description of its own, for
    /// which the locks of this process count as anybody's.
    pub(crate) fn is_locked(&self, byte: u64) -> bool {
        self.byte_is_locked(byte).unwrap_or(false)
    }

    /// The same, and why there is no telling.
    pub(crate) fn byte_is_locked(&self, byte: u64) -> std::io::Result<bool> {
        let file = self.directory.open_file("members", OFlag::O_RDONLY)?;
        crate::sys::lock::byte_is_locked(&file, byte)
    }

    /// The slot of the living keeper.
    pub(crate) fn keeper_slot(&self) -> Result<Option<u32>, BadRegion> {
        let slot = self.core.region.load(header::KEEPER, Acquire)?;
        let alive = self.is_locked(KEEPER_BYTE);
        Ok(slot.checked_sub(1).filter(|_| alive).map(|slot| slot as u32))
    }

    pub(crate) fn info(&self) -> Result<Info, ReadError> {
        let core = &self.core;
        let word = |at| core.region.load(at, Acquire);
        let geometry = &core.geometry;
        let high = word(header::MEMBERS_HIGH)?.min(geometry.members_max);
        let mut members = 0;
        for slot in 0..high {
            members += u32::from(word(self.member_at(slot) + member::STATE)? != 0);
        }
        let (blocks, (free, _)) = (core.blocks()?, core.free_blocks()?);
        let keeper = self.keeper_slot()?;
        let seen = self.keeper_silence()?;
        let saved = word(header::SNAPSHOT_TIME)?;
        let first = geometry.first_revision + 1;
        let log_oldest = match core.log_find(first)? {
            Ok(_) => first,
            Err(oldest) => oldest,
        };
        Ok(Info {
            name: self.name.clone(),
            path: self.path.clone(),
            bus_id: geometry.bus_id,
            incarnation: geometry.incarnation,
            revision: core.head()?,
            capacity: word(header::SIZE)?,
            max_capacity: geometry.max_capacity,
            used: blocks.saturating_sub(free) << geometry.block_shift,
            free: free << geometry.block_shift,
            entries: core.count_entries()?,
            stripes: geometry.stripes as u32,
            members,
            watches: core.watch_count()? as u32,
            log_size: geometry.log_size,
            log_oldest,
            mode: geometry.mode as u32,
            old_values: geometry.tells_old_values(),
            persist: self.saved_to(),
            state: self.saving.state.clone(),
            snapshot_every: self.saving.every,
            snapshot_after: self.saving.after,
            snapshot_rate: self.saving.rate,
            keeper,
            keeper_seen: keeper.map(|_| seen),
            last_snapshot_revision: word(header::SNAPSHOT_REVISION)?,
            last_snapshot_time: (saved != 0).then(|| time_of(saved)),
            operations: Operations::from(&self.sums(high)?),
        })
    }
}

impl Bus {
    /// What the bus is and what was done with it. Looks at every block word once.
    ///
    /// # Errors
    /// When the region is damaged.
    pub fn info(&self) -> Result<Info, ReadError> {
        self.inner.info()
    }
}

impl BusReader {
    /// What the bus is and what was done with it.
    ///
    /// # Errors
    /// When the region is damaged.
    pub fn info(&self) -> Result<Info, ReadError> {
        self.inner.info()
    }
}

/// A bus that was found in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusEntry {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
}

/// The buses of a directory (default: `$MEMBUS_DIR`, else `/dev/shm/membus-UID`), by name.
///
/// # Errors
/// When the directory is there and can't be read.
pub fn buses(directory: Option<&Path>) -> Result<Vec<BusEntry>, OpenError> {
    let directory = crate::name::directory(directory);
    let names = match crate::sys::file::names(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.map_err(io("reading", &directory))?,
    };
    let mut found: Vec<_> = names
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .map(|name| BusEntry { path: directory.join(&name), name })
        .filter(|bus| crate::sys::file::stat_path(&bus.path.join("region")).is_ok())
        .collect();
    found.sort_unstable_by(|one, two| one.name.cmp(&two.name));
    Ok(found)
}

/// Verifies every structure of the region at `path`, read-only, without attaching. Exact when
/// nobody writes meanwhile.
///
/// # Errors
/// When the files are not those of a bus.
pub fn check(path: impl AsRef<Path>) -> Result<CheckReport, OpenError> {
    let (space, _file, _) = map(path.as_ref(), false)?;
    Ok(Core::new(space, Box::new(Nobody), Duration::ZERO).check())
}
