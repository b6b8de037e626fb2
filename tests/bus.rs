//! A bus on real files: what a user does, and what bad input gets.

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use membus::{Batch, Bus, OpenError, ReadBus, ReadError, Update, WriteError};
use std::time::Duration;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir_in("/dev/shm").unwrap())
    }
    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("bus")
    }
    fn options(&self) -> membus::Options {
        Bus::options().state(self.0.path().join("state"))
    }
    fn open(&self) -> Bus {
        self.options().open_at(self.path()).unwrap()
    }
}

#[test]
fn values_of_every_kind_come_back() {
    let place = Place::new();
    let bus = place.open();
    let first = bus.set("list", &vec![1, 2, 3]).unwrap();
    assert_eq!(bus.get::<Vec<i32>>("list").unwrap(), Some(vec![1, 2, 3]));
    bus.set_bytes("raw", b"\x00\xff").unwrap();
    assert_eq!(bus.get_bytes("raw").unwrap().unwrap(), b"\x00\xff");
    assert!(matches!(bus.get::<u8>("raw"), Err(ReadError::NotThisKind { .. })));
    assert!(matches!(bus.get::<String>("list"), Err(ReadError::Decode { .. })));
    assert_eq!(bus.add("n", 5).unwrap(), 5);
    assert_eq!(bus.get::<i64>("n").unwrap(), Some(5));
    bus.put("n").set_counter(i64::MAX).unwrap();
    assert!(matches!(bus.add("n", 1), Err(WriteError::Overflow { value: i64::MAX, by: 1, .. })));
    assert!(matches!(bus.add("raw", 1), Err(WriteError::NotACounter { .. })));
    let conflict = bus.put("list").if_absent().set_bytes(b"no");
    assert!(matches!(conflict, Err(WriteError::Conflict { found: Some(f), .. }) if f == first));
    bus.put("list").if_revision(first).who("me").set_bytes(b"yes").unwrap();
    assert_eq!(bus.stat("list").unwrap().unwrap().who.as_deref(), Some("me"));
    assert!(bus.delete("list").unwrap().is_some());
    assert!(bus.delete("list").unwrap().is_none());
    bus.update("u", |old: Option<u32>| Update::Set(old.unwrap_or(0) + 1)).unwrap();
    bus.update("u", |old: Option<u32>| Update::Set(old.unwrap_or(0) + 1)).unwrap();
    assert_eq!(bus.get::<u32>("u").unwrap(), Some(2));
    assert!(bus.check().is_clean());
}

#[test]
fn a_bus_grows_from_the_default_and_is_shared_by_handles() {
    let place = Place::new();
    let (one, two) = (place.open(), place.open());
    let value = vec![7; 200];
    for number in 0..100_000_u32 {
        one.set_bytes(number.to_le_bytes(), &value).unwrap();
    }
    for number in (0..100_000_u32).step_by(97) {
        assert_eq!(two.get_bytes(number.to_le_bytes()).unwrap().unwrap(), value);
    }
    assert_eq!(two.len().unwrap(), 100_000);
    assert_eq!(two.scan_entries(b"").count(), 100_000);
    let report = two.check();
    assert!(report.is_clean(), "{report:?}");
    two.clear().unwrap();
    assert!(one.is_empty().unwrap());
    assert!(one.check().is_clean());
}

#[test]
fn batches_are_all_or_nothing() {
    let place = Place::new();
    let bus = place.open();
    let mut batch = Batch::new();
    for number in 0..16_384_u32 {
        batch.set_bytes(format!("k{number}"), b"v");
    }
    bus.commit(&batch).unwrap();
    assert_eq!(bus.len().unwrap(), 16_384);
    let mut bad = Batch::new();
    bad.set_bytes("k1", b"new").require_absent("k2");
    let error = bus.commit(&bad).unwrap_err();
    assert_eq!(error.index, 1);
    assert_eq!(bus.get_bytes("k1").unwrap().unwrap(), b"v");
    assert!(bus.check().is_clean());
}

#[test]
fn full_keeps_the_old_value() {
    let place = Place::new();
    let bus = place.options().max_capacity(8 << 20).open_at(place.path()).unwrap();
    bus.set_bytes("kept", b"old").unwrap();
    let value = vec![1; 100_000];
    let mut count = 0;
    let error = loop {
        match bus.set_bytes(format!("big{count}"), &value) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, WriteError::Full { asked: 100_000, .. }), "{error}");
    assert!(count > 10);
    assert_eq!(bus.get_bytes("kept").unwrap().unwrap(), b"old");
    assert!(bus.check().is_clean());
    for number in 0..count {
        bus.delete(format!("big{number}")).unwrap();
    }
    bus.set_bytes("big0", &value).unwrap();
}

