//! Keeping the journal: reads the log, writes groups, syncs, tells who waits.
//!
//! 1. `JOURNALED` is stored after the sync, and only when the chain of segments has a snapshot to build on.
//! 2. After a failure the segment is left: the next one goes on after what is known to be on the disk.
//! 3. What the log has lost, and what a restore brought, no record has: a new chain begins, with a snapshot that is
//!    asked for.
//!
//! It is the keeper's work, on a thread of its own. A death leaves a group cut short; the next keeper goes on after
//! `JOURNALED`, in a new segment.

use super::super::Inner;
use super::super::files::JOURNAL_BYTE;
use super::super::keeper::Stop;
use super::clean::Cleaner;
use super::collect::{Collected, Collector};
use crate::error::ReadError;
use crate::journal::format::Header;
use crate::journal::segments::{Claim, Segment, sync_all};
use crate::journal::{JournalSync, Point};
use crate::region::BadRegion;
use crate::region::layout::header;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sys::futex;
use crate::sys::lock::{try_lock_byte, unlock_byte};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Bytes from which on a segment is followed by the next one.
const SEGMENT_MAX: u64 = 64 << 20;
/// How often the log is read where nobody asks and nothing is promised.
const IDLE: Duration = Duration::from_millis(100);
/// How soon a failed turn is tried again, doubled each time.
const RETRY: Duration = Duration::from_millis(100);
/// And at the latest.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Why a turn failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error("{at}: {source}", at = at.display())]
    Io { at: PathBuf, source: io::Error },
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<BadRegion> for JournalError {
    fn from(bad: BadRegion) -> Self {
        Self::Read(bad.into())
    }
}

/// Who keeps the journal.
#[derive(Debug)]
pub(super) struct Journaler {
    directory: PathBuf,
    sync: JournalSync,
    segment: Option<Segment>,
    collector: Collector,
    /// When the log was looked at last.
    looked: u64,
    /// Revision of the snapshot after which a new segment was begun.
    rolled: u64,
    failed: u32,
}

impl Journaler {
    pub(super) fn new(directory: PathBuf, sync: JournalSync) -> Self {
        let collector = Collector::after(0);
        Self { directory, sync, segment: None, collector, looked: 0, rolled: 0, failed: 0 }
    }

    fn io(&self) -> impl Fn(io::Error) -> JournalError + use<> {
        let at = self.directory.clone();
        move |source| JournalError::Io { at: at.clone(), source }
    }

    /// Begins a segment after a revision, up to which all before is where it is to be.
    fn begin_segment(&mut self, inner: &Inner, after: u64) -> Result<(), JournalError> {
        let (core, word) = (&inner.core, |at| inner.core.region.load(at, Acquire));
        let geometry = &core.geometry;
        let at = Point { incarnation: geometry.incarnation, revision: after };
        let continues = match after == geometry.first_revision {
            true => Point {
                incarnation: word(header::JOURNAL_LIFE)?,
                revision: word(header::JOURNAL_CONTINUES)?,
            },
            false => at,
        };
        let (bus_id, created) = (geometry.bus_id, core.clock.wall());
        let new = Header { bus_id, sequence: 0, at, continues, created };
        self.segment = Some(Segment::create(&self.directory, new).map_err(self.io())?);
        Ok(())
    }

    /// Begins anew at the head: what is there now, a snapshot is to tell.
    fn begin_chain(&mut self, inner: &Inner) -> Result<(), JournalError> {
        let head = inner.core.visible_head()?;
        inner.core.region.store(header::JOURNAL_BASE, head, Release)?;
        inner.core.region.store(header::SNAPSHOT_WANTED, head, Release)?;
        inner.core.region.store(header::JOURNAL_WRITTEN, head, Release)?;
        self.begin_segment(inner, head)?;
        self.collector = Collector::after(head);
        Ok(())
    }

