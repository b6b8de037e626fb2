//! What takes a process of its own: this binary, run anew for the one test `actor`.

use super::{Place, assert_same, head, load, of_round, open, save};
use crate::backend::{BackendError, FromFn, Sink};
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Entries of a snapshot that is killed in the middle.
const KILLED: u64 = 3000;
/// Entries of a large snapshot, and what a process may need for them.
struct Lot {
    name: &'static str,
    count: u64,
    entry: fn(u64) -> SnapshotEntry,
    kib: u64,
}

const LOTS: [Lot; 2] = [
    Lot { name: "many", count: 300_000, entry: one_of_many, kib: 40 << 10 },
    // All of them take 64 MiB.
    Lot { name: "long", count: 32, entry: a_long_one, kib: 40 << 10 },
];

fn actor_of(part: &str, place: &Place) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["backend::conformance_tests::process::actor", "--exact", "--nocapture"]);
    command.env("MEMBUS_BACKEND_PART", part).env("MEMBUS_BACKEND_URL", place.url());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

/// The other process; does nothing unless it is told a part.
#[test]
fn actor() {
    let Ok(part) = std::env::var("MEMBUS_BACKEND_PART") else { return };
    let url = std::env::var("MEMBUS_BACKEND_URL").unwrap();
    match part.as_str() {
        "saver" => {
            println!("@saves");
            for round in 2.. {
                save(&*open(&url, 1), &head(round), &of_round(round, KILLED)).unwrap();
            }
        }
        name => LOTS.iter().find(|lot| lot.name == name).unwrap().pass(&url),
    }
}

/// Rule 1, whole or absent: a process that is killed while it saves leaves the last whole snapshot, and
/// nothing that hinders the next one.
/// Method: one saves again and again, and is killed at random moments.
pub(super) fn killed(place: fn() -> Place) {
    let place = place();
    let backend = place.open(1);
    save(&*backend, &head(1), &of_round(1, KILLED)).unwrap();
    for kill in 0..12 {
        let (mut saver, mut lines) = actor_of("saver", &place);
        let mut line = String::new();
        while !line.contains("@saves") {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it has ended");
        }
        let wait = crate::sys::process::random().unwrap() % 60_000;
        // The method, not a wait for anything.
        std::thread::sleep(Duration::from_micros(wait));
        saver.kill().unwrap();
        saver.wait().unwrap();
        let found = load(&*place.open(1)).unwrap();
        let round = found.as_ref().map_or(0, |(loaded, _)| loaded.head.revision);
        let what = format!("kill {kill}, after {wait} \u{b5}s, round {round}");
        assert_same(&what, &found, &head(round), &of_round(round, KILLED));
        save(&*backend, &head(1), &of_round(1, KILLED)).unwrap();
        assert_same(&what, &load(&*backend).unwrap(), &head(1), &of_round(1, KILLED));
    }
}

/// The most memory that this process has had, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn one_of_many(number: u64) -> SnapshotEntry {
    SnapshotEntry {
        key: format!("some/longer/key/{number}").into_bytes(),
        value: number.to_string().repeat(30).into_bytes(),
        revision: number + 1,
        time: 1_700_000_000_000_000_000 + number,
        who: b"many".to_vec(),
        ..SnapshotEntry::default()
    }
}

fn a_long_one(number: u64) -> SnapshotEntry {
    let value = number.to_le_bytes().repeat(256 << 10);
    SnapshotEntry { key: format!("long/{number}").into_bytes(), value, ..one_of_many(number) }
}

/// Counts what comes, and sums up the numbers in it.
struct Count {
    of: fn(u64) -> SnapshotEntry,
    entries: u64,
    sum: u64,
}

impl Sink for Count {
    fn begin(&mut self, _: &SnapshotHead) -> Result<(), BackendError> {
        Ok(())
    }
    fn entry(&mut self, entry: &SnapshotEntry) -> Result<(), BackendError> {
        assert!(*entry == (self.of)(entry.revision - 1));
        self.entries += 1;
        self.sum += entry.revision;
        Ok(())
    }
}

impl Lot {
    fn pass(&self, url: &str) {
        // What the process has anyway.
        save(&*open(url, 1), &head(1), &of_round(1, 10)).unwrap();
        load(&*open(url, 1)).unwrap();
        let before = peak_kib();
        let mut numbers = 0..self.count;
        let next = || Ok(numbers.next().map(self.entry));
        open(url, 1).save(&head(2), &mut FromFn(next)).unwrap();
        let saved = peak_kib();
        let mut count = Count { of: self.entry, entries: 0, sum: 0 };
        open(url, 1).load(&mut count).unwrap().unwrap();
        assert_eq!((count.entries, count.sum), (self.count, self.count * (self.count + 1) / 2));
        println!("@{} {}", saved - before, peak_kib() - before);
    }
}

/// Neither a save nor a load holds all entries in memory: of hundreds of thousands, and of some that are long, a part.
/// Plant: as many entries of a server read at once as its index lists at a time, however long they are.
pub(super) fn many(place: fn() -> Place) {
    for lot in LOTS {
        let place = place();
        let (mut actor, lines) = actor_of(lot.name, &place);
        let lines: Vec<_> = lines.lines().map_while(Result::ok).collect();
        assert!(actor.wait().unwrap().success(), "{lines:?}");
        let told = lines.iter().find_map(|line| line.split_once('@')).unwrap().1;
        let kib: Vec<u64> = told.split(' ').map(|kib| kib.parse().unwrap()).collect();
        println!("{}: {kib:?} KiB for {} {} entries", place.url, lot.count, lot.name);
        assert!(kib.iter().all(|kib| *kib < lot.kib), "{kib:?} KiB");
    }
}
