//! Items in order and in bounds: several producers, a limit, times to live.

use crate::harness::actor::actor;
use crate::harness::{PATIENCE, Place, Seed, assert_whole, eventually};
use membus::ReadBus;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Promise (queues): one consumer gets the items in the order of their puts, each producer's in its own
/// order; a full queue makes producers wait, and lets go of as many as there is room for.
/// Method: three producers of a group's test, whose limit is 50, and one consumer that pauses at times.
/// Plant: new items looked at before older ones.
#[test]
fn one_consumer_gets_the_items_in_order_and_producers_wait_for_it() {
    let place = Place::new();
    let bus = place.open_small();
    let (mut queue, each) = (bus.queue("q").unwrap(), 1000_u64);
    let producers: Vec<_> = (0..3)
        .map(|at| {
            let casting = actor("queue_producer", &place).with("from", at * each);
            casting.with("to", (at + 1) * each).start()
        })
        .collect();
    let (mut last, mut numbers, mut waits) = (HashMap::new(), 0, 0);
    for count in 0..3 * each {
        if count % 300 == 0 {
            // Nobody takes anything: in time it is full, and stays so.
            let left = 3 * each - count;
            let full = || (queue.len().unwrap() >= left.min(50)).then_some(());
            eventually("a full queue", full);
            waits += 1;
        }
        assert!(queue.len().unwrap() <= 50, "the limit was passed");
        let taken = queue.take_timeout(PATIENCE).unwrap().unwrap();
        assert!(taken.number() > numbers, "{} after {numbers}", taken.number());
        numbers = taken.number();
        let item: u64 = taken.decode().unwrap();
        let before = last.insert(item / each, item).map_or(item / each * each, |last| last + 1);
        assert_eq!(item, before, "its producer put another one before");
        if item.is_multiple_of(7) {
            // What is given back comes at once again, before all newer ones.
            taken.release().unwrap();
            let again = queue.take_timeout(PATIENCE).unwrap().unwrap();
            assert_eq!((again.number(), again.attempt()), (numbers, 2));
            again.ack().unwrap();
        } else {
            taken.ack().unwrap();
        }
    }
    for producer in producers {
        assert_eq!(producer.end().last().map(String::as_str), Some("done"));
    }
    assert!(queue.is_empty().unwrap() && waits == 10);
    assert_whole(&bus);
}

/// Promise (queues): past its time to live no item is delivered; before it, it is, unless somebody has it.
/// Method: items of random times; a take that began after an item's time was over must not give it.
/// Plant: a time to live that is put on the deliveries' count and not on the item.
#[test]
fn no_item_is_delivered_after_its_time() {
    let (place, seed) = (Place::new(), Seed::of("no_item_is_delivered_after_its_time"));
    let bus = place.options().keeper(false).open_at(place.bus()).unwrap();
    let (mut rng, ends) = (seed.rng(), Mutex::new(HashMap::new()));
    let (mut queue, mut delivered, items) = (bus.queue("q").unwrap(), 0, 2000);
    std::thread::scope(|scope| {
        let mut producer = queue.clone().limit(20);
        let ends = &ends;
        let puts = scope.spawn(move || {
            for _ in 0..items {
                let ttl = rng.micros(2000);
                let number = producer.offer().ttl(ttl).put_bytes(b"").unwrap();
                ends.lock().unwrap().insert(number, Instant::now() + ttl);
            }
        });
        while !puts.is_finished() || !queue.is_empty().unwrap() {
            let begun = Instant::now();
            let Some(taken) = queue.try_take().unwrap() else { continue };
            let end = eventually("its end", || ends.lock().unwrap().get(&taken.number()).copied());
            assert!(begun <= end, "item {} was over for {:?}", taken.number(), begun - end);
            delivered += 1;
            match delivered % 3 {
                0 => taken.release_after(Duration::from_micros(500)).unwrap(),
                1 => drop(taken),
                _ => taken.ack().unwrap(),
            }
        }
    });
    assert!(delivered > items / 10, "{delivered}");
    // Deliveries are noted no longer than their items are there.
    let later = Duration::from_millis(5);
    assert!(queue.take_timeout(later).unwrap().is_none());
    assert_eq!(
        bus.keys("queue/q/tries/").unwrap().len() + bus.keys("queue/q/item/").unwrap().len(),
        0
    );
    assert_whole(&bus);
}
