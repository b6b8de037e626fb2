//! The commit as readers see it, and what a survivor makes of one that stopped half-way.

use super::{Image, commit, explore, far, geometry, get, plan, race, record};
use crate::hook::dying_after;
use crate::lock::{Liveness, Probe};
use crate::region::layout::{header, stripe};
use crate::sync::Ordering::Relaxed;
use crate::table::Core;
use loom::sync::Arc;
use loom::thread;

/// What the models' batch does: one key replaced, one deleted.
const BATCH: [(&[u8], Option<u64>); 2] = [(b"a", Some(30)), (b"b", None)];

/// `a` and `b`, born with the revisions 1 and 2, and room for what replaces them.
fn pair() -> Image {
    Image::with_entries(3).after(|core| {
        commit(core, &[(b"a", Some(10))]);
        commit(core, &[(b"b", Some(20))]);
    })
}

/// Promises "both or neither" and "a read waits for nobody": who sees the one change of a batch sees
/// the other one too.
/// Plant: Relaxed for the head, in `finish` or in `head`.
#[test]
fn a_batch_is_seen_whole() {
    let read = |core: &Core| (get(core, b"a"), get(core, b"b"));
    race(("a_batch_is_seen_whole", 3), pair(), write, read, move |core, seen| {
        assert!(matches!(seen, (Some(10), Some(20) | None) | (Some(30), None)), "{seen:?}");
        assert_eq!(read(core), (Some(30), None));
    });
}

/// The same, the deleted key first: its slot word is emptied last, and leads to the rest.
/// Plants: Relaxed for the slot word that is emptied; no fence behind the chain in `read_once`.
#[test]
fn a_batch_is_seen_from_its_end() {
    let read = |core: &Core| (get(core, b"b"), get(core, b"a"));
    race(("a_batch_is_seen_from_its_end", 3), pair(), write, read, move |core, seen| {
        assert!(matches!(seen, (Some(20), Some(10 | 30)) | (None, Some(30))), "{seen:?}");
        assert_eq!(read(core), (None, Some(30)));
    });
}

fn write(core: &Core) {
    commit(core, &BATCH);
}

/// The same for the threads of one process: the head that one of them has seen serves the other.
/// Plant: Relaxed for the known head's load, or for its maximum.
#[test]
fn a_known_head_is_shared() {
    let image = pair();
    explore("a_known_head_is_shared", 2, move || {
        let bus = image.start();
        let reader = Arc::new(bus.core());
        let scout = Arc::clone(&reader);
        let reader = thread::spawn(move || (get(&reader, b"a"), get(&reader, b"b")));
        let scout = thread::spawn(move || scout.head().unwrap());
        write(&bus.core());
        let seen = reader.join().unwrap();
        assert!(matches!(seen, (Some(10), Some(20) | None) | (Some(30), None)), "{seen:?}");
        scout.join().unwrap();
    });
}

/// Promise "both or neither" for a clear, which is one store, and a sweep behind it.
/// Plant: Relaxed for the slot words that `sweep_cleared` empties.
#[test]
fn a_clear_is_seen_whole() {
    let swept = geometry().stripe(0) + stripe::SWEPT_TO;
    let write = |core: &Core| assert_eq!(core.clear(0, 0, b"").unwrap(), 3);
    let read = |core: &Core| (get(core, b"a"), get(core, b"b"));
    race(("a_clear_is_seen_whole", 2), pair().words([swept], 0), write, read, move |core, seen| {
        assert!(matches!(seen, (Some(10), Some(20) | None) | (None, None)), "{seen:?}");
        assert_eq!(read(core), (None, None));
    });
}

/// Everybody else is dead.
#[derive(Debug)]
struct Alone;

impl Liveness for Alone {
    fn probe(&self) -> Option<Box<dyn Probe + '_>> {
        Some(Box::new(Self))
    }
}

impl Probe for Alone {
    fn acquire(&mut self, _: u32) -> bool {
        true
    }
}

/// Stores of the batch's record: six words of changes, and five of its own.
const RECORD: u64 = 6 + 5;
/// Stores of its FINISH: of the new entry and the old ones, slot, tail, head, slot, READY.
const FINISH: u64 = 3 + 5;

/// Commits the batch, and dies after so many stores.
fn write_until(core: &Core, death: u64) {
    let changes = plan(core, &BATCH);
    std::mem::forget(core.lock_commit(0, &far()).unwrap());
    let end = dying_after(death, || {
        record(core, &changes);
        core.finish().unwrap();
    });
    assert_eq!(end.is_some(), death >= RECORD + FINISH);
}

/// Promises "robust" and "both or neither": a writer dies after any of the commit's stores, a
/// survivor takes the commit lock over and carries out what was committed, while somebody reads.
/// Plants: `finish` draws revisions from the head and not from the record; does nothing for a
/// survivor.
#[test]
fn a_survivor_finishes() {
    let image = pair();
    for death in 0..=RECORD + FINISH {
        let image = image.clone();
        explore(&format!("a_survivor_finishes, death after {death}"), 2, move || {
            let bus = image.start();
            let reader = bus.core();
            let reader = thread::spawn(move || (get(&reader, b"a"), get(&reader, b"b")));
            write_until(&bus.core(), death);
            // The kernel drops the dead one's byte; who acquires it has seen all that it stored. So
            // the survivor may be the same thread.
            let survivor = bus.process(Alone);
            drop(survivor.lock_commit(1, &far()).unwrap());
            assert_eq!(survivor.region.load(header::READY, Relaxed), Ok(0));
            let seen = reader.join().unwrap();
            assert!(matches!(seen, (Some(10), Some(20) | None) | (Some(30), None)), "{seen:?}");
            // With the record's last store the batch has happened.
            let after = if death < RECORD { (Some(10), Some(20)) } else { (Some(30), None) };
            assert_eq!((get(&survivor, b"a"), get(&survivor, b"b")), after);
        });
    }
}
