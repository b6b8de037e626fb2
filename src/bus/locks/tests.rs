//! Locks and what else processes meet at, by members of one process. A member dies by giving its locks up
//! without cleaning up; nobody keeps the bus.

use super::super::Bus;
use super::super::testing::Place;
use crate::doorbell::Sort;
use crate::lock::Probe;
use crate::{Batch, BusReader, LockError, MemberEvent, ReadBus, WriteError};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Longer than any test may take.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);

fn two() -> (Bus, Bus, Place) {
    let place = Place::new();
    let bus = place.make();
    let other = place.options().attach_at(place.bus()).unwrap();
    (bus, other, place)
}

/// The kernel drops its locks, and nobody cleans up.
fn die(bus: &Bus) {
    bus.inner.seat().unwrap().die();
}

/// Nothing is left in the realm of locks.
fn assert_empty(bus: &Bus) {
    let report = bus.check();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(super::crash_tests::lock_entries(bus), 0, "entries of locks");
    assert_eq!(bus.inner.core.watch_count().unwrap(), 0, "watches");
}

/// Plant: one letter for all: the read-write lock of this name is damaged by the lock.
#[test]
fn a_lock_is_held_by_one_until_it_is_released() {
    let (bus, other, _place) = two();
    let guard = bus.lock("l").unwrap();
    assert!(guard.is_held().unwrap());
    assert!(other.try_lock("l").unwrap().is_none() && bus.try_lock("l").unwrap().is_none());
    let holder = other.lock_holder("l").unwrap().unwrap();
    assert_eq!((holder.pid, holder.token), (std::process::id(), Some(guard.token())));
    let error = other.lock_timeout("l", SHORT).unwrap_err();
    let LockError::TimedOut { holder: named, waited, .. } = &error else { panic!("{error}") };
    assert!(named.as_deref() == Some(&holder) && *waited >= SHORT, "{error}");
    // Another name, another sort, a key of the same name, a clear: none of these is concerned.
    let beside = (other.lock("m").unwrap(), other.write_lock("l").unwrap());
    other.set("l", &1).unwrap();
    other.clear().unwrap();
    assert!(guard.is_held().unwrap() && bus.len().unwrap() == 0);
    let first = guard.token();
    guard.release().unwrap();
    let again = other.lock("l").unwrap();
    assert!(again.token() > first);
    drop((again, beside));
    assert!(bus.lock_holder("l").unwrap().is_none());
    assert_empty(&bus);
}

/// Plant: a `Limit` that has nothing left from the beginning.
#[test]
fn a_waiter_is_woken_by_the_release() {
    let (bus, other, _place) = two();
    for round in 0..200 {
        let guard = bus.lock("l").unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| other.lock_timeout("l", LONG).unwrap().release().unwrap());
            if round % 2 == 0 {
                while bus.inner.core.watch_count().unwrap() == 0 {
                    std::thread::yield_now();
                }
            }
            drop(guard);
            waiter.join().unwrap();
        });
    }
    assert_empty(&bus);
}

/// Promise: the dead hold nothing, and nobody has to keep the bus for that.
/// Plant: `has_gone` that does not probe leaves each of these held for ever.
#[test]
fn what_the_dead_held_is_free() {
    let (bus, victim, place) = two();
    let held = (
        victim.lock("l").unwrap(),
        victim.read_lock("r").unwrap(),
        victim.write_lock("w").unwrap(),
        victim.semaphore("s", 2).unwrap().acquire(2).unwrap(),
    );
    assert!(bus.try_lock("l").unwrap().is_none() && bus.try_write_lock("r").unwrap().is_none());
    die(&victim);
    assert!(bus.try_lock("l").unwrap().is_some());
    assert!(bus.try_write_lock("r").unwrap().is_some());
    assert!(bus.try_read_lock("w").unwrap().is_some());
    assert!(bus.semaphore("s", 2).unwrap().try_acquire(2).unwrap().is_some());
    // Another number, when nobody is left who used the first one.
    let victim = place.options().attach_at(place.bus()).unwrap();
    let more = victim.semaphore("s", 2).unwrap().acquire(1).unwrap();
    let differs = bus.semaphore("s", 3).unwrap().try_acquire(1);
    assert!(matches!(differs, Err(LockError::Differs { asked: 3, found: 2, .. })), "{differs:?}");
    die(&victim);
    assert!(bus.semaphore("s", 3).unwrap().try_acquire(1).unwrap().is_some());
    drop((held, more));
    assert_empty(&bus);
}

