//! Backups into any backend, and restores: what a backend has takes the place of all there is.

use super::{content, quiet};
use crate::harness::actor::actor;
use crate::harness::part::{Part, say};
use crate::harness::{Place, Seed, assert_whole, eventually, heavy, parameter};
use membus::{
    Backend, BackendError, Bus, ChangeKind, ChangeValue, Cursor, Entry, Error, Event, Loaded,
    Notice, Persist, ReadBus, Saved, Sink, SnapshotEntry, SnapshotError, SnapshotHead, Source,
    Watch, WriteError,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn images(at: &Path) -> Arc<dyn Backend> {
    Persist::Image(at.to_owned()).backend(2).unwrap().unwrap()
}

/// What keys are worth, whatever their revisions.
fn values(bus: &Bus) -> Vec<(Vec<u8>, Vec<u8>)> {
    content(bus).into_iter().map(|(key, (_, value))| (key, value)).collect()
}

/// Promise (restore): it replaces what is there; kind, label, time and deadline of each entry are those of the
/// backup; locks stay, ephemeral keys go; what was replaced is saved and can be restored in turn.
/// Plants: no clear (what came after the backup stays); the time of the restore for that of the entry; a
/// restore without an image of what it replaces.
#[test]
fn a_restore_replaces_what_is_there() {
    let place = Place::new();
    let bus = quiet(&place);
    let backup = images(&place.path().join("backup"));
    let ttl = Duration::from_secs(1000);
    bus.set("text", &"old").unwrap();
    bus.put("number").who("somebody").set_counter(7).unwrap();
    bus.put("timed").ttl(ttl).set_bytes(b"t").unwrap();
    bus.put("mine").ephemeral().set_bytes(b"").unwrap();
    let before = ["text", "number", "timed"].map(|key| bus.stat(key).unwrap().unwrap());
    let saved = bus.backup(&*backup).unwrap();
    assert_eq!(saved.entries, 3);
    bus.set("text", &"new").unwrap();
    bus.delete("number").unwrap();
    bus.set("later", &1).unwrap();
    let lock = bus.lock("a lock").unwrap();
    let replaced = values(&bus);

    let restored = bus.restore(&*backup, "monday").unwrap();
    assert_eq!((restored.entries, restored.from.revision), (3, saved.revision));
    assert_eq!(bus.get::<String>("text").unwrap().unwrap(), "old");
    assert_eq!(bus.add("number", 1).unwrap(), 8);
    assert!(bus.get_bytes("later").unwrap().is_none() && bus.get_bytes("mine").unwrap().is_none());
    for (key, before) in ["text", "timed"].into_iter().zip([&before[0], &before[2]]) {
        let stat = bus.stat(key).unwrap().unwrap();
        assert_eq!((stat.kind, &stat.who, stat.time), (before.kind, &before.who, before.time));
        assert_eq!(stat.revision, restored.revision, "{key}");
        assert_eq!(stat.expires_in.is_some(), before.expires_in.is_some());
    }
    assert!(bus.try_lock("a lock").unwrap().is_none(), "locks are not restored away");
    drop(lock);
    assert_eq!(bus.metrics().unwrap().recovery.restores, 1);
    assert_whole(&bus);

    // A mistake: back again.
    let kept = restored.before.path.unwrap();
    bus.restore(&*images(kept.parent().unwrap()), "back").unwrap();
    let mut replaced = replaced;
    replaced.retain(|(key, _)| key != b"mine");
    assert_eq!(values(&bus), replaced);
    assert_whole(&bus);
}

/// Promise (watching): a watch is told of a restore, with the name it was given, and then of what is there, like
/// a new one; a conflated one is told what differs; a subscriber hears `data_restored`.
/// Plants: no listing behind the event; no record of the restore.
#[test]
fn watches_are_told_of_a_restore() {
    let place = Place::new();
    let bus = quiet(&place);
    let backup = images(&place.path().join("backup"));
    for key in ["k/a", "k/b", "other"] {
        bus.set_bytes(key, b"1").unwrap();
    }
    bus.backup(&*backup).unwrap();
    bus.set_bytes("k/b", b"2").unwrap();
    bus.set_bytes("k/c", b"2").unwrap();
    let mut watch = bus.watch("k/").unwrap();
    let mut conflated = bus.watch("k/").unwrap().conflated();
    let mut subscriber = bus.subscribe("data_restored").unwrap();
    for watch in [&mut watch, &mut conflated] {
        while watch.try_recv().unwrap().is_some() {}
    }
    let revision = bus.restore(&*backup, "json:/monday").unwrap().revision;
    bus.set_bytes("k/d", b"3").unwrap();

    let Some(Event::Change(change)) = watch.try_recv().unwrap() else { panic!("no change") };
    assert_eq!((change.kind, change.revision), (ChangeKind::Restore, revision));
    assert_eq!(change.value, ChangeValue::Here(b"json:/monday".to_vec()));
    let mut listed: Vec<_> = (0..2)
        .map(|_| match watch.try_recv().unwrap() {
            Some(Event::Current(entry)) => (entry.key.to_string(), entry.value),
            other => panic!("{other:?}"),
        })
        .collect();
    // The set that came after it may be listed, or told as a change behind the listing.
    let mut changes = 0;
    loop {
        match watch.try_recv().unwrap() {
            Some(Event::Current(entry)) => listed.push((entry.key.to_string(), entry.value)),
            Some(Event::Change(change)) => {
                changes += 1;
                assert_eq!(&*change.key, b"k/d");
            }
            Some(Event::CaughtUp(_)) => {}
            Some(other) => panic!("{other:?}"),
            None => break,
        }
    }
    listed.sort_unstable();
    let due = [("k/a", b"1"), ("k/b", b"1"), ("k/d", b"3")];
    assert_eq!((listed.len(), changes), (3, 0), "{listed:?}");
    assert!(listed.iter().zip(due).all(|(found, due)| found.0 == due.0 && found.1 == due.1));

    let mut known = std::collections::BTreeMap::from([("k/a", "1"), ("k/b", "2"), ("k/c", "2")])
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
        .collect::<std::collections::BTreeMap<_, _>>();
    let mut restores = 0;
    while let Some(event) = conflated.try_recv().unwrap() {
        let Event::Change(change) = event else { panic!("{event:?}") };
        match (change.kind, change.value) {
            (ChangeKind::Restore, _) => restores += 1,
            (ChangeKind::Set, ChangeValue::Here(value)) => {
                known.insert(change.key.to_string(), value);
            }
            _ => drop(known.remove(&change.key.to_string())),
        }
    }
    assert_eq!(restores, 1);
    assert_eq!(known.into_iter().collect::<Vec<_>>(), listed);
    assert_eq!(conflated.cursor(), watch.cursor());

    let Notice::Message(message) = subscriber.recv().unwrap() else { panic!("no message") };
    assert_eq!(
        (message.topic.as_str(), &message.payload[..]),
        ("data_restored", &b"json:/monday"[..])
    );
}

/// What a receiver holds that was told of a restore.
fn hold(held: &mut BTreeMap<Vec<u8>, Vec<u8>>, event: Event) {
    match event {
        Event::Current(Entry { key, value, .. }) => drop(held.insert(key.to_vec(), value)),
        Event::Change(change) => match (change.kind, change.value) {
            (ChangeKind::Set, ChangeValue::Here(value)) => {
                held.insert(change.key.to_vec(), value);
            }
            (ChangeKind::Delete, _) => drop(held.remove(&change.key.to_vec())),
            (ChangeKind::Restore, _) => {}
            other => panic!("{other:?}"),
        },
        Event::CaughtUp(_) => {}
        other => panic!("{other:?}"),
    }
}

/// Promise (watching): whoever goes on from the cursor of a watch, as it was after any of its events, is told
/// what a restore brought, which no record of its own tells.
/// Plants: a cursor behind the restore as soon as it was told, of either sort of watch; one behind the listing of a
/// conflated watch that began at a cursor, as soon as it was made.
#[test]
fn a_cursor_from_the_midst_of_a_restore_leads_back_to_it() {
    let place = Place::new();
    let bus = quiet(&place);
    let backup = images(&place.path().join("backup"));
    for number in 0..5 {
        bus.set_bytes(format!("k{number}"), b"1").unwrap();
    }
    bus.backup(&*backup).unwrap();
    bus.clear().unwrap();
    bus.set_bytes("new", b"2").unwrap();
    let now = || bus.watch_from("", Cursor::NOW).unwrap();
    let lists = || bus.watch("").unwrap();
    let mut watches = [lists(), lists().conflated(), now().conflated()];
    for watch in &mut watches {
        while watch.try_recv().unwrap().is_some() {}
    }
    bus.restore(&*backup, "").unwrap();
    let restored: BTreeMap<_, _> = values(&bus).into_iter().collect();
    for mut watch in watches {
        let mut cursors = vec![watch.cursor()];
        let mut held = BTreeMap::from([(b"new".to_vec(), b"2".to_vec())]);
        while let Some(event) = watch.try_recv().unwrap() {
            if matches!(&event, Event::Change(change) if change.kind == ChangeKind::Restore) {
                held.clear();
            }
            hold(&mut held, event);
            cursors.push(watch.cursor());
        }
        assert_eq!(held, restored);
        // The restore, five entries, and that all are told, or that the one before is gone.
        assert_eq!((cursors.len(), watch.cursor()), (8, now().cursor()), "{cursors:?}");
        let goes_on: [fn(Watch) -> Watch; 2] = [|watch| watch, Watch::conflated];
        // The last one was taken when all had been told.
        for (cursor, goes_on) in cursors[..7].iter().flat_map(|c| goes_on.map(|g| (*c, g))) {
            let mut next = goes_on(bus.watch_from("", cursor).unwrap());
            let mut held = BTreeMap::new();
            while let Some(event) = next.try_recv().unwrap() {
                hold(&mut held, event);
            }
            assert_eq!(held, restored, "{cursor}");
        }
    }
}

/// Promise (restore): what can not be restored changes nothing: an absent backup, a damaged one, one with an entry that
/// no bus has, one for which there is no room.
/// Plants: a clear before the backup is read; no look at lengths.
#[test]
fn a_restore_that_fails_changes_nothing() {
    let place = Place::new();
    let bus = place.small().keeper(false).open_at(place.bus()).unwrap();
    bus.set("there", &1).unwrap();
    let before = content(&bus);
    let unchanged = |error: SnapshotError| {
        assert_eq!(content(&bus), before, "{error}");
        assert_whole(&bus);
        error
    };
    let at = place.path().join("backup");
    let backup = images(&at);
    let error = unchanged(bus.restore(&*backup, "").unwrap_err());
    assert!(matches!(&error, SnapshotError::Absent { at } if at.contains("backup")), "{error}");

    bus.backup(&*backup).unwrap();
    let image = std::fs::read_dir(&at).unwrap().next().unwrap().unwrap().path();
    let good = std::fs::read(&image).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(&image, bad).unwrap();
    let error = unchanged(bus.restore(&*backup, "").unwrap_err());
    assert!(matches!(error, SnapshotError::Damaged { .. }), "{error}");

    // More than this bus may ever hold.
    let large = Place::new();
    let other = quiet(&large);
    for number in 0..300_u32 {
        other.set_bytes(number.to_le_bytes(), vec![7; 60_000]).unwrap();
    }
    let backup = images(&large.path().join("backup"));
    other.backup(&*backup).unwrap();
    let error = unchanged(bus.restore(&*backup, "").unwrap_err());
    let full = matches!(&error, SnapshotError::Write(WriteError::Full { .. }));
    assert!(full && Error::from(error).to_string().contains("16777216"), "not told what is there");
    other.set_bytes("huge", vec![7; 5 << 20]).unwrap();
    other.backup(&*backup).unwrap();
    let error = unchanged(bus.restore(&*backup, "").unwrap_err());
    let too_large = matches!(error, SnapshotError::Write(WriteError::ValueTooLarge { .. }));
    assert!(too_large, "{error}");
}

/// A backend that takes its time: a load that has begun goes on when it is told to.
#[derive(Debug)]
struct Slow {
    images: Arc<dyn Backend>,
    begun: SyncSender<()>,
    goes_on: Mutex<Receiver<()>>,
}

/// Waits at the beginning.
struct Waits<'a>(&'a Slow, &'a mut dyn Sink);

impl Sink for Waits<'_> {
    fn begin(&mut self, head: &SnapshotHead) -> Result<(), BackendError> {
        self.0.begun.send(()).unwrap();
        self.0.goes_on.lock().unwrap().recv().unwrap();
        self.1.begin(head)
    }
    fn entry(&mut self, entry: &SnapshotEntry) -> Result<(), BackendError> {
        self.1.entry(entry)
    }
}

