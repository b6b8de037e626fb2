//! Promise "durable as asked", of the journal: what was synced comes back, and nothing that was never there.

use super::super::testing::Place;
use super::collect::{Collected, Collector};
use super::keep::Journaler;
use super::*;
use crate::backend::conformance_tests::load;
use crate::journal::segments;
use crate::snapshot_entry::SnapshotEntry;
use crate::sys::seam::failing;
use crate::{Batch, Persist, ReadBus};
use std::collections::BTreeMap;

const SYNC: JournalSync = JournalSync::Always;

/// Key → what a snapshot says of it.
type State = BTreeMap<Vec<u8>, SnapshotEntry>;

fn by_key(entries: Vec<SnapshotEntry>) -> State {
    let count = entries.len();
    let state: State = entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    assert_eq!(state.len(), count, "a key twice");
    state
}

fn collect(from: &dyn Backend) -> State {
    by_key(load(from).unwrap().map(|found| found.1).unwrap_or_default())
}

/// A bus whose journal is kept by hand.
struct Kept {
    place: Place,
    /// Where its snapshots go.
    persist: Persist,
    bus: Option<Bus>,
    journaler: Journaler,
}

impl Kept {
    fn new() -> Self {
        let place = Place::new();
        let persist = config::default_persist(&place.state(), &place.bus()).unwrap();
        Self::of(place, persist)
    }

    /// One for each backend that keeps older snapshots in files.
    fn of_each() -> Vec<Self> {
        let kept = vec![Self::new()];
        #[cfg(feature = "json")]
        let kept = {
            let place = Place::new();
            let document = Persist::Json(place.path().join("state.json"));
            kept.into_iter().chain([Self::of(place, document)]).collect()
        };
        kept
    }

    fn of(place: Place, persist: Persist) -> Self {
        let journaler = Journaler::new(directory(&place), SYNC);
        let mut kept = Self { place, persist, bus: None, journaler };
        kept.open();
        kept
    }

    fn open(&mut self) {
        let options = self.place.options().keep(2).log_size(1 << 16);
        let options = options.persist(self.persist.clone());
        let options = options.journal(SYNC).durability(Durability::Visible);
        self.bus = Some(options.open_at(self.place.bus()).unwrap());
        self.journaler = Journaler::new(directory(&self.place), SYNC);
    }

    fn bus(&self) -> &Bus {
        self.bus.as_ref().unwrap()
    }

    fn turn(&mut self) {
        let bus = self.bus.as_ref().unwrap();
        self.journaler.turn_and_clean(&bus.inner).unwrap();
    }

    fn journaled(&self) -> u64 {
        self.bus().inner.core.region.load(header::JOURNALED, Acquire).unwrap()
    }

    fn head(&self) -> u64 {
        self.bus().inner.core.head().unwrap()
    }

    /// What is there, as a snapshot says it.
    fn state(&self) -> State {
        let images = self.place.path().join("look");
        let images = Persist::Image(images).backend(1).unwrap().unwrap();
        self.bus().backup(&*images).unwrap();
        collect(&*images)
    }

    /// The power is cut, and the bus built anew.
    fn lose(&mut self) {
        self.bus = None;
        std::fs::remove_dir_all(self.place.bus()).unwrap();
        self.open();
    }

    /// Damages the newest snapshot; there are two.
    fn damage_newest(&self) {
        let newest = match &self.persist {
            Persist::Image(images) => {
                let names = std::fs::read_dir(images).unwrap();
                let mut names: Vec<_> = names.map(|entry| entry.unwrap().path()).collect();
                names.sort();
                assert_eq!(names.len(), 2);
                names.remove(1)
            }
            #[cfg(feature = "json")]
            Persist::Json(document) => document.clone(),
            other => panic!("{other:?}"),
        };
        std::fs::write(newest, b"damaged").unwrap();
    }

    fn past(&self, until: Until) -> Past {
        let saving = &self.bus().inner.saving;
        saving.journaling.past(saving.backend.as_ref().unwrap(), until).unwrap()
    }
}

fn directory(place: &Place) -> PathBuf {
    config::journal(&place.state(), &place.bus()).unwrap()
}

/// Entries with deadlines differ by the time that it takes to store them.
fn rounded(mut state: State) -> State {
    for entry in state.values_mut().filter(|entry| entry.expires != 0) {
        entry.expires = entry.expires / 60_000_000_000 + 1;
    }
    state
}

