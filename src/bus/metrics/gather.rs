//! Reading the figures.

use super::latency::Latencies;
use super::{
    ErrorMetrics, JournalMetrics, MemberMetrics, MemoryMetrics, MessagingMetrics, Metrics,
    OperationMetrics, OwnMetrics, PersistenceMetrics, RecoveryMetrics, WatchingMetrics,
};
use crate::bus::counters::{Counter, Counting, Hot};
use crate::bus::reader::BusReader;
use crate::bus::{Bus, Inner};
use crate::doorbell::Sort;
use crate::error::ReadError;
use crate::region::BadRegion;
use crate::region::layout::{header, member};
use crate::sync::Ordering::Acquire;
use crate::tally::{HOT, Sums, lanes};
use crate::types::time_of;
use std::time::{Duration, SystemTime};

/// How often a slot is looked at again whose user changed meanwhile.
const LOOKS: u32 = 8;

impl Inner {
    fn word(&self, at: u64) -> Result<u64, BadRegion> {
        self.core.region.load(at, Acquire)
    }

    pub(crate) fn metrics(&self) -> Result<Metrics, ReadError> {
        let geometry = &self.core.geometry;
        let high = self.word(header::MEMBERS_HIGH)?.min(geometry.members_max);
        let sums = self.sums(high)?;
        // After the sums: what is told to be there now was counted as made.
        let revision = self.core.head()?;
        let watching = self.watching(revision)?;
        let members = self.member_metrics(high)?;
        Ok(Metrics {
            name: self.name.clone(),
            time: SystemTime::now(),
            created: time_of(geometry.created),
            revision,
            operations: OperationMetrics::from(&sums),
            errors: ErrorMetrics::from(&sums),
            messaging: messaging(&sums, &watching),
            recovery: self.recovery(&sums, members.len() as u32)?,
            persistence: self.persistence(&sums)?,
            memory: self.memory(&sums)?,
            get_times: Latencies::of(&sums.get_times),
            set_times: Latencies::of(&sums.set_times),
            own: self.own_metrics(&members)?,
            members,
            watching,
        })
    }

    fn watching(&self, head: u64) -> Result<Vec<WatchingMetrics>, BadRegion> {
        let topics = [Sort::Topics as u64, Sort::All as u64];
        let mut found = Vec::new();
        for watching in self.core.all_watching()? {
            let is_subscription = topics.contains(&watching.sort);
            if !is_subscription && watching.sort != Sort::Keys as u64 {
                continue;
            }
            let passed = watching.passed.filter(|_| !watching.is_asleep);
            found.push(WatchingMetrics {
                slot: (watching.owner & 0xffff).wrapping_sub(1) as u32,
                is_subscription,
                behind: passed.map_or(0, |passed| head.saturating_sub(passed)),
            });
        }
        Ok(found)
    }

    /// What each member that is there has done since it attached.
    fn member_metrics(&self, high: u64) -> Result<Vec<MemberMetrics>, BadRegion> {
        let seen = (0..high as u32).map(|slot| self.member_metric(slot));
        seen.filter_map(Result::transpose).collect()
    }

    fn member_metric(&self, slot: u32) -> Result<Option<MemberMetrics>, BadRegion> {
        let at = self.member_at(u64::from(slot));
        for _ in 0..LOOKS {
            let generation = self.word(at + member::GENERATION)?;
            if self.word(at + member::STATE)? == 0 {
                return Ok(None);
            }
            let mut done = lanes(&self.core.tally_of(u64::from(slot))?)?;
            self.less_base(slot, &mut done)?;
            let (label, pid) = self.describe(slot);
            if self.word(at + member::GENERATION)? != generation {
                continue;
            }
            let of = |hot: Hot| done[hot as usize];
            return Ok(Some(MemberMetrics {
                slot,
                generation,
                pid,
                label,
                gets: of(Hot::Gets),
                misses: of(Hot::Misses),
                sets: of(Hot::Sets),
                adds: of(Hot::Adds),
                deletes: of(Hot::Deletes),
                commits: of(Hot::Commits),
            }));
        }
        // Its users come and go faster than one of them can be looked at.
        Ok(None)
    }

