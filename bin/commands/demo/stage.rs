//! The course of the demo: two lives of one bus, with deaths in both.

use super::crew::{Crew, Watcher};
use super::job::{COUNT, DONE, Ground, JOB, Piece, TODO, behind, key};
use super::plan::Plan;
use super::progress::Progress;
use super::report::{Comparison, Rebuilt, Report};
use super::words::count_words;
use crate::commands::check;
use crate::error::Failure;
use crate::halt::Halt;
use membus::{Batch, Bus, Event, ReadBus, SnapshotInfo, Watch};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Per cent of the pieces after which the snapshot is taken, and the region destroyed.
const SNAPSHOT_AT: usize = 35;
const DESTROY_AT: usize = 60;
/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a notification is waited for before the processes are looked at.
const LOOK: Duration = Duration::from_millis(5);
/// A kill follows its moment after up to so many milliseconds, so that it falls anywhere.
const JITTER_MS: u64 = 12;
/// How long a place stays free after a death: long enough for the keeper to bury the dead.
const MOURNING: Duration = Duration::from_millis(150);
/// How long the last dead are waited for.
const BURIED: Duration = Duration::from_secs(1);
/// Notifications that are read before the processes are looked at.
const EVENTS_MAX: usize = 256;
/// Pieces that are entered by one batch.
const ENTRIES: usize = 4096;
/// A directory smaller than this is worked through more slowly, or nobody could be killed at work.
const SMALL: u64 = 4 << 20;
/// How long a worker's share of a small directory takes at the least.
const SMALL_TAKES: Duration = Duration::from_secs(3);

/// The demo on its way. Fields are dropped in this order: processes first, directories last.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    plan: &'a Plan,
    halt: &'a Halt,
    workers: usize,
    crew: Crew,
    watcher: Watcher,
    ground: Ground,
    /// Of lives that are over.
    recovered: u64,
    burials: u64,
    operations: u64,
    took: Duration,
}

/// One life of the bus.
struct Life {
    bus: Bus,
    watch: Watch,
    progress: Progress,
    first_revision: u64,
}

