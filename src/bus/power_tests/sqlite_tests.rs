//! The power goes while SQLite writes, which no seam of ours sees: a child saves under `strace`, and what it did to
//! files is read from the trace. Then as for the other kinds: a disk goes through it up to some deed, keeps what was
//! synced and of the rest what it likes, and what it may have is loaded.
//!
//! Promise: there is one whole snapshot, that of the last save that has returned or of the one that was going on: a
//! first one, one in its place, and ones that change little; with the log removed behind each, and with a reader
//! beside that keeps it open, so that the next save goes on in it and, when it was copied, over it.
//!
//! `MEMBUS_SQLITE_CUTS`: how many cuts, about; 1,000 unless said. What SQLite maps into memory, the index of its log, it
//! makes anew: a file with whatever is in it.
//!
//! Plants, each seen to fail here: `synchronous=normal`, and each in `carelessness_is_seen`. That it is EXTRA and not FULL
//! matters for a rollback journal alone, which is not what is recorded here, but for the first page of a new database.

use super::disk_tests::{Dice, Disk};
use super::{State, load_values, number_of, without};
use crate::Persist;
use crate::backend::conformance_tests::save;
use crate::backend::{Backend, BackendError};
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use crate::sys::seam::Deed;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Saves of a recording.
const ROUNDS: u64 = 4;
/// Whatever changes a file or a name; what is none of those below is not known to [`Trace::call`].
const CALLS: &str = "open,openat,creat,close,write,writev,pwrite64,pwritev,ftruncate,truncate,fallocate,fsync,\
                     fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,link,linkat";

/// What is saved in a round: half of it is as before.
fn state_of(round: u64) -> State {
    let changed = |number: u64| if number.is_multiple_of(2) { 0 } else { round };
    let entries = (round..round + 30).map(|number| {
        let value = format!("{number} of {} ", changed(number)).repeat(20 + number as usize);
        (format!("key/{number}").into_bytes(), value.into_bytes())
    });
    // Of many pages.
    entries.chain([(b"large".to_vec(), vec![round as u8; 20_000])]).collect()
}

fn backend(disk: &Path) -> Arc<dyn Backend> {
    let path = disk.join("deep/state.db");
    let persist = Persist::Sqlite { path, table: "membus".to_owned() };
    persist.backend(1).unwrap().unwrap()
}

fn save_round(disk: &Path, round: u64) {
    let entries = state_of(round).into_iter().map(|(key, value)| SnapshotEntry {
        key,
        value,
        ..SnapshotEntry::default()
    });
    let head = SnapshotHead { revision: round, ..SnapshotHead::default() };
    save(&*backend(disk), &head, &entries.collect::<Vec<_>>()).unwrap();
}

/// The child; does nothing unless it is told where.
#[test]
fn actor() {
    let Some(disk) = std::env::var_os("MEMBUS_SQLITE_POWER").map(PathBuf::from) else { return };
    let is_beside = std::env::var_os("MEMBUS_SQLITE_BESIDE").is_some();
    let mut reader = None;
    for round in 1..=ROUNDS {
        save_round(&disk, round);
        println!("@mark");
        if is_beside {
            let open = || {
                let database = rusqlite::Connection::open(disk.join("deep/state.db")).unwrap();
                database.query_row("SELECT count(*) FROM membus", [], |_| Ok(())).unwrap();
                database
            };
            let database = reader.get_or_insert_with(open);
            if round == 2 {
                let copy = "PRAGMA wal_checkpoint(PASSIVE)";
                database.query_row(copy, [], |_| Ok(())).unwrap();
            }
        }
    }
}

/// What a trace tells of one thread after the other.
struct Trace<'a> {
    root: &'a Path,
    /// What the descriptors of the disk's files are, each opening an inode of its own.
    open: BTreeMap<String, (PathBuf, u64)>,
    sizes: BTreeMap<PathBuf, u64>,
    next: u64,
    deeds: Vec<Deed>,
}

/// A text of the trace: all of its bytes in hexadecimal.
fn bytes_of(text: &str) -> Vec<u8> {
    let digits = text.trim_matches('"').split("\\x").skip(1);
    digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
}

fn path_of(text: &str) -> PathBuf {
    std::ffi::OsString::from_vec(bytes_of(text)).into()
}