impl Backend for Slow {
    fn save(&self, head: &SnapshotHead, from: &mut dyn Source) -> Result<Saved, BackendError> {
        self.images.save(head, from)
    }
    fn load(&self, sink: &mut dyn Sink) -> Result<Option<Loaded>, BackendError> {
        self.images.load(&mut Waits(self, sink))
    }
    fn exists(&self) -> Result<bool, BackendError> {
        self.images.exists()
    }
    fn delete(&self) -> Result<(), BackendError> {
        self.images.delete()
    }
}

/// Promise (restore): no writer waits for the backend that it comes from, however slow that is.
/// Method: each load of the backend stops at its beginning until a writer has changed every key.
/// Plant: a load with the locks held: a writer is told `Stalled`.
#[test]
fn writers_do_not_wait_for_a_slow_backend() {
    let place = Place::new();
    let options = place.options().keeper(false).deadline(Duration::from_millis(500));
    let bus = options.open_at(place.bus()).unwrap();
    let (begun, begins) = sync_channel(1);
    let (goes, goes_on) = sync_channel(1);
    let images = images(&place.path().join("backup"));
    let slow = Slow { images, begun, goes_on: Mutex::new(goes_on) };
    let keys = || (0..500).map(|number| format!("k{number}"));
    let write = |value: &[u8]| {
        for key in keys() {
            bus.set_bytes(key, value).unwrap();
        }
    };
    write(b"old");
    bus.backup(&slow).unwrap();
    std::thread::scope(|scope| {
        let restore = scope.spawn(|| bus.restore(&slow, "").unwrap());
        // Gone with a failure, or the load would wait for ever.
        let goes = goes;
        while !restore.is_finished() {
            if begins.recv_timeout(Duration::from_millis(5)).is_ok() {
                write(b"new");
                goes.send(()).unwrap();
            }
        }
        assert_eq!(restore.join().unwrap().entries, 500);
    });
    assert_eq!(values(&bus).len(), 500);
    assert_whole(&bus);
}

