//! A bus that is lost comes back: with its entries as they were, and revisions far above the old ones.

use super::{content, lose, quiet};
use crate::harness::{Place, assert_whole, caught_up};
use membus::{CloseError, Event, Expected, ReadBus, SnapshotError, WriteError};
use std::time::Duration;

const GAP: u64 = 1 << 40;

/// Promise (rebuild): revisions go on 2^40 above those of the snapshot, in a new incarnation; entries keep
/// theirs, with who and when, so conditions on what did not change still hold, and none of a lost future does.
/// Plant: `first_revision` without the gap: a condition of the lost future matches.
#[test]
fn a_lost_bus_goes_on_far_above() {
    let place = Place::new();
    let bus = place.options().label("before").keeper(false).open_at(place.bus()).unwrap();
    let kept = bus.set("kept", &"value").unwrap();
    let changed = bus.set("changed", &1).unwrap();
    bus.put("n").who("adder").set_counter(42).unwrap();
    bus.set_bytes("raw", b"\0\xff").unwrap();
    bus.set_bytes("large", vec![3; 2_000_000]).unwrap();
    let before: Vec<_> = ["kept", "changed", "n", "raw"]
        .map(|key| (key, bus.get_entry(key).unwrap().unwrap()))
        .into();
    let info = bus.snapshot().unwrap();
    let old = bus.info().unwrap();
    assert_eq!((info.revision, info.entries), (old.revision, 5));
    assert_eq!(old.last_snapshot_revision, info.revision);
    assert!(old.last_snapshot_time.is_some());
    let lost = bus.set("changed", &2).unwrap();
    let lost_new = bus.set("lost", &1).unwrap();
    drop(bus);
    lose(&place);
    let back = quiet(&place);
    let new = back.info().unwrap();
    assert_eq!(new.revision, info.revision + GAP);
    assert!(new.incarnation != old.incarnation && new.bus_id != old.bus_id);
    assert_eq!(new.log_oldest, new.revision + 1, "its log begins here");
    for (key, entry) in before {
        assert_eq!(back.get_entry(key).unwrap().unwrap(), entry);
    }
    assert_eq!(back.get_bytes("large").unwrap().unwrap(), vec![3; 2_000_000]);
    assert!(!back.contains("lost").unwrap());
    let refused = back.put("changed").if_revision(lost).set(&3).unwrap_err();
    assert!(
        matches!(refused, WriteError::Conflict { expected: Expected::Revision(r), found: Some(f) } if r == lost && f == changed)
    );
    assert!(back.put("lost").if_revision(lost_new).set(&3).is_err());
    let next = back.put("kept").if_revision(kept).set(&"new").unwrap();
    assert_eq!(next.get(), info.revision + GAP + 1);
    back.put("changed").if_revision(changed).set(&3).unwrap();
    let mut watch = back.watch("").unwrap();
    let listed = std::iter::from_fn(|| watch.try_recv().unwrap());
    let listed = listed.take_while(|event| matches!(event, Event::Current(_)));
    assert_eq!(listed.count(), 5);
    assert_eq!(watch.cursor().revision, next.get() + 1);
    assert_whole(&back);
    // And once more, from the newer one.
    back.snapshot().unwrap();
    let there = content(&back);
    drop((watch, back));
    lose(&place);
    let again = quiet(&place);
    assert_eq!(content(&again), there);
    assert_eq!(again.info().unwrap().revision, next.get() + 1 + GAP);
}

/// Promise (rebuild): so often as it takes: a bus larger than its first size, with all that was in it.
/// Plant: `grow` of a new region without the size word.
#[test]
fn a_large_bus_comes_back() {
    let place = Place::new();
    let bus = place.small().keeper(false).open_at(place.bus()).unwrap();
    for number in 0..30_000_u32 {
        bus.set_bytes(number.to_le_bytes(), vec![number as u8; (number % 400) as usize]).unwrap();
    }
    bus.snapshot().unwrap();
    let (there, grown) = (content(&bus), bus.info().unwrap().capacity);
    assert!(grown > 8 << 20);
    drop(bus);
    lose(&place);
    let back = quiet(&place);
    assert!(content(&back) == there);
    assert_whole(&back);
    let mut watch = back.watch_from("", membus::Cursor::NOW).unwrap();
    caught_up(&mut watch);
    back.clear().unwrap();
    assert!(matches!(watch.try_recv().unwrap(), Some(Event::Change(_))));
}

