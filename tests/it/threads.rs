//! One handle, many threads: clones, guards and watches that move among them.

use crate::harness::{PATIENCE, Place, assert_whole, caught_up, heavy, next_change};
use membus::{Batch, Bus, BusReader, Canceller, Error, Event, ReadBus, Update, ValueGuard, Watch};
use std::sync::mpsc::channel;

/// Promise (handles): cheap to clone, `Send` and `Sync`; readers as well; watches and guards may move to another
/// thread; every error becomes a `membus::Error`.
/// Plant: an `Rc` in the handle does not compile.
#[test]
fn what_may_move_and_be_shared() {
    fn is_shared<T: Send + Sync + Clone>() {}
    fn moves<T: Send>() {}
    is_shared::<Bus>();
    is_shared::<BusReader>();
    is_shared::<Canceller>();
    moves::<Watch>();
    moves::<ValueGuard<'static>>();
    moves::<Batch>();
    let all = |place: &Place| -> Result<(), Error> {
        let bus = place.options().open_at(place.bus())?;
        bus.set("k", &1)?;
        assert_eq!(bus.get::<i32>("k")?, Some(1));
        bus.commit(&Batch::new())?;
        bus.watch("")?;
        bus.snapshot()?;
        Ok(bus.close()?)
    };
    all(&Place::new()).unwrap();
}

/// Promise (handles): many threads share one handle and its member slot: sums are exact, batches whole, updates
/// lose nothing, readers see whole values, and the handle is one member.
/// Plant: a lock that lets in whoever is of the member that holds it.
#[test]
fn many_threads_share_one_handle() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 1500;
    let _alone = heavy();
    let place = Place::new();
    let bus = place.open_small();
    bus.set_bytes("whole", vec![0; 400]).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let bus = bus.clone();
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    bus.add("sum", 1).unwrap();
                    bus.set_bytes("whole", vec![thread as u8; 400]).unwrap();
                    let guard = bus.read("whole").unwrap().unwrap();
                    assert!(guard.iter().all(|byte| *byte == guard[0]) && guard.len() == 400);
                    if round % 10 == 0 {
                        let add = |old: Option<u64>| Update::Set(old.unwrap_or(0) + 1);
                        bus.update("updated", add).unwrap();
                        let mut batch = Batch::new();
                        batch.add("one", 1).add("two", 1).set_bytes(format!("own/{thread}"), b"");
                        bus.commit(&batch).unwrap();
                    }
                    // Whoever reads `two` after `one` sees no less of it.
                    let one = bus.get::<u64>("one").unwrap();
                    assert!(bus.get::<u64>("two").unwrap() >= one);
                    drop(guard);
                }
            });
        }
    });
    assert_eq!(bus.get::<u64>("sum").unwrap(), Some(THREADS * ROUNDS));
    assert_eq!(bus.get::<u64>("updated").unwrap(), Some(THREADS * ROUNDS / 10));
    assert_eq!(bus.get::<u64>("one").unwrap(), Some(THREADS * ROUNDS / 10));
    assert_eq!(bus.keys("own/").unwrap().len() as u64, THREADS);
    assert_eq!(bus.members().unwrap().len(), 1);
    assert_whole(&bus);
}

/// Promise (guards): a guard keeps its bytes whoever replaces the key and whichever thread drops it; a handle pins
/// 8 entries at a time, and beyond that a guard holds a copy; the pins come back.
/// Plant: `unpin` that clears the pin and keeps its bit: after eight guards all are copies.
#[test]
fn guards_move_among_threads() {
    let place = Place::new();
    let bus = place.open_small();
    for number in 0..20_u8 {
        bus.set_bytes([number], vec![number; 700]).unwrap();
    }
    for _ in 0..50 {
        let guards: Vec<_> = (0..20).map(|n: u8| (n, bus.read([n]).unwrap().unwrap())).collect();
        let in_place = guards.iter().filter(|(_, guard)| guard.is_in_place()).count();
        assert_eq!(in_place, 8);
        std::thread::scope(|scope| {
            for (number, guard) in guards {
                let bus = &bus;
                scope.spawn(move || {
                    let revision = guard.revision();
                    for round in 0..20 {
                        bus.set_bytes([number], vec![round; 700]).unwrap();
                    }
                    bus.set_bytes([number], vec![number; 700]).unwrap();
                    assert!(guard.iter().all(|byte| *byte == number) && guard.len() == 700);
                    assert_eq!(guard.stat().revision, revision);
                });
            }
        });
    }
    assert!(bus.read([0]).unwrap().unwrap().is_in_place());
    // On a bus that another user may write nothing is handed out in place.
    let shared = Place::new();
    let options = shared.options().mode(0o660).keeper(false);
    let other = options.open_at(shared.bus()).unwrap();
    other.set_bytes("k", b"value").unwrap();
    let guard = other.read("k").unwrap().unwrap();
    assert!(!guard.is_in_place() && *guard == *b"value");
    assert_whole(&bus);
}

/// Promise (watching): a watch that was begun in one thread goes on in another, and is dropped in a third; many
/// threads watch by one handle, each sees everything.
/// Plant: a watch that keeps its slot when it is dropped.
#[test]
fn watches_move_among_threads() {
    let place = Place::new();
    let bus = place.open_small();
    let watches: Vec<_> = (0..6)
        .map(|_| {
            let mut watch = bus.watch("k").unwrap();
            caught_up(&mut watch);
            watch
        })
        .collect();
    let (sender, ended) = channel();
    std::thread::scope(|scope| {
        for mut watch in watches {
            let sender = sender.clone();
            scope.spawn(move || {
                for number in 0..1000_u64 {
                    assert_eq!(next_change(&mut watch).decode::<u64>().unwrap(), Some(number));
                }
                sender.send(watch).unwrap();
            });
        }
        for number in 0..1000_u64 {
            bus.set("k", &number).unwrap();
        }
        for _ in 0..6 {
            let mut watch: Watch = ended.recv_timeout(PATIENCE).unwrap();
            assert!(watch.try_recv().unwrap().is_none());
            assert_eq!(watch.cursor().revision, 1000);
        }
    });
    assert_eq!(bus.info().unwrap().watches, 0);
    // A watch outlives the handle it was begun by.
    let mut last = bus.watch("k").unwrap();
    assert!(matches!(crate::harness::next(&mut last), Event::Current(_)));
    caught_up(&mut last);
    let other = place.attach();
    drop(bus);
    other.set("k", &7).unwrap();
    next_change(&mut last);
    drop(last);
    assert_eq!(other.members().unwrap().len(), 1);
    assert_whole(&other);
}
