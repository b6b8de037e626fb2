//! Batches: data, all or none, one revision a change.

use crate::harness::{Place, assert_whole, from_now, next, next_change};
use membus::limits::{BATCH_MAX, KEY_MAX};
use membus::{Batch, ChangeKind, ChangeValue, Event, Kind, ReadBus, Watch, WriteError};

/// Promise "both or neither": one refused change and nothing of the batch is there, and the error
/// names the change; the batch is data and can be committed again.
/// Plant: `take_back` left out loses the room of what was filled, and `check` finds it.
#[test]
fn a_refused_change_refuses_the_batch() {
    let place = Place::new();
    let bus = place.open();
    let first = bus.set_bytes("there", b"old").unwrap();
    bus.put("n").set_counter(i64::MAX).unwrap();
    let head = bus.info().unwrap().revision;
    let refusals: [fn(&mut Batch); 6] = [
        |batch| {
            batch.require_absent("there");
        },
        |batch| {
            batch.require_revision("gone", membus::Revision::new(1).unwrap());
        },
        |batch| {
            batch.put("there").if_absent().set_bytes(b"new");
        },
        |batch| {
            batch.add("n", 1);
        },
        |batch| {
            batch.add("there", 1);
        },
        |batch| {
            batch.set_bytes(vec![1; KEY_MAX + 1], b"");
        },
    ];
    for (number, refuse) in refusals.iter().enumerate() {
        let mut batch = Batch::new();
        for key in 0..100 {
            batch.set_bytes(format!("new/{key}"), vec![0; key * 20]);
        }
        batch.delete("there");
        refuse(&mut batch);
        batch.set_bytes("after", b"");
        let error = bus.commit(&batch).unwrap_err();
        assert_eq!(error.index, 101, "{number}: {error}");
        assert_eq!(bus.info().unwrap().revision, head, "{number}");
        assert_eq!(bus.len().unwrap(), 2, "{number}");
        assert_whole(&bus);
    }
    let mut batch = Batch::new();
    batch.require_revision("there", first).require_absent("new").set_bytes("new", b"1");
    bus.commit(&batch).unwrap();
    let error = bus.commit(&batch).unwrap_err();
    assert!(matches!(error.source, WriteError::Conflict { .. }));
    assert_eq!(error.index, 1);
    bus.delete("new").unwrap();
    bus.commit(&batch).unwrap();
    assert_eq!((batch.len(), batch.is_empty()), (3, false));
}

/// Promise (batches): the same key twice: the last change counts, conditions all count; kinds, sums and
/// deletes as in single changes.
/// Plant: the first one counts.
#[test]
fn the_last_change_of_a_key_counts() {
    let place = Place::new();
    let bus = place.open();
    bus.put("n").set_counter(10).unwrap();
    bus.set_bytes("gone", b"").unwrap();
    let mut batch = Batch::new();
    batch.set_bytes("k", b"one").delete("k").set("k", &"three").unwrap();
    batch.add("n", 1).add("n", 5).delete("gone").delete("never");
    batch.set_counter("c", -1);
    batch.put("l").if_absent().set(&1).unwrap();
    let mut watch = from_now(&bus);
    let last = bus.commit(&batch).unwrap().unwrap();
    assert_eq!(bus.get::<String>("k").unwrap().as_deref(), Some("three"));
    assert_eq!(bus.get::<i64>("n").unwrap(), Some(15));
    assert_eq!(bus.stat("c").unwrap().unwrap().kind, Kind::Counter);
    assert!(!bus.contains("gone").unwrap());
    let told: Vec<_> = std::iter::from_fn(|| watch.try_recv().unwrap()).collect();
    assert_eq!(told.len(), 5, "{told:?}");
    let Event::Change(change) = &told[4] else { panic!("no change") };
    assert_eq!(change.revision, last);
    let mut only_conditions = Batch::new();
    only_conditions.require_absent("never");
    assert_eq!(bus.commit(&only_conditions).unwrap(), None);
    batch.clear();
    assert!(batch.is_empty());
    assert_whole(&bus);
}

