//! The journal of a bus: what a handle knows of it, and waiting for it.
//!
//! 1. Whoever waits asks, and sleeps on a turn, as `turn` has it: nobody sleeps through what it waits for.
//! 2. Writers wait outside all locks, before they begin, when the log runs away from the journal: what the journal has
//!    not read is not overwritten as long as somebody keeps it.
//!
//! A death of who keeps it leaves the limit behind: it holds writers up until the next keeper comes, or they see that
//! there is none.

mod clean;
pub(crate) mod collect;
pub(crate) mod keep;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod time_tests;

use super::files::{CREATE_PATIENCE, io};
use super::members::SILENCE_MAX;
use super::options::Options;
use super::persist::setting;
use super::write::Refused;
use super::{Bus, Inner};
use crate::backend::Backend;
use crate::config::{self, Config};
use crate::error::{OpenError, SnapshotError, WriteError};
use crate::heap::Space;
use crate::journal::replay::{Past, Until};
use crate::journal::segments::Claim;
use crate::journal::{Durability, JournalSync, JournalSyncError, Point};
use crate::lock::LockError;
use crate::region::BadRegion;
use crate::region::layout::header;
use crate::sync::Ordering::{Acquire, Relaxed};
use crate::sys::futex;
use crate::turn::Progress;
use crate::types::Revision;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long one sleep of who waits lasts at the most.
const SLEEP: Duration = Duration::from_millis(100);
/// How long writers wait without a keeper: several turns of those who may become it.
const UNKEPT: Duration = Duration::from_secs(1);

/// What a handle knows of its bus's journal.
#[derive(Debug, Clone)]
pub(crate) struct Journaling {
    /// Where its segments are; `None`: the bus has no journal.
    pub(crate) place: Option<(PathBuf, JournalSync)>,
    /// What a write of this handle waits for that says nothing, where the handle was asked for it.
    durability: Option<Durability>,
}

/// What is kept of a bus says so of its journal.
pub(super) fn kept_sync(kept: &Config) -> Result<Option<JournalSync>, JournalSyncError> {
    kept.journal.as_deref().map(str::parse).transpose()
}

impl Journaling {
    pub(crate) fn none() -> Self {
        Self { place: None, durability: None }
    }

    /// What is kept of the bus, against what was asked for.
    pub(super) fn of(
        options: &Options,
        path: &Path,
        kept: Option<&Config>,
    ) -> Result<Self, OpenError> {
        let found = match kept.map(kept_sync).transpose() {
            Ok(found) => found.flatten(),
            Err(error) => return Err(setting(&error, path)),
        };
        if let Some(asked) = options.journal
            && asked != found
            && kept.is_some()
        {
            let text = |sync: Option<JournalSync>| sync.map_or("none".into(), |s| s.to_string());
            let (asked, found) = (text(asked), text(found));
            return Err(OpenError::Differs { setting: "journal", asked, found });
        }
        let directory = config::journal(&options.state_directory(), path)?;
        let place = found.map(|sync| (directory, sync));
        Ok(Self { place, durability: options.durability })
    }

    /// The snapshots of a backend with this journal on top.
    pub(crate) fn past(&self, snapshots: &Arc<dyn Backend>, until: Until) -> Option<Past> {
        let (journal, _) = self.place.as_ref()?;
        Some(Past { snapshots: Arc::clone(snapshots), journal: journal.clone(), until })
    }
}

impl Inner {
    /// What a write that says nothing waits for.
    #[inline]
    pub(crate) fn durability(&self) -> Durability {
        let by_bus = match self.core.geometry.waits_for_journal() {
            true => Durability::Synced,
            false => Durability::Visible,
        };
        self.saving.journaling.durability.unwrap_or(by_bus)
    }

    /// Before a write: whether there is a journal to wait for, when it is to.
    pub(crate) fn check_durability(&self, wanted: Durability) -> Result<(), WriteError> {
        if wanted == Durability::Synced && !self.core.geometry.has_journal() {
            return Err(WriteError::NoJournal { path: self.path.clone() });
        }
        Ok(())
    }

