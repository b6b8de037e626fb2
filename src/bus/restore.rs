//! Backups into any backend, and restores from one.
//!
//! A restore copies what it is given to a file of this host, and sees that it is good and how much room it takes;
//! then it reads that file with all locks held: no writer waits for a server. It is one change of the bus
//! (`table::restore`).

use super::ahead::Ahead;
use super::counters::Counter;
use super::going::{Going, SnapshotOptions};
use super::persist::{SnapshotInfo, check_lengths};
use super::write::Refused;
use super::{Bus, Inner};
use crate::backend::image::ImageDirectory;
use crate::backend::staged::Staged;
use crate::backend::{Backend, BackendError, Loaded, Sink, Stage};
use crate::doorbell::Sort;
use crate::error::{ReadError, SnapshotError, WriteError};
use crate::region::layout::CHANGE_SIZE;
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use crate::sys::file;
use crate::table::Core;
use crate::table::entry::size_of;
use crate::table::restore::{RestoreFailure, Restoring};
use crate::table::wish::{Done, WriteFailure};
use crate::types::Revision;
use crate::word::Name;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Images of what restores replaced that stay, each in a directory of its own.
const KEPT: usize = 3;

/// What a restore was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreInfo {
    /// The revision of the change that it was; all restored entries have it.
    pub revision: Revision,
    /// Entries that are there now.
    pub entries: u64,
    /// What was restored: of which bus, its revision, and when it was made.
    pub from: SnapshotHead,
    /// Newer snapshots in the same place that were refused: where they are, and why.
    pub refused: Vec<(String, String)>,
    /// The image of what was replaced, taken before. It has a directory of its own, of which
    /// [`Persist::Image`](crate::Persist::Image) restores it.
    pub before: SnapshotInfo,
    /// How long it took.
    pub took: Duration,
}

/// Looks whether a snapshot can be restored, and what room it takes.
struct Measure<'a, 'g> {
    bus: &'a Inner,
    going: &'a mut Going<'g>,
    limit: u64,
    count: u64,
    bytes: u64,
    failed: Option<SnapshotError>,
}

/// Fills a restore.
struct Fill<'a, 'c> {
    core: &'c Core,
    restoring: &'a mut Restoring<'c>,
    ahead: Ahead,
    failed: Option<RestoreFailure>,
}

/// An entry that no bus has.
pub(super) fn wrong(entry: &SnapshotEntry, reason: &str) -> SnapshotError {
    let at = format!("the entry `{}`", entry.key.escape_ascii());
    SnapshotError::Damaged { at, reason: reason.to_owned() }
}

impl Sink for Measure<'_, '_> {
    fn begin(&mut self, _: &SnapshotHead) -> Result<(), BackendError> {
        Ok(())
    }
    fn entry(&mut self, entry: &SnapshotEntry) -> Result<(), BackendError> {
        let note = check_lengths(entry).and_then(|()| self.bus.core.note_of(entry));
        let size = entry.value.len() as u64;
        let failed = match &note {
            Err(reason) => Some(wrong(entry, reason)),
            Ok(_) if size > self.limit => {
                Some(WriteError::ValueTooLarge { size, limit: self.limit }.into())
            }
            Ok(_) if !self.going.pass(entry, self.bus) => Some(SnapshotError::GivenUp),
            Ok(_) => None,
        };
        if failed.is_some() {
            self.failed = failed;
            return Err(BackendError::GivenUp);
        }
        if let Ok(Some(note)) = note {
            self.count += 1;
            self.bytes += size_of(Name::from(entry.key.as_slice()), &entry.value, &note);
        }
        Ok(())
    }
}

impl Sink for Fill<'_, '_> {
    fn begin(&mut self, _: &SnapshotHead) -> Result<(), BackendError> {
        Ok(())
    }
    fn entry(&mut self, entry: &SnapshotEntry) -> Result<(), BackendError> {
        let restoring = &mut *self.restoring;
        // `Measure` has looked at its lengths.
        let end = self.ahead.pass(self.core, entry, |entry| restoring.add(entry));
        end.map_err(|failure| {
            self.failed = Some(failure);
            BackendError::GivenUp
        })
    }
}

