//! Old values: what a change replaced or took away, where the bus tells it.

use crate::harness::{Place, from_now, next_change};
use membus::{Change, ChangeKind, ChangeValue, Kind, OpenError};
use std::time::Duration;

fn told(change: &Change) -> Option<(Kind, ChangeValue)> {
    change.old.as_ref().map(|old| (old.kind, old.value.clone()))
}

/// Promise (history): a set, a delete and an expiry tell what was there, of its kind and whole, or its size.
/// Plants: the old value of a batch's next change; a big one that counts as carried.
#[test]
fn changes_tell_what_was_there() {
    let place = Place::new();
    let bus = place.small().old_values(true).open_at(place.bus()).unwrap();
    assert!(bus.info().unwrap().old_values);
    let mut watch = from_now(&bus);
    let here = |kind, bytes: &[u8]| Some((kind, ChangeValue::Here(bytes.to_vec())));
    let mut next = || next_change(&mut watch);
    bus.set_bytes("k", "one").unwrap();
    assert_eq!(told(&next()), None);
    bus.set("k", &2).unwrap();
    assert_eq!(told(&next()), here(Kind::Bytes, b"one"));
    bus.delete("k").unwrap();
    assert_eq!(told(&next()), here(Kind::Structure, &[2]));
    bus.put("n").set_counter(7).unwrap();
    bus.clear().unwrap();
    assert_eq!((told(&next()), next().kind), (None, ChangeKind::Clear));
    bus.set_bytes("n", [1; 2000]).unwrap();
    assert_eq!(told(&next()), None, "it was cleared");
    bus.set_bytes("n", "short").unwrap();
    assert_eq!(told(&next()), Some((Kind::Bytes, ChangeValue::TooLarge { size: 2000 })));
    let mut batch = membus::Batch::new();
    batch.set_bytes("a", "new").delete("n").add("c", 5);
    bus.commit(&batch).unwrap();
    assert_eq!(told(&next()), None);
    assert_eq!(told(&next()), here(Kind::Bytes, b"short"));
    assert_eq!(told(&next()), None);
    bus.put("c").ttl(Duration::from_millis(1)).set_bytes("gone").unwrap();
    assert_eq!(told(&next()), here(Kind::Counter, &5_i64.to_le_bytes()));
    std::thread::sleep(Duration::from_millis(2));
    bus.set_bytes("c", "after").unwrap();
    let expired = next();
    assert_eq!((expired.kind, told(&expired)), (ChangeKind::Expire, here(Kind::Bytes, b"gone")));
    assert_eq!(told(&next()), None);
}

/// Promise (configuration): whoever asks for another bus than is there is told so, and a bus that is
/// rebuilt tells old values as before.
/// Plant: the setting is not kept.
#[test]
fn it_is_a_setting_of_the_bus() {
    let place = Place::new();
    let bus = place.small().old_values(true).open_at(place.bus()).unwrap();
    bus.set_bytes("k", "v").unwrap();
    bus.snapshot().unwrap();
    let other = place.small().old_values(false).open_at(place.bus());
    assert!(matches!(other, Err(OpenError::Differs { setting: "old_values", .. })), "{other:?}");
    drop(bus);
    std::fs::remove_dir_all(place.bus()).unwrap();
    let bus = place.small().open_at(place.bus()).unwrap();
    let mut watch = from_now(&bus);
    bus.delete("k").unwrap();
    let old = told(&next_change(&mut watch));
    assert_eq!(old, Some((Kind::Bytes, ChangeValue::Here(b"v".to_vec()))));
    let plain = Place::new();
    let bus = plain.small().open_at(plain.bus()).unwrap();
    let mut watch = from_now(&bus);
    bus.set_bytes("k", "v").unwrap();
    bus.delete("k").unwrap();
    assert_eq!((told(&next_change(&mut watch)), told(&next_change(&mut watch))), (None, None));
}
