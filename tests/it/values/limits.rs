//! Every named constant of `membus::limits`, on both sides. The members' limit is in `environment`.

use crate::harness::{Place, assert_whole, caught_up, next_change, os, skipped};
use membus::limits::{
    DEFAULT_CAPACITY, DEFAULT_MAX_CAPACITY, KEY_MAX, LABEL_MAX, MAX_CAPACITY, MIN_CAPACITY,
    NAME_MAX, RECORD_VALUE_MAX, WATCHES_MAX,
};
use membus::{Bus, ChangeValue, Cursor, OpenError, ReadBus, ReadError, WatchError, WriteError};

/// Promise (limits): keys of 1 to `KEY_MAX` bytes, any bytes; others are refused by every operation.
/// Plant: `>` to `>=` in `check_wish` refuses the longest key.
#[test]
fn keys_have_one_to_key_max_bytes() {
    let place = Place::new();
    let bus = place.open();
    let longest = vec![0xff; KEY_MAX];
    for key in [&b"\0"[..], b"/", &[0x80], &longest] {
        bus.set_bytes(key, b"v").unwrap();
        assert_eq!(bus.get_bytes(key).unwrap().unwrap(), b"v");
        assert_eq!(bus.keys(key).unwrap().len(), 1);
    }
    for size in [0, KEY_MAX + 1] {
        let key = vec![0xff; size];
        let refused = |end: Result<(), WriteError>| {
            assert!(matches!(end, Err(WriteError::Key { size: s, limit: KEY_MAX }) if s == size));
        };
        refused(bus.set_bytes(&key, b"").map(drop));
        refused(bus.delete(&key).map(drop));
        refused(bus.add(&key, 1).map(drop));
        refused(bus.expire(&key, None).map(drop));
        let end = bus.get_bytes(&key);
        assert!(matches!(end, Err(ReadError::Key { size: s, limit: KEY_MAX }) if s == size));
        assert!(bus.contains(&key).is_err() && bus.stat(&key).is_err() && bus.read(&key).is_err());
    }
    assert!(bus.watch(vec![0; KEY_MAX]).is_ok());
    assert!(matches!(bus.watch(vec![0; KEY_MAX + 1]), Err(WatchError::Prefix { .. })));
    assert_eq!(bus.len().unwrap(), 4);
}

/// Promise (limits): labels and `who` up to `LABEL_MAX` bytes.
/// Plant: no check of `who` in `check_wish` lets a longer one into the entry.
#[test]
fn labels_have_up_to_label_max_bytes() {
    let place = Place::new();
    let (longest, longer) = ("l".repeat(LABEL_MAX), "l".repeat(LABEL_MAX + 1));
    let bus = place.options().label(&longest).open_at(place.bus()).unwrap();
    bus.set("k", &1).unwrap();
    assert_eq!(bus.stat("k").unwrap().unwrap().who.as_deref(), Some(&*longest));
    assert_eq!(bus.members().unwrap()[0].label.as_deref(), Some(&*longest));
    let refused = place.options().label(&longer).open_at(place.bus());
    assert!(matches!(refused, Err(OpenError::Setting { setting: "label", .. })));
    bus.put("k").who(&longest).set(&2).unwrap();
    let refused = bus.put("k").who(&longer).set(&3);
    assert!(
        matches!(refused, Err(WriteError::Label { size, limit: LABEL_MAX }) if size == LABEL_MAX + 1)
    );
    let mut batch = membus::Batch::new();
    batch.set_bytes("k", b"").who(&longer);
    assert!(matches!(bus.commit(&batch).unwrap_err().source, WriteError::Label { .. }));
    assert_eq!(bus.get::<i32>("k").unwrap(), Some(2));
}

/// Promise (names): `[A-Za-z0-9_][A-Za-z0-9._-]{0,63}`; others are refused before anything is touched.
/// Plant: a slash that is let through makes a bus elsewhere.
#[test]
fn names_keep_the_rules() {
    let place = Place::new();
    let options = place.options().directory(place.path().join("buses")).capacity(1 << 20);
    let options = options.max_capacity(MIN_CAPACITY);
    let longest = "x".repeat(NAME_MAX);
    for name in ["a", "_", "9.b-c_", &longest] {
        let bus = options.open(name).unwrap();
        assert_eq!(bus.info().unwrap().name, name);
    }
    for name in
        ["", ".", "..", "-a", ".a", "a/b", "a b", "a\n", "\u{e9}", &"x".repeat(NAME_MAX + 1)]
    {
        let refused = options.open(name).unwrap_err();
        assert!(matches!(&refused, OpenError::Name { name: n } if n == name), "{refused}");
        assert!(matches!(options.destroy(name, true), Err(OpenError::Name { .. })));
    }
    let found = membus::buses(Some(&place.path().join("buses"))).unwrap();
    assert_eq!(found.len(), 4);
    for bus in found {
        options.destroy(&bus.name, false).unwrap();
    }
    assert_eq!(membus::buses(Some(&place.path().join("buses"))).unwrap(), []);
}