/// All that a bus can be told.
fn fill(bus: &Bus) {
    bus.set("structure", &("a", 1)).unwrap();
    bus.put("bytes").who("somebody").set_bytes([7; 100]).unwrap();
    bus.set_bytes("large", vec![8; 50_000]).unwrap();
    bus.add("counter", -5).unwrap();
    bus.put("timed").ttl(Duration::from_secs(3600)).set(&1).unwrap();
    bus.set("ended", &1).unwrap();
    bus.delete("ended").unwrap();
    bus.set("covered", &1).unwrap();
    bus.put("covered").ephemeral().set(&2).unwrap();
    bus.publish("topic", &1).unwrap();
    let _lock = bus.try_lock("lock").unwrap();
    let mut batch = Batch::new();
    batch.set("one", &1).unwrap().set_bytes("two", vec![2; 3000]).delete("bytes");
    bus.commit(&batch).unwrap();
}

/// Plants: a deadline that is not told; a large value taken from the record; an ephemeral key that is left as it was; a
/// clear that leaves what the snapshot has; no second life (`continues` as in the same).
#[test]
fn all_that_was_journaled_comes_back_in_each_life() {
    let mut kept = Kept::new();
    for life in 0..3 {
        fill(kept.bus());
        kept.turn();
        let mut before = rounded(kept.state());
        assert!(!before.contains_key(&b"covered"[..]) && before.len() >= 6, "{before:?}");
        kept.lose();
        assert_eq!(rounded(kept.state()), before, "life {life}");
        if life == 1 {
            kept.bus().snapshot().unwrap();
            kept.bus().clear().unwrap();
            kept.bus().set("after the clear", &1).unwrap();
            kept.turn();
            before = kept.state();
            kept.lose();
            assert_eq!(kept.state(), before);
        }
    }
}

/// Plant: a group that ends where a value is missing.
#[test]
fn a_value_that_was_replaced_before_it_was_read_is_not_missed() {
    let mut kept = Kept::new();
    for round in 0..5_u8 {
        kept.bus().set_bytes("large", vec![round; 5000]).unwrap();
        kept.bus().set("small", &round).unwrap();
        kept.bus().put("timed").ttl(Duration::from_secs(600)).set(&round).unwrap();
    }
    kept.bus().set_bytes("gone", vec![1; 5000]).unwrap();
    kept.bus().delete("gone").unwrap();
    kept.turn();
    let head = kept.head();
    assert_eq!(kept.journaled(), head);
    // Nobody had the values between: there is no such state to go back to.
    let middle = Revision::new(kept.bus().inner.core.geometry.first_revision + 7).unwrap();
    let (loaded, found) = load(&kept.past(Until::Revision(middle.get()))).unwrap().unwrap();
    assert!(loaded.head.revision < middle.get() && found.is_empty(), "{loaded:?}");
    let before = rounded(kept.state());
    kept.lose();
    assert_eq!(rounded(kept.state()), before);
}

/// Plants: a chain that counts before its snapshot; what the log lost is not minded.
#[test]
fn what_the_log_lost_waits_for_a_snapshot() {
    let mut kept = Kept::new();
    kept.bus().set("k", &0).unwrap();
    kept.turn();
    let journaled = kept.journaled();
    let before = kept.state();
    for number in 0..2000 {
        kept.bus().set_bytes(format!("k{}", number % 10), [1; 100]).unwrap();
    }
    kept.turn();
    kept.bus().set("after", &1).unwrap();
    kept.turn();
    assert_eq!(kept.journaled(), journaled, "there is no snapshot yet");
    let wanted = kept.bus().inner.core.region.load(header::SNAPSHOT_WANTED, Acquire).unwrap();
    assert!(wanted > journaled);
    assert_eq!(collect(&kept.past(Until::Newest)), before);
    kept.bus().snapshot().unwrap();
    kept.bus().set("at last", &1).unwrap();
    kept.turn();
    assert_eq!(kept.journaled(), kept.head());
    let before = kept.state();
    kept.lose();
    assert_eq!(kept.state(), before);
}

