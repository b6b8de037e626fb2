//! Destroying a bus: who may, and in which order its files go.
//!
//! Under the file `lock`: nobody lives, or is told; nobody writes a snapshot, or begins one; what is
//! kept is forgotten; the files go, `lock` last of all. A death in between leaves a region that says it
//! is destroyed, and is nothing to anybody: the next creator or destroyer finishes the work.

use super::files::{
    CREATE_PATIENCE, JOURNAL_BYTE, KEEPER_BYTE, SNAPSHOT_BYTE, check_foreign, io, is_bell,
    lock_directory, map,
};
use crate::error::OpenError;
use crate::region::layout::header;
use crate::sync::Ordering::Release;
use crate::sys::directory::Directory;
use crate::sys::file;
use crate::sys::lock::{locked_range, try_lock_byte, try_lock_range};
use crate::sys::socket::Ringer;
use nix::fcntl::OFlag;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

/// The files of a bus but its lock, in the order in which they go.
const FILES: [&str; 4] = ["region", "region.new", "region.torn", "members"];

/// Removes a bus. Members must be gone, unless `force`.
pub(crate) fn destroy(state: &Path, path: &Path, force: bool) -> Result<(), OpenError> {
    let absent = || Err(OpenError::Absent { path: path.to_owned() });
    let is_there = || FILES.iter().any(|name| file::stat_path(&path.join(name)).is_ok());
    let is_kept = || crate::config::load(state, path).map(|kept| kept.is_some());
    if !is_there() && file::stat_path(&path.join("lock")).is_err() && !is_kept()? {
        return absent();
    }
    check_foreign(path)?;
    // Also for one that is lost: nobody builds it anew meanwhile.
    let _lock = lock_directory(path, 0o600, CREATE_PATIENCE)?;
    if !is_there() && !is_kept()? {
        // Somebody else was faster, or died when all else was done.
        remove(path)?;
        return absent();
    }
    let members = match file::open_file(&path.join("members"), OFlag::O_RDWR, 0) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        members => Some(members.map_err(io("opening the members of", path))?),
    };
    if let Some(members) = members.as_ref().filter(|_| !force) {
        keep_out(members, path)?;
    }
    // What can't be mapped is used by nobody who could be told.
    if let Ok((space, _region, _)) = map(path, true) {
        let bad = |source| OpenError::Bad { path: path.join("region"), source };
        space.region.store(header::DESTROYED, 1, Release).map_err(bad)?;
        space
            .ask_journal()
            .map_err(|source| OpenError::Bad { path: path.join("region"), source })?;
        // Whoever sleeps learns of it; a bell that can't be rung is looked at by its watch itself.
        if let (Ok(bells), Ok(ringer)) = (Directory::open(&path.join("bell")), Ringer::new()) {
            let _rung = space.ring_all(&|name| ringer.ring(&bells, name));
        }
    }
    if let Some(members) = &members {
        await_end(members, SNAPSHOT_BYTE, "a member that writes a snapshot", path)?;
        await_end(members, JOURNAL_BYTE, "a member that writes the journal", path)?;
    }
    crate::config::forget(state, path)?;
    remove(path)
}

/// Takes the bytes of all slots until the files are gone: nobody is there, and nobody comes.
fn keep_out(members: &File, path: &Path) -> Result<(), OpenError> {
    let fail = |source| io("probing the members of", path)(source);
    while !try_lock_range(members, 0, KEEPER_BYTE).map_err(fail)? {
        // The kernel names any lock in a range, not the first one.
        let (mut count, mut ranges) = (0, vec![(0, KEEPER_BYTE)]);
        while let Some((from, to)) = ranges.pop() {
            if let Some((start, end)) = locked_range(members, from, to).map_err(fail)? {
                count += end - start;
                ranges.extend([(from, start), (end, to)]);
            }
        }
        // None: whoever was there has gone meanwhile.
        if count > 0 {
            return Err(OpenError::InUse { path: path.to_owned(), count });
        }
    }
    Ok(())
}