    /// Waits until a change that was made is as durable as it is to be.
    pub(crate) fn make_durable(&self, revision: u64, wanted: Durability) -> Result<(), WriteError> {
        match wanted {
            Durability::Visible => Ok(()),
            Durability::Synced => self.await_journaled(revision),
        }
    }

    fn await_journaled(&self, revision: u64) -> Result<(), WriteError> {
        let (region, patience) = (&self.core.region, self.core.patience());
        let turn = region.half(header::JOURNAL_TURN)?;
        loop {
            let Progress { turn: seen, journaled } = self.core.journal_progress()?;
            if journaled >= revision {
                return Ok(());
            }
            if self.is_gone() {
                return Err(WriteError::Gone { path: self.path.clone() });
            }
            self.core.ask_journal()?;
            let left = patience.left();
            if left.is_zero() {
                let reason = self.why_not_journaled()?;
                let revision = Revision::new(revision);
                return Err(WriteError::NotDurable { revision, journaled, reason });
            }
            futex::wait(turn, seen, left.min(SLEEP));
        }
    }

    /// Whether the journal has begun anew, and the snapshot that it builds on is not there yet.
    pub(crate) fn journal_waits_for_snapshot(&self) -> Result<bool, BadRegion> {
        let word = |at| self.core.region.load_count(at, Acquire);
        let base = word(header::JOURNAL_BASE)?;
        let is_first = base == self.core.geometry.first_revision;
        Ok(!is_first && base > word(header::SNAPSHOT_REVISION)?)
    }

    fn why_not_journaled(&self) -> Result<String, BadRegion> {
        let region = &self.core.region;
        let failures = region.load(header::JOURNAL_FAILURES, Relaxed)?;
        let (keeper, silence) = (self.keeper_slot()?, self.keeper_silence()?);
        Ok(if keeper.is_none() {
            let name = &self.name;
            format!(
                "nobody keeps the bus; let a handle with a keeper live, or run `membus keep {name}`"
            )
        } else if let Some(slot) = keeper.filter(|_| silence > SILENCE_MAX) {
            let silence = silence.as_secs_f64();
            format!(
                "the keeper, slot {slot}, gave no sign for {silence:.1} s: continue its process, or end it"
            )
        } else if failures > 0 {
            let name = &self.name;
            format!("writing the journal failed {failures} times; `membus health {name}` says more")
        } else if self.journal_waits_for_snapshot()? {
            "the journal begins anew, and the snapshot that it builds on is not saved yet"
                .to_owned()
        } else {
            "the disk is slow".to_owned()
        })
    }

    /// Before a write: gives the journal time to read the log, when it is about to be overtaken.
    #[inline]
    pub(crate) fn spare_journal(&self) -> Result<(), Refused> {
        let region = &self.core.region;
        let limit = region.load_count(header::JOURNAL_LIMIT, Relaxed)?;
        if limit == 0 || region.load_count(header::LOG_TAIL, Relaxed)? <= limit {
            return Ok(());
        }
        self.await_limit()
    }

    #[cold]
    fn await_limit(&self) -> Result<(), Refused> {
        let (region, patience) = (&self.core.region, self.core.patience());
        let turn = region.half(header::JOURNAL_TURN)?;
        let begun = std::time::Instant::now();
        loop {
            let seen = turn.load(Acquire);
            let limit = region.load_count(header::JOURNAL_LIMIT, Relaxed)?;
            if limit == 0 || region.load_count(header::LOG_TAIL, Relaxed)? <= limit {
                return Ok(());
            }
            if self.is_gone() {
                return Ok(());
            }
            if begun.elapsed() > UNKEPT && self.keeper_slot()?.is_none() {
                // Nobody reads on. Whoever comes begins the journal anew.
                region.store(header::JOURNAL_LIMIT, 0, Relaxed)?;
                return Ok(());
            }
            self.core.ask_journal()?;
            let left = patience.left();
            if left.is_zero() {
                let owner = region.load(header::KEEPER, Relaxed)?.saturating_sub(1) as u32;
                return Err(LockError::Stalled { owner, what: "the journal" }.into());
            }
            futex::wait(turn, seen, left.min(SLEEP));
        }
    }
}

