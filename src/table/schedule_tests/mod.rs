//! Random schedules of whole operations, with deaths.
//!
//! Three writers, a reader, one who scans, and whoever buries the dead do random operations on one region; shuttle
//! says at each of their accesses who goes on. A writer may die at any store; the others go on. In the
//! end the log must tell one history which all that was answered agrees with ([`history`]), the region
//! must hold what that history ends with, and nothing may be wrong or left.
//!
//! Size: `MEMBUS_SCHEDULES` (20,000), of `MEMBUS_SEED`; a failure names its schedule, and `MEMBUS_PLAN` repeats that one.
//!
//! Plants, each seen to fail here: no repair after a takeover, no `release_lost`, no `died := head`, spares
//! that a repair keeps, `READY` before the changes, no store of the head, the head before the changes, slots
//! emptied before it, decisions that are not looked at again, a reader's copy or slot that is not looked at
//! again, one that takes what is too young for absent, snapshots that frees do not regard or that take what
//! was cleared, a sweep that marks the entry before it empties the slot, a cell that does not look at
//! `died`, at `born`, at the last clear, or at the head of an absence. Of a restore: the head before the floor
//! (seldom: in one of some ten thousand schedules), a floor that does not count as the head, a revision for
//! each entry, slot words before `READY`, new entries without their predecessor, nothing counted, a stripe
//! that is not locked, entries that stay filled when it is given up.

mod history;
mod turns;

use super::entry::Note;
use super::restore::RestoreFailure;
use super::testing::{Graveyard, Memo, heap, put, small};
use super::wish::{Action, Condition, Done, Wish, WriteFailure};
use super::{Clock, Core};
use crate::heap::class::LIST;
use crate::heap::{HeapError, Space};
use crate::hook;
use crate::lock::{LockError, Probe};
use crate::region::layout::{header, span};
use crate::region::{Memory, Region};
use crate::snapshot::{Walk, WalkError};
use crate::snapshot_entry::SnapshotEntry;
use crate::sync::AtomicU64;
use crate::sync::Ordering::Relaxed;
use crate::table::read::ReadFailure;
use crate::table::wish::{KIND_BYTES, KIND_COUNTER};
use history::{History, Saw};
use shuttle::rand::Rng;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use turns::{Plan, Turns};

/// Keys of values, then one that is a counter.
const KEYS: u64 = 4;
const COUNTER: u64 = KEYS;
const WRITERS: u32 = 3;
/// The slot of whoever walks and of whoever buries.
const WALKER: u32 = 3;
const UNDERTAKER: u32 = 4;
const LAST: u32 = 5;

fn key(number: u64) -> String {
    format!("key{number}")
}

/// What operation `id` sets: told by its first word, and the same throughout.
fn value(id: u64) -> Vec<u8> {
    let words = [2, 5, 12, 31][(id % 4) as usize];
    id.to_le_bytes().repeat(words)
}

/// One run: the bytes, who is dead, what was answered.
struct Stage {
    words: Arc<[AtomicU64]>,
    yard: Graveyard,
    clock: Clock,
    next_id: AtomicU64,
    history: Mutex<History>,
}

impl Stage {
    /// A process of its own: what it knows by itself is known to nobody else.
    fn core(&self) -> Core {
        let region = Region::new(Memory::heap(Arc::clone(&self.words)));
        Core {
            space: Space::new(region, small(BYTES)),
            liveness: Box::new(self.yard.clone()),
            clock: self.clock.clone(),
            known_head: AtomicU64::new(0),
            patience: Duration::from_secs(60),
        }
    }

    fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed)
    }

    fn note(&self, note: impl FnOnce(&mut History)) {
        note(&mut self.history.lock().unwrap());
    }
}

const BYTES: u64 = 640 << 10;

/// What every schedule begins with: some keys, one of them a counter.
fn first() -> Core {
    let (core, _yard) = super::testing::bus(small(BYTES));
    for number in 0..2 {
        core.write_one(0, &set(&key(number), &value(number + 1), number + 1, 0)).unwrap();
    }
    core.write_one(0, &add(&key(COUNTER), 3)).unwrap();
    core
}

