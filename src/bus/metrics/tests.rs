//! What is counted, by one handle and by many threads of it.

use super::super::testing::Place;
use super::*;
use crate::region::layout::{header, member};
use crate::sync::Ordering::Relaxed;
use crate::tally::TALLY_BYTES;
use crate::{Batch, Bus, Cursor, Event, ReadBus, ReadError, WriteError};
use std::thread;

fn bus() -> (Bus, Place) {
    let place = Place::new();
    (place.make(), place)
}

/// Promise (metrics): each operation is counted as what it is.
/// Plants: misses that are not counted; `is_new` of a key that expired; lookups of a scan that count.
#[test]
fn each_operation_is_counted_as_what_it_is() {
    let (bus, _place) = bus();
    for number in 0..5 {
        bus.set(format!("k{number}"), &number).unwrap();
    }
    bus.set("k1", &7).unwrap();
    bus.add("n", 1).unwrap();
    bus.add("n", 1).unwrap();
    let mut batch = Batch::new();
    batch.set_bytes("k0", "b").set_bytes("b1", "b").set_bytes("b2", "b").delete("k2");
    bus.commit(&batch).unwrap();
    assert_eq!((bus.delete("k3").unwrap().is_some(), bus.delete("k3").unwrap()), (true, None));
    bus.put("brief").ttl(Duration::from_nanos(1)).set(&1).unwrap();
    assert_eq!(bus.get::<i32>("brief").unwrap(), None);
    bus.set("brief", &2).unwrap();
    assert!(matches!(bus.put("k1").if_absent().set(&1), Err(WriteError::Conflict { .. })));
    assert_eq!(bus.keys("").unwrap().len(), 7);
    assert!(bus.contains("k1").unwrap() && bus.read("k4").unwrap().is_some());
    assert!(matches!(bus.get::<String>("k1"), Err(ReadError::Decode { .. })));
    assert!(bus.set("", &1).is_err() && bus.get_bytes("").is_err());
    let lock = bus.lock("l").unwrap();
    drop(lock);
    let done = bus.metrics().unwrap();
    let before_clear = OperationMetrics {
        total: 5 + 1 + 2 + 1 + 2 + 4 + 5,
        gets: 5,
        hits: 3,
        misses: 2,
        sets: 10,
        adds: 2,
        deletes: 2,
        commits: 1,
        changes: 4,
        clears: 0,
        scans: 1,
        created: 5 + 1 + 2 + 2,
        updated: 1 + 1 + 1,
        deleted: 2,
        expired: 1,
        conflicts: 1,
        lock_changes: 2,
    };
    assert_eq!(done.operations, before_clear);
    let errors = ErrorMetrics { total: 3, read: 2, write: 1, ..ErrorMetrics::default() };
    assert_eq!(done.errors, errors);
    assert!((done.operations.hit_ratio() - 0.6).abs() < 1e-9);
    bus.clear().unwrap();
    bus.set("k1", &1).unwrap();
    let now = bus.metrics().unwrap().since(&done);
    assert_eq!((now.operations.clears, now.operations.created, now.operations.total), (1, 1, 2));
    assert_eq!((now.operations.gets, now.errors.total), (0, 0));
    assert_eq!(done.set_times.samples(), 2, "the first set and the first addition, at the least");
    assert!(done.get_times.samples() >= 1 && done.mean_time() > Duration::ZERO);
}

/// Promise: threads that share a handle lose no count to each other, more of them than there are lanes.
/// Plants: every lane counts as one thread's; a lane that two claim.
#[test]
fn threads_of_a_handle_lose_no_count() {
    const EACH: u64 = 20_000;
    let (bus, _place) = bus();
    bus.set("k", &1).unwrap();
    let key = |number: u64| if number.is_multiple_of(4) { "absent" } else { "k" };
    let look = || (0..EACH).filter(|number| bus.contains(key(*number)).unwrap()).count();
    for _ in 0..2 {
        thread::scope(|scope| (0..12).for_each(|_| drop(scope.spawn(look))));
    }
    let done = bus.metrics().unwrap();
    let OperationMetrics { gets, misses, .. } = done.operations;
    assert_eq!((gets, misses), (24 * EACH, 6 * EACH));
    let (timed, expected) = (done.get_times.samples() as f64, (24 * EACH / 256) as f64);
    assert!((timed / expected - 1.0).abs() < 0.2, "{timed} of {expected} were timed");
}

