//! Exit status 2: one line that says what is in the way.

use crate::harness::Place;
use std::os::unix::fs::{FileExt, PermissionsExt};

/// Each command that needs a bus, with arguments that are right.
const COMMANDS: [&[&str]; 17] = [
    &["set", "NAME", "k", "v"],
    &["get", "NAME", "k"],
    &["delete", "NAME", "k"],
    &["delete", "NAME", "--prefix", "k"],
    &["clear", "NAME"],
    &["keys", "NAME"],
    &["scan", "NAME"],
    &["add", "NAME", "k", "-2"],
    &["batch", "NAME", "-"],
    &["ttl", "NAME", "k"],
    &["ttl", "NAME", "k", "5s"],
    &["watch", "NAME", "--timeout", "1ms"],
    &["snapshot", "NAME"],
    &["info", "NAME"],
    &["members", "NAME"],
    &["check", "NAME"],
    &["destroy", "NAME"],
];

fn with_name(words: &[&'static str], name: &'static str) -> Vec<&'static str> {
    words.iter().map(|word| if *word == "NAME" { name } else { word }).collect()
}

/// Promise: an absent bus, a wrong name or a damaged file is exit status 2 and one line, in every
/// command, and no command but `create` and `keep` makes a bus.
/// Plant: `open_at` in place of `attach_at` makes the bus.
#[test]
fn every_command_says_what_is_wrong() {
    let place = Place::new();
    std::fs::create_dir(place.bus("damaged")).unwrap();
    std::fs::write(place.bus("damaged").join("region"), vec![7; 1 << 20]).unwrap();
    std::fs::create_dir(place.path("lines\nlines")).unwrap();
    for command in COMMANDS {
        for (name, complaint) in [
            ("absent", "there is no bus"),
            ("./absent", "there is no bus"),
            ("lines\nlines/bus", "lines\\nlines/bus"),
            ("..", "is no bus name"),
            ("", "is no bus name"),
        ] {
            for more in [[].as_slice(), &["--json"]] {
                let words = [with_name(command, name).as_slice(), more].concat();
                let ran = place.run(&words);
                assert!(ran.failed().contains(complaint), "{words:?}: {ran:?}");
            }
        }
        if command[0] != "destroy" {
            place.run(&with_name(command, "damaged")).failed();
        }
    }
    assert!(!place.bus("absent").exists() && !place.path("absent").exists());
    assert_eq!(place.tree("state").len(), 0);
}

/// Promise: usage errors are exit status 2 on standard error; help and version are results.
/// Plant: usage errors with exit status 0.
#[test]
fn usage() {
    let place = Place::new();
    for words in [
        ["get", "b"].as_slice(),
        &["bogus"],
        &["set", "b", "k", "v", "--ttl", "soon"],
        &["set", "b", "k", "v", "--if-absent", "--if-revision", "3"],
        &["delete", "b"],
        &["delete", "b", "k", "--prefix", "p"],
        &["watch", "b", "--count", "0"],
        &["create", "b", "--capacity", "8Q"],
        &["create", "b", "--mode", "9"],
        &["create", "b", "--persist", "carrier:pigeon"],
        &["demo", "--workers", "0"],
        &[],
    ] {
        let ran = place.run(words);
        assert_eq!((ran.status.code(), ran.text().as_str()), (Some(2), ""), "{words:?}");
        assert!(ran.stderr.starts_with("membus: ") || words.is_empty(), "{words:?}: {ran:?}");
    }
    assert!(place.run(&["--help"]).done().contains("watch"));
    assert!(!place.run(&["--help"]).done().contains("demo-worker"));
    assert!(place.run(&["batch", "--help"]).done().contains("require_revision"));
    assert!(place.run(&["--version"]).done().starts_with("membus "));
}

