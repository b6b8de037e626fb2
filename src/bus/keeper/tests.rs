use super::*;
use crate::bus::Bus;
use crate::bus::read::ReadBus;
use crate::bus::testing::Place;
use crate::lock::LockError;
use crate::region::layout::entry;
use crate::word::{Hash, Name};
use crate::{Cursor, Watch};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

/// Promise: the keeper sweeps the stripes that want it, as soon as sweeps may take time again.
/// Plants: before that; never; the stripes that do not want it.
#[test]
fn what_wants_a_sweep_gets_it_in_time() {
    let place = Place::new();
    let bus = place.make();
    let core = &bus.inner.core;
    let wanted = core.geometry.stripe(1) + stripe::SWEEP_WANTED;
    core.region.store(wanted, 1, Relaxed).unwrap();
    let mut turn = Turn::first();
    for (due, left) in [(Instant::now() + Duration::from_secs(3600), 1), (turn.sweep, 0)] {
        turn.sweep = due;
        bus.inner.sweep_in_time(0, &mut turn, &Stop::default()).unwrap();
        assert_eq!(core.region.load(wanted, Relaxed).unwrap(), left);
    }
}

/// A bus with keys in every stripe, which a member who stands still has attached first, and a handle that is not patient.
fn stalled() -> (Place, Bus, Bus) {
    let place = Place::new();
    let stopped = place.make();
    let bus = place.options().deadline(Duration::from_millis(30)).attach_at(place.bus()).unwrap();
    for number in 0..1000 {
        stopped.put(format!("k{number}")).ttl(Duration::from_millis(1)).set(&number).unwrap();
        stopped.set(format!("stays{number}"), &number).unwrap();
    }
    (place, stopped, bus)
}

/// A turn in which rounds come to their end.
fn unhurried() -> Turn {
    Turn { round: Duration::MAX, ..Turn::first() }
}

/// Promise: a round of expiry ends in time, however much there is to do, so that burials need not wait for it; the next one goes
/// on, in all stripes by turns, and shows that the keeper lives.
/// Plants: a round that goes on to its end; a stripe that does; rounds that begin with the first stripe; no sign in between.
#[test]
fn a_round_ends_in_time_and_the_next_goes_on() {
    let place = Place::new();
    let bus = place.make();
    let (core, me) = (&bus.inner.core, bus.inner.writer().unwrap());
    for number in 0..1000 {
        bus.put(format!("k{number}")).ttl(Duration::from_millis(1)).set(&number).unwrap();
    }
    std::thread::sleep(Duration::from_millis(2));
    let count =
        |index| core.region.load(core.geometry.stripe(index) + stripe::COUNT, Relaxed).unwrap();
    let counts = || (0..core.geometry.stripes).map(count).collect::<Vec<_>>();
    let mut turn = Turn { round: Duration::ZERO, ..Turn::first() };
    let full = counts();
    assert!(full.iter().all(|count| *count > 64));
    core.region.store(header::KEEPER, u64::from(me) + 1, Release).unwrap();
    for _ in 0..core.geometry.stripes {
        core.region.store(header::HEARTBEAT, 1, Release).unwrap();
        bus.inner.expire_in_time(me, &mut turn, &Stop::default()).unwrap();
        assert!(core.region.load(header::HEARTBEAT, Relaxed).unwrap() > 1);
    }
    let now = counts();
    assert!(now.iter().zip(&full).all(|(now, full)| *now <= full - 64), "{now:?} of {full:?}");
    assert!(now.iter().any(|count| *count > 0), "{now:?} of {full:?}");
    while counts().iter().any(|count| *count > 0) {
        turn.expiry = Instant::now();
        bus.inner.expire_in_time(me, &mut turn, &Stop::default()).unwrap();
    }
}

/// Runs `work` of the other handle while the stopped one holds this stripe's lock.
fn beside<T>(stopped: &Bus, stripe: u64, work: impl FnOnce() -> T) -> T {
    let core = &stopped.inner.core;
    let guard = core.lock_stripe(stripe, stopped.inner.writer().unwrap(), &core.patience());
    let end = work();
    drop(guard.unwrap());
    end
}

/// A watch that has seen everything, and says so.
fn asleep(bus: &Bus) -> Watch {
    let mut watch = bus.watch_from("", Cursor::NOW).unwrap();
    while watch.try_recv().unwrap().is_some() {}
    watch
}

