//! What is particular to JSON: how it looks, who may edit it, and what its older ones are called.

use super::*;
use crate::backend::FromFn;
use crate::backend::conformance_tests::{self, Collected};
use crate::snapshot_entry::SnapshotEntry;

fn entry(key: &[u8], kind: u8, value: &[u8]) -> SnapshotEntry {
    let (key, value, who) = (key.to_vec(), value.to_vec(), b"me".to_vec());
    SnapshotEntry {
        key,
        value,
        kind,
        revision: 12,
        time: 1_700_000_000_000_000_001,
        who,
        expires: 0,
    }
}

fn save(to: &JsonFile, revision: u64, entries: Vec<SnapshotEntry>) {
    let head = SnapshotHead { bus_id: 10, incarnation: 11, revision, created: 1_000_000_000 };
    conformance_tests::save(to, &head, &entries).unwrap();
}

fn load(from: &JsonFile) -> Result<Vec<SnapshotEntry>, String> {
    let mut all = Collected::default();
    match from.load(&mut all) {
        Ok(Some(_)) => Ok(all.entries),
        Ok(None) => Err("there is none".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn place(name: &str, keep: usize) -> (tempfile::TempDir, JsonFile) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(name);
    (place, JsonFile { path, keep })
}

/// Promise: one valid document, an entry a line, readable; what can't be read is marked. Byte for byte, since
/// others read it.
/// Plant: a counter written as base64.
#[test]
fn what_it_looks_like() {
    let (_place, json) = place("state.json", 1);
    let structure = rmp_serde::to_vec_named(&("a", 1.5, Some(true))).unwrap();
    save(
        &json,
        4711,
        vec![
            entry(b"text", 0, "caf\u{e9}".as_bytes()),
            entry(b"\xff", 0, b"\0\xff"),
            SnapshotEntry {
                expires: 1_800_000_000_000_000_000,
                who: vec![],
                ..entry(b"s", 1, &structure)
            },
            entry(b"n", 2, &(-5_i64).to_le_bytes()),
        ],
    );
    let text = std::fs::read_to_string(&json.path).unwrap();
    let rest = "\"revision\":12,\"time\":\"2023-11-14T22:13:20.000000001Z\"";
    let head = "{\"membus\":\"snapshot\",\"version\":1,\"bus_id\":\"0000000000000000000000000000000a\",\
                \"incarnation\":\"000000000000000b\",\"revision\":4711,\
                \"created\":\"1970-01-01T00:00:01.000000000Z\",\"entries\":[";
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], head);
    assert_eq!(
        lines[1],
        format!(
            "{{\"key\":\"text\",\"value\":\"caf\u{e9}\",\"kind\":\"bytes\",{rest},\"who\":\"me\"}},"
        )
    );
    let binary =
        "\"key\":\"/w==\",\"key_encoding\":\"base64\",\"value\":\"AP8=\",\"encoding\":\"base64\"";
    assert_eq!(lines[2], format!("{{{binary},\"kind\":\"bytes\",{rest},\"who\":\"me\"}},"));
    let expires = "\"expires\":\"2027-01-15T08:00:00.000000000Z\"";
    assert_eq!(
        lines[3],
        format!(
            "{{\"key\":\"s\",\"value\":[\"a\",1.5,true],\"kind\":\"structure\",{rest},{expires}}},"
        )
    );
    assert_eq!(
        lines[4],
        format!("{{\"key\":\"n\",\"value\":-5,\"kind\":\"counter\",{rest},\"who\":\"me\"}}")
    );
    assert!(lines[5].starts_with("],\"count\":4,\"checksum\":\"") && lines.len() == 6);
    let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(whole["entries"].as_array().unwrap().len(), 4);
}