/// For who builds a bus anew: nobody writes its journal any more who was in its last life. One whose files were removed
/// notices within a second.
pub(super) fn claim(state: &Path, path: &Path) -> Result<Claim, OpenError> {
    let directory = config::journal(state, path)?;
    let begun = std::time::Instant::now();
    while begun.elapsed() <= CREATE_PATIENCE {
        if let Some(claim) = Claim::take(&directory).map_err(io("locking", &directory))? {
            return Ok(claim);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let what = "a member of its last life that writes its journal";
    Err(OpenError::Busy { path: directory, what, waited: begun.elapsed() })
}

impl Space {
    /// Says in a new region up to where it has the changes of the lives before: from there on its journal goes.
    pub(super) fn continue_journal(&self, from: Point) -> Result<(), BadRegion> {
        let first = self.geometry.first_revision;
        for (at, value) in [
            (header::JOURNAL_LIFE, from.incarnation),
            (header::JOURNAL_CONTINUES, from.revision),
            (header::JOURNAL_WRITTEN, first),
            (header::JOURNALED, first),
            (header::JOURNAL_BASE, first),
        ] {
            self.region.store(at, value, Relaxed)?;
        }
        Ok(())
    }
}

impl Bus {
    /// Waits until everything that was visible when this was called is durable: on the disk, in the journal. Gives
    /// the revision. Blocks for one sync of the disk, for all who wait.
    ///
    /// # Errors
    /// [`WriteError::NoJournal`]; [`WriteError::NotDurable`] when it did not come to it within the handle's deadline.
    pub fn sync(&self) -> Result<Option<Revision>, WriteError> {
        let inner = &self.inner;
        inner.check_durability(Durability::Synced)?;
        let head = inner.core.head()?;
        inner.make_durable(head, Durability::Synced)?;
        Ok(Revision::new(head))
    }

    /// The bus as it was: its snapshots with its journal on top, as of the last whole state at or before a
    /// revision. [`restore`](Self::restore) brings it back, [`copy_snapshot`](crate::copy_snapshot) copies it elsewhere. How far
    /// it goes back: to the oldest snapshot that is kept. Without a journal: the newest snapshot at or before.
    ///
    /// # Errors
    /// [`SnapshotError::NoBackend`] without a backend; others where this handle does not know it.
    pub fn as_of_revision(&self, revision: Revision) -> Result<Arc<dyn Backend>, SnapshotError> {
        self.as_of(Until::Revision(revision.get()))
    }

    /// The same, as of a time: the last whole state that was made when the host's clock showed that time or an earlier one, also
    /// where the clock was set meanwhile. What was imported is there from its import on, whatever times its entries have.
    ///
    /// # Errors
    /// As there.
    pub fn as_of_time(
        &self,
        time: std::time::SystemTime,
    ) -> Result<Arc<dyn Backend>, SnapshotError> {
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.as_of(Until::Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)))
    }

    fn as_of(&self, until: Until) -> Result<Arc<dyn Backend>, SnapshotError> {
        let saving = &self.inner.saving;
        let snapshots = saving.backend.as_ref().ok_or_else(|| self.inner.not_saved_here())?;
        // Without a journal there are the snapshots alone.
        let journal = saving.journaling.place.as_ref().map(|(directory, _)| directory.clone());
        if journal.is_none() && self.inner.core.geometry.has_journal() {
            // It is kept where this handle does not look: what its snapshots have is not all.
            return Err(self.inner.not_saved_here());
        }
        let (snapshots, journal) = (Arc::clone(snapshots), journal.unwrap_or_default());
        let past = Past { snapshots, journal, until };
        if self.inner.core.geometry.has_journal() {
            // What was committed by now is to be found; where nobody writes it, what is there.
            let _waited = self.sync();
        }
        Ok(Arc::new(past))
    }
}