#[test]
fn keys_that_vanish_and_keys_that_expire() {
    let place = Place::new();
    let stays = place.open();
    let goes = place.open();
    goes.put("claim").ephemeral().set_bytes(b"mine").unwrap();
    assert!(stays.contains("claim").unwrap());
    drop(goes);
    assert!(!stays.contains("claim").unwrap());
    stays.put("short").ttl(Duration::from_nanos(1)).set_bytes(b"x").unwrap();
    assert!(!stays.contains("short").unwrap());
    stays.put("short").if_absent().set_bytes(b"y").unwrap();
    assert!(stays.check().is_clean());
}

#[test]
fn bad_input_gets_its_own_error() {
    let place = Place::new();
    assert!(matches!(Bus::attach_at(place.path()), Err(OpenError::Absent { .. })));
    let bus = place.open();
    assert!(matches!(place.options().create_at(place.path()), Err(OpenError::Exists { .. })));
    let asked = place.options().max_capacity(64 << 20).open_at(place.path());
    assert!(matches!(asked, Err(OpenError::Differs { setting: "max_capacity", .. })));
    assert!(matches!(bus.set_bytes("", b""), Err(WriteError::Key { size: 0, .. })));
    assert!(bus.set_bytes([7; 1024], b"").is_ok());
    assert!(matches!(bus.set_bytes([7; 1025], b""), Err(WriteError::Key { size: 1025, .. })));
    assert!(matches!(
        place.options().destroy_at(place.path(), false),
        Err(OpenError::InUse { count: 1, .. })
    ));
    place.options().destroy_at(place.path(), true).unwrap();
    assert!(matches!(bus.set_bytes("k", b""), Err(WriteError::Gone { .. })));
    assert!(!place.path().exists());
}

#[test]
fn a_watch_lists_then_follows_without_gap() {
    use membus::{ChangeKind, ChangeValue, Cursor, Event};
    let place = Place::new();
    let bus = place.open();
    bus.set_bytes("a/1", b"one").unwrap();
    bus.set_bytes("b/1", b"other").unwrap();
    let mut watch = bus.watch("a/").unwrap();
    assert!(matches!(watch.recv().unwrap(), Event::Current(entry) if &*entry.key == b"a/1"));
    let Event::CaughtUp(cursor) = watch.recv().unwrap() else { panic!("not caught up") };
    assert!(watch.try_recv().unwrap().is_none());
    let writer = bus.clone();
    let thread = std::thread::spawn(move || {
        for number in 0..2000_u32 {
            writer.set_bytes(format!("a/{}", number % 7), number.to_le_bytes()).unwrap();
            writer.set_bytes("b/2", b"noise").unwrap();
        }
        writer.set_bytes("a/big", vec![5; 5000]).unwrap();
        writer.delete("a/1").unwrap();
        writer.clear().unwrap();
    });
    let mut last = 0;
    for number in 0..2000_u32 {
        let Event::Change(change) = watch.recv().unwrap() else { panic!("no change") };
        assert!(change.revision.get() > last);
        last = change.revision.get();
        assert_eq!(change.value, ChangeValue::Here(number.to_le_bytes().to_vec()));
    }
    let Event::Change(big) = watch.recv().unwrap() else { panic!("no change") };
    assert!(matches!(big.value, ChangeValue::Here(_) | ChangeValue::TooLarge { size: 5000 }));
    assert!(matches!(watch.recv().unwrap(), Event::Change(c) if c.kind == ChangeKind::Delete));
    assert!(matches!(watch.recv().unwrap(), Event::Change(c) if c.kind == ChangeKind::Clear));
    thread.join().unwrap();
    assert_eq!(watch.recv_timeout(Duration::from_millis(10)).unwrap(), None);
    let mut replay = bus.watch_from("a/", cursor).unwrap();
    assert!(
        matches!(replay.recv().unwrap(), Event::Change(c) if c.revision.get() > cursor.revision)
    );
    let old = Cursor { incarnation: 77, revision: 5 };
    assert!(matches!(bus.watch_from("", old).unwrap().recv().unwrap(), Event::Lagged { .. }));
}

#[test]
fn an_overtaken_watch_says_how_much_it_missed() {
    use membus::Event;
    let place = Place::new();
    let bus = place.options().log_size(4096).open_at(place.path()).unwrap();
    let mut watch = bus.watch("k").unwrap();
    assert!(matches!(watch.recv().unwrap(), Event::CaughtUp(_)));
    for number in 0..500 {
        bus.set_bytes(format!("k{number}"), vec![1; 100]).unwrap();
    }
    let Event::Lagged { missed, resume } = watch.recv().unwrap() else { panic!("not lagged") };
    assert_eq!(missed, resume.revision);
    let mut seen = 0;
    while let Some(event) = watch.try_recv().unwrap() {
        assert!(matches!(event, Event::Change(_)));
        seen += 1;
    }
    assert_eq!(seen + missed, 500);
}