impl<'a> Stage<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        halt: &'a Halt,
        workers: usize,
        ground: Ground,
    ) -> Result<Self, Failure> {
        let pieces = plan.pieces.len();
        let share = SMALL_TAKES * u32::try_from(workers).unwrap_or(u32::MAX)
            / u32::try_from(pieces).unwrap_or(u32::MAX);
        let pace = if plan.bytes < SMALL { share.min(SMALL_TAKES / 4) } else { Duration::ZERO };
        let watcher = Watcher::start(&ground.site, plan.bytes, pieces)?;
        Ok(Self {
            plan,
            halt,
            workers,
            crew: Crew::new(&ground.site, pace),
            watcher,
            ground,
            recovered: 0,
            burials: 0,
            operations: 0,
            took: Duration::ZERO,
        })
    }

    /// All of it.
    pub(super) fn play(mut self, kills: usize) -> Result<Report<'a>, Failure> {
        let pieces = self.plan.pieces.len();
        let first_kills = kills.div_ceil(2);
        let mut life = self.begin()?;
        self.fill(&life.bus)?;
        self.hire_all()?;
        let (begun, snapshot_at) = (Instant::now(), pieces * SNAPSHOT_AT / 100);
        let mut moments = moments(first_kills, 0, pieces * DESTROY_AT / 100);
        self.work(&mut life, snapshot_at, &mut moments)?;
        let snapshot = life.bus.snapshot()?;
        self.work(&mut life, pieces * DESTROY_AT / 100, &mut moments)?;
        self.crew.dismiss()?;
        self.took += begun.elapsed();

        let done_before = self.catch_up(&mut life)?;
        self.end(life)?;
        let (mut life, rebuilt) = self.rebuild(done_before, &snapshot)?;
        self.hire_all()?;
        let (begun, done) = (Instant::now(), rebuilt.done_after);
        let missed = first_kills - (self.crew.kills as usize).min(first_kills);
        let mut moments = self::moments(kills - first_kills + missed, done, pieces);
        self.work(&mut life, pieces, &mut moments)?;
        self.crew.dismiss()?;
        self.took += begun.elapsed();
        self.conclude(life, snapshot, rebuilt)
    }

    /// Opens the bus, making it or building it anew; the demo is its keeper.
    fn begin(&mut self) -> Result<Life, Failure> {
        let site = &self.ground.site;
        let bus = site.options("demo").keeper(true).open_at(&site.bus)?;
        self.watcher.tell("attach")?;
        let first_revision = bus.info()?.revision;
        let watch = bus.watch(JOB)?;
        Ok(Life { bus, watch, progress: Progress::default(), first_revision })
    }

    fn fill(&self, bus: &Bus) -> Result<(), Failure> {
        let numbered: Vec<_> = self.plan.pieces.iter().enumerate().collect();
        for some in numbered.chunks(ENTRIES) {
            let mut batch = Batch::new();
            for (number, cut) in some {
                let Some(text) = self.plan.texts.get(cut.text) else { continue };
                let id = format!("{number:08}");
                batch.set(key(TODO, &id), &Piece::new(&text.path, cut.start, cut.len))?;
            }
            bus.commit(&batch)?;
        }
        Ok(())
    }

    fn hire_all(&mut self) -> Result<(), Failure> {
        for _ in 0..self.workers {
            self.crew.hire()?;
        }
        Ok(())
    }

    /// Until so many pieces are done; at its moments somebody dies, and somebody new comes.
    fn work(
        &mut self,
        life: &mut Life,
        until: usize,
        moments: &mut Vec<usize>,
    ) -> Result<(), Failure> {
        let (mut last, mut doomed, mut free) = (Instant::now(), Vec::new(), VecDeque::new());
        while life.progress.done() < until {
            self.halt.check()?;
            if read_some(life)? {
                last = Instant::now();
            }
            self.crew.look()?;
            if last.elapsed() > PATIENCE {
                let done = life.progress.done();
                return Err(Failure::Demo(format!("nothing happens any more; {done} pieces done")));
            }
            while moments.pop_if(|at| *at <= life.progress.done()).is_some() {
                let jitter = Duration::from_millis(fastrand::u64(0..JITTER_MS));
                doomed.push(Instant::now() + jitter);
            }
            let waiting = doomed.len();
            doomed.retain(|at| *at > Instant::now());
            for _ in doomed.len()..waiting {
                if self.crew.kill_one(&life.progress.at_work()) {
                    free.push_back(Instant::now() + MOURNING);
                }
            }
            while free.front().is_some_and(|at| *at <= Instant::now()) {
                free.pop_front();
                self.crew.hire()?;
            }
        }
        Ok(())
    }

    /// Reads what was still notified, and gives how many pieces are done.
    fn catch_up(&self, life: &mut Life) -> Result<usize, Failure> {
        while let Some(event) = life.watch.try_recv()? {
            note(life, &event)?;
        }
        Ok(life.progress.done())
    }

    /// Detaches everybody; then nobody is left, or the bus could not be destroyed.
    fn end(&mut self, life: Life) -> Result<(), Failure> {
        self.close(&life)?;
        self.watcher.tell("detach")?;
        drop(life);
        let site = &self.ground.site;
        site.options("demo").destroy_at(&site.bus, false)?;
        if site.bus.exists() {
            return Err(Failure::Demo(format!("{} is still there", site.bus.display())));
        }
        Ok(())
    }

    /// Adds what a life saw, its last burials too.
    fn close(&mut self, life: &Life) -> Result<(), Failure> {
        let begun = Instant::now();
        while begun.elapsed() < BURIED && life.bus.members()?.iter().any(|member| !member.alive) {
            std::thread::sleep(LOOK);
        }
        let info = life.bus.info()?;
        self.operations += info.revision - life.first_revision;
        self.burials += info.operations.burials;
        self.recovered += life.progress.recovered;
        Ok(())
    }

    /// Opens the bus again: from the snapshot, since there is nothing else.
    fn rebuild(
        &mut self,
        done_before: usize,
        snapshot: &SnapshotInfo,
    ) -> Result<(Life, Rebuilt), Failure> {
        let begun = Instant::now();
        let mut life = self.begin()?;
        let took = begun.elapsed();
        let entries = life.bus.info()?.entries;
        if entries != snapshot.entries {
            let wanted = snapshot.entries;
            let text = format!("the snapshot has {wanted} entries, the rebuilt bus {entries}");
            return Err(Failure::Demo(text));
        }
        let done_after = self.catch_up(&mut life)?;
        Ok((life, Rebuilt { took, done_before, done_after }))
    }

    /// Compares, measures, and leaves nothing behind.
    fn conclude(
        mut self,
        mut life: Life,
        snapshot: SnapshotInfo,
        rebuilt: Rebuilt,
    ) -> Result<Report<'a>, Failure> {
        self.catch_up(&mut life)?;
        self.close(&life)?;
        let begun = Instant::now();
        let plain = plain_count(self.plan, self.halt)?;
        let plain_took = begun.elapsed();
        let comparison = compare(&life.bus, &plain)?;
        let marks = life.bus.keys(DONE)?.len();
        if marks != self.plan.pieces.len() {
            return Err(Failure::Demo(format!("{marks} marks of {}", self.plan.pieces.len())));
        }
        let findings = check::check(&self.ground.site.bus)?.findings;
        if comparison.wrong > 0
            && let Some(path) = self.plan.changed()
        {
            return Err(super::plan::changed(path));
        }
        let latency = self.watcher.end()?;
        drop(life);
        self.ground.remove()?;
        Ok(Report {
            plan: self.plan,
            comparison,
            findings,
            workers: self.workers,
            kills: self.crew.kills,
            recovered: self.recovered,
            burials: self.burials,
            operations: self.operations,
            took: self.took,
            plain_took,
            latency,
            snapshot,
            rebuilt,
        })
    }
}