fn set<'a>(key: &'a str, value: &'a [u8], id: u64, deadline: u64) -> Wish<'a> {
    let note = Note { kind: KIND_BYTES, time: id, deadline, ..Note::default() };
    Wish {
        key: key.as_bytes().into(),
        action: Action::Set { value, note },
        condition: Condition::Any,
    }
}

fn add(key: &str, id: u64) -> Wish<'_> {
    let action = Action::Add { by: 1, time: id, who: b"" };
    Wish { key: key.as_bytes().into(), action, condition: Condition::Any }
}

fn delete(key: &str, id: u64) -> Wish<'_> {
    let action = Action::Delete { time: id, who: b"" };
    Wish { key: key.as_bytes().into(), action, condition: Condition::Any }
}

/// One operation of a writer.
fn write(stage: &Stage, core: &Core, me: u32) -> Result<(), WriteFailure> {
    let mut random = shuttle::rand::thread_rng();
    let (id, before) = (stage.id(), core.head()?);
    let number = random.gen_range(0..KEYS);
    let (name, other) = (key(number), key((number + 1) % KEYS));
    let (bytes, counter) = (value(id), key(COUNTER));
    let changed = |done: Done, count: u64| {
        stage.note(|history| history.changed(id, done, count, before));
        Ok(())
    };
    match random.gen_range(0..19) {
        0..=4 => changed(core.write_one(me, &set(&name, &bytes, id, 0))?, 1),
        5 => {
            let deadline = core.clock.boot() + 300;
            stage.note(|history| history.expires(id, deadline));
            changed(core.write_one(me, &set(&name, &bytes, id, deadline))?, 1)
        }
        6 | 7 => {
            let done = core.write_one(me, &delete(&name, id))?;
            let heads = before..=core.head()?;
            stage.note(|history| history.deleted(id, number, done, heads));
            Ok(())
        }
        8 | 9 => changed(core.write_one(me, &add(&counter, id))?, 1),
        10 | 11 => {
            let wishes = [set(&name, &bytes, id, 0), add(&counter, id), set(&other, &bytes, id, 0)];
            stage.note(|history| history.together(id, 3));
            changed(core.write_batch(me, &wishes)?, 3)
        }
        12 => {
            let wish = Wish { condition: Condition::Absent, ..set(&name, &bytes, id, 0) };
            match core.write_one(me, &wish) {
                Ok(done) => changed(done, 1),
                Err(WriteFailure::Conflict { found: Some(found), .. }) => {
                    let heads = before..=core.head()?;
                    stage.note(|history| history.saw_revision(number, found, heads));
                    Ok(())
                }
                Err(failure) => Err(failure),
            }
        }
        13 => {
            let revision = core.clear(me, id, b"")?;
            stage.note(|history| history.cleared(id, revision, before));
            Ok(())
        }
        14 => restore(stage, core, me, id, before),
        15 => {
            stage.clock.advance(200);
            for stripe in core.timed_stripes()? {
                core.expire_stripe(me, stripe, core.patience, &|| false, &mut 0)?;
            }
            Ok(())
        }
        _ => {
            let stripe = random.gen_range(0..core.geometry.stripes);
            core.sweep_cleared(me, stripe, core.patience)?;
            core.sweep_in_pieces(me, stripe, core.patience)?;
            let guard = core.lock_stripe(stripe, me, &core.patience())?;
            core.sweep_retired(stripe)?;
            if random.gen_bool(0.7) {
                match core.double(stripe) {
                    // The array is as large as the region allows.
                    Ok(()) | Err(HeapError::NoRoom(_)) => {}
                    Err(HeapError::Bad(bad)) => return Err(bad.into()),
                }
            }
            drop(guard);
            Ok(())
        }
    }
}

