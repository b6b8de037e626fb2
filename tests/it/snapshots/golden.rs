//! Golden files: snapshots of each format that a version wrote, which every later version reads.
//!
//! `tests/data/v1` holds what version 1 of the formats made of the entries that stand here. A directory that was
//! released is never changed. A version with another format adds the next one: a line in [`DIRECTORIES`], its
//! entries, and the files by
//!
//! ```text
//! cargo test --all-features --test it -- --ignored golden_files_are_made
//! ```
//!
//! which makes the directories that are missing and touches no other.

use crate::harness::{Place, skipped, tree};
use membus::{
    Backend, BackendError, Persist, PersistError, Sink, SnapshotEntry, SnapshotHead, Source,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory of golden files: its name, and what a file of each format in it holds.
type Directory = (&'static str, fn() -> (SnapshotHead, Vec<SnapshotEntry>));

/// All there are.
const DIRECTORIES: [Directory; 1] = [("v1", version_1)];

/// The formats, under a directory. What a Redis server holds is in `golden_redis`.
const FORMATS: [&str; 5] = [
    "image:DIR/image",
    "image:DIR/image-gzip?compress=gzip",
    "json:DIR/state.json",
    "json:DIR/state.json.gz",
    "sqlite:DIR/state.db",
];

/// Bytes, a structure, a counter.
const KINDS: [u8; 3] = [0, 1, 2];

/// 2026-01-01 and a part of a second with all its digits.
const TIME: u64 = 1_767_225_600_123_456_789;

fn entry(key: impl AsRef<[u8]>, kind: u8, value: impl AsRef<[u8]>) -> SnapshotEntry {
    let (key, value) = (key.as_ref().to_vec(), value.as_ref().to_vec());
    SnapshotEntry { key, value, kind, revision: 1, time: TIME, who: Vec::new(), expires: 0 }
}

/// MessagePack of `count` floating-point numbers: more than a frame of an image, and compresses well.
fn numbers(count: u16) -> Vec<u8> {
    let [low, high] = count.to_le_bytes();
    let mut bytes = vec![0xdc, high, low];
    for number in 0..count {
        let one: [u8; 9] =
            [0xcb, 0x3f, if number % 7 == 0 { 0xf8 } else { 0xe0 }, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(&one);
    }
    bytes
}

/// What is in `v1`. Never to be changed.
pub(super) fn version_1() -> (SnapshotHead, Vec<SnapshotEntry>) {
    let head = SnapshotHead {
        bus_id: 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210,
        incarnation: 0xf00d_0000_0000_cafe,
        revision: (1 << 61) - 1,
        created: TIME + 1,
    };
    let [bytes, structure, counter] = KINDS;
    let text: String = (0..200).map(|line| format!("line {line} of a text\t\"ü\"\n")).collect();
    let mut entries = vec![
        entry("empty", bytes, ""),
        entry("text", bytes, &text),
        entry("binary", bytes, (0..=255).collect::<Vec<u8>>()),
        entry("zero in it", bytes, "a\0b"),
        entry("k", bytes, "the shortest key"),
        entry([b'k'; 1024], bytes, "the longest key"),
        entry(b"\xff\0\n", bytes, b"\0\xff"),
        entry("zero\0in it", bytes, "a key"),
        entry("quoted \"ü\" \\ /\n\u{2028}", bytes, "a key"),
        entry("base64?", bytes, "AAE="),
        // {"price": 1.5, "sold": null, "tags": ["a", true, -1]}
        entry(
            "object",
            structure,
            b"\x83\xa5price\xcb\x3f\xf8\0\0\0\0\0\0\xa4sold\xc0\xa4tags\x93\xa1a\xc3\xff",
        ),
        // 5, as a number of four bytes: JSON would give the short one back.
        entry("long number", structure, b"\xce\0\0\0\x05"),
        // Bytes within a structure, which JSON has not.
        entry("bytes in it", structure, b"\xc4\x03\0\x01\xff"),
        entry("numbers", structure, numbers(8000)),
        entry("zero", counter, 0_i64.to_le_bytes()),
        entry("least", counter, i64::MIN.to_le_bytes()),
        entry("most", counter, i64::MAX.to_le_bytes()),
    ];
    entries.extend([
        SnapshotEntry { who: b"feeder".to_vec(), ..entry("by somebody", bytes, "1") },
        SnapshotEntry { who: vec![0xfe; 64], ..entry("by a binary name", bytes, "2") },
        SnapshotEntry { expires: 18_000_000_000_000_000_001, ..entry("long to live", bytes, "3") },
        SnapshotEntry { expires: 1, ..entry("long dead", counter, 4_i64.to_le_bytes()) },
        SnapshotEntry { time: 0, ..entry("of 1970", bytes, "5") },
        SnapshotEntry { time: 18_000_000_000_000_000_000, ..entry("of 2540", bytes, "6") },
    ]);
    for (place, entry) in entries.iter_mut().enumerate() {
        entry.revision = if place == 0 { head.revision } else { 3 * place as u64 };
    }
    entries.sort_by(|one, two| one.key.cmp(&two.key));
    (head, entries)
}

/// The backend of a format under a directory; nothing when this build has it not.
fn open(format: &str, under: &Path) -> Option<Arc<dyn Backend>> {
    let url = format.replace("DIR", &under.display().to_string());
    match url.parse::<Persist>().unwrap().backend(1) {
        Ok(backend) => backend,
        Err(PersistError::Feature { feature, .. }) => {
            skipped("golden files", &format!("{format}: this build has no {feature}"));
            None
        }
        Err(error) => panic!("{error}"),
    }
}

pub(super) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// A snapshot in memory.
#[derive(Default, PartialEq)]
pub(super) struct All(pub(super) SnapshotHead, pub(super) Vec<SnapshotEntry>);

/// The same by the order of its keys.
pub(super) fn sorted(mut all: All) -> All {
    all.1.sort_by(|one, two| one.key.cmp(&two.key));
    all
}

impl Sink for All {
    fn begin(&mut self, head: &SnapshotHead) -> Result<(), BackendError> {
        self.0 = *head;
        Ok(())
    }
    fn entry(&mut self, entry: &SnapshotEntry) -> Result<(), BackendError> {
        self.1.push(entry.clone());
        Ok(())
    }
}

impl Source for All {
    fn next_entry(&mut self) -> Result<Option<SnapshotEntry>, BackendError> {
        Ok(self.1.pop())
    }
}

/// Promise (formats): every later version reads the files of this one, to the last bit of each field.
/// Method: files that were written once, compared with the entries in this source; a round trip would
/// agree with itself whatever became of a format.
/// Plants, in writer and reader alike, so that round trips hold: time and deadline of an image's entry
/// exchanged; another name of JSON's `expires`; a column of SQLite that is called otherwise.
#[test]
fn golden_files_are_read() {
    let mut found: Vec<_> = std::fs::read_dir(data()).unwrap().collect();
    found.sort_by_key(|entry| entry.as_ref().unwrap().file_name());
    let found: Vec<_> = found.into_iter().map(|entry| entry.unwrap().file_name()).collect();
    let read = ["redis"].into_iter().chain(DIRECTORIES.map(|(name, _)| name));
    assert_eq!(found, read.collect::<Vec<_>>(), "a directory that nobody reads");
    for (name, content) in DIRECTORIES {
        // A copy: SQLite makes files beside the one that it reads.
        let place = Place::new();
        let golden = data().join(name);
        for file in tree(&golden).into_iter().filter(|file| file.is_file()) {
            let copy = place.path().join(file.strip_prefix(&golden).unwrap());
            std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
            std::fs::copy(&file, copy).unwrap();
        }
        let (head, expected) = content();
        for format in FORMATS {
            let Some(backend) = open(format, place.path()) else { continue };
            let mut all = All::default();
            let loaded = backend.load(&mut all);
            let loaded = loaded.unwrap_or_else(|error| panic!("{name}, {format}: {error}"));
            let loaded = loaded.unwrap_or_else(|| panic!("{name}, {format}: it is not there"));
            assert_eq!((loaded.head, all.0), (head, head), "{name}, {format}");
            assert_eq!((loaded.entries, loaded.refused), (expected.len() as u64, Vec::new()));
            let all = sorted(all);
            assert_eq!(all.1.len(), expected.len(), "{name}, {format}");
            for (found, expected) in all.1.iter().zip(&expected) {
                let key = expected.key.escape_ascii();
                let without =
                    |entry: &SnapshotEntry| SnapshotEntry { value: Vec::new(), ..entry.clone() };
                assert_eq!(without(found), without(expected), "{name}, {format}: `{key}`");
                assert!(found.value == expected.value, "{name}, {format}: the value of `{key}`");
            }
        }
    }
}

/// Makes the golden files of a version that has none; see the head of this file.
#[test]
#[ignore = "makes files in the source tree, once a version"]
fn golden_files_are_made() {
    for (name, content) in DIRECTORIES {
        let directory = data().join(name);
        if directory.exists() {
            continue;
        }
        for format in FORMATS {
            let (head, entries) = content();
            let backend = open(format, &directory).expect("all formats are made by one build");
            backend.save(&head, &mut All(head, entries)).unwrap();
        }
    }
}
