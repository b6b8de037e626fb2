//! `create --journal`, `sync`, `set --sync`, `restore --to-revision` and `--to-time`.

use crate::harness::{Place, eventually};
use nix::sys::signal::Signal;

/// Promise: with a keeper, what `--sync` and `sync` have said is durable comes back when the region is lost, without any
/// snapshot; `metrics` tells of the journal. Without a keeper they say so, and the change is made.
/// Plants: a setting that is not kept; `--sync` that is not passed on.
#[test]
fn what_was_synced_comes_back() {
    let place = Place::new();
    place.run(&["create", "b", "--journal", "10ms", "--every", "1h"]).done();
    let failed = place.run(&["set", "b", "k", "made", "--sync"]);
    assert!(failed.failed().contains("membus keep"), "{failed:?}");
    assert_eq!(place.run(&["get", "b", "k"]).done(), "made\n");
    let keeper = place.spawn(&["keep", "b"]);
    place.run(&["set", "b", "k", "synced", "--sync"]).done();
    place.run(&["add", "b", "n", "5"]).done();
    let revision = place.run(&["info", "b", "--json"]).json()[0]["revision"].clone();
    let synced = &place.run(&["sync", "b", "--json"]).json()[0]["revision"];
    assert!(synced.as_u64() >= revision.as_u64(), "{synced}");
    let journal = &place.run(&["metrics", "b", "--json"]).json()[0]["persistence"]["journal"];
    assert_eq!(journal["journaled"], *synced);
    assert!(place.run(&["metrics", "b"]).done().contains("durable up to revision"));
    keeper.signal(Signal::SIGKILL);
    keeper.end();
    std::fs::remove_dir_all(place.bus("b")).unwrap();
    assert!(place.run(&["create", "b"]).stderr.contains("rebuilt"));
    assert_eq!(place.run(&["get", "b", "k"]).done(), "synced\n");
    assert_eq!(place.run(&["add", "b", "n", "1"]).done(), "6\n");
    place.run(&["destroy", "b"]).done();
    assert_eq!(std::fs::read_dir(place.path("state/membus")).unwrap().count(), 0);
}

/// Promise: a bus goes back to a revision, or a time, and says to which; a time or revision that nothing is kept of
/// is an error, and changes nothing.
/// Plants: the newest state whatever was asked; a time taken for a revision.
#[test]
fn a_bus_goes_back() {
    let place = Place::new();
    place.run(&["create", "b", "--journal", "always"]).done();
    let keeper = place.spawn(&["keep", "b"]);
    place.run(&["set", "b", "k", "early"]).done();
    let early = place.run(&["get", "b", "k", "--stat", "--json"]).json().remove(0);
    let (revision, time) = (early["revision"].to_string(), early["time"].as_str().unwrap());
    place.run(&["set", "b", "k", "late"]).done();
    let restored = place.run(&["restore", "b", "--to-revision", &revision, "--json"]);
    assert_eq!(restored.json()[0]["from_revision"].to_string(), revision);
    assert_eq!(place.run(&["get", "b", "k"]).done(), "early\n");
    place.run(&["set", "b", "k", "later"]).done();
    // The restore had a snapshot taken: before that nothing is kept.
    place.run(&["restore", "b", "--to-time", time]).failed();
    assert_eq!(place.run(&["get", "b", "k"]).done(), "later\n");
    for words in [&["restore", "b", "--to-time", "monday"][..], &["restore", "b"]] {
        assert_eq!(place.run(words).status.code(), Some(2), "{words:?}");
    }
    keeper.signal(Signal::SIGKILL);
    keeper.end();
}

/// Promise: a text that names no way to sync is refused, and makes nothing.
/// Plant: no look at the backend.
#[test]
fn what_is_no_way_to_sync_is_refused() {
    let place = Place::new();
    for when in ["", "often", "0ms", "2h"] {
        let ran = place.run(&["create", "b", "--journal", when]);
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    }
    place.run(&["create", "b", "--journal", "10ms", "--persist", "none"]).failed();
    assert!(!place.bus("b").join("region").exists());
    place.run(&["create", "b", "--journal", "none"]).done();
    assert!(place.run(&["sync", "b"]).failed().contains("no journal"));
}

/// Promise: who waits in vain for a journal whose keeper is stopped is told of the keeper, and not of its disk.
/// Plant: no look at the keeper's last sign.
#[test]
fn a_stopped_keeper_is_named() {
    let place = Place::new();
    let keep = place.spawn(&["keep", "b", "--journal", "always"]);
    keep.says("keeping");
    place.run(&["set", "b", "k", "v"]).done();
    keep.signal(Signal::SIGSTOP);
    let threads = format!("/proc/{}/task", keep.pid());
    eventually("the stop of all threads", || {
        let is_stopped = |thread: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
            stat.contains(") T ")
        };
        std::fs::read_dir(&threads).unwrap().all(is_stopped).then_some(())
    });
    let options = place.options().deadline(std::time::Duration::from_secs(2));
    let refused = options.attach_at(place.bus("b")).unwrap().set("k", "w").unwrap_err();
    assert!(refused.to_string().contains("gave no sign for"), "{refused}");
}

/// Promise: a journal of which nothing can be used, and no snapshot below it, is told by who makes the bus anew.
/// Plant: what was refused is told with what was loaded alone, and nothing was.
#[test]
fn a_journal_that_is_not_used_is_told() {
    let place = Place::new();
    let keep = place.spawn(&["keep", "b", "--journal", "always"]);
    keep.says("keeping");
    place.run(&["set", "b", "k", "v"]).done();
    keep.signal(Signal::SIGKILL);
    keep.end();
    let segments = place.tree("state").into_iter();
    let segments: Vec<_> = segments.filter(|path| path.is_file()).collect();
    let is_segment = |path: &&std::path::PathBuf| path.extension().is_some_and(|e| e == "journal");
    let segment = segments.iter().find(is_segment).unwrap();
    std::fs::write(segment, "damaged").unwrap();
    std::fs::remove_dir_all(place.bus("b")).unwrap();
    let made = place.run(&["create", "b"]);
    assert!(made.status.success() && made.complaint().contains("was not used"), "{made:?}");
    assert!(made.stderr.contains(segment.to_str().unwrap()), "{made:?}");
}
