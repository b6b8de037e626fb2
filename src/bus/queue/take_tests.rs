//! Taking, in one process.

use super::Queue;
use super::names::looks;
use super::take::CREDIT;
use crate::bus::testing::Place;
use crate::{
    BatchError, Bus, Durability, JournalSync, QueueError, ReadBus, WatchError, WriteError,
};
use std::collections::BTreeSet;
use std::sync::mpsc::{RecvTimeoutError::Timeout, channel};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

fn bus() -> (Bus, Place) {
    let place = Place::new();
    (place.make(), place)
}

fn queue(bus: &Bus, items: i64) -> Queue {
    let mut queue = bus.queue("q").unwrap();
    for item in 0..items {
        queue.offer().put_counter(item).unwrap();
    }
    queue
}

fn next(queue: &mut Queue) -> Option<i64> {
    let taken = queue.try_take().unwrap()?;
    let item = taken.entry().counter();
    taken.ack().unwrap();
    item
}

/// Plant: a claim that is made whether or not one is there: the second consumer gets the first's.
#[test]
fn each_item_is_one_consumers_in_the_order_of_the_puts() {
    let (bus, _place) = bus();
    let mut one = queue(&bus, 10);
    let mut two = one.clone();
    let mut take = |first: bool| if first { one.try_take() } else { two.try_take() };
    let taken = [true, false, true].map(|first| take(first).unwrap().unwrap());
    assert_eq!([0, 1, 2].map(|at: usize| taken[at].entry().counter()), [0, 1, 2].map(Some));
    assert!(taken.iter().all(|taken| taken.attempt() == 1 && taken.is_mine().unwrap()));
    assert_eq!((one.len().unwrap(), one.view().in_flight().unwrap()), (10, 3));
    taken.into_iter().for_each(|taken| taken.ack().unwrap());
    assert_eq!((one.len().unwrap(), one.view().in_flight().unwrap()), (7, 0));
    assert!((3..10).all(|item| next(&mut two) == Some(item)));
    assert!(next(&mut one).is_none() && one.is_empty().unwrap());
    // Nothing is left but the numbers.
    assert_eq!(bus.keys("queue/").unwrap().len(), 2);
}

/// Plants: items that were held at the last look are looked at when nothing new is there: the one that
/// came back is the last; no credit: each take looks at all that are held.
#[test]
fn what_comes_back_is_soon_found_among_many_that_are_held() {
    let (bus, _place) = bus();
    let mut holder = queue(&bus, 2000);
    let mut consumer = holder.clone();
    let mut held: Vec<_> = (0..160).map(|_| holder.try_take().unwrap().unwrap()).collect();
    assert_eq!(next(&mut consumer), Some(160));
    let before = looks::so_far();
    assert!((161..200).all(|item| next(&mut consumer) == Some(item)));
    let each = (looks::so_far() - before) / 39;
    assert!(each < CREDIT as u64 * 2, "{each} looks a take");
    held.swap_remove(7).release().unwrap();
    let found = (1..).find(|_| next(&mut consumer) == Some(7)).unwrap();
    assert!(found <= 160 / CREDIT + 1, "after {found} takes");
    // Who has few finds them in order.
    drop(held);
    let mut fresh = holder.clone();
    let seen: Vec<_> = (0..20).map(|_| next(&mut fresh).unwrap()).collect();
    assert_eq!(seen, (0..21).filter(|item| *item != 7).collect::<Vec<_>>());
}

/// Plants: the end of a claim is left to the keeper; claims that go are not heard; no burial by who
/// waits.
#[test]
fn who_waits_is_woken_by_whatever_makes_an_item_free() {
    let (bus, place) = bus();
    let other = place.options().attach_at(place.bus()).unwrap();
    let mut queue = queue(&bus, 0);
    let mut woken_by = |what: &str, free: &dyn Fn()| {
        std::thread::scope(|scope| {
            let begun = Instant::now();
            let waits = scope.spawn(|| queue.take_timeout(LONG).unwrap().unwrap());
            free();
            waits.join().unwrap().ack().unwrap();
            assert!(begun.elapsed() < LONG / 2, "{what}");
        });
    };
    let put = || assert!(other.queue("q").unwrap().put("item").unwrap() > 0);
    let begun = Instant::now();
    // So often that a tick each would be seen.
    for _ in 0..150 {
        woken_by("a put", &put);
        put();
        let mut holder = other.queue("q").unwrap().visibility(Duration::from_millis(5));
        let held = holder.take().unwrap();
        woken_by("a claim's end", &|| {});
        assert!(matches!(held.ack(), Err(QueueError::Lost { holder: None, .. })));
        put();
        let held = other.queue("q").unwrap().take().unwrap();
        woken_by("a release", &|| holder.release(held.receipt()).unwrap());
        assert!(matches!(held.ack(), Err(QueueError::Lost { holder: None, .. })));
    }
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
    put();
    let held = other.queue("q").unwrap().take().unwrap().into_receipt();
    woken_by("a death", &|| other.inner.seat().unwrap().die());
    assert!(matches!(queue.ack(held), Err(QueueError::Lost { .. })));
    assert!(queue.take_timeout(Duration::from_millis(1)).unwrap().is_none());
}