/// Promise (limits): a bus begins with `DEFAULT_CAPACITY` and grows to `DEFAULT_MAX_CAPACITY` unless
/// asked otherwise, and to `MIN_CAPACITY` to `MAX_CAPACITY` when asked; other settings are refused.
/// Plant: `..=` to `..` in `Options::check` refuses the largest one.
#[test]
fn capacities_have_both_ends() {
    let place = Place::new();
    let bus = place.open();
    let info = bus.info().unwrap();
    assert_eq!(info.max_capacity, DEFAULT_MAX_CAPACITY);
    assert_eq!(std::fs::metadata(place.region()).unwrap().len(), info.capacity);
    assert_eq!(info.capacity, DEFAULT_CAPACITY);
    drop(bus);
    for max in [MIN_CAPACITY, MAX_CAPACITY] {
        let place = Place::new();
        let options = place.options().capacity(1).max_capacity(max).log_size(4096);
        let bus = options.open_at(place.bus()).unwrap();
        assert_eq!(bus.info().unwrap().max_capacity, max);
        bus.set("k", &1).unwrap();
    }
    let place = Place::new();
    let refused = |options: membus::Options, name: &str| match options.open_at(place.bus()) {
        Err(OpenError::Setting { setting, .. }) => assert_eq!(setting, name),
        other => panic!("{name}: {other:?}"),
    };
    refused(place.options().max_capacity(MIN_CAPACITY - 1), "max_capacity");
    refused(place.options().max_capacity(MAX_CAPACITY + 1), "max_capacity");
    refused(place.options().max_capacity(8 << 20).capacity((8 << 20) + 1), "capacity");
    refused(place.options().log_size(4095), "log_size");
    refused(place.options().max_capacity(8 << 20).log_size((4 << 20) + 1), "log_size");
    refused(place.options().mode(0o400), "mode");
    refused(place.options().mode(0o700), "mode");
    assert!(!place.bus().exists(), "a refusal leaves nothing behind");
}

/// Promise (values): 0 bytes to a quarter of the maximum capacity; one more is refused with both numbers
/// and the old value stays.
/// Plant: `>` to `>=` in `check_wish` refuses the largest one.
#[test]
fn values_have_up_to_a_quarter_of_the_maximum() {
    for max in [MIN_CAPACITY, 64 << 20] {
        let place = Place::new();
        let bus = place.options().max_capacity(max).open_at(place.bus());
        let bus = bus.unwrap_or_else(|_| {
            place.options().capacity(max).max_capacity(max).open_at(place.bus()).unwrap()
        });
        let limit = max / 4;
        let largest = vec![7; limit as usize];
        bus.set_bytes("k", &largest).unwrap();
        assert_eq!(bus.get_bytes("k").unwrap().unwrap(), largest);
        let larger = vec![8; limit as usize + 1];
        let refused = bus.set_bytes("k", &larger).unwrap_err();
        assert!(
            matches!(refused, WriteError::ValueTooLarge { size, limit: l } if size == limit + 1 && l == limit)
        );
        let mut batch = membus::Batch::new();
        batch.delete("k").set_bytes("other", &larger);
        let refused = bus.commit(&batch).unwrap_err();
        assert!(matches!(refused.source, WriteError::ValueTooLarge { .. }));
        assert_eq!(refused.index, 1);
        assert_eq!(*bus.read("k").unwrap().unwrap(), *largest);
        bus.set_bytes("k", b"").unwrap();
        assert_eq!(bus.get_bytes("k").unwrap().unwrap(), b"");
        assert_whole(&bus);
    }
}

/// Promise (watching): a record carries values up to `RECORD_VALUE_MAX`; a larger one is read by key,
/// and once it was replaced its size is told.
/// Plant: `<=` to `<` in `carried` tells the size of one that is carried.
#[test]
fn records_carry_values_up_to_record_value_max() {
    let place = Place::new();
    let bus = place.open();
    let size = RECORD_VALUE_MAX as usize;
    for (size, replaced) in [
        (size, ChangeValue::Here(vec![1; size])),
        (size + 1, ChangeValue::TooLarge { size: RECORD_VALUE_MAX + 1 }),
    ] {
        let mut watch = bus.watch_from("k", Cursor::NOW).unwrap();
        bus.set_bytes("k", vec![1; size]).unwrap();
        bus.set_bytes("k", vec![2; size]).unwrap();
        caught_up(&mut watch);
        assert_eq!(next_change(&mut watch).value, replaced);
        assert_eq!(next_change(&mut watch).value, ChangeValue::Here(vec![2; size]));
    }
}

/// Promise (limits): `WATCHES_MAX` watches at a time; one more is refused with the number, and a slot
/// that is given back can be had again.
/// Plant: a dropped watch that keeps its slot.
#[test]
fn there_are_watches_max_watches() {
    let test = "there_are_watches_max_watches";
    if let Err(limit) = os::allow_files(WATCHES_MAX + 500) {
        return skipped(test, &format!("{limit} open files are too few"));
    }
    let place = Place::new();
    let (bus, other) = (place.open(), place.attach());
    let watch = |bus: &Bus| bus.watch_from("k", Cursor::NOW);
    let mut watches: Vec<_> = (0..WATCHES_MAX).map(|_| watch(&bus).unwrap()).collect();
    for bus in [&bus, &other] {
        assert!(matches!(watch(bus), Err(WatchError::TooMany { limit: WATCHES_MAX })));
    }
    assert_eq!(u64::from(bus.info().unwrap().watches), WATCHES_MAX);
    // A reader's watch has no slot.
    assert!(membus::BusReader::open_at(place.bus()).unwrap().watch("").is_ok());
    watches.swap_remove(1000);
    let mut late = watch(&other).unwrap();
    assert!(watch(&other).is_err());
    bus.set("k", &1).unwrap();
    for watch in watches.iter_mut().chain([&mut late]) {
        caught_up(watch);
        next_change(watch);
    }
    drop(watches);
    assert_eq!(bus.info().unwrap().watches, 1);
    assert_whole(&bus);
}
