//! Metrics: what was done is counted, whoever is killed, leaves or forks.

use crate::harness::actor::{Actor, actor};
use crate::harness::os::{Fork, fork, in_child};
use crate::harness::part::Part;
use crate::harness::{Place, Rng, Seed, assert_whole, earned, heavy, living, parameter, tell};
use membus::{Bus, ReadBus, Status, Thresholds};
use nix::sys::wait::waitpid;

/// Threads of a worker: more than one handle has lanes for, in some.
const THREADS: u64 = 6;
const KEYS: u64 = 5;

/// Adds to a counter after each look at it, and looks for what is not there, on so many threads.
fn work(bus: &Bus, threads: u64, is_over: impl Fn(u64) -> bool + Sync) {
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (bus, is_over) = (bus, &is_over);
            scope.spawn(move || {
                let mut round = 0;
                while !is_over(round) {
                    let key = format!("n{}", (round + thread) % KEYS);
                    bus.get_bytes(&key).unwrap();
                    bus.add(&key, 1).unwrap();
                    round += 1;
                }
            });
        }
    });
}

/// Works until it is killed or told to end; or does a part of it in a forked child.
pub(crate) fn worker(part: &Part) {
    let bus = part.attach();
    bus.add("n0", 1).unwrap();
    part.say("works");
    if part.has("forks") {
        match fork(Fork::Library) {
            Some(child) => drop(waitpid(child, None).unwrap()),
            None => in_child(|| work(&bus, 1, |round| round == 200)),
        }
    }
    work(&bus, part.number("threads"), |_| part.is_over());
    bus.close().unwrap();
    part.say("closed");
}

fn start(place: &Place, rng: &mut Rng) -> (Actor, u64) {
    let threads = [1, 2, THREADS][rng.below(3) as usize];
    let casting = actor("metrics_worker", place).with("threads", threads);
    let casting = if rng.below(3) == 0 { casting.with("forks", 1) } else { casting };
    (casting.start(), threads)
}

/// Promise (metrics): sums are of the living and the dead: an addition that was committed is counted, whoever
/// died, left or forked since and whoever used the slot after them; one of each thread of the killed at the
/// most is counted and was not committed.
/// Method: what the counters of the bus come to is what was committed.
/// Plants: a newcomer that clears the counts of its slot; a lane that all threads take for their own; a forked
/// child that counts in its parent's lane.
#[test]
fn sums_are_of_the_living_and_the_dead() {
    let (_alone, seed) = (heavy(), Seed::of("sums_are_of_the_living_and_the_dead"));
    let mut rng = seed.rng();
    let place = Place::new();
    let bus = place.open_small();
    let kills = parameter("MEMBUS_IT_COUNT_KILLS", 40);
    let mut workers: Vec<_> = (0..3).map(|_| start(&place, &mut rng)).collect();
    let (mut open, mut slots) = (0, std::collections::BTreeSet::new());
    for number in 0..kills {
        let index = rng.below(3) as usize;
        let (mut actor, threads) = std::mem::replace(&mut workers[index], start(&place, &mut rng));
        actor.expect("works");
        slots.extend(bus.metrics().unwrap().members.iter().map(|one| one.slot));
        if number % 4 == 3 {
            assert!(actor.end().contains(&"closed".to_owned()));
        } else {
            actor.kill_after(rng.micros(20_000));
            // A forked child of the killed goes on: it is another thread that may be cut off.
            open += threads + 1;
        }
    }
    for (actor, _) in workers {
        assert!(actor.end().contains(&"closed".to_owned()));
    }
    // Children of the killed may still be at work.
    crate::harness::eventually("the end of all", || (living(&bus) == 1).then_some(()));
    let committed: i64 = (0..KEYS).map(|n| bus.get::<i64>(format!("n{n}")).unwrap().unwrap()).sum();
    let committed = committed as u64;
    let done = bus.metrics().unwrap();
    let counted = done.operations;
    assert!(
        (committed..=committed + open).contains(&counted.adds),
        "{committed} were committed, {} counted, {open} may have been cut off",
        counted.adds
    );
    let changed = counted.created + counted.updated;
    assert!((committed - open..=committed).contains(&changed), "{changed} of {committed}");
    // A look before each addition, but each worker's first; that of a forked child before it is a member is
    // counted by nobody.
    let (least, most) = (counted.adds - 2 * (kills + 3), counted.adds + open + KEYS);
    assert!((least..=most).contains(&counted.gets), "{} gets, {least} to {most}", counted.gets);
    assert!(done.recovery.burials >= kills / 2, "{:?}", done.recovery);
    assert!(done.set_times.samples() > 0 && done.get_times.samples() > 0);
    assert!((slots.len() as u64) < kills, "slots were used again: {slots:?}");
    assert_whole(&bus);
    tell(&format!("metrics: {committed} additions, {kills} workers in {} slots", slots.len()));
    earned(committed, "operations counted through deaths");
}

/// Promise (health): a keeper makes a bus healthy; one without is degraded, from whatever handle it is asked.
/// Plant: a reader that asks for the keeper's byte through a description that is locked itself.
#[test]
fn members_and_readers_agree_on_health() {
    let place = Place::new();
    let bus = place.open();
    let reader = membus::BusReader::open_at(place.bus()).unwrap();
    let thresholds = Thresholds::default();
    crate::harness::eventually("health", || bus.health(&thresholds).is_healthy().then_some(()));
    assert_eq!(reader.health(&thresholds).status, Status::Healthy);
    let other = place.attach();
    drop(bus);
    for health in [other.health(&thresholds), reader.health(&thresholds)] {
        assert_eq!(health.status, Status::Degraded);
        assert_eq!(health.issues[0].code, "no_keeper");
    }
    Bus::options().state(place.state()).destroy_at(place.bus(), true).unwrap();
    for health in [other.health(&thresholds), reader.health(&thresholds)] {
        assert_eq!((health.status, health.issues[0].code), (Status::Unhealthy, "gone"));
    }
}