/// What a try has restored.
struct Try {
    revision: u64,
    entries: u64,
}

impl Inner {
    /// Saves what a restore is about to replace. A directory for each: the image restored may be one of them.
    pub(super) fn save_replaced(
        &self,
        going: &mut Going<'_>,
    ) -> Result<SnapshotInfo, SnapshotError> {
        let revision = self.core.head().map_err(ReadError::from)?;
        let directory = self.saving.replaced.join(format!("{revision:020}"));
        let images = ImageDirectory { directory, is_compressed: false, keep: 1 };
        self.alone(going, |me, going| self.save(&images, me, going, &|| false))
    }

    /// Removes all but the newest of what restores replaced; not what was just saved. What can't be removed stays. Only when
    /// that is replaced: what is restored may be one of them.
    pub(super) fn prune_replaced(&self, saved: &SnapshotInfo) {
        let Ok(mut names) = file::names(&self.saving.replaced) else { return };
        // Beside them stands what others are restoring.
        names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
        names.sort_unstable();
        let others = names.iter().rev().map(|name| self.saving.replaced.join(name));
        let is_saved = |path: &PathBuf| saved.path.as_ref().is_some_and(|at| at.starts_with(path));
        for path in others.filter(|path| !is_saved(path)).skip(KEPT - 1) {
            let _removed = file::remove_all(&path);
        }
    }

    /// Of a restore that failed: nothing was replaced, and who tries again saves it again.
    fn forget_replaced(&self, saved: &SnapshotInfo) {
        if let Some(directory) = saved.path.as_ref().and_then(|path| path.parent()) {
            let _removed = file::remove_all(directory);
        }
    }

    /// Makes room for what was measured, as far as the bus may grow: else each try would fail later
    /// than the one before.
    fn make_room(&self, me: u32, count: u64, bytes: u64) -> Result<(), SnapshotError> {
        let core = &self.core;
        // Spans are not filled to the last byte, and arrays and the list of changes need some.
        let needed = bytes + bytes / 4 + count * (CHANGE_SIZE + 32);
        let needed = needed / core.geometry.block_size() + 1;
        loop {
            let (free, _) = core.free_blocks().map_err(ReadError::from)?;
            if free >= needed {
                return Ok(());
            }
            let grown = self.grow(me, (needed - free).min(16));
            match grown.map_err(|failure| self.explain(failure.into(), b"", 0))? {
                Ok(()) => {}
                // The restore itself will tell.
                Err(_) => return Ok(()),
            }
        }
    }

    /// Puts what was staged in place of what is there.
    fn fill(
        &self,
        me: u32,
        (staged, name): (&Staged, &str),
        (count, bytes): (u64, u64),
        going: &mut Going<'_>,
    ) -> Result<Try, SnapshotError> {
        self.make_room(me, count, bytes)?;
        if !going.begin(Stage::Filling, Some(count)) {
            return Err(SnapshotError::GivenUp);
        }
        let (mut restored, mut ended) = (None, None);
        let done = self.with_room(
            me,
            || self.ring_watches(Sort::Keys, None),
            || match self.try_restore(me, staged, name) {
                Ok(end) => {
                    let revision = end.revision;
                    restored = Some(end);
                    Ok(Done { revision, count: 1, ..Done::default() })
                }
                Err(Tried::Failed(failure)) => Err(failure),
                Err(Tried::Ended(error)) => {
                    ended = Some(error);
                    Ok(Done::default())
                }
            },
        );
        let full = |refused: Refused| self.explain(refused, b"", bytes);
        let _: Done = done.map_err(full)?;
        let gone = || WriteError::Gone { path: self.path.clone() };
        match ended {
            Some(error) => Err(error),
            None => Ok(restored.ok_or_else(gone)?),
        }
    }