/// Promise: a damaged region is exit status 2 and a list; the check changes nothing.
/// Plant: a check that never looks.
#[test]
fn damage_is_listed() {
    let place = Place::with_bus();
    let bus = place.attach("b");
    for number in 0..1000 {
        bus.set(format!("k{number}"), &number).unwrap();
    }
    drop(bus);
    assert!(place.run(&["check", "b"]).done().starts_with("clean: 1000 entries"));
    let region = place.bus("b").join("region");
    let whole = std::fs::read(&region).unwrap();
    let file = std::fs::File::options().write(true).open(&region).unwrap();
    // Some word of the table is met, wherever it stands.
    let spots = (4096..whole.len() - 8).step_by(8).filter(|at| whole[*at..*at + 8] != [0; 8]);
    let damaged = spots.into_iter().find(|at| {
        let mut word = <[u8; 8]>::try_from(&whole[*at..*at + 8]).unwrap();
        word[1] ^= 0x55;
        file.write_all_at(&word, *at as u64).unwrap();
        let is_clean = membus::check(place.bus("b")).is_ok_and(|report| report.is_clean());
        if is_clean {
            file.write_all_at(&whole[*at..*at + 8], *at as u64).unwrap();
        }
        !is_clean
    });
    assert!(damaged.is_some());
    let before = std::fs::read(&region).unwrap();
    let ran = place.run(&["check", "b"]);
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    assert!(ran.complaint().contains("findings in"), "{ran:?}");
    assert!(ran.text().lines().count() > 0);
    let ran = place.run(&["check", "b", "--json"]);
    let report = crate::harness::json(&ran.text());
    assert_eq!((ran.status.code(), &report["clean"]), (Some(2), &serde_json::json!(false)));
    assert!(!report["findings"].as_array().unwrap().is_empty());
    assert!(std::fs::read(&region).unwrap() == before, "the check changed the region");
}

/// Promise: a bus that is there is left untouched by `create`, exit status 1.
/// Plant: `open_at` in place of `create_at` is exit status 0.
#[test]
fn create_leaves_what_is_there() {
    let place = Place::with_bus();
    place.run(&["set", "b", "k", "v"]).done();
    assert!(place.run(&["create", "b", "--mode", "0660"]).refused().contains("already"));
    assert_eq!(place.run(&["get", "b", "k"]).done(), "v\n");
    let mode = |name: &str| place.bus(name).join("region").metadata().unwrap().permissions().mode();
    assert_eq!(mode("b") & 0o7777, 0o600);
    assert_eq!(
        place
            .run(&["create", "g", "--mode", "0660", "--capacity", "16M", "--max-capacity", "64M"])
            .done(),
        format!("{}\n", place.bus("g").display())
    );
    assert_eq!(mode("g") & 0o7777, 0o660);
    let info = &place.run(&["info", "g", "--json"]).json()[0];
    assert_eq!(
        (&info["capacity"], &info["max_capacity"]),
        (&(16 << 20).into(), &(64 << 20).into())
    );
    for wrong in [["--capacity", "2G"], ["--max-capacity", "1M"], ["--mode", "0777"]] {
        place.run(&[["create", "w"].as_slice(), &wrong].concat()).failed();
        assert!(!place.bus("w").exists(), "{wrong:?}");
    }
}

/// Promise: a home that is not there is an error that says what to set, and makes nothing.
/// Plant: the path alone.
#[test]
fn a_home_that_is_not_there() {
    let place = Place::new();
    let mut create = place.command(&["create", "b"]);
    let made = create.env_remove("XDG_STATE_HOME").env("HOME", "/proc/nowhere").output().unwrap();
    let said = String::from_utf8(made.stderr).unwrap();
    assert!(made.status.code() == Some(2) && said.contains("XDG_STATE_HOME"), "{said}");
    assert!(!place.bus("b").exists());
}

/// Promise: help that can't be written is told. Plant: the status alone.
#[test]
fn help_that_is_not_written() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let place = Place::new();
    let ran = place.command(&["help"]).stdout(full).output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.code() == Some(2) && said.contains("writing the output"), "{said}");
}
