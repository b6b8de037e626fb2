//! What is shown of buses: `buses`, `info`, `members`, paths and `--dir`.

use crate::harness::Place;
use membus::ReadBus;
use nix::sys::signal::Signal;

/// Promise: buses, members and figures are shown to people and as objects.
/// Plants: a reader that attaches as a member shows one member more; so do the dead in `info.members`.
#[test]
fn buses_members_and_figures() {
    let place = Place::with_bus();
    place.run(&["set", "b", "k", "v"]).done();
    place.run(&["create", "second"]).done();
    std::fs::create_dir(place.bus("broken")).unwrap();
    std::fs::write(place.bus("broken").join("region"), "nonsense").unwrap();
    let member = place.options().label("feeder").attach_at(place.bus("b")).unwrap();

    let buses = place.run(&["buses"]).done();
    let rows: Vec<Vec<&str>> =
        buses.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "MEMBERS", "ENTRIES", "SIZE"]);
    assert_eq!(rows[1], ["b", "1", "1", "8.0", "MiB"]);
    assert_eq!(rows[2][..3], ["broken", "-", "-"]);
    assert_eq!(rows[3], ["second", "0", "0", "8.0", "MiB"]);
    let objects = place.run(&["buses", "--json"]).json();
    assert_eq!((&objects[0]["name"], &objects[0]["entries"]), (&"b".into(), &1.into()));
    assert!(objects[1]["error"].is_string());
    assert_eq!(objects[2]["size"], 8 << 20);

    let object = &place.run(&["members", "b", "--json"]).json()[0];
    assert_eq!((&object["label"], &object["alive"]), (&"feeder".into(), &true.into()));
    assert_eq!(object["pid"], std::process::id());
    let shown = place.run(&["members", "b"]).done();
    // As `publish --member` takes it. Plant: the slot alone.
    let id = format!("{}:{} ", object["slot"], object["generation"]);
    let row = shown.lines().find(|row| row.starts_with(&id));
    assert!(row.is_some_and(|row| row.contains("feeder")), "{shown}");

    let info = &place.run(&["info", "b", "--json"]).json()[0];
    assert_eq!(
        (&info["name"], &info["revision"], &info["members"]),
        (&"b".into(), &1.into(), &1.into())
    );
    assert_eq!(info["operations"]["sets"], 1);
    let shown = place.run(&["info", "b"]).done();
    for line in
        ["name           b", "entries        1", "capacity       8.0 MiB", "keeper         none"]
    {
        assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
    }
    member.close().unwrap();
    assert_eq!(place.run(&["members", "b"]).done().lines().count(), 1);
    let watch = place.spawn(&["watch", "b"]);
    watch.until("caught-up");
    watch.signal(Signal::SIGKILL);
    watch.end();
    assert!(place.run(&["members", "b"]).done().contains("dead"));
    assert_eq!(place.run(&["buses", "--json"]).json()[0]["members"], 0, "the living count");
}

/// Promise: `--dir` goes before and after the command; a name with a `/` is a path and needs neither.
/// Plant: a path joined to the directory of buses.
#[test]
fn directories_and_paths() {
    let place = Place::new();
    let other = place.path("other");
    let other = other.to_str().unwrap();
    place.run(&["--dir", other, "create", "x"]).done();
    place.run(&["set", "x", "k", "v", "--dir", other]).done();
    place.run(&["get", "x", "k"]).failed();
    assert_eq!(place.run(&["get", &format!("{other}/x"), "k"]).done(), "v\n");
    assert_eq!(place.run(&["get", "other/x", "k"]).done(), "v\n");
    assert_eq!(place.run(&["buses", "--dir", other]).done().lines().count(), 2);
    assert_eq!(place.run(&["buses"]).done().lines().count(), 1);
    place.run(&["create", "./here"]).done();
    assert!(place.path("here/region").exists());
    place.run(&["destroy", "./here"]).done();
    assert!(!place.path("here").exists());
}

/// Promise: `snapshot` writes the state to where `create` said, and `create` brings it back after the
/// files were lost; `destroy` leaves it there.
/// Plant: a clear before the snapshot.
#[test]
fn snapshots_come_back() {
    let place = Place::new();
    let images = place.path("images");
    place.run(&["create", "b", "--persist", &format!("image:{}", images.display())]).done();
    place.run(&["set", "b", "k", "kept"]).done();
    let taken = &place.run(&["snapshot", "b", "--json"]).json()[0];
    assert_eq!((&taken["revision"], &taken["entries"]), (&1.into(), &1.into()));
    assert!(std::path::Path::new(taken["path"].as_str().unwrap()).starts_with(&images));
    assert!(place.run(&["snapshot", "b"]).done().contains("entries   1"));
    place.run(&["set", "b", "k", "lost"]).done();
    std::fs::remove_dir_all(place.bus("b")).unwrap();
    let again = place.run(&["create", "b"]);
    assert_eq!(again.status.code(), Some(0));
    assert!(again.complaint().starts_with("rebuilt from a snapshot: 1 entries"), "{again:?}");
    assert_eq!(place.run(&["get", "b", "k"]).done(), "kept\n");
    let revision = place.attach("b").info().unwrap().revision;
    assert!(revision > 1 << 40, "{revision}");
    assert_eq!(place.attach("b").len().unwrap(), 1);
    place.run(&["destroy", "b"]).done();
    assert!(images.read_dir().unwrap().count() > 0);
    place.run(&["create", "none", "--persist", "none"]).done();
    assert!(place.run(&["snapshot", "none"]).failed().contains("no backend"));
}

/// Promise: no colours and no bars where there is no terminal.
/// Plant: `may_colour` that is always true.
#[test]
fn no_colours_in_pipes() {
    let place = Place::with_bus();
    let _member = place.attach("b");
    for words in [["members", "b"].as_slice(), &["check", "b"], &["snapshot", "b"], &["--help"]] {
        let ran = place.run(words);
        assert!(!ran.stdout.contains(&0x1b) && ran.stderr.is_empty(), "{ran:?}");
    }
}
