//! The real protocols under loom: every interleaving and every allowed reordering, up to a bound of
//! preemptions (`LOOM_MAX_PREEMPTIONS`; `tests/all loom` sets it).
//!
//! Each model runs functions of the library over a handful of words; a word that a model forgot is an
//! error of the access. Each names the plant with which it was seen to fail.

use crate::commit::Stored;
use crate::heap::{Room, Space};
use crate::lock::{Liveness, LockError, LockOutcome, Patience, Probe, RobustLock};
use crate::log::{NewRecord, Read, RecordKind};
use crate::region::geometry::{Geometry, Shape};
use crate::region::layout::{array, entry, header, stripe};
use crate::region::{Memory, Region};
use crate::sync::Ordering::{Relaxed, Release};
use crate::sync::{AtomicU64, fence};
use crate::table::entry::Note;
use crate::table::{Clock, Core};
use crate::word::{ArrayWord, Hash};
use loom::sync::Arc;
use loom::thread;
use std::time::Duration;

/// Size of the smallest entry, which is what these models use.
const ROOM: u64 = 64;
const LOCK: u64 = header::COMMIT_LOCK;

/// Nobody is dead.
#[derive(Debug)]
struct Alive;

impl Probe for Alive {
    fn acquire(&mut self, _: u32) -> bool {
        false
    }
}

impl Liveness for Alive {
    fn probe(&self) -> Option<Box<dyn Probe + '_>> {
        Some(Box::new(Self))
    }
}

/// One stripe; its entries stand in block 0, its array in block 1; a log of two records.
fn geometry() -> Geometry {
    Geometry::new(Shape {
        bus_id: 1,
        boot_id: 2,
        incarnation: 3,
        seed: 4,
        capacity: 1 << 20,
        max_capacity: 1 << 20,
        block_shift: 14,
        stripes: 1,
        members_max: 1,
        watches_max: 64,
        log_size: 128,
        created: 5,
        mode: 0o600,
        first_revision: 0,
    })
}

fn entry_at(index: u64) -> u64 {
    geometry().block(0) + 128 + index * ROOM
}

fn slot_at(index: u64) -> u64 {
    geometry().block(1) + array::FIRST + 8 * index
}

fn slot_word(key: &[u8], index: u64) -> u64 {
    Hash::of(key, geometry().seed).word(entry_at(index))
}

/// A bus whose head is 1, with `live` keys in slots and entries of the same number, born 1.
fn bus(entries: u64, live: &[(&[u8], u64)]) -> Core {
    let geometry = geometry();
    let mut words: Vec<(u64, u64)> = [
        (header::HEAD, 1),
        (geometry.block_word(0), 2),
        (geometry.stripe(0) + stripe::ARRAY, ArrayWord::new(geometry.block(1), 0, 0).0),
    ]
    .to_vec();
    let plain = [header::CLEARED_AT, header::LOG_TAIL, header::READY, header::COUNT, header::TAIL];
    words.extend(plain.map(|at| (at, 0)));
    words.extend([header::CLEARED, header::LIST].map(|at| (at, 0)));
    words.extend((0..6).map(|index| (header::INLINE + 8 * index, 0)));
    words.extend((0..8).map(|index| (slot_at(index), 0)));
    words.extend((0..entries * ROOM / 8).map(|index| (entry_at(0) + 8 * index, 0)));
    let core = Core {
        space: Space::new(Region::new(Memory::of(&words, &[LOCK])), geometry),
        liveness: Box::new(Alive),
        clock: Clock::fixed(1),
        known_head: AtomicU64::new(0),
        patience: Duration::from_secs(5),
    };
    for (index, (key, value)) in live.iter().enumerate() {
        let index = index as u64;
        fill(&core, index, entry::NONE, key, *value);
        core.region.store(entry_at(index) + entry::BORN, 1, Release).unwrap();
        core.region.store(slot_at(index), slot_word(key, index), Release).unwrap();
    }
    core
}

/// Fills an entry with a value of two equal words.
fn fill(core: &Core, index: u64, pred: u64, key: &[u8], value: u64) {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&value.to_le_bytes());
    bytes[8..].copy_from_slice(&value.to_le_bytes());
    let room = Room { at: entry_at(index), size: ROOM };
    core.entry_in(room).unwrap().fill(pred, key, &bytes, &Note::default()).unwrap();
}

/// What a reader sees; both words of a value are the same.
fn get(core: &Core, key: &[u8]) -> Option<u64> {
    let mut bytes = Vec::new();
    let seen = core.read(key, |seen| {
        bytes.clear();
        seen.entry.copy_value(&seen.header, &mut bytes)
    });
    if !seen.unwrap() {
        return None;
    }
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(word(0), word(8), "torn");
    Some(word(0))
}

fn far() -> Patience {
    Patience::new(Duration::from_secs(60))
}

