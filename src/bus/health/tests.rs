//! Each issue is told when it is there, and not when it is not.

use super::super::testing::Place;
use super::*;
use crate::region::layout::header;
use crate::sync::Ordering::{Relaxed, Release};
use crate::sys::clock;
use crate::{Cursor, Event, Persist, ReadBus};

/// The codes of what is wrong, all but that nobody keeps the bus of a test.
fn codes(health: &Health) -> Vec<&'static str> {
    health.issues.iter().map(|issue| issue.code).filter(|code| *code != "no_keeper").collect()
}

fn all(bus: &Bus) -> Vec<&'static str> {
    codes(&bus.health(&Thresholds::default()))
}

/// Promise (health): thresholds are the replaced module's by default and can be set; an issue is told above
/// one, not at it; the status is that of the worst.
/// Plants: `>=` in `say`; a status that is the first issue's as it was found.
#[test]
fn an_issue_is_told_above_its_threshold() {
    let place = Place::new();
    let bus = place.make();
    let first = bus.health(&Thresholds::default());
    assert_eq!((first.status, codes(&first).len()), (Status::Degraded, 0));
    for _ in 0..100 {
        assert!(bus.set("", &1).is_err());
    }
    assert_eq!(all(&bus), [""; 0]);
    assert!(bus.get_bytes("").is_err());
    let health = bus.health(&Thresholds::default());
    assert_eq!(codes(&health), ["errors"]);
    let issue = health.issues.iter().find(|issue| issue.code == "errors").unwrap();
    assert_eq!(
        (issue.figure, issue.threshold, issue.section),
        (101.0, 100.0, Section::Reliability)
    );
    assert!(
        issue.what.contains("writing 100") && issue.what.contains("reading 1"),
        "{}",
        issue.what
    );
    let more = Thresholds { errors: 1000, ..Thresholds::default() };
    assert_eq!(codes(&bus.health(&more)), [""; 0]);
    let before = bus.metrics().unwrap();
    assert_eq!(codes(&bus.health_since(&before, &Thresholds::default())), [""; 0]);
    for number in 0..200 {
        bus.set("k", &number).unwrap();
    }
    let low = Thresholds { mean: Duration::ZERO, fullness: 0.0, ..Thresholds::default() };
    let health = bus.health(&low);
    assert!(codes(&health).contains(&"slow") && codes(&health).contains(&"nearly_full"));
    assert_eq!(health.performance.status, Status::Degraded);
    let not = Thresholds { fullness: f64::NAN, ..Thresholds::default() };
    assert!(!codes(&bus.health(&not)).contains(&"nearly_full"));
}

/// Promise: who does not take what the bus tells is seen. Plant: `behind` of the fastest.
#[test]
fn a_queue_is_told() {
    let place = Place::new();
    let bus = place.make();
    let mut watch = bus.watch_from("", Cursor::NOW).unwrap();
    assert!(matches!(watch.try_recv().unwrap(), Some(Event::CaughtUp(_))));
    for number in 0..1001 {
        bus.set("k", &number).unwrap();
    }
    assert_eq!(all(&bus), ["queue"]);
    assert!(watch.try_recv().unwrap().is_some());
    assert_eq!(all(&bus), [""; 0]);
}

/// Promise: a bus that is gone, or damaged, is unhealthy, and asking is no error.
/// Plant: `look` that does not compare the files.
#[test]
fn what_is_gone_or_damaged_is_unhealthy() {
    let place = Place::new();
    let bus = place.make();
    std::fs::rename(place.bus(), place.path().join("elsewhere")).unwrap();
    let health = bus.health(&Thresholds::default());
    assert_eq!((health.status, codes(&health)), (Status::Unhealthy, vec!["gone"]));
    drop(bus);
    let other = Place::new();
    let bus = other.make();
    bus.inner.core.region.store(header::CLEARED_AT, u64::MAX, Relaxed).unwrap();
    let health = bus.health(&Thresholds::default());
    assert_eq!((health.status, codes(&health)), (Status::Unhealthy, vec!["damaged"]));
    assert_eq!(health.issues[0].code, "damaged", "the worst comes first");
}

