//! What is particular to Redis, by a real server on a socket of its own.

use super::*;
use crate::backend::FromFn;
use crate::backend::conformance_tests::{self, Collected};
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

    fn store(&self) -> RedisStore {
        RedisStore {
            server: Server::Unix(self.directory.join("redis.sock")),
            user: None,
            password: Password(None),
            database: 0,
            prefix: "t:".to_owned(),
            keep: 1,
            patience: Duration::from_secs(20),
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
        let key = format!("t:{id}:entry:{key}");
        ask::<Option<String>>(&store, &["HGET", &key, name])
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
    assert!(all.iter().all(|key| key.starts_with("t:")) && all.len() == 9, "{all:?}");
}

/// Promise: whatever the server loses of a snapshot makes it refused, and the one before it is used, where one
/// is kept; with all lost there is none. Never a shorter snapshot.
/// Plant: entries that are gone passed over.
#[test]
fn what_the_server_loses_is_refused() {
    let Some((_place, _server, store)) = place(&[]) else { return };
    for what in ["entry:k7", "index:1", "head", "chunks"] {
        ask::<()>(&store, &["FLUSHALL"]);
        let store = RedisStore { keep: 2, ..store.clone() };
        save(&store, 1, &many(300)).unwrap();
        save(&store, 2, &many(1200)).unwrap();
        let lost = format!("t:{}:{what}", newest(&store));
        assert_eq!(ask::<u64>(&store, &["DEL", &lost]), 1, "{lost}");
        let mut all = Collected::default();
        let loaded = store.load(&mut all).unwrap().unwrap();
        if what == "chunks" {
            assert_eq!((all.head.revision, loaded.refused.len()), (2, 0), "it is for sweeps");
            continue;
        }
        assert_eq!(
            (all.head.revision, all.entries.len(), loaded.refused.len()),
            (1, 300, 1),
            "{what}"
        );
        assert!(loaded.refused[0].1.contains("gone"), "{:?}", loaded.refused);
        ask::<()>(&store, &["DEL", &format!("t:{}", "versions")]);
        assert!(matches!(load(&store), Err(BackendError::Damaged { .. })), "{what}");
        save(&store, 3, &many(5)).unwrap();
        assert_eq!(load(&store).unwrap(), (3, 5));
    }
    ask::<()>(&store, &["FLUSHALL"]);
    save(&store, 4, &many(10)).unwrap();
    let id = newest(&store);
    ask::<()>(&store, &["HSET", &format!("t:{id}:entry:k3"), "value", "edited"]);
    assert!(matches!(load(&store), Err(BackendError::Damaged { .. })));
    ask::<()>(&store, &["HSET", &format!("t:{id}:entry:k3"), "time", "x"]);
    assert!(matches!(load(&store), Err(BackendError::Damaged { .. })));
    // The pointer alone: what it led to is whole.
    save(&store, 5, &many(10)).unwrap();
    ask::<()>(&store, &["DEL", "t:current"]);
    assert_eq!(load(&store).unwrap(), (5, 10));
    ask::<()>(&store, &["FLUSHALL"]);
    assert_eq!((load(&store).unwrap(), store.exists().unwrap()), ((0, 0), false));
}

/// Promise: what a dead saver left is invisible, and swept when its claim has run out, not before; commands of
/// it that come later are swept by the next; a living saver is not hindered.
/// Plant: a sweep that does not look at the claim.
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
    assert!(keys(&store).len() > whole + 1200);
    ask::<()>(&store, &["DEL", &claim]);
    forget_readers(&store);
    save(&store, 3, &many(3)).unwrap();
    assert_eq!(keys(&store).len(), whole);
    // It was stopped, not dead, and goes on.
    let late = dead.send(redis::pipe(), &[b"late".to_vec()]).unwrap_err();
    assert!(late.to_string().contains("claim"), "{late}");
    assert!(dead.finish(&head(9), &Content::default()).is_err());
    assert_eq!(load(&store).unwrap(), (3, 3));
    forget_readers(&store);
    save(&store, 4, &many(3)).unwrap();
    assert_eq!(keys(&store).len(), whole);
    // What is read stays as long as it is.
    assert_eq!(load(&store).unwrap(), (4, 3));
    save(&store, 5, &many(3)).unwrap();
    assert_eq!(keys(&store).len(), 2 * whole - 2);
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
    ask::<()>(&store, &["DEL", &format!("t:{}:index:1", newer.id)]);
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
