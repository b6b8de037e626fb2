//! What does a snapshot cost, for whoever takes it and for those who write meanwhile; and how fast does
//! it come back?
//!
//! membus, whose snapshots go into images, JSON and SQLite, beside Redis (`SAVE`, `BGSAVE`, and a server that
//! begins with the file) and beside SQLite's backup API. All stores lie in memory, all snapshots go to a
//! disk, and each is on the disk when its clock stops. Beside each stands what that disk takes: as many
//! bytes, written in one stream and synced, right after it. Then a process sets keys, evenly drawn, as fast
//! as it can, alone and during a snapshot, each set timed by itself.
//!
//! **Back of the envelope.** An entry of 16 + 64 bytes has 112 in an image, so a million are 112 MB: a
//! quarter of a second for a disk of 0.4 GB/s. The walk reads the entries' spans in the order of memory, 100
//! ns for the entry's lines, its copies and two checksums: 0.1 s, of which the disk sees nothing unless the
//! system begins to write back meanwhile. So 0.7 to 1 of the raw rate, and far less where a virtual disk
//! takes 100 MB at 1 GB/s: there the walk counts alone. JSON has twice the bytes
//! and ten times the work; SQLite inserts a million rows, 2 µs each. Redis serialises as fast as membus
//! walks, but looks each entry up by three pointers; SQLite's backup copies pages.
//!
//! A writer of membus meets the walk nowhere: an entry that is replaced stays for the walk, which costs the
//! writer its place in a list. Two processes share two cores, so p99.9 is the scheduler's, with and without.
//! The entries that are replaced meanwhile stay: 2 M/s for half a second would be as many as there are, so
//! memory grows by what is written during the walk alone. Redis forks: each first write to a page copies 4
//! KiB, under which its own `SET` waits.
//!
//! Rebuilding inserts a million entries into an empty table: 300 ns each, after a pass that checks the
//! image: 0.4 s. A restore does so beside what is there, after an image of that: 0.8 s.

mod disk;
mod report;
mod setter;
mod stores;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub(crate) use report::SnapshotReport;
use report::{MemoryFigure, ReturnFigure, Times, WayFigure};
pub(crate) use setter::set_keys;
pub(crate) use stores::Return;
use stores::{Membus, Redis, Sqlite, Store};

use crate::args::Plan;
use crate::child::Running;
use crate::engines::{Fail, Name};
use crate::figure::Figure;
use crate::note;
use crate::role::Role;
use crate::workload::Data;

/// Bytes of a value.
pub(crate) const VALUE_SIZE: usize = 64;
/// Pause between two looks at the memory: a look takes a core from the writer for longer than a set, and one
/// in a thousand sets counts.
const LOOK: Duration = Duration::from_millis(50);

/// A store that is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// membus.
    Membus,
    /// A Redis server.
    Redis,
    /// A SQLite database.
    Sqlite,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Membus, Self::Redis, Self::Sqlite];

    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Membus => "membus",
            Self::Redis => "redis",
            Self::Sqlite => "sqlite",
        }
    }

    /// What `word` names.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Whether it is to be measured: SQLite, which is no store of the other figures, where all are.
    fn is_asked(self, engines: &[Name]) -> bool {
        match self {
            Self::Membus => engines.contains(&Name::Membus),
            Self::Redis => engines.contains(&Name::Redis),
            Self::Sqlite => engines.len() == Name::ALL.len(),
        }
    }
}

/// A way to save a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// membus, an image.
    Image,
    /// membus, JSON.
    Json,
    /// membus, a SQLite table.
    Table,
    /// Redis's `SAVE`.
    Save,
    /// Redis's `BGSAVE`.
    Bgsave,
    /// SQLite's backup API.
    Backup,
}

impl Way {
    /// What the tables call it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Image => "membus, image",
            Self::Json => "membus, JSON",
            Self::Table => "membus, SQLite",
            Self::Save => "Redis, SAVE",
            Self::Bgsave => "Redis, BGSAVE",
            Self::Backup => "SQLite, backup API",
        }
    }
}

