//! What outlives the region: configuration, snapshots, and the bus built anew from them.

use super::ahead::Ahead;
use super::backends::backend_of;
use super::counters::Counter;
use super::create::{NewRegion, prepare, shape};
use super::files::io;
use super::going::{Going, SnapshotOptions};
use super::journal::{self, Journaling, kept_sync};
use super::options::Options;
use super::{Bus, Inner};
use crate::backend::{Backend, BackendError, Sink};
use crate::config::{self, Config, Persist};
use crate::error::{CloseError, OpenError, ReadError, SnapshotError};
use crate::heap::HeapError;
use crate::journal::Point;
use crate::journal::replay::{Past, Until};
use crate::region::BadRegion;
use crate::region::geometry::Shape;
use crate::region::layout::{header, member};
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use crate::sync::AtomicU64;
use crate::sync::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::fence;
use crate::table::load::LoadError;
use crate::table::{Core, Nobody};
use crate::types::limits::{KEY_MAX, LABEL_MAX};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How far above the old revisions a rebuilt bus goes on, so that no cursor or condition of a lost
/// future ever matches.
const REBUILD_GAP: u64 = 1 << 40;
/// A revision that no bus reaches; a rebuilt one must begin below 2^62.
const REVISION_MAX: u64 = 1 << 61;
/// Snapshot interval when nobody says.
const EVERY: Duration = Duration::from_secs(300);
/// Snapshots that stay when nobody says.
const KEEP: usize = 3;

/// Where a handle's snapshots go.
#[derive(Debug)]
pub(crate) struct Saving {
    pub(crate) backend: Option<Arc<dyn Backend>>,
    pub(crate) persist: Persist,
    pub(crate) every: Duration,
    /// Changes after which a snapshot is due before that; 0: none.
    pub(crate) after: u64,
    /// Bytes a second that the keeper's snapshots may take; 0: full speed.
    pub(crate) rate: u64,
    /// Where images go of what restores replace.
    pub(super) replaced: PathBuf,
    /// Where backups go that have a name and no place.
    pub(super) backups: PathBuf,
    pub(crate) failures: AtomicU64,
    pub(crate) journaling: Journaling,
    /// Directory of what outlives the region, and whether it has the bus's settings.
    pub(super) state: PathBuf,
    pub(super) is_kept: bool,
}

/// What a snapshot was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// The revision that it is of.
    pub revision: u64,
    /// When that was, in nanoseconds since 1970.
    pub created: u64,
    /// Entries in it.
    pub entries: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// The file.
    pub path: Option<PathBuf>,
    /// How long it took.
    pub took: Duration,
}

pub(super) fn setting(error: &dyn std::fmt::Display, path: &Path) -> OpenError {
    io("understanding what is kept of", path)(std::io::Error::other(error.to_string()))
}

impl Saving {
    /// Nothing is saved.
    pub(crate) fn none() -> Self {
        Self {
            backend: None,
            persist: Persist::None,
            every: EVERY,
            after: 0,
            rate: 0,
            replaced: PathBuf::new(),
            backups: PathBuf::new(),
            failures: AtomicU64::new(0),
            journaling: Journaling::none(),
            state: PathBuf::new(),
            is_kept: false,
        }
    }

    /// Whether a handle may host the keeper of such a bus: not without the backend and the journal that the bus has. Another
    /// user, or one with another state directory, does not know of them.
    pub(crate) fn can_keep(&self, bus: &Shape) -> bool {
        let knows_backend = self.backend.is_some() || !bus.is_saved();
        let knows_journal = self.journaling.place.is_some() || !bus.has_journal();
        knows_backend && knows_journal
    }

