//! Single changes: revisions, conditions, counters, updates, who and when.

use crate::harness::{Place, assert_whole, from_now, next_change};
use membus::{
    Batch, Bus, ChangeKind, Cursor, Expected, Kind, ReadBus, Revision, Update, Updated, WriteError,
};
use std::time::{Duration, SystemTime};

/// Promise "one order": every change has the next revision, whatever it is, and what changes nothing
/// has none; each change of a batch has one of its own, in a row.
/// Method: one of each kind, and the head before and after.
/// Plant: a delete of an absent key that commits a record draws a revision.
#[test]
fn every_change_has_the_next_revision() {
    let place = Place::new();
    let bus = place.open();
    let head = || bus.info().unwrap().revision;
    let mut expected = head();
    let mut next = |revision: Option<Revision>, by: u64| {
        expected += by;
        assert_eq!(head(), expected);
        if let Some(revision) = revision {
            assert_eq!(revision.get(), expected);
        }
    };
    next(Some(bus.set("a", &1).unwrap()), 1);
    next(Some(bus.set_bytes("b", b"1").unwrap()), 1);
    next(Some(bus.put("c").set_counter(1).unwrap()), 1);
    bus.add("c", 1).unwrap();
    next(None, 1);
    bus.add("new", 0).unwrap();
    next(None, 1);
    next(bus.expire("a", Some(Duration::from_secs(1000))).unwrap(), 1);
    next(bus.expire("absent", None).unwrap(), 0);
    next(bus.delete("b").unwrap(), 1);
    assert!(bus.delete("b").unwrap().is_none());
    next(None, 0);
    assert!(bus.put("a").if_absent().set(&2).is_err());
    next(None, 0);
    assert!(matches!(bus.update("a", |n| Update::Set(n.unwrap_or(0) + 1)), Ok(Updated::Set(2, _))));
    next(None, 1);
    assert_eq!(bus.update("a", |_: Option<i32>| Update::Keep).unwrap(), Updated::Kept);
    next(None, 0);
    let mut batch = Batch::new();
    batch.set("x", &1).unwrap().set_bytes("y", b"").add("c", 5).delete("a").delete("absent");
    next(bus.commit(&batch).unwrap(), 4);
    next(bus.commit(&Batch::new()).unwrap(), 0);
    next(Some(bus.clear().unwrap()), 1);
    let mut watch = bus.watch_from("", Cursor { incarnation: 0, revision: 0 }).unwrap();
    for revision in 1..=expected {
        let change = next_change(&mut watch);
        assert_eq!(change.revision.get(), revision);
    }
    assert!(watch.try_recv().unwrap().is_none());
}

/// Promise (changes): conditions hold or are refused with what was expected and what is there; a refused
/// change leaves everything as it was.
/// Plant: `found.is_none()` turned round in `plan` sets what should be absent.
#[test]
fn conditions_hold_or_say_what_is_there() {
    let place = Place::new();
    let bus = place.open();
    let absent = Revision::new(7).unwrap();
    let conflict = |result: Result<Revision, WriteError>| match result {
        Err(WriteError::Conflict { expected, found, .. }) => (expected, found),
        other => panic!("{other:?}"),
    };
    let refused = bus.put("k").if_revision(absent).set_bytes(b"no");
    assert_eq!(conflict(refused), (Expected::Revision(absent), None));
    let first = bus.put("k").if_absent().set_bytes(b"one").unwrap();
    let refused = bus.put("k").if_absent().set_bytes(b"no");
    assert_eq!(conflict(refused), (Expected::Absent, Some(first)));
    let second = bus.put("k").if_revision(first).set_bytes(b"two").unwrap();
    let refused = bus.put("k").if_revision(first).set_bytes(b"no");
    assert_eq!(conflict(refused), (Expected::Revision(first), Some(second)));
    assert!(bus.put("k").if_revision(first).delete().is_err());
    assert!(bus.put("k").if_revision(first).expire(None).is_err());
    assert!(bus.put("k").if_absent().add(1).is_err());
    assert_eq!(bus.get_bytes("k").unwrap().unwrap(), b"two");
    assert_eq!(bus.stat("k").unwrap().unwrap().revision, second);
    assert!(bus.put("k").if_revision(second).delete().unwrap().is_some());
    assert!(bus.put("k").if_absent().delete().unwrap().is_none());
    assert_eq!(bus.put("n").if_absent().add(4).unwrap(), 4);
    let counter = bus.stat("n").unwrap().unwrap().revision;
    assert_eq!(bus.put("n").if_revision(counter).add(4).unwrap(), 8);
    // After a clear everything is absent to a condition as well.
    bus.clear().unwrap();
    bus.put("n").if_absent().set_bytes(b"anew").unwrap();
    assert_eq!(bus.info().unwrap().operations.conflicts, 6);
    assert_whole(&bus);
}

