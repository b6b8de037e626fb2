//! `publish` and `subscribe`, between processes.

use crate::harness::{Place, json};

/// Promise: a message reaches a subscriber in another process, with all that it was published with; the
/// count reached is exit status 0, the time run out 1.
/// Plants: a target that is not passed on reaches the other label too; a count of notices, lags included.
#[test]
fn messages_reach_their_subscribers() {
    let place = Place::with_bus();
    // Whenever they begin: by priority what comes first is the same.
    let all = place.spawn(&["subscribe", "b", "alerts/", "--count", "3", "--alive"]);
    let mine =
        place.spawn(&["--json", "subscribe", "b", "*", "--label", "me", "--count", "2", "--alive"]);
    let publish = |words: &[&str]| place.run(&[&["publish", "b"], words].concat()).done();
    assert_eq!(publish(&["alerts/disk", "two\nlines", "--who", "df"]), "1\n");
    publish(&["alerts/fire", "--target", "me", "--priority", "5", "--ttl", "60s", "--id", "x1"]);
    publish(&["alerts/n", "[1,2]", "--as", "json"]);
    publish(&["alerts/raw", "last", "--raw", "--priority", "-5"]);
    assert_eq!(all.line().unwrap(), "1\talerts/disk\tdf\t0\ttwo\\nlines");
    assert_eq!(all.line().unwrap(), "3\talerts/n\tcli\t0\t[1,2]");
    assert_eq!(all.line().unwrap(), "4\talerts/raw\tcli\t-5\tlast");
    assert_eq!(all.end().0.code(), Some(0));
    let told: Vec<_> = (0..2).map(|_| json(&mine.line().unwrap())).collect();
    assert_eq!(mine.end().0.code(), Some(0));
    let fire = told.iter().find(|told| told["topic"] == "alerts/fire").unwrap();
    assert_eq!(
        (&fire["id"], &fire["target"], &fire["priority"]),
        (&"x1".into(), &"me".into(), &5.into())
    );
    assert!(fire["expires"].is_string() && fire["value"] == "", "{fire}");
    place.run(&["subscribe", "b", "nothing", "--timeout", "20ms"]).absent();
}

/// Promise: a time-out ends it also beside writers that are faster.
/// Plant: the time looked at only when nothing waits (seen for `subscribe`, whose own loop did).
#[test]
fn a_time_out_ends_it_beside_writers_that_are_faster() {
    let place = Place::with_bus();
    let bus = place.attach("b");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                bus.publish("t", &1).unwrap();
                bus.set("k", &1).unwrap();
            }
        });
        for words in [["subscribe", "b", "t"], ["watch", "b", "k"]] {
            place.run(&[words.as_slice(), &["--timeout", "50ms"]].concat()).absent();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Promise: the bus's own changes under the names that scripts know; a late subscriber begins where it was.
/// Plant: `--from` that is taken for the first to tell.
#[test]
fn changes_and_cursors() {
    let place = Place::with_bus();
    place.run(&["set", "b", "k", "v"]).done();
    place.run(&["publish", "b", "t", "one"]).done();
    place.run(&["publish", "b", "t", "two"]).done();
    place.run(&["delete", "b", "k"]).done();
    let lines = place.run(&["subscribe", "b", "value_*", "--from", "0", "--count", "2"]).done();
    assert_eq!(lines, "1\tvalue_changed\tcli\t0\tk\tv\n4\tvalue_deleted\tcli\t0\tk\t\n");
    let lines = place.run(&["subscribe", "b", "t", "--from", "2", "--count", "1"]).done();
    assert_eq!(lines, "3\tt\tcli\t0\ttwo\n");
    for wrong in
        [["publish", "b", "value_changed"], ["publish", "b", ""], ["subscribe", "b", "a\\"]]
    {
        place.run(&wrong).failed();
    }
}
