//! The power goes, at every moment of what a journal does to files.
//!
//! A random history of writes, turns, snapshots, restores, deaths of the keeper, failed calls and new lives is
//! recorded. Then the disk loses what it may (`power_tests/disk_tests`), after each of the deeds, and what is loaded must be the
//! state as of one moment of the history: of none before what had been told to be durable.
//!
//! | variable | what | default |
//! | --- | --- | --- |
//! | `MEMBUS_CUTS` | power cuts for each way to sync | 1,000 |
//! | `MEMBUS_CUTS_SEED` | the seed, as it was told | a fresh one |
//!
//! Plants seen to fail here: a restore that is passed over; files or names that are not synced (`carelessness_is_seen`); and
//! what the code had when the seeds below were found.

use super::super::options::Options;
use super::super::power_tests::disk_tests::{Dice, Disk};
use super::super::power_tests::{State, load_values, number_of};
use super::keep::Journaler;
use super::*;
use crate::sys::seam::{Deed, failing, note, recorded};
use crate::{Batch, Persist, ReadBus};

/// Steps of a history.
const STEPS: usize = 60;
/// Cuts of one history.
const CUTS: u64 = 200;

/// What happened, and what had been promised at each mark: the number of a state.
struct History {
    place: tempfile::TempDir,
    sync: JournalSync,
    dice: Dice,
    bus: Option<Bus>,
    journaler: Journaler,
    /// Each state with the revision that it is of, in this life.
    states: Vec<(u64, State)>,
    /// The first state of this life.
    first: usize,
    promised: Vec<usize>,
}

impl History {
    fn new(sync: JournalSync, seed: u64) -> Self {
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        std::fs::create_dir(place.path().join("disk")).unwrap();
        let journaler = Journaler::new(PathBuf::new(), sync);
        let (dice, states, promised) = (Dice(seed), Vec::new(), vec![0]);
        let mut this = Self { place, sync, dice, bus: None, journaler, states, first: 0, promised };
        this.open();
        this
    }

    fn disk(&self) -> PathBuf {
        self.place.path().join("disk")
    }

    fn at(&self) -> PathBuf {
        self.place.path().join("bus")
    }

    fn options(&self) -> Options {
        let options = Bus::options().keeper(false).state(self.disk().join("state")).keep(2);
        let options = options.max_capacity(4 << 20).capacity(0).log_size(1 << 15);
        options.journal(self.sync).durability(Durability::Visible)
    }

    fn bus(&self) -> Bus {
        self.bus.clone().unwrap()
    }

    fn open(&mut self) {
        self.bus = Some(self.options().open_at(self.at()).unwrap());
        self.first = self.states.len();
        self.keep_anew();
        self.note_state();
    }

    /// The keeper dies, and another one comes.
    fn keep_anew(&mut self) {
        let (directory, _) = self.bus().inner.saving.journaling.place.clone().unwrap();
        self.journaler = Journaler::new(directory, self.sync);
    }

    fn note_state(&mut self) {
        let bus = self.bus();
        let entries = bus.scan_entries("").map(|entry| entry.unwrap());
        let state = entries.map(|entry| (entry.key.to_vec(), entry.value)).collect();
        self.states.push((bus.inner.core.head().unwrap(), state));
    }

    /// What is durable by now stays.
    fn promise(&mut self) {
        let bus = self.bus();
        let word = |at| bus.inner.core.region.load(at, Acquire).unwrap();
        let durable = word(header::JOURNALED).max(word(header::SNAPSHOT_REVISION));
        let of_life = self.states.iter().enumerate().skip(self.first);
        let durable =
            of_life.filter(|(_, (revision, _))| *revision <= durable).map(|s| s.0).next_back();
        // In a new life: what it began with was on the disk.
        self.promised.push(durable.unwrap_or(self.first));
        note(|| Deed::Mark);
    }

    fn write(&mut self) {
        let bus = self.bus();
        let key = format!("k{}", self.dice.below(6));
        match self.dice.below(9) {
            0..3 => drop(bus.set_bytes(key, [self.dice.below(256) as u8; 20]).unwrap()),
            3 | 4 => drop(bus.set_bytes(key, vec![self.dice.below(256) as u8; 3000]).unwrap()),
            5 => drop(bus.delete(key).unwrap()),
            6 if self.dice.below(4) == 0 => drop(bus.clear().unwrap()),
            _ => {
                let mut batch = Batch::new();
                batch.set_bytes("one", [1; 9]).add("sum", 1).delete(key);
                bus.commit(&batch).unwrap();
            }
        }
        self.note_state();
    }