/// Promise "never torn": an entry is replaced, freed and filled anew under a reader.
/// Plant: the fence after `BORN` := 0 left out, or the one behind the copy in `look`; there, no
/// second look at the slot word.
#[test]
fn read_against_reuse() {
    loom::model(|| {
        let core = Arc::new(bus(2, &[(b"k", 10)]));
        let writer = core.clone();
        let writer = thread::spawn(move || {
            fill(&writer, 1, slot_word(b"k", 0), b"k", 20);
            let (new, old) = (slot_word(b"k", 1), slot_word(b"k", 0));
            writer
                .commit_record([Stored { slot: slot_at(0), new, old }].into_iter(), 0, 2, 0, 0)
                .unwrap();
            writer.finish().unwrap();
            writer.region.store(entry_at(0) + entry::BORN, 0, Release).unwrap();
            writer.region.store(entry_at(0) + entry::DIED, 0, Release).unwrap();
            fence(Release);
            fill(&writer, 0, new, b"k", 30);
        });
        assert!(matches!(get(&core, b"k"), Some(10 | 20)));
        writer.join().unwrap();
        assert_eq!(get(&core, b"k"), Some(20));
    });
}

/// Promise "both or neither": one key replaced and one deleted by the same batch.
/// Plant: Relaxed for the head in `finish`.
#[test]
fn batch_is_seen_whole() {
    loom::model(|| {
        let core = Arc::new(bus(3, &[(b"a", 1), (b"b", 2)]));
        fill(&core, 2, slot_word(b"a", 0), b"a", 3);
        let writer = core.clone();
        let writer = thread::spawn(move || {
            let set = Stored { slot: slot_at(0), new: slot_word(b"a", 2), old: slot_word(b"a", 0) };
            let delete = Stored { slot: slot_at(1), new: 0, old: slot_word(b"b", 1) };
            writer.commit_record([set, delete].into_iter(), 0, 3, 0, 0).unwrap();
            writer.finish().unwrap();
        });
        let (a, b) = (get(&core, b"a"), get(&core, b"b"));
        assert!(matches!((a, b), (Some(1), Some(2) | None) | (Some(3), None)), "{a:?} {b:?}");
        writer.join().unwrap();
        assert_eq!((get(&core, b"a"), get(&core, b"b")), (Some(3), None));
    });
}

/// Promise "never torn": the freed place comes back into the same slot, with another revision.
/// Plant: Relaxed for `born` in `finish`. (Three preemptions take over three minutes.)
#[test]
fn read_against_return() {
    let mut bounded = loom::model::Builder::new();
    bounded.preemption_bound = Some(2);
    bounded.check(|| {
        let core = Arc::new(bus(2, &[(b"k", 10)]));
        fill(&core, 1, slot_word(b"k", 0), b"k", 20);
        let writer = core.clone();
        let writer = thread::spawn(move || {
            let (first, second) = (slot_word(b"k", 0), slot_word(b"k", 1));
            let change = Stored { slot: slot_at(0), new: second, old: first };
            writer.commit_record([change].into_iter(), 0, 2, 0, 0).unwrap();
            writer.finish().unwrap();
            writer.region.store(entry_at(0) + entry::BORN, 0, Release).unwrap();
            fence(Release);
            fill(&writer, 0, second, b"k", 30);
            let change = Stored { slot: slot_at(0), new: first, old: second };
            writer.commit_record([change].into_iter(), 0, 3, 0, 0).unwrap();
            writer.finish().unwrap();
        });
        assert!(matches!(get(&core, b"k"), Some(10 | 20 | 30)));
        writer.join().unwrap();
        assert_eq!(get(&core, b"k"), Some(30));
    });
}

/// Promise "both or neither": a head that one thread has seen serves another of its process.
/// Plant: Relaxed for both accesses of the known head.
#[test]
fn known_head_is_shared() {
    loom::model(|| {
        let core = Arc::new(bus(3, &[(b"a", 1), (b"b", 2)]));
        fill(&core, 2, slot_word(b"a", 0), b"a", 3);
        let (writer, scout) = (core.clone(), core.clone());
        let writer = thread::spawn(move || {
            let set = Stored { slot: slot_at(0), new: slot_word(b"a", 2), old: slot_word(b"a", 0) };
            let delete = Stored { slot: slot_at(1), new: 0, old: slot_word(b"b", 1) };
            writer.commit_record([set, delete].into_iter(), 0, 3, 0, 0).unwrap();
            writer.finish().unwrap();
        });
        let scout = thread::spawn(move || scout.head().unwrap());
        let (a, b) = (get(&core, b"a"), get(&core, b"b"));
        assert!(matches!((a, b), (Some(1), Some(2) | None) | (Some(3), None)), "{a:?} {b:?}");
        writer.join().unwrap();
        scout.join().unwrap();
    });
}

