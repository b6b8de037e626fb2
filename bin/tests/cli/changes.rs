//! Conditions, deletes, counters, times to live: what changes, and what the exit status says of it.

use crate::harness::{Place, eventually};
use membus::ReadBus;
use serde_json::json;
use std::time::Duration;

/// Promise: a condition that does not hold is exit status 1 with a reason, and the old value stays.
/// Plant: `--if-absent` that is not passed on overwrites.
#[test]
fn conditions_hold_or_nothing_changes() {
    let place = Place::with_bus();
    assert_eq!(place.run(&["set", "b", "k", "one", "--if-absent"]).done(), "1\n");
    assert!(place.run(&["set", "b", "k", "two", "--if-absent"]).refused().contains("revision 1"));
    assert!(
        place.run(&["set", "b", "k", "two", "--if-revision", "9"]).refused().contains("revision 9")
    );
    assert!(
        place.run(&["set", "b", "new", "two", "--if-revision", "9"]).refused().contains("no entry")
    );
    assert_eq!(place.run(&["get", "b", "k"]).done(), "one\n");
    assert_eq!(place.run(&["set", "b", "k", "two", "--if-revision", "1"]).done(), "2\n");
    place.run(&["delete", "b", "k", "--if-revision", "1"]).refused();
    assert_eq!(place.run(&["delete", "b", "k", "--if-revision", "2"]).done(), "1\n");
    assert_eq!(place.run(&["get", "b", "k"]).absent(), "");
    // An expired key is absent.
    place.run(&["set", "b", "k", "old", "--ttl", "1ms"]).done();
    eventually("expiry", || place.run(&["get", "b", "k"]).status.code().filter(|code| *code == 1));
    place.run(&["set", "b", "k", "new", "--if-absent"]).done();
}

/// Promise: `delete` says how many there were and is exit status 1 when there was none.
/// Plant: counting the keys asked for in place of those deleted.
#[test]
fn deletes_are_counted() {
    let place = Place::with_bus();
    for key in ["a/1", "a/2", "a/3", "b/1", "c"] {
        place.run(&["set", "b", key, "v"]).done();
    }
    assert_eq!(place.run(&["delete", "b", "a/1", "zip", "c"]).done(), "2\n");
    assert_eq!(place.run(&["delete", "b", "zip"]).absent(), "0\n");
    assert_eq!(
        place.run(&["delete", "b", "--prefix", "a/", "--json"]).json(),
        [json!({"deleted": 2})]
    );
    assert_eq!(place.run(&["delete", "b", "--prefix", "a/"]).absent(), "0\n");
    assert_eq!(place.run(&["keys", "b"]).done(), "b/1\n");
    let revision: u64 = place.run(&["clear", "b"]).done().trim().parse().unwrap();
    assert_eq!(place.attach("b").info().unwrap().revision, revision);
    assert_eq!(place.run(&["keys", "b"]).done(), "");
}

/// Promise: `add` prints the new value; a value that is no counter, or an overflow, is an error and
/// the old value stays.
/// Plant: printing the revision in place of the value.
#[test]
fn counters_count() {
    let place = Place::with_bus();
    assert_eq!(place.run(&["add", "b", "n"]).done(), "1\n");
    assert_eq!(place.run(&["add", "b", "n", "250"]).done(), "251\n");
    place.run(&["set", "b", "n", "9223372036854775807", "--as", "int"]).done();
    assert!(place.run(&["add", "b", "n"]).failed().contains("64-bit"));
    assert_eq!(place.run(&["get", "b", "n"]).done(), "9223372036854775807\n");
    place.run(&["set", "b", "text", "1"]).done();
    assert!(place.run(&["add", "b", "text"]).failed().contains("not a counter"));
    place.run(&["add", "b", "n", "-1", "--who", "ops"]).done();
    assert_eq!(place.attach("b").stat("n").unwrap().unwrap().who.unwrap(), "ops");
}

/// Promise: `ttl` shows what is left, sets it, takes it away; at its end the key is absent.
/// Plant: `none` understood as 0 deletes the entry.
#[test]
fn times_to_live() {
    let place = Place::with_bus();
    place.run(&["set", "b", "k", "v", "--ttl", "2h"]).done();
    assert!(place.run(&["ttl", "b", "k"]).done().starts_with("1h 59m 59s"));
    place.run(&["ttl", "b", "k", "none"]).done();
    assert_eq!(place.run(&["ttl", "b", "k"]).done(), "none\n");
    assert!(place.run(&["ttl", "b", "k", "--json"]).json()[0]["expires"].is_null());
    place.run(&["ttl", "b", "zip"]).absent();
    place.run(&["ttl", "b", "zip", "5s"]).absent();
    place.run(&["ttl", "b", "k", "20s"]).done();
    let left = place.attach("b").stat("k").unwrap().unwrap().expires_in.unwrap();
    assert!(left <= Duration::from_secs(20) && left > Duration::from_secs(10), "{left:?}");
    place.run(&["ttl", "b", "k", "1ms"]).done();
    eventually("expiry", || place.run(&["get", "b", "k"]).status.code().filter(|code| *code == 1));
    assert_eq!(place.run(&["scan", "b"]).done(), "");
}

/// Promise: keys and entries are listed sorted, of a prefix when one is given, each once.
/// Plant: without the sort, the order of the stripes.
#[test]
fn listings_are_sorted() {
    let place = Place::with_bus();
    let bus = place.attach("b");
    let mut keys: Vec<String> = (0..500).map(|n| format!("k{}", (n * 7919) % 500)).collect();
    for key in &keys {
        bus.set(key, &1).unwrap();
    }
    bus.set("other", &2).unwrap();
    keys.sort_unstable();
    let lines =
        |words: &[&str]| place.run(words).done().lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&["keys", "b", "k"]), keys);
    assert_eq!(
        lines(&["scan", "b", "k"]),
        keys.iter().map(|key| format!("{key}\t1")).collect::<Vec<_>>()
    );
    assert_eq!(lines(&["keys", "b", "o"]), ["other"]);
    let nul: Vec<_> = place
        .run(&["keys", "b", "k", "-0"])
        .done()
        .split_terminator('\0')
        .map(str::to_owned)
        .collect();
    assert_eq!(nul, keys);
    assert_eq!(place.run(&["keys", "b", "--json"]).json().len(), 501);
    assert_eq!(lines(&["keys", "b", "nothing"]), [""; 0]);
}