/// Promise: a member that sits on a lock of the bus is named; one that goes on is not, nor a bus that changes.
/// Plants: a lock that is looked at once; a head that is not compared.
#[test]
fn whoever_sits_on_a_lock_is_named() {
    let place = Place::new();
    let bus = place.make();
    let other = place.options().label("sitter").attach_at(place.bus()).unwrap();
    let core = &other.inner.core;
    let me = other.inner.writer().unwrap();
    let guard = core.lock_stripe(1, me, &core.patience()).unwrap();
    let health = bus.health(&Thresholds::default());
    assert_eq!(codes(&health), ["lock_held"]);
    assert!(health.issues[0].what.contains("sitter"), "{}", health.issues[0].what);
    assert_eq!(health.reliability.status, Status::Unhealthy);
    let beside = (0..).map(|n| format!("k{n}")).find(|key| {
        let hash = crate::word::Hash::of(key.as_bytes().into(), core.geometry.seed);
        hash.stripe(core.geometry.stripes) != 1
    });
    let (beside, done) = (beside.unwrap(), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                bus.set(&beside, &1).unwrap();
            }
        });
        assert_eq!(codes(&other.health(&Thresholds::default())), [""; 0]);
        done.store(true, Relaxed);
    });
    drop(guard);
    assert_eq!(all(&bus), [""; 0]);
}

/// Promise: snapshots that fail or are overdue are told, with a backend alone.
/// Plants: an overdue snapshot of a bus that did not change; failures that are not forgotten after a good one; a good one
/// that is told as kept where there is none; `NAME` left in what to do.
#[test]
fn snapshots_that_fail_or_wait_are_told() {
    let place = Place::new();
    let images = place.path().join("images");
    let options = place.options().persist(Persist::Image(images.clone()));
    let bus = options.snapshot_every(Duration::from_nanos(1)).create_at(place.bus()).unwrap();
    let soon = Thresholds { snapshot_age: Some(Duration::ZERO), ..Thresholds::default() };
    assert_eq!(codes(&bus.health(&soon)), [""; 0]);
    bus.set("k", &1).unwrap();
    assert_eq!(codes(&bus.health(&soon)), ["snapshot_overdue"]);
    assert_eq!(all(&bus), [""; 0], "no interval is as short as that");
    std::fs::write(&images, "in the way").unwrap();
    assert!(bus.snapshot().is_err());
    let health = bus.health(&Thresholds::default());
    assert_eq!((codes(&health), health.status), (vec!["snapshots_fail"], Status::Degraded));
    let issue = &health.issues[0];
    assert!(issue.what.contains("none was taken since"), "{issue:?}");
    assert!(issue.action.contains("`membus snapshot bus`"), "{issue:?}");
    for _ in 0..3 {
        assert!(bus.snapshot().is_err());
    }
    assert_eq!(bus.health(&Thresholds::default()).status, Status::Unhealthy);
    std::fs::remove_file(&images).unwrap();
    bus.snapshot().unwrap();
    let health = bus.health(&soon);
    assert_eq!((codes(&health), health.persistence.operations), (vec![], 1));
    let saved = bus.metrics().unwrap().persistence;
    assert_eq!((saved.failures, saved.failures_in_a_row), (4, 0));
    assert!(saved.last_bytes > 0 && saved.last_took > Duration::ZERO && saved.last_time.is_some());
}

/// Promise: a keeper that gives no sign is told, and members that nobody buries.
/// Plant: the dead counted as alive.
#[test]
fn a_silent_keeper_and_the_unburied_are_told() {
    let place = Place::new();
    let bus = place.options().persist(Persist::None).create_at(place.bus()).unwrap();
    let dies = place.options().attach_at(place.bus()).unwrap();
    dies.inner.seat().unwrap().die();
    let health = bus.health(&Thresholds::default());
    assert_eq!((codes(&health), health.reliability.dead), (vec!["unburied"], 1));
    let keeper = place.options().keeper(true).attach_at(place.bus()).unwrap();
    let begun = std::time::Instant::now();
    while !bus.health(&Thresholds::default()).is_healthy() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:?}",
            bus.health(&Thresholds::default())
        );
        std::thread::yield_now();
    }
    let never = Thresholds { keeper_silence: Duration::ZERO, ..Thresholds::default() };
    // It may give a sign between any two looks.
    let silent = (0..1000).any(|_| {
        let long_ago = clock::boottime_ns().saturating_sub(1_000_000_000);
        bus.inner.core.region.store(header::HEARTBEAT, long_ago, Release).unwrap();
        codes(&bus.health(&never)) == ["keeper_silent"]
    });
    assert!(silent);
    drop(keeper);
}

/// Promise: the replaced module's sections in JSON, times in seconds, names in lower case.
#[test]
fn it_is_told_in_json() {
    let place = Place::new();
    let bus = place.make();
    bus.set("k", &1).unwrap();
    let health = bus.health(&Thresholds::default());
    let bytes = rmp_serde::to_vec_named(&health).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    for name in
        ["status", "memory", "persistence", "messaging", "reliability", "performance", "issues"]
    {
        assert!(text.contains(name), "{name}");
    }
    assert!(
        text.contains("no_keeper") && text.contains("degraded") && text.contains("reliability")
    );
    assert_eq!(format!("{:>9}", Status::Healthy), "  healthy");
}
