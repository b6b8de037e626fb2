//! What is particular to Redis, by a real server on a socket of its own.

use super::*;
use crate::backend::FromFn;
use crate::backend::conformance_tests::{self, Collected};
use crate::backend::content::Content;
use crate::snapshot_entry::SnapshotEntry;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A server that nobody else knows; it ends with this.
pub(in crate::backend) struct TestServer {
    child: Child,
    directory: PathBuf,
}

impl TestServer {
    /// Starts one in a directory; nothing when the machine has none.
    pub(in crate::backend) fn start(directory: &Path, more: &[&str]) -> Option<Self> {
        let socket = directory.join("redis.sock");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"]);
        command.arg("--dir").arg(directory).arg("--unixsocket").arg(&socket).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                println!("skipped: there is no redis-server (tests/all installs it)");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let mut this = Self { child, directory: directory.to_owned() };
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(this.child.try_wait().unwrap().is_none(), "redis-server has ended");
            assert!(begun.elapsed() < Duration::from_secs(60), "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(2));
        }
        Some(this)
    }

    pub(super) fn store(&self) -> RedisStore {
        RedisStore {
            server: Server::Unix(self.directory.join("redis.sock")),
            user: None,
            password: Password(None),
            database: 0,
            prefix: "t:".to_owned(),
            keep: 1,
            patience: Duration::from_secs(20),
            claim: CLAIM,
        }
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // Fails only for one that has ended.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn entry(key: &str, kind: u8, value: &[u8]) -> SnapshotEntry {
    let (key, value, who) = (key.as_bytes().to_vec(), value.to_vec(), b"me".to_vec());
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

fn many(count: u32) -> Vec<SnapshotEntry> {
    (0..count).map(|n| entry(&format!("k{n}"), 0, &[b'v'; 100])).collect()
}

fn head(revision: u64) -> SnapshotHead {
    SnapshotHead { revision, ..SnapshotHead::default() }
}

fn save(to: &RedisStore, revision: u64, entries: &[SnapshotEntry]) -> Result<Saved, BackendError> {
    conformance_tests::save(to, &head(revision), entries)
}

/// The revision and the count of what is loaded; 0 when there is none.
fn load(from: &RedisStore) -> Result<(u64, usize), BackendError> {
    let mut all = Collected::default();
    from.load(&mut all)?;
    Ok((all.head.revision, all.entries.len()))
}

fn ask<T: redis::FromRedisValue>(store: &RedisStore, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query(&mut store.connect().unwrap()).unwrap()
}

fn keys(store: &RedisStore) -> Vec<String> {
    let mut keys: Vec<String> = ask(store, &["KEYS", "*"]);
    keys.sort_unstable();
    keys
}

/// Those who read are thought gone.
fn forget_readers(store: &RedisStore) {
    for key in keys(store).iter().filter(|key| key.ends_with(":loading")) {
        ask::<()>(store, &["DEL", key]);
    }
}

fn newest(store: &RedisStore) -> String {
    ask(store, &["GET", "t:current"])
}

/// The name of an entry of the newest, found as people do.
fn entry_of(store: &RedisStore, key: &str) -> String {
    let index = format!("t:{}:index", newest(store));
    let (from, to) = (format!("[{key}:"), format!("({key};"));
    let found: Vec<String> = ask(store, &["ZRANGE", &index, &from, &to, "BYLEX"]);
    assert_eq!(found.len(), 1, "{key}: {found:?}");
    format!("t:entry:{}", found[0])
}

fn place(more: &[&str]) -> Option<(tempfile::TempDir, TestServer, RedisStore)> {
    let place = tempfile::tempdir().unwrap();
    let server = TestServer::start(place.path(), more)?;
    let store = server.store();
    Some((place, server, store))
}

/// Promise: an entry is an ordinary hash, readable; nothing is written beyond the prefix.
/// Plant: counters as bytes.
#[test]
fn what_redis_shows() {
    let Some((_place, _server, store)) = place(&[]) else { return };
    let structure = rmp_serde::to_vec_named(&(1.5, "a")).unwrap();
    save(
        &store,
        4711,
        &[entry("t", 0, b"text"), entry("n", 2, &7_i64.to_le_bytes()), entry("s", 1, &structure)],
    )
    .unwrap();
    let id = newest(&store);
    let field = |key: &str, name: &str| {
        ask::<Option<String>>(&store, &["HGET", &entry_of(&store, key), name])
    };
    assert_eq!(field("t", "value").as_deref(), Some("text"));
    assert_eq!(field("n", "value").as_deref(), Some("7"));
    assert_eq!(field("s", "value").as_deref(), Some("[1.5,\"a\"]"));
    assert_eq!(field("s", "kind").as_deref(), Some("structure"));
    assert_eq!(field("t", "time").as_deref(), Some("2023-11-14T22:13:20.000000001Z"));
    assert_eq!((field("t", "who").as_deref(), field("t", "expires")), (Some("me"), None));
    let head = format!("t:{id}:head");
    assert_eq!(ask::<u64>(&store, &["HGET", &head, "revision"]), 4711);
    let all = keys(&store);
    assert!(all.iter().all(|key| key.starts_with("t:")) && all.len() == 8, "{all:?}");
}

/// Promise: whatever the server loses of a snapshot makes it refused, and the one before it is used, where one is kept
/// that has not lost it as well; with all lost there is none. Never a shorter snapshot. The next save is whole.
/// Plants: entries that are gone passed over; what the snapshot before lists taken for there; no doubt.
#[test]
fn what_the_server_loses_is_refused() {
    let Some((_place, _server, store)) = place(&[]) else { return };
    for what in ["entry", "index", "head"] {
        ask::<()>(&store, &["FLUSHALL"]);
        let store = RedisStore { keep: 2, ..store.clone() };
        save(&store, 1, &many(300)).unwrap();
        save(&store, 2, &many(1200)).unwrap();
        let lost = match what {
            "entry" => entry_of(&store, "k700"),
            other => format!("t:{}:{other}", newest(&store)),
        };
        assert_eq!(ask::<u64>(&store, &["DEL", &lost]), 1, "{lost}");
        let mut all = Collected::default();
        let loaded = store.load(&mut all).unwrap().unwrap();
        assert_eq!(
            (all.head.revision, all.entries.len(), loaded.refused.len()),
            (1, 300, 1),
            "{what}"
        );
        assert!(loaded.refused[0].1.contains("gone"), "{:?}", loaded.refused);
        ask::<()>(&store, &["DEL", "t:versions"]);
        assert!(matches!(load(&store), Err(BackendError::Damaged { .. })), "{what}");
        save(&store, 3, &many(5)).unwrap();
        assert_eq!(load(&store).unwrap(), (3, 5));
    }
    ask::<()>(&store, &["FLUSHALL"]);
    // A save sees by itself what is gone, and mends what shares it.
    let store = RedisStore { keep: 2, ..store };
    save(&store, 3, &many(10)).unwrap();
    save(&store, 4, &many(9)).unwrap();
    ask::<()>(&store, &["DEL", &entry_of(&store, "k3")]);
    save(&store, 5, &many(8)).unwrap();
    assert_eq!(load(&store).unwrap(), (5, 8));
    ask::<()>(&store, &["DEL", &format!("t:{}:head", newest(&store))]);
    assert_eq!(load(&store).unwrap(), (4, 9));
    // What was edited it learns from a load.
    save(&store, 6, &many(10)).unwrap();
    for (field, value) in [("value", "edited"), ("time", "x")] {
        ask::<()>(&store, &["HSET", &entry_of(&store, "k3"), field, value]);
        assert!(matches!(load(&store), Err(BackendError::Damaged { .. })));
        save(&store, 7, &many(10)).unwrap();
        assert_eq!(load(&store).unwrap(), (7, 10));
    }
    // The pointer alone: what it led to is whole.
    ask::<()>(&store, &["DEL", "t:current"]);
    assert_eq!(load(&store).unwrap(), (7, 10));
    ask::<()>(&store, &["FLUSHALL"]);
    assert_eq!((load(&store).unwrap(), store.exists().unwrap()), ((0, 0), false));
}

/// Promise: what was edited by hand is written anew, even when no load has seen it.
/// Plant: nothing renewed.
#[test]
fn what_was_edited_does_not_stay() {
    let Some((_place, _server, store)) = place(&[]) else { return };
    save(&store, 1, &many(200)).unwrap();
    for key in ["k3", "k77", "k150"] {
        ask::<()>(&store, &["HSET", &entry_of(&store, key), "value", "edited"]);
    }
    for revision in 0..save::RENEWED {
        save(&store, 2 + revision, &many(200)).unwrap();
    }
    assert_eq!(load(&store).unwrap(), (1 + save::RENEWED, 200));
}

/// Promise: what a dead saver left is invisible, and swept when its claim has run out, not before; commands of
/// it that come later write nothing; a living saver is not hindered.
/// Plants: a sweep that does not look at the claim; a step that does not.
#[test]
fn what_a_dead_saver_left_is_swept() {
    let Some((_place, _server, store)) = place(&[]) else { return };
    save(&store, 1, &many(3)).unwrap();
    let whole = keys(&store).len();
    let mut dead = Saving::begin(&store).unwrap();
    let mut left = many(1200).into_iter();
    dead.write(&mut FromFn(|| Ok(left.next()))).unwrap();
    save(&store, 2, &many(3)).unwrap();
    assert_eq!(load(&store).unwrap(), (2, 3));
    let claim = format!("t:{}:saving", dead.id);
    assert!(ask::<bool>(&store, &["EXISTS", &claim]), "it may live");
    assert!(keys(&store).len() > whole + 1197);
    ask::<()>(&store, &["DEL", &claim]);
    forget_readers(&store);
    save(&store, 3, &many(3)).unwrap();
    assert_eq!(keys(&store).len(), whole);
    // It was stopped, not dead, and goes on.
    for entries in [many(4), many(3)] {
        let mut entries = entries.into_iter();
        let late = dead.write(&mut FromFn(|| Ok(entries.next()))).unwrap_err();
        assert!(late.to_string().contains("claim"), "{late}");
        assert_eq!(keys(&store).len(), whole);
    }
    assert!(dead.finish(&head(9), &Content::default()).is_err());
    assert_eq!((load(&store).unwrap(), keys(&store).len()), ((3, 3), whole + 1));
    forget_readers(&store);
    save(&store, 4, &many(3)).unwrap();
    assert_eq!(keys(&store).len(), whole);
    // What is read stays as long as it is: its head, index and claim.
    assert_eq!(load(&store).unwrap(), (4, 3));
    save(&store, 5, &many(3)).unwrap();
    assert_eq!(keys(&store).len(), whole + 3);
}

/// Promise: the pointer moves only to what is whole, and never back.
/// Plant: no count at the move.
#[test]
fn the_pointer_moves_to_what_is_whole() {
    let Some((_place, _server, store)) = place(&[]) else { return };
    let begin = || {
        let mut saving = Saving::begin(&store).unwrap();
        let mut entries = many(700).into_iter();
        let content = saving.write(&mut FromFn(|| Ok(entries.next()))).unwrap();
        (saving, content)
    };
    let (mut slow, slow_content) = begin();
    let (mut lossy, lossy_content) = begin();
    save(&store, 2, &many(3)).unwrap();
    let refused = slow.finish(&head(1), &slow_content).unwrap_err();
    assert!(refused.to_string().contains("faster"), "{refused}");
    let (mut newer, newer_content) = begin();
    ask::<()>(&store, &["DEL", &format!("t:{}:index", newer.id)]);
    let refused = newer.finish(&head(3), &newer_content).unwrap_err();
    assert!(refused.to_string().contains("gone"), "{refused}");
    ask::<()>(&store, &["FLUSHALL"]);
    assert!(lossy.finish(&head(1), &lossy_content).is_err());
    assert_eq!(load(&store).unwrap(), (0, 0));
    save(&store, 7, &many(3)).unwrap();
    // The counter alone is lost: what is saved next is the newest all the same.
    ask::<()>(&store, &["DEL", "t:sequence"]);
    save(&store, 8, &many(4)).unwrap();
    assert_eq!(load(&store).unwrap(), (8, 4));
}

/// Promise: a save whose entries come slowly, as by a rate, is not thought dead.
/// Method: each comes when a part of the claim's time has gone by on the server.
/// Plant: no renewal but by the batches.
#[test]
fn a_slow_save_keeps_its_claim() {
    let Some((_place, _server, store)) = place(&[]) else { return };
    let store = RedisStore { claim: Duration::from_secs(4), ..store };
    let (mut entries, mut claim) = (many(5).into_iter(), None);
    let is_claim = |key: &String| key.ends_with(":saving");
    let mut slow = FromFn(|| {
        let claim = claim.get_or_insert_with(|| keys(&store).into_iter().find(is_claim).unwrap());
        let left = || ask::<i64>(&store, &["PTTL", claim]);
        let due = left() - 1100;
        // What is gone has less than nothing left.
        while left() > due.max(0) {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(entries.next())
    });
    store.save(&head(1), &mut slow).unwrap();
    assert_eq!(load(&store).unwrap(), (1, 5));
}

/// How many commands of a name the server has done.
fn done(store: &RedisStore, command: &str) -> u64 {
    let info: String = ask(store, &["INFO", "commandstats"]);
    let calls = info.lines().find_map(|line| {
        line.strip_prefix(&format!("cmdstat_{command}:calls="))?.split(',').next()
    });
    calls.map_or(0, |calls| calls.parse().unwrap())
}

/// Promise: a save writes what changed, and a 64th of the rest; the others are shared, by as many snapshots as are
/// kept; what the last one that had it goes with it.
/// Plant: no base.
#[test]
fn only_what_changed_is_written() {
    let Some((_place, _server, store)) = place(&[]) else { return };
    let store = RedisStore { keep: 3, ..store };
    let mut entries = many(6400);
    let first = save(&store, 1, &entries).unwrap().bytes;
    assert_eq!(done(&store, "hset"), 6400 + 1, "and the head");
    for revision in 2..6 {
        for entry in entries.iter_mut().step_by(100) {
            entry.revision = revision;
        }
        ask::<()>(&store, &["CONFIG", "RESETSTAT"]);
        let next = save(&store, revision, &entries).unwrap().bytes;
        let written = done(&store, "hset") - 1;
        assert!((64..64 + 200).contains(&written), "{written}");
        assert!(next < first / 4, "{next} of {first}");
    }
    assert_eq!(load(&store).unwrap(), (5, 6400));
    forget_readers(&store);
    let there = keys(&store).iter().filter(|key| key.starts_with("t:entry:")).count();
    assert_eq!(there, 6400 + 2 * 64);
    let store = RedisStore { keep: 1, ..store };
    save(&store, 6, &many(1)).unwrap();
    // Current, versions, sequence, head, index, entry.
    assert_eq!(keys(&store).len(), 6);
}

/// Promise: as of images, a load may ask for an older snapshot by its head, and learn the oldest.
/// Plant: the newest whole one, wanted or not.
#[test]
fn older_ones_are_found_by_their_heads() {
    let Some((_place, _server, store)) = place(&[]) else { return };
    let store = RedisStore { keep: 3, ..store };
    assert_eq!(store.oldest().unwrap(), None);
    for revision in 1..6 {
        save(&store, revision, &many(revision as u32)).unwrap();
    }
    assert_eq!(store.oldest().unwrap(), Some(head(3)));
    for revision in 1..6 {
        let mut found = Collected::default();
        let loaded = store.load_where(&|head| head.revision <= revision, &mut found).unwrap();
        let count = (revision >= 3).then_some(revision);
        assert_eq!(loaded.map(|loaded| loaded.entries), count);
        assert_eq!(found.entries.len() as u64, count.unwrap_or(0));
    }
}

/// Promise: a server that hangs, dies or is full is an error in bounded time, and the snapshot before stays.
/// Plant: the answers of a batch waited for one by one (it takes minutes).
#[test]
fn a_server_that_fails_is_an_error() {
    use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
    let Some((place, mut server, store)) = place(&[]) else { return };
    let store = RedisStore { patience: Duration::from_millis(300), ..store };
    save(&store, 1, &many(3)).unwrap();
    let mut entries = many(5000).into_iter();
    let hang_in_the_middle = || {
        if entries.len() == 2000 {
            server.signal(SIGSTOP);
        }
        Ok(entries.next())
    };
    let refused = store.save(&head(2), &mut FromFn(hang_in_the_middle)).unwrap_err();
    assert!(is_time_out(&refused), "{refused}");
    assert!(is_time_out(&store.load(&mut Collected::default()).unwrap_err()));
    server.signal(SIGCONT);
    assert_eq!(load(&store).unwrap(), (1, 3));
    ask::<()>(&store, &["CONFIG", "SET", "maxmemory", "4mb"]);
    let refused = save(&store, 3, &many(60_000)).unwrap_err();
    assert!(
        matches!(&refused, BackendError::Refused { reason, .. } if reason.contains("maxmemory")),
        "{refused}"
    );
    assert_eq!(load(&store).unwrap(), (1, 3));
    ask::<()>(&store, &["CONFIG", "SET", "maxmemory", "0"]);
    let mut entries = many(5000).into_iter();
    let die_in_the_middle = || {
        if entries.len() == 2000 {
            server.child.kill().unwrap();
            server.child.wait().unwrap();
        }
        Ok(entries.next())
    };
    let refused = store.save(&head(4), &mut FromFn(die_in_the_middle)).unwrap_err();
    assert!(matches!(refused, BackendError::Io { .. }), "{refused}");
    let refused = load(&store).unwrap_err();
    assert!(refused.to_string().contains("redis.sock"), "{refused}");
    // It comes back without a memory.
    server = TestServer::start(place.path(), &[]).unwrap();
    assert_eq!(load(&server.store()).unwrap(), (0, 0));
}

/// Promise: a password is needed and enough, and nothing shows it: no error, no debug output.
/// Plant: `Password` with a derived `Debug`.
#[test]
fn passwords_are_shown_nowhere() {
    let secret = "s3cret-word";
    let Some((_place, _server, store)) = place(&["--requirepass", secret]) else { return };
    let with = |password: &str| RedisStore {
        password: Password(Some(password.to_owned())),
        ..store.clone()
    };
    save(&with(secret), 1, &many(3)).unwrap();
    assert_eq!(load(&with(secret)).unwrap(), (1, 3));
    for (wrong, word) in [(&store, ""), (&with("wr0ng-word"), "wr0ng-word")] {
        let refused = save(wrong, 2, &many(3)).unwrap_err();
        assert!(refused.to_string().contains("MEMBUS_REDIS_PASSWORD"), "{refused}");
        let shown = format!("{refused} {refused:?} {wrong:?}");
        assert!(word.is_empty() || !shown.contains(word), "{shown}");
    }
    assert!(!format!("{:?}", with(secret)).contains(secret));
}

/// A certificate authority and a server's certificate for this host, by openssl.
#[cfg(feature = "redis-tls")]
fn certificates(directory: &Path) -> Option<()> {
    let run = |words: &str| {
        let mut command = Command::new("openssl");
        command.args(words.split(' ')).current_dir(directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
    };
    let names = "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
    std::fs::write(directory.join("names"), names).unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for words in [
        format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"),
        format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"),
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out server.pem \
         -extfile names"
            .to_owned(),
    ] {
        match run(&words) {
            Ok(status) => assert!(status.success(), "openssl {words}"),
            Err(_) => {
                println!("skipped: there is no openssl (tests/all installs it)");
                return None;
            }
        }
    }
    Some(())
}

/// Promise: an encrypted connection works with a certificate whose authority was named, and with no other one.
/// Plant: `insecure: true`.
#[cfg(feature = "redis-tls")]
#[test]
fn an_encrypted_connection_knows_its_server() {
    let place = tempfile::tempdir().unwrap();
    if certificates(place.path()).is_none() {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let number = port.to_string();
    let of = |name: &str| place.path().join(name).display().to_string();
    let (cert, key, ca) = (of("server.pem"), of("server.key"), of("ca.pem"));
    let words = [
        "--bind",
        "127.0.0.1",
        "--tls-port",
        &number,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
    ];
    let Some(server) = TestServer::start(place.path(), &words) else { return };
    let with = |host: &str, authorities: Option<PathBuf>| {
        let server_at = Server::Tls { host: host.to_owned(), port, authorities };
        RedisStore { server: server_at, ..server.store() }
    };
    for host in ["localhost", "127.0.0.1"] {
        let store = with(host, Some(ca.clone().into()));
        save(&store, 1, &many(700)).unwrap();
        assert_eq!(load(&store).unwrap(), (1, 700));
    }
    let unknown = save(&with("localhost", None), 2, &many(1)).unwrap_err();
    assert!(unknown.to_string().contains("rediss://localhost"), "{unknown}");
    let none = save(&with("localhost", Some("/nowhere.pem".into())), 2, &many(1)).unwrap_err();
    assert!(none.to_string().contains("/nowhere.pem"), "{none}");
    let plain = Server::Tcp { host: "127.0.0.1".to_owned(), port };
    assert!(save(&RedisStore { server: plain, ..server.store() }, 2, &many(1)).is_err());
    assert_eq!(load(&server.store()).unwrap(), (1, 700));
}
