//! What a handle knows, when others clear, delete or restore, and where one item stays long.

use super::Queue;
use super::names::looks;
use super::walk::RUN;
use crate::bus::testing::Place;
use crate::{Backend, Batch, Bus, Persist, QueueError};
use std::sync::Arc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

fn bus() -> (Bus, Place) {
    let place = Place::new();
    (place.make(), place)
}

fn put(queue: &mut Queue, items: std::ops::Range<i64>) {
    for item in items {
        queue.offer().put_counter(item).unwrap();
    }
}

fn next(queue: &mut Queue) -> Option<i64> {
    let taken = queue.try_take().unwrap()?;
    let item = taken.entry().counter();
    taken.ack().unwrap();
    item
}

fn backup(bus: &Bus, place: &Place) -> Arc<dyn Backend> {
    let backup = Persist::Image(place.path().join("backup")).backend(1).unwrap().unwrap();
    bus.backup(&*backup).unwrap();
    backup
}

/// Lookups that this takes.
fn count<T>(what: impl FnOnce() -> T) -> (u64, T) {
    let before = looks::so_far();
    let end = what();
    (looks::so_far() - before, end)
}

/// Promise (queues): a restore brings the queue back for handles that live: they take what is there again, and pass no
/// limit. Plant: what was known holds behind a restore.
#[test]
fn what_a_restore_brings_back_is_there_for_who_was_beyond_it() {
    let (bus, place) = bus();
    let mut consumer = bus.queue("q").unwrap();
    put(&mut consumer, 0..200);
    assert!((0..100).all(|item| next(&mut consumer) == Some(item)));
    let backup = backup(&bus, &place);
    assert!((100..200).all(|item| next(&mut consumer) == Some(item)));
    assert!(next(&mut consumer).is_none());
    // It knows that there is room, and how much.
    let mut producer = bus.queue("q").unwrap().limit(50);
    producer.offer().put_in(&mut Batch::new(), "planned").unwrap();
    bus.restore(&*backup, "q").unwrap();
    let full = producer.try_put("one too many");
    assert!(matches!(full, Err(QueueError::Full { .. })), "{full:?}");
    assert!((100..150).all(|item| next(&mut consumer) == Some(item)));
    put(&mut consumer, 200..400);
    assert_eq!(consumer.clone().len().unwrap(), 250);
    assert!((150..400).all(|item| next(&mut consumer) == Some(item)));
    // As often as one likes.
    bus.restore(&*backup, "q").unwrap();
    assert_eq!((consumer.len().unwrap(), next(&mut consumer)), (100, Some(100)));
}

/// Promise (queues): no handle hides an item, not even one that is between its look and its word to the others
/// when a restore comes. Plant: the head is moved whatever was restored since the look.
#[test]
fn a_restore_between_a_look_and_the_head_hides_nothing() {
    let (bus, place) = bus();
    let mut consumer = bus.queue("q").unwrap();
    put(&mut consumer, 0..200);
    let first = consumer.try_take().unwrap().unwrap();
    assert!((1..100).all(|item| next(&mut consumer) == Some(item)));
    let backup = backup(&bus, &place);
    first.ack().unwrap();
    drop(consumer.look_around().unwrap());
    bus.restore(&*backup, "q").unwrap();
    consumer.settle();
    let mut fresh = consumer.clone();
    assert_eq!((fresh.len().unwrap(), next(&mut fresh)), (101, Some(0)));
}

/// Promise (queues): who lives on when the queue's entries went finds at once what is put after that, although its
/// number is far above all before. Plant: no look at the head when much is new.
#[test]
fn a_queue_that_begins_anew_is_begun_at_its_head() {
    let (bus, _place) = bus();
    let mut consumer = bus.queue("q").unwrap();
    let mut producer = consumer.clone().limit(10);
    for life in 0..4 {
        put(&mut producer, 0..1);
        let (count, item) = self::count(|| next(&mut consumer));
        assert_eq!(item, Some(0));
        assert!(count < 100, "{count} looks in life {life}");
        for number in 0..2000 {
            bus.set("other", &number).unwrap();
        }
        match life {
            0 | 2 => drop(bus.clear().unwrap()),
            _ => drop(bus.delete_prefix("queue/").unwrap()),
        }
    }
}

/// Promise (queues): behind an item that stays long a new handle does not look at each number that came and went
/// since. Plants: no listing; a listing that forgets what it has no room for.
#[test]
fn an_item_that_stays_long_costs_new_handles_no_look_at_all_since() {
    let (bus, _place) = bus();
    let mut queue = bus.queue("q").unwrap();
    put(&mut queue, 0..1);
    let come_and_go = |queue: &mut Queue, count: i64| {
        for item in 0..count {
            put(queue, item..item + 1);
            assert_eq!(next(queue), Some(item));
        }
    };
    queue.try_take().unwrap().unwrap().release_after(LONG).unwrap();
    come_and_go(&mut queue, 20_000);
    put(&mut queue, 7..8);
    queue.try_take().unwrap().unwrap().release_after(LONG).unwrap();
    come_and_go(&mut queue, 20_000);
    put(&mut queue, 8..9);
    // Two stay, and one is new. A take looks for a claim and for an item.
    let (few, few_of_take) = (RUN + 100, 2 * RUN + 200);
    let (count, room) = self::count(|| queue.clone().limit(3).try_put("item"));
    assert!(count < few && matches!(room, Err(QueueError::Full { .. })), "{count}, {room:?}");
    let (count, len) = self::count(|| queue.len().unwrap());
    assert!(count < few && len == 3, "{count}, {len}");
    let (count, peek) = self::count(|| queue.view().peek().unwrap().unwrap());
    assert!(count < few && peek.entry.counter() == Some(8), "{count}");
    let (count, item) = self::count(|| next(&mut queue.clone()));
    assert!(count < few_of_take && item == Some(8), "{count}, {item:?}");
    // More than a list keeps: they are found all, in order.
    let many = i64::try_from(RUN).unwrap() + 900;
    put(&mut queue, 0..many);
    let mut fresh = queue.clone();
    assert_eq!(queue.len().unwrap(), many as u64 + 2);
    assert!((0..many).all(|item| next(&mut fresh) == Some(item)) && next(&mut fresh).is_none());
    let (count, purged) = self::count(|| queue.purge().unwrap());
    assert!(count < few && purged == 2, "{count}, {purged}");
}