impl Trace<'_> {
    fn opened(&mut self, path: PathBuf, flags: &str, descriptor: &str) {
        let (inode, truncates) = (self.next, flags.contains("O_TRUNC"));
        self.next += 1;
        if flags.contains("O_CREAT") || self.sizes.contains_key(&path) {
            self.deeds.push(Deed::Open { path: path.clone(), inode, truncates });
            self.sizes.entry(path.clone()).or_default();
        }
        self.open.insert(descriptor.to_owned(), (path, inode));
    }

    fn wrote(&mut self, path: PathBuf, inode: u64, at: u64, bytes: Vec<u8>) {
        let size = self.sizes.entry(path).or_default();
        *size = (*size).max(at + bytes.len() as u64);
        self.deeds.push(Deed::Write { inode, at, bytes });
    }

    fn cut_to(&mut self, path: PathBuf, inode: u64, length: u64) {
        let size = self.sizes.get(&path).copied().unwrap_or(0);
        match length {
            0 => self.deeds.push(Deed::Open { path: path.clone(), inode, truncates: true }),
            _ if length > size => return self.wrote(path, inode, length - 1, vec![0]),
            _ => assert_eq!(length, size, "{}", path.display()),
        }
        self.sizes.insert(path, length);
    }

    /// A call that went well, its arguments and what it gave.
    fn call(&mut self, name: &str, words: &[&str], result: &str) {
        let paths = || words.iter().filter(|word| word.starts_with('"')).map(|word| path_of(word));
        match name {
            "close" => drop(self.open.remove(words[0])),
            "write" if words[0] == "1" => {
                let said = String::from_utf8(bytes_of(words[1])).unwrap();
                self.deeds.extend(said.matches("@mark").map(|_| Deed::Mark));
            }
            "open" | "openat" | "creat" => {
                let path = paths().next().unwrap();
                if path.starts_with(self.root) {
                    let flags = words.iter().find(|word| word.starts_with("O_"));
                    self.opened(path, flags.unwrap(), result);
                }
            }
            "mkdir" | "mkdirat" | "unlink" | "unlinkat" => {
                let path = paths().next().unwrap();
                if path.starts_with(self.root) {
                    self.sizes.remove(&path);
                    self.deeds.push(match name {
                        "mkdir" | "mkdirat" => Deed::MakeDirectory { path },
                        _ => Deed::Unlink { path },
                    });
                }
            }
            "rename" | "renameat" | "renameat2" | "link" | "linkat" => {
                assert!(!paths().any(|path| path.starts_with(self.root)), "{name} {words:?}");
            }
            _ => {
                let Some((path, inode)) = self.open.get(words[0]).cloned() else { return };
                let number = |word: &str| word.parse::<u64>().unwrap();
                match name {
                    "pwrite64" => {
                        let bytes = bytes_of(words[1]);
                        assert_eq!(bytes.len() as u64, number(result), "{}", path.display());
                        self.wrote(path, inode, number(words[3]), bytes);
                    }
                    "ftruncate" => self.cut_to(path, inode, number(words[1])),
                    "fsync" | "fdatasync" if path.is_dir() => {
                        self.deeds.push(Deed::SyncDirectory { path });
                    }
                    "fsync" | "fdatasync" => self.deeds.push(Deed::Sync { inode }),
                    _ => panic!("{name} of {} is not known here", path.display()),
                }
            }
        }
    }
}

/// What was done to the files below `root`.
fn deeds_of(trace: &str, root: &Path) -> Vec<Deed> {
    let (open, sizes, deeds) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    let mut this = Trace { root, open, sizes, next: 1 << 48, deeds };
    let mut begun = BTreeMap::new();
    for line in trace.lines() {
        let (thread, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_start();
        let rest = match rest.split_once(" resumed>") {
            Some((_, end)) => begun.remove(thread).unwrap_or_default() + end,
            None => rest.to_owned(),
        };
        if let Some(part) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, part.to_owned());
            continue;
        }
        let Some((name, rest)) = rest.split_once('(') else { continue };
        let Some((words, result)) = rest.rsplit_once(") ") else { continue };
        let result = result.trim_start_matches([' ', '=']).split(' ').next().unwrap();
        let words: Vec<_> = words.split(", ").collect();
        if !result.starts_with(['-', '?']) {
            this.call(name, &words, result);
        }
    }
    this.deeds
}

struct Recording {
    place: tempfile::TempDir,
    before: Disk,
    deeds: Vec<Deed>,
}

