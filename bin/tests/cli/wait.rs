//! `wait`: until a key is there, has a value, or is gone.

use crate::harness::{Place, eventually};
use nix::sys::signal::Signal;

/// Promise: what holds already ends it at once; else the change of another process does, and no other;
/// the value is shown.
/// Plants: any event ends it; a value that is compared without regard to how `get` shows it.
#[test]
fn it_ends_with_what_it_waits_for() {
    let place = Place::with_bus();
    place.run(&["set", "b", "k", "v"]).done();
    assert_eq!(place.run(&["wait", "b", "k"]).done(), "v\n");
    assert_eq!(place.run(&["wait", "b", "k", "v"]).done(), "v\n");
    assert_eq!(place.run(&["wait", "b", "other", "--absent"]).done(), "");
    let object = &place.run(&["wait", "b", "k", "--json"]).json()[0];
    assert_eq!((&object["key"], &object["value"]), (&"k".into(), &"v".into()));

    let waits = [
        place.spawn(&["wait", "b", "n", "-7"]),
        place.spawn(&["wait", "b", "k", "--absent"]),
        place.spawn(&["wait", "b", "new"]),
    ];
    place.run(&["add", "b", "n", "-6"]).done();
    place.run(&["set", "b", "n2", "-7"]).done();
    place.run(&["add", "b", "n", "-1"]).done();
    place.run(&["set", "b", "k", "w"]).done();
    place.run(&["set", "b", "new", "x"]).done();
    place.run(&["delete", "b", "k"]).done();
    for (wait, said) in waits.into_iter().zip([&["-7"][..], &[], &["x"]]) {
        assert_eq!(wait.rest(), said);
        let (status, stderr) = wait.end();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
    }
}

/// Promise: time run out is exit status 1; a key whose time to live ends is absent, whether or not somebody
/// keeps the bus; a signal ends it without a dead member.
/// Plant: with the signal's default the waiter is dead, and stays among the members.
#[test]
fn times_and_signals() {
    let place = Place::with_bus();
    assert_eq!(place.run(&["wait", "b", "k", "--timeout", "20ms"]).absent(), "");
    place.run(&["set", "b", "k", "v", "--ttl", "50ms"]).done();
    assert_eq!(place.run(&["wait", "b", "k", "other", "--timeout", "20ms"]).absent(), "");
    place.run(&["wait", "b", "k", "--absent"]).done();
    let wait = place.spawn(&["wait", "b", "never"]);
    eventually("the waiter among the members", || {
        (place.run(&["members", "b"]).done().lines().count() == 2).then_some(())
    });
    wait.signal(Signal::SIGTERM);
    let (status, _) = wait.end();
    assert_eq!(status.code(), Some(128 + Signal::SIGTERM as i32));
    assert_eq!(place.run(&["members", "b"]).done().lines().count(), 1);
    assert!(place.run(&["wait", "none", "k"]).failed().contains("there is no bus"));
}
