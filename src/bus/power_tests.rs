//! The power goes, at every moment of all that is to outlive it.
//!
//! What an operation does to files is recorded at the seam; a disk that keeps what was synced, and of the
//! rest what it likes (`disk_tests`), goes through it up to some deed, and what it may have then is laid
//! out and loaded. A region in memory is gone with the power. There must be one whole snapshot, the old
//! or the new one, and the configuration, old or new; what a call has promised by its return is there;
//! what was destroyed does not come back.
//!
//! | variable | what | default |
//! | --- | --- | --- |
//! | `MEMBUS_CUTS` | power cuts, of all tests together, about | 5,000 |
//! | `MEMBUS_CUTS_SEED` | the seed, as it was told | a fresh one |
//!
//! Images and documents, plain and compressed, each by itself. SQLite writes its files itself: `sqlite_tests`.
//!
//! Each kind of carelessness is shown to be seen: `carelessness_is_seen`. Plants in the source, seen to
//! fail here as well: a configuration whose name is not synced, directories whose names are not synced
//! above (a snapshot that is not found), snapshots of what is destroyed removed one by one (an older one
//! comes back).

#[path = "power_tests/disk_tests.rs"]
pub(super) mod disk_tests;
#[cfg(feature = "sqlite")]
#[path = "power_tests/sqlite_tests.rs"]
mod sqlite_tests;

use super::options::Options;
use super::{Bus, destroy};
use crate::backend::conformance_tests::load;
use crate::backend::{Backend, BackendError, Loaded};
use crate::config::{self, Config};
use crate::snapshot_entry::SnapshotEntry;
use crate::sys::seam::{Deed, note, recorded};
use crate::{OpenError, Persist, ReadBus};
use disk_tests::{Dice, Disk};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(super) type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a backend has, with what is said of it; nothing when it has no snapshot.
pub(super) fn load_values(from: &dyn Backend) -> Result<Option<(Loaded, State)>, BackendError> {
    let values = |entries: Vec<SnapshotEntry>| -> State {
        let count = entries.len();
        let state: State = entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
        assert_eq!(state.len(), count, "a key twice");
        state
    };
    Ok(load(from)?.map(|(loaded, entries)| (loaded, values(entries))))
}

/// What is found after a power cut.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    config: Option<Config>,
    /// Of the newest good snapshot.
    state: Option<State>,
}

/// Where snapshots go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// Nobody said.
    Unsaid,
    Images,
    CompressedImages,
    #[cfg(feature = "json")]
    Json,
    #[cfg(feature = "json")]
    CompressedJson,
}

/// What needs no other program and writes its own files.
const KINDS: &[Kept] = &[
    Kept::Images,
    Kept::CompressedImages,
    #[cfg(feature = "json")]
    Kept::Json,
    #[cfg(feature = "json")]
    Kept::CompressedJson,
];

struct Place {
    place: tempfile::TempDir,
    kept: Kept,
    keep: usize,
}

impl Place {
    fn new(kept: Kept, keep: usize) -> Self {
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        std::fs::create_dir(place.path().join("disk")).unwrap();
        Self { place, kept, keep }
    }
    fn disk(&self) -> PathBuf {
        self.place.path().join("disk")
    }
    fn bus(&self) -> PathBuf {
        self.place.path().join("bus")
    }
    fn state(&self) -> PathBuf {
        self.disk().join("deep/state")
    }
    fn options(&self) -> Options {
        let options = Bus::options().keeper(false).state(self.state()).keep(self.keep);
        let options = options.max_capacity(4 << 20).capacity(0).log_size(4096);
        let far = self.disk().join("far");
        match self.kept {
            Kept::Unsaid => options,
            Kept::Images => options.persist(Persist::Image(far.join("images"))),
            Kept::CompressedImages => options.persist(Persist::CompressedImage(far.join("images"))),
            #[cfg(feature = "json")]
            Kept::Json => options.persist(Persist::Json(far.join("s.json"))),
            #[cfg(feature = "json")]
            Kept::CompressedJson => options.persist(Persist::Json(far.join("s.json.gz"))),
        }
    }
    fn open(&self) -> Bus {
        self.options().open_at(self.bus()).unwrap()
    }
    /// A bus with a value of several sectors.
    fn fill(&self, round: u8) -> Bus {
        let bus = self.open();
        bus.set_bytes("k", [round; 3000]).unwrap();
        bus
    }
    fn lose_the_region(&self) {
        drop(std::fs::remove_dir_all(self.bus()));
    }
    fn destroy(&self) {
        destroy::destroy(&self.state(), &self.bus(), false).unwrap();
    }