fn is_rung(watch: &Watch) -> bool {
    let mut polled = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).unwrap() == 1
}

fn stripe_of(bus: &Bus, key: &[u8]) -> u64 {
    let geometry = &bus.inner.core.geometry;
    Hash::of(Name::from(key), geometry.seed).stripe(geometry.stripes)
}

/// Promise: a clear that is committed is told as done, and rings, whatever holds up the sweep behind it; and that sweeps the
/// other stripes.
/// Plants: a sweep whose stall is the clear's; one that ends there.
#[test]
fn a_clear_is_done_where_a_member_stands_still() {
    let (_place, stopped, bus) = stalled();
    let watch = asleep(&bus);
    let revision = beside(&stopped, 1, || bus.clear()).unwrap();
    assert!(is_rung(&watch));
    assert!(bus.keys("").unwrap().is_empty());
    let core = &bus.inner.core;
    let swept = |index| {
        let at = core.geometry.stripe(index) + stripe::SWEPT_TO;
        core.region.load(at, Relaxed).unwrap() == revision.get()
    };
    let left = || (0..core.geometry.stripes).filter(|index| !swept(*index)).collect::<Vec<_>>();
    assert_eq!(left(), [1]);
    let me = bus.inner.writer().unwrap();
    bus.inner.sweep_in_time(me, &mut unhurried(), &Stop::default()).unwrap();
    assert!(left().is_empty(), "{:?}", left());
    assert!(bus.check().is_clean());
}

/// Promise: a member who stands still with a stripe's lock holds up the keeper's work in that stripe alone.
/// Plants: a stall that ends the turn's expiry, or its sweep; waiting that counts as work.
#[test]
fn the_keeper_goes_on_beside_who_stands_still() {
    let (_place, stopped, bus) = stalled();
    std::thread::sleep(Duration::from_millis(2));
    let (core, me) = (&bus.inner.core, bus.inner.writer().unwrap());
    let held = stripe_of(&bus, b"k0");
    for index in 0..core.geometry.stripes {
        core.region.store(core.geometry.stripe(index) + stripe::SWEEP_WANTED, 1, Relaxed).unwrap();
    }
    let waiting = |at: u64| {
        let word = |index| core.region.load(core.geometry.stripe(index) + at, Relaxed).unwrap();
        (0..core.geometry.stripes).filter(|index| word(*index) != 0).collect::<Vec<_>>()
    };
    let (mut turn, stop) = (unhurried(), Stop::default());
    beside(&stopped, held, || {
        // The first finds what is due, the second nothing more.
        for _ in 0..2 {
            bus.inner.expire_in_time(me, &mut turn, &stop).unwrap();
        }
        bus.inner.sweep_in_time(me, &mut turn, &stop).unwrap();
    });
    assert!(turn.expiry.max(turn.sweep) <= Instant::now(), "it rests from waiting");
    assert_eq!(
        (waiting(stripe::DEADLINE), waiting(stripe::SWEEP_WANTED)),
        (vec![held], vec![held])
    );
    bus.inner.expire_in_time(me, &mut unhurried(), &Stop::default()).unwrap();
    assert_eq!(bus.keys("").unwrap().len(), 1000);
}

/// Promise: the dead are buried, but for those whose keys stand behind the lock of who stands still.
/// Plants: the first one that has to wait ends it, or the second one.
#[test]
fn others_are_buried_beside_one_that_waits() {
    let (place, stopped, bus) = stalled();
    let dying = [true, true, false].map(|waits| {
        let bus = place.options().attach_at(place.bus()).unwrap();
        if waits {
            bus.put("mine").ephemeral().set(&1).unwrap();
        }
        bus
    });
    dying.iter().for_each(|bus| bus.inner.seat().unwrap().die());
    let me = bus.inner.writer().unwrap();
    let end = beside(&stopped, stripe_of(&bus, b"mine"), || bus.inner.bury_all(me));
    assert!(matches!(end, Err(LockError::Stalled { owner: 0, .. })), "{end:?}");
    assert_eq!(bus.members().unwrap().len(), 4, "one of three is buried");
    assert_eq!(bus.inner.bury_all(me), Ok(2));
    assert_eq!(bus.members().unwrap().len(), 2);
}

