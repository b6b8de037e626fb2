//! `queue`: items from the shell, one consumer each.

use crate::harness::{Place, TOOL, eventually, processes_with};
use membus::ReadBus;
use nix::sys::signal::Signal;
use std::time::Duration;

/// What a taking of one item printed: its ID and its payload.
fn take(place: &Place) -> (String, String) {
    let said = place.run(&["queue", "take", "b", "jobs", "--timeout", "0s"]).done();
    let (id, payload) = said.strip_suffix('\n').unwrap().split_once('\t').unwrap();
    (id.to_owned(), payload.to_owned())
}

/// Promise: items come out in order, each to one; what is acknowledged is gone, what is given back comes
/// again; exit status 1 when nothing is there, and when the item is not one's own any more.
/// Plants: a claim that goes with the process that printed it; `ack` of the number alone.
#[test]
fn items_are_taken_and_acknowledged_by_different_commands() {
    let place = Place::with_bus();
    let number: u64 =
        place.run(&["queue", "put", "b", "jobs", "one"]).done().trim().parse().unwrap();
    let put = place.run_with(&["queue", "put", "b", "jobs", "-", "--who", "me"], b"two\nlines");
    assert_eq!(put.done(), format!("{}\n", number + 1));
    let (first, payload) = take(&place);
    assert_eq!((payload.as_str(), first.split_once('-').unwrap().0), ("one", &*number.to_string()));
    let (second, payload) = take(&place);
    assert_eq!(payload, "two\\nlines", "on one line");
    assert_eq!(place.run(&["queue", "take", "b", "jobs", "--timeout", "10ms"]).absent(), "");
    assert_eq!(place.run(&["queue", "ack", "b", "jobs", &first]).done(), "");
    let told = place.run(&["queue", "ack", "b", "jobs", &first]);
    assert!(
        told.refused().starts_with(&format!("item {number} of queue `jobs` is not")),
        "{told:?}"
    );
    place.run(&["queue", "release", "b", "jobs", &second]).done();
    place.run(&["queue", "release", "b", "jobs", &second]).refused();
    let raw = place.run(&["queue", "take", "b", "jobs", "--raw"]);
    let (id, rest) =
        raw.done().split_once('\n').map(|(id, rest)| (id.to_owned(), rest.to_owned())).unwrap();
    assert_eq!(rest, "two\nlines");
    let longer = place.run(&["queue", "extend", "b", "jobs", &id, "--for", "1h"]).done();
    place.run(&["queue", "ack", "b", "jobs", &id]).refused();
    place.run(&["queue", "release", "b", "jobs", longer.trim(), "--after", "1h"]).done();
    assert_eq!(place.run(&["queue", "take", "b", "jobs", "--timeout", "0s"]).absent(), "");
    assert_eq!(place.run(&["queue", "purge", "b", "jobs"]).done(), "1\n");
    assert_eq!(place.run(&["queue", "purge", "b", "jobs"]).absent(), "0\n");
    for wrong in ["57", "x-1", "57-0"] {
        assert!(place.run(&["queue", "ack", "b", "jobs", wrong]).status.code() == Some(2));
    }
    assert!(place.run(&["queue", "put", "b", "a/b"]).failed().contains("no queue name"));
    place.is_whole("b");
}

/// Promise: an item that was taken without a command is kept for the time of --for, and then goes on.
/// Plant: a time that is not passed on.
#[test]
fn an_item_is_kept_for_its_time() {
    let place = Place::with_bus();
    place.run(&["queue", "put", "b", "jobs", "text"]).done();
    let object = &place.run(&["--json", "queue", "take", "b", "jobs", "--for", "300ms"]).json()[0];
    assert_eq!((&object["attempt"], &object["value"]), (&1.into(), &"text".into()));
    assert_eq!(object["id"], format!("{}-{}", object["number"], claim(&place)));
    let again = &place.run(&["--json", "queue", "take", "b", "jobs", "--timeout", "20s"]).json()[0];
    assert_eq!((&again["attempt"], &again["number"]), (&2.into(), &object["number"]));
    let late = object["id"].as_str().unwrap();
    assert!(place.run(&["queue", "ack", "b", "jobs", late]).refused().contains("cli has it"));
}

