//! Locks, leases and elections: what one alone holds.

use super::{ask, join, token, unkept};
use crate::harness::actor::Actor;
use crate::harness::{Place, assert_whole, eventually, heavy, spread, tell};
use membus::{Bus, LockError, MemberEvent, ReadBus};
use std::time::{Duration, Instant};

/// Longer than any wait here takes that ends well.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(150);
/// A bound for waits that a deadline ended, not for speed; the figures are printed.
const SOON: Duration = Duration::from_secs(2);

/// Promise "locks": what a killed process held is free within the burial's time, without a keeper, and the
/// next holder has a higher token.
/// Plant: `PROBE_FIRST` and `PROBE_LAST` of a minute: the waiter sleeps on.
#[test]
fn a_killed_holder_makes_way() {
    let _alone = heavy();
    let (place, bus) = unkept();
    let mut times = Vec::new();
    let mut last = 0;
    for _ in 0..20 {
        let mut holder = join(&place, "holder");
        let first = token(&ask(&mut holder, "lock l", "has"));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let guard = bus.lock_timeout("l", LONG).unwrap();
                (Instant::now(), guard.token().get())
            });
            eventually("a waiter", || (bus.info().unwrap().watches > 0).then_some(()));
            let killed = Instant::now();
            holder.kill();
            let (taken, second) = waiter.join().unwrap();
            times.push(taken.saturating_duration_since(killed));
            assert!(second > first && first > last, "{last} {first} {second}");
            last = second;
        });
    }
    tell(&format!("from SIGKILL of a lock's holder to the next: {}", spread(&mut times)));
    assert!(times.iter().all(|time| *time < SOON), "{times:?}");
    assert!(bus.lock_holder("l").unwrap().is_none());
    assert_whole(&bus);
}

/// Promise "locks": a stopped holder keeps its lock, and who waits is told its name; its word still counts when
/// it goes on. A stopped waiter delays nobody.
/// Plant: a lock that is entered with a deadline.
#[test]
fn a_stopped_holder_keeps_its_lock() {
    let (place, bus) = unkept();
    let mut holder = join(&place, "holder");
    ask(&mut holder, "lock l", "has");
    let mut waiter = join(&place, "waiter");
    waiter.tell("lock l");
    eventually("a waiter", || (bus.info().unwrap().watches > 0).then_some(()));
    holder.freeze();
    waiter.freeze();
    let error = bus.lock_timeout("l", SHORT).unwrap_err();
    let LockError::TimedOut { holder: Some(named), .. } = &error else { panic!("{error}") };
    assert_eq!((named.pid, named.label.as_deref()), (holder.pid(), Some("holder")));
    assert!(error.to_string().contains("holder"), "{error}");
    holder.thaw();
    ask(&mut holder, "write l k", "wrote");
    ask(&mut holder, "release l", "released");
    // The waiter that is stopped was there first.
    let guard = bus.lock_timeout("l", LONG).unwrap();
    waiter.thaw();
    drop(guard);
    let _token = waiter.expect("has");
    drop((holder.end(), waiter.end()));
    assert_whole(&bus);
}

/// One that lost its lease without knowing: it is told at its next renewal, and writes nothing.
fn has_lost(holder: &mut Actor, bus: &Bus, first: u64) {
    assert_eq!(token(&ask(holder, "renew l", "lost")), first);
    let why = ask(holder, "write l k", "refused");
    assert!(why.contains("`l`") && why.contains("lost"), "{why}");
    assert_eq!(bus.get_bytes("k").unwrap().as_deref(), Some(&b"next"[..]));
}

/// Promise "leases": a stopped holder loses its lease when its time has passed, and nothing that it writes on
/// its word counts afterwards, whether or not somebody else has it.
/// Plants: `require_lock` that is left out of the batch; a condition that does not look at the deadline.
#[test]
fn a_stopped_holder_loses_its_lease() {
    let (place, bus) = unkept();
    let mut holder = join(&place, "holder");
    let first = token(&ask(&mut holder, "lease l 1500", "has"));
    ask(&mut holder, "renew l", "renewed");
    ask(&mut holder, "write l k", "wrote");
    holder.freeze();
    bus.lock_timeout("l", Duration::from_millis(1)).unwrap_err();
    let mut next = join(&place, "next");
    let second = token(&ask(&mut next, "lease l 60000", "has"));
    assert!(second > first, "{first} {second}");
    ask(&mut next, "write l k", "wrote");
    holder.thaw();
    has_lost(&mut holder, &bus, first);
    ask(&mut next, "renew l", "renewed");
    drop((holder.end(), next.end()));
    assert_whole(&bus);
}