    fn try_restore(&self, me: u32, from: &Staged, name: &str) -> Result<Try, Tried> {
        let core = &self.core;
        let mut restoring = core.restore(me)?;
        let ahead = Ahead::default();
        let mut fill = Fill { core, restoring: &mut restoring, ahead, failed: None };
        let given = from.give(&mut fill);
        let Fill { mut ahead, failed, .. } = fill;
        match (given, failed) {
            (_, Some(failure)) => return Err(failure.into()),
            (given, None) => given.map_err(|error| Tried::Ended(error.into()))?,
        }
        ahead.rest(|entry| restoring.add(entry))?;
        let entries = restoring.len();
        let (time, who) = (core.clock.wall(), self.label().as_bytes());
        let revision = restoring.commit(time, who, name.as_bytes())?;
        Ok(Try { revision, entries })
    }
}

/// Why a try ended without a restore.
enum Tried {
    Failed(WriteFailure),
    Ended(SnapshotError),
}

impl From<RestoreFailure> for Tried {
    fn from(failure: RestoreFailure) -> Self {
        match failure {
            RestoreFailure::Write(failure) => Self::Failed(failure),
            RestoreFailure::Wrong(reason) => Self::Ended(SnapshotError::Damaged {
                at: "what was to be restored".to_owned(),
                reason: reason.to_owned(),
            }),
        }
    }
}

fn absent(from: &dyn Backend, name: &str) -> SnapshotError {
    let at = if name.is_empty() { format!("{from:?}") } else { name.to_owned() };
    SnapshotError::Absent { at }
}

impl Bus {
    /// Saves what is there now to any backend, beside the bus's own snapshots, of which it is none. Blocks
    /// until it is saved; others go on writing.
    ///
    /// # Errors
    /// [`SnapshotError`]; what the backend had before stays.
    pub fn backup(&self, to: &dyn Backend) -> Result<SnapshotInfo, SnapshotError> {
        self.backup_with(to, SnapshotOptions::new())
    }

    /// The same, as fast as said, telling how far it is, until it is given up.
    ///
    /// # Errors
    /// As there, and [`SnapshotError::GivenUp`]; what the backend had before stays.
    pub fn backup_with(
        &self,
        to: &dyn Backend,
        options: SnapshotOptions<'_>,
    ) -> Result<SnapshotInfo, SnapshotError> {
        let inner = &self.inner;
        let save = |me, going: &mut Going<'_>| inner.save(to, me, going, &|| false);
        let saved = inner.alone(&mut Going::of(options), save)?;
        inner.count(Counter::Backups);
        Ok(saved)
    }

    /// Makes the newest good snapshot of a backend what is there, in place of all keys. Locks, leases and
    /// whatever else processes meet at stay.
    ///
    /// It is one change: readers see what was there or what was restored, whole, and never wait. All restored
    /// entries have its revision, and their own time, label and deadline; ephemeral keys are gone. Watches are told
    /// of it ([`ChangeKind::Restore`](crate::ChangeKind::Restore), with the value `name`), and then of what is there, like new ones;
    /// subscribers of `data_restored` as well. Writers wait while it is filled in, about a second for a
    /// million entries; the bus needs room for both at a time. This process needs about 100 bytes of
    /// memory for each entry.
    ///
    /// What it replaces is saved first, as an image in the state directory, where the newest three stay
    /// until the bus is destroyed.
    ///
    /// ```
    /// # use membus::{Bus, Persist, ReadBus};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let options = Bus::options().directory(directory.path()).state(directory.path().join("state"));
    /// # let bus = options.open("shop")?;
    /// let file: Persist = format!("json:{}/monday.json", directory.path().display()).parse().unwrap();
    /// let backup = file.backend(1).unwrap().unwrap();
    /// bus.set("stock", &12)?;
    /// bus.backup(&*backup)?;
    /// bus.set("stock", &0)?;
    /// bus.set("by mistake", &1)?;
    /// let restored = bus.restore(&*backup, "monday")?;
    /// assert_eq!(restored.entries, 1);
    /// assert_eq!(bus.get::<i32>("stock")?, Some(12));
    /// assert_eq!(bus.get::<i32>("by mistake")?, None);
    /// # Ok::<(), membus::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`SnapshotError::Absent`] when there is none, [`SnapshotError::Damaged`] when none is good,
    /// [`WriteError::Full`] when the bus has not room for both; what was there stays. After
    /// [`WriteError::NotDurable`] it is restored: the snapshot that the journal builds on was not saved within the handle's deadline.
    pub fn restore(&self, from: &dyn Backend, name: &str) -> Result<RestoreInfo, SnapshotError> {
        self.restore_with(from, name, SnapshotOptions::new())
    }