/// Takes the figures: stores under `directory`, snapshots under a directory of the plan's disk.
pub(crate) fn measure(plan: &Plan, directory: &Path) -> Result<SnapshotReport, Fail> {
    let disk = match &plan.disk {
        Some(disk) => disk.clone(),
        None => std::env::current_exe()?.parent().ok_or("a program in no directory")?.to_owned(),
    };
    let own = tempfile::Builder::new().prefix("membus-compare-").tempdir_in(&disk)?;
    let mut report = SnapshotReport::new(plan.keys, plan.rounds, disk::file_system(own.path())?);
    let keys = Data::new(plan.keys).all();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_asked(&plan.engines)) {
        let (memory, disk) = (directory.join(kind.word()), own.path().join(kind.word()));
        fs::create_dir_all(&memory)?;
        fs::create_dir_all(&disk)?;
        let mut store: Box<dyn Store> = match kind {
            Kind::Membus => Box::new(Membus::open(&memory, &disk)?),
            Kind::Sqlite => Box::new(Sqlite::open(&memory, &disk)?),
            Kind::Redis => match Redis::open(&memory, &disk)? {
                Some(redis) => Box::new(redis),
                None => {
                    report.skipped.push("redis-server".to_owned());
                    continue;
                }
            },
        };
        note(&format!("snapshots of {}: loading", kind.word()));
        store.load(&keys)?;
        measure_store(plan, kind, &mut *store, (&memory, &disk), &mut report)?;
        store.close()?;
        fs::remove_dir_all(&disk)?;
    }
    own.close()?;
    Ok(report)
}

/// Takes the figures of one store, way by way.
fn measure_store(
    plan: &Plan,
    kind: Kind,
    store: &mut dyn Store,
    (memory, disk): (&PathBuf, &PathBuf),
    report: &mut SnapshotReport,
) -> Result<(), Fail> {
    for way in store.ways() {
        note(&format!("snapshots: {}", way.title()));
        let (bytes, quiet, raw) = quiet(plan, store, way, disk)?;
        let setter = Role::Setter { kind, keys: plan.keys, directory: memory.clone() };
        let mut setter = Running::ready(&setter)?;
        let taken = loaded(plan, store, way, &mut setter, memory)?;
        setter.finish()?;
        if let Some(grown) = store.copied(way)? {
            report.memory.push(MemoryFigure { way, before: taken.memory.before, grown });
        } else if way == Way::Image {
            report.memory.push(taken.memory);
        }
        let Loaded { took: loaded, without, during, .. } = taken;
        report.ways.push(WayFigure { way, bytes, quiet, raw, loaded, without, during });
    }
    for by in store.returns() {
        note(&format!("coming back: {}", by.title()));
        let rounds = (0..plan.rounds).map(|_| store.come_back(by, plan.keys as usize));
        let rounds: Result<Vec<_>, Fail> = rounds.collect();
        let rounds = rounds?.iter().map(Duration::as_secs_f64).collect();
        report.returns.push(ReturnFigure { by, took: Figure::of(rounds) });
    }
    Ok(())
}

/// Snapshots while nobody writes, each followed by the disk's own time for as many bytes.
fn quiet(
    plan: &Plan,
    store: &mut dyn Store,
    way: Way,
    disk: &Path,
) -> Result<(u64, Figure, Figure), Fail> {
    let (mut took, mut raw, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..plan.rounds {
        store.forget(way)?;
        let start = Instant::now();
        bytes = store.save(way)?;
        took.push(start.elapsed().as_secs_f64());
        raw.push(disk::write(disk, bytes)?.as_secs_f64());
    }
    Ok((bytes, Figure::of(took), Figure::of(raw)))
}

/// What snapshots under load were like.
struct Loaded {
    took: Figure,
    without: Times,
    during: Times,
    memory: MemoryFigure,
}

/// Snapshots while another process writes.
fn loaded(
    plan: &Plan,
    store: &mut dyn Store,
    way: Way,
    setter: &mut Running,
    memory: &Path,
) -> Result<Loaded, Fail> {
    let (mut took, mut without, mut during) = (Vec::new(), Vec::new(), Vec::new());
    let (mut before, mut peak) = (0, 0);
    for round in 0..plan.rounds {
        store.forget(way)?;
        without.push(setter::run_for(setter, plan.two_time)?);
        if round == 0 {
            before = store.memory()?;
        }
        setter.tell(setter::GO)?;
        let (stop, stopped) = mpsc::channel();
        let here = memory.to_owned();
        // The bus's files can be looked at by anybody; others say by themselves what they take.
        let look = (way == Way::Image).then(|| thread::spawn(move || highest(&here, &stopped)));
        let start = Instant::now();
        let saved = store.save(way);
        took.push(start.elapsed().as_secs_f64());
        drop(stop);
        if let Some(look) = look {
            peak = peak.max(look.join().map_err(|_| "looking at the memory failed")??);
        }
        saved?;
        during.push(setter::stop(setter)?);
    }
    let memory = MemoryFigure { way, before, grown: peak.saturating_sub(before) };
    let (without, during) = (Times::of(&without), Times::of(&during));
    Ok(Loaded { took: Figure::of(took), without, during, memory })
}

/// The most that the bus and this process take, until the other end of the channel is gone.
fn highest(directory: &Path, stopped: &mpsc::Receiver<()>) -> Result<u64, Fail> {
    let mut peak = 0;
    loop {
        peak = peak.max(stores::bus_memory(directory)?);
        if stopped.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Disconnected) {
            return Ok(peak.max(stores::bus_memory(directory)?));
        }
    }
}
