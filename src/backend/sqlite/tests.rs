//! What is particular to SQLite: what its tool shows, what a save writes, locks, and others' tables.

use super::*;
use crate::backend::conformance_tests::{self, Collected};

fn entry(key: &str, kind: u8, value: &[u8], revision: u64) -> SnapshotEntry {
    let (key, value, who) = (key.as_bytes().to_vec(), value.to_vec(), b"me".to_vec());
    SnapshotEntry { key, value, kind, revision, time: 1_700_000_000_000_000_001, who, expires: 0 }
}

fn save(to: &SqliteFile, revision: u64, entries: &[SnapshotEntry]) -> Result<Saved, BackendError> {
    let head = SnapshotHead { revision, ..SnapshotHead::default() };
    conformance_tests::save(to, &head, entries)
}

fn load(from: &SqliteFile) -> Result<(u64, Vec<SnapshotEntry>), String> {
    let mut all = Collected::default();
    from.load(&mut all).map_err(|error| error.to_string())?;
    Ok((all.head.revision, all.entries))
}

fn place() -> (tempfile::TempDir, SqliteFile) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("state.db");
    (place, SqliteFile { path, table: "state".to_owned(), patience: Duration::from_millis(50) })
}

fn rows(of: &Connection, sql: &str) -> Vec<String> {
    let mut all = of.prepare(sql).unwrap();
    let rows = all.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Promise: the ordinary tool shows text as text, counters as numbers, structures as JSON that its functions
/// read; the file is this user's alone.
/// Plant: values that are all blobs.
#[test]
fn what_its_tool_shows() {
    use std::os::unix::fs::PermissionsExt;
    let (_place, state) = place();
    let structure =
        rmp_serde::to_vec_named(&std::collections::BTreeMap::from([("a", 1.5)])).unwrap();
    let entries = [
        entry("t", 0, "caf\u{e9}".as_bytes(), 1),
        entry("b", 0, b"\0\xff", 2),
        entry("n", 2, &(-5_i64).to_le_bytes(), 3),
        entry("s", 1, &structure, 4),
    ];
    save(&state, 4711, &entries).unwrap();
    assert_eq!(state.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let database = Connection::open(&state.path).unwrap();
    let shown = "SELECT key || '|' || typeof(value) || '|' || kind || '|' || revision || '|' || created_at \
                 || '|' || updated_at || '|' || who || '|' || quote(value) FROM state ORDER BY id";
    let time = "2023-11-14T22:13:20.000000001Z";
    assert_eq!(
        rows(&database, shown),
        [
            format!("t|text|bytes|1|{time}|{time}|me|'caf\u{e9}'"),
            format!("b|blob|bytes|2|{time}|{time}|me|X'00FF'"),
            format!("n|integer|counter|3|{time}|{time}|me|-5"),
            format!("s|text|structure|4|{time}|{time}|me|'{{\"a\":1.5}}'"),
        ]
    );
    let inside = "SELECT json_extract(value, '$.a') || strftime('|%s', updated_at) FROM state WHERE key = 's'";
    assert_eq!(rows(&database, inside), ["1.5|1700000000"]);
}

/// Promise: a save writes what changed and nothing else; when a key was first there stays known.
/// Method: triggers write down what is done.
/// Plant: rows that are written whether they changed or not.
#[test]
fn only_what_changed_is_written() {
    let (_place, state) = place();
    let all: Vec<_> = (0..500).map(|n| entry(&format!("k{n}"), 0, b"old", n + 1)).collect();
    save(&state, 500, &all).unwrap();
    let database = Connection::open(&state.path).unwrap();
    let mut triggers = "CREATE TABLE done (what TEXT);".to_owned();
    for (what, row) in [("insert", "new"), ("update", "new"), ("delete", "old")] {
        triggers += &format!(
            "CREATE TRIGGER t_{what} AFTER {what} ON state BEGIN
                INSERT INTO done VALUES ('{what} ' || {row}.key); END;"
        );
    }
    database.execute_batch(&triggers).unwrap();
    let done = || {
        let done = rows(&database, "SELECT what FROM done ORDER BY what");
        database.execute_batch("DELETE FROM done").unwrap();
        done
    };
    save(&state, 501, &all).unwrap();
    assert_eq!(done(), [""; 0]);
    let mut next = all.clone();
    next.remove(7);
    next[100] = SnapshotEntry { time: 1_800_000_000_000_000_000, ..entry("k101", 0, b"new", 502) };
    next.push(entry("later", 2, &1_i64.to_le_bytes(), 503));
    save(&state, 503, &next).unwrap();
    assert_eq!(done(), ["delete k7", "insert later", "update k101"]);
    let times =
        rows(&database, "SELECT created_at || ' ' || updated_at FROM state WHERE key = 'k101'");
    assert_eq!(times, ["2023-11-14T22:13:20.000000001Z 2027-01-15T08:00:00.000000000Z"]);
    // A row that somebody changed is mended.
    database
        .execute_batch("UPDATE state SET value = 'x' WHERE key = 'k3'; DELETE FROM done")
        .unwrap();
    assert!(load(&state).unwrap_err().contains("edited"));
    save(&state, 504, &next).unwrap();
    assert_eq!(done(), ["update k3"]);
    assert_eq!(load(&state).unwrap().1.len(), 500);
}

/// Promise: a database that another program has locked is a clear error after a bounded time, and the old
/// snapshot stays; one that another program reads is no hindrance, and that program goes on seeing the old one.
/// Plant: a rollback journal (the reader hinders).
#[test]
fn a_locked_database_is_a_clear_error() {
    let (_place, state) = place();
    let (old, new) = ([entry("k", 0, b"old", 1)], [entry("k", 0, b"new", 2)]);
    save(&state, 1, &old).unwrap();
    let mut other = Connection::open(&state.path).unwrap();
    let lock = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let refused = save(&state, 2, &new).unwrap_err();
    assert!(
        matches!(&refused, BackendError::Refused { reason, .. } if reason.contains("locked")),
        "{refused}"
    );
    assert_eq!(load(&state).unwrap(), (1, old.to_vec()));
    drop(lock);
    let reading = other.transaction().unwrap();
    let value = |of: &Connection| rows(of, "SELECT value FROM state");
    assert_eq!(value(&reading), ["old"]);
    save(&state, 2, &new).unwrap();
    assert_eq!(value(&reading), ["old"], "what it reads is of one moment");
    drop(reading);
    assert_eq!(value(&other), ["new"]);
    assert_eq!(load(&state).unwrap(), (2, new.to_vec()));
}

/// Promise: a database may have tables of others, which stay; one of theirs with our name is not touched;
/// who edits a snapshot on purpose says so in its row.
/// Plant: `make_tables` by IF NOT EXISTS.
#[test]
fn tables_of_others_stay() {
    let (_place, state) = place();
    let other = SqliteFile { table: "other".to_owned(), ..state.clone() };
    let database = Connection::open(&state.path).unwrap();
    database.execute_batch("CREATE TABLE mine (key); CREATE TABLE state (key, value)").unwrap();
    let refused = save(&state, 1, &[]).unwrap_err();
    assert!(matches!(&refused, BackendError::Refused { reason, .. } if reason.contains("table=")));
    assert!(state.delete().is_err() && load(&state).is_err());
    database.execute_batch("DROP TABLE state").unwrap();
    save(&state, 1, &[entry("a", 0, b"1", 1)]).unwrap();
    save(&other, 2, &[entry("b", 0, b"2", 1)]).unwrap();
    state.delete().unwrap();
    assert!(!state.exists().unwrap() && other.exists().unwrap());
    assert_eq!(load(&other).unwrap().0, 2);
    assert_eq!(rows(&database, "SELECT name FROM sqlite_schema WHERE name = 'mine'").len(), 1);
    database.execute_batch("UPDATE other SET value = 'edited'").unwrap();
    assert!(load(&other).unwrap_err().contains("NULL"));
    database.execute_batch("UPDATE other_snapshot SET checksum = NULL").unwrap();
    assert_eq!(load(&other).unwrap().1[0].value, b"edited");
}

/// Promise: a save leaves the locks alone that other connections of the process have on the database: without them another
/// process would take the write-ahead log away under them.
/// Method: a description of another kind of lock looks for those of SQLite (its SHARED bytes); it is open throughout.
/// Plant: the file is opened and closed before each save, to have been made.
#[test]
fn other_connections_keep_their_locks() {
    const SHARED: std::ops::Range<u64> = 0x4000_0002..0x4000_0200;
    let (_place, state) = place();
    save(&state, 1, &[entry("k", 0, b"1", 1)]).unwrap();
    let looks = file::open_file(&state.path, OFlag::O_RDWR, 0).unwrap();
    let is_locked =
        || crate::sys::lock::locked_range(&looks, SHARED.start, SHARED.end).unwrap().is_some();
    assert!(!is_locked());
    let other = Connection::open(&state.path).unwrap();
    assert_eq!(rows(&other, "SELECT key FROM state"), ["k"]);
    assert!(is_locked());
    save(&state, 2, &[entry("k", 0, b"2", 2)]).unwrap();
    assert!(is_locked(), "the save took them along");
    drop(other);
}