/// What some backup has, a counter perhaps among it, takes the place of all there is; or is given up.
fn restore(stage: &Stage, core: &Core, me: u32, id: u64, before: u64) -> Result<(), WriteFailure> {
    let mut random = shuttle::rand::thread_rng();
    let expires = if random.gen_bool(0.3) { core.clock.wall() + 300 } else { 0 };
    if expires != 0 {
        stage.note(|history| history.expires(id, expires));
    }
    let mut all = Vec::new();
    for number in (0..KEYS).filter(|_| random.gen_bool(0.6)) {
        all.push((number, SnapshotEntry { value: value(id), expires, ..entry_of(number, id) }));
    }
    if random.gen_bool(0.5) {
        let value = random.gen_range(0..40_u64).to_le_bytes().to_vec();
        let kind = KIND_COUNTER;
        all.push((COUNTER, SnapshotEntry { value, kind, ..entry_of(COUNTER, id) }));
    }
    let is_given_up = random.gen_bool(0.2);
    let end = core.restore(me).and_then(|mut restoring| {
        for (number, entry) in &all {
            let had = restoring.len();
            restoring.add(entry)?;
            // One that has expired meanwhile is passed over.
            if restoring.len() > had {
                stage.note(|history| history.restores(id, *number, &entry.value));
            }
        }
        if is_given_up { Ok(None) } else { restoring.commit(id, b"", b"backup").map(Some) }
    });
    match end {
        Ok(revision) => {
            stage.note(|history| history.restored(id, revision, before));
            Ok(())
        }
        Err(RestoreFailure::Write(failure)) => Err(failure),
        Err(RestoreFailure::Wrong(reason)) => panic!("{reason}"),
    }
}

fn entry_of(number: u64, id: u64) -> SnapshotEntry {
    SnapshotEntry { key: key(number).into_bytes(), time: id, ..SnapshotEntry::default() }
}

/// Lets a process die after so many steps. Who is past its last one is dead, whatever it returns: it
/// waited for nothing, and left out what it could not take.
fn dies_after<T>(steps: u64, operation: impl FnOnce() -> T) -> Option<T> {
    let end = hook::dying_after(steps, || {
        let value = operation();
        (!hook::dead()).then_some(value)
    });
    end.flatten()
}

/// A writer's life.
fn live(stage: &Stage, me: u32) {
    let core = stage.core();
    let operations = || (0..3).try_for_each(|_| write(stage, &core, me));
    let mut random = shuttle::rand::thread_rng();
    let dies = random.gen_bool(0.4).then(|| random.gen_range(0..400));
    let end = match dies {
        None => Some(operations()),
        Some(steps) => dies_after(steps, operations),
    };
    match end {
        Some(end) => end.unwrap(),
        None => stage.yard.dies(me),
    }
}

/// Looks at keys, mostly by cells.
fn look(stage: &Stage) {
    let core = stage.core();
    let mut random = shuttle::rand::thread_rng();
    let mut cells: [Memo; KEYS as usize + 1] = std::array::from_fn(|_| Memo::default());
    for _ in 0..8 {
        let number = random.gen_range(0..=KEYS);
        let (from, clock) = (core.head().unwrap(), core.clock.boot());
        let mut one = Memo::default();
        let cell = if random.gen_bool(0.3) { &mut one } else { &mut cells[number as usize] };
        let found = cell.get(&core, &key(number));
        let heads = from..=core.head().unwrap();
        let clocks = clock..=core.clock.boot();
        match found {
            Ok(found) => {
                let seen = found.map(|(revision, value)| Saw { revision, value });
                stage.note(|history| history.read(number, seen, heads, clocks));
            }
            Err(ReadFailure::Contended { .. }) => stage.note(|history| history.contended += 1),
            Err(failure) => panic!("{failure:?}"),
        }
    }
}

/// Collects the keys of all stripes: no key is told by two, and what is there throughout is told.
fn scan(stage: &Stage) {
    let core = stage.core();
    for _ in 0..2 {
        let (from, mut told) = (core.head().unwrap(), Vec::new());
        for stripe in 0..core.geometry.stripes {
            told.extend(core.stripe_keys(stripe, b"").unwrap());
        }
        let heads = from..=core.head().unwrap();
        stage.note(|history| history.scanned(told, heads));
    }
}