    /// Loads what is there; an error is what must not be.
    fn load(&self) -> Result<Found, String> {
        let said = |error: OpenError| error.to_string();
        let config = config::load(&self.state(), &self.bus()).map_err(said)?;
        let persist = match &config {
            Some(config) => config.persist().map_err(|error| error.to_string())?,
            None => config::default_persist(&self.state(), &self.bus()).map_err(said)?,
        };
        let kept = persist.backend(1).map_err(|error| error.to_string())?;
        match load_values(&*kept.ok_or("no backend")?).map_err(|error| error.to_string())? {
            Some((loaded, _)) if !loaded.refused.is_empty() => Err(format!("{:?}", loaded.refused)),
            Some((_, state)) => Ok(Found { config, state: Some(state) }),
            None => Ok(Found { config, state: None }),
        }
    }
    /// The same by the public face: a bus is built from it.
    fn open_anew(&self) -> Result<State, String> {
        self.lose_the_region();
        // Whoever says nothing gets what is kept.
        let options = Bus::options().keeper(false).state(self.state());
        let options = options.max_capacity(4 << 20).capacity(0).log_size(4096);
        let bus = options.open_at(self.bus()).map_err(|error| error.to_string())?;
        let entries = bus.scan_entries("").map(|entry| entry.map_err(|e| e.to_string()));
        entries.map(|entry| entry.map(|entry| (entry.key.to_vec(), entry.value))).collect()
    }
}

pub(super) fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Tests that share the cuts.
const TESTS: u64 = 5;

/// What was done, and with what the disk began.
struct Recording {
    place: Place,
    before: Disk,
    deeds: Vec<Deed>,
    /// With how many others it shares the cuts of its test.
    share: u64,
}

impl Recording {
    fn new(place: Place, operation: impl FnOnce(&Place)) -> Self {
        let before = Disk::of(&place.disk());
        let (deeds, ()) = recorded(|| operation(&place));
        Self { place, before, deeds, share: 1 }
    }

    /// Cuts the power again and again; `is_right` gets how many marks were passed, and what is found.
    fn cut(&self, is_right: &dyn Fn(usize, &Found) -> bool) -> Result<u64, String> {
        let seed = number_of("MEMBUS_CUTS_SEED");
        let seed = seed.unwrap_or_else(|| crate::sys::process::random().unwrap() >> 16);
        let cuts = number_of("MEMBUS_CUTS").unwrap_or(5000) / TESTS / self.share;
        let mut found = 0;
        for number in 0..cuts {
            let after = number as usize % (self.deeds.len() + 1);
            let mut disk = self.before.clone();
            self.deeds[..after].iter().for_each(|deed| disk.replay(deed));
            disk.cut(&mut Dice(seed + number));
            let what = format!("MEMBUS_CUTS_SEED={seed}, cut {number}, after {after} deeds");
            let marks = self.deeds[..after].iter().filter(|deed| **deed == Deed::Mark).count();
            let there = self.place.load().map_err(|error| format!("{what}: {error}"))?;
            if !is_right(marks, &there) {
                let deeds = &self.deeds[..after];
                return Err(format!("{what}: {there:?}, after {deeds:?}"));
            }
            if number.is_multiple_of(16) {
                let opened = self.place.open_anew().map_err(|error| format!("{what}: {error}"))?;
                if opened != there.state.unwrap_or_default() {
                    return Err(format!("{what}: opened, there is {opened:?}"));
                }
            }
            found += 1;
        }
        Ok(found)
    }
}

fn state(round: u8) -> Option<State> {
    Some(State::from([(b"k".to_vec(), vec![round; 3000])]))
}

/// A mark: what was done before it is promised.
fn done() {
    note(|| Deed::Mark);
}

fn survives(name: &str, recording: &Recording, is_right: &dyn Fn(usize, &Found) -> bool) {
    let cuts = recording.cut(is_right).unwrap_or_else(|error| panic!("{name}: {error}"));
    println!("{name}: {} deeds, {cuts} cuts", recording.deeds.len());
    crate::earned(cuts, "power cuts");
}

fn first_snapshot(kept: Kept) -> Recording {
    Recording::new(Place::new(kept, 1), |place| {
        let bus = place.fill(1);
        done();
        bus.snapshot().unwrap();
        done();
    })
}

fn none_or_first(marks: usize, found: &Found) -> bool {
    let kept = found.config.is_some() || marks == 0;
    kept && (found.state == state(1) || marks < 2 && found.state.is_none())
}

#[test]
fn a_new_bus_and_its_first_snapshot_survive_power_cuts() {
    for kept in [Kept::Unsaid, Kept::Images] {
        survives("first", &first_snapshot(kept), &none_or_first);
    }
}

fn second_snapshot_of(kept: Kept, keep: usize) -> Recording {
    let place = Place::new(kept, keep);
    place.fill(1).snapshot().unwrap();
    Recording::new(place, |place| {
        let bus = place.fill(2);
        bus.snapshot().unwrap();
        done();
    })
}

fn second_snapshot() -> Recording {
    second_snapshot_of(Kept::Images, 1)
}

