//! A save is cut after every byte that it sends: what the server has got by then it does, the saver hears nothing any
//! more. Then what is loaded is the old snapshot or the new one, whole; the next save goes well; and when the claim
//! has run out, nothing is left that a save from the beginning would not have left.
//!
//! | variable | what | default |
//! | --- | --- | --- |
//! | `MEMBUS_REDIS_CUTS` | how many cuts, of all tests together, about | 1,000 |
//!
//! Where there are fewer cuts than bytes, they are spread evenly, and begin elsewhere each run; each command is cut
//! at its end as well, and in its last byte. With 40,000 it is each byte, some 25,000.
//!
//! Plants, each seen to fail here: the pointer set by a command of its own, before the head; entries written by commands
//! of their own, before they are listed; a sweep that asks no other index.

use super::tests::TestServer;
use super::*;
use crate::backend::conformance_tests;
use crate::backend::content::Content;
use crate::backend::text;
use crate::snapshot_entry::SnapshotEntry;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// Tests that share the cuts.
const TESTS: usize = 4;

/// What a connection was sent.
type Sent = Vec<u8>;

/// Between a saver and its server; passes on so many bytes and no more.
struct Cut {
    socket: PathBuf,
    passing: JoinHandle<Sent>,
}

impl Cut {
    fn new(place: &Path, limit: usize) -> Self {
        let (socket, server) = (place.join("cut.sock"), place.join("redis.sock"));
        // There is none the first time.
        let _removed = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let passing = std::thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            pass(client, UnixStream::connect(server).unwrap(), limit)
        });
        Self { socket, passing }
    }
}

/// Ends when the server has done all that it got.
fn pass(mut client: UnixStream, mut server: UnixStream, limit: usize) -> Sent {
    let answers = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = std::thread::spawn(move || {
        let (mut from, mut to) = answers;
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            // To one that does not listen any more.
            let _sent = to.write_all(&buffer[..count]);
        }
    });
    let (mut sent, mut buffer) = (Sent::new(), [0; 4096]);
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        let count = count.min(limit - sent.len());
        server.write_all(&buffer[..count]).unwrap();
        sent.extend_from_slice(&buffer[..count]);
        if sent.len() == limit {
            let _shut = client.shutdown(Shutdown::Both);
            break;
        }
    }
    server.shutdown(Shutdown::Write).unwrap();
    back.join().unwrap();
    sent
}

/// Where the commands in it end.
fn ends_of(sent: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    let number = |at: &mut usize| {
        let length = sent[*at..].iter().position(|byte| *byte == b'\n').unwrap();
        let digits = std::str::from_utf8(&sent[*at + 1..*at + length - 1]).unwrap();
        *at += length + 1;
        digits.parse::<usize>().unwrap()
    };
    while at < sent.len() {
        for _ in 0..number(&mut at) {
            at += number(&mut at) + 2;
        }
        ends.push(at);
    }
    ends
}

fn entry(number: u64, revision: u64) -> SnapshotEntry {
    SnapshotEntry {
        key: format!("k{number}\r\n").into_bytes(),
        value: revision.to_string().into_bytes(),
        revision,
        who: b"me".to_vec(),
        ..SnapshotEntry::default()
    }
}

/// A snapshot: its revision, and of each key the revision.
type State = (u64, BTreeMap<u64, u64>);

fn save(to: &RedisStore, (revision, state): &State) -> Result<Saved, BackendError> {
    let head = SnapshotHead { revision: *revision, ..SnapshotHead::default() };
    let entries: Vec<_> =
        state.iter().map(|(number, revision)| entry(*number, *revision)).collect();
    conformance_tests::save(to, &head, &entries)
}

/// Which of these states is there.
fn load(from: &RedisStore, states: &[State]) -> Option<u64> {
    let (loaded, found) = conformance_tests::load(from).unwrap()?;
    assert_eq!(loaded.refused, []);
    let revision = loaded.head.revision;
    let (_, state) = states.iter().find(|(of, _)| *of == revision).unwrap();
    let expected: Vec<_> =
        state.iter().map(|(number, revision)| entry(*number, *revision)).collect();
    assert!(found == expected, "{found:?}");
    Some(revision)
}

fn states() -> [State; 3] {
    let first: BTreeMap<u64, u64> = (0..6).map(|number| (number, 1)).collect();
    let mut second = first.clone();
    second.extend([(1, 2), (9, 2)]);
    second.remove(&4);
    let mut third = second.clone();
    third.extend([(2, 3), (4, 3)]);
    third.remove(&0);
    [(1, first), (2, second), (3, third)]
}

struct Place {
    directory: tempfile::TempDir,
    store: RedisStore,
    _server: TestServer,
}

impl Place {
    fn new(keep: usize) -> Option<Self> {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let server = TestServer::start(directory.path(), &[])?;
        let store = RedisStore { keep, ..server.store() };
        Some(Self { directory, store, _server: server })
    }

    fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query(&mut self.store.connect().unwrap()).unwrap()
    }

    /// A save through a cut: whether it said that all went well, and what it sent.
    fn save_cut(&self, state: &State, limit: usize) -> (bool, Sent) {
        let cut = Cut::new(self.directory.path(), limit);
        let through = RedisStore { server: Server::Unix(cut.socket), ..self.store.clone() };
        let is_done = save(&through, state).is_ok();
        (is_done, cut.passing.join().unwrap())
    }

    /// Nobody saves or reads any more.
    fn forget(&self) {
        for claim in ["t:*:saving", "t:*:loading"] {
            for key in self.ask::<Vec<String>>(&["KEYS", claim]) {
                self.ask::<()>(&["DEL", &key]);
            }
        }
    }

    /// The keys, without what is drawn at random.
    fn keys(&self) -> Vec<String> {
        self.forget();
        let mut keys: Vec<String> = self.ask(&["KEYS", "*"]);
        for key in &mut keys {
            if let Some((_, name)) = key.rsplit_once(':').filter(|_| !key.starts_with("t:entry:")) {
                *key = name.to_owned();
            }
        }
        keys.sort_unstable();
        keys
    }
}

/// Cuts the last of these saves, again and again, each time after those before were done.
fn cuts(name: &str, keep: usize, before: &dyn Fn(&Place), states: &[State]) {
    let Some(place) = Place::new(keep) else { return };
    let (last, others) = states.split_last().unwrap();
    let prepare = || {
        place.ask::<()>(&["FLUSHALL"]);
        before(&place);
        others.iter().for_each(|state| drop(save(&place.store, state).unwrap()));
    };
    // All others: what stays of those before is too much.
    let after = (last.0 + 100, BTreeMap::from([(77, 7)]));
    prepare();
    let known = self::states();
    let load = |store: &RedisStore, more: &[State]| load(store, &[&known, more].concat());
    let old = load(&place.store, &[]);
    place.forget();
    let (is_done, sent) = place.save_cut(last, usize::MAX);
    assert!(is_done);
    save(&place.store, &after).unwrap();
    let clean = place.keys();
    let wanted = std::env::var("MEMBUS_REDIS_CUTS").map_or(1000, |text| text.parse().unwrap());
    let (ends, stride) = (ends_of(&sent), (sent.len() * TESTS).div_ceil(wanted).max(1));
    let first = crate::sys::process::random().unwrap() as usize % stride;
    let mut limits: Vec<_> = (first..sent.len()).step_by(stride).collect();
    limits.extend(ends.iter().flat_map(|end| [end - 1, *end]));
    limits.retain(|limit| *limit > 0);
    limits.sort_unstable();
    limits.dedup();
    let mut found = BTreeMap::<_, usize>::new();
    for limit in &limits {
        let what = format!("{name}, cut after {limit} of {} bytes", sent.len());
        prepare();
        place.forget();
        let (is_done, _) = place.save_cut(last, *limit);
        let there = load(&place.store, &[]);
        assert!(there == Some(last.0) || !is_done && there == old, "{what}: {there:?}");
        *found.entry(there).or_default() += 1;
        place.forget();
        save(&place.store, &after).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(load(&place.store, std::slice::from_ref(&after)), Some(after.0));
        // Who kept more kept another number of snapshots, as the cut one may have come or not.
        if keep == 1 {
            assert_eq!(place.keys(), clean, "{what}");
        }
    }
    assert_eq!(found.len(), 2, "{found:?}: both are seen");
    println!("{name}: {} commands, {} bytes, {found:?}", ends.len(), sent.len());
    crate::earned(limits.len() as u64, "cut saves to Redis");
}

#[test]
fn a_first_save_is_cut() {
    cuts("first", 1, &|_| (), &states()[..1]);
}

#[test]
fn a_save_is_cut_that_shares() {
    cuts("next", 1, &|_| (), &states()[..2]);
}

/// The oldest is swept, and others kept, with which it shares.
#[test]
fn a_save_is_cut_beside_older_ones() {
    cuts("kept", 2, &|_| (), &states());
}

/// A snapshot of version 1 as it was written.
fn save_old(place: &Place, (revision, state): &State) {
    let (id, mut content) = ("00000001-0123456789abcdef", Content::default());
    let store = &place.store;
    let head = SnapshotHead { revision: *revision, ..SnapshotHead::default() };
    let mut commands = redis::pipe();
    for (number, revision) in state {
        let entry = entry(*number, *revision);
        content.add(&entry);
        commands.cmd("RPUSH").arg(store.key_of(id, "index:0")).arg(entry.key.as_slice());
        let name = old::name(store, id, &entry.key);
        commands.cmd("HSET").arg(name).arg(super::entry::fields(entry).0);
    }
    commands.cmd("SET").arg(store.key("sequence")).arg(1);
    commands.cmd("SET").arg(store.key("current")).arg(id);
    commands.cmd("ZADD").arg(store.key("versions")).arg(1).arg(id);
    commands.cmd("SET").arg(store.key_of(id, "chunks")).arg(1);
    let (count, seal) = (content.count.to_string(), content.seal(&head).to_string());
    let mut set = redis::cmd("HSET");
    set.arg(store.key_of(id, "head")).arg("version").arg(old::VERSION).arg("chunks").arg(1);
    set.arg("bus_id").arg("0").arg("incarnation").arg("0").arg("revision").arg(head.revision);
    set.arg("created").arg(text::time(0)).arg("entries").arg(count).arg("checksum").arg(seal);
    commands.add_command(set);
    store.exchange(&mut store.connect().unwrap(), &commands).unwrap();
}

#[test]
fn a_save_is_cut_that_replaces_version_1() {
    let states = states();
    let old = states[0].clone();
    cuts("old", 1, &|place| save_old(place, &old), &states[1..2]);
}