    /// What is kept of the bus, against what was asked for.
    pub(crate) fn of(options: &Options, path: &Path) -> Result<Self, OpenError> {
        let kept = config::load(&options.state_directory(), path)?;
        let asked = options.persist.as_ref().map(Persist::absolute).transpose();
        let asked = asked.map_err(io("resolving the backend of", path))?;
        let (persist, every, keep) = match &kept {
            Some(kept) => {
                let found = kept.persist().map_err(|error| setting(&error, path))?;
                // What is kept of earlier versions may have a relative file of authorities.
                let found = found.absolute().map_err(io("resolving the backend of", path))?;
                if let Some(asked) = asked.as_ref().filter(|asked| **asked != found) {
                    let (asked, found) = (asked.to_string(), found.to_string());
                    return Err(OpenError::Differs { setting: "persist", asked, found });
                }
                // What was asked for has the password, which is not kept.
                (asked.unwrap_or(found), kept.every(), kept.keep)
            }
            None => (asked.unwrap_or(Persist::None), EVERY, KEEP),
        };
        let every = options.every.unwrap_or(every);
        let after = options.after.or(kept.as_ref().map(|kept| kept.after_changes)).unwrap_or(0);
        let rate = options.rate.or(kept.as_ref().map(|kept| kept.rate_bytes)).unwrap_or(0);
        let backend = match backend_of(&persist, options.keep.unwrap_or(keep), options) {
            Ok(backend) => backend,
            // As with a backend of another program's own: whoever has it not, saves not.
            Err(error) => {
                tracing::warn!(%error, bus = %path.display(), "this handle takes no snapshots");
                None
            }
        };
        let state = options.state_directory();
        let replaced = config::before_restore(&state, path)?;
        let backups = config::backups(&state, path)?;
        let journaling = Journaling::of(options, path, kept.as_ref())?;
        let of = Self { state, is_kept: kept.is_some(), ..Self::none() };
        Ok(Self { backend, persist, every, after, rate, replaced, backups, journaling, ..of })
    }
}

/// What was not asked for is as it is kept; gives the backend that is.
fn fill_in(options: &mut Options, kept: &Config, path: &Path) -> Result<Persist, OpenError> {
    options.capacity = options.capacity.or(Some(kept.capacity));
    options.max_capacity = options.max_capacity.or(Some(kept.max_capacity));
    options.log_size = options.log_size.or(Some(kept.log_size));
    options.mode = options.mode.or(Some(kept.mode));
    options.old_values = options.old_values.or(Some(kept.old_values));
    options.every = options.every.or(Some(kept.every()));
    options.after = options.after.or(Some(kept.after_changes));
    options.rate = options.rate.or(Some(kept.rate_bytes));
    options.keep = options.keep.or(Some(kept.keep));
    let sync = kept_sync(kept).map_err(|error| setting(&error, path))?;
    options.journal = options.journal.or(Some(sync));
    // What is kept may have been edited.
    options.check()?;
    kept.persist().map_err(|error| setting(&error, path))
}

/// Creates a bus at `path`, whose lock is held: as asked, else as kept, else by default; from the
/// newest good snapshot when there is one.
pub(crate) fn create(options: &Options, path: &Path) -> Result<(), OpenError> {
    let state = options.state_directory();
    let kept = config::load(&state, path)?;
    let mut options = options.clone();
    let mut persist = options.persist.clone();
    if let Some(kept) = &kept {
        let found = fill_in(&mut options, kept, path)?;
        persist = persist.or(Some(found));
    }
    let persist = match persist {
        Some(persist) => persist.absolute().map_err(io("resolving the backend of", path))?,
        None => config::default_persist(&state, path)?,
    };
    options.persist = Some(persist.clone());
    let keep = options.keep.unwrap_or(KEEP);
    if persist == Persist::Own && options.backend.is_none() {
        let rule = "the bus has a backend of a program's own: open it there".to_owned();
        return Err(OpenError::Setting { setting: "persist", asked: persist.to_string(), rule });
    }
    let backend = backend_of(&persist, keep, &options).map_err(|error| OpenError::Setting {
        setting: "persist",
        asked: persist.to_string(),
        rule: error.to_string(),
    })?;
    let journal = options.journal.flatten();
    if let (None, Some(sync)) = (&backend, journal) {
        let rule = "it builds on snapshots, and the bus takes none".to_owned();
        return Err(OpenError::Setting { setting: "journal", asked: sync.to_string(), rule });
    }
    // Until the new region has its name.
    let claim = journal.map(|_| journal::claim(&state, path)).transpose()?;
    let new = match (backend, journal) {
        (Some(snapshots), Some(_)) => {
            let journal = config::journal(&state, path)?;
            build(&options, path, &Past { snapshots, journal, until: Until::Newest })?
        }
        (Some(backend), None) => build(&options, path, &*backend)?,
        (None, _) => prepare(shape(&options).map_err(io("preparing", path))?, path)?,
    };
    let Some(space) = &new.space else { return Err(OpenError::Absent { path: path.to_owned() }) };
    let geometry = &space.geometry;
    config::store(
        &state,
        path,
        &Config {
            path: path.display().to_string(),
            capacity: options.capacity.unwrap_or(geometry.capacity),
            max_capacity: geometry.max_capacity,
            log_size: geometry.log_size,
            mode: geometry.mode as u32,
            old_values: geometry.tells_old_values(),
            persist: persist.to_string(),
            every_seconds: options.every.unwrap_or(EVERY).as_secs_f64(),
            after_changes: options.after.unwrap_or(0),
            rate_bytes: options.rate.unwrap_or(0),
            keep,
            journal: journal.map(|sync| sync.to_string()),
        },
    )?;
    new.publish()?;
    drop(claim);
    Ok(())
}