/// Plants: a take that does not look for it while items are there; a wait that is not rung.
#[test]
fn a_take_is_cancelled_whether_it_waits_or_not() {
    let (bus, _place) = bus();
    let mut queue = queue(&bus, 3);
    let canceller = queue.canceller().unwrap();
    let is_cancelled = |end: Result<Option<crate::Taken>, QueueError>| {
        matches!(end, Err(QueueError::Watch(WatchError::Cancelled)))
    };
    canceller.cancel();
    canceller.cancel();
    assert!(is_cancelled(queue.try_take()), "once");
    assert!((0..3).all(|item| next(&mut queue) == Some(item)));
    let begun = Instant::now();
    for round in 0..200 {
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| queue.take_timeout(LONG));
            // From before it waits until it sleeps.
            let (begun, pause) = (Instant::now(), Duration::from_micros(round * 20));
            while begun.elapsed() < pause {}
            canceller.cancel();
            assert!(is_cancelled(waits.join().unwrap()));
        });
    }
    let mut queue = queue.limit(0);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| queue.put_timeout("item", LONG).map(|_| None));
        canceller.cancel();
        assert!(is_cancelled(waits.join().unwrap()));
    });
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
}

/// Promise: no wake-up is lost between two who wait for each other.
/// Plant: the watch is set to now after the look, not before it.
#[test]
fn items_go_to_and_fro() {
    let (bus, _place) = bus();
    let rounds = 5000_u64;
    let mut ends = ["to", "fro"].map(|name| bus.queue(name).unwrap());
    ends[0].offer().put_counter(0).unwrap();
    std::thread::scope(|scope| {
        for turn in 0..2 {
            let (mut from, mut to) = (ends[turn].clone(), ends[1 - turn].clone());
            scope.spawn(move || {
                for round in 0..rounds {
                    // So that each place of the one's wait meets the other's put.
                    let (begun, pause) =
                        (Instant::now(), Duration::from_nanos(round * 37 % 20_000));
                    while begun.elapsed() < pause {}
                    let taken = from.take_timeout(LONG).unwrap().expect("it is slept through");
                    let count = taken.entry().counter().unwrap() + 1;
                    taken
                        .finish(|batch| to.offer().put_counter_in(batch, count).map(drop))
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(next(&mut ends[0]), Some(2 * rounds as i64));
}

/// Promise: each item is finished once, by whoever.
/// Plants: a claim that is made though another one is there; or though the item is gone.
#[test]
fn consumers_in_a_race_share_the_items() {
    let (bus, _place) = bus();
    let items = 4000;
    let queue = queue(&bus, items);
    std::thread::scope(|scope| {
        for consumer in 0..3 {
            let (mut queue, bus) = (queue.clone(), &bus);
            scope.spawn(move || {
                while let Some(taken) = queue.try_take().unwrap() {
                    assert!(taken.is_mine().unwrap() && taken.attempt() == 1);
                    let done = format!("done/{}", taken.entry().counter().unwrap());
                    let batch = |batch: &mut crate::Batch| {
                        batch.put(&done).if_absent().set(&consumer)?;
                        Ok(())
                    };
                    taken.finish(batch).unwrap();
                    assert!(bus.contains(&done).unwrap());
                }
            });
        }
    });
    assert_eq!(bus.keys("done/").unwrap().len() as i64, items);
    assert_eq!(bus.keys("queue/").unwrap().len(), 2);
    assert!(bus.check().is_clean());
}

/// Plant: deliveries that are noted without a time to live stay when their item expires.
#[test]
fn what_expired_is_not_delivered_and_leaves_nothing() {
    let (bus, _place) = bus();
    let mut queue = queue(&bus, 0);
    let short = Duration::from_millis(20);
    queue.offer().ttl(short).put("short").unwrap();
    queue.offer().ttl(LONG).put("long").unwrap();
    let first = queue.try_take().unwrap().unwrap();
    assert_eq!(first.decode::<String>().unwrap(), "short");
    first.release().unwrap();
    let mut last = None;
    while bus.keys("queue/q/item/").unwrap().len() > 1 {
        last = Some(Instant::now());
    }
    assert!(last.is_some());
    let second = queue.try_take().unwrap().unwrap();
    assert_eq!((second.decode::<String>().unwrap().as_str(), second.attempt()), ("long", 1));
    second.ack().unwrap();
    assert!(queue.try_take().unwrap().is_none());
    assert_eq!(bus.keys("queue/q/tries/").unwrap(), []);
    // Who had it when its time came may finish it.
    queue.offer().ttl(short).put("short").unwrap();
    let taken = queue.try_take().unwrap().unwrap();
    while bus.contains(&taken.entry().key).unwrap() {}
    taken.ack().unwrap();
}

/// Plant: a queue whose numbers begin at 1: those that come after a clear are taken for gone.
#[test]
fn numbers_never_come_again() {
    let (bus, _place) = bus();
    let mut consumer = queue(&bus, 5);
    let mut seen = BTreeSet::new();
    for life in 0..3 {
        let held = consumer.try_take().unwrap().unwrap();
        assert!((0..4).all(|_| next(&mut consumer).is_some()) && seen.insert(held.number()));
        match life {
            0 => drop(bus.clear().unwrap()),
            _ => drop(bus.delete_prefix("queue/").unwrap()),
        }
        drop(queue(&bus, 7));
        assert!(matches!(held.ack(), Err(QueueError::Lost { .. })));
        assert_eq!([next(&mut consumer), next(&mut consumer)], [Some(0), Some(1)]);
    }
}

/// Plants: the head is never moved; it is moved beyond what is held.
#[test]
fn the_head_follows_and_never_passes_an_item() {
    let (bus, _place) = bus();
    let mut consumer = queue(&bus, 1000);
    let held = consumer.try_take().unwrap().unwrap();
    for _ in 0..500 {
        next(&mut consumer).unwrap();
    }
    assert_eq!(consumer.view().numbers().unwrap().start, held.number());
    held.release().unwrap();
    for _ in 0..400 {
        next(&mut consumer).unwrap();
    }
    let numbers = consumer.view().numbers().unwrap();
    assert!(numbers.start > numbers.end - 200, "{numbers:?}");
    assert_eq!(consumer.clone().len().unwrap(), 100);
    // Without it the items are still found.
    bus.delete("queue/q/head").unwrap();
    assert_eq!((consumer.clone().len().unwrap(), next(&mut consumer.clone())), (100, Some(900)));
}

/// Plant: what is no number counts as none.
#[test]
fn entries_that_are_no_queues_are_told() {
    let (bus, _place) = bus();
    let mut queue = queue(&bus, 0);
    bus.set("queue/q/tail", "text").unwrap();
    let told = queue.try_take().unwrap_err();
    assert!(matches!(told, QueueError::NotAQueue { value: None, .. }), "{told}");
    assert!(matches!(queue.put("item"), Err(QueueError::NotAQueue { .. })));
    bus.put("queue/q/tail").set_counter(-5).unwrap();
    let told = queue.len().unwrap_err();
    assert!(matches!(told, QueueError::NotAQueue { value: Some(-5), .. }), "{told}");
    assert!(told.to_string().starts_with("`queue/q/tail` is -5, not"), "{told}");
}

/// Plant: `Taken` without `Drop`.
#[test]
fn what_a_panic_drops_goes_on_to_the_next() {
    let (bus, _place) = bus();
    let mut consumer = queue(&bus, 1);
    let mut other = consumer.clone();
    let panics = std::thread::spawn(move || {
        let _taken = other.take().unwrap();
        panic!("planned");
    });
    assert!(panics.join().is_err());
    assert_eq!(consumer.try_take().unwrap().unwrap().attempt(), 2);
    let report = bus.check();
    assert!(report.is_clean() && report.locks_held == 0, "{report:?}");
}

/// Promise: what makes room goes on in a full bus: a queue that filled it is worked off, keys get shorter times to live, and
/// locks are taken.
/// Plants: a reserve for nobody, and for everybody; room in the reserve's spans for everybody.
#[test]
fn a_bus_that_a_queue_has_filled_is_drained() {
    for size in [900, 100, 10] {
        let place = Place::new();
        let options = place.options().capacity(4 << 20).max_capacity(4 << 20);
        let bus = options.create_at(place.bus()).unwrap();
        bus.set("timed", &size).unwrap();
        let mut queue = bus.queue("q").unwrap();
        let mut items = 0;
        while queue.offer().put_bytes(vec![1; size]).is_ok() {
            items += 1;
        }
        // And whatever room there is for smaller ones.
        for number in 0.. {
            if bus.set(format!("k{number}"), &0).is_err() {
                break;
            }
        }
        assert!(bus.expire("timed", Some(Duration::from_secs(3600))).unwrap().is_some());
        let lock = bus.lock("l").unwrap();
        // Whoever writes meanwhile gets nothing of what is kept for this; nor is it used up by who takes and gives back.
        let mut late = 0..;
        for _ in 0..200 {
            queue.try_take().unwrap().unwrap().release_after(Duration::ZERO).unwrap();
            while bus.set(format!("late{}", late.next().unwrap()), &0).is_ok() {}
        }
        let held: Vec<_> = (0..200).map(|_| queue.try_take().unwrap().unwrap()).collect();
        while bus.set(format!("late{}", late.next().unwrap()), &0).is_ok() {}
        held.into_iter().for_each(|taken| taken.ack().unwrap());
        for _ in 200..items {
            queue.try_take().unwrap().unwrap().ack().unwrap();
        }
        assert!(queue.is_empty().unwrap());
        queue.offer().put_bytes(vec![1; size]).unwrap();
        drop(lock);
        assert!(bus.check().is_clean());
    }
}

/// Promise (queues): where no keeper is, who waits buries the dead by the clock, whatever else happens to the queue
/// meanwhile. Plant: only when it heard nothing for a while.
#[test]
fn who_waits_buries_the_dead_in_the_middle_of_news() {
    let (bus, place) = bus();
    let [dying, busy] = [0; 2].map(|_| place.options().attach_at(place.bus()).unwrap());
    let mut queue = queue(&bus, 2);
    let [lost, mut held] = [&dying, &busy].map(|bus| bus.queue("q").unwrap().take().unwrap());
    let (lost, (over, is_over)) = (lost.into_receipt(), channel::<()>());
    dying.inner.seat().unwrap().die();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while is_over.recv_timeout(Duration::from_millis(5)) == Err(Timeout) {
                held.extend(LONG).unwrap();
            }
        });
        let taken = queue.take_timeout(LONG);
        drop(over);
        let taken = taken.unwrap().unwrap();
        assert_eq!((taken.number(), taken.attempt()), (lost.number, 2));
    });
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
}

/// Promise (queues): what a change of a claim or an empty tail cannot wait for, the disk, makes no item nobody's; and what
/// is told as not durable was done.
/// Plants: claims as durable as the bus's changes are; the empty tail, extensions and releases so; a claim where there is no
/// journal to acknowledge by.
#[test]
fn where_the_journal_is_not_written_nothing_is_left_nobodys() {
    let place = Place::new();
    let options = place.options().journal(JournalSync::Always).deadline(Duration::from_millis(20));
    let bus = options.create_at(place.bus()).unwrap();
    let mut queue = bus.queue("q").unwrap();
    let is_made = |end: QueueError| {
        let QueueError::Batch(BatchError { source, .. }) = end else { return false };
        matches!(source, WriteError::NotDurable { .. })
    };
    assert!(is_made(queue.put("first").unwrap_err()) && queue.len().unwrap() == 1);
    for attempt in 1..4 {
        let taken = queue.try_take().unwrap().unwrap();
        assert_eq!(taken.attempt(), attempt);
    }
    queue.try_take().unwrap().unwrap().release().unwrap();
    let mut taken = queue.try_take().unwrap().unwrap();
    taken.extend(LONG).unwrap();
    let end = taken.finish(|batch| {
        batch.add("done", 1);
        Ok(())
    });
    assert!(is_made(end.unwrap_err()));
    assert_eq!((queue.len().unwrap(), bus.get::<i64>("done").unwrap()), (0, Some(1)));
    assert!(is_made(queue.put("second").unwrap_err()));
    queue.try_take().unwrap().unwrap().release_after(Duration::ZERO).unwrap();
    let taken = queue.take_timeout(LONG).unwrap().unwrap();
    assert!(matches!(
        queue.ack(taken.receipt()),
        Err(QueueError::Write(WriteError::NotDurable { .. }))
    ));
    assert!(matches!(taken.ack(), Err(QueueError::Lost { .. })) && queue.is_empty().unwrap());
    // Where there is no journal to wait for, nothing is taken that could not be acknowledged.
    let place = Place::new();
    let mut queue = self::queue(&place.make(), 1);
    let synced = place.options().durability(Durability::Synced).attach_at(place.bus()).unwrap();
    let end = synced.queue("q").unwrap().try_take();
    assert!(matches!(end, Err(QueueError::Write(WriteError::NoJournal { .. }))), "{end:?}");
    assert_eq!(queue.try_take().unwrap().unwrap().attempt(), 1);
}