/// Promise: a lease ends at its deadline for everybody at once; whoever lost it writes nothing on its word.
/// Plants: `require_lock` on the revision of the acquisition (a renewed lease is refused); a condition that
/// asks for any entry (the old holder writes when there is a new one).
#[test]
fn a_lease_that_is_lost_writes_nothing() {
    let (bus, other, _place) = two();
    let lease = bus.lease("l", LONG).unwrap();
    let mut batch = Batch::new();
    batch.require_lock(&lease).set_bytes("k", b"mine");
    bus.commit(&batch).unwrap();
    lease.renew().unwrap();
    bus.commit(&batch).unwrap();
    assert!(lease.is_held().unwrap() && lease.remaining() > LONG / 2);
    assert!(bus.lock_holder("l").unwrap().unwrap().token == Some(lease.token()));
    drop(lease);
    let error = bus.commit(&batch).unwrap_err();
    assert!(matches!(error.source, WriteError::LockLost { found: None, .. }), "{error}");

    let lease = bus.lease("l", SHORT).unwrap();
    let mut batch = Batch::new();
    batch.set_bytes("k", b"too late").require_lock(&lease);
    let next = other.lock_timeout("l", LONG).unwrap();
    assert!(next.token() > lease.token() && lease.remaining().is_zero());
    assert!(!lease.is_held().unwrap());
    let lost = lease.renew().unwrap_err();
    assert!(matches!(lost, LockError::Lost { token, .. } if token == lease.token()), "{lost}");
    let error = bus.commit(&batch).unwrap_err();
    assert!(matches!(error.source, WriteError::LockLost { found: Some(_), .. }), "{error}");
    assert!(error.index == 1 && error.to_string().contains("`l`"), "{error}");
    assert!(matches!(lease.release(), Err(LockError::Lost { .. })));
    assert!(next.is_held().unwrap(), "the old holder gave the new one's back");
    assert_eq!(bus.get_bytes("k").unwrap().as_deref(), Some(&b"mine"[..]));
    let mut batch = Batch::new();
    other.commit(batch.require_lock(&next).set_bytes("k", b"theirs")).unwrap();
    drop(next);
    assert_empty(&bus);
}

/// Promise: several read or one writes; a waiting writer holds new readers back, and only as long as it waits.
/// Plants: readers that do not look for who waits to write; a writer that leaves its line when its time is out.
#[test]
fn readers_share_and_a_waiting_writer_is_next() {
    let (bus, other, _place) = two();
    let readers = (bus.read_lock("r").unwrap(), other.read_lock("r").unwrap());
    assert!(bus.try_write_lock("r").unwrap().is_none());
    let third = bus.try_read_lock("r").unwrap().expect("who only tried to write holds nobody back");
    let error = bus.write_lock_timeout("r", SHORT).unwrap_err();
    assert!(matches!(&error, LockError::TimedOut { others: 2, .. }), "{error}");
    drop(bus.read_lock_timeout("r", SHORT).expect("who waits no more holds nobody back"));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| bus.write_lock("r").unwrap());
        let begun = Instant::now();
        while other.try_read_lock("r").unwrap().is_some() {
            assert!(begun.elapsed() < LONG, "new readers come in");
            std::thread::yield_now();
        }
        drop((readers, third));
        let guard = writer.join().unwrap();
        assert!(other.try_read_lock("r").unwrap().is_none());
        let mut batch = Batch::new();
        bus.commit(batch.require_lock(&guard).set_bytes("k", b"x")).unwrap();
        let token = guard.token();
        guard.release().unwrap();
        assert!(bus.commit(&batch).is_err(), "a write lock that was released");
        assert!(other.write_lock("r").unwrap().token() > token);
    });
    assert_empty(&bus);
}

/// Plant: `>=` in the comparison with the permits.
#[test]
fn permits_are_counted() {
    let (bus, other, _place) = two();
    let (here, there) = (bus.semaphore("s", 5).unwrap(), other.semaphore("s", 5).unwrap());
    let (three, two) = (here.acquire(3).unwrap(), there.acquire_timeout(2, LONG).unwrap());
    assert_eq!((here.available().unwrap(), two.count()), (0, 2));
    assert!(here.try_acquire(1).unwrap().is_none());
    assert!(matches!(there.acquire_timeout(1, SHORT), Err(LockError::TimedOut { .. })));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| there.acquire(3).unwrap());
        three.release().unwrap();
        drop(waiter.join().unwrap());
    });
    drop(two);
    for count in [0, 6] {
        assert!(matches!(here.acquire(count), Err(LockError::Setting { .. })), "{count}");
    }
    assert!(bus.semaphore("s", 0).is_err());
    assert_empty(&bus);
}

