//! A bus whose files were removed under it: its state is mapped still, and is saved as long as nobody has built another one in
//! its place.
//!
//! 1. Under the lock of the place nobody builds a bus there, which begins with what is saved.
//! 2. Once there is one, what is saved is that one's: a snapshot of the lost one would come after its snapshots, and the next
//!    rebuild would take it for the newest.
//!
//! A death leaves the place's directory with a `lock` that nobody holds, as of who creates and dies.

use super::Inner;
use super::destroy::tidy;
use super::files::{exists, lock_directory};
use super::going::Going;
use crate::error::{OpenError, ReadError, SnapshotError};
use crate::sys::fork::Private;
use std::path::PathBuf;
use std::time::Duration;

/// The place of a lost bus, in which there is no other one.
#[derive(Debug)]
pub(super) struct FreePlace {
    path: PathBuf,
    /// Nobody builds one there as long as this lives. Nothing, where the directory can't be made any more.
    lock: Option<Private>,
}

impl FreePlace {
    /// Whether somebody has built one there meanwhile.
    pub(super) fn is_taken(&self) -> bool {
        self.lock.is_none() && !matches!(exists(&self.path), Ok(false))
    }
}

impl Drop for FreePlace {
    fn drop(&mut self) {
        // The directory was removed once.
        if self.lock.is_some() {
            tidy(&self.path);
        }
    }
}

impl Inner {
    fn lost(&self) -> SnapshotError {
        ReadError::Gone { path: self.path.clone() }.into()
    }

    /// Where this bus is lost, its place, if no other one has it; nothing as long as it has its files.
    ///
    /// # Errors
    /// [`ReadError::Gone`] when another bus is there, or somebody is building it.
    pub(super) fn free_place(&self) -> Result<Option<FreePlace>, SnapshotError> {
        if !self.files_are_gone() {
            return Ok(None);
        }
        // What its path means elsewhere is not its place.
        if !self.directory.is_seen_as_before() {
            return Err(self.lost());
        }
        let mode = self.core.geometry.mode as u32;
        let lock = match lock_directory(&self.path, mode, Duration::ZERO) {
            Err(OpenError::Busy { .. }) => return Err(self.lost()),
            lock => lock.ok(),
        };
        let place = FreePlace { path: self.path.clone(), lock };
        match exists(&self.path) {
            Ok(false) => Ok(Some(place)),
            _ => Err(self.lost()),
        }
    }