/// Promise: a rate for the disk's sake holds nobody up who waits for the journal.
/// Plant: the rate as it is, until somebody else wants to take a snapshot.
#[test]
fn a_restore_waits_for_no_rate() {
    let place = Place::new();
    let options = place.options().max_capacity(64 << 20).keeper(true).snapshot_rate(100_000);
    let bus = options.journal(JournalSync::Always).create_at(place.bus()).unwrap();
    for number in 0..40 {
        bus.set_bytes(format!("k{number}"), vec![1; 100_000]).unwrap();
    }
    let backup = Persist::Image(place.path().join("backup")).backend(1).unwrap().unwrap();
    bus.backup(&*backup).unwrap();
    let restored = bus.restore(&*backup, "backup").unwrap();
    assert!(bus.sync().unwrap() >= Some(restored.revision));
    bus.set("k", &1).unwrap();
}

/// Plant: a restore that is passed over like a message.
#[test]
fn a_restore_waits_for_a_snapshot() {
    let mut kept = Kept::new();
    kept.bus().set("old", &1).unwrap();
    let backup = Persist::Image(kept.place.path().join("backup")).backend(1).unwrap().unwrap();
    kept.bus().backup(&*backup).unwrap();
    kept.bus().set("new", &1).unwrap();
    kept.turn();
    let before = kept.state();
    kept.bus().restore(&*backup, "backup").unwrap();
    kept.bus().set("later", &1).unwrap();
    kept.turn();
    assert_eq!(collect(&kept.past(Until::Newest)), before);
    kept.bus().snapshot().unwrap();
    kept.turn();
    let before = kept.state();
    assert!(before.contains_key(&b"later"[..]) && !before.contains_key(&b"new"[..]));
    kept.lose();
    assert_eq!(kept.state(), before);
}

/// Plants: a new keeper that goes on in the file that is there; a torn group that counts.
#[test]
fn a_keeper_that_dies_in_a_group_is_followed_by_the_next() {
    let mut kept = Kept::new();
    for round in 0..20_u8 {
        kept.bus().set("k", &round).unwrap();
        kept.turn();
        // The next one is cut short: by a byte, by most of it.
        let directory = directory(&kept.place);
        let last = *segments::sequences(&directory).unwrap().last().unwrap();
        let path = directory.join(format!("{last:016x}.journal"));
        kept.bus().set("k", &(100 + round)).unwrap();
        let whole = std::fs::metadata(&path).unwrap().len();
        kept.turn();
        let longer = std::fs::metadata(&path).unwrap().len();
        let torn = longer - 1 - u64::from(round) % (longer - whole);
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(torn).unwrap();
        let region = &kept.bus().inner.core.region;
        region.store(header::JOURNALED, kept.head() - 1, Relaxed).unwrap();
        kept.journaler = Journaler::new(directory, SYNC);
        let found = collect(&kept.past(Until::Newest));
        assert_eq!(found[&b"k"[..]].value, rmp_serde::to_vec_named(&round).unwrap());
        kept.turn();
        let before = kept.state();
        assert_eq!(collect(&kept.past(Until::Newest)), before, "round {round}");
    }
    let before = kept.state();
    kept.lose();
    assert_eq!(kept.state(), before);
}

/// Each call of a turn fails in turn, with each error: what was journaled stays, and the next turns have all of it.
/// Plants: a segment that is written to again after its sync failed; `journaled` before the sync.
#[test]
fn whatever_call_fails_nothing_is_lost() {
    let mut kept = Kept::new();
    let errors = [libc::ENOSPC, libc::EIO, libc::EINTR, libc::EMFILE];
    let cases = errors.iter().flat_map(|errno| [(*errno, true), (*errno, false)]);
    let (mut failures, directory) = (0, directory(&kept.place));
    for (errno, is_first) in cases {
        for n in 0.. {
            kept.bus().set("k", &n).unwrap();
            if is_first {
                kept.journaler = Journaler::new(directory.clone(), SYNC);
            }
            let (journaled, bus) = (kept.journaled(), kept.bus().clone());
            let (end, came) = failing(n, errno, || kept.journaler.turn(&bus.inner));
            if let Err(error) = end {
                failures += 1;
                assert_eq!(kept.journaled(), journaled);
                kept.journaler.fail(&bus.inner, &error);
                kept.turn();
            }
            assert_eq!(kept.journaled(), kept.head());
            assert_eq!(collect(&kept.past(Until::Newest)), kept.state());
            if !came {
                break;
            }
        }
    }
    // A write that is interrupted goes on.
    assert!(failures > 30, "{failures}");
}

/// Plants: segments that go with the newest snapshot (the older one has nothing to build on); none that go; JSON's older
/// documents not told (`oldest` of none).
#[test]
fn what_no_snapshot_needs_is_removed_and_no_more() {
    Kept::of_each().into_iter().for_each(what_no_snapshot_needs_is_removed);
}

