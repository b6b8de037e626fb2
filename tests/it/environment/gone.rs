//! Files that go away under living members: by `destroy`, by hand; and paths that are too long for a socket.

use crate::harness::actor::actor;
use crate::harness::part::Part;
use crate::harness::{
    PATIENCE, Place, assert_whole, caught_up, eventually, from_now, next, next_change, skipped,
    tree,
};
use membus::{
    Batch, Bus, BusReader, Cursor, Event, OpenError, ReadBus, ReadError, WatchError, WriteError,
};
use std::path::Path;
use std::time::{Duration, Instant};

/// Every operation of a handle says that the bus is gone.
fn all_say_gone(bus: &Bus, path: &Path) {
    let read =
        |error: ReadError| assert!(matches!(error, ReadError::Gone { path: p } if p == path));
    let write =
        |error: WriteError| assert!(matches!(error, WriteError::Gone { path: p } if p == path));
    write(bus.set("k", &1).unwrap_err());
    write(bus.delete("k").unwrap_err());
    write(bus.add("k", 1).unwrap_err());
    write(bus.clear().unwrap_err());
    write(bus.expire("k", None).unwrap_err());
    let mut batch = Batch::new();
    write(bus.commit(batch.set_bytes("k", b"")).unwrap_err().source);
    read(bus.get::<u32>("k").unwrap_err());
    read(bus.contains("k").unwrap_err());
    read(bus.read("k").map(drop).unwrap_err());
    let scanned: Vec<_> = bus.scan_entries("").collect();
    assert!(scanned.iter().all(Result::is_err), "{scanned:?}");
    assert!(bus.watch("").is_err());
    assert!(bus.snapshot().is_err());
}

/// Promise (destroy): refused while members live; forced, every open handle says that the bus is gone, and
/// a sleeping watch is woken to say so; nothing stays, and the name is free.
/// Plant: a destroy that rings nobody leaves the sleeper to its own look, later.
#[test]
fn destroy_is_refused_or_told_to_everybody() {
    let place = Place::new();
    let bus = place.open_small();
    bus.set("k", &1).unwrap();
    let reader = BusReader::open_at(place.bus()).unwrap();
    let sleeper = actor("watch_sleeper", &place).start();
    sleeper.expect("sleeps");
    let refused = place.options().destroy_at(place.bus(), false).unwrap_err();
    assert!(matches!(&refused, OpenError::InUse { count: 2, path } if *path == place.bus()));
    assert!(refused.to_string().contains("2 members"), "{refused}");
    assert_eq!(bus.get::<i32>("k").unwrap(), Some(1));
    place.options().destroy_at(place.bus(), true).unwrap();
    // Longer than it looks by itself would be no proof: it says how long it slept.
    let slept: u64 = sleeper.expect("gone").parse().unwrap();
    assert!(slept < 20_000, "{slept} ms");
    all_say_gone(&bus, &place.bus());
    assert!(matches!(reader.get::<i32>("k"), Err(ReadError::Gone { .. })));
    assert!(!place.bus().exists());
    let absent = place.options().attach_at(place.bus());
    assert!(matches!(absent, Err(OpenError::Absent { .. })));
    let absent = place.options().destroy_at(place.bus(), true);
    assert!(matches!(absent, Err(OpenError::Absent { .. })));
    let new = place.open_small();
    assert!(new.is_empty().unwrap());
    assert_ne!(new.info().unwrap().incarnation, bus.incarnation_of());
    drop(bus);
    new.set("k", &2).unwrap();
    assert_whole(&new);
}

trait Incarnation {
    fn incarnation_of(&self) -> u64;
}

impl Incarnation for Bus {
    fn incarnation_of(&self) -> u64 {
        self.info().map_or(0, |info| info.incarnation)
    }
}