/// Walks over a snapshot.
fn walk(stage: &Stage) {
    let core = stage.core();
    let mut walk = Walk::begin(&core, WALKER, u64::from(WALKER) + 1).unwrap();
    let (mut entries, mut entry) = (Vec::new(), SnapshotEntry::default());
    let end = loop {
        match walk.next_into(&mut entry) {
            Ok(true) => entries.push((entry.key.clone(), entry.value.clone(), entry.revision)),
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    match end {
        Ok(()) => stage.note(|history| history.snapshot(walk.head.revision, entries)),
        Err(WalkError::Aborted) => {}
        Err(error) => panic!("{error:?}"),
    }
}

/// Bytes of dead slots, as an undertaker holds them; those of whom it does not bury are given back.
struct Holds<'a> {
    yard: &'a Graveyard,
    buried: u32,
    others: Vec<u32>,
}

impl Probe for Holds<'_> {
    fn acquire(&mut self, slot: u32) -> bool {
        if slot != self.buried && !self.others.contains(&slot) {
            if !self.yard.take(slot) {
                return false;
            }
            self.others.push(slot);
        }
        true
    }
}

impl Drop for Holds<'_> {
    fn drop(&mut self) {
        self.others.iter().for_each(|slot| self.yard.dies(*slot));
    }
}

/// Buries a writer whose byte was taken.
fn bury_one(core: &Core, yard: &Graveyard, buried: u32, me: u32) -> Result<(), LockError> {
    let mut probe = Holds { yard, buried, others: Vec::new() };
    core.clear_pins(buried)?;
    core.mend_slot(buried, me, &core.patience(), &mut probe)?;
    core.abort_snapshot_of(me, u64::from(buried) + 1, core.patience)?;
    Ok(())
}

/// Buries the dead; dies at it, perhaps.
fn bury(stage: &Stage) {
    let core = stage.core();
    let mut random = shuttle::rand::thread_rng();
    for slot in 0..WRITERS {
        if !stage.yard.take(slot) {
            hook::give_way();
            continue;
        }
        let burial = || bury_one(&core, &stage.yard, slot, UNDERTAKER);
        let end = match random.gen_bool(0.3) {
            false => Some(burial()),
            true => dies_after(random.gen_range(0..60), burial),
        };
        match end {
            Some(end) => end.unwrap(),
            None => {
                stage.yard.dies(slot);
                stage.yard.dies(UNDERTAKER);
                return;
            }
        }
    }
}

/// All who are dead at the end are buried; then everything must be whole.
fn end(stage: &Stage) {
    let core = stage.core();
    for slot in 0..LAST {
        if stage.yard.take(slot) {
            bury_one(&core, &stage.yard, slot, LAST).unwrap();
        }
    }
    let report = core.check();
    assert!(report.is_clean() && report.locks_held == 0, "{report:?}");
    for stripe in 0..core.geometry.stripes {
        core.sweep_cleared(LAST, stripe, core.patience).unwrap();
        let guard = core.lock_stripe(stripe, LAST, &core.patience()).unwrap();
        core.sweep_retired(stripe).unwrap();
        drop(guard);
    }
    let report = core.check();
    assert!(report.is_clean() && report.retired == 0, "swept: {report:?}");
    assert_eq!(core.count_entries().unwrap(), report.entries, "the count");
    assert_eq!(
        core.region.load(header::READY, Relaxed).unwrap(),
        0,
        "a commit that nobody finished"
    );
    stage.history.lock().unwrap().verify(&core);
}

fn runner(turns: Turns) -> shuttle::Runner<Turns> {
    let mut config = shuttle::Config::default();
    config.stack_size = 256 << 10;
    config.silence_warnings = true;
    // A plan says more than the steps, of which there are many.
    config.failure_persistence = shuttle::FailurePersistence::None;
    config.max_steps = shuttle::MaxSteps::FailAfter(1_000_000);
    shuttle::Runner::new(turns, config)
}

