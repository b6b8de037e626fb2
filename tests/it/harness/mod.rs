//! What every test here stands on: a place of its own in `/dev/shm`, polls that end, seeds that are
//! told, and other processes as actors.
//!
//! 1. Nothing has a fixed path; what a [`Place`] holds is gone with it.
//! 2. Nothing sleeps in the hope that something has happened: [`eventually`] looks, and says what it
//!    looked for when it gives up.
//! 3. A randomised test takes its seed from `MEMBUS_IT_SEED`, and tells it when it fails.
//! 4. A test that the machine can't do says so by [`skipped`].

pub(crate) mod actor;
pub(crate) mod layout;
pub(crate) mod os;
pub(crate) mod part;
#[path = "../../support/rng.rs"]
mod rng;

pub(crate) use rng::Rng;

use membus::{Bus, Change, CheckReport, Cursor, Event, Options, Persist, Watch};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything is waited for before a test has failed. No promise: a bound for hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// How long a check is made again that sees a keeper at work.
const CHECKED_FOR: Duration = Duration::from_secs(5);
/// Smallest maximum of a bus that leaves room to grow, to double and to be full.
pub(crate) const SMALL: u64 = 16 << 20;

/// A directory with room for one bus `bus`, what is kept of it, and its images.
pub(crate) struct Place {
    directory: Option<TempDir>,
    path: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::below(Path::new("/dev/shm"))
    }

    pub(crate) fn below(parent: &Path) -> Self {
        let directory = tempfile::Builder::new().prefix("membus-it-").tempdir_in(parent).unwrap();
        Self { path: directory.path().to_owned(), directory: Some(directory) }
    }

    /// The place that another process made.
    pub(crate) fn of(path: PathBuf) -> Self {
        Self { directory: None, path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    pub(crate) fn bus(&self) -> PathBuf {
        self.path.join("bus")
    }
    pub(crate) fn region(&self) -> PathBuf {
        self.bus().join("region")
    }
    pub(crate) fn state(&self) -> PathBuf {
        self.path.join("state")
    }
    pub(crate) fn images(&self) -> PathBuf {
        self.path.join("images")
    }

    /// Images go to the place's own directory; nothing else is said.
    pub(crate) fn options(&self) -> Options {
        Bus::options().state(self.state()).persist(Persist::Image(self.images()))
    }

    /// The same for a bus that takes no more than [`SMALL`].
    pub(crate) fn small(&self) -> Options {
        self.options().capacity(1 << 20).max_capacity(SMALL)
    }

    #[track_caller]
    pub(crate) fn open(&self) -> Bus {
        self.options().open_at(self.bus()).unwrap()
    }

    #[track_caller]
    pub(crate) fn open_small(&self) -> Bus {
        self.small().open_at(self.bus()).unwrap()
    }

    /// A handle that hosts no keeper and creates nothing.
    #[track_caller]
    pub(crate) fn attach(&self) -> Bus {
        self.options().keeper(false).attach_at(self.bus()).unwrap()
    }

    /// Image files, the newest first.
    pub(crate) fn image_files(&self) -> Vec<PathBuf> {
        let mut found: Vec<_> = tree(&self.images())
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "membus"))
            .collect();
        found.sort_unstable_by(|one, two| two.cmp(one));
        found
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(directory) = self.directory.take() else { return };
        let closed = directory.close();
        if !std::thread::panicking() {
            closed.unwrap();
            assert!(!self.path.exists(), "somebody made {} anew", self.path.display());
        }
    }
}

/// Every path below a directory.
pub(crate) fn tree(directory: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    found
}

/// Nothing is wrong with a bus at which nobody writes, and no lock is held. A keeper may be at work: what
/// it takes for a moment it gives back.
#[track_caller]
pub(crate) fn assert_whole(bus: &Bus) {
    assert_report(|| bus.check());
}

/// The same by a check's own eyes.
#[track_caller]
pub(crate) fn assert_report(mut check: impl FnMut() -> CheckReport) {
    let mut report = check();
    let begun = Instant::now();
    // What is wrong stays wrong.
    while (report.locks_held > 0 || !report.is_clean()) && begun.elapsed() < CHECKED_FOR {
        report = check();
    }
    assert!(report.is_clean(), "{:#?}", report.findings);
    assert_eq!(report.locks_held, 0, "locks are held: {report:?}");
}

/// Looks again and again until there is something, or patience ends.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: waited in vain for {PATIENCE:?}");
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Members that live, and those that are being buried: whoever buries holds the dead one's lock.
pub(crate) fn living(bus: &Bus) -> usize {
    bus.members().unwrap().iter().filter(|member| member.alive).count()
}

/// The next event of a watch, which must come.
#[track_caller]
pub(crate) fn next(watch: &mut Watch) -> Event {
    match watch.recv_timeout(PATIENCE).unwrap() {
        Some(event) => event,
        None => panic!("no event in {PATIENCE:?}"),
    }
}

/// The next event, which must be a change.
#[track_caller]
pub(crate) fn next_change(watch: &mut Watch) -> Change {
    match next(watch) {
        Event::Change(change) => change,
        other => panic!("{other:?}, not a change"),
    }
}

/// The cursor at which a watch says that it has caught up, which must come next.
#[track_caller]
pub(crate) fn caught_up(watch: &mut Watch) -> Cursor {
    match next(watch) {
        Event::CaughtUp(cursor) => cursor,
        other => panic!("{other:?}, not caught up"),
    }
}

/// A watch of all keys, from the next change on.
#[track_caller]
pub(crate) fn from_now(bus: &Bus) -> Watch {
    let mut watch = bus.watch_from("", Cursor::NOW).unwrap();
    caught_up(&mut watch);
    watch
}

/// Figures and skips: seen whether the test passes or not.
pub(crate) fn tell(line: &str) {
    // Who reads it may be gone.
    let _told = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Says what a test proved, in the form that `tests/release` adds up.
pub(crate) fn earned(count: u64, what: &str) {
    tell(&format!("earned {count} {what}"));
}

/// Says that the machine can't do what a test needs.
pub(crate) fn skipped(test: &str, reason: &str) {
    tell(&format!("skipped: {test}: {reason}"));
}

/// Tests that load both cores run one after another.
pub(crate) fn heavy() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number of the environment, for longer runs.
pub(crate) fn parameter(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

impl Rng {
    pub(crate) fn micros(&mut self, end: u64) -> Duration {
        Duration::from_micros(self.below(end))
    }
}

/// The seed of a randomised test: told when the test fails.
pub(crate) struct Seed {
    test: &'static str,
    seed: u64,
}

impl Seed {
    pub(crate) fn of(test: &'static str) -> Self {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let fresh = Rng::new(clock.as_nanos() as u64).next() >> 16;
        Self { test, seed: parameter("MEMBUS_IT_SEED", fresh) }
    }
    pub(crate) fn rng(&self) -> Rng {
        Rng::new(self.seed)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tell(&format!("{}: repeat it with MEMBUS_IT_SEED={}", self.test, self.seed));
        }
    }
}

/// The part `of` (0.0 to 1.0) of sorted samples.
pub(crate) fn quantile(samples: &mut [Duration], of: f64) -> Duration {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1);
    samples.get((last as f64 * of).round() as usize).copied().unwrap_or_default()
}

/// `p50 …, p99 …, longest …` of some samples.
pub(crate) fn spread(samples: &mut [Duration]) -> String {
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(|of| quantile(samples, of));
    format!("{} samples, p50 {p50:?}, p99 {p99:?}, longest {most:?}", samples.len())
}