    /// Takes away what the slot's users before the present one had done.
    fn less_base(&self, slot: u32, done: &mut [u64; HOT]) -> Result<(), BadRegion> {
        let at = self.member_at(u64::from(slot)) + member::BASE;
        for (index, sum) in done.iter_mut().enumerate() {
            *sum = sum.saturating_sub(self.word(at + 8 * index as u64)?);
        }
        Ok(())
    }

    fn own_metrics(&self, members: &[MemberMetrics]) -> Result<OwnMetrics, BadRegion> {
        if !matches!(self.counting, Counting::Own(_)) {
            let own = self.seat().map(|seat| seat.slot);
            let own = members.iter().find(|member| Some(member.slot) == own);
            return Ok(own.map_or_else(OwnMetrics::default, |own| OwnMetrics {
                gets: own.gets,
                misses: own.misses,
                sets: own.sets,
                ..OwnMetrics::default()
            }));
        }
        let mut sums = Sums::default();
        if let Some(words) = self.tally() {
            sums.add(&words)?;
        }
        Ok(OwnMetrics {
            gets: sums.hot(Hot::Gets),
            misses: sums.hot(Hot::Misses),
            sets: 0,
            scans: sums.of(Counter::Scans),
            events: sums.of(Counter::Events),
            delivered: sums.of(Counter::Delivered),
            errors: sums.of(Counter::ReadErrors).saturating_add(sums.of(Counter::WatchErrors)),
            get_times: Latencies::of(&sums.get_times),
        })
    }

    fn recovery(&self, sums: &Sums, members: u32) -> Result<RecoveryMetrics, BadRegion> {
        let keeper = self.keeper_slot()?;
        let seen = self.keeper_silence()?;
        Ok(RecoveryMetrics {
            burials: sums.of(Counter::Burials),
            takeovers: sums.of(Counter::Takeovers),
            finished: sums.of(Counter::Finished),
            restores: sums.of(Counter::Restores),
            members,
            keeper,
            keeper_seen: keeper.map(|_| seen),
        })
    }

    fn persistence(&self, sums: &Sums) -> Result<PersistenceMetrics, BadRegion> {
        let saved = self.word(header::SNAPSHOT_TIME)?;
        Ok(PersistenceMetrics {
            backend: self.saved_to(),
            every: self.saving.every,
            after: self.saving.after,
            rate: self.saving.rate,
            snapshots: sums.of(Counter::Snapshots),
            failures: sums.of(Counter::SnapshotErrors),
            failures_in_a_row: self.word(header::SNAPSHOT_FAILURES)?,
            backups: sums.of(Counter::Backups),
            unsaved: self.unsaved() > 0,
            last_revision: self.word(header::SNAPSHOT_REVISION)?,
            last_time: (saved != 0).then(|| time_of(saved)),
            last_bytes: self.word(header::SNAPSHOT_BYTES)?,
            last_took: Duration::from_nanos(self.word(header::SNAPSHOT_TOOK)?),
            journal: self.core.geometry.has_journal().then(|| self.journal()).transpose()?,
        })
    }

    fn journal(&self) -> Result<JournalMetrics, BadRegion> {
        let (journaled, synced) = (self.word(header::JOURNALED)?, self.word(header::JOURNAL_TIME)?);
        Ok(JournalMetrics {
            journaled,
            behind: self.core.visible_head()?.saturating_sub(journaled),
            bytes: self.word(header::JOURNAL_BYTES)?,
            failures_in_a_row: self.word(header::JOURNAL_FAILURES)?,
            is_rebuilding: self.journal_waits_for_snapshot()?,
            last_time: (synced != 0).then(|| time_of(synced)),
            last_took: Duration::from_nanos(self.word(header::JOURNAL_TOOK)?),
        })
    }

    fn memory(&self, sums: &Sums) -> Result<MemoryMetrics, BadRegion> {
        let (core, geometry) = (&self.core, &self.core.geometry);
        let (blocks, (free, longest)) = (core.blocks()?, core.free_blocks()?);
        let shift = geometry.block_shift;
        let first = geometry.first_revision + 1;
        Ok(MemoryMetrics {
            used: blocks.saturating_sub(free) << shift,
            free: free << shift,
            largest_free: longest << shift,
            capacity: self.word(header::SIZE)?,
            max_capacity: geometry.max_capacity,
            file: crate::sys::file::stat(&self.region).map_or(0, |stat| stat.allocated),
            log: geometry.log_size,
            log_used: self.word(header::LOG_TAIL)?.min(geometry.log_size),
            log_oldest: core.log_find(first)?.map_or_else(|oldest| oldest, |_| first),
            entries: core.count_entries()?,
            growths: sums.of(Counter::Growths),
        })
    }
}