/// Promise (close): the last library member that closes saves what changed, and says when it could not; one that
/// is not the last does not, a handle that is dropped does not, nor one that hosts no keeper.
/// Plant: every close saves.
#[test]
fn the_last_one_saves() {
    let place = Place::new();
    let images = || place.image_files().len();
    let one =
        place.options().snapshot_every(Duration::from_secs(3600)).open_at(place.bus()).unwrap();
    let (two, quiet) = (place.open(), place.attach());
    one.set("k", &1).unwrap();
    quiet.close().unwrap();
    assert_eq!(images(), 0, "it hosts no keeper");
    let clone = one.clone();
    one.close().unwrap();
    assert_eq!(images(), 0, "a clone is left");
    clone.close().unwrap();
    assert_eq!(images(), 0, "another is left");
    two.close().unwrap();
    assert_eq!(images(), 1);
    place.open().close().unwrap();
    assert_eq!(images(), 1, "nothing had changed");
    let dropped = place.open();
    dropped.set("k", &2).unwrap();
    drop(dropped);
    assert_eq!(images(), 1);
    let last = place.open();
    last.set("k", &3).unwrap();
    std::fs::rename(place.images(), place.path().join("aside")).unwrap();
    std::fs::write(place.images(), b"no directory").unwrap();
    let refused = last.close().unwrap_err();
    let CloseError::Snapshot(SnapshotError::Io { at, .. }) = &refused else { panic!("{refused}") };
    assert_eq!(*at, place.images().display().to_string());
    std::fs::remove_file(place.images()).unwrap();
    std::fs::rename(place.path().join("aside"), place.images()).unwrap();
    // The handle is gone all the same, and nothing is lost of the bus.
    let back = place.attach();
    assert_eq!(back.members().unwrap().len(), 1);
    assert_eq!(back.get::<i32>("k").unwrap(), Some(3));
    drop(back);
    lose(&place);
    assert_eq!(super::quiet(&place).get::<i32>("k").unwrap(), Some(1), "the last good image");
}

/// Promise (keeper): it saves what changed each time its interval is over, and nothing when nothing did.
/// Plant: `is_unsaved` that answers true.
#[test]
fn the_keeper_saves_what_changed() {
    let place = Place::new();
    let options = place.options().snapshot_every(Duration::from_millis(30)).keep(100);
    let bus = options.open_at(place.bus()).unwrap();
    for number in 0..3 {
        let revision = bus.set("k", &number).unwrap().get();
        crate::harness::eventually("a snapshot", || {
            (bus.info().unwrap().last_snapshot_revision == revision).then_some(())
        });
    }
    let taken = bus.info().unwrap().operations.snapshots;
    assert!((3..=6).contains(&taken), "{taken}");
    // It goes on looking: some turns of it change nothing.
    let seen = bus.info().unwrap().keeper_seen;
    crate::harness::eventually("more turns", || {
        let now = bus.info().unwrap().keeper_seen;
        (now < seen && seen.is_some()).then_some(())
    });
    assert_eq!(bus.info().unwrap().operations.snapshots, taken);
}

/// Promise (keeper): it saves as soon as so many changes came, long before its interval is over, and not before them.
/// Plant: `>` for `>=`.
#[test]
fn the_keeper_saves_after_so_many_changes() {
    let place = Place::new();
    let hour = Duration::from_secs(3600);
    let bus = place.options().snapshot_every(hour).snapshot_after(50).open_at(place.bus()).unwrap();
    let seen = || bus.info().unwrap().keeper_seen;
    let saved = || bus.info().unwrap().last_snapshot_revision;
    for round in 1..3 {
        for _ in 0..49 {
            bus.add("n", 1).unwrap();
        }
        let before = saved();
        // Some turns of it.
        for _ in 0..3 {
            let last = crate::harness::eventually("a keeper", seen);
            crate::harness::eventually("a turn", || seen().filter(|seen| *seen < last));
        }
        assert_eq!(saved(), before, "too few");
        bus.add("n", 1).unwrap();
        crate::harness::eventually("a snapshot", || (saved() == round * 50).then_some(()));
    }
    assert_eq!(bus.info().unwrap().operations.snapshots, 2);
}

/// Promise (keeper): where snapshots fail, many changes do not make it try more often.
/// Plant: changes that are looked at after a failure as well: three failures in a third of a second.
#[test]
fn changes_hurry_no_snapshot_that_fails() {
    let place = Place::new();
    let begun = std::time::Instant::now();
    let bus = place.options().snapshot_after(1).open_at(place.bus()).unwrap();
    std::fs::write(place.images(), b"no directory").unwrap();
    crate::harness::eventually("three failures", || {
        bus.add("n", 1).unwrap();
        (bus.info().unwrap().operations.snapshot_failures == 3).then_some(())
    });
    // It waits one second, then two.
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
}