/// Promise (changes): counters add exactly, from 0; at both ends of `i64` it is an error with the
/// numbers, and the old value stays; what is no counter says so.
/// Plant: `wrapping_add` in `added` wraps round.
#[test]
fn counters_add_up_and_never_wrap() {
    let place = Place::new();
    let bus = place.open();
    assert_eq!(bus.add("n", 5).unwrap(), 5);
    assert_eq!(bus.add("n", -7).unwrap(), -2);
    for (value, by) in [(i64::MAX, 1), (i64::MIN, -1), (-2, i64::MIN), (1, i64::MAX)] {
        let at = bus.put("n").set_counter(value).unwrap();
        let error = bus.add("n", by).unwrap_err();
        assert!(
            matches!(error, WriteError::Overflow { value: v, by: b, .. } if v == value && b == by)
        );
        let mut batch = Batch::new();
        batch.set_bytes("other", b"").add("n", by);
        let error = bus.commit(&batch).unwrap_err();
        assert_eq!(error.index, 1);
        assert!(matches!(error.source, WriteError::Overflow { .. }));
        assert_eq!(bus.get::<i64>("n").unwrap(), Some(value));
        assert_eq!(bus.stat("n").unwrap().unwrap().revision, at);
    }
    assert!(!bus.contains("other").unwrap());
    assert_eq!(
        bus.put("n").set_counter(i64::MAX).and_then(|_| bus.add("n", -1)).unwrap() + 1,
        i64::MAX
    );
    bus.set_bytes("raw", 5_i64.to_le_bytes()).unwrap();
    bus.set("number", &5).unwrap();
    for (key, kind) in [("raw", Kind::Bytes), ("number", Kind::Structure)] {
        let error = bus.add(key, 1).unwrap_err();
        assert!(
            matches!(&error, WriteError::NotACounter { key: k, kind: found } if *found == kind && **k == *key.as_bytes())
        );
    }
    assert_whole(&bus);
}

/// Promise (changes): `update` runs its closure under no lock, again when somebody was faster, and sets,
/// deletes or keeps; time to live and owner of the entry stay, `set` replaces them.
/// Method: the closure itself changes the key behind the update's back.
/// Plant: a closure that is not called again gives the overtaken value.
#[test]
fn update_sees_what_is_there_and_keeps_what_it_does_not_change() {
    let place = Place::new();
    let (bus, other) = (place.open(), place.attach());
    bus.put("k").ttl(Duration::from_secs(1000)).ephemeral().set(&1).unwrap();
    let mut calls = 0;
    let updated = bus.update("k", |old: Option<u32>| {
        calls += 1;
        if calls < 4 {
            // A callback may call the bus, and this handle too.
            other.put("k").ttl(Duration::from_secs(500)).ephemeral().set(&(calls * 10)).unwrap();
            assert!(bus.contains("k").unwrap());
        }
        Update::Set(old.unwrap() + 1)
    });
    assert!(matches!(updated, Ok(Updated::Set(31, _))), "{updated:?}");
    assert_eq!(calls, 4);
    let stat = bus.stat("k").unwrap().unwrap();
    assert!(stat.ephemeral && stat.expires_in.unwrap() < Duration::from_secs(501), "{stat:?}");
    bus.set("k", &5).unwrap();
    let stat = bus.stat("k").unwrap().unwrap();
    assert_eq!((stat.ephemeral, stat.expires_in), (false, None));
    let deleted = bus.update("k", |_: Option<u32>| Update::Delete).unwrap();
    assert!(matches!(deleted, Updated::Deleted(_)));
    assert_eq!(bus.update("k", |_: Option<u32>| Update::Delete).unwrap(), Updated::Kept);
    let made = bus.update("k", |old: Option<u32>| Update::Set(old.map_or(7, |_| 0))).unwrap();
    assert!(matches!(made, Updated::Set(7, _)));
}