/// Promise "robust": a committed change is finished twice, as after a death in FINISH.
/// Plant: `finish` draws the revision from the head and not from the record.
#[test]
fn finish_may_be_repeated() {
    loom::model(|| {
        let core = Arc::new(bus(2, &[(b"k", 10)]));
        fill(&core, 1, slot_word(b"k", 0), b"k", 20);
        let change = Stored { slot: slot_at(0), new: slot_word(b"k", 1), old: slot_word(b"k", 0) };
        core.commit_record([change].into_iter(), 0, 2, 0, 0).unwrap();
        let writer = core.clone();
        let writer = thread::spawn(move || {
            writer.finish().unwrap();
            writer.region.store(header::READY, 2, Relaxed).unwrap();
            writer.finish().unwrap();
        });
        let (first, second) = (get(&core, b"k"), get(&core, b"k"));
        assert!(first <= second, "went back: {first:?} {second:?}");
        writer.join().unwrap();
        assert_eq!(get(&core, b"k"), Some(20));
    });
}

/// Promise "one order": a record is read while the ring comes round.
/// Plant: the fence in `log_intend` or in `log_still_there` left out.
#[test]
fn ring_against_reader() {
    loom::model(|| {
        let geometry = geometry();
        let mut words: Vec<(u64, u64)> =
            (0..geometry.log_size / 8).map(|index| (geometry.log() + 8 * index, 0)).collect();
        words.extend((0..2).map(|index| (geometry.index(0) + 8 * index, 0)));
        words.extend([header::LOG_INTENT, header::LOG_TAIL, header::HEAD].map(|at| (at, 0)));
        let space = Arc::new(Space::new(Region::new(Memory::of(&words, &[])), geometry));
        let record = |value| NewRecord {
            kind: RecordKind::Set,
            value_kind: 0,
            time: 0,
            who: b"",
            key: b"k",
            value,
            value_max: 64,
        };
        let mut tail = 0;
        for revision in 1..=2 {
            tail = space.log_write(tail, revision, &record(b"11111111")).unwrap();
        }
        let writer = space.clone();
        let writer = thread::spawn(move || {
            let new = record(b"33333333");
            let end = writer.record_place(tail, new.size()) + new.size();
            writer.log_intend(end).unwrap();
            writer.log_write(tail, 3, &new).unwrap();
        });
        match space.log_read(0, 1).unwrap() {
            Read::Record(read, _) => assert_eq!(read.value, b"11111111"),
            Read::Overtaken => {}
        }
        writer.join().unwrap();
        assert_eq!(space.log_read(0, 1).unwrap(), Read::Overtaken);
    });
}

/// Two threads under one lock see each other's stores. Plant: Relaxed for the swap in `unlock`.
#[test]
fn lock_excludes() {
    loom::model(|| {
        let region = Arc::new(Region::new(Memory::of(&[(0, 0)], &[LOCK])));
        let count = |region: &Region, me| {
            let lock = RobustLock::at(region, LOCK, "a lock");
            let outcome = lock.lock(me, &far(), |_| Ok::<_, LockError>(false)).unwrap();
            assert_eq!(outcome, LockOutcome::Clean);
            let seen = region.load(0, Relaxed).unwrap();
            region.store(0, seen + 1, Relaxed).unwrap();
            lock.unlock();
        };
        let other = region.clone();
        let other = thread::spawn(move || count(&other, 1));
        count(&region, 2);
        other.join().unwrap();
        assert_eq!(region.load(0, Relaxed).unwrap(), 2);
    });
}

/// Promise "robust": two survivors, one dead owner; one of them takes over, the other waits.
/// Plant: `take_over` without its comparison with the owner.
#[test]
fn takeover_by_two() {
    loom::model(|| {
        let region = Arc::new(Region::new(Memory::of(&[(0, 0), (8, 0)], &[LOCK])));
        let lock = RobustLock::at(&region, LOCK, "a lock");
        let _ = lock.lock(7, &far(), |_| Ok::<_, LockError>(false)).unwrap();
        let byte = Arc::new(loom::sync::Mutex::new(()));
        let survive = |region: &Region, byte: &loom::sync::Mutex<()>, me| {
            let lock = RobustLock::at(region, LOCK, "a lock");
            let on_dead = |owner| {
                let _held = byte.lock().unwrap();
                Ok::<_, LockError>(owner == 7 && lock.take_over(owner, me)?)
            };
            if lock.lock(me, &far(), on_dead).unwrap() == LockOutcome::OwnerDied {
                let repairs = region.load(8, Relaxed).unwrap();
                region.store(8, repairs + 1, Relaxed).unwrap();
            }
            let seen = region.load(0, Relaxed).unwrap();
            region.store(0, seen + 1, Relaxed).unwrap();
            lock.unlock();
        };
        let (other, other_byte) = (region.clone(), byte.clone());
        let other = thread::spawn(move || survive(&other, &other_byte, 1));
        survive(&region, &byte, 2);
        other.join().unwrap();
        assert_eq!(region.load(8, Relaxed).unwrap(), 1, "repairs");
        assert_eq!(region.load(0, Relaxed).unwrap(), 2);
    });
}
