//! The same bus with each kind of backend: what is lost comes back, and what fails leaves the last good
//! snapshot.

use super::lose;
use crate::harness::os::SmallDisk;
use crate::harness::{Place, assert_whole, eventually, skipped};
use membus::{Bus, Kind, Options, Persist, ReadBus, SnapshotError};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A Redis server of the test's own; killed when it is dropped.
pub(super) struct Redis(Child);

impl Redis {
    /// Starts one whose socket is in the place; nothing when the machine has none.
    pub(super) fn start(test: &str, place: &Path) -> Option<Self> {
        let socket = place.join("redis.sock");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"]);
        command.arg("--dir").arg(place).arg("--unixsocket").arg(&socket);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let Ok(child) = child else {
            skipped(test, "there is no redis-server");
            return None;
        };
        let this = Self(child);
        eventually("the server", || UnixStream::connect(&socket).ok());
        Some(this)
    }
    #[cfg(feature = "redis")]
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Fails only for one that has ended.
        let _killed = self.0.kill();
        let _ended = self.0.wait();
    }
}

fn persist(place: &Place, url: &str) -> Persist {
    url.replace("DIR", &place.path().display().to_string()).parse().unwrap()
}

fn options(place: &Place, url: &str) -> Options {
    Bus::options().state(place.state()).keeper(false).persist(persist(place, url))
}

/// What to save to, as far as this build has it.
fn urls() -> Vec<&'static str> {
    let all = [
        ("image:DIR/images", true),
        ("image:DIR/images?compress=gzip", cfg!(feature = "gzip")),
        ("json:DIR/state.json", cfg!(feature = "json")),
        ("json:DIR/state.json.gz", cfg!(feature = "json")),
        ("sqlite:DIR/state.db", cfg!(feature = "sqlite")),
        ("sqlite:DIR/state.db?table=other", cfg!(feature = "sqlite")),
        ("redis+unix://DIR/redis.sock?prefix=it:", cfg!(feature = "redis")),
    ];
    all.into_iter().filter(|(_, is_there)| *is_there).map(|(url, _)| url).collect()
}

/// Promise (backends): with each of them a bus that is lost comes back with all that was in it: keys and values of any
/// bytes, kinds, revisions, who, times, times to live; and its settings, which name the backend, are kept, so that
/// whoever opens it names none.
/// Plants: `who` not written by one of them; the text of a backend that is not read back as the same.
#[test]
fn a_lost_bus_comes_back_from_each_backend() {
    for url in urls() {
        let place = Place::new();
        let _redis = url.starts_with("redis").then(|| Redis::start("backends", place.path()));
        if matches!(_redis, Some(None)) {
            continue;
        }
        let bus = options(&place, url).label("maker").open_at(place.bus()).unwrap();
        bus.set("structure", &("text", 1.5, Some(-3), [true, false])).unwrap();
        bus.put("counter").who("adder").set_counter(i64::MIN).unwrap();
        bus.set_bytes(b"\xff\0\n", b"\0\xff").unwrap();
        bus.set_bytes("empty", b"").unwrap();
        bus.set_bytes("large", vec![0xab; 3 << 20]).unwrap();
        bus.put("timed").ttl(Duration::from_secs(1000)).set_bytes(b"t").unwrap();
        bus.put("mine").ephemeral().set_bytes(b"").unwrap();
        for number in 0..2000_u32 {
            bus.set(format!("many/{number}"), &number).unwrap();
        }
        bus.snapshot().unwrap();
        // What changed after that is in the next one alone.
        bus.delete("many/7").unwrap();
        bus.set("many/8", &"changed").unwrap();
        let saved = bus.snapshot().unwrap();
        let count = bus.len().unwrap() - 1;
        assert_eq!((saved.entries, saved.bytes > 0), (count, true), "{url}");
        let keys = bus.keys("").unwrap();
        let before: Vec<_> = keys.iter().map(|key| bus.get_entry(key).unwrap().unwrap()).collect();
        let named = bus.info().unwrap().persist;
        drop(bus);
        lose(&place);
        let plain = Bus::options().state(place.state()).keeper(false);
        let back = plain.open_at(place.bus()).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(back.info().unwrap().persist, named);
        assert_eq!(back.len().unwrap(), count, "{url}");
        for entry in before {
            let Some(found) = back.get_entry(&entry.key).unwrap() else {
                assert!(entry.stat.ephemeral, "{url}: {:?} is missing", entry.key);
                continue;
            };
            assert!(found.value == entry.value, "{url}: {:?}", entry.key);
            let stat = |entry: &membus::Entry| {
                let stat = entry.stat.clone();
                (stat.revision, stat.kind, stat.who, stat.time, stat.size)
            };
            assert_eq!(stat(&found), stat(&entry), "{url}: {:?}", entry.key);
            let left = found.stat.expires_in;
            assert_eq!(left.is_some(), entry.stat.expires_in.is_some());
            assert!(left.is_none_or(|left| left < Duration::from_secs(1000)));
        }
        assert_eq!(back.stat("counter").unwrap().unwrap().kind, Kind::Counter);
        assert_whole(&back);
    }
}