    /// One turn: whatever is new is written, and synced where that is due.
    pub(super) fn turn(&mut self, inner: &Inner) -> Result<(), JournalError> {
        let begun = Instant::now();
        let asked = inner.core.take_request()?;
        self.looked = inner.core.clock.wall();
        if self.segment.is_none() {
            let from = match self.sync {
                // What is written outlives its writer. It is synced, since nobody will come back to it.
                JournalSync::System if self.failed == 0 => {
                    sync_all(&self.directory).map_err(self.io())?;
                    header::JOURNAL_WRITTEN
                }
                // After a sync that failed nobody knows what is left of what was written.
                _ => header::JOURNALED,
            };
            let from = inner.core.region.load_count(from, Acquire)?;
            self.begin_segment(inner, from)?;
            self.collector = Collector::after(from);
            let synced = inner.core.region.load(header::JOURNAL_TIME, Relaxed)?;
            self.collector.since = synced.max(inner.core.geometry.created);
        }
        let mut is_new = false;
        let head = inner.core.visible_head()?;
        while self.collector.log.passed() < head {
            is_new = true;
            self.write_group(inner, head)?;
            if self.sync != JournalSync::System {
                self.sync(inner, begun)?;
            }
        }
        self.collector.since = self.looked;
        if asked {
            self.sync(inner, begun)?;
        }
        self.note_based(inner)?;
        self.roll(inner, begun)?;
        let is_unlimited = inner.core.region.load(header::JOURNAL_LIMIT, Relaxed)? == 0;
        if is_new || asked || is_unlimited {
            inner.core.note_turn(self.limit(inner)?)?;
        }
        Ok(())
    }

    fn write_group(&mut self, inner: &Inner, head: u64) -> Result<(), JournalError> {
        let fail = self.io();
        let Collected::Group(last) = self.collector.collect(inner, head)? else {
            return self.begin_chain(inner);
        };
        if self.segment.as_ref().is_some_and(|segment| segment.size >= SEGMENT_MAX) {
            // Whatever is in the last one is before it.
            self.sync_segment()?;
            let after = inner.core.region.load_count(header::JOURNAL_WRITTEN, Relaxed)?;
            self.begin_segment(inner, after)?;
        }
        let Some(segment) = &mut self.segment else { return Ok(()) };
        let group = self.collector.group.seal(&segment.header, last, inner.core.clock.wall());
        segment.append(group).map_err(fail)?;
        let region = &inner.core.region;
        region.store(header::JOURNAL_WRITTEN, last, Release)?;
        let bytes = region.load(header::JOURNAL_BYTES, Relaxed)?;
        Ok(region.store(header::JOURNAL_BYTES, bytes + group.len() as u64, Relaxed)?)
    }

    fn sync_segment(&mut self) -> Result<(), JournalError> {
        let fail = self.io();
        self.segment.as_mut().map_or(Ok(()), Segment::sync).map_err(fail)
    }

    /// Has on the disk what was written, and tells who waits.
    fn sync(&mut self, inner: &Inner, begun: Instant) -> Result<(), JournalError> {
        let was_synced = self.segment.as_ref().is_none_or(Segment::is_synced);
        self.sync_segment()?;
        self.note_based(inner)?;
        if !was_synced {
            let region = &inner.core.region;
            let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            region.store(header::JOURNAL_TOOK, took, Relaxed)?;
            region.store(header::JOURNAL_TIME, self.looked, Relaxed)?;
            inner.core.note_turn(self.limit(inner)?)?;
        }
        Ok(())
    }

    /// What is on the disk is durable, once there is a snapshot that its chain builds on.
    fn note_based(&self, inner: &Inner) -> Result<(), JournalError> {
        let region = &inner.core.region;
        if !self.segment.as_ref().is_some_and(Segment::is_synced) {
            return Ok(());
        }
        let passed = self.collector.log.passed();
        if !inner.journal_waits_for_snapshot()?
            && passed > region.load_count(header::JOURNALED, Relaxed)?
        {
            inner.core.note_journaled(passed)?;
        }
        Ok(())
    }