/// A region that is being filled from a snapshot.
struct Filling<'a> {
    options: &'a Options,
    path: &'a Path,
    empty: &'a Shape,
    built: Option<(NewRegion, Core)>,
    /// How many entries there will be, where the backend said so.
    expected: u64,
    ahead: Ahead,
    /// Why it was given up.
    failed: Option<OpenError>,
}

impl Filling<'_> {
    fn prepare(&mut self, head: &SnapshotHead) -> Result<(), OpenError> {
        // No bus gets near it, so nothing above has to look at an overflow.
        if head.revision >= REVISION_MAX {
            let reason = format!("revision {} is beyond what any bus reaches", head.revision);
            let at = self.path.display().to_string();
            return Err(OpenError::Snapshot(SnapshotError::Damaged { at, reason }));
        }
        let first_revision = head.revision + REBUILD_GAP;
        // What an earlier snapshot began goes with its files, before there are others of the same names.
        self.built = None;
        let mut new = prepare(Shape { first_revision, ..self.empty.clone() }, self.path)?;
        if let Some(space) = new.space.take() {
            let from = Point { incarnation: head.incarnation, revision: head.revision };
            let bad = |source| OpenError::Bad { path: self.path.to_owned(), source };
            space.continue_journal(from).map_err(bad)?;
            let core = Core::new(space, Box::new(Nobody), self.options.deadline);
            // Arrays of the right size from the beginning: none is doubled on the way.
            while let Err(HeapError::NoRoom(no)) = core.widen_for(self.expected) {
                if new.grow(&core.space, no.blocks).is_err() {
                    break;
                }
            }
            self.built = Some((new, core));
        }
        Ok(())
    }

    fn note(&mut self, end: Result<(), OpenError>) -> Result<(), BackendError> {
        end.map_err(|error| {
            self.failed = Some(error);
            BackendError::GivenUp
        })
    }
}

impl Sink for Filling<'_> {
    fn expect(&mut self, entries: u64) {
        self.expected = entries;
    }
    fn begin(&mut self, head: &SnapshotHead) -> Result<(), BackendError> {
        // Of one that its backend took back.
        self.ahead = Ahead::default();
        let end = self.prepare(head);
        self.note(end)
    }
    fn entry(&mut self, entry: &SnapshotEntry) -> Result<(), BackendError> {
        let end = match &self.built {
            Some((new, core)) => {
                let on = |entry: &_| load_one(new, core, entry, self.path);
                self.ahead.pass(core, entry, on)
            }
            None => Ok(()),
        };
        self.note(end)
    }
}

