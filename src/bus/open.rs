//! Creating, attaching and destroying, by the files of a bus's directory.
//!
//! ```text
//! DIR/lock      a byte of it is locked while somebody creates or destroys
//! DIR/members   the bus id, then a byte a member slot that is only ever locked
//! DIR/region    the region; `region.new` until it is whole
//! DIR/bell/     doorbell sockets
//! ```
//!
//! A creator that dies leaves a `region.new` that the next one replaces; its lock is gone with it.

use super::create;
use super::keeper::KeeperThread;
use super::options::{Intent, Options};
use super::persist::Saving;
use super::seat::Seats;
use super::{Bus, Inner};
use crate::error::OpenError;
use crate::heap::Space;
use crate::region::geometry::Geometry;
use crate::region::layout::header;
use crate::region::{Extent, Memory, Region};
use crate::sync::Ordering::{Relaxed, Release};
use crate::sys::file::{self, Kind};
use crate::sys::lock::try_lock_byte;
use crate::sys::map::Mapping;
use crate::sys::socket::Ringer;
use crate::sys::{clock, process};
use crate::table::{Core, Nobody};
use nix::fcntl::OFlag;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a creator is waited for.
const CREATE_PATIENCE: Duration = Duration::from_secs(10);

/// Fails with the path and what was tried.
pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { what, path, source }
}

/// The size of a file, asked for when an access goes beyond what is known.
#[derive(Debug)]
pub(crate) struct FileExtent(pub(crate) File);

impl Extent for FileExtent {
    fn size(&self) -> u64 {
        file::stat(&self.0).map_or(0, |stat| stat.size)
    }
}

/// The lock that creators and destroyers take.
fn lock_directory(path: &Path) -> Result<File, OpenError> {
    let at = path.join("lock");
    let lock =
        file::open_file(&at, OFlag::O_RDWR | OFlag::O_CREAT, 0o600).map_err(io("opening", &at))?;
    let begun = Instant::now();
    while !try_lock_byte(&lock, 0).map_err(io("locking", &at))? {
        if begun.elapsed() > CREATE_PATIENCE {
            let what = "another process that creates or destroys the bus";
            return Err(OpenError::Busy { path: at, what, waited: begun.elapsed() });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(lock)
}

fn exists(path: &Path) -> Result<bool, OpenError> {
    match file::stat_path(&path.join("region")) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io("looking at", path)(error)),
    }
}

/// Opens a bus as `intent` allows.
pub(crate) fn open(options: &Options, path: &Path, intent: Intent) -> Result<Bus, OpenError> {
    options.check()?;
    if intent == Intent::Attach && !exists(path)? {
        return Err(OpenError::Absent { path: path.to_owned() });
    }
    if intent != Intent::Attach {
        create_when_absent(options, path, intent)?;
    }
    attach(options, path)
}

fn create_when_absent(options: &Options, path: &Path, intent: Intent) -> Result<(), OpenError> {
    if intent == Intent::Open && exists(path)? {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        file::make_directory(parent, 0o700).map_err(io("making", parent))?;
    }
    let mode = options.mode.unwrap_or(0o600);
    let directory = mode | mode >> 2 & 0o111;
    file::make_directory(path, directory).map_err(io("making", path))?;
    let kind = file::stat_path(path).map_err(io("looking at", path))?.kind;
    if kind != Kind::Directory {
        let expected = "a directory";
        let found = kind.to_string();
        return Err(OpenError::WrongFile { path: path.to_owned(), found, expected });
    }
    let _lock = lock_directory(path)?;
    if exists(path)? && !set_aside(path)? {
        return match intent {
            Intent::Create => Err(OpenError::Exists { path: path.to_owned() }),
            _ => Ok(()),
        };
    }
    super::persist::create(options, path)
}