/// Promise: a burial that has to wait rings what the dead may have committed, and does not ring again and again.
/// Plants: the stall ends it before the ring; each attempt rings.
#[test]
fn a_burial_that_waits_rings_once() {
    let (place, stopped, bus) = stalled();
    let dying = place.options().attach_at(place.bus()).unwrap();
    dying.put("mine").ephemeral().set(&1).unwrap();
    let mut watch = asleep(&bus);
    dying.inner.seat().unwrap().die();
    let me = bus.inner.writer().unwrap();
    beside(&stopped, stripe_of(&bus, b"mine"), || {
        for rings in [true, false] {
            let end = bus.inner.bury_all(me);
            assert!(matches!(end, Err(LockError::Stalled { .. })), "{end:?}");
            assert_eq!(is_rung(&watch), rings);
            assert_eq!(watch.try_recv().unwrap(), None);
        }
    });
    assert_eq!(bus.inner.bury_all(me), Ok(1));
    assert!(is_rung(&watch));
}

/// Promise: what expired is told, whatever ends the round through the stripes.
/// Plants: a failure of the keeper's round comes before its ring; of who tends it.
#[test]
fn what_expired_is_told_whatever_comes_behind_it() {
    let (_place, stopped, bus) = stalled();
    let last = bus.inner.core.geometry.stripes - 1;
    let bad = (0..).map(|n| format!("bad{n}")).find(|key| stripe_of(&bus, key.as_bytes()) == last);
    let first = (0..).map(|n| format!("due{n}")).find(|key| stripe_of(&bus, key.as_bytes()) == 0);
    let (bad, first) = (bad.unwrap(), first.unwrap());
    bus.put(&bad).ttl(Duration::from_secs(3600)).set(&1).unwrap();
    let mut at = 0;
    let mut note = |seen: &crate::table::read::Seen<'_>| {
        at = seen.entry.at();
        Ok(())
    };
    assert!(bus.inner.find(bad.as_bytes(), &mut note).unwrap());
    bus.inner.core.region.store(at + entry::META, u64::MAX, Relaxed).unwrap();
    let keeps = || {
        let me = bus.inner.writer().unwrap();
        bus.inner.expire_in_time(me, &mut unhurried(), &Stop::default())
    };
    // From the first stripe on; its time may be over before the last one's turn.
    let tends = || loop {
        stopped.inner.seat().unwrap().tended.store(0, Relaxed);
        match stopped.inner.tend_unkept() {
            Ok(()) => {}
            end => return end,
        }
    };
    for expires in [&keeps as &dyn Fn() -> Result<(), WriteFailure>, &tends] {
        bus.put(&first).ttl(Duration::from_millis(1)).set(&1).unwrap();
        while bus.contains(&first).unwrap() {
            std::thread::yield_now();
        }
        // The last stripe has something that is due, too.
        let due = bus.inner.core.geometry.stripe(last) + stripe::DEADLINE;
        bus.inner.core.region.store(due, 1, Relaxed).unwrap();
        let watch = asleep(&bus);
        let end = expires();
        assert!(matches!(end, Err(WriteFailure::Bad(_))), "{end:?}");
        assert!(is_rung(&watch));
    }
}

/// Promise: what who comes or goes takes away in the keeper's stead is told.
/// Plant: no ring.
#[test]
fn what_is_tended_is_told() {
    let (_place, stopped, bus) = stalled();
    std::thread::sleep(Duration::from_millis(2));
    let watch = asleep(&bus);
    stopped.inner.tend_unkept().unwrap();
    assert!(is_rung(&watch));
}

/// Promise: who can't be keeper any more does not seem to be, whatever it is still held by: another one takes over, and
/// whoever closes the last handle that may keep saves.
/// Plants: the byte stays locked; the state stays; the word stays.
#[test]
fn a_keeper_that_ends_gives_its_office_up() {
    let place = Place::new();
    let first = place.options().keeper(true).create_at(place.bus()).unwrap();
    let until = |is_true: &dyn Fn() -> bool| {
        (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            is_true()
        })
    };
    assert!(until(&|| first.info().unwrap().keeper == Some(0)));
    let watch = first.watch("").unwrap();
    drop(first);
    let second = place.options().attach_at(place.bus()).unwrap();
    assert!(!second.inner.is_locked(KEEPER_BYTE));
    let word = |at| second.inner.core.region.load(at, Acquire).unwrap();
    let state = second.inner.member_at(0) + member::STATE;
    assert_eq!((word(header::KEEPER), word(state)), (0, member::STATE_IN_USE));
    let third = place.options().keeper(true).attach_at(place.bus()).unwrap();
    assert!(until(&|| third.info().unwrap().keeper == Some(2)), "nobody keeps the bus");
    drop(watch);
}

