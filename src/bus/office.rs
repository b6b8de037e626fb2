//! Whether a handle knows where its bus is saved. Only such a one saves it, and may be keeper.
//!
//! The state directory says it. Where that has nothing of a bus that is saved, a place that is merely asked for counts only if
//! the bus's last snapshot is there: else it would be saved in one place and built anew from another, and nobody would be told.

use super::files::{CREATE_PATIENCE, lock_directory};
use super::open::absolute;
use super::options::Options;
use super::persist::Saving;
use super::{Bus, Inner};
use crate::backend::{Backend, BackendError, Sink};
use crate::config::{self, Config, Persist};
use crate::error::{OpenError, SnapshotError};
use crate::heap::Space;
use crate::region::layout::header;
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use crate::sync::Ordering::Acquire;
use std::path::Path;

/// What stands in the place of a backend that is not known.
pub(crate) const UNKNOWN: &str = "unknown";

/// Wants to know only that a snapshot is there.
struct Seen(bool);

impl Sink for Seen {
    fn begin(&mut self, _: &SnapshotHead) -> Result<(), BackendError> {
        self.0 = true;
        Err(BackendError::GivenUp)
    }
    fn entry(&mut self, _: &SnapshotEntry) -> Result<(), BackendError> {
        Ok(())
    }
}

/// Whether a backend has the last snapshot of this life of a bus. A backup is another one, by its time.
fn has_last(backend: &dyn Backend, bus: &Space) -> bool {
    let last = bus.region.load(header::SNAPSHOT_TIME, Acquire).unwrap_or(0);
    let incarnation = bus.geometry.incarnation;
    let is_last =
        |head: &SnapshotHead| last != 0 && head.incarnation == incarnation && head.created == last;
    let mut seen = Seen(false);
    // Any failure means that it was not seen.
    let _end = backend.load_where(&is_last, &mut seen);
    seen.0
}

impl Saving {
    /// Without a backend that was merely asked for, and is not the one that the bus is saved by.
    pub(super) fn proved(mut self, bus: &Space) -> Self {
        let is_doubtful = bus.geometry.is_saved() && !self.is_kept && self.persist != Persist::Own;
        if is_doubtful
            && let Some(backend) = &self.backend
            && !has_last(&**backend, bus)
        {
            let asked = self.persist.to_string();
            tracing::warn!(asked, "the bus's last snapshot is not there: this handle takes none");
            self.backend = None;
        }
        self
    }
}

impl Options {
    /// Makes what these options say of snapshots, how often and how fast they are taken and how many stay, the settings of
    /// the bus at `path`: who opens it from then on goes by them, and [`Bus::info`] and health tell them. What is not said
    /// stays as it is. A handle that is open goes on by what it had.
    ///
    /// # Errors
    /// [`OpenError::Io`] when the settings can't be read or written, [`OpenError::Busy`] while somebody creates or destroys the
    /// bus; they stay as they were.
    pub fn settle_at(&self, path: impl AsRef<Path>) -> Result<(), OpenError> {
        let (path, state) = (absolute(path.as_ref())?, self.state_directory());
        let settled = || {
            let kept = config::load(&state, &path)?;
            let new = kept.as_ref().map(|kept| self.settled(kept));
            Ok::<_, OpenError>(new.filter(|new| kept.as_ref() != Some(new)))
        };
        let Some(new) = settled()? else { return Ok(()) };
        let _lock = lock_directory(&path, new.mode, CREATE_PATIENCE)?;
        // The bus may have been destroyed meanwhile, and its settings with it.
        settled()?.map_or(Ok(()), |new| config::store(&state, &path, &new))
    }

    fn settled(&self, kept: &Config) -> Config {
        Config {
            every_seconds: self.every.map_or(kept.every_seconds, |every| every.as_secs_f64()),
            after_changes: self.after.unwrap_or(kept.after_changes),
            rate_bytes: self.rate.unwrap_or(kept.rate_bytes),
            keep: self.keep.unwrap_or(kept.keep),
            ..kept.clone()
        }
    }
}

impl Inner {
    /// Where snapshots go, as a URL.
    pub(super) fn saved_to(&self) -> String {
        let saving = &self.saving;
        match self.core.geometry.is_saved() && !saving.is_kept && saving.backend.is_none() {
            true => UNKNOWN.to_owned(),
            false => saving.persist.to_string(),
        }
    }

    /// Why this handle does not save the bus, or does not keep its journal.
    pub(super) fn not_saved_here(&self) -> SnapshotError {
        let (saving, bus) = (&self.saving, &self.core.geometry);
        if !bus.is_saved() {
            return SnapshotError::NoBackend;
        }
        let (path, state) = (self.path.clone(), saving.state.clone());
        if !saving.is_kept || bus.has_journal() && saving.journaling.place.is_none() {
            return SnapshotError::Unknown { path, state };
        }
        SnapshotError::NotHere { backend: saving.persist.to_string() }
    }
}

impl Bus {
    /// Whether this handle knows where the bus is saved and journaled, as a keeper has to; where it does not, it never
    /// becomes one, [whatever was asked for](crate::Options::keeper).
    ///
    /// # Errors
    /// [`SnapshotError::Unknown`] or [`SnapshotError::NotHere`]: what it lacks.
    pub fn check_saving(&self) -> Result<(), SnapshotError> {
        match self.inner.saving.can_keep(&self.inner.core.geometry) {
            true => Ok(()),
            false => Err(self.inner.not_saved_here()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Place;
    use crate::{Persist, SnapshotError};

    /// Promise "who may be keeper": without settings a place that is asked for counts if the bus is saved there, and not
    /// otherwise: nothing is saved to it, nor noted as saved.
    /// Plants: every place that is asked for counts; one that has any snapshot of this life does.
    #[test]
    fn a_place_that_is_asked_for_is_proved() {
        let place = Place::new();
        let images = |name: &str| Persist::Image(place.path().join(name));
        let made = place.options().persist(images("right")).create_at(place.bus()).unwrap();
        made.set("k", &1).unwrap();
        let lost = place.options().keeper(true).state(place.path().join("another"));
        let named = |name: &str| lost.clone().persist(images(name)).attach_at(place.bus()).unwrap();
        assert!(named("right").check_saving().is_err(), "nothing is saved there yet");
        let saved = made.snapshot().unwrap();
        made.set("k", &2).unwrap();
        made.backup(&*images("backup").backend(1).unwrap().unwrap()).unwrap();
        for wrong in ["elsewhere", "backup"] {
            let bus = named(wrong);
            assert!(bus.keeper.is_none() && !bus.inner.may_keep, "{wrong}");
            for end in [bus.check_saving(), bus.snapshot().map(drop)] {
                assert!(matches!(end, Err(SnapshotError::Unknown { .. })), "{wrong}: {end:?}");
            }
            let info = bus.info().unwrap();
            assert_eq!((&*info.persist, info.last_snapshot_revision), ("unknown", saved.revision));
        }
        assert!(!place.path().join("elsewhere").exists());
        let right = named("right");
        right.check_saving().unwrap();
        assert!(right.keeper.is_some() && right.snapshot().unwrap().revision > saved.revision);
    }
}