/// A region of an earlier boot may be torn: it is set aside, so that the bus can be rebuilt.
fn set_aside(path: &Path) -> Result<bool, OpenError> {
    match map(path, false) {
        Err(OpenError::OtherBoot { path: region }) => {
            let aside = path.join("region.torn");
            file::rename(&region, &aside).map_err(io("setting aside", &region))?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Opens and checks the region's file: kind, owner, size.
fn open_region(path: &Path, writable: bool) -> Result<(File, file::Stat), OpenError> {
    let at = path.join("region");
    let flags = if writable { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    let found = file::stat_path(&at).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OpenError::Absent { path: path.to_owned() },
        _ => io("looking at", &at)(error),
    })?;
    if found.kind != Kind::Regular {
        let (found, expected) = (found.kind.to_string(), "a regular file");
        return Err(OpenError::WrongFile { path: at, found, expected });
    }
    let region = file::open_file(&at, flags, 0).map_err(io("opening", &at))?;
    let stat = file::stat(&region).map_err(io("looking at", &at))?;
    let private = stat.mode & 0o077 == 0;
    if private && stat.uid != process::uid() && process::uid() != 0 {
        return Err(OpenError::Owner { path: at, found: stat.uid, expected: process::uid() });
    }
    if stat.size < crate::region::layout::HEADER_SIZE {
        let expected = crate::region::layout::HEADER_SIZE;
        return Err(OpenError::Truncated { path: at, found: stat.size, expected });
    }
    Ok((region, stat))
}

/// Maps the region and reads its header.
pub(crate) fn map(path: &Path, writable: bool) -> Result<(Space, File, file::Stat), OpenError> {
    let (region, stat) = open_region(path, writable)?;
    let at = path.join("region");
    let extent = |file: &File| file.try_clone().map(FileExtent).map_err(io("opening", &at));
    let first = Mapping::new(&region, stat.size, false).map_err(io("mapping", &at))?;
    let peek = Region::new(Memory::map(first, false, Box::new(extent(&region)?)));
    let header = |source| OpenError::Header { path: at.clone(), source };
    let geometry = Geometry::read(&peek).map_err(header)?;
    let size = peek.load(header::SIZE, Relaxed).unwrap_or_default();
    if size > stat.size || stat.size < geometry.capacity {
        let expected = size.max(geometry.capacity);
        return Err(OpenError::Truncated { path: at, found: stat.size, expected });
    }
    if geometry.boot_id != clock::boot_id().map_err(io("asking for the boot id for", &at))? {
        return Err(OpenError::OtherBoot { path: at });
    }
    let map = Mapping::new(&region, geometry.max_capacity, writable).map_err(io("mapping", &at))?;
    let whole = Region::new(Memory::map(map, writable, Box::new(extent(&region)?)));
    Ok((Space::new(whole, geometry), region, stat))
}

fn differs(options: &Options, geometry: &Geometry) -> Result<(), OpenError> {
    let max = options.max_capacity.map(|max| max >> geometry.block_shift << geometry.block_shift);
    let asked = [
        ("max_capacity", max, geometry.max_capacity),
        ("log_size", options.log_size.map(create::log_size), geometry.log_size),
        ("mode", options.mode.map(u64::from), geometry.mode),
    ];
    for (setting, asked, found) in asked {
        if let Some(asked) = asked.filter(|asked| *asked != found) {
            let (asked, found) = (asked.to_string(), found.to_string());
            return Err(OpenError::Differs { setting, asked, found });
        }
    }
    Ok(())
}

/// Opens the members file, and checks that it belongs to the region.
pub(crate) fn open_members(path: &Path, geometry: &Geometry) -> Result<File, OpenError> {
    use std::os::unix::fs::FileExt;
    let at = path.join("members");
    let file = file::open_file(&at, OFlag::O_RDWR, 0).map_err(io("opening", &at))?;
    let mut id = [0; 16];
    let read = file.read_exact_at(&mut id, 0);
    if read.is_err() || u128::from_le_bytes(id) != geometry.bus_id {
        return Err(OpenError::BusId { path: at });
    }
    Ok(file)
}

/// Attaches to what is there.
pub(crate) fn attach(options: &Options, path: &Path) -> Result<Bus, OpenError> {
    let (space, region, stat) = map(path, true)?;
    differs(options, &space.geometry)?;
    let saving = Saving::of(options, path)?;
    let bell = path.join("bell");
    let bells = file::open_directory(&bell).map_err(io("opening", &bell))?;
    let seats = Seats::take(path, &space)?;
    // Whoever unlinks the files does not wait for us: nobody joins a bus that is gone.
    let now = file::stat_path(&path.join("region")).map_err(io("looking at", path))?;
    if (now.device, now.inode) != (stat.device, stat.inode) {
        return Err(OpenError::Absent { path: path.to_owned() });
    }
    let liveness = Box::new(Arc::clone(&seats));
    let inner = Inner {
        core: Core::new(space, liveness, options.deadline),
        path: path.to_owned(),
        name: name_of(path),
        label: options.label.clone().unwrap_or_default(),
        region,
        bells,
        ringer: Ringer::new().map_err(io("making a socket for", path))?,
        seats: Some(Arc::clone(&seats)),
        saving,
    };
    inner.sit_down(seats.current())?;
    let inner = Arc::new(inner);
    let keeper = if options.keeper { Some(KeeperThread::start(&inner)?) } else { None };
    Ok(Bus { keeper: Arc::new(keeper), inner })
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Opens what is there for reading alone.
pub(crate) fn read_only(path: &Path) -> Result<Inner, OpenError> {
    let options = Options::default();
    let (space, region, _) = map(path, false)?;
    Ok(Inner {
        core: Core::new(space, Box::new(Nobody), options.deadline),
        path: path.to_owned(),
        name: name_of(path),
        label: String::new(),
        region,
        bells: file::open_directory(path).map_err(io("opening", path))?,
        ringer: Ringer::new().map_err(io("making a socket for", path))?,
        seats: None,
        saving: Saving::of(&options, path)?,
    })
}

/// Removes a bus. Members must be gone, unless `force`.
pub(crate) fn destroy(state: &Path, path: &Path, force: bool) -> Result<(), OpenError> {
    if !exists(path)? {
        return Err(OpenError::Absent { path: path.to_owned() });
    }
    let _lock = lock_directory(path)?;
    if let Ok((space, _region, _)) = map(path, true) {
        let members = open_members(path, &space.geometry)?;
        let mut count = 0;
        for slot in 0..space.geometry.members_max {
            let alive = crate::sys::lock::byte_is_locked(&members, slot);
            count += u64::from(alive.map_err(io("probing", path))?);
        }
        if count > 0 && !force {
            return Err(OpenError::InUse { path: path.to_owned(), count });
        }
        let bad = |source| OpenError::Bad { path: path.join("region"), source };
        space.region.store(header::DESTROYED, 1, Release).map_err(bad)?;
    }
    remove(path)?;
    crate::config::forget(state, path)
}

/// Removes the files that membus made in a bus's directory, and the directory.
fn remove(path: &Path) -> Result<(), OpenError> {
    let bell = path.join("bell");
    for name in file::names(&bell).unwrap_or_default() {
        file::unlink(&bell.join(name)).map_err(io("removing a bell of", path))?;
    }
    for name in ["region", "region.new", "region.torn", "members", "lock"] {
        file::unlink(&path.join(name)).map_err(io("removing", path))?;
    }
    // Somebody else's files keep the directories.
    drop(std::fs::remove_dir(&bell));
    drop(std::fs::remove_dir(path));
    Ok(())
}