/// Promise: what a member did goes on counting after it has left, and the next user of its slot begins at 0.
/// Plants: a newcomer that clears its slot's counts; one that notes no base.
#[test]
fn counts_outlive_who_counted_them() {
    let (bus, place) = bus();
    bus.set("k", &1).unwrap();
    for round in 1..4 {
        let other = place.options().label("other").attach_at(place.bus()).unwrap();
        for _ in 0..10 {
            other.get::<i32>("k").unwrap();
        }
        other.set("k", &round).unwrap();
        let own = other.metrics().unwrap().own;
        assert_eq!((own.gets, own.sets), (10, 1));
        drop(other);
        let metrics = bus.metrics().unwrap();
        assert_eq!(metrics.operations.gets, 10 * round);
        assert_eq!(metrics.operations.sets, 1 + round);
        let seen: Vec<_> = metrics.members.iter().map(|one| (one.slot, one.gets)).collect();
        assert_eq!(seen, [(0, 0)], "it has left");
    }
    assert_eq!(bus.metrics().unwrap().members[0].sets, 1);
}

/// Promise: a reader writes nothing, and knows what it did itself.
/// Plant: a reader that counts in slot 0.
#[test]
fn a_reader_counts_for_itself() {
    let (bus, place) = bus();
    bus.set("k", &1).unwrap();
    let reader = place.options().reader_at(place.bus()).unwrap();
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    assert!(reader.contains("k").unwrap() && !reader.contains("none").unwrap());
                }
            });
        }
    });
    let own = reader.metrics().unwrap().own;
    assert_eq!((own.gets, own.misses, own.sets), (12_000, 6_000, 0));
    assert!(own.get_times.samples() > 0);
    assert_eq!(reader.metrics().unwrap().operations.gets, 0);
    assert_eq!(bus.metrics().unwrap().own.gets, 0);
}

/// Promise: a handle that is not to count does not, but for what is seldom.
/// Plant: `metrics(false)` that counts all the same.
#[test]
fn a_handle_may_leave_counting() {
    let place = Place::new();
    let bus = place.options().metrics(false).create_at(place.bus()).unwrap();
    bus.set("k", &1).unwrap();
    bus.contains("k").unwrap();
    bus.publish("t", &1).unwrap();
    assert!(bus.put("k").if_absent().set(&1).is_err());
    let metrics = bus.metrics().unwrap();
    assert_eq!((metrics.operations.total, metrics.operations.created), (0, 0));
    assert_eq!((metrics.messaging.messages, metrics.operations.conflicts), (1, 1));
}

/// Promise: reads of a cell count, a thousand at a time and with its end.
/// Plant: reads of an absent key that count as hits.
#[test]
fn cells_count_their_reads() {
    let (bus, _place) = bus();
    let mut cell = bus.cell::<i32>("k").unwrap();
    for _ in 0..10 {
        assert_eq!(cell.get().unwrap(), None);
    }
    bus.set("k", &1).unwrap();
    for _ in 0..2000 {
        assert_eq!(cell.get().unwrap(), Some(&1));
    }
    assert!(bus.metrics().unwrap().operations.gets >= 1000);
    drop(cell);
    let OperationMetrics { gets, misses, .. } = bus.metrics().unwrap().operations;
    assert_eq!((gets, misses), (2010, 10));
}

