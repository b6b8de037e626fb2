//! How a snapshot goes: how fast, who hears how far it is, and who may end it.

use super::Inner;
use super::pace::{OVERHEAD, Pace};
use crate::backend::{Progress, Stage};
use crate::snapshot_entry::SnapshotEntry;
use std::fmt;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// After so many entries, or so many bytes, it is told how far it is.
const ENTRIES: u64 = 1024;
const BYTES: u64 = 1 << 20;
/// Waits shorter than that are added up.
const WAIT_MIN: Duration = Duration::from_millis(2);
/// How often a wait looks whether it is wanted still.
const LOOK: Duration = Duration::from_millis(20);

/// Hears how far it is, and says whether to go on.
type Told<'a> = dyn FnMut(&Progress) -> ControlFlow<()> + 'a;

/// How a snapshot, a backup or a restore is to go.
///
/// ```
/// # use membus::{Bus, SnapshotOptions};
/// # use std::ops::ControlFlow;
/// # let directory = tempfile::tempdir().unwrap();
/// # let options = Bus::options().directory(directory.path()).state(directory.path().join("state"));
/// # let bus = options.open("shop")?;
/// bus.set("stock", &12)?;
/// let mut told = |progress: &membus::Progress| {
///     println!("{} of {:?} entries", progress.entries, progress.total);
///     ControlFlow::Continue(())
/// };
/// bus.snapshot_with(SnapshotOptions::new().rate(50 << 20).progress(&mut told))?;
/// # Ok::<(), membus::Error>(())
/// ```
#[derive(Default)]
pub struct SnapshotOptions<'a> {
    rate: u64,
    told: Option<&'a mut Told<'a>>,
}

impl fmt::Debug for SnapshotOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SnapshotOptions");
        shown.field("rate", &self.rate).field("progress", &self.told.is_some()).finish()
    }
}

impl<'a> SnapshotOptions<'a> {
    /// By full speed, and nobody hears of it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// At most so many bytes of entries a second, as [`Options::snapshot_rate`](crate::Options::snapshot_rate) has it; 0: by full
    /// speed.
    #[must_use]
    pub fn rate(mut self, bytes_per_second: u64) -> Self {
        self.rate = bytes_per_second;
        self
    }
    /// Is told how far it is: at the beginning of each stage, and after each 1,024 entries or 1 MiB; about fifty times a
    /// second while it waits for its rate, or for another snapshot. Under no lock. `ControlFlow::Break` ends it with
    /// [`SnapshotError::GivenUp`](crate::SnapshotError::GivenUp): what was there before stays.
    #[must_use]
    pub fn progress(
        mut self,
        told: &'a mut (dyn FnMut(&Progress) -> ControlFlow<()> + 'a),
    ) -> Self {
        self.told = Some(told);
        self
    }
}

/// A snapshot that goes on.
pub(super) struct Going<'a> {
    told: Option<&'a mut Told<'a>>,
    is_unwanted: &'a dyn Fn() -> bool,
    rate: u64,
    pace: Option<Pace>,
    begun: Instant,
    at: Progress,
    /// How far it was when it was told last.
    last: Progress,
    /// Somebody has said to end it.
    is_over: bool,
}

impl<'a> Going<'a> {
    /// As a caller said.
    pub(super) fn of(options: SnapshotOptions<'a>) -> Self {
        Self::new(options.rate, options.told, &|| false)
    }

    /// At this rate, until it is unwanted.
    pub(super) fn until(rate: u64, is_unwanted: &'a dyn Fn() -> bool) -> Self {
        Self::new(rate, None, is_unwanted)
    }

    fn new(rate: u64, told: Option<&'a mut Told<'a>>, is_unwanted: &'a dyn Fn() -> bool) -> Self {
        let (at, last) = Default::default();
        let (pace, begun, is_over) = (None, Instant::now(), false);
        Self { told, is_unwanted, rate, pace, begun, at, last, is_over }
    }

    /// A stage begins. Whether it is wanted.
    pub(super) fn begin(&mut self, stage: Stage, total: Option<u64>) -> bool {
        self.at = Progress { stage, total, ..Progress::default() };
        self.begun = Instant::now();
        self.pace = Pace::new(self.rate);
        self.is_wanted()
    }

    /// What it is asked for next goes by full speed.
    pub(super) fn hurry(&mut self) {
        (self.rate, self.pace) = (0, None);
    }

    /// Whether it is to go on. Tells how far it is.
    pub(super) fn is_wanted(&mut self) -> bool {
        self.last = self.at;
        self.is_over |= (self.is_unwanted)()
            || self.told.as_mut().is_some_and(|told| told(&self.at).is_break());
        !self.is_over
    }

    /// Whether somebody has said to end it.
    pub(super) fn is_over(&mut self) -> bool {
        self.is_over |= (self.is_unwanted)();
        self.is_over
    }

    /// An entry has gone by: waits until the next one may. Whether it is to go on.
    pub(super) fn pass(&mut self, entry: &SnapshotEntry, bus: &Inner) -> bool {
        let size = (entry.key.len() + entry.value.len()) as u64;
        self.at.entries += 1;
        self.at.bytes += size;
        let (at, last) = (&self.at, &self.last);
        let is_news = at.entries - last.entries >= ENTRIES || at.bytes - last.bytes >= BYTES;
        if is_news && !self.is_wanted() {
            return false;
        }
        let Some(pace) = &mut self.pace else { return true };
        let bytes = size + entry.who.len() as u64 + OVERHEAD;
        let now = self.begun.elapsed();
        let wait = pace.spend(bytes, now);
        wait < WAIT_MIN || self.wait_until(now.saturating_add(wait), bus)
    }

    /// Waits, unless somebody needs what this has.
    fn wait_until(&mut self, due: Duration, bus: &Inner) -> bool {
        loop {
            let left = due.saturating_sub(self.begun.elapsed());
            if left.is_zero() {
                return true;
            }
            if !self.is_wanted() || bus.is_gone() {
                return false;
            }
            // It gave way to a writer: the sooner that is found, the sooner it begins anew.
            let is_lost = self.at.stage == Stage::Saving && !bus.core.is_snapshot_on();
            if is_lost || bus.is_snapshot_awaited() {
                self.hurry();
                return true;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }
}