    /// After a snapshot: goes on in a new segment, so that the last one can go.
    fn roll(&mut self, inner: &Inner, begun: Instant) -> Result<(), JournalError> {
        let saved = inner.core.region.load_count(header::SNAPSHOT_REVISION, Acquire)?;
        if saved == self.rolled {
            return Ok(());
        }
        self.sync(inner, begun)?;
        if self.segment.as_ref().is_some_and(|segment| !segment.is_empty()) {
            self.begin_segment(inner, self.collector.log.passed())?;
        }
        self.rolled = saved;
        Ok(())
    }

    /// The position of the log beyond which writers wait: half a ring from where it is read on.
    fn limit(&self, inner: &Inner) -> Result<u64, BadRegion> {
        let core = &inner.core;
        let head = core.visible_head()?;
        let read_on = match self.collector.log.position() {
            Some(position) => position,
            None if self.collector.log.passed() >= head => {
                core.region.load_count(header::LOG_TAIL, Acquire)?
            }
            None => match core.log_find(self.collector.log.passed() + 1)? {
                Ok(position) => position,
                // It is gone already: there is nothing to wait for.
                Err(_) => return Ok(0),
            },
        };
        Ok(read_on + core.geometry.log_size / 2)
    }

    /// How long to sleep after a turn that found something, or nothing.
    fn pause(&self) -> Duration {
        match self.sync {
            JournalSync::Every(interval) => interval,
            JournalSync::Always | JournalSync::System => IDLE,
        }
    }

    /// After a failure: leaves the segment, and lets writers go on.
    pub(super) fn fail(&mut self, inner: &Inner, error: &JournalError) -> Duration {
        self.failed += 1;
        self.segment = None;
        tracing::warn!(%error, bus = %inner.path.display(), "the journal failed");
        let region = &inner.core.region;
        let _noted = region.store(header::JOURNAL_FAILURES, self.failed.into(), Release);
        let _noted = inner.core.note_turn(0);
        RETRY.saturating_mul(1 << self.failed.min(10)).min(RETRY_MAX)
    }
}

#[cfg(test)]
impl Journaler {
    /// A turn, and what is removed after it.
    pub(super) fn turn_and_clean(&mut self, inner: &Inner) -> Result<(), JournalError> {
        self.turn(inner)?;
        super::clean::clean(inner, &self.directory).map(drop)
    }
}

/// The thread that keeps the journal.
#[derive(Debug)]
pub(crate) struct JournalThread {
    stop: Arc<Stop>,
    thread: Option<std::thread::JoinHandle<()>>,
    inner: Weak<Inner>,
}

impl JournalThread {
    /// Begins to keep the journal; `None` where the bus has none, or somebody still ends to keep it.
    pub(crate) fn start(inner: &Arc<Inner>) -> Option<Self> {
        let (directory, sync) = inner.saving.journaling.place.clone()?;
        if !inner.core.geometry.has_journal() {
            return None;
        }
        // A destroyer waits for it.
        if !try_lock_byte(&inner.seat()?.file, JOURNAL_BYTE).unwrap_or(false) {
            return None;
        }
        // Under the claim: whoever builds the bus anew had it, and this is no longer the bus.
        let claim = Claim::take(&directory).unwrap_or_else(|error| {
            inner.note_unclaimed(&error);
            None
        });
        let Some(claim) = claim.filter(|_| !inner.files_are_gone()) else {
            let _unlocked = unlock_byte(&inner.seat()?.file, JOURNAL_BYTE);
            return None;
        };
        let stop = Arc::new(Stop::default());
        let (weak, told) = (Arc::downgrade(inner), Arc::clone(&stop));
        let run = move || {
            let cleaner = Cleaner::new(directory.clone());
            run(&weak, &told, Journaler::new(directory, sync), cleaner);
            drop(claim);
        };
        let thread = std::thread::Builder::new().name("membus-journal".into()).spawn(run).ok()?;
        Some(Self { stop, thread: Some(thread), inner: Arc::downgrade(inner) })
    }
}