#[test]
fn a_lost_region_comes_back_from_its_snapshot() {
    let place = Place::new();
    let bus = place.open();
    let revision = bus.set("a", &"first").unwrap();
    bus.put("t").ttl(Duration::from_secs(1000)).who("me").set_bytes(b"ttl").unwrap();
    bus.put("gone").ephemeral().set_bytes(b"x").unwrap();
    for number in 0..5000_u32 {
        bus.set_bytes(format!("many/{number}"), vec![number as u8; (number % 500) as usize])
            .unwrap();
    }
    bus.add("n", 42).unwrap();
    let info = bus.snapshot().unwrap();
    assert_eq!(info.entries, 5003);
    bus.set("a", &"lost").unwrap();
    let lost = bus.stat("a").unwrap().unwrap().revision;
    std::fs::remove_dir_all(place.path()).unwrap();
    std::mem::forget(bus);
    let back = place.open();
    assert_eq!(back.len().unwrap(), 5003);
    assert_eq!(back.get::<i64>("n").unwrap(), Some(42));
    let stat = back.stat("t").unwrap().unwrap();
    assert_eq!(stat.who.as_deref(), Some("me"));
    assert!(stat.expires_in.unwrap() > Duration::from_secs(900));
    let first = back.get::<String>("a").unwrap();
    // The keeper of the lost bus may have saved once more before it said that the bus is gone.
    assert!(matches!(first.as_deref(), Some("first" | "lost")));
    if first.as_deref() == Some("first") {
        assert_eq!(back.stat("a").unwrap().unwrap().revision, revision);
    }
    assert!(back.set("a", &"new").unwrap().get() > lost.get() + (1 << 40) - 10_000);
    assert!(back.check().is_clean());
}

#[test]
fn operations_say_that_the_files_are_gone_and_the_state_is_saved() {
    let place = Place::new();
    let bus = place.open();
    bus.set("k", &1).unwrap();
    std::fs::remove_dir_all(place.path()).unwrap();
    let begun = std::time::Instant::now();
    while !matches!(bus.set("k", &1), Err(WriteError::Gone { .. })) {
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody noticed");
        std::thread::yield_now();
    }
    drop(bus);
    assert_eq!(place.open().get::<i32>("k").unwrap(), Some(1));
}

#[test]
fn close_saves_what_changed() {
    let place = Place::new();
    let bus = place.open();
    bus.set("k", &1).unwrap();
    bus.close().unwrap();
    std::fs::remove_dir_all(place.path()).unwrap();
    assert_eq!(place.open().get::<i32>("k").unwrap(), Some(1));
}

#[test]
fn a_guard_keeps_its_bytes_whoever_replaces_the_key() {
    let place = Place::new();
    let bus = place.open();
    bus.set_bytes("k", vec![1; 600]).unwrap();
    let guard = bus.read("k").unwrap().unwrap();
    assert!(guard.is_in_place());
    for number in 0..5000_u32 {
        bus.set_bytes("k", vec![number as u8; 600]).unwrap();
    }
    assert!(guard.iter().all(|byte| *byte == 1));
    let more: Vec<_> = (0..9).map(|_| bus.read("k").unwrap().unwrap()).collect();
    assert!(!more[8].is_in_place());
    assert_eq!(&*more[8], &*more[0]);
    drop((guard, more));
    assert!(bus.read("k").unwrap().unwrap().is_in_place());
    assert!(bus.check().is_clean());
}

#[test]
fn a_reader_reads_scans_and_watches_but_is_no_member() {
    use membus::{BusReader, Event};
    let place = Place::new();
    let bus = place.open();
    bus.set("k", &7).unwrap();
    let reader = BusReader::open_at(place.path()).unwrap();
    assert_eq!(reader.get::<i32>("k").unwrap(), Some(7));
    assert_eq!(reader.keys("").unwrap().len(), 1);
    let mut watch = reader.watch("").unwrap();
    assert!(matches!(watch.recv().unwrap(), Event::Current(_)));
    assert!(matches!(watch.recv().unwrap(), Event::CaughtUp(_)));
    bus.set("k", &8).unwrap();
    assert!(matches!(watch.recv().unwrap(), Event::Change(_)));
    let info = reader.info().unwrap();
    assert_eq!((info.members, info.entries, info.revision, info.log_oldest), (1, 1, 2, 1));
    assert_eq!(bus.members().unwrap().len(), 1);
    assert!(membus::check(place.path()).unwrap().is_clean());
}