/// Promise: how far the slowest watch or subscriber is behind is seen by all; one that sleeps is not.
/// Plants: a watch whose place is not noted; one that sleeps and counts as behind.
#[test]
fn whoever_is_behind_is_seen() {
    let (bus, place) = bus();
    let mut slow = bus.watch_from("k", Cursor::NOW).unwrap();
    let mut idle = bus.watch_from("other/", Cursor::NOW).unwrap();
    let mut subscriber = bus.subscribe("t").unwrap();
    for watch in [&mut slow, &mut idle] {
        assert!(matches!(watch.try_recv().unwrap(), Some(Event::CaughtUp(_))));
    }
    assert!(idle.try_recv().unwrap().is_none() && subscriber.try_recv().unwrap().is_none());
    for number in 0..100 {
        bus.set("k", &number).unwrap();
    }
    let reader = place.options().reader_at(place.bus()).unwrap();
    let seen = reader.metrics().unwrap();
    assert_eq!(seen.messaging.backlog, 100);
    assert_eq!((seen.messaging.watches, seen.messaging.subscriptions), (2, 1));
    for _ in 0..40 {
        assert!(matches!(slow.try_recv().unwrap(), Some(Event::Change(_))));
    }
    assert_eq!(reader.metrics().unwrap().messaging.backlog, 60);
    drop(slow);
    assert_eq!(reader.metrics().unwrap().messaging.backlog, 0);
    // Messages that wait by priority are not taken either.
    bus.publish("t", &1).unwrap();
    bus.publish("t", &2).unwrap();
    assert!(subscriber.try_recv().unwrap().is_some());
    assert_eq!(reader.metrics().unwrap().messaging.backlog, 1);
    let messaging = bus.metrics().unwrap().messaging;
    assert_eq!((messaging.delivered, messaging.broadcasts, messaging.events), (1, 2, 42));
}

/// Promise: one that was never asked for anything is behind, too.
/// Plants: the place of a watch is noted with its first event alone; of a subscriber.
#[test]
fn whoever_never_asked_is_behind() {
    let (bus, _place) = bus();
    let backlog = || bus.metrics().unwrap().messaging.backlog;
    let watch = bus.watch_from("k", Cursor::NOW).unwrap();
    for number in 0..100 {
        bus.set("k", &number).unwrap();
    }
    assert_eq!(backlog(), 100);
    drop(watch);
    let subscriber = bus.subscribe("t").unwrap();
    bus.publish("t", &1).unwrap();
    assert_eq!(backlog(), 1);
    drop(subscriber);
}

/// Promise: any content of the counted words is a figure: no panic, no overflow, and `check` says nothing.
/// Plants: a plain sum over the slots; a plain difference to the base.
#[test]
fn any_words_are_figures() {
    let (bus, place) = bus();
    let other = place.options().attach_at(place.bus()).unwrap();
    let region = &bus.inner.core.region;
    let words = [u64::MAX, 1 << 63, 0, 0x5555_5555_5555_5555];
    for (round, word) in words.into_iter().enumerate() {
        for slot in 0..2 {
            let from = bus.inner.member_at(slot) + member::LANES;
            for at in (from..from + TALLY_BYTES + 64).step_by(8) {
                region
                    .store(at, word.rotate_left((at / 8 % 7) as u32 * round as u32), Relaxed)
                    .unwrap();
            }
        }
        for at in [header::SNAPSHOT_BYTES, header::SNAPSHOT_TOOK, header::SNAPSHOT_FAILURES] {
            region.store(at, word, Relaxed).unwrap();
        }
        for _ in 0..300 {
            bus.set("k", &1).unwrap();
            other.get::<i32>("k").unwrap();
        }
        let metrics = bus.metrics().unwrap();
        assert_eq!(metrics.members.len(), 2);
        let _more = (metrics.mean_time(), metrics.operations.hit_ratio(), metrics.memory_mb());
        let _less = metrics.since(&metrics);
        assert!(bus.check().is_clean());
    }
}
