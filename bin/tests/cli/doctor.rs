//! `doctor`: what of the host endangers its buses.

use crate::harness::{Place, eventually};
use nix::sys::signal::Signal;
use serde_json::Value as Json;

/// What is said about a bus: how it stands, what is there and what to do.
fn about(place: &Place, name: &str) -> Vec<(String, String)> {
    let ran = place.run(&["doctor", "--json"]);
    let objects: Vec<Json> = ran.text().lines().map(crate::harness::json).collect();
    let bus = format!("bus {name}");
    let found = objects.iter().filter(|object| object["about"] == bus.as_str());
    let text = |object: &Json, field: &str| object[field].as_str().unwrap_or_default().to_owned();
    found
        .map(|object| {
            let said = format!("{} -> {}", text(object, "what"), text(object, "advice"));
            (text(object, "state"), said)
        })
        .collect()
}

/// Promise: a host with nothing wrong has exit status 0 and a line for each thing that was looked at.
/// Plant: a note for every bus without a keeper.
#[test]
fn all_is_well() {
    let place = Place::with_bus();
    let shown = place.run(&["doctor"]).text();
    for begin in ["kernel", "file system", "memory limit", "RemoveIPC", "limits", "clock", "bus b"]
    {
        assert_eq!(shown.lines().filter(|line| line[8..].starts_with(begin)).count(), 1, "{shown}");
    }
    let found = about(&place, "b");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "good");
    assert!(
        found[0].1.starts_with("0 members, 0 entries, 8.0 MiB of at most 1.0 GiB"),
        "{found:?}"
    );
    place.run(&["destroy", "b"]).done();
    std::fs::remove_dir(place.path("buses")).unwrap();
    assert!(!place.run(&["doctor"]).text().contains("bus "));
}

/// Promise: a member that was stopped is named with its process, and is well when it goes on; the dead
/// are counted while nobody buries them.
/// Plants: only what is traced counts as stopped; the living are counted among the dead.
#[test]
fn stopped_and_dead_members() {
    let place = Place::with_bus();
    let watch = place.spawn(&["watch", "b"]);
    watch.until("caught-up");
    assert_eq!(about(&place, "b")[0].0, "good");
    watch.signal(Signal::SIGSTOP);
    let stopped = format!("pid {}) is stopped", watch.pid());
    let found = eventually("the stop", || {
        let found = about(&place, "b");
        found
            .iter()
            .any(|(state, said)| state == "danger" && said.contains(&stopped))
            .then_some(found)
    });
    assert!(found[0].1.contains(&format!("kill -CONT {}", watch.pid())), "{found:?}");
    assert!(place.run(&["doctor"]).refused().contains("in danger"));
    watch.signal(Signal::SIGCONT);
    eventually("that it goes on", || (about(&place, "b")[0].0 == "good").then_some(()));
    watch.signal(Signal::SIGKILL);
    watch.end();
    let found = about(&place, "b");
    assert_eq!(found[0].0, "note", "{found:?}");
    assert!(found[0].1.starts_with("1 dead members are not buried"), "{found:?}");
}

/// Promise: what creators and boots left, regions that can't be read, buses that are full or unsaved
/// and snapshots that fail are each told, with what to do.
/// Plant: a bus that can't be opened ends the command.
#[test]
fn leftovers_and_failures() {
    let place = Place::with_bus();
    std::fs::create_dir(place.bus("broken")).unwrap();
    std::fs::write(place.bus("broken").join("region"), "nonsense").unwrap();
    std::fs::create_dir(place.bus("empty")).unwrap();
    let new = place.bus("b").join("region.new");
    std::fs::write(&new, "").unwrap();
    assert_eq!(about(&place, "b")[0].0, "good", "a creator that may be at work");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    std::fs::File::open(&new).unwrap().set_modified(long_ago).unwrap();
    std::fs::write(place.bus("b").join("region.torn"), "").unwrap();
    place.run(&["set", "b", "k", "v"]).done();
    let found: Vec<_> = about(&place, "b");
    let beginnings =
        ["region.new is left", "region.torn is the region", "no keeper: revisions after 0"];
    assert_eq!(found.len(), beginnings.len(), "{found:?}");
    for ((state, said), begin) in found.iter().zip(beginnings) {
        assert!(state == "note" && said.starts_with(begin), "{found:?}");
    }
    let broken = about(&place, "broken");
    assert!(broken[0].0 == "danger" && broken[0].1.contains("8 bytes"), "{broken:?}");
    let empty = about(&place, "empty");
    assert!(empty[0].0 == "note" && empty[0].1.starts_with("a directory without"), "{empty:?}");

    let small = ["create", "small", "--max-capacity", "4M", "--capacity", "0", "--persist"];
    place.run(&[&small[..], &["image:/proc/nowhere"]].concat()).done();
    place.run(&["snapshot", "small"]).failed();
    let value = "x".repeat(100_000);
    let full = (0..100)
        .any(|n| place.run(&["set", "small", &format!("k{n}"), &value]).status.code() == Some(2));
    assert!(full, "the bus is full");
    let found = about(&place, "small");
    let is_told = |begin: &str| {
        found.iter().any(|(state, said)| state == "danger" && said.starts_with(begin))
    };
    assert!(is_told("failed snapshots to image:/proc/nowhere: 1; none was taken"), "{found:?}");
    assert!(found.iter().any(|(_, said)| said.contains("will be refused as Full")), "{found:?}");
}

/// Promise: a failed snapshot is a danger until one is good again.
/// Plant: all failures there ever were.
#[test]
fn a_failure_that_was_made_good_is_none() {
    let place = Place::new();
    let images = place.path("tmp/images");
    place.run(&["create", "b", "--persist", &format!("image:{}", images.display())]).done();
    std::fs::write(&images, "in the way").unwrap();
    place.run(&["snapshot", "b"]).failed();
    assert_eq!(about(&place, "b")[0].0, "danger");
    std::fs::remove_file(&images).unwrap();
    place.run(&["snapshot", "b"]).done();
    assert_eq!(about(&place, "b")[0].0, "good");
}