/// Makes a region and fills it from the newest good snapshot.
fn build(options: &Options, path: &Path, backend: &dyn Backend) -> Result<NewRegion, OpenError> {
    let empty = &shape(options).map_err(io("preparing", path))?;
    let (built, expected, ahead, failed) = (None, 0, Ahead::default(), None);
    let mut filling = Filling { options, path, empty, built, expected, ahead, failed };
    let loaded = backend.load(&mut filling);
    let loaded = match (loaded, filling.failed) {
        (Ok(loaded), _) => loaded,
        (Err(_), Some(error)) => return Err(error),
        (Err(error), None) => return Err(OpenError::Snapshot(error.into())),
    };
    match filling.built {
        None => {
            let new = prepare(empty.clone(), path)?;
            let bad = |source| OpenError::Bad { path: path.to_owned(), source };
            let mut space = new.space.iter();
            space.try_for_each(|s| s.continue_journal(Point::default())).map_err(bad)?;
            Ok(new)
        }
        Some((mut new, core)) => {
            filling.ahead.rest(|entry| load_one(&new, &core, entry, path))?;
            for (file, reason) in loaded.map(|loaded| loaded.refused).unwrap_or_default() {
                tracing::error!(
                    file,
                    reason,
                    "a newer snapshot, or a part of the journal, was not used"
                );
            }
            new.space = Some(core.space);
            Ok(new)
        }
    }
}

/// Whether an entry may be of any bus.
pub(super) fn check_lengths(entry: &SnapshotEntry) -> Result<(), &'static str> {
    if entry.key.is_empty() || entry.key.len() > KEY_MAX || entry.who.len() > LABEL_MAX {
        return Err("a key that is empty or longer than 1,024 bytes, or a label longer than 64");
    }
    Ok(())
}

fn load_one(
    new: &NewRegion,
    core: &Core,
    entry: &SnapshotEntry,
    from: &Path,
) -> Result<(), OpenError> {
    let damaged = |reason: &str| {
        let reason = format!("`{}`: {reason}", entry.key.escape_ascii());
        let at = from.display().to_string();
        OpenError::Snapshot(SnapshotError::Damaged { at, reason })
    };
    check_lengths(entry).map_err(damaged)?;
    loop {
        match core.load_entry(entry) {
            Ok(()) => return Ok(()),
            Err(LoadError::Heap(HeapError::NoRoom(no))) => new.grow(&core.space, no.blocks)?,
            Err(LoadError::Heap(HeapError::Bad(bad))) => return Err(damaged(&bad.to_string())),
            Err(LoadError::Wrong(reason)) => return Err(damaged(reason)),
        }
    }
}

impl From<BackendError> for SnapshotError {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::GivenUp => Self::GivenUp,
            BackendError::Io { at, source } => Self::Io { at, source },
            BackendError::Damaged { at, reason } => Self::Damaged { at, reason },
            BackendError::Refused { at, reason } => Self::Refused { at, reason },
        }
    }
}

impl Inner {
    /// Takes a snapshot, of the newest revision at some moment of this call.
    pub(super) fn take_snapshot(
        &self,
        going: &mut Going<'_>,
    ) -> Result<SnapshotInfo, SnapshotError> {
        let Some(backend) = &self.saving.backend else { return Err(self.not_saved_here()) };
        let saved = self.alone(going, |me, going| {
            let free = self.free_place()?;
            let is_lost = || match &free {
                Some(place) => place.is_taken(),
                None => self.files_are_gone(),
            };
            let saved = self.save(&**backend, me, going, &is_lost)?;
            self.note(&saved).map_err(ReadError::from)?;
            Ok(saved)
        });
        match saved {
            Ok(_) => self.count(Counter::Snapshots),
            // It did not come to a save, or was not to.
            Err(
                SnapshotError::Busy(_)
                | SnapshotError::NoBackend
                | SnapshotError::Write(_)
                | SnapshotError::GivenUp,
            ) => {}
            Err(_) => {
                self.count(Counter::SnapshotErrors);
                let failures = self.core.region.add(header::SNAPSHOT_FAILURES, 1, Relaxed);
                let _: u64 = failures.map_err(ReadError::from)?;
            }
        }
        saved
    }

    /// Notes for all members what was saved last.
    fn note(&self, saved: &SnapshotInfo) -> Result<(), BadRegion> {
        let put = |at, value| self.core.region.store(at, value, Release);
        put(header::SNAPSHOT_REVISION, saved.revision)?;
        put(header::SNAPSHOT_TIME, saved.created)?;
        put(header::SNAPSHOT_BYTES, saved.bytes)?;
        let took = u64::try_from(saved.took.as_nanos()).unwrap_or(u64::MAX);
        put(header::SNAPSHOT_TOOK, took)?;
        put(header::SNAPSHOT_FAILURES, 0)
    }