/// The same of one that is slow: it does something else for too long.
#[test]
fn a_slow_holder_writes_nothing_after_its_time() {
    let (place, bus) = unkept();
    let mut holder = join(&place, "holder");
    let first = token(&ask(&mut holder, "lease l 50", "has"));
    eventually("the end of the lease", || bus.lock_holder("l").unwrap().is_none().then_some(()));
    // Nobody has it, and it is lost all the same.
    let why = ask(&mut holder, "write l k", "refused");
    assert!(why.contains("nobody holds it"), "{why}");
    let mut next = join(&place, "next");
    ask(&mut next, "lock l", "has");
    ask(&mut next, "write l k", "wrote");
    has_lost(&mut holder, &bus, first);
    drop((holder.end(), next.end()));
    assert_whole(&bus);
}

/// Candidates in an election of this time to live, and which of them leads, with its token.
fn elect(place: &Place, time: &str) -> (Vec<Actor>, usize, u64) {
    let mut candidates: Vec<_> = (0..3).map(|n| join(place, &format!("c{n}"))).collect();
    for candidate in &mut candidates {
        ask(candidate, &format!("campaign e {time}"), "campaigns");
    }
    let (index, first) = leads(&candidates, usize::MAX);
    (candidates, index, first)
}

/// Who says next that it leads, but for `past`.
#[track_caller]
fn leads(candidates: &[Actor], past: usize) -> (usize, u64) {
    eventually("a leader", || {
        let others = candidates.iter().enumerate().filter(|(index, _)| *index != past);
        others.into_iter().find_map(|(index, candidate)| {
            Some((index, token(candidate.try_line()?.strip_prefix("leads ")?)))
        })
    })
}

/// Promise "election": when the leader is killed another one leads, long before its lease would have ended, and
/// all can read who.
/// Plant: a lease that does not belong to its member: the next one waits for its time.
#[test]
fn a_killed_leader_is_followed() {
    let (place, bus) = unkept();
    let (mut candidates, index, first) = elect(&place, "60000");
    assert_eq!(bus.leader("e").unwrap().unwrap().pid, candidates[index].pid());
    candidates[index].kill();
    let (next, second) = leads(&candidates, index);
    assert!(second > first);
    let leader = bus.leader("e").unwrap().unwrap();
    assert_eq!((leader.pid, leader.token.unwrap().get()), (candidates[next].pid(), second));
    ask(&mut candidates[next], "leader", "leader true");
    candidates[next].tell("resign");
    assert_eq!(candidates[next].expect("lost"), "");
    candidates[next].expect("resigned");
    let last = 3 - index - next;
    let third = token(&candidates[last].expect("leads"));
    assert!(third > second);
}

/// Promise "election": a stopped leader is followed when its time has passed, does not take itself for the
/// leader when it goes on, and is told.
/// Plant: a lease without a deadline.
#[test]
fn a_stopped_leader_is_followed() {
    let (place, bus) = unkept();
    let (mut candidates, index, first) = elect(&place, "1500");
    candidates[index].freeze();
    let (next, second) = leads(&candidates, index);
    assert!(second > first);
    assert_eq!(bus.leader("e").unwrap().unwrap().pid, candidates[next].pid());
    candidates[index].thaw();
    candidates[index].expect("lost");
    ask(&mut candidates[index], "leader", "leader false");
    for candidate in candidates {
        candidate.end();
    }
    assert!(bus.leader("e").unwrap().is_none());
    assert_whole(&bus);
}

/// Promise "members": whoever attaches, detaches, or is killed is told of, and who was killed as such, without
/// a keeper; one that is stopped has not left.
/// Plant: no burials by who watches.
#[test]
fn members_are_told_of() {
    let (place, bus) = unkept();
    let mut events = bus.member_events().unwrap();
    let mut next = || events.recv_timeout(LONG).unwrap();
    assert!(matches!(next(), Some(MemberEvent::Joined(own)) if own.pid == std::process::id()));
    let (leaver, mut victim) = (join(&place, "leaver"), join(&place, "victim"));
    let mut pids = [0; 2];
    for pid in &mut pids {
        let Some(MemberEvent::Joined(joined)) = next() else { panic!("nobody joined") };
        *pid = joined.pid;
    }
    assert_eq!(pids, [leaver.pid(), victim.pid()]);
    victim.freeze();
    let stopped = victim.pid();
    leaver.end();
    let left = next();
    let Some(MemberEvent::Left { member, died: Some(false) }) = left else { panic!("{left:?}") };
    assert_eq!(member.label.as_deref(), Some("leaver"));
    victim.kill();
    let left = next();
    let Some(MemberEvent::Left { member, died: Some(true) }) = left else { panic!("{left:?}") };
    assert_eq!(member.pid, stopped);
    assert_eq!(events.recv_timeout(Duration::from_millis(300)).unwrap(), None);
    drop(events);
    assert_whole(&bus);
}
