//! A wait that another thread ends, and the events of a watch as iterators.

use super::bells::readable;
use crate::harness::{PATIENCE, Place, Rng, eventually, from_now, heavy, next_change};
use membus::{BusReader, Canceller, Cursor, Event, Watch, WatchError};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Whether the thread `thread` of this process sleeps.
fn sleeps(thread: nix::unistd::Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    stat.contains(") S ")
}

/// A watch that waits for ever on another thread until it is cancelled; given back.
fn cancelled_in_its_sleep(mut watch: Watch, canceller: &Canceller) -> Watch {
    let (tell, thread) = channel();
    let waiter = std::thread::spawn(move || {
        tell.send(nix::unistd::gettid()).unwrap();
        (watch.recv().unwrap_err(), watch)
    });
    let thread = thread.recv().unwrap();
    eventually("a watch that sleeps", || sleeps(thread).then_some(()));
    canceller.cancel();
    let (error, watch) = waiter.join().unwrap();
    assert!(matches!(error, WatchError::Cancelled), "{error}");
    watch
}

/// Promise (cancelling): a wait of a watch, of a member or of a reader, is ended by another thread, and so is the
/// next one when none waits: once, without losing an event.
/// Plants: a flag that is seen but not taken: the second call is cancelled too; no look at it before the
/// first event: a watch that always has one is never cancelled.
#[test]
fn a_cancelled_wait_ends_once_and_loses_nothing() {
    let place = Place::new();
    let bus = place.options().keeper(false).open_at(place.bus()).unwrap();
    let reader = BusReader::open_at(place.bus()).unwrap();
    let by_bus = || bus.watch_from("k", Cursor::NOW).unwrap();
    let by_reader = || reader.watch_from("k", Cursor::NOW).unwrap();
    for open in [&by_bus as &dyn Fn() -> Watch, &by_reader] {
        let mut watch = open();
        crate::harness::caught_up(&mut watch);
        let canceller = watch.canceller();
        watch = cancelled_in_its_sleep(watch, &canceller);
        bus.set("k", &1).unwrap();
        canceller.cancel();
        canceller.clone().cancel();
        assert!(matches!(watch.recv(), Err(WatchError::Cancelled)));
        next_change(&mut watch);
        canceller.cancel();
        assert!(matches!(watch.recv_timeout(PATIENCE), Err(WatchError::Cancelled)));
        assert!(watch.recv_timeout(Duration::ZERO).unwrap().is_none());
        canceller.cancel();
        assert!(matches!(watch.try_recv(), Err(WatchError::Cancelled)));
        assert!(watch.try_recv().unwrap().is_none());
        drop(watch);
        canceller.cancel();
    }
    let canceller = from_now(&bus).canceller();
    drop(bus);
    canceller.cancel();
}

/// Promise (cancelling): no cancellation is lost, at whatever moment it comes: also one who waits by the
/// descriptor alone is woken.
/// Plants: the ring before the flag; the look at the flag before the bell is emptied.
#[test]
fn no_cancellation_is_lost() {
    const ROUNDS: u32 = 100_000;
    let _alone = heavy();
    let place = Place::new();
    let bus = place.options().keeper(false).open_at(place.bus()).unwrap();
    let mut watch = from_now(&bus);
    let canceller = watch.canceller();
    let (tell, heard) = channel();
    std::thread::scope(|scope| {
        let mut rng = Rng::new(3);
        scope.spawn(move || {
            for _ in 0..ROUNDS {
                for _ in 0..rng.below(300) {
                    std::hint::spin_loop();
                }
                canceller.cancel();
                // Nothing when the watch's thread has failed.
                let Ok(()) = heard.recv() else { return };
            }
        });
        let mut cancelled = 0;
        while cancelled < ROUNDS {
            match watch.try_recv() {
                Err(WatchError::Cancelled) => {
                    cancelled += 1;
                    tell.send(()).unwrap();
                }
                Ok(None) => assert!(readable(&watch, PATIENCE), "lost after {cancelled}"),
                other => panic!("{other:?}"),
            }
        }
        drop(tell);
    });
}

/// Promise (iterators): a watch as an iterator gives its events in order, ends as its name says, and ends
/// with the first error; borrowed, it goes on where it was.
/// Plant: an iterator that goes on after an error: the loop over a bus that is gone has no end.
#[test]
fn events_as_iterators() {
    let place = Place::new();
    let bus = place.options().keeper(false).open_at(place.bus()).unwrap();
    bus.set("k/0", &0).unwrap();
    let mut watch = bus.watch("k/").unwrap();
    for number in 1..4 {
        bus.set(format!("k/{number}"), &number).unwrap();
    }
    let first = (&mut watch).into_iter().next().unwrap().unwrap();
    assert!(matches!(first, Event::Current(_)));
    assert!(matches!(watch.try_iter().next().unwrap().unwrap(), Event::CaughtUp(_)));
    let keys = |events: &mut dyn Iterator<Item = Result<Event, WatchError>>| -> Vec<String> {
        events
            .map(|event| match event.unwrap() {
                Event::Change(change) => change.key.to_string(),
                other => panic!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(keys(&mut watch.try_iter().take(2)), ["k/1", "k/2"]);
    assert_eq!(keys(&mut watch.iter_timeout(Duration::from_millis(1))), ["k/3"]);
    assert_eq!(watch.try_iter().count(), 0);
    // The end of `try_iter` has armed the bell.
    bus.set("k/4", &4).unwrap();
    assert!(readable(&watch, PATIENCE));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 5..9 {
                bus.set(format!("k/{number}"), &number).unwrap();
            }
        });
        let waited = &mut watch.iter_timeout(PATIENCE).take(5);
        assert_eq!(keys(waited), ["k/4", "k/5", "k/6", "k/7", "k/8"]);
    });
    let canceller = watch.canceller();
    canceller.cancel();
    let mut events = (&mut watch).into_iter();
    assert!(matches!(events.next(), Some(Err(WatchError::Cancelled))));
    canceller.cancel();
    assert!(events.next().is_none());
    assert!(matches!(watch.try_recv(), Err(WatchError::Cancelled)));
    place.options().destroy_at(place.bus(), true).unwrap();
    let mut events = watch.into_iter();
    assert!(matches!(events.next(), Some(Err(WatchError::Read(_)))));
    assert!(events.next().is_none() && events.next().is_none());
}