    /// Says that this member will not be keeper any more: whether no other living one may be. Of two
    /// that ask at a time, one at least is told that it is the last.
    fn is_last_keeper(&self) -> Result<bool, ReadError> {
        let Some(seat) = self.seat() else { return Ok(false) };
        let state = |slot| self.member_at(slot) + member::STATE;
        let region = &self.core.region;
        region.store(state(u64::from(seat.slot)), member::STATE_IN_USE, Release)?;
        // Each says so before it looks at the others; the other side is this line, run by another.
        fence(SeqCst);
        let high = region.load(header::MEMBERS_HIGH, Acquire)?.min(self.core.geometry.members_max);
        for slot in 0..high {
            let may_keep = region.load(state(slot), Acquire)? == member::STATE_MAY_KEEP;
            if may_keep && self.is_locked(slot) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Changes since the last snapshot.
    pub(crate) fn unsaved(&self) -> u64 {
        let word = |at| self.core.region.load(at, Acquire).unwrap_or_default();
        let saved = word(header::SNAPSHOT_REVISION).max(self.core.geometry.first_revision);
        word(header::HEAD).saturating_sub(saved)
    }
}

impl Bus {
    /// Takes a snapshot now, of one revision, while others go on writing. Blocks until it is on
    /// the disk.
    ///
    /// # Errors
    /// [`SnapshotError`]; the last good snapshot stays.
    pub fn snapshot(&self) -> Result<SnapshotInfo, SnapshotError> {
        self.snapshot_with(SnapshotOptions::new())
    }

    /// The same, as fast as said, telling how far it is, until it is given up.
    ///
    /// # Errors
    /// As there, and [`SnapshotError::GivenUp`]; the last good snapshot stays.
    pub fn snapshot_with(
        &self,
        options: SnapshotOptions<'_>,
    ) -> Result<SnapshotInfo, SnapshotError> {
        self.inner.take_snapshot(&mut Going::of(options))
    }

    /// Detaches. The last member that may be keeper takes a snapshot of what changed; `Drop` does
    /// not.
    ///
    /// # Errors
    /// [`CloseError::Snapshot`] when that failed; the handle is gone all the same.
    pub fn close(self) -> Result<(), CloseError> {
        let is_last_clone = std::sync::Arc::strong_count(&self.keeper) == 1;
        let inner = &self.inner;
        let saves = self.keeper.is_some() && is_last_clone && inner.saving.backend.is_some();
        if saves && inner.is_last_keeper().map_err(SnapshotError::from)? && inner.unsaved() > 0 {
            self.snapshot()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Place;
    use super::*;
    use crate::backend::image::ImageDirectory;

    /// Promise "who may be keeper": a member that can't open the backend never is.
    /// Plants: `can_keep` that answers true; that believes what is kept by this user.
    #[test]
    fn who_has_not_the_backend_is_no_keeper() {
        let place = Place::new();
        let images =
            ImageDirectory { directory: place.path().join("own"), is_compressed: false, keep: 1 };
        let mine = place.options().keeper(true).backend(Arc::new(images));
        let bus = mine.create_at(place.bus()).unwrap();
        assert!(bus.keeper.is_some() && bus.inner.may_keep);
        let other = place.options().keeper(true).open_at(place.bus()).unwrap();
        assert!(other.keeper.is_none() && !other.inner.may_keep);
        assert!(matches!(other.snapshot(), Err(SnapshotError::NotHere { .. })));
        let elsewhere = place.options().keeper(true).state(place.path().join("another"));
        assert!(elsewhere.open_at(place.bus()).unwrap().keeper.is_none(), "it saves nothing");
        let none = Place::new();
        let bus = none.options().keeper(true).persist(Persist::None).create_at(none.bus()).unwrap();
        assert!(bus.keeper.is_some(), "there is nothing that it could not save to");
    }
}