    fn step(&mut self) {
        let bus = self.bus();
        match self.dice.below(40) {
            0..20 => self.write(),
            20..31 => {
                if self.sync == JournalSync::System && self.dice.below(2) == 0 {
                    bus.inner.core.ask_journal().unwrap();
                }
                self.journaler.turn_and_clean(&bus.inner).unwrap();
            }
            31..33 => drop(bus.snapshot().unwrap()),
            33 => self.keep_anew(),
            34 | 35 => {
                bus.inner.core.ask_journal().unwrap();
                let n = self.dice.below(6) as u64;
                let (end, _) = failing(n, libc::EIO, || self.journaler.turn_and_clean(&bus.inner));
                if let Err(error) = end {
                    self.journaler.fail(&bus.inner, &error);
                }
            }
            36 => {
                let backup = Persist::Image(self.place.path().join("backup"));
                let backup = backup.backend(1).unwrap().unwrap();
                bus.backup(&*backup).unwrap();
                self.write();
                bus.restore(&*backup, "").unwrap();
                self.note_state();
            }
            // More than the log holds.
            37 => {
                for _ in 0..20 {
                    bus.set_bytes("much", [2; 1000]).unwrap();
                    bus.set_bytes("more", [2; 1000]).unwrap();
                }
                self.note_state();
            }
            _ => {
                drop(bus);
                self.bus = None;
                std::fs::remove_dir_all(self.at()).unwrap();
                self.open();
            }
        }
        self.promise();
    }

    fn load(&self) -> Result<State, String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let (state, at) = (self.disk().join("state"), self.at());
        let images = config::default_persist(&state, &at).map_err(|error| said(&error))?;
        let snapshots = images.backend(1).unwrap().unwrap();
        let journal = config::journal(&state, &at).map_err(|error| said(&error))?;
        let past = Past { snapshots, journal, until: Until::Newest };
        let found = load_values(&past).map_err(|error| said(&error))?;
        Ok(found.map(|found| found.1).unwrap_or_default())
    }
}

/// Cuts the power again and again after a random history; `change` may make its deeds careless.
fn cut(
    sync: JournalSync,
    seed: u64,
    cuts: u64,
    change: &dyn Fn(&mut Vec<Deed>),
) -> Result<(), String> {
    let mut history = History::new(sync, seed);
    let before = Disk::of(&history.disk());
    let (mut deeds, ()) = recorded(|| (0..STEPS).for_each(|_| history.step()));
    history.bus = None;
    change(&mut deeds);
    for number in 0..cuts {
        let after = number as usize * (deeds.len() + 1) / cuts as usize;
        let mut disk = before.clone();
        deeds[..after].iter().for_each(|deed| disk.replay(deed));
        disk.cut(&mut Dice(seed + number));
        let marks = deeds[..after].iter().filter(|deed| **deed == Deed::Mark).count();
        let what = format!("MEMBUS_CUTS_SEED={seed}, {sync}, cut {number}, after {after} deeds");
        let found = history.load().map_err(|error| format!("{what}: {error}"))?;
        let promised = history.promised[marks];
        if !history.states[promised..].iter().any(|(_, state)| *state == found) {
            let told = history.states.iter().map(|(revision, state)| (revision, state.len()));
            let told: Vec<_> = told.collect();
            let was = history.states.iter().position(|(_, state)| *state == found);
            return Err(format!("{what}: {promised} promised, found {was:?} of {told:?}"));
        }
    }
    Ok(())
}

fn cut_all(sync: JournalSync) {
    let seed = number_of("MEMBUS_CUTS_SEED");
    let seed = seed.unwrap_or_else(|| crate::sys::process::random().unwrap() >> 16);
    let cuts = number_of("MEMBUS_CUTS").unwrap_or(1000);
    for history in 0..cuts.div_ceil(CUTS) {
        cut(sync, seed + 1000 * history, CUTS, &|_| ()).unwrap_or_else(|error| panic!("{error}"));
    }
    crate::earned(cuts.div_ceil(CUTS) * CUTS, "power cuts of a journal");
}

#[test]
fn a_journal_that_is_always_synced_survives_power_cuts() {
    cut_all(JournalSync::Always);
}

#[test]
fn a_journal_that_is_synced_every_so_often_survives_power_cuts() {
    cut_all(JournalSync::Every(Duration::from_millis(10)));
}

#[test]
fn a_journal_that_the_system_writes_survives_power_cuts() {
    cut_all(JournalSync::System);
}

/// Seeds that found something. A bus is built from a journal whose writer had died before its sync; a keeper goes on
/// after what another one had only written; a directory is there whose name is not on the disk.
#[test]
fn what_was_found_once_is_not_found_again() {
    for (sync, seed) in [
        (JournalSync::System, 173_991_158_086_653),
        (JournalSync::System, 161_511_635_566_162),
        (JournalSync::Always, 223_241_189_133_229),
    ] {
        cut(sync, seed, CUTS, &|_| ()).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn carelessness_is_seen() {
    let leave_out = |deeds: &mut Vec<Deed>, is_left: fn(&Deed) -> bool| {
        deeds.retain(|deed| !is_left(deed));
    };
    let unsynced =
        |deeds: &mut Vec<Deed>| leave_out(deeds, |deed| matches!(deed, Deed::Sync { .. }));
    let unnamed =
        |deeds: &mut Vec<Deed>| leave_out(deeds, |deed| matches!(deed, Deed::SyncDirectory { .. }));
    for carelessness in [&unsynced as &dyn Fn(&mut Vec<Deed>), &unnamed] {
        let seen = (0..20).any(|seed| cut(JournalSync::Always, seed, CUTS, carelessness).is_err());
        assert!(seen, "not seen");
    }
}