impl Recording {
    /// Nothing where nobody can trace.
    fn new(is_beside: bool) -> Option<Self> {
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        let (disk, trace) = (place.path().join("disk"), place.path().join("trace"));
        std::fs::create_dir(&disk).unwrap();
        let before = Disk::of(&disk);
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-xx", "-s", "10000000", "-e", "signal=none"]);
        command.arg("-e").arg(format!("trace={CALLS}")).arg("-o").arg(&trace);
        command.arg(std::env::current_exe().unwrap());
        command.args(["bus::power_tests::sqlite_tests::actor", "--exact", "--nocapture"]);
        command.env("MEMBUS_SQLITE_POWER", &disk);
        if is_beside {
            command.env("MEMBUS_SQLITE_BESIDE", "1");
        }
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
        let deeds = std::fs::read_to_string(&trace).map(|trace| deeds_of(&trace, &disk));
        match (status, deeds) {
            (Ok(status), Ok(deeds)) if !deeds.is_empty() => {
                assert!(status.success());
                let marks = deeds.iter().filter(|deed| **deed == Deed::Mark).count();
                assert_eq!(marks as u64, ROUNDS);
                Some(Self { place, before, deeds })
            }
            (status, _) => {
                println!("skipped: no `strace` here, or it may not trace: {status:?}");
                None
            }
        }
    }

    fn load(&self) -> Result<u64, String> {
        let said = |error: BackendError| error.to_string();
        let disk = self.place.path().join("disk");
        let Some((loaded, state)) = load_values(&*backend(&disk)).map_err(said)? else {
            return Ok(0);
        };
        let round = loaded.head.revision;
        if state == state_of(round) { Ok(round) } else { Err(format!("{round} is another one")) }
    }

    /// Cuts the power again and again: how often each round was found.
    fn cut(&self, cuts: u64) -> Result<BTreeMap<u64, u64>, String> {
        let seed = number_of("MEMBUS_CUTS_SEED");
        let seed = seed.unwrap_or_else(|| crate::sys::process::random().unwrap() >> 16);
        let mut found = BTreeMap::new();
        for number in 0..cuts {
            let after = number as usize % (self.deeds.len() + 1);
            let mut disk = self.before.clone();
            self.deeds[..after].iter().for_each(|deed| disk.replay(deed));
            disk.cut(&mut Dice(seed + number));
            let marks = self.deeds[..after].iter().filter(|deed| **deed == Deed::Mark).count();
            let marks = marks as u64;
            let what = format!(
                "MEMBUS_CUTS_SEED={seed}, cut {number}, after {after} of {} deeds, {marks} saves",
                self.deeds.len()
            );
            let round = self.load().map_err(|error| format!("{what}: {error}"))?;
            if !(marks..=marks + 1).contains(&round) {
                return Err(format!("{what}: {round}"));
            }
            *found.entry(round).or_default() += 1;
            if number.is_multiple_of(16) {
                save_round(&self.place.path().join("disk"), 9);
                assert_eq!(self.load(), Ok(9), "{what}: the next save");
            }
        }
        Ok(found)
    }
}

#[test]
fn tables_survive_power_cuts() {
    let cuts = number_of("MEMBUS_SQLITE_CUTS").unwrap_or(1000) / 2;
    for is_beside in [false, true] {
        let Some(recording) = Recording::new(is_beside) else { return };
        let found = recording.cut(cuts).unwrap_or_else(|error| panic!("{error}"));
        println!("{} deeds, {cuts} cuts, found {found:?}", recording.deeds.len());
        assert_eq!(found.len() as u64, ROUNDS + 1, "{found:?}: each of them is seen");
        crate::earned(cuts, "power cuts of SQLite");
    }
}

/// Its name, and what is left out.
type Carelessness = (&'static str, fn(&Deed) -> bool);

#[test]
fn carelessness_is_seen() {
    let careless: [Carelessness; 2] = [
        ("files unsynced", |deed| matches!(deed, Deed::Sync { .. })),
        ("names unsynced", |deed| matches!(deed, Deed::SyncDirectory { .. })),
    ];
    for is_beside in [false, true] {
        let Some(mut recording) = Recording::new(is_beside) else { return };
        let deeds = recording.deeds.clone();
        for (what, is_left_out) in careless {
            recording.deeds.clone_from(&deeds);
            without(&mut recording.deeds, is_left_out);
            let seen = recording.cut(2000);
            assert!(seen.is_err(), "{what}: not seen in {seen:?}");
        }
    }
}