fn what_no_snapshot_needs_is_removed(mut kept: Kept) {
    let directory = directory(&kept.place);
    let count = || segments::sequences(&directory).unwrap().len();
    for round in 0..6 {
        kept.bus().set("k", &round).unwrap();
        kept.turn();
        kept.bus().snapshot().unwrap();
        kept.bus().set("behind", &round).unwrap();
        kept.turn();
        assert!(count() <= 3, "{} segments", count());
    }
    let before = kept.state();
    // The newest is damaged: the one before and the journal have as much.
    kept.damage_newest();
    kept.lose();
    assert_eq!(kept.state(), before);
    // And in the new life, with its own snapshot, the old ones' go.
    kept.bus().snapshot().unwrap();
    kept.turn();
    kept.bus().set("k", &9).unwrap();
    kept.bus().snapshot().unwrap();
    kept.turn();
    assert!(count() <= 3);
}

/// Plants: a cut in the middle of a batch; a limit that takes one more; times that are not looked at; of JSON the newest
/// document alone.
#[test]
fn each_state_that_was_there_can_be_gone_back_to() {
    Kept::of_each().into_iter().for_each(each_state_can_be_gone_back_to);
}

fn each_state_can_be_gone_back_to(mut kept: Kept) {
    let (mut states, mut oldest) = (vec![(kept.head(), State::new())], 0);
    for round in 0..30_u8 {
        match round % 5 {
            0 => drop(kept.bus().set(format!("k{round}"), &round).unwrap()),
            1 => drop(kept.bus().delete(format!("k{}", round - 1)).unwrap()),
            2 => drop(kept.bus().set_bytes("large", vec![round; 4000]).unwrap()),
            3 if round == 18 => drop(kept.bus().clear().unwrap()),
            _ => {
                let mut batch = Batch::new();
                batch.set("one", &round).unwrap().set("two", &round).unwrap().add("sum", 1);
                kept.bus().commit(&batch).unwrap();
            }
        }
        if round == 9 {
            oldest = kept.bus().snapshot().unwrap().revision;
        }
        if round == 20 {
            kept.bus().snapshot().unwrap();
        }
        kept.turn();
        states.push((kept.head(), kept.state()));
        std::thread::sleep(Duration::from_millis(1));
    }
    let at = |revision: u64| {
        let before = states.iter().rev().find(|(head, _)| *head <= revision);
        before.unwrap().clone()
    };
    assert!(load(&kept.past(Until::Revision(oldest - 1))).unwrap().is_none());
    for revision in oldest..=kept.head() {
        let (loaded, found) = load(&kept.past(Until::Revision(revision))).unwrap().unwrap();
        let (head, state) = at(revision);
        assert_eq!(loaded.head.revision, head, "at {revision}");
        assert!(by_key(found) == state, "at {revision}");
    }
    // By time as by revision: that of a state's newest entry.
    let (head, state) = states[24].clone();
    let time = state.values().map(|entry| entry.time).max().unwrap();
    assert_eq!(collect(&kept.past(Until::Time(time))), state);
    let revision = Revision::new(head).unwrap();
    let past = kept.bus().as_of_revision(revision).unwrap();
    kept.bus().restore(&*past, "as it was").unwrap();
    let values = |state: &State| -> BTreeMap<Vec<u8>, Vec<u8>> {
        state.iter().map(|(key, entry)| (key.clone(), entry.value.clone())).collect()
    };
    assert_eq!(values(&kept.state()), values(&state));
}

/// Plant: no look whether there is a journal.
#[test]
fn who_asks_for_durability_without_a_journal_is_told() {
    let place = Place::new();
    let bus = place.make();
    let end = bus.put("k").durability(Durability::Synced).set(&1);
    assert!(matches!(end, Err(WriteError::NoJournal { .. })), "{end:?}");
    assert!(bus.is_empty().unwrap() && bus.sync().is_err());
    let mut batch = Batch::new();
    batch.set("k", &1).unwrap().durability(Durability::Synced);
    assert!(bus.commit(&batch).is_err() && bus.is_empty().unwrap());
}

