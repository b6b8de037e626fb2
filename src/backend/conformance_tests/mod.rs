//! What each backend must pass: the rules of [`Backend`](super::Backend), one test each, run for every
//! kind that membus has.
//!
//! A [`Place`] is where one backend stores, made anew for each test. `conformance!` makes the tests of one
//! kind; the rules themselves are in `rules`, what harms files in `damage`, other processes in `process`.
//!
//! Plants, each seen to fail here for the images: older images deleted before the rename
//! (`failing_calls`), a file written under its own name (`dying`, `killed`), no checksum of all
//! (`damaged`), the order by revision in place of the sequence (`in_turn`), images read by their name
//! twice (`beside`), `who` not written (`exact`), all entries collected before they are written
//! (`many`), a `delete` that leaves the newest (`gone`).

mod damage;
mod process;
mod rules;

use super::{Backend, BackendError, FromFn, Loaded, Saved, Sink};
use crate::config::Persist;
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Where one backend stores.
pub(super) struct Place {
    /// What names the backend; `DIR` stands for the directory.
    url: &'static str,
    /// Whether its calls pass the seam of `sys`.
    is_seamed: bool,
    /// Whether older snapshots stay beside the newest.
    keeps_older: bool,
    /// Whether each byte of its files counts.
    is_tight: bool,
    /// Ends before its directory goes.
    #[cfg(feature = "redis")]
    server: Option<super::redis::tests::TestServer>,
    directory: TempDir,
}

impl Place {
    fn images() -> Self {
        let url = "image:DIR/deep/images";
        Self {
            url,
            is_seamed: true,
            keeps_older: true,
            is_tight: true,
            #[cfg(feature = "redis")]
            server: None,
            directory: directory(),
        }
    }

    #[cfg(feature = "gzip")]
    fn compressed_images() -> Self {
        let url = "image:DIR/deep/images?compress=gzip";
        Self { url, is_tight: false, ..Self::images() }
    }

    #[cfg(feature = "json")]
    fn json() -> Self {
        Self { url: "json:DIR/deep/state.json", is_tight: false, ..Self::images() }
    }
    #[cfg(feature = "json")]
    fn compressed_json() -> Self {
        Self { url: "json:DIR/deep/state.json.gz", is_tight: false, ..Self::images() }
    }

    #[cfg(feature = "sqlite")]
    fn sqlite() -> Self {
        let url = "sqlite:DIR/deep/state.db?table=state";
        Self { url, is_seamed: false, keeps_older: false, is_tight: false, ..Self::images() }
    }

    #[cfg(feature = "redis")]
    fn redis() -> Self {
        let url = "redis+unix://DIR/redis.sock?db=3&prefix=a:b:";
        let this =
            Self { url, is_seamed: false, keeps_older: false, is_tight: false, ..Self::images() };
        let server = super::redis::tests::TestServer::start(this.path(), &[]);
        Self { server, ..this }
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
    fn url(&self) -> String {
        self.url.replace("DIR", &self.path().display().to_string())
    }
    fn open(&self, keep: usize) -> Arc<dyn Backend> {
        open(&self.url(), keep)
    }
    /// Every file in it.
    fn files(&self) -> Vec<PathBuf> {
        let (mut found, mut open) = (Vec::new(), vec![self.path().to_owned()]);
        while let Some(next) = open.pop() {
            for entry in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    open.push(entry.path());
                } else if kind.is_file() {
                    found.push(entry.path());
                }
            }
        }
        found.sort_unstable();
        found
    }
}

fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

fn open(url: &str, keep: usize) -> Arc<dyn Backend> {
    url.parse::<Persist>().unwrap().backend(keep).unwrap().unwrap()
}

/// The tests of one kind of backend.
macro_rules! conformance {
    ($kind:ident, $place:expr) => {
        mod $kind {
            use super::super::{Place, damage, process, rules};
            const PLACE: fn() -> Place = $place;
            conformance!(@ exact given_up failing_calls dying gone keeps gone_back_to in_turn beside copied; rules);
            conformance!(@ damaged; damage);
            conformance!(@ killed many; process);
        }
    };
    (@ $($test:ident)*; $module:ident) => {
        $(#[test]
        fn $test() {
            $module::$test(PLACE);
        })*
    };
}

mod of {
    conformance!(images, Place::images);
    #[cfg(feature = "gzip")]
    conformance!(compressed_images, Place::compressed_images);
    #[cfg(feature = "json")]
    conformance!(json, Place::json);
    #[cfg(feature = "json")]
    conformance!(compressed_json, Place::compressed_json);
    #[cfg(feature = "sqlite")]
    conformance!(sqlite, Place::sqlite);
    #[cfg(feature = "redis")]
    conformance!(redis, Place::redis);
}