/// Reads what was notified, waiting for it a little; gives whether there was anything.
fn read_some(life: &mut Life) -> Result<bool, Failure> {
    let mut next = life.watch.recv_timeout(LOOK)?;
    let is_any = next.is_some();
    for _ in 0..EVENTS_MAX {
        let Some(event) = next else { break };
        note(life, &event)?;
        next = life.watch.try_recv()?;
    }
    if let Some(event) = next {
        note(life, &event)?;
    }
    Ok(is_any)
}

/// A watch that fell behind lists anew.
fn note(life: &mut Life, event: &Event) -> Result<(), Failure> {
    if matches!(event, Event::Lagged { .. }) {
        life.watch = life.bus.watch(JOB)?;
        life.progress.forget_claims();
    }
    life.progress.note(event);
    Ok(())
}

/// When somebody dies: after so many pieces, the last moment first.
fn moments(kills: usize, from: usize, to: usize) -> Vec<usize> {
    let span = to.saturating_sub(from);
    let (low, high) = (from + span / 20, from + (span * 9 / 10).max(span / 20 + 1));
    let mut moments: Vec<_> = (0..kills).map(|_| fastrand::usize(low..high)).collect();
    moments.sort_unstable_by(|one, two| two.cmp(one));
    moments
}

/// The same words, without a bus.
fn plain_count(plan: &Plan, halt: &Halt) -> Result<HashMap<String, u64>, Failure> {
    let mut counts = HashMap::new();
    for text in &plan.texts {
        halt.check()?;
        count_words(&text.read()?, &mut counts);
    }
    Ok(counts)
}

/// Word by word, in both directions.
fn compare(bus: &Bus, plain: &HashMap<String, u64>) -> Result<Comparison, Failure> {
    let mut found = Comparison::default();
    let mut differs = |word: &str, here: Option<i64>, plain: Option<u64>| {
        found.wrong += 1;
        let show = |count: Option<i128>| count.map_or("none".to_owned(), |count| count.to_string());
        let (here, plain) = (show(here.map(i128::from)), show(plain.map(i128::from)));
        found.example.get_or_insert(format!("`{word}`: {here} on the bus, {plain} in the files"));
    };
    let mut seen = 0;
    for entry in bus.scan_entries(COUNT) {
        let entry = entry?;
        let Some(word) = behind(COUNT, &entry.key) else {
            differs(&entry.key.to_string(), entry.counter(), None);
            continue;
        };
        let (here, expected) = (entry.counter(), plain.get(word).copied());
        seen += u64::from(expected.is_some());
        if here.and_then(|here| u64::try_from(here).ok()) != expected {
            differs(word, here, expected);
        }
    }
    if seen != plain.len() as u64 {
        for (word, count) in plain {
            if !bus.contains(key(COUNT, word))? {
                differs(word, None, Some(*count));
            }
        }
    }
    found.words = plain.values().sum();
    found.distinct = plain.len() as u64;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: a word that is missing, foreign or miscounted makes the counts not equal.
    /// Plant: without the second loop, the missing word is not found.
    #[test]
    fn every_difference_is_found() {
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        let options = Bus::options().keeper(false).state(place.path().join("state"));
        let bus = options.open_at(place.path().join("bus")).unwrap();
        let plain = HashMap::from([("one".to_owned(), 1), ("two".to_owned(), 2)]);
        bus.add("count/one", 1).unwrap();
        let wrong = || compare(&bus, &plain).unwrap().wrong;
        assert_eq!(wrong(), 1, "a word is missing");
        bus.add("count/two", 2).unwrap();
        bus.add("other", 2).unwrap();
        let found = compare(&bus, &plain).unwrap();
        assert_eq!(found, Comparison { words: 3, distinct: 2, wrong: 0, example: None });
        bus.add("count/two", 1).unwrap();
        let found = compare(&bus, &plain).unwrap();
        assert_eq!(found.example.as_deref(), Some("`two`: 3 on the bus, 2 in the files"));
        bus.add("count/three", 1).unwrap();
        bus.set_bytes(b"count/\xff", b"").unwrap();
        assert_eq!(wrong(), 3);
    }

    /// Promise: somebody dies for each kill that was asked for, wherever the work stands.
    /// Plant: without the `max`, a span of one piece has no moment.
    #[test]
    fn moments_lie_within_the_work() {
        for (from, to) in [(0, 1), (0, 0), (7, 7), (35, 100), (0, 100_000)] {
            let moments = moments(50, from, to);
            assert_eq!(moments.len(), 50);
            assert!(moments.is_sorted_by(|one, two| one >= two));
            assert!(moments.iter().all(|at| (from..to.max(from + 1)).contains(at)), "{from}..{to}");
        }
    }
}