/// Waits until nobody writes a snapshot, or the journal: who does looks whether the bus is gone, entry by entry
/// and turn by turn.
fn await_end(members: &File, byte: u64, what: &'static str, path: &Path) -> Result<(), OpenError> {
    let begun = Instant::now();
    while !try_lock_byte(members, byte).map_err(io("locking the members of", path))? {
        if begun.elapsed() > CREATE_PATIENCE {
            return Err(OpenError::Busy { path: path.to_owned(), what, waited: begun.elapsed() });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Removes the files that membus made in a bus's directory, and the directory. Whoever waits for the
/// lock makes another one after it is gone, so nothing but the empty directory goes after it.
fn remove(path: &Path) -> Result<(), OpenError> {
    let bell = path.join("bell");
    for name in file::names(&bell).unwrap_or_default() {
        // Anything else is somebody's.
        if is_bell(&name) {
            file::unlink(&bell.join(name)).map_err(io("removing a bell of", path))?;
        }
    }
    for name in FILES {
        file::unlink(&path.join(name)).map_err(io("removing", path))?;
    }
    // Somebody else's files keep the directories.
    let _removed = file::remove_directory(&bell);
    file::unlink(&path.join("lock")).map_err(io("removing the lock of", path))?;
    let _removed = file::remove_directory(path);
    Ok(())
}

/// For a creator that failed, under its lock: removes a directory in which nothing was before.
pub(crate) fn tidy(path: &Path) {
    let Ok(names) = file::names(path) else { return };
    if names.iter().all(|name| name == "lock" || name == "bell") {
        // What stays is no harm: the next creator begins with it.
        let _removed = remove(path);
    }
}

/// For a creator, under its lock: finishes what a destroyer began that died.
pub(crate) fn finish(state: &Path, path: &Path) -> Result<(), OpenError> {
    crate::config::forget(state, path)?;
    let region = path.join("region");
    file::unlink(&region).map_err(io("removing", &region))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Place;
    use super::*;
    use crate::ReadBus;

    fn members_of(place: &Place) -> File {
        file::open_file(&place.bus().join("members"), OFlag::O_RDWR, 0).unwrap()
    }

    /// Plant: a count that goes on behind the lock that the kernel named first says 2.
    #[test]
    fn members_are_counted_in_whatever_order_they_came() {
        let place = Place::new();
        let first = place.options().create_at(place.bus()).unwrap();
        let others: Vec<_> =
            (0..2).map(|_| place.options().attach_at(place.bus()).unwrap()).collect();
        drop(first);
        let _first = place.options().attach_at(place.bus()).unwrap();
        match place.options().destroy_at(place.bus(), false) {
            Err(OpenError::InUse { count: 3, .. }) => {}
            end => panic!("{end:?}"),
        }
        assert!(others[0].is_empty().unwrap());
    }

    /// Plants: a newcomer that takes a destroyer's lock for members (`TooManyMembers`), or that does
    /// not look whether the region says it is destroyed.
    #[test]
    fn a_newcomer_waits_for_a_destroyer() {
        let place = Place::new();
        drop(place.options().create_at(place.bus()).unwrap());
        for destroys in [false, true] {
            let members = members_of(&place);
            assert!(try_lock_range(&members, 0, KEEPER_BYTE).unwrap());
            std::thread::scope(|scope| {
                let newcomer = scope.spawn(|| place.options().attach_at(place.bus()));
                std::thread::sleep(Duration::from_millis(20));
                assert!(!newcomer.is_finished());
                if destroys {
                    let (space, _region, _) = map(&place.bus(), true).unwrap();
                    space.region.store(header::DESTROYED, 1, Release).unwrap();
                }
                drop(members);
                match newcomer.join().unwrap() {
                    Ok(_) if !destroys => {}
                    Err(OpenError::Absent { .. }) if destroys => {}
                    end => panic!("{end:?}"),
                }
            });
        }
    }

    /// Plant: what is kept is forgotten while a snapshot of it is written.
    #[test]
    fn a_destroyer_waits_for_snapshots() {
        let place = Place::new();
        let bus = place.options().create_at(place.bus()).unwrap();
        bus.set("k", &1).unwrap();
        let members = members_of(&place);
        assert!(try_lock_byte(&members, SNAPSHOT_BYTE).unwrap());
        let state = place.state();
        std::thread::scope(|scope| {
            let destroyer = scope.spawn(|| place.options().destroy_at(place.bus(), true));
            while bus.set("k", &2).is_ok() {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_millis(20));
            assert!(crate::config::load(&state, &place.bus()).unwrap().is_some());
            drop(members);
            destroyer.join().unwrap().unwrap();
        });
        assert!(crate::config::load(&state, &place.bus()).unwrap().is_none());
        assert!(bus.snapshot().is_err());
        assert!(!place.bus().exists());
    }
}