/// Promise: none passes before all have arrived, all pass then, one of them is the leader, round after round.
/// Plant: a leader that takes the others off instead of letting them pass.
#[test]
fn a_barrier_lets_all_pass_together() {
    const WIDTH: u32 = 4;
    let (bus, other, _place) = two();
    let (arrived, leaders) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for number in 0..WIDTH {
            let bus = if number % 2 == 0 { &bus } else { &other };
            let barrier = bus.barrier("b", WIDTH).unwrap();
            let (arrived, leaders) = (&arrived, &leaders);
            scope.spawn(move || {
                for round in 1..=50 {
                    arrived.fetch_add(1, Relaxed);
                    let passed = barrier.wait(Some(LONG)).unwrap();
                    assert!(arrived.load(Relaxed) >= round * WIDTH as usize, "before the last one");
                    leaders.fetch_add(usize::from(passed.is_leader), Relaxed);
                }
            });
        }
    });
    assert_eq!(leaders.into_inner(), 50);
    assert!(bus.barrier("b", 1).unwrap().wait(None).unwrap().is_leader);
    assert_empty(&bus);
}

/// Promise: whose time is out has not arrived, nor has who died.
/// Plants: a time-out that leaves its line; no look for the dead before the number is complete.
#[test]
fn who_gave_up_or_died_has_not_arrived() {
    let (bus, victim, place) = two();
    let barrier = bus.barrier("b", 2).unwrap();
    assert!(matches!(barrier.wait(Some(SHORT)), Err(LockError::TimedOut { .. })));
    assert_eq!(barrier.waiting().unwrap(), 0);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| victim.barrier("b", 2).unwrap().wait(Some(SHORT * 20)));
        while barrier.waiting().unwrap() == 0 {
            std::thread::yield_now();
        }
        let differs = bus.barrier("b", 3).unwrap().wait(None);
        assert!(matches!(differs, Err(LockError::Differs { found: 2, .. })), "{differs:?}");
        die(&victim);
        let alone = barrier.wait(Some(SHORT));
        assert!(matches!(alone, Err(LockError::TimedOut { .. })), "with a dead one: {alone:?}");
        drop(waits.join());
    });
    drop(victim);
    let third = place.options().attach_at(place.bus()).unwrap();
    std::thread::scope(|scope| {
        let one = scope.spawn(|| third.barrier("b", 2).unwrap().wait(None).unwrap().is_leader);
        let two = barrier.wait(None).unwrap().is_leader;
        assert!(one.join().unwrap() ^ two);
    });
    assert_empty(&bus);
}

/// Promise: who died has not arrived, also while somebody else is about to bury it.
/// Plant: whoever can't be buried now counts as living, as it does for locks, where that costs a moment.
#[test]
fn who_is_being_buried_has_not_arrived() {
    let (bus, victim, place) = two();
    let (undertaker, barrier) = (place.options().attach_at(place.bus()).unwrap(), "b");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| victim.barrier(barrier, 2).unwrap().wait(Some(SHORT * 20)));
        let own = bus.barrier(barrier, 2).unwrap();
        while own.waiting().unwrap() == 0 {
            std::thread::yield_now();
        }
        let slot = victim.inner.seat().unwrap().slot;
        die(&victim);
        let mut burial = undertaker.inner.seat().unwrap().undertaker.begin();
        assert!(burial.acquire(slot));
        let alone = own.wait(Some(SHORT));
        assert!(matches!(alone, Err(LockError::TimedOut { .. })), "{alone:?}");
        drop(burial);
        drop(waits.join());
    });
}

/// Promise: one leads; news come in turns, a panic in a callback ends nothing, and who resigns has ended before
/// the next one begins.
/// Plant: a resignation that gives the lease back before `on_loss` has run.
#[test]
fn one_leads_and_the_next_one_begins_when_it_has_ended() {
    let (bus, other, _place) = two();
    let (news, told) = channel();
    let campaign = |bus: &Bus, name: &'static str| {
        let election = bus.election("e", LONG).unwrap();
        let (gains, losses) = (news.clone(), news.clone());
        election.campaign(
            move |leadership| {
                gains.send((name, Some(leadership.clone()))).unwrap();
                panic!("as planned");
            },
            move || {
                std::thread::sleep(SHORT);
                losses.send((name, None)).unwrap();
            },
        )
    };
    let one = campaign(&bus, "one").unwrap();
    let (name, first) = told.recv_timeout(LONG).unwrap();
    let first = first.unwrap();
    assert!(name == "one" && one.is_leader() && one.leadership() == Some(first.clone()));
    let two = campaign(&other, "two").unwrap();
    assert_eq!(bus.leader("e").unwrap().unwrap().token, Some(first.token()));
    let mut batch = Batch::new();
    bus.commit(batch.require_lock(&first).set_bytes("k", b"x")).unwrap();
    assert!(!two.is_leader() && two.is_running());
    one.resign();
    assert!(told.recv_timeout(LONG).unwrap() == ("one", None));
    let (name, second) = told.recv_timeout(LONG).unwrap();
    let second = second.unwrap();
    assert!(name == "two" && second.token() > first.token());
    assert!(bus.commit(&batch).is_err(), "the old leader writes");
    // A waiting candidate is woken by its own resignation.
    let begun = Instant::now();
    campaign(&bus, "three").unwrap().resign();
    drop(two);
    assert!(begun.elapsed() < LONG / 2);
    assert!(told.recv_timeout(LONG).unwrap() == ("two", None));
    assert!(told.try_recv().is_err() && bus.leader("e").unwrap().is_none());
    assert_empty(&bus);
}