    /// The same, telling how far it is, until it is given up; the rate is that of what is read and of what is saved before.
    /// Once the bus is being filled it can be given up no more.
    ///
    /// # Errors
    /// As there, and [`SnapshotError::GivenUp`]; what was there stays.
    pub fn restore_with(
        &self,
        from: &dyn Backend,
        name: &str,
        options: SnapshotOptions<'_>,
    ) -> Result<RestoreInfo, SnapshotError> {
        let (inner, begun, going) = (&*self.inner, Instant::now(), &mut Going::of(options));
        let me = inner.writer()?;
        let limit = inner.value_max();
        if !going.begin(Stage::Loading, None) {
            return Err(SnapshotError::GivenUp);
        }
        let mut measure = Measure { bus: inner, going, limit, count: 0, bytes: 0, failed: None };
        // With no lock held: a server may be slow, and another format takes longer to read.
        let staged = match Staged::of(from, &inner.saving.replaced, &mut measure) {
            Ok(Some(staged)) => staged,
            Ok(None) => return Err(absent(from, name)),
            Err(error) => return Err(measure.failed.take().unwrap_or_else(|| error.into())),
        };
        let (count, bytes) = (measure.count, measure.bytes);
        let before = inner.save_replaced(going)?;
        let filled = inner.fill(me, (&staged, name), (count, bytes), going);
        let Try { revision, entries } = filled.inspect_err(|_| inner.forget_replaced(&before))?;
        inner.count(Counter::Restores);
        inner.prune_replaced(&before);
        // The journal begins anew behind it: this waits for the snapshot that it builds on.
        inner.make_durable(revision, inner.durability())?;
        let gone = || WriteError::Gone { path: inner.path.clone() };
        let revision = Revision::new(revision).ok_or_else(gone)?;
        let Loaded { head: from, refused, .. } = staged.loaded;
        Ok(RestoreInfo { revision, entries, from, refused, before, took: begun.elapsed() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::ReadBus as _;
    use super::super::testing::Place;
    use super::*;
    use crate::{Persist, Progress};
    use std::ops::ControlFlow;

    /// Promise: the newest three of what restores replaced stay; one that fails leaves none, and takes none away, not even the one
    /// that it was to bring back.
    /// Plants: the others removed before a restore is done; what was saved for one that failed stays.
    #[test]
    fn restores_that_fail_take_nothing_away() {
        let place = Place::new();
        let bus = place.make();
        let images = |path| Persist::Image(path).backend(1).unwrap().unwrap();
        let backup = images(place.path().join("backup"));
        bus.backup(&*backup).unwrap();
        let kept = || {
            let mut names = file::names(&bus.inner.saving.replaced).unwrap();
            names.sort_unstable();
            names
        };
        for number in 1..=5 {
            bus.set("k", &number).unwrap();
            bus.restore(&*backup, "backup").unwrap();
            assert_eq!(kept().len(), number.min(KEPT));
        }
        let before = kept();
        let oldest = images(bus.inner.saving.replaced.join(&before[0]));
        for _ in 0..4 {
            bus.set("k", &0).unwrap();
            let mut told = |progress: &Progress| match progress.stage {
                Stage::Filling => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            };
            let options = SnapshotOptions::new().progress(&mut told);
            let end = bus.restore_with(&*oldest, "oldest", options);
            assert!(matches!(end, Err(SnapshotError::GivenUp)), "{end:?}");
            assert_eq!(kept(), before);
        }
        bus.restore(&*oldest, "oldest").unwrap();
        assert_eq!(bus.get::<usize>("k").unwrap(), Some(3));
        assert_eq!((kept().len(), &kept()[..2]), (KEPT, &before[1..]));
    }
}
