//! The files of a bus: what they are, the lock of its directory, and the checks that each passes
//! before it is used.
//!
//! ```text
//! DIR/lock      a byte of it is locked while somebody creates or destroys
//! DIR/members   the bus id, then a byte a member slot that is only ever locked
//! DIR/region    the region; `region.new` until it is whole
//! DIR/bell/     doorbell sockets
//! ```

use crate::config;
use crate::error::OpenError;
use crate::heap::Space;
use crate::region::geometry::Geometry;
use crate::region::layout::{HEADER_SIZE, MAGIC, header};
use crate::region::{Extent, Memory, Region};
use crate::sync::Ordering::{Acquire, Relaxed};
use crate::sys::directory::Directory;
use crate::sys::file::{self, Kind};
use crate::sys::fork::{NoFork, Private};
use crate::sys::lock::try_lock_byte;
use crate::sys::map::Mapping;
use crate::sys::{clock, process};
use nix::fcntl::OFlag;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// The byte of the `members` file that the keeper holds.
pub(crate) const KEEPER_BYTE: u64 = 1 << 20;
/// The byte of the `members` file that belongs to slot 0 and that only its living user ever holds; those of
/// the other slots follow it. A slot's own byte may also be held by who buries its last user.
pub(crate) const LIFE_BYTES: u64 = 1 << 21;
/// The byte of the `members` file that is locked while a snapshot is taken.
pub(crate) const SNAPSHOT_BYTE: u64 = KEEPER_BYTE + 1;
/// The byte of the `members` file that is locked by who keeps the journal.
pub(crate) const JOURNAL_BYTE: u64 = KEEPER_BYTE + 2;
/// The byte of the `members` file that is locked while somebody waits to take one: who takes one slowly hurries.
pub(crate) const AWAITED_BYTE: u64 = KEEPER_BYTE + 3;

/// Looks at a directory before it is called somebody's.
const FOREIGN_LOOKS: u32 = 5;
/// How long a creator is waited for.
pub(crate) const CREATE_PATIENCE: Duration = Duration::from_secs(10);

/// Fails with the path and what was tried.
pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { what, path, source }
}

/// Fails with what is not there, or with the path and what was tried.
pub(crate) fn absent_or(
    what: &'static str,
    at: &Path,
    bus: &Path,
) -> impl FnOnce(io::Error) -> OpenError {
    let (at, path) = (at.to_owned(), bus.to_owned());
    move |source| match source.kind() {
        io::ErrorKind::NotFound => OpenError::Absent { path },
        _ => OpenError::Io { what, path: at, source },
    }
}

/// Fails with a part of a bus that is not there, or with the path and what was tried. A destroyer removes the region first.
pub(crate) fn incomplete_or(
    missing: &'static str,
    directory: &Directory,
    bus: &Path,
) -> impl FnOnce(io::Error) -> OpenError {
    let (path, is_there) = (bus.to_owned(), directory.stat("region").is_ok());
    move |source| match source.kind() {
        io::ErrorKind::NotFound if is_there => OpenError::Incomplete { path, missing },
        _ => absent_or("opening", &path.join(missing), &path)(source),
    }
}

/// The size of a file, asked for when an access goes beyond what is known.
#[derive(Debug)]
pub(crate) struct FileExtent(pub(crate) File);

impl Extent for FileExtent {
    fn size(&self) -> u64 {
        file::stat(&self.0).map_or(0, |stat| stat.size)
    }
}