/// Promise: a leader whose lease is gone is told so, and campaigns again.
/// Plant: a renewal that asks for no entry of its own.
#[test]
fn a_leader_whose_lease_was_lost_is_told() {
    let (bus, other, _place) = two();
    let (news, told) = channel();
    let gains = news.clone();
    let election = bus.election("e", SHORT * 5).unwrap();
    let gained = move |_: &crate::Leadership| gains.send(true).unwrap();
    let one = election.campaign(gained, move || news.send(false).unwrap()).unwrap();
    assert!(told.recv_timeout(LONG).unwrap());
    // As after a stop: the entry went, and another one leads.
    let key = super::Address::new(super::Sort::Election, "e").unwrap();
    let action = crate::table::wish::Action::Delete { time: 0, who: b"" };
    let condition = crate::table::wish::Condition::Any;
    other
        .inner
        .change(&crate::table::wish::Wish { key: key.in_realm(), action, condition })
        .unwrap();
    assert!(!told.recv_timeout(LONG).unwrap());
    assert!(told.recv_timeout(LONG).unwrap(), "and campaigns again");
    one.resign();
}

/// Plants: a death that is told as a departure; no burial where nobody keeps the bus; a table that is looked at
/// before the doorbell is there.
#[test]
fn members_come_and_go() {
    let place = Place::new();
    let bus = place.make();
    let mut events = bus.member_events().unwrap();
    let MemberEvent::Joined(own) = events.recv().unwrap() else { panic!() };
    assert_eq!((own.pid, events.try_recv().unwrap()), (std::process::id(), None));
    let options = || place.options().label("guest");
    let guest = options().attach_at(place.bus()).unwrap();
    let MemberEvent::Joined(joined) = events.recv().unwrap() else { panic!() };
    assert!(joined.label.as_deref() == Some("guest") && joined.generation == 1);
    drop(guest);
    let left = events.recv_timeout(LONG).unwrap().unwrap();
    assert_eq!(left, MemberEvent::Left { member: joined.clone(), died: Some(false) });
    let guest = options().attach_at(place.bus()).unwrap();
    let MemberEvent::Joined(joined) = events.recv().unwrap() else { panic!() };
    die(&guest);
    let left = events.recv_timeout(LONG).unwrap().unwrap();
    assert_eq!(left, MemberEvent::Left { member: joined, died: Some(true) });
    for _ in 0..3 {
        drop(options().attach_at(place.bus()).unwrap());
    }
    let mut reader = BusReader::open_at(place.bus()).unwrap().member_events().unwrap();
    assert_eq!(events.try_recv().unwrap(), Some(MemberEvent::Missed { count: 6 }));
    assert!(matches!(reader.recv().unwrap(), MemberEvent::Joined(member) if member == own));
    let canceller = events.canceller();
    canceller.cancel();
    assert!(events.next().is_none());
    drop(events);
    assert_eq!(bus.inner.core.watch_count().unwrap(), 0);
}

/// Plant: an error instead of polls when all watch slots are taken.
#[test]
fn who_finds_no_doorbell_waits_all_the_same() {
    let (bus, other, _place) = two();
    let core = &bus.inner.core;
    while core.watch_take(1, 0, (Sort::Keys, b"")).unwrap().is_some() {}
    let guard = bus.lock("l").unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| other.lock_timeout("l", LONG).unwrap().token());
        std::thread::yield_now();
        let token = guard.token();
        drop(guard);
        assert!(waiter.join().unwrap() > token);
    });
}

/// Plants: a name of nothing, or one that is longer than a key with its letter.
#[test]
fn names_and_times_have_limits() {
    let (bus, _other, _place) = two();
    let longest = vec![b'x'; crate::limits::LOCK_NAME_MAX];
    drop(bus.lock(&longest).unwrap());
    for name in [&[][..], &[b'x'; crate::limits::LOCK_NAME_MAX + 1]] {
        assert!(matches!(bus.lock(name), Err(LockError::Name { .. })));
        assert!(matches!(bus.read_lock(name), Err(LockError::Name { .. })));
        assert!(bus.semaphore(name, 1).is_err() && bus.barrier(name, 1).is_err());
    }
    assert!(matches!(bus.lease("l", Duration::ZERO), Err(LockError::Setting { .. })));
    assert!(bus.election("e", Duration::ZERO).is_err() && bus.barrier("b", 0).is_err());
    drop(bus.lease("ever", Duration::MAX).unwrap());
    assert_empty(&bus);
}