/// Some of the tests, at paths that are no text.
/// Plant: names of documents compared as text (all of them).
#[cfg(all(feature = "json", feature = "sqlite"))]
mod odd {
    mod json {
        use super::super::{Place, rules};
        const PLACE: fn() -> Place =
            || Place { url: "json:DIR/%FF/%FF.x%FE.json.gz", ..Place::compressed_json() };
        conformance!(@ exact gone keeps in_turn beside; rules);
    }
    mod sqlite {
        use super::super::{Place, rules};
        const PLACE: fn() -> Place =
            || Place { url: "sqlite:DIR/%FF/%FF.x%FE.db", ..Place::sqlite() };
        conformance!(@ exact gone in_turn; rules);
    }
}

/// What a snapshot is of.
fn head(revision: u64) -> SnapshotHead {
    SnapshotHead {
        bus_id: 1 << 100 | 7,
        incarnation: 9,
        revision,
        created: 1_700_000_000_123_456_789,
    }
}

/// Collects what a load gives.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) head: SnapshotHead,
    begun: u32,
    pub(super) entries: Vec<SnapshotEntry>,
}

impl Sink for Collected {
    fn begin(&mut self, head: &SnapshotHead) -> Result<(), BackendError> {
        self.head = *head;
        self.begun += 1;
        Ok(())
    }
    fn entry(&mut self, entry: &SnapshotEntry) -> Result<(), BackendError> {
        self.entries.push(entry.clone());
        Ok(())
    }
}

/// Saves these entries.
pub(crate) fn save(
    to: &dyn Backend,
    head: &SnapshotHead,
    entries: &[SnapshotEntry],
) -> Result<Saved, BackendError> {
    let mut left = entries.iter().cloned();
    to.save(head, &mut FromFn(|| Ok(left.next())))
}

/// What is loaded: its entries by their keys.
pub(crate) type Found = Option<(Loaded, Vec<SnapshotEntry>)>;

pub(crate) fn load(from: &dyn Backend) -> Result<Found, BackendError> {
    let mut found = Collected::default();
    let Some(loaded) = from.load(&mut found)? else { return Ok(None) };
    assert_eq!((found.begun, found.head), (1, loaded.head), "the head comes once, before all");
    assert_eq!(found.entries.len() as u64, loaded.entries);
    Ok(Some((loaded, sorted(found.entries))))
}

fn sorted(mut entries: Vec<SnapshotEntry>) -> Vec<SnapshotEntry> {
    entries.sort_unstable_by(|one, two| one.key.cmp(&two.key));
    entries
}

/// The same entries, or none; by revision and a checksum, since a failure would print megabytes.
#[track_caller]
fn assert_same(what: &str, found: &Found, head: &SnapshotHead, entries: &[SnapshotEntry]) {
    let (loaded, found) = found.as_ref().unwrap_or_else(|| panic!("{what}: there is none"));
    assert_eq!((loaded.head, &loaded.refused), (*head, &Vec::new()), "{what}");
    assert_eq!(found.len(), entries.len(), "{what}");
    for (found, entry) in found.iter().zip(entries) {
        assert!(found == entry, "{what}: {}", difference(found, entry));
    }
}

fn difference(found: &SnapshotEntry, entry: &SnapshotEntry) -> String {
    let short = |entry: &SnapshotEntry| {
        let value = entry.value.get(..40).unwrap_or(&entry.value).to_owned();
        format!("{:?} of {} bytes", SnapshotEntry { value, ..entry.clone() }, entry.value.len())
    };
    format!("{} in place of {}", short(found), short(entry))
}

/// Some entries of one round, each of which tells the round.
fn of_round(round: u64, count: u64) -> Vec<SnapshotEntry> {
    let entry = |number: u64| SnapshotEntry {
        key: format!("key/{number}").into_bytes(),
        value: [round.to_le_bytes(), number.to_le_bytes()].concat().repeat(20),
        revision: round * 1000 + number,
        time: 1_700_000_000_000_000_000 + number,
        who: b"somebody".to_vec(),
        ..SnapshotEntry::default()
    };
    sorted((0..count).map(entry).collect())
}

/// What MessagePack says of a value.
fn packed(value: &impl serde::Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap()
}