/// Promise (life): when the files are unlinked under living members, the keeper saves within a second and
/// operations say that the bus is gone; the next open rebuilds it with everything that was there.
/// Plant: the look for files every 500 ms switched off: nobody ever notices.
#[test]
fn files_that_are_unlinked_are_noticed_and_the_bus_comes_back() {
    let place = Place::new();
    let bus = place.open_small();
    let sleeper = actor("watch_sleeper", &place).start();
    sleeper.expect("sleeps");
    bus.put("vanishes").ephemeral().set_bytes(b"").unwrap();
    for number in 0..1000_u32 {
        bus.set(number.to_le_bytes(), &number).unwrap();
    }
    let revision = bus.info().unwrap().revision;
    std::fs::remove_dir_all(place.bus()).unwrap();
    let begun = Instant::now();
    eventually("somebody who notices", || {
        matches!(bus.contains("k"), Err(ReadError::Gone { .. })).then_some(())
    });
    // Promised is a second; the margin is for a machine that has other things to do.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(place.image_files().len(), 1, "saved before anybody is told");
    all_say_gone(&bus, &place.bus());
    sleeper.expect("gone");
    drop(bus);
    let back = place.open_small();
    assert_eq!(back.len().unwrap(), 1000);
    for number in 0..1000_u32 {
        assert_eq!(back.get::<u32>(number.to_le_bytes()).unwrap(), Some(number));
    }
    assert!(back.set("new", &1).unwrap().get() > revision + (1 << 40) - 1000);
    assert_whole(&back);
}

/// Promise (life): whoever comes between the unlinking and its notice makes the bus anew, from what was
/// saved; the two never mix.
/// Plant: no comparison of the inode after the slot's lock.
#[test]
fn a_new_bus_and_a_lost_one_never_mix() {
    let place = Place::new();
    let old = place.options().keeper(false).open_at(place.bus()).unwrap();
    old.set("k", &"old").unwrap();
    old.snapshot().unwrap();
    std::fs::remove_dir_all(place.bus()).unwrap();
    let new = place.options().keeper(false).open_at(place.bus()).unwrap();
    new.set("k", &"new").unwrap();
    // Nobody keeps either, so nobody tells the old one; it goes on by itself.
    old.set("k", &"older").unwrap();
    assert_eq!(new.get::<String>("k").unwrap().as_deref(), Some("new"));
    assert_eq!(new.members().unwrap().len(), 1);
    // With a keeper it learns of it.
    let keeper = place.open();
    keeper.set("other", &1).unwrap();
    assert_eq!(new.get::<i32>("other").unwrap(), Some(1));
    drop((old, keeper));
    assert_whole(&new);
}

/// Promise (names): a path longer than a socket's 108 bytes is as good as any: watches sleep and are
/// woken, in this process and from another.
/// Plant: `bind` by the path itself.
#[test]
fn a_long_path_is_as_good_as_a_short_one() {
    let place = Place::new();
    let deep = (0..7).fold(place.path().to_owned(), |path, n| path.join(format!("{n}").repeat(60)));
    std::fs::create_dir_all(&deep).unwrap();
    let long = Place::of(deep);
    assert!(long.bus().as_os_str().len() > 400);
    let bus = long.open_small();
    let mut watch = from_now(&bus);
    let mut other = actor("watch_sleeper", &long).start();
    other.expect("sleeps");
    bus.set("wake", &1).unwrap();
    other.expect("woken");
    next_change(&mut watch);
    assert!(watch.try_recv().unwrap().is_none());
    other.tell("write");
    assert_eq!(&*next_change(&mut watch).key, b"written");
    other.end();
    assert_whole(&bus);
    assert!(tree(&long.bus()).iter().any(|path| path.ends_with("bell")));
    drop((watch, bus));
    long.options().destroy_at(long.bus(), false).unwrap();
}

/// Promise (destroy): a bus that is destroyed while others use it at full speed: each of them is told,
/// nobody crashes, nothing stays.
/// Plant: `remove` that leaves the bells.
#[test]
fn destroyed_under_load() {
    let place = Place::new();
    for _ in 0..5 {
        let bus = place.open_small();
        let load: Vec<_> = (0..3).map(|_| actor("gone_user", &place).start()).collect();
        load.iter().for_each(|user| drop(user.expect("uses")));
        place.options().destroy_at(place.bus(), true).unwrap();
        load.into_iter().for_each(|user| {
            user.expect("gone");
            user.end();
        });
        assert!(!place.bus().exists());
        drop(bus);
    }
}