/// Keys of the two states that restores go to and fro between.
const KEYS: u32 = 2000;

/// A state: keys of its own, and keys that both have.
fn put(bus: &Bus, state: u8) {
    bus.clear().unwrap();
    for number in 0..KEYS {
        bus.set_bytes(format!("both/{number}"), vec![state; 60]).unwrap();
        bus.set_bytes(format!("{state}/{number}"), vec![state; 60]).unwrap();
    }
}

/// Which state a bus is in, whole; nothing when a change came meanwhile: a scan is not of one moment, and what a dead
/// restorer had committed is made visible by whoever comes next.
fn state_of(bus: &Bus) -> Option<u8> {
    let before = bus.info().unwrap().revision;
    let found = values(bus);
    let state = bus.get_bytes("both/0").unwrap().unwrap()[0];
    if bus.info().unwrap().revision != before {
        return None;
    }
    assert_eq!(found.len() as u32, 2 * KEYS, "of state {state}");
    let own = format!("{state}/").into_bytes();
    for (key, value) in found {
        assert!(value == [state; 60], "{}: of another state", key.escape_ascii());
        assert!(key.starts_with(b"both/") || key.starts_with(&own), "{}", key.escape_ascii());
    }
    Some(state)
}

/// Restores one state after the other, until it is killed.
pub(crate) fn restorer(part: &Part) {
    let bus = part.place.options().keeper(false).open_at(part.place.bus()).unwrap();
    let states = [1, 2].map(|state| images(&part.place.path().join(format!("state{state}"))));
    for turn in 0_usize.. {
        bus.restore(&*states[turn % 2], "").unwrap();
        if turn == 0 {
            say("restores");
        }
    }
}