/// With a keeper: a write that waits returns when its change is on the disk; without one it says so.
/// Plants: no wait at all; a keeper that is not woken (it takes its pause each time).
#[test]
fn who_waits_is_told_when_it_is_durable() {
    let place = Place::new();
    let keeper = place.options().keeper(true).journal(JournalSync::Always);
    let keeper = keeper.create_at(place.bus()).unwrap();
    let other = place.options().deadline(Duration::from_millis(300)).open_at(place.bus()).unwrap();
    let word = |at| other.inner.core.region.load(at, Acquire).unwrap();
    for number in 0..50 {
        let revision = other.set("k", &number).unwrap();
        assert!(word(header::JOURNALED) >= revision.get());
    }
    let seen = other.put("k").durability(Durability::Visible).set(&0).unwrap();
    assert!(other.sync().unwrap() >= Some(seen));
    keeper.close().unwrap();
    let end = other.set("k", &1);
    assert!(matches!(end, Err(WriteError::NotDurable { .. })), "{end:?}");
    assert!(end.unwrap_err().to_string().contains("membus keep"));
    assert_eq!(other.get::<i32>("k").unwrap(), Some(1), "it was made");
}

/// A journal that falls behind holds writers up before the log overtakes it; without anybody who keeps it they go on.
/// Plants: no limit (the log overtakes it); a limit that outlives its keeper.
#[test]
fn writers_wait_for_the_journal_and_not_for_nobody() {
    let mut kept = Kept::new();
    kept.turn();
    let set = |bus: &Bus, number: u32| bus.set_bytes(format!("k{}", number % 9), [1; 200]);
    let bus = kept.bus().clone();
    let writer = std::thread::spawn(move || (0..3000).try_for_each(|n| set(&bus, n).map(drop)));
    while !writer.is_finished() {
        kept.turn();
        std::thread::sleep(Duration::from_millis(1));
    }
    writer.join().unwrap().unwrap();
    kept.turn();
    assert_eq!(kept.journaled(), kept.head(), "nothing was overtaken");
    let begun = std::time::Instant::now();
    (0..3000).try_for_each(|n| set(kept.bus(), n).map(drop)).unwrap();
    assert!(begun.elapsed() >= UNKEPT, "nobody held it up");
}

/// Plants: a setting that is not kept; one that is not compared.
#[test]
fn whether_there_is_a_journal_is_kept() {
    let place = Place::new();
    let every = JournalSync::Every(Duration::from_millis(20));
    drop(place.options().journal(every).create_at(place.bus()).unwrap());
    let other = place.options().journal(JournalSync::System).open_at(place.bus());
    assert!(matches!(other, Err(OpenError::Differs { setting: "journal", .. })), "{other:?}");
    std::fs::remove_dir_all(place.bus()).unwrap();
    let bus = place.options().open_at(place.bus()).unwrap();
    assert!(bus.inner.core.geometry.has_journal());
    drop(bus);
    place.options().destroy_at(place.bus(), false).unwrap();
    let bus = place.options().persist(Persist::None).journal(every).create_at(place.bus());
    assert!(matches!(bus, Err(OpenError::Setting { setting: "journal", .. })), "{bus:?}");
}

/// The groups of another bus.
fn foreign_groups() -> Vec<u8> {
    let mut other = Kept::new();
    for round in 0..40_u8 {
        other.bus().set("foreign", &round).unwrap();
        other.turn();
    }
    let directory = directory(&other.place);
    let first = segments::sequences(&directory).unwrap()[0];
    let bytes = std::fs::read(directory.join(format!("{first:016x}.journal"))).unwrap();
    bytes[88..].to_vec()
}