fn run(turns: Turns) -> History {
    let (first, sum) = (first(), Arc::new(Mutex::new(History::default())));
    let total = Arc::clone(&sum);
    let runner = runner(turns);
    hook::scheduled(|| {
        runner.run(move || {
            let stage = Arc::new(Stage {
                words: first.region.copy(),
                yard: Graveyard::default(),
                clock: Clock::fixed(1_000_000),
                next_id: AtomicU64::new(100),
                history: Mutex::default(),
            });
            let act = |role: fn(&Stage)| {
                let stage = Arc::clone(&stage);
                shuttle::thread::spawn(move || role(&stage))
            };
            let roles: [fn(&Stage); 7] = [
                |stage| live(stage, 0),
                |stage| live(stage, 1),
                |stage| live(stage, 2),
                look,
                scan,
                walk,
                bury,
            ];
            for thread in roles.map(act) {
                thread.join().unwrap();
            }
            end(&stage);
            total.lock().unwrap().count(&stage.history.lock().unwrap());
        })
    });
    std::mem::take(&mut sum.lock().unwrap())
}

fn parameter(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn random_schedules_tell_one_history() {
    if let Ok(plan) = std::env::var("MEMBUS_PLAN") {
        println!("MEMBUS_PLAN={plan:?}: {}", run(Turns::new(plan.parse().unwrap(), 1)));
        return;
    }
    // From few changes to one at each turn: what takes three steps of one thread between two of another is found by few, what takes
    // many threads at once by many.
    let kinds = [0, 3, 10, 30, 100, 300, 1_000, 3_000];
    let schedules = parameter("MEMBUS_SCHEDULES", 20_000) / kinds.len() as u64;
    let seed = parameter("MEMBUS_SEED", 1);
    println!("MEMBUS_SEED={seed}");
    std::thread::scope(|scope| {
        let runs = kinds.map(|changes| {
            let plan = Plan { changes, seed: seed.wrapping_add(changes), length: 1_000 };
            let kind = match changes {
                0 => "a choice at each turn".to_owned(),
                _ => format!("{changes} changes of priority"),
            };
            (kind, scope.spawn(move || run(Turns::new(plan, schedules))))
        });
        for (kind, runs) in runs {
            println!("{schedules} schedules, {kind}: {}", runs.join().unwrap());
            crate::earned(schedules, "schedules");
        }
    });
}

/// What a failure prints is of use: the same numbers make the same schedules, others make others.
/// Plant: a plan's seed that nobody uses.
#[test]
fn a_plan_is_repeated() {
    for changes in [0, 30] {
        let plan = |seed| Plan { changes, seed, length: 5_000 };
        let told = |seed, schedules| run(Turns::new(plan(seed), schedules)).to_string();
        assert_eq!(told(5, 9), told(5, 9), "{changes} changes");
        let others: BTreeSet<_> = (0..9).map(|seed| told(seed, 1)).collect();
        assert!(others.len() > 3, "{changes} changes: {others:?}");
    }
}

/// Promise: what comes and goes does no harm to a walk. The span of a big entry, which is not needed, ends while it is looked at,
/// and bytes stand there that would be a length beyond the region.
/// Plants: a walk that believes what it found in a span without a second look at the span's word; an enumeration that so steps
/// over a span. Schedules at random see neither: all steps of the other thread have to come between two of the walk.
#[test]
fn a_big_span_ends_beside_a_walk() {
    let prepare = || {
        let core = heap();
        let big = || core.allocate(0, 100_000, (false, true)).unwrap().at;
        let (before, at) = (big(), big());
        core.vacate(&core.place(before).unwrap()).unwrap();
        (core, at)
    };
    let end = |core: &Core, at| {
        let (place, length) = (core.place(at).unwrap(), 9);
        core.vacate(&place).unwrap();
        let first = core.make_span(0, LIST, (length, true), 0).unwrap();
        assert!((first + 1..first + length).contains(&place.block), "it is in the middle");
        put(core, core.geometry.block(place.block) + span::BLOCKS, u64::MAX);
    };
    hook::scheduled(|| {
        runner(Turns::new(Plan { changes: 3, seed: 1, length: 100 }, 2_000)).run(move || {
            let (core, at) = prepare();
            let here = Arc::new(core);
            let there = Arc::clone(&here);
            let other = shuttle::thread::spawn(move || end(&there, at));
            let mut walk = Walk::begin(&here, 1, 2).unwrap();
            assert_eq!(walk.next_into(&mut SnapshotEntry::default()), Ok(false));
            other.join().unwrap();
        })
    });
}