/// Promise: another layout of the same is the same; what was edited is refused with a word of what to do, and is
/// taken when that was done; a field that nobody knows is refused.
/// Plant: a `null` that is not accepted.
#[test]
fn who_may_edit_it() {
    let (_place, json) = place("state.json", 1);
    let entries = vec![entry(b"a", 0, b"one"), entry(b"b", 2, &7_i64.to_le_bytes())];
    save(&json, 1, entries.clone());
    let good = std::fs::read_to_string(&json.path).unwrap();
    let checksum =
        good[good.find("\"checksum\":").unwrap() + 11..].trim_end_matches("}\n").to_owned();
    let with = |text: &str| {
        std::fs::write(&json.path, text).unwrap();
        load(&json)
    };
    let pretty =
        good.replace(",\"", ",\n\t \"").replace(':', " : ").replace("T22 : 13 : 20", "T22:13:20");
    let pretty = pretty.replace("T00 : 00 : 01", "T00:00:01");
    assert_eq!(with(&pretty).unwrap(), entries);
    let edited = good.replace("\"one\"", "\"two\"");
    let refused = with(&edited).unwrap_err();
    assert!(refused.contains("edited") && refused.contains("null"), "{refused}");
    let accepted = with(&edited.replace(&checksum, "null")).unwrap();
    assert_eq!(accepted, [entry(b"a", 0, b"two"), entries[1].clone()]);
    let fewer = good.replace(",\n{\"key\":\"b\"", "],\"count\":2,\"checksum\":null}");
    let fewer = &fewer[..fewer.find("null}").unwrap() + 5];
    assert_eq!(with(fewer).unwrap(), entries[..1], "the count is not looked at either");
    for (from, to, word) in [
        ("\"revision\":12,", "\"revision\":12,\"expire\":\"x\",", "expire"),
        ("\"counter\"", "\"number\"", "kind"),
        (":7,", ":\"7\",", "kind"),
        ("2023-11-14T22:13:20.000000001Z", "yesterday", "time"),
        ("\"version\":1", "\"version\":2", "version"),
        ("snapshot", "other", "no membus"),
        ("\"incarnation\":\"000000000000000b\",", "", "incarnation"),
        ("{\"membus\"", "[{\"membus\"", "snapshot"),
    ] {
        let refused = with(&good.replacen(from, to, 1).replace(&checksum, "null")).unwrap_err();
        assert!(refused.contains(word), "{from} to {to}: {refused}");
    }
}

/// Promise: older ones are `FILE.1`, `FILE.2`, …; a gap is filled, names that look alike are nobody's; a
/// directory is not moved away; a link is not followed.
/// Plant: numbers with leading zeros taken for ours.
#[test]
fn what_older_ones_are_called() {
    for (name, first, second) in
        [("s.json", "s.json.1", "s.json.2"), ("s.json.gz", "s.json.1.gz", "s.json.2.gz")]
    {
        let (place, json) = place(name, 3);
        for other in ["s.json.01", "s.json.x", "s.json.1.bak", "s.json.-1", "xs.json.1"] {
            std::fs::write(place.path().join(other), b"mine").unwrap();
        }
        let revision = |name: &str| {
            let json = JsonFile { path: place.path().join(name), keep: 1 };
            let (_, revision) =
                (load(&json), json.load(&mut Collected::default()).unwrap().unwrap());
            revision.head.revision
        };
        for number in 1..6 {
            save(&json, number, vec![entry(b"k", 0, b"")]);
        }
        assert_eq!([name, first, second].map(revision), [5, 4, 3]);
        std::fs::remove_file(place.path().join(first)).unwrap();
        save(&json, 6, Vec::new());
        assert_eq!([name, first, second].map(revision), [6, 5, 3]);
        json.delete().unwrap();
        assert_eq!(file::names(place.path()).unwrap().len(), 5, "what is others' stays");
    }
    let (place, json) = place("s.json", 3);
    std::fs::create_dir(&json.path).unwrap();
    let head = SnapshotHead::default();
    let refused = json.save(&head, &mut FromFn(|| Ok(None))).unwrap_err();
    assert!(refused.to_string().contains("directory"), "{refused}");
    assert!(json.path.is_dir() && file::names(place.path()).unwrap().len() == 1);
    std::fs::remove_dir(&json.path).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &json.path).unwrap();
    assert!(json.save(&head, &mut FromFn(|| Ok(None))).is_err());
    assert!(matches!(json.load(&mut Collected::default()), Err(BackendError::Damaged { .. })));
}