impl Drop for JournalThread {
    fn drop(&mut self) {
        self.stop.want();
        if let Some(inner) = self.inner.upgrade() {
            let _asked = inner.core.ask_journal();
        }
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn run(weak: &Weak<Inner>, stop: &Stop, journaler: Journaler, mut cleaner: Cleaner) {
    keep(weak, stop, journaler, &mut cleaner);
    drop(cleaner);
    if let Some(seat) = weak.upgrade().as_ref().and_then(|inner| inner.seat()) {
        let _unlocked = unlock_byte(&seat.file, JOURNAL_BYTE);
    }
}

fn keep(weak: &Weak<Inner>, stop: &Stop, mut journaler: Journaler, cleaner: &mut Cleaner) {
    loop {
        let Some(inner) = weak.upgrade() else { return };
        let is_last = stop.is_wanted();
        if inner.is_gone() {
            return;
        }
        if is_last {
            // A clean end: what was written is synced, whoever asks for it.
            let _asked = inner.core.ask_journal();
        }
        let mut pause = journaler.pause();
        match journaler.turn(&inner) {
            Ok(()) => {
                journaler.failed = 0;
                let region = &inner.core.region;
                if region.load(header::JOURNAL_FAILURES, Relaxed) != Ok(0) {
                    let _noted = region.store(header::JOURNAL_FAILURES, 0, Release);
                }
                if !is_last {
                    cleaner.begin(&inner);
                }
            }
            Err(error) => pause = journaler.fail(&inner, &error),
        }
        if is_last {
            return;
        }
        inner.sleep_until_asked(pause, journaler.failed > 0, stop);
    }
}

impl Inner {
    /// The directory can't be claimed. It is tried again and again: told once, and counted for health.
    fn note_unclaimed(&self, error: &io::Error) {
        let failures = self.core.region.load(header::JOURNAL_FAILURES, Relaxed).unwrap_or(0);
        if failures == 0 {
            tracing::warn!(%error, bus = %self.path.display(), "the journal can't be begun");
        }
        let _noted = self.core.region.store(header::JOURNAL_FAILURES, failures + 1, Release);
    }

    /// Sleeps until somebody asks for a turn, or a pause is over. After a failure requests do not hurry it.
    fn sleep_until_asked(&self, pause: Duration, has_failed: bool, stop: &Stop) {
        let Ok(ask) = self.core.region.half(header::JOURNAL_ASK) else { return };
        let begun = Instant::now();
        while !stop.is_wanted() && !self.is_gone() {
            let left = pause.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return;
            }
            if ask.load(Relaxed) != 0 {
                if !has_failed {
                    return;
                }
                std::thread::sleep(left.min(Duration::from_millis(50)));
                continue;
            }
            // Who asked may have died before the wake-up, and those after it find it asked already.
            futex::wait(ask, 0, left.min(IDLE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::Place;
    use super::*;
    use crate::Durability;

    /// Promise: a clean end syncs, also where nobody asks and the system does it else.
    /// Plant: the last turn is one like all.
    #[test]
    fn a_clean_end_syncs() {
        let place = Place::new();
        let options = place.options().journal(JournalSync::System);
        let bus = options.durability(Durability::Visible).create_at(place.bus()).unwrap();
        bus.set("k", &1).unwrap();
        let (directory, sync) = bus.inner.saving.journaling.place.clone().unwrap();
        let (weak, stop) = (Arc::downgrade(&bus.inner), Stop::default());
        stop.want();
        let mut cleaner = Cleaner::new(directory.clone());
        keep(&weak, &stop, Journaler::new(directory, sync), &mut cleaner);
        let region = &bus.inner.core.region;
        assert_eq!(region.load(header::JOURNALED, Acquire), Ok(bus.inner.core.head().unwrap()));
    }
}