/// Promise (backends): a disk that is full is an error that names the place; the snapshot before stays, the bus goes on,
/// and the next snapshot is good when there is room.
/// Plant: the old file removed before the new one is whole.
#[test]
fn a_full_disk_leaves_the_last_good_snapshot() {
    for url in ["image:DIR/disk/images", "json:DIR/disk/s.json", "sqlite:DIR/disk/s.db"] {
        if !urls().iter().any(|own| own.starts_with(url.split(':').next().unwrap())) {
            continue;
        }
        let place = Place::new();
        let on = place.path().join("disk");
        std::fs::create_dir(&on).unwrap();
        let disk = match SmallDisk::mount(&on, 1 << 20) {
            Ok(disk) => disk,
            Err(error) => return skipped("full disk", &format!("mount: {error}")),
        };
        let bus = options(&place, url).keep(1).open_at(place.bus()).unwrap();
        bus.set("k", &"good").unwrap();
        bus.snapshot().unwrap();
        bus.set_bytes("large", vec![b'x'; 3 << 20]).unwrap();
        for _ in 0..3 {
            let refused = bus.snapshot().unwrap_err();
            let SnapshotError::Io { at, source } = &refused else { panic!("{url}: {refused}") };
            assert!(at.contains("disk/"), "{refused}");
            assert_eq!(source.kind(), std::io::ErrorKind::StorageFull, "{url}: {refused}");
        }
        drop(bus);
        lose(&place);
        let back = options(&place, url).open_at(place.bus()).unwrap();
        assert_eq!(back.get::<String>("k").unwrap().as_deref(), Some("good"), "{url}");
        assert_eq!(back.len().unwrap(), 1);
        back.set_bytes("large", vec![b'x'; 3 << 20]).unwrap();
        disk.resize(16 << 20).unwrap();
        assert_eq!(back.snapshot().unwrap().entries, 2, "{url}");
        drop(back);
        drop(disk);
    }
}

/// Promise (backends): a Redis server that is killed under a bus hinders nobody but its snapshots, whose error names the
/// server; one that comes back is saved to again; a bus that is lost while there is none is not made anew empty.
/// Plant: an empty bus where the backend can not be reached.
#[cfg(feature = "redis")]
#[test]
fn a_server_that_dies_hinders_snapshots_alone() {
    let place = Place::new();
    let url = "redis+unix://DIR/redis.sock?prefix=it:";
    let Some(mut server) = Redis::start("dead server", place.path()) else { return };
    let bus = options(&place, url).open_at(place.bus()).unwrap();
    bus.set("k", &1).unwrap();
    bus.snapshot().unwrap();
    server.kill();
    bus.set("k", &2).unwrap();
    let refused = bus.snapshot().unwrap_err();
    assert!(
        matches!(&refused, SnapshotError::Io { at, .. } if at.contains("redis.sock")),
        "{refused}"
    );
    assert_eq!(bus.get::<i32>("k").unwrap(), Some(2));
    drop(bus);
    lose(&place);
    let refused = options(&place, url).open_at(place.bus()).unwrap_err();
    assert!(matches!(refused, membus::OpenError::Snapshot(SnapshotError::Io { .. })), "{refused}");
    assert!(!place.region().exists());
    std::fs::remove_file(place.path().join("redis.sock")).unwrap();
    let _server = Redis::start("dead server", place.path()).unwrap();
    // It has forgotten all: that is a server without a snapshot.
    let back = options(&place, url).open_at(place.bus()).unwrap();
    assert!(back.is_empty().unwrap());
    back.set("k", &3).unwrap();
    back.snapshot().unwrap();
    drop(back);
    lose(&place);
    assert_eq!(
        options(&place, url).open_at(place.bus()).unwrap().get::<i32>("k").unwrap(),
        Some(3)
    );
}

/// Promise (backends): a password is in no error, no setting and nothing that a bus tells of itself; two texts that
/// differ in it alone name the same backend.
/// Plant: the text of a place with its password.
#[cfg(feature = "redis")]
#[test]
fn passwords_are_kept_nowhere() {
    let place = Place::new();
    let Some(_server) = Redis::start("passwords", place.path()) else { return };
    let url = "redis+unix://DIR/redis.sock?prefix=it:";
    let bus = options(&place, url).open_at(place.bus()).unwrap();
    let with = "redis+unix://:s3cret@DIR/redis.sock?prefix=it:";
    let same = options(&place, with).open_at(place.bus()).unwrap();
    // The server knows no password.
    let refused = same.snapshot().unwrap_err();
    let shown = format!("{refused} {refused:?} {:?} {same:?}", same.info().unwrap());
    assert!(!shown.contains("s3cret"), "{shown}");
    for file in crate::harness::tree(&place.state()) {
        let bytes = std::fs::read(file).unwrap_or_default();
        assert!(!bytes.windows(6).any(|part| part == b"s3cret"));
    }
    bus.snapshot().unwrap();
}
