//! `keep`: the keeper of a bus whose members come and go.

use crate::harness::{Place, TOOL, eventually};
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

/// Promise: who does not know where a bus is saved does not pretend to keep it: exit status 2, and what to do. Nothing is
/// saved elsewhere, nor is it told as kept nowhere by `info`, `snapshot` and `doctor`.
/// Plants: `keep` that does not ask; a place that counts because it was named; `none` for what is not known.
#[test]
fn who_does_not_know_where_keeps_nothing() {
    let place = Place::with_bus();
    place.run(&["set", "b", "k", "v"]).done();
    let other = format!("XDG_STATE_HOME={}", place.path("other").display());
    let elsewhere = format!("image:{}", place.path("tmp/elsewhere").display());
    for more in [&[][..], &["--persist", &elsewhere]] {
        let mut keep = place.spawn_by(&["env", &other, TOOL], &[&["keep", "b"], more].concat());
        assert!(!keep.says_or_ends("keeping"), "{more:?}: it keeps");
        let (status, said) = keep.end();
        assert_eq!(status.code(), Some(2), "{said}");
        let state = place.path("other/membus").display().to_string();
        let why = said.lines().last().unwrap();
        assert!(why.contains(&state) && why.contains("XDG_STATE_HOME"), "{said}");
    }
    assert!(!place.path("tmp/elsewhere").exists());
    let run = |words: &[&str]| place.spawn_by(&["env", &other, TOOL], words);
    let info = run(&["info", "b"]);
    let told = info.until("persist");
    assert!(told.contains("unknown: nothing is kept of it in"), "{told}");
    assert!(run(&["snapshot", "b"]).end().1.contains("does not know"));
    run(&["doctor"]).until("note");
}

/// Promise: how often `keep` is told to save a bus that is there is the bus's setting from then on: `info` has it, and
/// health goes by it.
/// Plant: options that are this keeper's alone.
#[test]
fn when_to_save_is_settled_by_keep() {
    let place = Place::new();
    let images = place.path("tmp/images");
    place.run(&["create", "b", "--persist", &format!("image:{}", images.display())]).done();
    let keep = place.spawn(&["keep", "b", "--every", "7s", "--after", "5000", "--keep", "2"]);
    keep.says("every 7s, after 5000 changes at the latest");
    for is_kept in [true, false] {
        let info = &place.run(&["info", "b", "--json"]).json()[0];
        assert_eq!(info["snapshot_every_seconds"], 7.0, "while it keeps: {is_kept}");
        assert_eq!(info["snapshot_after_changes"], 5000);
        keep.signal(Signal::SIGTERM);
    }
    assert_eq!(keep.end().0.code(), Some(0));
    for _ in 0..3 {
        place.run(&["snapshot", "b"]).done();
    }
    assert_eq!(std::fs::read_dir(&images).unwrap().count(), 2);
}
