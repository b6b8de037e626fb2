//! Taking a snapshot: one member at a time reads what there is, and a backend saves it.

use super::Inner;
use super::files::{AWAITED_BYTE, SNAPSHOT_BYTE};
use super::going::Going;
use super::persist::SnapshotInfo;
use super::seat::Seat;
use crate::backend::{Backend, BackendError, Saved, Source, Stage};
use crate::error::{ReadError, SnapshotError};
use crate::snapshot::{Walk, WalkError};
use crate::snapshot_entry::SnapshotEntry;
use crate::sync::Ordering::Relaxed;
use crate::sys::lock::{try_lock_byte, unlock_byte};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// How often a snapshot is begun again after it gave way to a writer.
const TRIES: u32 = 5;

/// A walk that is saved.
struct Walking<'b, 'a, 'g> {
    bus: &'b Inner,
    walk: Walk<'b>,
    going: &'a mut Going<'g>,
    is_lost: &'a dyn Fn() -> bool,
    failed: Option<WalkError>,
}

impl Walking<'_, '_, '_> {
    /// The next entry, when it is still wanted and its time has come. Whoever destroys the bus waits for this to
    /// end, and then forgets what was saved.
    fn next(&mut self, entry: &mut SnapshotEntry) -> Result<bool, WalkError> {
        if self.going.is_over() || self.bus.is_gone() {
            return Err(WalkError::Aborted);
        }
        let is_there = self.walk.next_into(entry)?;
        let is_good = if is_there { self.going.pass(entry, self.bus) } else { !(self.is_lost)() };
        if is_good { Ok(is_there) } else { Err(WalkError::Aborted) }
    }
}

impl Source for Walking<'_, '_, '_> {
    fn next_entry(&mut self) -> Result<Option<SnapshotEntry>, BackendError> {
        let mut entry = SnapshotEntry::default();
        Ok(self.next_into(&mut entry)?.then_some(entry))
    }
    fn next_into(&mut self, entry: &mut SnapshotEntry) -> Result<bool, BackendError> {
        self.next(entry).map_err(|error| {
            self.failed = Some(error);
            BackendError::GivenUp
        })
    }
}

/// The byte of who takes a snapshot, held.
struct Alone<'a>(&'a Seat);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // What can't be unlocked goes with the handle.
        let _unlocked = unlock_byte(&self.0.file, SNAPSHOT_BYTE);
    }
}

impl Inner {
    /// Runs what only one member does at a time: a bus has room for one snapshot's old entries.
    pub(super) fn alone<T>(
        &self,
        going: &mut Going<'_>,
        run: impl FnOnce((u32, u64), &mut Going<'_>) -> Result<T, SnapshotError>,
    ) -> Result<T, SnapshotError> {
        let me = self.writer()?;
        let Some(seat) = self.seat() else { return Err(SnapshotError::NoBackend) };
        seat.awaited.fetch_add(1, Relaxed);
        let _one = seat.one.lock().unwrap_or_else(PoisonError::into_inner);
        seat.awaited.fetch_sub(1, Relaxed);
        let fail = |source| {
            let at = self.path.join("members").display().to_string();
            SnapshotError::Io { at, source }
        };
        let waited = self.wait_for_snapshot(seat, going).map_err(fail);
        // What could not be unlocked goes with the handle.
        let _unlocked = unlock_byte(&seat.file, AWAITED_BYTE);
        waited??;
        // Also when a backend of a program's own panics.
        let alone = Alone(seat);
        let end = run((me, seat.owner()), going);
        drop(alone);
        end
    }

    /// Waits for the byte of who takes a snapshot, and tells whoever has it that somebody waits.
    fn wait_for_snapshot(
        &self,
        seat: &Seat,
        going: &mut Going<'_>,
    ) -> std::io::Result<Result<(), SnapshotError>> {
        let begun = Instant::now();
        while !try_lock_byte(&seat.file, SNAPSHOT_BYTE)? {
            // Of several that wait one suffices.
            let _told = try_lock_byte(&seat.file, AWAITED_BYTE)?;
            if begun.elapsed() > self.core.patience {
                return Ok(Err(SnapshotError::Busy(begun.elapsed())));
            }
            if !going.is_wanted() {
                return Ok(Err(SnapshotError::GivenUp));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Ok(()))
    }

    /// Whether somebody waits for the end of the snapshot that this member takes: to take one, or for the journal, which
    /// builds on the next one, and with it whoever is to be durable.
    pub(super) fn is_snapshot_awaited(&self) -> bool {
        let awaited = |seat: &Seat| seat.awaited.load(Relaxed) > 0;
        self.is_snapshot_wanted()
            || self.seat().is_some_and(awaited)
            || self.is_locked(AWAITED_BYTE)
    }

    /// Saves to a backend, which may be another one than the bus's. What `is_lost` when all is read is not saved.
    pub(super) fn save(
        &self,
        backend: &dyn Backend,
        (me, owner): (u32, u64),
        going: &mut Going<'_>,
        is_lost: &dyn Fn() -> bool,
    ) -> Result<SnapshotInfo, SnapshotError> {
        let begun = Instant::now();
        for _ in 0..TRIES {
            if self.is_gone() || is_lost() {
                return Err(ReadError::Gone { path: self.path.clone() }.into());
            }
            let total = self.core.count_entries().map_err(ReadError::from)?;
            if !going.begin(Stage::Saving, Some(total)) {
                return Err(SnapshotError::GivenUp);
            }
            let walk = Walk::begin(&self.core, me, owner).map_err(|error| self.failed(error))?;
            let head = walk.head;
            let mut walking = Walking { bus: self, walk, going, is_lost, failed: None };
            let saved = backend.save(&head, &mut walking);
            // The snapshot ends with it.
            let Walking { walk: _walk, failed, .. } = walking;
            match saved {
                Ok(Saved { entries, bytes, path }) => {
                    let (revision, created, took) = (head.revision, head.created, begun.elapsed());
                    return Ok(SnapshotInfo { revision, created, entries, bytes, path, took });
                }
                Err(error) => match failed {
                    Some(WalkError::Aborted) if going.is_over() => {
                        return Err(SnapshotError::GivenUp);
                    }
                    // What it kept was in the way, the longer the slower it was.
                    Some(WalkError::Aborted) => going.hurry(),
                    Some(error) => return Err(self.failed(error)),
                    None => return Err(error.into()),
                },
            }
        }
        Err(SnapshotError::Aborted { tries: TRIES })
    }

    fn failed(&self, error: WalkError) -> SnapshotError {
        match error {
            WalkError::Aborted => SnapshotError::Aborted { tries: 1 },
            WalkError::Bad(bad) => ReadError::from(bad).into(),
            WalkError::Lock(error) => self.explain(error.into(), b"", 0).into(),
        }
    }
}
