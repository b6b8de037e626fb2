//! Barriers.

use super::{ask, join, unkept};
use crate::harness::actor::Actor;
use crate::harness::{assert_whole, eventually};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

/// Promise "barriers": a killed arrival does not count, a stopped one does; all others pass together, and
/// exactly one is the leader.
/// Plants: a number that the dead complete; a leader that is also among those who were let through.
#[test]
fn the_dead_do_not_arrive() {
    let (place, bus) = unkept();
    let barrier = bus.barrier("b", 4).unwrap();
    let come = |label: &str, waiting: u32| -> Actor {
        let mut player = join(&place, label);
        player.tell("barrier b 4");
        eventually("an arrival", || (barrier.waiting().unwrap() == waiting).then_some(()));
        player
    };
    let mut killed = come("killed", 1);
    let stopped = come("stopped", 2);
    let third = come("third", 3);
    // Here already: who attaches into the slot of the dead buries it.
    let mut fourth = join(&place, "fourth");
    stopped.freeze();
    killed.kill();
    // It would complete the number, were it not for the dead.
    fourth.tell("barrier b 4");
    let own = barrier.wait(Some(LONG)).unwrap().is_leader;
    assert_eq!(third.expect("passed"), "false");
    assert_eq!(fourth.expect("passed") == "true", !own, "one of the last two");
    stopped.thaw();
    assert_eq!(stopped.expect("passed"), "false");
    // And again, with processes only.
    let mut all = [third, fourth, stopped, join(&place, "late")];
    for player in &mut all {
        player.tell("barrier b 4");
    }
    let passed: Vec<_> = all.iter().map(|player| player.expect("passed")).collect();
    assert_eq!(passed.iter().filter(|leads| *leads == "true").count(), 1, "{passed:?}");
    for mut player in all {
        ask(&mut player, "lock l", "has");
        player.end();
    }
    assert_whole(&bus);
}