    /// For the keeper of a lost bus: saves what was not, beside the snapshots where they are another bus's by now.
    pub(super) fn save_lost(&self) {
        let mut going = Going::until(0, &|| false);
        let Err(error) = self.take_snapshot(&mut going) else { return };
        let bus = self.path.display();
        match self.save_replaced(&mut going) {
            Ok(saved) => {
                self.prune_replaced(&saved);
                tracing::warn!(%bus, ?saved.path, "the bus was removed; what was not saved is there");
            }
            Err(_) => tracing::error!(%bus, %error, "the bus was removed, and could not be saved"),
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::files::map;
    use super::super::read::ReadBus as _;
    use super::super::testing::Place;
    use super::*;
    use crate::journal::JournalSync;
    use crate::sys::file;

    fn is_gone<T: std::fmt::Debug>(end: Result<T, SnapshotError>) -> bool {
        matches!(end, Err(SnapshotError::Read(ReadError::Gone { .. })))
    }

    /// Promise: a bus that was built in the place of a lost one keeps what it saved, whatever is done with a handle of that.
    /// Plant: no look for the files, neither before a snapshot nor after its last entry.
    #[test]
    fn a_lost_bus_saves_nothing_over_the_next_one() {
        for journal in [None, Some(JournalSync::Always)] {
            let place = Place::new();
            let options = place.options().journal(journal);
            let old = options.create_at(place.bus()).unwrap();
            old.put("k").durability(crate::Durability::Visible).set(&"old").unwrap();
            old.snapshot().unwrap();
            file::remove_all(&place.bus()).unwrap();
            let new = place.options().open_at(place.bus()).unwrap();
            new.put("k").durability(crate::Durability::Visible).set(&"new").unwrap();
            new.snapshot().unwrap();
            for _ in 0..5 {
                old.put("k").durability(crate::Durability::Visible).set(&"older").unwrap();
                assert!(is_gone(old.snapshot()));
            }
            old.inner.save_lost();
            let beside = file::names(&old.inner.saving.replaced).unwrap();
            assert_eq!(beside.len(), 1, "what nobody else has: {beside:?}");
            drop((old, new));
            file::remove_all(&place.bus()).unwrap();
            let back = place.options().open_at(place.bus()).unwrap();
            assert_eq!(back.get::<String>("k").unwrap().as_deref(), Some("new"));
        }
    }

    /// Promise: one that is replaced while it is saved does not come after what replaced it.
    /// Plant: no look for the files after the last entry.
    #[test]
    fn a_snapshot_of_a_bus_that_is_lost_meanwhile_is_none() {
        let place = Place::new();
        let old = place.options().create_at(place.bus()).unwrap();
        old.set("k", &"old").unwrap();
        old.snapshot().unwrap();
        let mut replaced = false;
        let mut told = |_: &crate::Progress| {
            if !std::mem::replace(&mut replaced, true) {
                file::remove_all(&place.bus()).unwrap();
                let new = place.options().open_at(place.bus()).unwrap();
                new.set("k", &"new").unwrap();
                new.snapshot().unwrap();
            }
            std::ops::ControlFlow::Continue(())
        };
        let end = old.snapshot_with(crate::SnapshotOptions::new().progress(&mut told));
        assert!(is_gone(end) && replaced);
        drop(old);
        let back = place.options().open_at(place.bus()).unwrap();
        assert_eq!(back.get::<String>("k").unwrap().as_deref(), Some("new"));
    }

    /// Promise: and where its place can't be made any more, since more was removed than the bus.
    /// Plant: whatever keeps the place from being locked taken for another bus.
    #[test]
    fn a_lost_bus_is_saved_where_its_place_is_gone() {
        let place = Place::new();
        let at = place.path().join("a/b/bus");
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        let old = place.options().create_at(&at).unwrap();
        old.set("k", &1).unwrap();
        file::remove_all(&place.path().join("a")).unwrap();
        old.snapshot().unwrap();
        drop(old);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        assert_eq!(place.options().open_at(&at).unwrap().get::<i32>("k").unwrap(), Some(1));
    }

    /// Promise: a journal of a lost bus has all that was changed, also where the next one is being built before anybody has
    /// noticed: that waits for its writer.
    /// Plant: the bus is said to be gone before its journal has come to its end.
    #[test]
    fn a_lost_bus_is_journaled_to_its_end() {
        let place = Place::new();
        let slow = JournalSync::Every(Duration::from_secs(60));
        let options = place.options().keeper(true).journal(slow);
        let old = options.create_at(place.bus()).unwrap();
        old.set("k", &1).unwrap();
        old.snapshot().unwrap();
        old.sync().unwrap();
        old.set("k", &2).unwrap();
        file::remove_all(&place.bus()).unwrap();
        let new = place.options().open_at(place.bus()).unwrap();
        assert_eq!(new.get::<i32>("k").unwrap(), Some(2));
    }

    /// Promise: as long as there is no other one, a lost bus is saved, and nothing is left where it was.
    /// Plant: its place not held: what is gone is not saved.
    #[test]
    fn a_lost_bus_is_saved_where_there_is_no_other_one() {
        let place = Place::new();
        let options = place.options();
        let old = options.create_at(place.bus()).unwrap();
        old.set("k", &1).unwrap();
        file::remove_all(&place.bus()).unwrap();
        old.set("k", &2).unwrap();
        old.snapshot().unwrap();
        assert!(!place.bus().exists());
        // Somebody builds it: that takes what was saved before.
        let lock = lock_directory(&place.bus(), 0o600, Duration::ZERO).unwrap();
        old.set("k", &3).unwrap();
        assert!(is_gone(old.snapshot()));
        drop(lock);
        drop(old);
        let back = place.options().keeper(true).open_at(place.bus()).unwrap();
        assert_eq!(back.get::<i32>("k").unwrap(), Some(2));
        back.set("k", &4).unwrap();
        assert!(map(&place.bus(), false).is_ok());
        file::remove_all(&place.bus()).unwrap();
        // Its keeper may have been faster.
        let _end = back.close();
        let back = place.options().open_at(place.bus()).unwrap();
        assert_eq!(back.get::<i32>("k").unwrap(), Some(4));
    }
}