/// Promise (safety): user code, a closure or a `Serialize`, runs under no lock: others write the same key meanwhile,
/// and when it panics this handle and others go on.
/// Plant: `encode` called under the stripe's lock.
#[test]
fn user_code_that_panics_leaves_nothing_behind() {
    struct Panics<'a>(&'a Bus);
    impl serde::Serialize for Panics<'_> {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            self.0.set("k", &2).unwrap();
            panic!("on purpose")
        }
    }
    let place = Place::new();
    let (bus, other) = (place.open(), place.attach());
    bus.set("k", &1).unwrap();
    let panics = std::panic::AssertUnwindSafe(|| bus.set("k", &Panics(&other)));
    assert!(std::panic::catch_unwind(panics).is_err());
    let update = |_: Option<u32>| -> Update<u32> { panic!("on purpose") };
    let panics = std::panic::AssertUnwindSafe(|| bus.update("k", update));
    assert!(std::panic::catch_unwind(panics).is_err());
    for bus in [&bus, &other] {
        assert!(matches!(
            bus.update("k", |n| Update::Set(n.unwrap_or(0) + 1)),
            Ok(Updated::Set(..))
        ));
    }
    assert_eq!(other.get::<u32>("k").unwrap(), Some(4));
    assert_whole(&bus);
}

/// Promise (changes): an update that is overtaken again and again ends at the handle's deadline as a
/// conflict; it neither hangs nor writes.
/// Plant: a loop without a look at the clock goes on for ever.
#[test]
fn an_update_that_is_always_overtaken_ends() {
    let place = Place::new();
    let (_keeper, other) = (place.open(), place.attach());
    let options = place.options().deadline(Duration::from_millis(30));
    let bus = options.open_at(place.bus()).unwrap();
    let mut calls = 0_u32;
    let end = bus.update("k", |_: Option<u32>| {
        calls += 1;
        other.set("k", &calls).unwrap();
        Update::Set(u32::MAX)
    });
    assert!(matches!(end, Err(WriteError::Conflict { .. })), "{end:?}");
    assert_eq!(bus.get::<u32>("k").unwrap(), Some(calls));
}

/// Promise "visible": who and when of each change, in the entry and in the event; the member's label
/// unless the change says otherwise.
/// Plant: a batch that forgets its `who` has the label.
#[test]
fn who_and_when_are_kept() {
    let place = Place::new();
    let bus = place.options().label("feeder").open_at(place.bus()).unwrap();
    let nobody = place.attach();
    let mut watch = from_now(&bus);
    let before = SystemTime::now();
    bus.set("k", &1).unwrap();
    bus.put("k").who("somebody").set(&2).unwrap();
    nobody.set("k", &3).unwrap();
    nobody.put("n").who("adder").add(1).unwrap();
    let mut batch = Batch::new();
    batch.set_bytes("b", b"").who("batcher").delete("k");
    nobody.commit(&batch).unwrap();
    bus.delete("b").unwrap();
    bus.clear().unwrap();
    let after = SystemTime::now();
    let expected = [
        ("k", Some("feeder"), ChangeKind::Set),
        ("k", Some("somebody"), ChangeKind::Set),
        ("k", None, ChangeKind::Set),
        ("n", Some("adder"), ChangeKind::Set),
        ("b", Some("batcher"), ChangeKind::Set),
        ("k", Some("batcher"), ChangeKind::Delete),
        ("b", Some("feeder"), ChangeKind::Delete),
        ("", Some("feeder"), ChangeKind::Clear),
    ];
    for (key, who, kind) in expected {
        let change = next_change(&mut watch);
        assert_eq!((&*change.key, change.who.as_deref(), change.kind), (key.as_bytes(), who, kind));
        assert!((before..=after).contains(&change.time), "{before:?} {change:?} {after:?}");
    }
    bus.put("k").who("last").set_counter(4).unwrap();
    let entry = bus.get_entry("k").unwrap().unwrap();
    assert_eq!((entry.stat.who.as_deref(), entry.stat.kind), (Some("last"), Kind::Counter));
    assert!(entry.stat.time >= after);
}