/// Every kind of entry there is, and what is hard to write down.
fn everything() -> Vec<SnapshotEntry> {
    let mut entries = Vec::new();
    let mut add = |key: &[u8], kind: u8, value: Vec<u8>| {
        let number = entries.len() as u64 + 1;
        entries.push(SnapshotEntry {
            key: key.to_vec(),
            value,
            kind,
            revision: number * 0x0123_4567_89ab,
            time: 1_700_000_000_000_000_000 + number,
            who: b"someone"[..number as usize % 8].to_vec(),
            expires: if number.is_multiple_of(3) { u64::MAX - number } else { 0 },
        });
    };
    let keys: [&[u8]; 16] = [
        b"plain",
        b"\0",
        b"nul\0inside",
        b"\xff\xfe",
        b"new\nline",
        b"\"quoted\\\"",
        b" ",
        b"{}",
        "\u{e9}\u{2028}\u{1f600}".as_bytes(),
        b"%s?x=1&y",
        b"'; DROP TABLE x; --",
        b"*[a]?\\",
        b"\r\n*1\r\n",
        b"base64",
        b"null",
        b"0",
    ];
    for key in keys {
        add(key, 0, key.to_vec());
    }
    add(&[b'k'; 1024], 0, Vec::new());
    add(&[0xff; 1024], 0, vec![0; 70_000]);
    add(b"e", 0, b"".to_vec());
    add(b"large/zeros", 0, vec![0; 3 << 20]);
    let noise = (0..3_u64 << 17)
        .flat_map(|word| xxhash_rust::xxh3::xxh3_64(&word.to_le_bytes()).to_le_bytes());
    add(b"large/noise", 0, noise.collect());
    add(b"large/text", 0, "text \u{e9}\"\n\0".repeat(300_000).into_bytes());
    for (name, number) in
        [("min", i64::MIN), ("max", i64::MAX), ("zero", 0), ("minus", -1), ("2^53", (1 << 53) + 1)]
    {
        add(format!("counter/{name}").as_bytes(), 2, number.to_le_bytes().to_vec());
    }
    add(b"counter/short", 2, vec![1, 2, 3]);
    structures(&mut add);
    sorted(entries)
}

fn structures(add: &mut impl FnMut(&[u8], u8, Vec<u8>)) {
    #[derive(serde::Serialize)]
    struct Order<'a> {
        name: &'a str,
        price: f64,
        count: u64,
        tags: Vec<Option<i32>>,
        inner: std::collections::BTreeMap<&'a str, bool>,
    }
    let order = Order {
        name: "a \"b\"\n\u{e9}",
        price: 101.5,
        count: u64::MAX,
        tags: vec![None, Some(-1), Some(i32::MIN), Some(200)],
        inner: [("x", true), ("", false)].into(),
    };
    let mut put =
        |name: &str, value: Vec<u8>| add(format!("structure/{name}").as_bytes(), 1, value);
    put("order", packed(&order));
    put("text", packed(&"text"));
    put("empty text", packed(&""));
    put("null", packed(&()));
    put("true", packed(&true));
    for (name, number) in [
        ("whole", 1.0),
        ("least", f64::MIN_POSITIVE),
        ("odd", 0.1),
        ("most", f64::MAX),
        ("none", f64::NAN),
        ("all", f64::INFINITY),
        ("minus", -0.0),
        ("thirds", 1.0 / 3.0),
        ("small", 5e-324),
    ] {
        put(&format!("float {name}"), packed(&number));
    }
    put("single", packed(&0.1_f32));
    put("single whole", packed(&1.0_f32));
    for number in
        [0, -1, 127, 128, 255, 256, 65_535, 65_536, 1 << 32, i64::MAX, i64::MIN, -33, -129]
    {
        put(&format!("number {number}"), packed(&number));
    }
    put("wide number", vec![0xd3, 0, 0, 0, 0, 0, 0, 0, 5]);
    put("wide text", vec![0xdb, 0, 0, 0, 1, b'x']);
    put("wide array", vec![0xdd, 0, 0, 0, 1, 1]);
    put("bytes", vec![0xc4, 3, 0xff, 0, 1]);
    put("text that is none", vec![0xa2, 0xff, 0xfe]);
    put("keys of numbers", packed(&std::collections::BTreeMap::from([(1, 2)])));
    put("a key twice", vec![0x82, 0xa1, b'a', 1, 0xa1, b'a', 2]);
    put("extension", vec![0xd6, 0xff, 1, 2, 3, 4]);
    put("cut", vec![0x93, 1, 2]);
    put("more", vec![1, 2]);
    put("nothing", Vec::new());
    put("reserved", vec![0xc1]);
    put("deep", [vec![0x91; 3000], vec![1]].concat());
    put("rather deep", [vec![0x91; 100], vec![1]].concat());
    put("long array", packed(&(0..70_000_u32).collect::<Vec<_>>()));
    put(
        "long map",
        packed(
            &(0..20_u8).map(|n| (n.to_string(), n)).collect::<std::collections::BTreeMap<_, _>>(),
        ),
    );
}