/// Every change of `count` is told with its revision, or counted as missed.
fn follow(watch: &mut Watch, from: u64, until: u64) -> (u64, u64) {
    let (mut seen, mut missed, mut expected) = (0, 0, from + 1);
    while expected <= until {
        match next(watch) {
            Event::Change(change) => {
                assert_eq!(change.revision.get(), expected);
                seen += 1;
                expected += 1;
            }
            Event::Lagged { missed: count, resume } => {
                assert_eq!(resume.revision + 1, expected + count, "where it goes on");
                missed += count;
                expected += count;
            }
            other => panic!("{other:?}"),
        }
    }
    (seen, missed)
}

/// Promise (batches): at least 16,384 changes on a bus of the default size, each told with its value.
/// Plant: a list of changes cut off at one block loses the rest, and the finish refuses the count.
#[test]
fn a_batch_of_sixteen_thousand_changes_is_told_whole() {
    let place = Place::new();
    let bus = place.open();
    let mut watch = from_now(&bus);
    let mut batch = Batch::new();
    for number in 0..16_384_u32 {
        batch.set_bytes(number.to_le_bytes(), b"v");
    }
    let last = bus.commit(&batch).unwrap().unwrap().get();
    assert_eq!((last, bus.len().unwrap()), (16_384, 16_384));
    assert_eq!(follow(&mut watch, 0, last), (16_384, 0));
    let mut deletes = Batch::new();
    for number in 0..16_384_u32 {
        deletes.delete(number.to_le_bytes());
    }
    bus.commit(&deletes).unwrap();
    assert!(bus.is_empty().unwrap());
    assert_whole(&bus);
}

/// Promise (batches, watching): `BATCH_MAX` changes are always accepted, with the longest keys too, whose
/// records do not fit into the log: then every watch is told exactly how much it missed, with what it
/// had not read yet, and goes on.
/// Plant: the index of the next record not noted in `log_skip` loses the change after the batch.
#[test]
fn the_largest_batches_are_accepted_and_their_size_is_told() {
    let place = Place::new();
    let bus = place.open();
    for key_size in [4, KEY_MAX] {
        bus.clear().unwrap();
        let begun = bus.info().unwrap().revision;
        let (mut watch, mut behind) = (from_now(&bus), from_now(&bus));
        bus.set_bytes("before", b"").unwrap();
        assert_eq!(follow(&mut watch, begun, begun + 1), (1, 0));
        let mut batch = Batch::new();
        for number in 0..BATCH_MAX {
            let mut key = vec![b'k'; key_size];
            key[..4].copy_from_slice(&(number as u32).to_le_bytes());
            batch.set_bytes(key, b"value");
        }
        let last = bus.commit(&batch).unwrap().unwrap().get();
        assert_eq!(last, begun + 1 + BATCH_MAX as u64);
        assert_eq!(bus.len().unwrap(), BATCH_MAX as u64 + 1);
        for number in 0..100 {
            bus.set_bytes(format!("after/{number}"), b"").unwrap();
        }
        let (seen, missed) = follow(&mut watch, begun + 1, last + 100);
        assert_eq!((seen + missed, missed), (BATCH_MAX as u64 + 100, BATCH_MAX as u64));
        let (seen, missed) = follow(&mut behind, begun, last + 100);
        assert_eq!((seen, missed), (100, BATCH_MAX as u64 + 1));
        assert_whole(&bus);
    }
    let one_more = (0..=BATCH_MAX as u32).fold(Batch::new(), |mut batch, number| {
        batch.delete(number.to_le_bytes());
        batch
    });
    bus.commit(&one_more).unwrap();
}

/// Promise (watching): values of a batch whose records fit only without them are read by key.
/// Plant: such a record without its mark gives an empty value.
#[test]
fn a_batch_whose_values_do_not_fit_the_log_is_told_by_key() {
    let place = Place::new();
    let bus = place.options().log_size(64 << 10).open_at(place.bus()).unwrap();
    let mut watch = from_now(&bus);
    let mut batch = Batch::new();
    for number in 0..100_u8 {
        batch.set_bytes([number], vec![number; 1000]);
    }
    bus.commit(&batch).unwrap();
    bus.set_bytes([3], b"anew").unwrap();
    for number in 0..100_u8 {
        let change = next_change(&mut watch);
        let expected = match number {
            3 => ChangeValue::TooLarge { size: 1000 },
            _ => ChangeValue::Here(vec![number; 1000]),
        };
        assert_eq!((change.kind, change.value), (ChangeKind::Set, expected), "{number}");
    }
}
