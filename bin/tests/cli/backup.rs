//! `backup`, `restore`, `convert`, `export` and `import`: what is there, at other places.

use crate::harness::Place;
use nix::sys::signal::Signal;
use serde_json::Value as Json;

/// A bus with what is hard to write down.
fn full() -> Place {
    let place = Place::with_bus();
    place.run(&["set", "b", "text", "two\nlines"]).done();
    place.run(&["set", "b", "json", r#"{"a":[1,null,-7,1.5]}"#, "--as", "json"]).done();
    place.run_with(&["set", "b", "raw", "-", "--as", "raw"], b"\xff\x00").done();
    place.run(&["set", "b", "timed", "t", "--ttl", "1000s", "--who", "somebody"]).done();
    place.run(&["add", "b", "n", "-7"]).done();
    place
}

/// What a bus exports, sorted; without revisions, which are each bus's own.
fn exported(place: &Place, bus: &str) -> Vec<String> {
    let mut lines: Vec<_> = place.run(&["export", bus]).json();
    for line in &mut lines {
        line.as_object_mut().unwrap().remove("revision").unwrap();
    }
    let mut lines: Vec<_> = lines.iter().map(Json::to_string).collect();
    lines.sort_unstable();
    lines
}

/// Deadlines are kept by another clock than the one that saves them: they may differ by a moment.
fn without_deadline(mut lines: Vec<String>) -> Vec<String> {
    for line in &mut lines {
        let mut object: Json = serde_json::from_str(line).unwrap();
        let expires = object.as_object_mut().unwrap().remove("expires");
        *line = format!("{object} {}", expires.is_some());
    }
    lines
}

/// Promise: a backup of any kind brings back what was there, in place of what is there, and so do copies of it of
/// any other kind; what was replaced comes back from the place that is named.
/// Plants: a restore that merges; `before` that names the state directory.
#[test]
fn backups_bring_back_what_was_there() {
    let place = full();
    let before = without_deadline(exported(&place, "b"));
    assert_eq!(before.len(), 5);
    let at = |name: &str| place.path("tmp").join(name).display().to_string();
    for name in ["b.json", "b.json.gz", "b.db", "images"] {
        let saved = place.run(&["--json", "backup", "b", &at(name)]).json();
        assert_eq!(saved[0]["entries"], 5, "{name}");
    }
    for name in ["b.json", "b.json.gz", "b.db", "images"] {
        for (copy, other) in [("c.json", "d.sqlite"), ("c.json.gz", "more")] {
            place.run(&["convert", &at(name), &at(copy)]).done();
            place.run(&["convert", &at(copy), &at(other)]).done();
            place.run(&["clear", "b"]).done();
            place.run(&["set", "b", "later", "x"]).done();
            let told = place.run(&["--json", "restore", "b", &at(other)]).json();
            assert_eq!(told[0]["entries"], 5, "{told:?}");
            assert_eq!(without_deadline(exported(&place, "b")), before, "{name} by {other}");
            let undo = told[0]["before"].as_str().unwrap().to_owned();
            place.run(&["restore", "b", &undo]).done();
            assert_eq!(place.run(&["keys", "b"]).done(), "later\n");
        }
    }
    place.run(&["restore", "anew", &at("b.json")]).done();
    assert_eq!(without_deadline(exported(&place, "anew")), before, "a bus that was not there");
}

/// Promise: what is no backup is refused, and nothing is made or changed.
/// Plants: an absent file taken for an empty one; a new bus that stays.
#[test]
fn what_is_no_backup_is_refused() {
    let place = full();
    let before = without_deadline(exported(&place, "b"));
    let at = |name: &str| place.path("tmp").join(name).display().to_string();
    std::fs::write(at("empty.json"), b"{}").unwrap();
    std::fs::write(at("plain"), b"text").unwrap();
    std::fs::write(at("no.db"), b"no database").unwrap();
    for (name, word) in [
        ("absent.json", "no snapshot in json:/"),
        ("absent", "no snapshot in image:/"),
        ("empty.json", "entries"),
        ("plain", "no kind"),
        ("no.db", "no.db"),
    ] {
        for bus in ["b", "other"] {
            let said = place.run(&["restore", bus, &at(name)]).failed().to_owned();
            assert!(said.contains(word), "{name}: {said}");
        }
    }
    assert_eq!(without_deadline(exported(&place, "b")), before);
    assert!(!place.bus("other").join("region").exists(), "a bus was made of nothing");
    let absent = place.run(&["convert", &at("absent.json"), &at("x.db")]);
    assert_eq!(absent.status.code(), Some(1), "{absent:?}");
    assert!(!std::path::Path::new(&at("x.db")).exists());
    let said = place.run(&["backup", "b", "none"]).failed().to_owned();
    assert!(said.contains("nothing"), "{said}");
}

/// Promise: what `export` writes `import` sets, byte for byte, beside what is there; people may write lines, too;
/// a wrong line is named.
/// Plants: an import that does not count; `kind` left out of a line; empty lines taken for entries; a line's
/// number from 0; a key that only the bus refuses, which knows no lines; serde's own line 1; a time without its bounds.
#[test]
fn lines_go_from_bus_to_bus() {
    let place = full();
    let lines = place.run(&["export", "b"]).done();
    assert_eq!(lines.lines().count(), 5);
    assert_eq!(place.run_with(&["import", "other"], lines.as_bytes()).done(), "5\n");
    let counted = place.run(&["--json", "metrics", "other"]).json();
    assert_eq!(counted[0]["operations"]["created"], 5, "what is imported counts");
    assert_eq!(
        without_deadline(exported(&place, "other")),
        without_deadline(exported(&place, "b"))
    );
    assert_eq!(place.run(&["add", "other", "n", "1"]).done(), "-6\n", "a counter is one still");
    let file = place.path("tmp").join("lines");
    std::fs::write(&file, "\n{\"key\":\"text\",\"value\":[1,\"x\"]}\n\n").unwrap();
    let file = file.display().to_string();
    assert_eq!(place.run(&["import", "other", &file, "--who", "me"]).done(), "1\n");
    assert_eq!(place.run(&["get", "other", "text"]).done(), "[1,\"x\"]\n");
    assert_eq!(place.run(&["--json", "get", "other", "text", "--stat"]).json()[0]["who"], "me");
    assert_eq!(place.run(&["keys", "other"]).done().lines().count(), 5, "others stay");
    for (wrong, word) in [
        ("{\"key\":\"a\",\"value\":1}\n{\"key\":\"b\"}", "line 2"),
        ("{\"key\":\"a\",\"value\":1,\"kind\":\"thing\"}", "line 1"),
        ("{\"key\":\"\",\"value\":1}", "line 1: a key of 0 bytes"),
        ("{\"key\":\"a\",\"value\":1}\n{\"key\":", "line 2: EOF while parsing a value at column 7"),
        ("{\"key\":\"a\",\"value\":1,\"time\":\"2999-01-01T00:00:00Z\"}", "from 1970 to 2554"),
        ("{\"key\":\"a\",\"value\":1,\"ttl\":5}", "ttl"),
        ("[]", "line 1"),
    ] {
        let said = place.run_with(&["import", "other"], wrong.as_bytes()).failed().to_owned();
        assert!(said.contains(word), "{wrong}: {said}");
    }
}

/// Promise: a pipe that nobody reads to its end is a success.
/// Plant: the error of the output told as one of the backup.
#[test]
fn an_export_may_be_cut_short() {
    let place = Place::with_bus();
    let bus = place.attach("b");
    for number in 0..5000 {
        bus.set_bytes(format!("key/{number}"), [7; 100]).unwrap();
    }
    let mut child = place.command(&["export", "b"]);
    let mut child = child
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// Promise: a signal ends what takes its time, with the status that says so; nothing of it is left, and what was there
/// before stays.
/// Plant: signals that are not listened to: the file that was begun stays.
#[test]
fn a_signal_ends_what_takes_its_time() {
    let place = full();
    let at = place.path("tmp").join("images");
    let to = at.display().to_string();
    place.run(&["backup", "b", &to]).done();
    place.run(&["set", "b", "more", "x"]).done();
    let files = || std::fs::read_dir(&at).unwrap().count();
    // Each entry takes seconds.
    let slow = place.spawn(&["backup", "b", &to, "--rate", "10"]);
    crate::harness::eventually("its file", || (files() == 2).then_some(()));
    slow.signal(Signal::SIGINT);
    assert_eq!(slow.end().0.code(), Some(130));
    assert_eq!(files(), 1);
    place.run(&["restore", "b", &to]).done();
    assert_eq!(place.run(&["get", "b", "more"]).status.code(), Some(1));
}

/// Promise: a restore that fails takes nothing away but a bus that it made itself: not one that was lost and built anew, with
/// all that is kept of it.
/// Plant: one without entries counts as new: its newest state may be empty.
#[test]
fn a_failed_restore_takes_nothing_away() {
    let place = Place::new();
    let before = [&["create", "b"][..], &["set", "b", "k", "old"], &["snapshot", "b"]];
    for words in before.into_iter().chain([&["clear", "b"][..], &["snapshot", "b"]]) {
        place.run(words).done();
    }
    std::fs::remove_dir_all(place.bus("b")).unwrap();
    place.run(&["restore", "b", "tmp/nothing.json"]).failed();
    place.run(&["restore", "b", "--to-revision", "1"]).done();
    assert_eq!(place.run(&["get", "b", "k"]).done(), "old\n");
    for words in
        [&["restore", "new", "tmp/nothing.json"][..], &["restore", "new", "--to-revision", "1"]]
    {
        place.run(words).failed();
        assert!(!place.bus("new").exists(), "{words:?} leaves a bus");
    }
}

/// Promise: where nothing that is kept is as old as was asked for, it says how old the oldest is.
/// Plant: what any absent snapshot is told as.
#[test]
fn how_far_a_bus_goes_back_is_told() {
    let place = Place::with_bus();
    for value in ["1", "2", "3"] {
        place.run(&["set", "b", "k", value]).done();
    }
    place.run(&["snapshot", "b"]).done();
    for (option, past, told) in [
        ("--to-revision", "2", "goes back to revision 2; the oldest is of revision 3, 2"),
        (
            "--to-time",
            "2001-01-01T00:00:00Z",
            "goes back to 2001-01-01T00:00:00.000000Z; the oldest is",
        ),
    ] {
        let said = place.run(&["restore", "b", option, past]).failed().to_owned();
        assert!(said.contains(told), "{said}");
    }
}
