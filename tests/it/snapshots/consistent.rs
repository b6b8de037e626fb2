//! A snapshot is the state as of one revision, taken while others write.

use super::{content, lose, quiet};
use crate::harness::actor::actor;
use crate::harness::{Place, Seed, assert_whole, eventually, heavy};
use crate::watch::Fold;
use membus::{Batch, Bus, Cursor, Event, Kind, ReadBus, SnapshotInfo};
use std::time::{Duration, Instant};

/// What the log says that the bus was at a revision.
fn at(bus: &Bus, revision: u64) -> Fold {
    let mut watch = bus.watch_from("", Cursor { incarnation: 0, revision: 0 }).unwrap();
    let mut fold = Fold::default();
    while fold.last < revision {
        match watch.try_recv().unwrap() {
            Some(Event::Change(change)) => fold.change(change),
            other => panic!("{other:?}"),
        }
    }
    fold
}

/// A bus that is built from this image alone.
fn rebuilt(image: &SnapshotInfo) -> (Place, Bus) {
    let place = Place::new();
    let from = image.path.as_ref().unwrap();
    std::fs::create_dir(place.images()).unwrap();
    std::fs::copy(from, place.images().join(from.file_name().unwrap())).unwrap();
    let bus = quiet(&place);
    (place, bus)
}

/// Promise "durable as asked": a snapshot is the state as of exactly one revision, whatever others do while it
/// is taken: batches are in it whole or not at all, what died after it is in it, what was born after is not.
/// Method: three processes set, delete, add, clear and commit batches; snapshots are taken meanwhile; each is
/// compared, entry by entry, with what the log says of its revision.
/// Plants: the keep rule without `cleared_at`; done marked before the entries are read.
#[test]
fn a_snapshot_is_of_one_revision_under_full_load() {
    let _alone = heavy();
    let seed = Seed::of("a_snapshot_is_of_one_revision_under_full_load");
    let mut rng = seed.rng();
    let place = Place::new();
    let options = place.options().capacity(48 << 20).max_capacity(256 << 20).log_size(64 << 20);
    let bus = options.keeper(false).keep(1000).open_at(place.bus()).unwrap();
    for number in 0..3000_u32 {
        bus.set_bytes(format!("old/{number}"), vec![1; 100]).unwrap();
    }
    let mut writers: Vec<_> = ["a", "b", "c"]
        .map(|own| {
            let casting = actor("watch_writer", &place).with("own", own).with("changes", 8000);
            casting.with("clears", 1).with("seed", rng.next() >> 1).start()
        })
        .into();
    let mut images: Vec<SnapshotInfo> = Vec::new();
    while !writers.is_empty() {
        writers.retain(|writer| writer.try_line().is_none());
        images.push(bus.snapshot().unwrap());
    }
    let head = bus.info().unwrap().revision;
    let between = images.iter().filter(|image| image.revision < head).count();
    assert!(between >= 5, "{between} snapshots while others wrote");
    for image in images.iter().step_by(images.len().div_ceil(25)) {
        let expected = at(&bus, image.revision);
        let (_place, back) = rebuilt(image);
        let found = content(&back);
        assert_eq!(found.len(), expected.entries.len(), "{image:?}");
        assert_eq!(image.entries, found.len() as u64);
        for (key, (revision, value)) in &expected.entries {
            let key_text = key.escape_ascii();
            let Some(found) = found.get(key) else { panic!("{key_text} is missing") };
            assert_eq!(found.0, *revision, "{key_text}");
            // Of values that no record carries, the revision says enough.
            assert!(value.as_ref().is_none_or(|value| *value == found.1), "{key_text}");
        }
        assert_eq!(back.info().unwrap().revision, image.revision + (1 << 40));
        assert_whole(&back);
    }
    assert_whole(&bus);
}

/// Promise (snapshots): keys that vanish with their member are in none; a time to live goes on by the wall clock
/// while there is no bus; what has expired is in none.
/// Plants: entries with an owner not left out; deadlines saved as they are in the region.
#[test]
fn what_ends_by_itself_in_a_snapshot() {
    let place = Place::new();
    let bus = quiet(&place);
    let (long, short) = (Duration::from_secs(1000), Duration::from_millis(1500));
    bus.put("vanishes").ephemeral().set_bytes(b"").unwrap();
    bus.put("vanishes too").ephemeral().ttl(long).set_bytes(b"").unwrap();
    bus.put("long").ttl(long).who("me").set_counter(7).unwrap();
    bus.put("gone").ttl(Duration::from_nanos(1)).set_bytes(b"").unwrap();
    bus.set("plain", &1).unwrap();
    bus.put("short").ttl(short).set_bytes(b"").unwrap();
    let begun = Instant::now();
    let info = bus.snapshot().unwrap();
    assert_eq!(info.entries, 3);
    drop(bus);
    lose(&place);
    eventually("its time", || (begun.elapsed() > short).then_some(()));
    let back = quiet(&place);
    let mut keys: Vec<_> = back.keys("").unwrap().iter().map(ToString::to_string).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["long", "plain"], "what expired meanwhile is absent at once");
    let stat = back.stat("long").unwrap().unwrap();
    let left = stat.expires_in.unwrap();
    assert!(left < long - short && left > long / 2, "{left:?}");
    assert_eq!(
        (stat.who.as_deref(), stat.kind, stat.ephemeral),
        (Some("me"), Kind::Counter, false)
    );
    assert_eq!(back.add("long", 1).unwrap(), 8);
    assert_whole(&back);
}

/// Promise (snapshots): any number of processes may ask for one; each gets one of its own or later revision,
/// and the images stay whole.
/// Plant: the lock of the snapshot left out: two walks end each other's.
#[test]
fn several_take_snapshots_at_once() {
    let place = Place::new();
    let bus = place.open_small();
    let others = [place.attach(), place.attach()];
    let mut batch = Batch::new();
    for number in 0..3000_u32 {
        batch.set_bytes(number.to_le_bytes(), vec![1; 200]);
    }
    bus.commit(&batch).unwrap();
    std::thread::scope(|scope| {
        for bus in others.iter().chain([&bus]) {
            scope.spawn(move || {
                for _ in 0..10 {
                    let asked = bus.add("n", 1).unwrap();
                    let info = bus.snapshot().unwrap();
                    assert!(info.revision >= 3000 + asked as u64);
                    assert_eq!(info.entries, 3001);
                    let path = info.path.unwrap();
                    // It may have been replaced by newer ones already.
                    if let Ok(meta) = std::fs::metadata(path) {
                        assert_eq!(meta.len(), info.bytes);
                    }
                }
            });
        }
    });
    assert_eq!(bus.info().unwrap().operations.snapshots, 30);
    assert_eq!(place.image_files().len(), 3);
    assert_whole(&bus);
}
