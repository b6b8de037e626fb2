//! `watch`: what is there, then every change, from other processes.

use crate::harness::{Place, json};
use nix::sys::signal::Signal;
use serde_json::json as object;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// Promise: current entries, `caught-up`, then each change of another process, in order, at once.
/// Plant: a prefix that is not passed on tells `other` too.
#[test]
fn changes_come_as_they_are_made() {
    let place = Place::with_bus();
    place.run(&["set", "b", "a/1", "one", "--who", "ops"]).done();
    place.run(&["set", "b", "other", "x"]).done();
    let watch = place.spawn(&["watch", "b", "a/", "--count", "4"]);
    assert_eq!(watch.line().unwrap(), "1\tcurrent\ta/1\tops\tone");
    assert!(watch.line().unwrap().starts_with("caught-up "));
    place.run(&["set", "b", "a/2", "two\nlines"]).done();
    assert_eq!(watch.line().unwrap(), "3\tset\ta/2\tcli\ttwo\\nlines");
    place.run(&["set", "b", "other", "y"]).done();
    place.run(&["add", "b", "a/n", "-7"]).done();
    assert_eq!(watch.line().unwrap(), "5\tset\ta/n\tcli\t-7");
    place.run(&["delete", "b", "a/1", "--who", "me"]).done();
    assert_eq!(watch.line().unwrap(), "6\tdelete\ta/1\tme\t");
    place.run(&["clear", "b"]).done();
    assert_eq!(watch.line().unwrap(), "7\tclear\t\tcli\t");
    let (status, stderr) = watch.end();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

/// Promise: `--count` reached is exit status 0, `--timeout` run out 1; both may be given.
/// Plant: counting the current entries too ends before the change.
#[test]
fn counts_and_time_outs() {
    let place = Place::with_bus();
    place.run(&["set", "b", "k", "v"]).done();
    let lines = place.run(&["watch", "b", "--timeout", "50ms"]).absent();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let lines = place.run(&["watch", "b", "--now", "--timeout", "50ms"]).absent();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    let lines = place.run(&["watch", "b", "--timeout", "50ms", "--count", "1"]).absent();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let watch = place.spawn(&["watch", "b", "--timeout", "60s", "--count", "1"]);
    watch.until("caught-up");
    place.run(&["set", "b", "k", "w"]).done();
    assert_eq!(watch.end().0.code(), Some(0));
}

/// Promise: a watch goes on from a revision or a cursor with no gap and no repeat; another life's
/// cursor is told as lagged, one of the future is an error.
/// Plant: `--from` that is taken for the first revision to tell, not the last one seen.
#[test]
fn watches_go_on_where_they_were() {
    let place = Place::with_bus();
    for value in 1..=4 {
        place.run(&["set", "b", "k", &value.to_string()]).done();
    }
    let seen = |words: &[&str]| {
        let words = [["watch", "b"].as_slice(), words].concat();
        place.run(&words).done()
    };
    assert_eq!(seen(&["--from", "2", "--count", "2"]), "3\tset\tk\tcli\t3\n4\tset\tk\tcli\t4\n");
    let lines = place.run(&["watch", "b", "--now", "--timeout", "1ms"]).absent();
    let cursor = lines.trim().strip_prefix("caught-up ").unwrap();
    place.run(&["set", "b", "k", "5"]).done();
    assert_eq!(seen(&["--from", cursor, "--count", "1"]), "5\tset\tk\tcli\t5\n");
    let other = "00000000deadbeef:2";
    let lines = seen(&["--from", other, "--count", "1"]);
    assert!(lines.starts_with("lagged "), "{lines}");
    place.run(&["watch", "b", "--from", "9"]).failed();
}

/// Promise: on a bus that was made so, `--json` tells what a change replaced or took away.
/// Plant: without `--old-values` passed on, there is no `old`.
#[test]
fn old_values_as_objects() {
    let place = Place::new();
    place.run(&["create", "b", "--old-values"]).done();
    place.run(&["set", "b", "k", "one"]).done();
    place.run(&["add", "b", "n", "5"]).done();
    place.run(&["set", "b", "k", "two"]).done();
    place.run(&["delete", "b", "n"]).done();
    let lines = place.run(&["--json", "watch", "b", "--from", "0", "--count", "4"]).done();
    let told: Vec<_> = lines.lines().map(json).collect();
    assert!(told[0].get("old").is_none() && told[1].get("old").is_none(), "{lines}");
    assert_eq!(told[2]["old"], object!({"kind": "structure", "size": 4, "value": "one"}));
    assert_eq!(told[3]["old"], object!({"kind": "counter", "size": 8, "value": 5}));
    assert!(place.run(&["info", "b"]).done().contains("told by the log"));
}

/// Promise: with `--json` each event is an object with the fields of the manual.
/// Plant: without `value_kind`, `kind` of a current entry is its value's.
#[test]
fn events_as_objects() {
    let place = Place::with_bus();
    place.run(&["set", "b", "k", "v"]).done();
    let watch = place.spawn(&["watch", "b", "--json", "--count", "3"]);
    let current = json(&watch.line().unwrap());
    assert_eq!(
        (&current["kind"], &current["value_kind"]),
        (&object!("current"), &object!("structure"))
    );
    assert_eq!((&current["key"], &current["value"]), (&object!("k"), &object!("v")));
    assert!(json(&watch.line().unwrap())["cursor"].is_string());
    place.run(&["set", "b", "r", "raw", "--raw", "--who", "ops"]).done();
    let set = json(&watch.line().unwrap());
    assert_eq!((&set["kind"], &set["encoding"]), (&object!("set"), &object!("base64")));
    assert_eq!((&set["who"], &set["size"]), (&object!("ops"), &object!(3)));
    humantime::parse_rfc3339(set["time"].as_str().unwrap()).unwrap();
    place.run(&["delete", "b", "k"]).done();
    let delete = json(&watch.line().unwrap());
    assert_eq!((&delete["kind"], delete.get("value")), (&object!("delete"), None));
    place.run(&["clear", "b"]).done();
    let clear = json(&watch.line().unwrap());
    assert_eq!((&clear["kind"], clear.get("key")), (&object!("clear"), None));
    assert_eq!(watch.rest(), [""; 0]);
}

/// Promise: a value that no record carries is told all the same.
/// Plant: telling every value over the bound as too large.
#[test]
fn large_values_are_told() {
    let place = Place::with_bus();
    let watch = place.spawn(&["watch", "b", "--now", "--count", "1"]);
    watch.until("caught-up");
    let large = "x".repeat(200_000);
    place.run_with(&["set", "b", "k", "-"], large.as_bytes()).done();
    assert_eq!(watch.line().unwrap(), format!("1\tset\tk\tcli\t{large}"));
}

/// Promise: a watch whose bus is destroyed says so: exit status 2.
/// Plant: taking `Gone` for the end of the changes.
#[test]
fn a_destroyed_bus_ends_its_watches() {
    let place = Place::with_bus();
    let watch = place.spawn(&["watch", "b"]);
    watch.until("caught-up");
    place.run(&["destroy", "b"]).failed();
    place.run(&["destroy", "b", "--force"]).done();
    let (status, stderr) = watch.end();
    assert_eq!(status.code(), Some(2));
    assert!(stderr.starts_with("membus: the bus at ") && stderr.lines().count() == 1, "{stderr}");
}

/// Promise: a watch that a signal ends leaves the bus: no dead member, no watch, no socket.
/// Plant: without the look at the signal it stays; with the signal's default the member is dead.
#[test]
fn a_signal_ends_a_watch_cleanly() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let place = Place::with_bus();
        let watch = place.spawn(&["watch", "b"]);
        watch.until("caught-up");
        watch.signal(signal);
        let (status, stderr) = watch.end();
        assert_eq!((status.code(), stderr.as_str()), (Some(128 + signal as i32), ""));
        let info = &place.run(&["info", "b", "--json"]).json()[0];
        assert_eq!((&info["members"], &info["watches"]), (&object!(0), &object!(0)));
        assert_eq!(place.bus("b").join("bell").read_dir().unwrap().count(), 0);
    }
}

/// Promise: a broken pipe is success, also for a watch that has nothing to write.
/// Plant: without the look at the pipe, the watch waits for a change for ever.
#[test]
fn nobody_reads_any_more() {
    let place = Place::with_bus();
    let bus = place.attach("b");
    for number in 0..20_000 {
        bus.set(format!("key/{number}"), "a value of some length, so that the pipe is full")
            .unwrap();
    }
    for words in [
        ["keys", "b"].as_slice(),
        &["scan", "b"],
        &["scan", "b", "--json"],
        &["watch", "b"],
        &["watch", "b", "--now"],
    ] {
        let mut command = place.command(words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A line is read, so that a watch from now on has nothing more to write.
        let mut line = String::new();
        let mut stdout = BufReader::with_capacity(64, child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        drop(stdout);
        let status = crate::harness::eventually("the end", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{words:?}");
        assert_eq!(std::io::read_to_string(child.stderr.take().unwrap()).unwrap(), "", "{words:?}");
    }
}