fn claim(place: &Place) -> u64 {
    let bus = place.attach("b");
    let view = bus.queue_view("jobs").unwrap();
    let item = view.items().unwrap().next().unwrap().unwrap();
    item.claim.unwrap().revision.get()
}

/// Promise: a full queue is exit status 1 and says so; with a time it is waited for.
/// Plant: `--limit` that is not passed on.
#[test]
fn a_full_queue_refuses_or_waits() {
    let place = Place::with_bus();
    let put = |more: &[&str]| {
        place.run(
            &[&["queue", "put", "b", "jobs", "5", "--as", "int", "--limit", "1"], more].concat(),
        )
    };
    put(&["--ttl", "1h"]).done();
    assert!(put(&[]).refused().contains("has 1 items, the limit is 1"));
    put(&["--timeout", "20ms"]).refused();
    let waits = place.spawn(&["queue", "put", "b", "jobs", "--limit", "1", "--timeout", "60s"]);
    let (id, payload) = take(&place);
    assert_eq!(payload, "5");
    place.run(&["queue", "ack", "b", "jobs", &id]).done();
    let (status, stderr) = waits.end();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
    assert_eq!(take(&place).1, "");
}

/// Promise: a command gets the payload; its success acknowledges the item, its failure gives it back and
/// is passed on, as a shell would say it.
/// Plants: an item that is acknowledged whatever the command says; its status that is not passed on.
#[test]
fn a_command_works_an_item_off() {
    let place = Place::with_bus();
    place.run_with(&["queue", "put", "b", "jobs", "-", "--raw"], b"a\0b").done();
    let work = |script: &str| {
        let script = script.to_owned();
        place.run(&["queue", "take", "b", "jobs", "--timeout", "1s", "--", "sh", "-c", &script])
    };
    for (script, code) in [("exit 3", 3), ("kill -9 $$", 137), ("exec /nonexistent", 127)] {
        assert_eq!(work(script).status.code(), Some(code), "{script}");
    }
    let none = place.run(&["queue", "take", "b", "jobs", "--", "no such command"]);
    assert!(none.status.code() == Some(127) && none.complaint().contains("no such command"));
    let bad = place.run(&["queue", "take", "b", "jobs", "--", "/dev/null"]);
    assert!(bad.status.code() == Some(126), "{bad:?}");
    let done = work("cat; echo; echo $MEMBUS_QUEUE_ID $MEMBUS_QUEUE_ATTEMPT");
    let said = done.done();
    let (payload, rest) = said.split_once('\n').unwrap();
    assert!(payload == "a\0b" && rest.ends_with(" 6\n") && rest.contains('-'), "{said:?}");
    assert_eq!(work("true").absent(), "");
    // One that does not read what it is given, however much.
    place.run_with(&["queue", "put", "b", "jobs", "-"], &vec![b'x'; 1_000_000]).done();
    work("true").done();
    place.run(&["queue", "put", "b", "jobs", r#"{"n": 1}"#, "--as", "json"]).done();
    let json = place.run(&["--json", "queue", "take", "b", "jobs", "--", "cat"]).json();
    assert_eq!((&json[0]["value"]["n"], &json[0]["attempt"]), (&1.into(), &1.into()));
    assert!(place.attach("b").queue("jobs").unwrap().is_empty().unwrap());
    // Longer than its time: what it did may be done again.
    place.run(&["queue", "put", "b", "jobs"]).done();
    let slow = place.run(&["queue", "take", "b", "jobs", "--for", "1ms", "--", "sleep", "0.1"]);
    assert!(slow.refused().contains("is not this consumer's any more"));
    place.is_whole("b");
}

/// Promise: a command is told the signals that its command line is told, and dies with it; the item goes on.
/// Plant: a command that is not tied: it goes on, and so does the item, to another one.
#[test]
fn a_command_ends_with_who_started_it() {
    let place = Place::with_bus();
    for item in ["one", "two"] {
        place.run(&["queue", "put", "b", "jobs", item]).done();
    }
    let mark = place.path("tmp/mark");
    let script =
        format!("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done; {}", mark.display());
    let words = ["queue", "take", "b", "jobs", "--", "sh", "-c", &script];
    let told = place.spawn(&words);
    told.until("ready");
    told.signal(Signal::SIGTERM);
    assert_eq!(told.end().0.code(), Some(7));
    let killed = place.spawn(&words);
    killed.until("ready");
    killed.signal(Signal::SIGKILL);
    drop(killed);
    eventually("the end of the command", || processes_with(&mark).is_empty().then_some(()));
    // Nobody keeps this bus: who wants an item buries the dead.
    let last = place.run(&["--json", "queue", "take", "b", "jobs", "--timeout", "30s"]).json();
    assert_eq!((&last[0]["value"], &last[0]["attempt"]), (&"one".into(), &3.into()));
    let waits = place.spawn(&["queue", "take", "b", "other"]);
    eventually("who waits", || (place.attach("b").info().unwrap().watches > 0).then_some(()));
    waits.signal(Signal::SIGINT);
    assert_eq!(waits.end().0.code(), Some(130));
}

/// Promise: what is in a queue, and who has what, is shown without taking anything, also by JSON; and which
/// queues there are.
/// Plant: `list` that counts what is gone.
#[test]
fn queues_are_looked_into() {
    let place = Place::with_bus();
    let bus = place.attach("b");
    let mut jobs = bus.queue("jobs").unwrap().who("maker");
    for item in ["one", "two", "three"] {
        jobs.put(item).unwrap();
    }
    jobs.offer().put_bytes([b'x'; 100]).unwrap();
    bus.queue("other").unwrap().put("item").unwrap();
    bus.set("queue/a b/tail", "no queue").unwrap();
    jobs.try_take().unwrap().unwrap().ack().unwrap();
    let held = jobs.clone().who("worker").visibility(Duration::from_secs(600)).take().unwrap();
    let rows = place.run(&["queue", "list", "b", "jobs"]).done();
    let rows: Vec<Vec<_>> = rows.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert_eq!(rows[0][..3], ["NUMBER", "PUT", "BY"]);
    assert_eq!((rows[1][1], rows[1][2], *rows[1].last().unwrap()), ("maker", "worker", "two"));
    assert!(rows[1][3].starts_with("9m"), "{rows:?}");
    assert_eq!(rows[2][1..6], ["maker", "-", "-", "0", "6"]);
    let cut = format!("{}…", "x".repeat(40));
    assert_eq!(rows[3].last(), Some(&cut.as_str()));
    let objects = place.run(&["--json", "queue", "list", "b", "jobs"]).json();
    assert_eq!((&objects[0]["tries"], &objects[0]["claim"]["who"]), (&1.into(), &"worker".into()));
    assert_eq!(objects[0]["claim"]["id"], held.receipt().to_string());
    assert!(objects[1]["claim"].is_null() && objects[1]["value"] == "three");
    let queues = place.run(&["queue", "list", "b"]).done();
    let queues: Vec<_> =
        queues.lines().skip(1).map(|l| l.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(queues, [["jobs", "3", "1"], ["other", "1", "0"]]);
    let objects = place.run(&["--json", "queue", "list", "b"]).json();
    assert_eq!((&objects[0]["items"], &objects[0]["taken"]), (&3.into(), &1.into()));
    assert_eq!(place.run(&["queue", "list", "b", "none"]).done().lines().count(), 1);
    held.ack().unwrap();
}

/// Promise: a command may extend its own item: it is acknowledged when the command is done, and given back at once when it
/// fails; one that the command has put off is not acknowledged.
/// Plants: only the claim as it was taken counts; any claim that is there does.
#[test]
fn a_command_extends_its_item() {
    let place = Place::with_bus();
    let view = || place.run(&["--json", "queue", "list", "b", "jobs"]).json();
    place.run(&["queue", "put", "b", "jobs", "text"]).done();
    let work = |what: &str, code: u8| {
        let script = format!("{TOOL} queue {what} >/dev/null && exit {code}");
        place.run(&["queue", "take", "b", "jobs", "--timeout", "1s", "--", "sh", "-c", &script])
    };
    let extends = "extend b jobs $MEMBUS_QUEUE_ID --for 5m";
    assert_eq!(work(extends, 3).status.code(), Some(3));
    assert!(view()[0]["claim"].is_null(), "{:?}", view());
    assert_eq!(work(extends, 0).done(), "");
    assert!(view().is_empty(), "{:?}", view());
    place.run(&["queue", "put", "b", "jobs", "text"]).done();
    work("release b jobs $MEMBUS_QUEUE_ID --after 1h", 0).refused();
    assert!(!view()[0]["claim"].is_null(), "{:?}", view());
}