#[cfg(feature = "json")]
fn second_document() -> Recording {
    second_snapshot_of(Kept::Json, 2)
}

fn old_or_new(marks: usize, found: &Found) -> bool {
    found.config.is_some() && (found.state == state(2) || marks < 1 && found.state == state(1))
}

/// Each kind by itself: the first snapshot, the next in place of it, and the next beside it.
#[test]
fn snapshots_of_each_kind_survive_power_cuts() {
    for kept in KINDS.iter().copied() {
        let shared = |recording| Recording { share: KINDS.len() as u64, ..recording };
        let name = format!("{kept:?}");
        survives(&name, &shared(first_snapshot(kept)), &none_or_first);
        for keep in [1, 2] {
            survives(&name, &shared(second_snapshot_of(kept, keep)), &old_or_new);
        }
    }
}

#[test]
fn the_next_snapshot_and_the_end_of_the_one_before_survive_power_cuts() {
    survives("next", &second_snapshot(), &old_or_new);
}

fn rebuilding() -> Recording {
    let place = Place::new(Kept::Unsaid, 1);
    place.fill(1).snapshot().unwrap();
    place.lose_the_region();
    Recording::new(place, |place| {
        drop(place.options().keep(9).open_at(place.bus()).unwrap());
        done();
    })
}

fn kept_old_or_new(marks: usize, found: &Found) -> bool {
    let keep = found.config.as_ref().map(|config| config.keep);
    found.state == state(1) && (keep == Some(9) || marks < 1 && keep == Some(1))
}

#[test]
fn a_bus_that_is_rebuilt_and_its_configuration_survive_power_cuts() {
    survives("rebuild", &rebuilding(), &kept_old_or_new);
}

/// A bus with two snapshots, which is destroyed, and another one in its place.
fn destroying() -> Recording {
    let place = Place::new(Kept::Unsaid, 2);
    for round in [1, 2] {
        place.fill(round).snapshot().unwrap();
    }
    Recording::new(place, |place| {
        place.destroy();
        done();
        let bus = place.fill(3);
        done();
        bus.snapshot().unwrap();
        done();
    })
}

fn gone_for_good(marks: usize, found: &Found) -> bool {
    match marks {
        // Never the one before: it would be a state that was overwritten long ago.
        0 => found.state.is_none() || found.state == state(2),
        1 => found.state.is_none(),
        2 => found.config.is_some() && (found.state.is_none() || found.state == state(3)),
        _ => found.config.is_some() && found.state == state(3),
    }
}

#[test]
fn what_was_destroyed_does_not_come_back_with_the_power() {
    survives("destroy", &destroying(), &gone_for_good);
}

type IsRight = fn(usize, &Found) -> bool;
type Case = (&'static str, fn() -> Recording, IsRight);
type Carelessness<'a> = &'a dyn Fn(&mut Vec<Deed>);

fn without(deeds: &mut Vec<Deed>, is_left_out: impl Fn(&Deed) -> bool) {
    deeds.retain(|deed| !is_left_out(deed));
}

/// Writes to the file that is there, in place of a new one that gets its name.
fn in_place(deeds: &mut Vec<Deed>) {
    let renamed = |path: &Path| {
        deeds.iter().find_map(|deed| match deed {
            Deed::Rename { from, to } if from == path => Some(to.clone()),
            _ => None,
        })
    };
    let mut done = Vec::new();
    for deed in &*deeds {
        match deed {
            Deed::Open { path, inode, .. } => {
                let path = renamed(path).unwrap_or_else(|| path.clone());
                done.push(Deed::Open { path, inode: *inode, truncates: true });
            }
            Deed::Rename { .. } => {}
            deed => done.push(deed.clone()),
        }
    }
    *deeds = done;
}

#[test]
fn carelessness_is_seen() {
    let no_sync = |deeds: &mut Vec<Deed>| without(deeds, |deed| matches!(deed, Deed::Sync { .. }));
    let no_names =
        |deeds: &mut Vec<Deed>| without(deeds, |deed| matches!(deed, Deed::SyncDirectory { .. }));
    let recordings: &[Case] = &[
        ("next", second_snapshot, old_or_new),
        #[cfg(feature = "json")]
        ("document", second_document, old_or_new),
        ("rebuild", rebuilding, kept_old_or_new),
        ("destroy", destroying, gone_for_good),
    ];
    let careless: [(&str, Carelessness<'_>); 3] =
        [("files unsynced", &no_sync), ("names unsynced", &no_names), ("in place", &in_place)];
    for (name, recording, is_right) in recordings.iter().copied() {
        for (what, carelessness) in careless {
            let mut recording = recording();
            carelessness(&mut recording.deeds);
            let seen = recording.cut(&is_right);
            assert!(seen.is_err(), "{name}, {what}: not seen in {seen:?} cuts");
        }
    }
}
