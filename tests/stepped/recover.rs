//! What is demanded of every state that a death may leave.

use crate::operations::Operation;
use crate::stage::{self, Workshop, bus_at};
use crate::trace::{Look, names};
use membus::{Batch, Bus, BusReader, ChangeKind, ChangeValue, Cursor, Event, ReadBus, Watch};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

pub(crate) type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// A state of the files, after so many steps.
pub(crate) struct Found {
    pub(crate) step: u64,
    pub(crate) look: Look,
}

/// What there was before an operation, and what it changes.
pub(crate) struct Recovery<'a> {
    operation: &'static Operation,
    shop: &'a Workshop,
    old: State,
    new: State,
    began: Cursor,
}

/// What a bus holds, but for what goes with its owner.
pub(crate) fn state(bus: &impl ReadBus) -> State {
    let entries = bus.scan_entries("").map(Result::unwrap);
    entries.filter(|e| !e.stat.ephemeral).map(|e| (e.key.to_vec(), e.value)).collect()
}

/// What the log says became of `old`, and how many changes it tells.
fn replay(mut watch: Watch, old: &State, bus: &impl ReadBus) -> (State, u64) {
    let (mut state, mut count) = (old.clone(), 0);
    while let Some(event) = watch.try_recv().unwrap() {
        match event {
            Event::Change(change) => {
                count += 1;
                let key = change.key.to_vec();
                match (change.kind, change.value) {
                    (ChangeKind::Set, ChangeValue::Here(value)) => drop(state.insert(key, value)),
                    (ChangeKind::Delete | ChangeKind::Expire, _) => drop(state.remove(&key)),
                    (ChangeKind::Clear, _) => state.clear(),
                    other => panic!("{other:?} of {key:?}"),
                }
            }
            // More changes than the log can hold; what there is now must do.
            Event::Lagged { missed, .. } => {
                count += missed;
                state = self::state(bus);
            }
            Event::CaughtUp(_) => {}
            other => panic!("{other:?}"),
        }
    }
    state.retain(|key, _| !key.starts_with(b"mine "));
    (state, count)
}

/// Files that a dead process left.
fn lay_out(look: &Look, from: &Workshop, to: &Path) {
    let (from, to) = (bus_at(from.place.path()), bus_at(to));
    std::fs::create_dir_all(to.join("bell")).unwrap();
    for directory in [to.clone(), to.join("bell")] {
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o700)).unwrap();
    }
    std::fs::copy(from.join("members"), to.join("members")).unwrap();
    std::fs::write(to.join("region"), &look.region).unwrap();
    std::fs::set_permissions(to.join("region"), PermissionsExt::from_mode(0o600)).unwrap();
    for name in &look.bells {
        std::fs::write(to.join("bell").join(name), "").unwrap();
    }
}

impl<'a> Recovery<'a> {
    /// Of a victim that stands before the operation.
    pub(crate) fn new(operation: &'static Operation, shop: &'a Workshop, before: Look) -> Self {
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        lay_out(&before, shop, place.path());
        let reader = BusReader::open_at(bus_at(place.path())).unwrap();
        let (old, info) = (state(&reader), reader.info().unwrap());
        let began = Cursor { incarnation: info.incarnation, revision: info.revision };
        let mut new = old.clone();
        (operation.change)(&mut new);
        Self { operation, shop, old, new, began }
    }

    /// After the whole operation its change is there.
    pub(crate) fn end(&self, after: Look) {
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        lay_out(&after, self.shop, place.path());
        let reader = BusReader::open_at(bus_at(place.path())).unwrap();
        assert_eq!(state(&reader), self.new, "{}: what was to be done", self.operation.name);
    }

    /// Old or new, and nothing in between; `seen` says which a reader saw before.
    fn expect(&self, bus: &impl ReadBus, (now, count): (State, u64), head: u64, what: &str) {
        let there = state(bus);
        assert_eq!(now, there, "{what}: the log says one thing, the table another");
        assert_eq!(head, self.began.revision + count, "{what}: changes in the log");
        let is_whole = there == self.old || there == self.new;
        assert!(is_whole || !self.operation.is_one, "{what}: a state that never was");
    }

    /// Readers see a state that was, the bus recovers, and is as good as any.
    pub(crate) fn whole(&self, found: &Found) {
        let what = format!("{}, killed after {} steps", self.operation.name, found.step);
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        lay_out(&found.look, self.shop, place.path());
        let path = bus_at(place.path());
        let reader = BusReader::open_at(&path).unwrap_or_else(|e| panic!("{what}: {e}"));
        let told = replay(reader.watch_from("", self.began).unwrap(), &self.old, &reader);
        let seen = reader.info().unwrap().revision;
        self.expect(&reader, told, seen, &format!("{what}: a reader"));

        let options = stage::options(place.path()).deadline(Duration::from_secs(30));
        let bus = options.attach_at(&path).unwrap_or_else(|e| panic!("{what}: {e}"));
        let told = replay(bus.watch_from("", self.began).unwrap(), &self.old, &bus);
        let info = bus.info().unwrap();
        assert!(info.revision >= seen, "{what}: what was seen is gone");
        self.expect(&bus, told, info.revision, &what);
        clean(&bus, &what);
        assert_eq!((info.members, info.watches), (1, 0), "{what}: members and watches");
        assert_eq!(names(&path.join("bell")), [""; 0], "{what}: sockets of the dead");
        let owned = |key: &[u8]| bus.stat(key).unwrap().is_some_and(|stat| stat.ephemeral);
        assert!(!bus.keys("").unwrap().iter().any(|key| owned(key)), "{what}: keys of the dead");
        goes_on(&bus, &what);
    }
}

pub(crate) fn clean(bus: &Bus, what: &str) -> membus::CheckReport {
    let report = bus.check();
    assert!(report.is_clean() && report.locks_held == 0, "{what}: {report:?}");
    report
}

/// Every kind of write does its work, is told to who watches, and no byte is lost to the dead.
pub(crate) fn goes_on(bus: &Bus, what: &str) {
    let mut watch = bus.watch("w").unwrap();
    while watch.try_recv().unwrap().is_some() {}
    bus.set_bytes("w", "1").unwrap();
    let told = watch.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(matches!(told, Some(Event::Change(_))), "{what}: {told:?}");
    drop(watch);
    bus.set_bytes("k3", [3; 40]).unwrap();
    let n = bus.get::<i64>("n").unwrap().unwrap_or(0);
    assert_eq!(bus.add("n", 1).unwrap(), n + 1, "{what}");
    let mut batch = Batch::new();
    batch.set_bytes("k4", [4; 50]).delete("k3").set_bytes("k5", [5; 40]);
    bus.commit(&batch).unwrap();
    assert_eq!(bus.get_bytes("k3").unwrap(), None, "{what}");
    assert_eq!(bus.get_bytes("k4").unwrap(), Some(vec![4; 50]), "{what}");
    // Before it says that it is full, all room that may be had has been looked for.
    let fill = || (0..).take_while(|n| bus.set_bytes(format!("w{n}"), vec![1; 500_000]).is_ok());
    fill().count();
    assert_eq!(clean(bus, what).retired, 0, "{what}: dead entries that nobody frees");
    bus.clear().unwrap();
    assert!(bus.is_empty().unwrap(), "{what}");
    assert!(fill().count() >= 2, "{what}: room after a clear");
    let report = clean(bus, what);
    assert_eq!((report.retired, report.entries), (0, bus.len().unwrap()), "{what}");
}
