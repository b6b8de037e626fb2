//! Many members, many at once, several in one process.

use crate::harness::actor::{Actor, actor};
use crate::harness::part::Part;
use crate::harness::{
    Place, Seed, assert_whole, caught_up, eventually, heavy, living, next_change, os, skipped,
};
use membus::limits::MEMBERS_MAX;
use membus::{Bus, BusReader, Cursor, OpenError, ReadBus};

/// Promise (members): two handles of one bus in one process are two members: each has its own locks,
/// pins and keys, and the end of one is not the end of the other.
/// Plant: POSIX locks (`F_SETLK`) in place of those of the description: the first close drops them all.
#[test]
fn two_handles_in_one_process_are_two_members() {
    let place = Place::new();
    let (one, two) = (place.open_small(), place.open_small());
    let slots: Vec<_> = one.members().unwrap().iter().map(|m| m.slot).collect();
    assert_eq!(slots.len(), 2);
    std::thread::scope(|scope| {
        for bus in [&one, &two, &one, &two] {
            scope.spawn(move || {
                for _ in 0..2000 {
                    bus.add("sum", 1).unwrap();
                    let guard = bus.read("sum").unwrap().unwrap();
                    assert!(!guard.is_empty());
                }
            });
        }
    });
    assert_eq!(one.get::<i64>("sum").unwrap(), Some(8000));
    one.put("of one").ephemeral().set_bytes(b"1").unwrap();
    two.put("of two").ephemeral().set_bytes(b"2").unwrap();
    let mut watch = one.watch_from("", Cursor::NOW).unwrap();
    caught_up(&mut watch);
    drop(two);
    assert_eq!(&*next_change(&mut watch).key, b"of two");
    eventually("the other's end", || (living(&one) == 1).then_some(()));
    // A third takes the free slot; the first one's lock still stands.
    let three = place.open_small();
    assert!(one.contains("of one").unwrap());
    assert_eq!(living(&three), 2);
    drop((watch, one));
    assert!(three.keys("of").unwrap().is_empty());
    assert_whole(&three);
}

/// Holds so many handles; each may write.
pub(crate) fn many(part: &Part) {
    os::allow_files(8192).unwrap();
    let handles: Vec<_> = (0..part.number("count")).map(|_| part.attach()).collect();
    for (number, bus) in handles.iter().enumerate() {
        bus.put(format!("{}/{number}", std::process::id())).ephemeral().set_bytes(b"").unwrap();
    }
    part.say("attached");
    while part.hear().is_some() {}
}

/// Promise (limits): `MEMBERS_MAX` members at a time; one more is refused with the number, readers are
/// not; the slots of the dead can be had at once.
/// Plant: `slot == limit` in `take` moved by one hands out a slot beyond the table.
#[test]
fn there_are_members_max_members() {
    let _alone = heavy();
    if let Err(limit) = os::allow_files(8192) {
        return skipped(
            "there_are_members_max_members",
            &format!("{limit} open files are too few"),
        );
    }
    let place = Place::new();
    let bus = place.options().keeper(false).open_at(place.bus()).unwrap();
    let each = MEMBERS_MAX / 4;
    let mut crowds: Vec<Actor> = (0..4)
        .map(|n| actor("members_many", &place).with("count", if n == 0 { each - 1 } else { each }))
        .map(|casting| casting.start())
        .collect();
    crowds.iter().for_each(|crowd| drop(crowd.expect("attached")));
    assert_eq!(bus.info().unwrap().members as u64, MEMBERS_MAX);
    assert!(bus.members().unwrap().iter().all(|member| member.alive));
    assert_eq!(bus.len().unwrap(), MEMBERS_MAX - 1);
    let attach = || place.options().keeper(false).attach_at(place.bus());
    assert!(matches!(attach(), Err(OpenError::TooManyMembers { limit: MEMBERS_MAX })));
    assert_eq!(BusReader::open_at(place.bus()).unwrap().len().unwrap(), MEMBERS_MAX - 1);
    let refused = place.options().destroy_at(place.bus(), false);
    assert!(matches!(refused, Err(OpenError::InUse { count: MEMBERS_MAX, .. })), "{refused:?}");
    crowds[3].kill();
    let again: Vec<Bus> = (0..each).map(|_| attach().unwrap()).collect();
    assert!(matches!(attach(), Err(OpenError::TooManyMembers { .. })));
    assert_eq!(bus.len().unwrap(), MEMBERS_MAX - 1 - each, "the dead were buried by who came");
    drop(again);
    crowds.into_iter().take(3).for_each(|crowd| drop(crowd.end()));
    assert!(bus.is_empty().unwrap());
    assert_eq!(bus.info().unwrap().members, 1);
    assert_whole(&bus);
}

/// Comes and goes: opens, writes, and leaves in one of three ways.
pub(crate) fn comes_and_goes(part: &Part) {
    let mut rng = crate::harness::Rng::new(part.number("seed"));
    let mut count = 0;
    while !part.is_over() {
        let bus = part.place.small().keeper(rng.once_in(2)).open_at(part.place.bus()).unwrap();
        bus.put(format!("here/{}", std::process::id())).ephemeral().set(&count).unwrap();
        bus.add("comings", 1).unwrap();
        count += 1;
        match rng.below(3) {
            0 => bus.close().unwrap(),
            1 => drop(bus),
            // Forgotten: the slot stays in use until the process ends.
            _ if count < 50 => std::mem::forget(bus),
            _ => drop(bus),
        }
    }
    part.say(&format!("came {count}"));
}

/// Promise (life): however many create, attach, detach and die at once, each one gets the same bus, and
/// what they leave is mended.
/// Method: six processes come and go from before the bus is there; some are killed in it.
/// Plant: no look at the inode after the lock of a directory: two creators make two buses, and a sum is
/// lost.
#[test]
fn a_storm_of_comings_and_goings() {
    let _alone = heavy();
    let seed = Seed::of("a_storm_of_comings_and_goings");
    let mut rng = seed.rng();
    let place = Place::new();
    let start = |rng: &mut crate::harness::Rng| {
        actor("members_come_and_go", &place).with("seed", rng.next() >> 1).start()
    };
    let mut storm: Vec<_> = (0..6).map(|_| start(&mut rng)).collect();
    for _ in 0..20 {
        let index = rng.below(6) as usize;
        storm[index].kill_after(rng.micros(60_000));
        storm[index] = start(&mut rng);
    }
    eventually("some comings", || {
        let bus = place.small().keeper(false).open_at(place.bus()).unwrap();
        (bus.get::<i64>("comings").unwrap().unwrap_or(0) > 300).then_some(())
    });
    let said: Vec<_> = storm.into_iter().map(|actor| actor.end().pop().unwrap()).collect();
    let came = said.iter().map(|line| line.strip_prefix("came ").unwrap().parse::<i64>().unwrap());
    let bus = place.open_small();
    assert!(bus.get::<i64>("comings").unwrap().unwrap() >= came.sum());
    eventually("the end of all keys that vanish", || {
        bus.keys("here/").unwrap().is_empty().then_some(())
    });
    eventually("the end of all burials", || (living(&bus) == 1).then_some(()));
    assert_whole(&bus);
}
