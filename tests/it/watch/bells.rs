//! What wakes a watch: the doorbell behind `AsFd`, armed by `try_recv`, and the clock of a reader.

use crate::harness::actor::actor;
use crate::harness::{PATIENCE, Place, caught_up, from_now, next_change, os, skipped};
use membus::{BusReader, Event, ReadBus, Watch};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use std::time::Duration;

/// Whether a watch's descriptor becomes readable in this time.
pub(crate) fn readable(watch: &Watch, within: Duration) -> bool {
    let timeout = PollTimeout::try_from(within).unwrap();
    loop {
        match poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(nix::errno::Errno::EINTR) => {}
            count => return count.unwrap() > 0,
        }
    }
}

/// Promise (`AsFd`): the descriptor becomes readable after `try_recv` gave nothing and something happened;
/// not for what does not concern the watch, and not twice for one event.
/// Plant: `falls_asleep` left out of `try_recv`: nobody ever rings.
#[test]
fn try_recv_arms_the_bell() {
    let place = Place::new();
    let (bus, other) =
        (place.options().keeper(false).open_at(place.bus()).unwrap(), place.attach());
    let mut watch = bus.watch("k").unwrap();
    caught_up(&mut watch);
    for round in 0..100 {
        assert!(watch.try_recv().unwrap().is_none());
        assert!(!readable(&watch, Duration::ZERO), "{round}: nothing has happened");
        other.set("elsewhere", &round).unwrap();
        assert!(!readable(&watch, Duration::ZERO), "{round}: another key");
        other.set("k/1", &round).unwrap();
        assert!(readable(&watch, PATIENCE), "{round}");
        other.set("k/2", &round).unwrap();
        assert_eq!(&*next_change(&mut watch).key, b"k/1");
        assert_eq!(&*next_change(&mut watch).key, b"k/2");
        assert!(watch.try_recv().unwrap().is_none());
        assert!(!readable(&watch, Duration::ZERO), "{round}: the bell was drained");
    }
    // A clear concerns everybody, and so does the end.
    other.clear().unwrap();
    assert!(readable(&watch, PATIENCE));
    next_change(&mut watch);
    assert!(watch.try_recv().unwrap().is_none());
    place.options().destroy_at(place.bus(), true).unwrap();
    assert!(readable(&watch, PATIENCE));
    assert!(watch.try_recv().is_err());
}

/// Promise (watching): a sleeping watch is woken by another process; many that sleep are woken by one
/// change, each once.
/// Plant: `each_sleeper` that ends after the first one it rang.
#[test]
fn one_change_wakes_all_that_sleep() {
    let place = Place::new();
    let bus = place.options().keeper(false).open_at(place.bus()).unwrap();
    let mut sleepers: Vec<_> = (0..150).map(|_| from_now(&bus)).collect();
    let mut writer = actor("watch_on_demand", &place).start();
    for round in 0..20_u32 {
        for watch in &mut sleepers {
            assert!(watch.try_recv().unwrap().is_none());
        }
        writer.tell("write");
        writer.expect("wrote");
        for watch in &mut sleepers {
            assert!(readable(watch, PATIENCE), "{round}");
            next_change(watch);
        }
    }
    writer.end();
}

/// Writes when it is told to.
pub(crate) fn on_demand(part: &crate::harness::part::Part) {
    let bus = part.attach();
    while part.hear().is_some() {
        bus.add("n", 1).unwrap();
        part.say("wrote");
    }
}

/// Watches whose rings nobody takes: the kernel lets one sender have some 280 untaken ones.
/// To some sixty it is connected, and those that share a place with one take turns.
const DEAF: usize = 1000;

/// Promise (watching): watches that do not take their rings, say of a stopped process, keep nobody else's
/// from being rung.
/// Plant: no second sender in `ring`: some watches are never woken.
#[test]
fn untaken_rings_silence_nobody() {
    let test = "untaken_rings_silence_nobody";
    if let Err(limit) = os::allow_files(DEAF as u64 + 500) {
        return skipped(test, &format!("{limit} open files are too few"));
    }
    let place = Place::new();
    let bus = place.options().keeper(false).open_at(place.bus()).unwrap();
    let mut deaf: Vec<_> = (0..DEAF).map(|_| from_now(&bus)).collect();
    for watch in &mut deaf {
        assert!(watch.try_recv().unwrap().is_none());
    }
    bus.set("k", &1).unwrap();
    let mut late = from_now(&bus);
    for round in 0..3 {
        assert!(late.try_recv().unwrap().is_none());
        bus.set("k", &round).unwrap();
        assert!(readable(&late, PATIENCE), "{round}");
        next_change(&mut late);
    }
    for (index, watch) in deaf.iter_mut().enumerate() {
        assert!(readable(watch, PATIENCE), "{index}");
        next_change(watch);
    }
}

/// Promise (readers): a reader's watch polls, and its descriptor says when to look; it takes no slot of
/// the bus's, and writers make no call for it.
/// Plant: a timer that is not set: the descriptor never becomes readable.
#[test]
fn a_readers_watch_polls() {
    let place = Place::new();
    let bus = place.options().keeper(false).open_at(place.bus()).unwrap();
    bus.set("k", &1).unwrap();
    let reader = BusReader::open_at(place.bus()).unwrap();
    let mut watch = reader.watch("").unwrap();
    assert!(matches!(crate::harness::next(&mut watch), Event::Current(_)));
    caught_up(&mut watch);
    assert_eq!(bus.info().unwrap().watches, 0);
    assert_eq!(bus.members().unwrap().len(), 1);
    for number in 0..20 {
        assert!(watch.try_recv().unwrap().is_none());
        bus.set("k", &number).unwrap();
        assert!(readable(&watch, PATIENCE));
        next_change(&mut watch);
    }
    assert_eq!(watch.recv_timeout(Duration::from_millis(20)).unwrap(), None);
    assert_eq!(reader.len().unwrap(), 1);
}

/// Promise (watching): `recv_timeout` gives nothing when nothing came, and waits as long as it was told.
/// Plant: a wait that ends at the first look by itself gives nothing too early.
#[test]
fn recv_timeout_ends() {
    let place = Place::new();
    let bus = place.options().keeper(false).open_at(place.bus()).unwrap();
    let mut watch = from_now(&bus);
    for wait in [0, 1, 30, 1200].map(Duration::from_millis) {
        let begun = std::time::Instant::now();
        assert_eq!(watch.recv_timeout(wait).unwrap(), None);
        assert!(begun.elapsed() >= wait);
    }
    bus.set("k", &1).unwrap();
    assert!(watch.recv_timeout(Duration::ZERO).unwrap().is_some());
    assert!(watch.recv_timeout(Duration::MAX.min(Duration::ZERO)).unwrap().is_none());
}