impl From<&Sums> for OperationMetrics {
    fn from(sums: &Sums) -> Self {
        let (gets, misses) = (sums.hot(Hot::Gets), sums.hot(Hot::Misses));
        let calls = [Hot::Gets, Hot::Sets, Hot::Adds, Hot::Deletes, Hot::Commits];
        let calls = calls.map(|hot| sums.hot(hot)).into_iter();
        let clears = sums.of(Counter::Clears);
        Self {
            total: calls.fold(clears, u64::saturating_add),
            gets,
            hits: gets.saturating_sub(misses),
            misses,
            sets: sums.hot(Hot::Sets),
            adds: sums.hot(Hot::Adds),
            deletes: sums.hot(Hot::Deletes),
            commits: sums.hot(Hot::Commits),
            changes: sums.of(Counter::Changes),
            clears,
            scans: sums.of(Counter::Scans),
            created: sums.hot(Hot::Created),
            updated: sums.hot(Hot::Updated),
            deleted: sums.of(Counter::Deleted),
            expired: sums.of(Counter::Expired),
            conflicts: sums.of(Counter::Conflicts),
            lock_changes: sums.of(Counter::LockChanges),
        }
    }
}

impl From<&Sums> for ErrorMetrics {
    fn from(sums: &Sums) -> Self {
        let of = |counter| sums.of(counter);
        let families = [
            Counter::ReadErrors,
            Counter::WriteErrors,
            Counter::WatchErrors,
            Counter::LockErrors,
            Counter::SnapshotErrors,
            Counter::CallbackPanics,
            Counter::GrowthFailures,
        ];
        Self {
            total: families.map(of).into_iter().fold(0, u64::saturating_add),
            read: of(Counter::ReadErrors),
            write: of(Counter::WriteErrors),
            full: of(Counter::Full),
            stalled: of(Counter::Stalled),
            watch: of(Counter::WatchErrors),
            lock: of(Counter::LockErrors),
            snapshot: of(Counter::SnapshotErrors),
            callback: of(Counter::CallbackPanics),
            growth: of(Counter::GrowthFailures),
        }
    }
}

fn messaging(sums: &Sums, watching: &[WatchingMetrics]) -> MessagingMetrics {
    let subscriptions = watching.iter().filter(|one| one.is_subscription).count() as u64;
    MessagingMetrics {
        messages: sums.of(Counter::Messages),
        broadcasts: sums.of(Counter::Broadcasts),
        delivered: sums.of(Counter::Delivered),
        expired: sums.of(Counter::MessagesExpired),
        events: sums.of(Counter::Events),
        lagged: sums.of(Counter::Lagged),
        missed: sums.of(Counter::Missed),
        callbacks: sums.of(Counter::Callbacks),
        bells: sums.of(Counter::Bells),
        watches: watching.len() as u64 - subscriptions,
        subscriptions,
        backlog: watching.iter().map(|one| one.behind).max().unwrap_or(0),
    }
}

impl Bus {
    /// What the bus has done and how it is. Looks at every block word and at every slot that was ever used
    /// once: some microseconds for a small bus. Takes no lock.
    ///
    /// ```
    /// # use membus::{Bus, ReadBus};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let options = Bus::options().directory(directory.path()).state(directory.path().join("state"));
    /// # let bus = options.open("orders")?;
    /// bus.set("price/ACME", &101.5)?;
    /// assert!(bus.get::<f64>("price/ACME")?.is_some() && bus.get::<f64>("none")?.is_none());
    /// let metrics = bus.metrics()?;
    /// assert_eq!((metrics.operations.gets, metrics.operations.hits), (2, 1));
    /// assert_eq!(metrics.operations.created, 1);
    /// # Ok::<(), membus::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the region is damaged.
    pub fn metrics(&self) -> Result<Metrics, ReadError> {
        self.inner.metrics()
    }
}

impl BusReader {
    /// As [`Bus::metrics`]. What this reader does is in [`Metrics::own`] alone.
    ///
    /// # Errors
    /// When the region is damaged.
    pub fn metrics(&self) -> Result<Metrics, ReadError> {
        self.inner.metrics()
    }
}