/// The lock that creators and destroyers take, in a directory that is made for files with `mode`.
///
/// It is waited for no longer than `patience`: another one may be building a large bus anew, or be stopped.
pub(crate) fn lock_directory(
    path: &Path,
    mode: u32,
    patience: Duration,
) -> Result<Private, OpenError> {
    let at = path.join("lock");
    let begun = Instant::now();
    loop {
        make_directory(path, mode)?;
        // A child that is forked meanwhile must not hold it on.
        let no_fork = NoFork::begin();
        let lock = match file::open_file(&at, OFlag::O_RDWR | OFlag::O_CREAT, 0o600) {
            // Whoever destroyed the bus meanwhile took the directory away.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && begun.elapsed() <= patience =>
            {
                continue;
            }
            lock => {
                lock.and_then(|lock| Private::new(lock, &no_fork)).map_err(io("opening", &at))?
            }
        };
        drop(no_fork);
        while !try_lock_byte(&lock, 0).map_err(io("locking", &at))? {
            if begun.elapsed() > patience {
                let what = "another process that creates or destroys the bus";
                return Err(OpenError::Busy { path: at, what, waited: begun.elapsed() });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // The lock of a file that was unlinked while it was waited for excludes nobody.
        let held = file::stat(&lock).map_err(io("looking at", &at))?;
        if file::stat_path(&at).is_ok_and(|named| named.is_same(&held)) {
            return Ok(lock);
        }
    }
}

/// Refuses a directory that is somebody's: neither empty nor of a bus, which has a `lock` without a byte, or a region. Its
/// files would be taken for the bus's, and go with it.
pub(crate) fn check_foreign(path: &Path) -> Result<(), OpenError> {
    let mut found = None;
    // Others may be making or destroying the bus between two looks.
    for _ in 0..FOREIGN_LOOKS {
        found = foreign(path);
        if found.is_none() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let found = found.unwrap_or_default().to_string_lossy().into_owned();
    Err(OpenError::Foreign { path: path.to_owned(), found })
}

/// What stands in a directory that is not of a bus, if it is none.
fn foreign(path: &Path) -> Option<std::ffi::OsString> {
    let lock = file::stat_path(&path.join("lock"));
    // Anything else of that name is told about when it is to be locked.
    if lock.is_ok_and(|lock| lock.kind != Kind::Regular || lock.size == 0) {
        return None;
    }
    let mut begin = [0; 8];
    let region = file::open_file(&path.join("region"), OFlag::O_RDONLY, 0);
    let region = region.and_then(|mut region| io::Read::read_exact(&mut region, &mut begin));
    if region.is_ok() && u64::from_le_bytes(begin) == MAGIC {
        return None;
    }
    // One that is not there yet, or may not be read, is told about where it is used.
    let names = |path: &Path| file::names(path).unwrap_or_default();
    // The directory of doorbells may be left of who destroyed a bus.
    let is_left = |name: &std::ffi::OsString| {
        name == "bell" && names(&path.join(name)).iter().all(|name| is_bell(name))
    };
    names(path).into_iter().find(|name| !is_left(name))
}

/// Whether a doorbell is called so ([`BellName`](crate::sys::socket::BellName)).
pub(super) fn is_bell(name: &std::ffi::OsStr) -> bool {
    let parts = name.to_str().and_then(|name| name.split_once('-'));
    parts.is_some_and(|(index, nonce)| {
        let is_nonce = nonce.len() == 16 && nonce.bytes().all(|digit| digit.is_ascii_hexdigit());
        index.parse::<u64>().is_ok() && is_nonce
    })
}

/// Whether there is a region.
pub(crate) fn exists(path: &Path) -> Result<bool, OpenError> {
    match file::stat_path(&path.join("region")) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io("looking at", path)(error)),
    }
}

/// Permissions of a bus's directories, whose files have `mode`: who may read may enter.
fn directory_mode(mode: u32) -> u32 {
    mode | mode >> 2 & 0o111
}

fn make_directory(path: &Path, mode: u32) -> Result<(), OpenError> {
    if let Some(parent) = path.parent() {
        file::make_directory(parent, 0o700).map_err(io("making", parent))?;
        check_standard(parent)?;
    }
    file::make_directory(path, directory_mode(mode)).map_err(io("making", path))?;
    check_directory(path, None)
}

/// The directory of all buses stands where anybody could have made it first: it must be this user's.
fn check_standard(directory: &Path) -> Result<(), OpenError> {
    if directory != crate::name::standard() {
        return Ok(());
    }
    config::check_own(directory)
}

/// Whether a bus may live at `path`, when its files have `mode`, as far as that is known.
fn check_directory(path: &Path, mode: Option<u32>) -> Result<(), OpenError> {
    let stat = file::stat_path(path).map_err(absent_or("looking at", path, path))?;
    if stat.kind != Kind::Directory {
        let (found, expected) = (stat.kind.to_string(), "a directory");
        return Err(OpenError::WrongFile { path: path.to_owned(), found, expected });
    }
    check_owner(path, &stat)?;
    // Who may write to the directory may put another bus in this one's place.
    let expected = directory_mode(mode.unwrap_or(stat.mode));
    if stat.mode & 0o022 & !expected != 0 {
        return Err(OpenError::Mode { path: path.to_owned(), found: stat.mode, expected });
    }
    Ok(())
}

/// What is for one user alone must be this one's.
fn check_owner(path: &Path, stat: &file::Stat) -> Result<(), OpenError> {
    let (found, expected) = (stat.uid, process::uid());
    if stat.mode & 0o077 == 0 && found != expected && expected != 0 {
        return Err(OpenError::Owner { path: path.to_owned(), found, expected });
    }
    Ok(())
}

/// Opens and checks the region's file: kind, owner, size.
fn open_region(path: &Path, writable: bool) -> Result<(File, file::Stat), OpenError> {
    let at = path.join("region");
    let flags = if writable { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    let found = file::stat_path(&at).map_err(absent_or("looking at", &at, path))?;
    if found.kind != Kind::Regular {
        let (found, expected) = (found.kind.to_string(), "a regular file");
        return Err(OpenError::WrongFile { path: at, found, expected });
    }
    let region = file::open_file(&at, flags, 0).map_err(absent_or("opening", &at, path))?;
    let stat = file::stat(&region).map_err(io("looking at", &at))?;
    check_owner(&at, &stat)?;
    if stat.size < HEADER_SIZE {
        let (found, expected) = (stat.size, HEADER_SIZE);
        return Err(OpenError::Truncated { path: at, found, expected });
    }
    Ok((region, stat))
}

/// Maps the region, after every check: directory, file, owner, size, header, mode, boot.
pub(crate) fn map(path: &Path, writable: bool) -> Result<(Space, File, file::Stat), OpenError> {
    check_directory(path, None)?;
    path.parent().map_or(Ok(()), check_standard)?;
    let (region, stat) = open_region(path, writable)?;
    let at = path.join("region");
    let extent = |file: &File| file.try_clone().map(FileExtent).map_err(io("opening", &at));
    let first = Mapping::new(&region, HEADER_SIZE, false).map_err(io("mapping", &at))?;
    let peek = Region::new(Memory::map(first, false, Box::new(extent(&region)?)));
    let header = |source| OpenError::Header { path: at.clone(), source };
    let geometry = Geometry::read(&peek).map_err(header)?;
    if peek.load(header::DESTROYED, Relaxed) == Ok(1) {
        // Its destroyer died before the file was gone.
        return Err(OpenError::Absent { path: path.to_owned() });
    }
    // Before the length: after a power cut a file may be shorter than its header says.
    let (found, expected) = (geometry.boot_id, clock::boot_id());
    let expected = expected.map_err(io("asking for the boot id for", &at))?;
    if found != expected {
        return Err(OpenError::OtherBoot { path: at, found, expected });
    }
    // ORDERING: [header.size] Acquire; pairs with the Release store of who grew the file. Not for loom
    // to show: what comes after it is a system call.
    let size = peek.load(header::SIZE, Acquire).unwrap_or_default();
    // Looked at after the word: it may have grown since it was opened.
    let found = file::stat(&region).map_err(io("looking at", &at))?.size;
    let expected = size.max(geometry.capacity);
    if found < expected {
        return Err(OpenError::Truncated { path: at, found, expected });
    }
    let mode = geometry.mode as u32 & 0o777;
    if stat.mode & 0o777 != mode {
        return Err(OpenError::Mode { path: at, found: stat.mode, expected: mode });
    }
    check_directory(path, Some(mode))?;
    let map = Mapping::new(&region, geometry.max_capacity, writable).map_err(io("mapping", &at))?;
    let whole = Region::new(Memory::map(map, writable, Box::new(extent(&region)?)));
    Ok((Space::new(whole, geometry), region, stat))
}

/// Opens the members file, and checks that it belongs to the region.
pub(crate) fn open_members(
    directory: &Directory,
    path: &Path,
    geometry: &Geometry,
) -> Result<File, OpenError> {
    use std::os::unix::fs::FileExt;
    let at = path.join("members");
    let file = directory.open_file("members", OFlag::O_RDWR);
    let file = file.map_err(incomplete_or("members", directory, path))?;
    let mut id = [0; 16];
    let read = file.read_exact_at(&mut id, 0);
    let (found, expected) = (read.map_or(0, |()| u128::from_le_bytes(id)), geometry.bus_id);
    if found == 0 || found != expected {
        return Err(OpenError::BusId { path: at, found, expected });
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::Place;

    /// Promise: one process at a time creates or destroys a bus, however long it takes.
    /// Plant: whoever has waited long enough goes on as if it had the lock.
    #[test]
    fn who_waits_in_vain_has_not_the_lock() {
        let place = Place::new();
        let lock = |patience| lock_directory(&place.bus(), 0o600, patience);
        let held = lock(Duration::ZERO).unwrap();
        for patience in [Duration::ZERO, Duration::from_millis(5)] {
            let end = lock(patience);
            assert!(matches!(end, Err(OpenError::Busy { .. })), "{end:?}");
        }
        drop(held);
        lock(Duration::ZERO).unwrap();
    }

    /// Promise: a directory that is somebody's stays as it is.
    /// Plants: no look at what is there; one at `lock` alone, whatever is in it.
    #[test]
    fn a_directory_of_somebody_is_refused() {
        let place = Place::new();
        std::fs::create_dir_all(place.bus().join("bell")).unwrap();
        for name in ["lock", "members", "region", "bell/letter"] {
            std::fs::write(place.bus().join(name), name).unwrap();
        }
        let end = place.options().create_at(place.bus());
        assert!(matches!(end, Err(OpenError::Foreign { .. })), "{end:?}");
        let end = place.options().destroy_at(place.bus(), true);
        assert!(matches!(end, Err(OpenError::Foreign { .. })), "{end:?}");
        for name in ["lock", "members", "region", "bell/letter"] {
            assert_eq!(std::fs::read_to_string(place.bus().join(name)).unwrap(), name);
        }
        std::fs::remove_dir_all(place.bus()).unwrap();
        // What a bus has left is no stranger's, whatever stands beside it.
        drop(place.make());
        std::fs::write(place.bus().join("note"), "mine").unwrap();
        for left in ["region", "lock"] {
            std::fs::remove_file(place.bus().join(left)).unwrap();
            drop(place.options().open_at(place.bus()).unwrap());
        }
        place.options().destroy_at(place.bus(), false).unwrap();
        assert_eq!(file::names(&place.bus()).unwrap(), ["note"]);
    }

    /// Promise: a part that was removed is named, and what to do; a creation that fails leaves nothing.
    /// Plants: no bus is said to be there; the directory stays.
    #[test]
    fn what_is_missing_is_named_and_what_failed_is_gone() {
        for part in ["members", "bell"] {
            let place = Place::new();
            drop(place.make());
            std::fs::rename(place.bus().join(part), place.path().join("away")).unwrap();
            let end = place.options().open_at(place.bus());
            assert!(
                matches!(end, Err(OpenError::Incomplete { missing, .. }) if missing == part),
                "{end:?}"
            );
        }
        let (mut refused, mut n) = (0, 0);
        loop {
            let place = Place::new();
            let create = || place.options().create_at(place.bus());
            let (end, came) = crate::sys::seam::failing(n, libc::ENOSPC, create);
            if let Err(OpenError::NoSpace { .. }) = end {
                assert!(!place.bus().exists(), "call {n}");
                refused += 1;
            }
            if !came {
                break;
            }
            n += 1;
        }
        assert!(refused > 0, "a region is reserved");
    }
}