/// Reads, writes and watches until it is told that the bus is gone.
pub(crate) fn user(part: &Part) {
    let bus = part.attach();
    let mut watch = bus.watch("k").unwrap();
    let begun = Instant::now();
    for number in 0_u32.. {
        let written = bus.set(format!("k{}", number % 100), &number);
        let told = watch.try_recv();
        let read = bus.get::<u32>("k0");
        if number == 100 {
            part.say("uses");
        }
        match (written, told, read) {
            (Ok(_), Ok(_), Ok(_)) => assert!(begun.elapsed() < PATIENCE, "it is never gone"),
            (Err(WriteError::Gone { .. }), _, _)
            | (_, Err(WatchError::Read(ReadError::Gone { .. })), _)
            | (_, _, Err(ReadError::Gone { .. })) => break,
            other => panic!("{other:?}"),
        }
    }
    let end = loop {
        match watch.recv_timeout(PATIENCE) {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert!(matches!(end, Err(WatchError::Read(ReadError::Gone { .. }))), "{end:?}");
    part.say("gone");
}

/// Sleeps in a watch of `wake`, says when it was woken, and when the bus is gone.
pub(crate) fn sleeper(part: &Part) {
    let bus = part.attach();
    let mut watch = bus.watch_from("wake", Cursor::NOW).unwrap();
    caught_up(&mut watch);
    assert!(watch.try_recv().unwrap().is_none());
    part.say("sleeps");
    let begun = Instant::now();
    loop {
        match watch.recv_timeout(Duration::from_millis(200)) {
            Ok(Some(Event::Change(_))) => part.say("woken"),
            Ok(None) => {
                if part.overhear().is_some() {
                    bus.set("written", &1).unwrap();
                }
                if part.is_over() {
                    return;
                }
            }
            Err(WatchError::Read(ReadError::Gone { .. })) => {
                return part.say(&format!("gone {}", begun.elapsed().as_millis()));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A watch that is asked after the bus is gone gives what it still has, then says so.
/// Promise (watching): `Gone` is an error of its own, and no event before it is lost.
/// Plant: the look at `is_gone` before the queue loses the last events.
#[test]
fn a_watch_tells_what_came_before_the_end() {
    let place = Place::new();
    let bus = place.open_small();
    let mut watch = from_now(&bus);
    for number in 0..10 {
        bus.set("k", &number).unwrap();
    }
    place.options().destroy_at(place.bus(), true).unwrap();
    for _ in 0..10 {
        assert!(matches!(next(&mut watch), Event::Change(_)));
    }
    assert!(matches!(watch.recv(), Err(WatchError::Read(ReadError::Gone { .. }))));
    assert!(matches!(watch.try_recv(), Err(WatchError::Read(ReadError::Gone { .. }))));
}

/// Keeps a bus that it opened by a relative path, and goes elsewhere: by `chdir`, and where it may by `chroot`.
pub(crate) fn wanderer(part: &Part) {
    std::env::set_current_dir(part.place.path()).unwrap();
    let bus = part.place.options().open_at("./bus").unwrap();
    part.say("here");
    assert_eq!(part.hear().as_deref(), Some("go"));
    std::env::set_current_dir("/").unwrap();
    let empty = part.place.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    part.say(&format!("gone {}", std::os::unix::fs::chroot(&empty).is_ok()));
    assert_eq!(part.hear().as_deref(), Some("write"));
    bus.set("there", &1).unwrap();
    part.say("wrote");
    part.hear();
}

/// Promise: a bus is gone when its files are, not when a member of it went elsewhere; also the keeper, also by a relative path.
/// Plants: a path that is taken as it was given; one that is looked for under another root.
#[test]
fn a_keeper_that_goes_elsewhere_takes_no_bus_along() {
    let place = Place::new();
    let mut wanderer = actor("gone_wanderer", &place).start();
    wanderer.expect("here");
    let bus = place.options().keeper(false).attach_at(place.bus()).unwrap();
    eventually("it keeps the bus", || bus.info().unwrap().keeper.filter(|keeper| *keeper == 0));
    wanderer.tell("go");
    if wanderer.expect("gone") == "false" {
        skipped("a_keeper_that_goes_elsewhere", "no right to change the root directory");
    }
    // It looks for the files twice a second.
    std::thread::sleep(Duration::from_millis(1200));
    bus.set("k", &1).unwrap();
    wanderer.tell("write");
    wanderer.expect("wrote");
    assert_eq!(bus.get::<i32>("there").unwrap(), Some(1));
    drop(wanderer.end());
}
