//! `keep`: the keeper of a bus whose members come and go.

use crate::harness::{Place, eventually};
use nix::sys::signal::Signal;

/// Promise: `keep` makes a bus that is not there, ends at SIGTERM with exit status 0, and takes a last
/// snapshot, from which the bus comes back.
/// Plant: ending without the snapshot.
#[test]
fn the_last_snapshot_is_taken() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let place = Place::new();
        let keep = place.spawn(&["keep", "b", "--every", "1h"]);
        eventually("the keeper", || {
            let members = place.run(&["members", "b", "--json"]);
            members.text().contains("\"keeper\":true").then_some(())
        });
        place.run(&["set", "b", "k", "kept"]).done();
        // Another member does not keep it from that.
        let _member = place.attach("b");
        keep.signal(signal);
        let (status, stderr) = keep.end();
        assert_eq!(status.code(), Some(0), "{stderr}");
        assert!(stderr.contains("snapshot of revision 1 taken"), "{stderr}");
        std::fs::remove_dir_all(place.bus("b")).unwrap();
        place.run(&["create", "b"]);
        assert_eq!(place.run(&["get", "b", "k"]).done(), "kept\n");
    }
}

/// Promise: no other command hosts a keeper.
/// Plant: a watch that holds on to a handle with `keeper(true)`.
#[test]
fn only_keep_keeps() {
    let place = Place::with_bus();
    let watch = place.spawn(&["watch", "b", "--count", "2"]);
    watch.until("caught-up");
    // Time enough for a keeper to show itself, if there were one.
    for _ in 0..50 {
        assert!(place.run(&["info", "b", "--json"]).json()[0]["keeper"].is_null());
    }
    place.run(&["set", "b", "k", "v", "--ttl", "1ms"]).done();
    watch.until("1\tset");
    let keep = place.spawn(&["keep", "b"]);
    keep.says("keeping");
    // The keeper's work: the record of what expired.
    watch.until("2\texpire\tk");
    keep.signal(Signal::SIGTERM);
    assert_eq!(keep.end().0.code(), Some(0));
}

/// Promise: the keeper buries who was killed, and says so.
/// Plant: no look at the burials.
#[test]
fn the_dead_are_buried() {
    let place = Place::with_bus();
    let keep = place.spawn(&["keep", "b"]);
    // From here on: whoever attaches later may bury the dead before the keeper looks.
    keep.says("keeping");
    let watch = place.spawn(&["watch", "b"]);
    watch.until("caught-up");
    let pid = watch.pid();
    watch.signal(Signal::SIGKILL);
    drop(watch);
    let mut buried = || {
        let members = place.run(&["members", "b", "--json"]).json();
        let there = members.iter().any(|member| member["pid"] == pid);
        let burials = &place.run(&["info", "b", "--json"]).json()[0]["operations"]["burials"];
        (!there && *burials == 1).then_some(())
    };
    eventually("the burial", &mut buried);
    keep.says("1 dead members buried");
    keep.signal(Signal::SIGTERM);
    assert_eq!(keep.end().0.code(), Some(0));
}

/// Promise: a keeper whose bus is destroyed ends with exit status 2 and says so.
/// Plant: without the look at the bus it keeps nothing for ever.
#[test]
fn nothing_is_left_to_keep() {
    let place = Place::with_bus();
    let keep = place.spawn(&["keep", "b"]);
    eventually("the keeper", || place.run(&["members", "b"]).text().contains("keep").then_some(()));
    place.run(&["destroy", "b"]).failed();
    place.run(&["destroy", "b", "--force"]).done();
    let (status, stderr) = keep.end();
    assert_eq!(status.code(), Some(2));
    assert!(stderr.lines().last().unwrap().contains("destroyed"), "{stderr}");
}