/// Promise "safe on bad bytes": of segments with any damage an error or a state that was there is loaded, never another
/// one, and nothing panics.
/// Plants: no checksum of a group; one that does not begin with its segment's; a length that is believed.
#[test]
fn damaged_segments_are_an_error_or_an_earlier_state() {
    let mut kept = Kept::new();
    let mut states = vec![State::new()];
    for round in 0..12_u8 {
        kept.bus().set(format!("k{}", round % 3), &round).unwrap();
        kept.bus().set_bytes("large", vec![round; 2000]).unwrap();
        kept.turn();
        states.push(kept.state());
        if round == 6 {
            kept.journaler = Journaler::new(directory(&kept.place), SYNC);
        }
    }
    let directory = directory(&kept.place);
    let mut names: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|e| e.unwrap().path()).collect();
    names.retain(|name| !name.ends_with("lock"));
    let foreign = foreign_groups();
    let whole: Vec<_> = names.iter().map(|name| std::fs::read(name).unwrap()).collect();
    let seed = crate::sys::process::random().unwrap();
    let mut random = seed | 1;
    let mut below = |end: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % end.max(1) as u64) as usize
    };
    for number in 0..1500 {
        let which = below(names.len());
        let mut bytes = whole[which].clone();
        match below(4) {
            0 => bytes.truncate(below(bytes.len())),
            1 => {
                let at = below(bytes.len());
                bytes[at] ^= 1 << below(8);
            }
            // Groups of another bus, whole: what a disk may have left in a file's blocks.
            2 => bytes.truncate(88),
            _ => {
                let at = below(bytes.len() - 8);
                bytes[at..at + 8].copy_from_slice(&[255; 8]);
            }
        }
        if bytes.len() == 88 {
            bytes.extend_from_slice(&foreign);
        }
        std::fs::write(&names[which], &bytes).unwrap();
        let found = load(&kept.past(Until::Newest));
        let state = found.map(|found| by_key(found.map(|found| found.1).unwrap_or_default()));
        assert!(state.is_err() || states.contains(&state.unwrap()), "seed {seed}, {number}");
        std::fs::write(&names[which], &whole[which]).unwrap();
    }
    assert_eq!(collect(&kept.past(Until::Newest)), kept.state());
    crate::earned(1500, "damaged segments of journals");
}

/// Promise: a life that is built while members of the last one still write loses nothing: these end first, and write
/// nothing more.
/// Plant: no claim by who builds: what the new life had journaled is passed over.
#[test]
fn members_of_the_last_life_write_nothing_into_the_next() {
    let place = Place::new();
    let options = || place.options().journal(JournalSync::Always).keeper(true);
    for life in 0..4 {
        let old = options().open_at(place.bus()).unwrap();
        old.set("old", &life).unwrap();
        std::thread::scope(|scope| {
            // It writes on until it notices.
            let writer = scope.spawn(|| (0..).take_while(|n| old.set("old", n).is_ok()).count());
            std::thread::sleep(Duration::from_millis(20));
            std::fs::remove_dir_all(place.bus()).unwrap();
            let new = options().open_at(place.bus()).unwrap();
            assert!(old.contains("old").is_err(), "its bus is gone");
            new.set("new", &life).unwrap();
            assert!(writer.join().unwrap() > 0);
            // The power is cut.
            let inner = Arc::clone(&new.inner);
            drop(new);
            let past =
                inner.saving.journaling.past(inner.saving.backend.as_ref().unwrap(), Until::Newest);
            let found = collect(&past.unwrap());
            assert_eq!(found[&b"new"[..]].value, rmp_serde::to_vec_named(&life).unwrap());
        });
        std::fs::remove_dir_all(place.bus()).unwrap();
    }
}

/// Plants: a group that ends where a value is missing; one that goes on to the head of the time, and not to what
/// replaced the value.
#[test]
fn a_group_goes_on_to_what_replaced_a_value() {
    let kept = Kept::new();
    kept.bus().set_bytes("large", vec![1; 5000]).unwrap();
    let then = kept.head();
    kept.bus().set("small", &1).unwrap();
    kept.bus().set_bytes("large", vec![2; 5000]).unwrap();
    let replaced = kept.head();
    kept.bus().set("later", &1).unwrap();
    let end = Collector::after(0).collect(&kept.bus().inner, then).unwrap();
    assert_eq!(end, Collected::Group(replaced));
    // What is gone altogether is gone by now: the group goes on to the head.
    kept.bus().delete("large").unwrap();
    let end = Collector::after(0).collect(&kept.bus().inner, then).unwrap();
    assert_eq!(end, Collected::Group(kept.head()));
}

/// Promise: who dies between its request and the wake-up hurries nobody, and costs the others a moment alone.
/// Plant: a keeper that sleeps for its whole interval.
#[test]
fn a_request_without_a_wake_up_is_found() {
    let place = Place::new();
    let sync = JournalSync::Every(Duration::from_secs(60));
    let options = place.options().keeper(true).journal(sync).durability(Durability::Synced);
    let bus = options.open_at(place.bus()).unwrap();
    bus.set("k", &1).unwrap();
    // It sleeps by now, or at least it may.
    std::thread::sleep(Duration::from_millis(50));
    // ORDERING: nothing is told by it here.
    bus.inner.core.region.half(header::JOURNAL_ASK).unwrap().store(1, Relaxed);
    bus.set("k", &2).unwrap();
}
