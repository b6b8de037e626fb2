//! `Lagged`: whoever fell behind is told so, and by how much.

use super::listing;
use crate::harness::actor::actor;
use crate::harness::{Place, Seed, caught_up, from_now, heavy, next, next_change};
use membus::{Begin, Bus, BusReader, Cursor, Event, Notice, Persist, Watch};

/// A bus with the smallest log.
fn narrow(place: &Place) -> Bus {
    place.small().log_size(4096).open_at(place.bus()).unwrap()
}

/// Promise (watching): overtaken by the writers, a watch is told exactly how many changes it missed, and
/// goes on with the oldest that is still there.
/// Plant: `oldest - next` less one in `lagged`.
#[test]
fn an_overtaken_watch_says_how_much_it_missed() {
    let place = Place::new();
    let bus = place.small().log_size(64 << 10).open_at(place.bus()).unwrap();
    let mut watch = from_now(&bus);
    for number in 0..2000 {
        bus.set_bytes(format!("k{number}"), vec![1; 100]).unwrap();
    }
    let Event::Lagged { missed, resume } = next(&mut watch) else { panic!("not lagged") };
    assert_eq!((missed, resume.revision), (resume.revision, bus.info().unwrap().log_oldest - 1));
    assert!((1000..1900).contains(&missed), "{missed}");
    assert_eq!(watch.cursor(), resume);
    for number in missed..2000 {
        let change = next_change(&mut watch);
        assert_eq!(change.revision.get(), number + 1);
        assert_eq!(&*change.key, format!("k{number}").as_bytes());
    }
    assert!(watch.try_recv().unwrap().is_none());
    // From the place that it was told, a new watch goes on without a gap.
    let mut again = bus.watch_from("", resume).unwrap();
    assert_eq!(next_change(&mut again).revision.get(), missed + 1);
    // One of another prefix missed the same: nobody knows what was lost.
    let mut other = bus.watch_from("none", Cursor { incarnation: 0, revision: 0 }).unwrap();
    assert!(matches!(next(&mut other), Event::Lagged { missed: m, .. } if m == missed));
    assert!(other.try_recv().unwrap().is_none());
}

/// Promise (watching): whatever a watch's pace, what it was told and what it missed are all changes, each
/// in its place.
/// Method: two processes write at full speed into the smallest log; watches of a member and of a reader
/// follow with pauses of their own.
/// Plant: no look at the intent after the copy: a torn record is an error, or a wrong revision.
#[test]
fn told_and_missed_are_all_changes() {
    let _alone = heavy();
    let seed = Seed::of("told_and_missed_are_all_changes");
    let mut rng = seed.rng();
    let place = Place::new();
    let bus = narrow(&place);
    let reader = BusReader::open_at(place.bus()).unwrap();
    let mut watches: Vec<(Watch, u64, u64)> = Vec::new();
    for _ in 0..3 {
        watches.push((from_now(&bus), 0, 0));
        let mut polls = reader.watch_from("", Cursor::NOW).unwrap();
        caught_up(&mut polls);
        watches.push((polls, 0, 0));
    }
    let start = |own, seed| {
        let casting = actor("watch_writer", &place).with("own", own).with("seed", seed);
        casting.with("changes", 20_000).start()
    };
    let mut running = vec![start("a", rng.next() >> 1), start("b", rng.next() >> 1)];
    let (mut told, mut lagged) = (0_u64, 0_u64);
    while !running.is_empty() {
        running.retain(|writer| writer.try_line().is_none());
        let index = rng.below(watches.len() as u64) as usize;
        let (watch, last, missed) = &mut watches[index];
        for _ in 0..rng.below(100) {
            match watch.try_recv().unwrap() {
                Some(Event::Change(change)) => {
                    *last += 1;
                    assert_eq!(change.revision.get(), *last);
                    told += 1;
                }
                Some(Event::Lagged { missed: more, resume }) => {
                    *last += more;
                    *missed += more;
                    assert_eq!(resume.revision, *last);
                    lagged += 1;
                }
                Some(other) => panic!("{other:?}"),
                None => break,
            }
        }
    }
    let head = bus.info().unwrap().revision;
    for (watch, last, _) in &mut watches {
        while let Some(event) = watch.try_recv().unwrap() {
            match event {
                Event::Change(_) => *last += 1,
                Event::Lagged { missed, .. } => *last += missed,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(*last, head);
    }
    assert!(lagged > 10 && told > 1000, "{lagged} times lagged, {told} changes told");
}

/// Promise (watching): a cursor of another life of the bus is `Lagged`, with what was missed as far as
/// anybody can know, and the watch goes on with this life; a new listing gives what is there.
/// Plant: the incarnation not compared: the old cursor matches a revision by accident.
#[test]
fn a_cursor_of_another_life_is_lagged() {
    let place = Place::new();
    let bus = place.open_small();
    for number in 0..10 {
        bus.set(format!("k{number}"), &number).unwrap();
    }
    let mut watch = from_now(&bus);
    let old = watch.cursor();
    bus.snapshot().unwrap();
    std::fs::remove_dir_all(place.bus()).unwrap();
    drop(bus);
    let bus = place.open_small();
    let first = bus.info().unwrap().revision;
    let here = bus.set("new", &1).unwrap().get();
    assert_eq!(here, first + 1);
    assert!(watch.try_recv().is_err() || watch.try_recv().unwrap().is_none());
    let mut watch = bus.watch_from("", old).unwrap();
    let Event::Lagged { missed, resume } = next(&mut watch) else { panic!("not lagged") };
    assert_eq!(missed, first - old.revision);
    assert_ne!(resume.incarnation, old.incarnation);
    assert_eq!(resume.revision, first);
    assert_eq!(next_change(&mut watch).revision.get(), here);
    let foreign = Cursor { incarnation: 77, revision: 5 };
    let mut watch = bus.watch_from("", foreign).unwrap();
    assert!(matches!(next(&mut watch), Event::Lagged { missed, .. } if missed == first - 5));
    // A bare revision of the life before lies below what this one's log ever held.
    let mut watch = bus.watch_from("", Cursor { incarnation: 0, revision: 3 }).unwrap();
    assert!(matches!(next(&mut watch), Event::Lagged { missed, .. } if missed == first - 3));
    let mut watch = bus.watch("").unwrap();
    listing(&mut watch).is(&bus, "");
}

/// Promise (watching): a cursor of another life is `Lagged` also where this one began with nothing, of a conflated
/// watch and of a subscriber as well.
/// Plants: none is told when none is known to be missed, by a conflated watch, or by a subscriber.
#[test]
fn a_cursor_of_a_life_that_is_forgotten_is_lagged() {
    let place = Place::new();
    let options = || place.options().persist(Persist::None).keeper(false);
    let bus = options().create_at(place.bus()).unwrap();
    bus.set("k", &1).unwrap();
    let old = from_now(&bus).cursor();
    drop(bus);
    options().destroy_at(place.bus(), true).unwrap();
    let bus = options().create_at(place.bus()).unwrap();
    assert_eq!(bus.info().unwrap().revision, 0);
    bus.set("k", &2).unwrap();
    let watch = || bus.watch_from("", old).unwrap();
    for mut watch in [watch(), watch().conflated()] {
        let first = next(&mut watch);
        assert!(matches!(first, Event::Lagged { missed: 0, .. }), "{first:?}");
    }
    let mut subscriber = bus.subscribe_from("*", Begin::After(old)).unwrap();
    let first = subscriber.try_recv().unwrap();
    assert!(matches!(first, Some(Notice::Lagged { missed: 0, .. })), "{first:?}");
}