/// Promise: where nobody keeps the bus, a stopped member holds up what is behind its lock, and nothing else: neither by the
/// burial that waits for it, nor by its stripe, whichever that is.
/// Plants: the time of the burial counts; the first stripe first each time.
#[test]
fn who_attaches_tends_beside_who_stands_still() {
    let (place, stopped, bus) = stalled();
    let core = &bus.inner.core;
    let timed = |index| {
        core.region.load(core.geometry.stripe(index) + stripe::DEADLINE, Relaxed).unwrap() != 0
    };
    let all = 0..core.geometry.stripes;
    assert!(all.clone().all(timed));
    for held in all.clone() {
        let dying = place.options().attach_at(place.bus()).unwrap();
        let mut keys = (0..).map(|number| format!("mine{number}"));
        let key = keys.find(|key| stripe_of(&bus, key.as_bytes()) == held);
        dying.put(key.unwrap()).ephemeral().set(&1).unwrap();
        for number in 0..200 {
            stopped.put(format!("k{number}")).ttl(Duration::from_millis(1)).set(&number).unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
        dying.inner.seat().unwrap().die();
        beside(&stopped, held, || {
            for _ in 0..2 * all.end {
                drop(bus.inner.tend_unkept());
            }
        });
        let left: Vec<_> = all.clone().filter(|index| timed(*index)).collect();
        assert_eq!(left, [held]);
    }
}

/// Promise: what changed is saved in the interval, whoever keeps the bus meanwhile, and for how short.
/// Plants: an interval that begins with each handle; a clock that was set back, after which nothing is due; failures that the
/// next keeper does not know of.
#[test]
fn the_interval_of_snapshots_outlives_its_keepers() {
    let place = Place::new();
    let every = Duration::from_secs(300);
    let bus = place.options().snapshot_every(every).create_at(place.bus()).unwrap();
    let (inner, stop) = (&bus.inner, Arc::new(Stop::default()));
    let keep = |saved: u64| {
        bus.set("k", &saved).unwrap();
        inner.core.region.store(header::SNAPSHOT_TIME, saved, Relaxed).unwrap();
        let mut turn = Turn::first();
        inner.keeper_turn(&mut turn, &stop).unwrap();
        inner.save_in_time(&mut turn, &stop);
        let is_due = turn.saver.is_some();
        assert_eq!(turn.saver.take().map(|saver| saver.join().unwrap()), is_due.then_some(Ok(())));
        assert_eq!(inner.unsaved() == 0, is_due);
        (is_due, turn.saved.elapsed())
    };
    let (wall, second) = (inner.core.clock.wall(), 1_000_000_000);
    // Nothing yet, and the region is new.
    assert!(matches!(keep(0), (false, age) if age < Duration::from_secs(100)));
    let (due, age) = keep(wall - 200 * second);
    assert!(!due && age >= Duration::from_secs(200) && age < every, "{age:?}");
    assert!(keep(wall - 300 * second).0);
    assert!(keep(wall + 3600 * second).0, "it was set back by an hour");
    // What has failed is tried later, whoever is keeper.
    inner.core.region.store(header::SNAPSHOT_FAILURES, 10, Relaxed).unwrap();
    assert!(!keep(wall - 300 * second).0);
    // However often the region says; plant: a sum that overflows.
    inner.core.region.store(header::SNAPSHOT_FAILURES, u64::MAX, Relaxed).unwrap();
    let (mut turn, failing) = (Turn::first(), std::thread::spawn(|| Err(())));
    inner.keeper_turn(&mut turn, &stop).unwrap();
    while !failing.is_finished() {
        std::thread::yield_now();
    }
    turn.saver = Some(failing);
    inner.save_in_time(&mut turn, &stop);
    assert!(turn.saver.is_none() && turn.failed == u32::MAX);
}
