//! Bytes, structures, counters, and what one gets who asks for another.

use crate::harness::{Place, assert_whole, caught_up, next, next_change};
use membus::{Bus, BusReader, Event, Kind, ReadBus, ReadError, Update, WriteError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Side {
    Buy,
    Sell { limit: f64 },
    Both(u8, u8),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    side: Side,
    note: Option<String>,
    tags: Vec<String>,
    by_venue: BTreeMap<String, i32>,
    unit: (),
}

fn order() -> Order {
    Order {
        id: u64::MAX,
        side: Side::Sell { limit: 101.25 },
        note: None,
        tags: vec![String::new(), "\u{fc}\u{1f980}".into()],
        by_venue: [("a".to_owned(), -1), ("b".to_owned(), i32::MIN)].into(),
        unit: (),
    }
}

/// Promise "open": any `serde` type goes in and comes out, as structures with field names, and is the
/// same to a second handle and to a reader.
/// Plant: `to_vec` in place of `to_vec_named` in `encode` loses the field names.
#[test]
fn any_type_comes_back() {
    let place = Place::new();
    let (bus, other) = (place.open(), place.attach());
    let reader = BusReader::open_at(place.bus()).unwrap();
    bus.set("order", &order()).unwrap();
    for side in [Side::Buy, Side::Both(0, 255)] {
        bus.set("side", &side).unwrap();
        assert_eq!(other.get::<Side>("side").unwrap(), Some(side.clone()));
        assert_eq!(reader.get::<Side>("side").unwrap(), Some(side));
    }
    assert_eq!(other.get::<Order>("order").unwrap(), Some(order()));
    // Whoever knows fewer fields reads those: names, not positions.
    #[derive(Debug, PartialEq, Deserialize)]
    struct Less {
        note: Option<String>,
        id: u64,
    }
    let less = reader.get::<Less>("order").unwrap();
    assert_eq!(less, Some(Less { note: None, id: u64::MAX }));
    assert_eq!(bus.stat("order").unwrap().unwrap().kind, Kind::Structure);
    assert!(bus.get::<Order>("nothing").unwrap().is_none());
    assert_whole(&bus);
}

/// Promise "open": raw bytes go in untouched, whatever they are, from no byte to some megabytes; every
/// way of reading gives the same ones.
/// Plant: `read_into` with the length rounded down to whole words cuts a value's end off.
#[test]
fn bytes_come_back_untouched() {
    let place = Place::new();
    let (bus, other) = (place.open(), place.attach());
    let reader = BusReader::open_at(place.bus()).unwrap();
    let mut buffer = vec![9; 100];
    for size in [0, 1, 7, 8, 9, 63, 64, 1023, 1024, 1025, 16_383, 65_536, 1 << 20, (5 << 20) + 3] {
        let value: Vec<u8> = (0..size).map(|n: usize| (n * 31 + size) as u8).collect();
        bus.set_bytes("k", &value).unwrap();
        assert_eq!(other.get_bytes("k").unwrap().unwrap(), value, "{size}");
        let stat = other.get_into("k", &mut buffer).unwrap().unwrap();
        assert_eq!((stat.size, &buffer), (size as u64, &value));
        assert_eq!(*other.read("k").unwrap().unwrap(), *value, "{size}");
        assert_eq!(reader.get_entry("k").unwrap().unwrap().value, value, "{size}");
        let scanned: Vec<_> = reader.scan_entries("").map(|entry| entry.unwrap().value).collect();
        assert_eq!(scanned, [value]);
    }
    assert_whole(&bus);
}

fn refused<T: serde::de::DeserializeOwned + std::fmt::Debug>(bus: &Bus, key: &str) -> ReadError {
    let error = bus.get::<T>(key).unwrap_err();
    assert!(error.to_string().contains(key), "{error}");
    error
}

/// Promise (values): `get` of bytes, of another type or of bytes left over is an error that names the
/// key, the kind and the position; `get_bytes` works on all.
/// Plant: no look at the position after decoding lets left-over bytes pass.
#[test]
fn another_kind_or_type_is_told() {
    let place = Place::new();
    let bus = place.open();
    bus.set_bytes("raw", b"\x00\xff").unwrap();
    bus.set("text", "seven").unwrap();
    bus.set("pair", &(1, 2)).unwrap();
    bus.put("n").set_counter(-3).unwrap();
    let error = refused::<u8>(&bus, "raw");
    assert!(matches!(
        error,
        ReadError::NotThisKind { kind: Kind::Bytes, wanted: Kind::Structure, .. }
    ));
    let decode = |error: ReadError| match error {
        ReadError::Decode { kind, position, .. } => (kind, position),
        other => panic!("{other}"),
    };
    assert_eq!(decode(refused::<u64>(&bus, "text")).0, Kind::Structure);
    // The first number of two: one byte of the array's mark and one of the number were used.
    let mut one = rmp_serde::to_vec(&1_u8).unwrap();
    one.push(0x93);
    assert_eq!(decode(refused::<(u8, u8, u8)>(&bus, "pair")).0, Kind::Structure);
    assert_eq!(decode(refused::<String>(&bus, "n")), (Kind::Counter, 0));
    assert_eq!(decode(refused::<u8>(&bus, "n")), (Kind::Counter, 0));
    assert_eq!(bus.get::<i32>("n").unwrap(), Some(-3));
    for (key, bytes) in [("raw", 2), ("text", 6), ("pair", 3), ("n", 8)] {
        assert_eq!(bus.get_bytes(key).unwrap().unwrap().len(), bytes, "{key}");
    }
    let left = bus.scan::<u8>("pair").next().unwrap();
    assert!(matches!(left, Err(ReadError::Decode { .. })));
    assert_eq!(bus.get_entry("n").unwrap().unwrap().counter(), Some(-3));
    assert_eq!(bus.get_entry("raw").unwrap().unwrap().counter(), None);
}

/// A type whose reading uses fewer bytes than there are.
#[derive(Debug)]
struct Nothing;

impl<'de> Deserialize<'de> for Nothing {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

/// Promise (values): bytes left over are an error with their position; a value that can't be encoded
/// changes nothing.
/// Plant: the same as above.
#[test]
fn bytes_left_over_and_values_without_encoding_are_told() {
    struct Never;
    impl Serialize for Never {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it never does"))
        }
    }
    let place = Place::new();
    let bus = place.open();
    let first = bus.set("k", &7).unwrap();
    match bus.get::<Nothing>("k") {
        Err(ReadError::Decode { position: 0, reason, .. }) => assert!(reason.contains("left over")),
        other => panic!("{other:?}"),
    }
    let refused = bus.set("k", &Never).unwrap_err();
    assert!(matches!(&refused, WriteError::Encode { reason, .. } if reason.contains("never")));
    let refused = bus.update("k", |_: Option<Nothing>| Update::<Nothing>::Keep).unwrap_err();
    assert!(matches!(refused, WriteError::Read(ReadError::Decode { .. })));
    assert_eq!(bus.stat("k").unwrap().unwrap().revision, first);
    assert_eq!(bus.set("k", &8).unwrap().get(), first.get() + 1, "a refusal draws no revision");
}

impl Serialize for Nothing {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

/// Promise (scan): unordered, with a prefix; an entry that is present throughout appears exactly
/// once, however many there are and while others come and go.
/// Plants: `stripe_keys` that forgets overflow buckets loses keys; one that tells those of another stripe,
/// which it met in an array that was replaced and used anew, tells them twice (once in some dozens of runs).
#[test]
fn a_scan_gives_each_entry_once() {
    let place = Place::new();
    let (bus, other) = (place.open_small(), place.attach());
    for number in 0..20_000_u32 {
        bus.set(format!("stays/{number}"), &number).unwrap();
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in (0..5_000_u32).cycle() {
                other.set(format!("goes/{number}"), &number).unwrap();
                other.delete(format!("goes/{}", number / 2)).unwrap();
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
            }
        });
        let mut found = Vec::new();
        for _ in 0..10 {
            let scan = bus.scan::<u32>("stays/").map(Result::unwrap);
            found.push(scan.map(|(_, number)| number).collect::<Vec<_>>());
        }
        // Before anything is asserted: the other thread would go on for ever.
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for mut numbers in found {
            numbers.sort_unstable();
            assert!(numbers.iter().copied().eq(0..20_000), "{} keys", numbers.len());
        }
    });
    assert_eq!(bus.keys("stays/1999").unwrap().len(), 11);
    assert_eq!(bus.keys("nothing").unwrap(), []);
    assert_eq!(bus.delete_prefix("stays/").unwrap(), 20_000);
    assert_eq!(bus.scan_entries("stays/").count(), 0);
    assert_whole(&bus);
}

/// Promise (readers): a reader reads, scans, follows and asks what the bus is; it is no member, and what it can't
/// do it has no method for.
/// Plant: a reader that takes a slot.
#[test]
fn a_reader_is_no_member() {
    let place = Place::new();
    let bus = place.open();
    bus.set("k", &7).unwrap();
    let reader = place.options().reader_at(place.bus()).unwrap();
    assert_eq!(reader.get::<i32>("k").unwrap(), Some(7));
    assert_eq!(reader.keys("").unwrap().len(), 1);
    let mut watch = reader.watch("").unwrap();
    assert!(matches!(next(&mut watch), Event::Current(_)));
    caught_up(&mut watch);
    bus.set("k", &8).unwrap();
    assert_eq!(next_change(&mut watch).decode::<i32>().unwrap(), Some(8));
    let info = reader.info().unwrap();
    assert_eq!((info.members, info.entries, info.revision, info.log_oldest), (1, 1, 2, 1));
    assert_eq!((info.watches, reader.members().unwrap().len()), (0, 1));
    assert!(membus::check(place.bus()).unwrap().is_clean());
    drop(bus);
    assert_eq!(reader.get::<i32>("k").unwrap(), Some(8), "nobody need be there");
}