/// Tells threads to end, also when the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Promise "robust": whoever is killed in a restore, at whatever moment, leaves one state or the other, whole;
/// and "readers never wait": meanwhile a key that both states have is never absent, and what is read is
/// of one of them.
/// Method: a process restores to and fro and is killed, again and again; threads read all the while.
/// Plant: the slot words before `READY`.
#[test]
fn a_killed_restore_leaves_one_state_whole() {
    let _alone = heavy();
    let seed = Seed::of("a_killed_restore_leaves_one_state_whole");
    let (mut rng, kills) = (seed.rng(), parameter("MEMBUS_IT_RESTORE_KILLS", 40));
    let place = Place::new();
    // With a keeper, which buries the dead.
    let bus = place.options().open_at(place.bus()).unwrap();
    for state in [1, 2] {
        put(&bus, state);
        bus.backup(&*images(&place.path().join(format!("state{state}")))).unwrap();
    }
    let ended = AtomicBool::new(false);
    let ends = Ends(&ended);
    let mut seen = [0; 3];
    std::thread::scope(|scope| {
        let ends = ends;
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut reads = 0_u64;
                    for number in (0..KEYS).cycle() {
                        let value = bus.get_bytes(format!("both/{number}")).unwrap();
                        let value = value.unwrap_or_else(|| panic!("both/{number} is absent"));
                        assert!(value == [1; 60] || value == [2; 60], "both/{number}: {value:?}");
                        reads += 1;
                        if ended.load(Relaxed) {
                            break;
                        }
                    }
                    reads
                })
            })
            .collect();
        for _ in 0..kills {
            let mut actor = actor("restorer", &place).start();
            actor.expect("restores");
            actor.kill_after(Duration::from_micros(rng.below(60_000)));
            let state = eventually("a state that nobody changes", || state_of(&bus));
            seen[usize::from(state)] += 1;
            assert_whole(&bus);
        }
        drop(ends);
        let reads: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        println!("{kills} restores killed, {reads} reads meanwhile; states {:?}", &seen[1..]);
    });
    assert!(seen[1] > 0 && seen[2] > 0, "{seen:?}");
}
