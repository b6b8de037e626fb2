//! Callbacks: on a thread of their own, under no lock, contained when they panic.

use crate::harness::{PATIENCE, Place, eventually};
use membus::{Bus, ReadBus, Subscription, SubscriptionId, Unsubscribed};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Promise (callbacks): one may call anything: read, write, publish, subscribe, unsubscribe itself and the
/// one that called it.
/// Plant: `end` waits inside a callback too: it waits for itself.
#[test]
fn a_callback_may_call_anything() {
    let place = Place::new();
    let bus = place.open_small();
    let (ends, ended) = channel();
    let own: Arc<Mutex<Option<SubscriptionId>>> = Arc::default();
    let (inside, mine) = (bus.clone(), Arc::clone(&own));
    let subscription = bus.on("ask", move |message| {
        let number: i64 = message.decode().unwrap();
        inside.add("sum", number).unwrap();
        inside.publish("answer", &inside.get::<i64>("sum").unwrap()).unwrap();
        let nested = inside.on("nothing", |_| {}).unwrap();
        assert_eq!(nested.unsubscribe(), Unsubscribed::Inside);
        if number == 3 {
            let id = mine.lock().unwrap().take().unwrap();
            ends.send(inside.unsubscribe(id)).unwrap();
        }
    });
    let subscription = subscription.unwrap();
    *own.lock().unwrap() = Some(subscription.id());
    let mut answers = bus.subscribe("answer").unwrap();
    for number in 1..=3_i64 {
        bus.publish("ask", &number).unwrap();
        let answer = super::next(&mut answers);
        assert_eq!(answer.decode::<i64>().unwrap(), number * (number + 1) / 2);
    }
    assert_eq!(ended.recv_timeout(PATIENCE).unwrap(), Unsubscribed::Inside);
    bus.publish("ask", &4_i64).unwrap();
    assert_eq!(bus.unsubscribe(subscription.id()), Unsubscribed::Unknown);
    assert_eq!(subscription.unsubscribe(), Unsubscribed::Done);
    assert_eq!(bus.get::<i64>("sum").unwrap(), Some(6), "it was called after its end");
}

/// Promise (callbacks): unsubscribing returns only when no callback runs any more; two callbacks that end
/// each other do not wait for ever.
/// Plants: `end` that does not wait; `Inside` for one's own subscription alone.
#[test]
fn unsubscribing_waits_for_the_callback_that_runs() {
    let place = Place::new();
    let bus = place.open_small();
    let (begins, begun) = channel();
    let running = Arc::new(AtomicUsize::new(0));
    let runs = Arc::clone(&running);
    let slow = bus.on("slow", move |_| {
        runs.fetch_add(1, SeqCst);
        begins.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        runs.fetch_sub(1, SeqCst);
    });
    let slow = slow.unwrap().keep();
    bus.publish("slow", &1).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    assert_eq!(bus.unsubscribe(slow), Unsubscribed::Done);
    assert_eq!(running.load(SeqCst), 0, "the callback still runs");
    let (both, ended) = channel();
    let ids: Arc<Mutex<Vec<SubscriptionId>>> = Arc::default();
    let met = Arc::new(std::sync::Barrier::new(2));
    for other in [1, 0] {
        let (bus_, ids_, both, met) =
            (bus.clone(), Arc::clone(&ids), both.clone(), Arc::clone(&met));
        let one = bus.on("end", move |_| {
            met.wait();
            let id = ids_.lock().unwrap()[other];
            both.send(bus_.unsubscribe(id)).unwrap();
        });
        ids.lock().unwrap().push(one.unwrap().keep());
    }
    bus.publish("end", &1).unwrap();
    for _ in 0..2 {
        assert_eq!(ended.recv_timeout(PATIENCE).unwrap(), Unsubscribed::Inside);
    }
}

fn counted(bus: &Bus) -> (Subscription, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&count);
    let subscription = bus.on("n", move |message| {
        assert!(message.decode::<u64>().unwrap() % 2 == 0, "odd ones are not for me");
        counts.fetch_add(1, SeqCst);
    });
    (subscription.unwrap(), count)
}

/// Promise (callbacks): a panic is contained, counted and shown, and the next message is delivered; what
/// ends them all is told.
/// Plant: no `catch_unwind`: the thread ends with the first one.
#[test]
fn a_panic_is_contained_and_counted() {
    let place = Place::new();
    let bus = place.open_small();
    let (subscription, count) = counted(&bus);
    for number in 0..10_u64 {
        bus.publish("n", &number).unwrap();
    }
    eventually("ten calls", || (subscription.calls().made == 10).then_some(()));
    let calls = subscription.calls();
    assert_eq!((calls.panics, count.load(SeqCst), calls.ended_by), (5, 5, None));
    assert!(calls.last_panic.is_some_and(|said| said.contains("odd ones")));
    place.options().destroy_at(place.bus(), true).unwrap();
    let why = eventually("its end", || subscription.calls().ended_by);
    assert!(why.contains("destroyed"), "{why}");
    assert_eq!(subscription.unsubscribe(), Unsubscribed::Done);
}

/// Promise (callbacks): dropped, a subscription ends; kept, it goes on until it is ended by its id.
/// Plant: a drop that ends nothing.
#[test]
fn a_drop_ends_it_and_keep_does_not() {
    let place = Place::new();
    let bus = place.open_small();
    let (kept, count) = counted(&bus);
    let (dropped, other) = counted(&bus);
    let id = kept.keep();
    drop(dropped);
    bus.publish("n", &0_u64).unwrap();
    eventually("a call", || (count.load(SeqCst) == 1).then_some(()));
    assert_eq!(other.load(SeqCst), 0);
    assert_eq!(bus.unsubscribe(id), Unsubscribed::Done);
    assert_eq!(bus.info().unwrap().watches, 0, "a watch slot stays taken");
}

/// Promise (callbacks): one may own its own subscription, or two each other's: they end, whoever ends them, and
/// nobody who waits for their end waits for ever.
/// Plant: a drop on a callback's thread waits once the callback has returned.
#[test]
fn a_callback_may_own_its_subscription() {
    type Owned = Arc<Mutex<Option<Subscription>>>;
    let place = Place::new();
    let bus = place.open_small();
    let owns = |owned: &Owned| {
        let owned = Arc::clone(owned);
        bus.on("t", move |_| drop(owned.lock().unwrap().as_ref().map(Subscription::calls))).unwrap()
    };
    let own = Owned::default();
    let of_own = owns(&own);
    let pair = [Owned::default(), Owned::default()];
    let of_pair = [owns(&pair[1]), owns(&pair[0])];
    let ids = [of_own.id(), of_pair[0].id(), of_pair[1].id()];
    *own.lock().unwrap() = Some(of_own);
    for (owner, subscription) in pair.iter().zip(of_pair) {
        *owner.lock().unwrap() = Some(subscription);
    }
    drop((own, pair));
    let (ends, ended) = channel();
    let handle = bus.clone();
    // Its end is not waited for: it would be for ever.
    std::thread::spawn(move || {
        for id in ids {
            ends.send(handle.unsubscribe(id)).unwrap();
        }
    });
    // Who owned the third one has ended, and so has ended it.
    for due in [Unsubscribed::Done, Unsubscribed::Done, Unsubscribed::Unknown] {
        assert_eq!(ended.recv_timeout(PATIENCE).unwrap(), due);
    }
    eventually("the end of all", || (bus.info().unwrap().watches == 0).then_some(()));
}
