//! Histories: what the log still holds of the past, exactly, with nobody waiting.

use crate::harness::actor::actor;
use crate::harness::{Place, Seed, from_now, heavy, next_change};
use membus::limits::KEY_MAX;
use membus::{BusReader, Cursor, Event, History, ReadBus, ReadError, WatchError};

fn after(revision: u64) -> Cursor {
    Cursor { incarnation: 0, revision }
}

/// What a history tells: how many changes it missed, and the revisions of the others.
fn told(history: History) -> (u64, Vec<u64>) {
    let (mut missed, mut revisions) = (0, Vec::new());
    for event in history {
        match event.unwrap() {
            Event::Change(change) => revisions.push(change.revision.get()),
            Event::Lagged { missed: more, resume } => {
                let passed = revisions.last().copied().unwrap_or(resume.revision - more);
                assert_eq!(passed + more, resume.revision);
                missed += more;
            }
            other => panic!("{other:?}"),
        }
    }
    (missed, revisions)
}

/// Promise (history): every change after a cursor up to the newest one at the call, as a watch would tell it:
/// by a member and by a reader, with a prefix and without; it takes no watch slot, and ends where a
/// watch can go on.
/// Plants: the head is looked at anew with each step: what comes later is told too; the record of the
/// cursor itself is told.
#[test]
fn a_history_is_what_a_watch_was_told() {
    let place = Place::new();
    let bus = place.open_small();
    let reader = BusReader::open_at(place.bus()).unwrap();
    for number in 0..300_u32 {
        bus.put(format!("k{}", number % 7)).who("me").set(&number).unwrap();
        match number % 50 {
            10 => drop(bus.delete(format!("k{}", number % 7)).unwrap()),
            20 => drop(bus.set_bytes("big", vec![1; 5000]).unwrap()),
            49 => drop(bus.clear().unwrap()),
            _ => {}
        }
    }
    let end = bus.info().unwrap().revision;
    for cursor in [after(0), after(1), after(end / 2), after(end), Cursor::NOW] {
        for prefix in ["", "k3", "big"] {
            let mut watch = bus.watch_from(prefix, cursor).unwrap();
            let expected = watch.try_iter().map(Result::unwrap);
            let expected: Vec<_> =
                expected.filter(|event| matches!(event, Event::Change(_))).collect();
            drop(watch);
            let mut histories = [bus.history(prefix, cursor), reader.history(prefix, cursor)]
                .map(|history| history.unwrap());
            let head = bus.info().unwrap();
            assert_eq!(head.watches, 0);
            let later = bus.set("k3", &"later").unwrap();
            for history in &mut histories {
                let told: Vec<_> = history.by_ref().map(Result::unwrap).collect();
                assert!(told == expected, "{prefix} after {cursor}");
                assert!(history.next().is_none());
                assert_eq!(history.cursor().revision, head.revision);
                let mut on = bus.watch_from("", history.cursor()).unwrap();
                assert_eq!(next_change(&mut on).revision, later);
            }
        }
    }
}

/// Promise (history): what is gone is counted exactly, before it began or while it is read, and what it tells
/// and misses are all changes between its ends.
/// Method: histories are read slowly while two processes write at full speed into the smallest log.
/// Plant: a gap that reaches beyond the end is told whole.
#[test]
fn told_and_missed_are_all_between_its_ends() {
    let _alone = heavy();
    let seed = Seed::of("told_and_missed_are_all_between_its_ends");
    let mut rng = seed.rng();
    let place = Place::new();
    let bus = place.small().log_size(4096).open_at(place.bus()).unwrap();
    let reader = BusReader::open_at(place.bus()).unwrap();
    let start = |own, seed| {
        let casting = actor("watch_writer", &place).with("own", own).with("seed", seed);
        casting.with("changes", 30_000).start()
    };
    let mut running = vec![start("a", rng.next() >> 1), start("b", rng.next() >> 1)];
    let (mut all_told, mut all_missed, mut within) = (0, 0, 0);
    while !running.is_empty() {
        running.retain(|writer| writer.try_line().is_none());
        let head = bus.info().unwrap().revision;
        let from = head.saturating_sub(rng.below(100));
        let mut history = match rng.below(2) {
            0 => bus.history("", after(from)).unwrap(),
            _ => reader.history("", after(from)).unwrap(),
        };
        let (mut passed, mut begun) = (from, false);
        while let Some(event) = history.next() {
            match event.unwrap() {
                Event::Change(change) => {
                    passed += 1;
                    all_told += 1;
                    assert_eq!(change.revision.get(), passed);
                }
                Event::Lagged { missed, resume } => {
                    passed += missed;
                    all_missed += missed;
                    within += u64::from(begun);
                    assert_eq!(resume.revision, passed);
                }
                other => panic!("{other:?}"),
            }
            begun = true;
            assert_eq!(history.cursor().revision, passed);
            if rng.once_in(10) {
                std::thread::sleep(rng.micros(100));
            }
        }
        assert!(passed >= head, "the end lies before the call");
    }
    assert!(all_told > 100 && all_missed > 100 && within > 0, "{all_told} {all_missed} {within}");
}

/// Promise (history): what can't be answered is refused with the numbers: a cursor of another life of the
/// bus, one beyond the newest change, too long a prefix, a bus that is gone.
/// Plant: a cursor of another life is taken for one of this: it matches a revision by accident.
#[test]
fn what_has_no_history_is_refused() {
    let place = Place::new();
    let bus = place.open_small();
    for number in 0..10 {
        bus.set("k", &number).unwrap();
    }
    let here = from_now(&bus).cursor();
    assert_eq!(told(bus.history("", Cursor { revision: 0, ..here }).unwrap()).1.len(), 10);
    let foreign = Cursor { incarnation: here.incarnation ^ 1, revision: 5 };
    let error = bus.history("", foreign).unwrap_err();
    let WatchError::OtherLife { cursor, incarnation } = error else { panic!("{error}") };
    assert_eq!((cursor, incarnation), (foreign, here.incarnation));
    assert!(error.to_string().contains(&format!("{:016x}", here.incarnation)));
    let error = bus.history("", after(11)).unwrap_err();
    assert!(matches!(error, WatchError::Future { head: 10, .. }), "{error}");
    assert!(bus.history([0; KEY_MAX], here).is_ok());
    assert!(matches!(bus.history([0; KEY_MAX + 1], here), Err(WatchError::Prefix { .. })));
    place.options().destroy_at(place.bus(), true).unwrap();
    let error = bus.history("", here).unwrap_err();
    assert!(matches!(error, WatchError::Read(ReadError::Gone { .. })), "{error}");
}
