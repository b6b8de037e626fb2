//! The same sequence of operations on a bus and on the map; whatever differs is a failure.

use super::map::{Entry, Map, Refusal, Told};
use super::operations::{
    Action, Condition, HANDLES, Operation, Ttl, Update, Value, WATCHES, Wish, key, prefix,
};
use crate::harness::{Place, assert_whole};
use membus::{
    Batch, Bus, Change, ChangeValue, Cursor, Event, Kind, Put, ReadBus, Revision, Watch, WriteError,
};
use std::time::Duration;

/// What a watch has still to tell.
struct Watched {
    watch: Watch,
    prefix: Vec<u8>,
    /// The listing, unless it was taken.
    listed: Option<Vec<(Vec<u8>, Entry)>>,
    /// The last change that it need not tell.
    passed: u64,
    handle: usize,
}

struct Stage {
    place: Place,
    handles: Vec<Bus>,
    /// How many handles there were before each.
    generations: [u64; HANDLES],
    watches: [Option<Watched>; WATCHES],
    map: Map,
}

fn length(ttl: Ttl) -> Duration {
    match ttl {
        Ttl::Hour => Duration::from_secs(3600),
        Ttl::Moment => Duration::from_nanos(1),
    }
}

fn open(place: &Place, handle: usize) -> Bus {
    let options = place.small().keeper(false).label(&format!("h{handle}"));
    options.open_at(place.bus()).unwrap()
}

/// Runs a sequence on a new bus.
pub(super) fn run(sequence: &[Operation]) {
    let place = Place::new();
    let handles = (0..HANDLES).map(|handle| open(&place, handle)).collect();
    let (watches, map) = (std::array::from_fn(|_| None), Map::default());
    let mut stage = Stage { place, handles, generations: [0; HANDLES], watches, map };
    for operation in sequence {
        stage.operate(operation);
        assert_eq!(stage.handles[0].info().unwrap().revision, stage.map.head, "{operation:?}");
    }
    for watch in 0..WATCHES {
        stage.drain(watch);
    }
    for handle in 0..HANDLES {
        stage.scan(handle, &[]);
    }
    assert_whole(&stage.handles[0]);
}

/// A refusal of the bus, as the map has it.
fn refusal(error: &WriteError) -> Refusal {
    match error {
        WriteError::Conflict { found, .. } => Refusal::Conflict { found: found.map(Revision::get) },
        WriteError::NotACounter { .. } => Refusal::NotACounter,
        WriteError::Overflow { .. } => Refusal::Overflow,
        other => panic!("{other}"),
    }
}

impl Stage {
    fn operate(&mut self, operation: &Operation) {
        match operation {
            Operation::One { handle, wish, who } => self.one(*handle, wish, *who),
            Operation::Deadline { handle, key, ttl } => self.deadline(*handle, *key, *ttl),
            Operation::Update { handle, key, update } => self.update(*handle, *key, *update),
            Operation::Batch { handle, wishes, who } => self.batch(*handle, wishes, *who),
            Operation::Clear { handle } => {
                let revision = self.handles[*handle].clear().unwrap();
                assert_eq!(revision.get(), self.map.clear(&self.label(*handle)));
            }
            Operation::Read { handle, key: number } => self.read(*handle, &key(*number)),
            Operation::Scan { handle, prefix: number } => self.scan(*handle, &prefix(*number)),
            Operation::Watch { handle, watch, prefix: number, from } => {
                self.watch(*handle, *watch, prefix(*number), *from);
            }
            Operation::Drain { watch } => self.drain(*watch),
            Operation::Anew { handle } => self.anew(*handle),
            Operation::Lose { handle } => self.lose(*handle),
        }
    }

    fn label(&self, handle: usize) -> Option<String> {
        Some(format!("h{handle}"))
    }

    fn who(&self, handle: usize, other: bool) -> Option<String> {
        if other { Some("somebody".to_owned()) } else { self.label(handle) }
    }

    fn owner(&self, handle: usize) -> (usize, u64) {
        (handle, self.generations[handle])
    }

    fn one(&mut self, handle: usize, wish: &Wish, other: bool) {
        let (bus, name) = (&self.handles[handle], key(wish.key));
        let mut put = bus.put(&name);
        if other {
            put = put.who("somebody");
        }
        put = match wish.condition.map(|condition| self.map.named(&name, condition)) {
            None => put,
            Some(None) => put.if_absent(),
            Some(Some(revision)) => put.if_revision(Revision::new(revision).unwrap()),
        };
        let found = made(put, wish.action);
        let who = self.who(handle, other);
        let expected = self.map.change(std::slice::from_ref(wish), &who, self.owner(handle));
        match (&found, expected) {
            (Ok(Ok(revision)), Ok(expected)) => assert_eq!(revision.map(Revision::get), expected),
            (Ok(Err(value)), Ok(_)) => assert_eq!(self.map.get(&name).unwrap().counter(), *value),
            (Err(error), Err((0, expected))) => assert_eq!(refusal(error), expected, "{error}"),
            other => panic!("{wish:?}: {other:?}"),
        }
    }

    fn deadline(&mut self, handle: usize, number: u8, ttl: Option<Ttl>) {
        let found = self.handles[handle].expire(key(number), ttl.map(length)).unwrap();
        let expected = self.map.deadline(&key(number), ttl, &self.label(handle));
        assert_eq!(found.map(Revision::get), expected);
    }

    fn update(&mut self, handle: usize, number: u8, update: Update) {
        let (key, who) = (key(number), self.label(handle));
        let found = self.handles[handle].update(&key, |_: Option<i64>| match update {
            Update::Set(number) => membus::Update::Set(number),
            Update::Delete => membus::Update::Delete,
            Update::Keep => membus::Update::Keep,
        });
        if self.map.get(&key).is_some_and(|entry| entry.kind == Kind::Bytes) {
            assert!(matches!(found, Err(WriteError::Read(_))), "{found:?}");
            return;
        }
        match (found.unwrap(), update) {
            (membus::Updated::Set(value, revision), Update::Set(number)) => {
                assert_eq!(value, number);
                assert_eq!(self.map.replace(&key, number, &who), revision.get());
            }
            (membus::Updated::Deleted(revision), Update::Delete) => {
                assert_eq!(self.map.delete(&key, &who), Some(revision.get()));
            }
            (membus::Updated::Kept, Update::Delete) => assert!(self.map.get(&key).is_none()),
            (membus::Updated::Kept, Update::Keep) => {}
            other => panic!("{other:?}"),
        }
    }

    fn batch(&mut self, handle: usize, wishes: &[Wish], other: bool) {
        let mut batch = Batch::new();
        if other {
            batch.who("somebody");
        }
        for wish in wishes {
            let name = key(wish.key);
            let named = wish.condition.map(|condition| self.map.named(&name, condition));
            let named = named.map(|revision| revision.and_then(Revision::new));
            match (wish.action, named) {
                (Action::Require, Some(None)) => drop(batch.require_absent(&name).len()),
                (Action::Require, Some(Some(revision))) => {
                    batch.require_revision(&name, revision);
                }
                (action, named) => put_into(&mut batch, &name, action, named),
            }
        }
        let found = self.handles[handle].commit(&batch);
        let who = self.who(handle, other);
        match (found, self.map.change(wishes, &who, self.owner(handle))) {
            (Ok(revision), Ok(expected)) => assert_eq!(revision.map(Revision::get), expected),
            (Err(error), Err((index, expected))) => {
                assert_eq!((error.index, refusal(&error.source)), (index, expected), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }

    fn read(&self, handle: usize, key: &[u8]) {
        let bus = &self.handles[handle];
        let found = bus.get_entry(key).unwrap();
        assert_eq!(bus.contains(key).unwrap(), found.is_some());
        assert_eq!(bus.get_bytes(key).unwrap(), found.as_ref().map(|entry| entry.value.clone()));
        let guard = bus.read(key).unwrap();
        assert_eq!(guard.as_deref(), found.as_ref().map(|entry| &*entry.value));
        let expected = self.map.get(key);
        assert_eq!(found.is_some(), expected.is_some());
        let (Some(found), Some(expected)) = (found, expected) else { return };
        is(&found, expected);
        let number = bus.get::<i64>(key);
        match expected.kind {
            Kind::Bytes => assert!(number.is_err()),
            _ => assert!(number.unwrap().is_some()),
        }
    }

    fn scan(&self, handle: usize, prefix: &[u8]) {
        let mut found: Vec<_> =
            self.handles[handle].scan_entries(prefix).map(Result::unwrap).collect();
        found.sort_unstable_by(|one, two| one.key.cmp(&two.key));
        let expected: Vec<_> = self.map.live(prefix).collect();
        assert_eq!(found.len(), expected.len(), "{prefix:?}");
        for (found, (key, expected)) in found.iter().zip(expected) {
            assert_eq!(&*found.key, &**key);
            is(found, expected);
        }
    }

    fn watch(&mut self, handle: usize, watch: usize, prefix: Vec<u8>, from: Option<u8>) {
        self.drain(watch);
        let bus = &self.handles[handle];
        let live = self.map.live(&prefix).map(|(key, entry)| (key.clone(), entry.clone()));
        let live: Vec<_> = live.collect();
        let (made, listed, passed) = match from {
            None => (bus.watch(&prefix).unwrap(), Some(live), self.map.head),
            Some(back) => {
                let revision = self.map.head - u64::from(back) % (self.map.told.len() as u64 + 1);
                let cursor = Cursor { incarnation: bus.info().unwrap().incarnation, revision };
                (bus.watch_from(&prefix, cursor).unwrap(), None, revision)
            }
        };
        self.watches[watch] = Some(Watched { watch: made, prefix, listed, passed, handle });
    }

    fn drain(&mut self, watch: usize) {
        let Some(watched) = &mut self.watches[watch] else { return };
        if let Some(mut listed) = watched.listed.take() {
            while let Some(event) = watched.watch.try_recv().unwrap() {
                match event {
                    Event::Current(entry) => {
                        let at = listed.iter().position(|(key, _)| *key == *entry.key).unwrap();
                        is(&entry, &listed.swap_remove(at).1);
                    }
                    Event::CaughtUp(cursor) => {
                        assert_eq!(cursor.revision, watched.passed);
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert!(listed.is_empty(), "not listed: {listed:?}");
        }
        let new = self.map.told.iter().filter(|told| told.revision > watched.passed);
        for told in new {
            if told.kind != membus::ChangeKind::Clear && !told.key.starts_with(&watched.prefix) {
                continue;
            }
            let Some(Event::Change(change)) = watched.watch.try_recv().unwrap() else {
                panic!("{told:?} was not told")
            };
            let newest = self.map.get(&told.key).is_some_and(|e| e.revision == told.revision);
            is_told(&change, told, newest);
        }
        assert!(watched.watch.try_recv().unwrap().is_none());
        watched.passed = self.map.head;
    }

    /// The handle goes with its watches and what vanishes with it; whoever goes or comes where nobody keeps the
    /// bus takes away what has expired, as far as it gets.
    fn anew(&mut self, handle: usize) {
        for watch in 0..WATCHES {
            if self.watches[watch].as_ref().is_some_and(|watched| watched.handle == handle) {
                self.drain(watch);
                self.watches[watch] = None;
            }
        }
        let cursor = Cursor { incarnation: 0, revision: self.map.head };
        let owner = self.owner(handle);
        self.handles[handle] = open(&self.place, handle);
        self.generations[handle] += 1;
        let mut watch = self.handles[handle].watch_from("", cursor).unwrap();
        while let Some(event) = watch.try_recv().unwrap() {
            let Event::Change(change) = event else { panic!("{event:?}") };
            let (key, value) = (change.key.to_vec(), None);
            let (revision, kind, who) = (change.revision.get(), change.kind, change.who);
            self.map.ended(&Told { revision, kind, key, value, who }, owner);
        }
        let left = self.map.entries.values().any(|entry| entry.owner == Some(owner));
        assert!(!left, "what vanishes with a handle is left");
    }

    fn lose(&mut self, handle: usize) {
        (0..WATCHES).for_each(|watch| self.drain(watch));
        self.watches = std::array::from_fn(|_| None);
        let info = self.handles[handle].snapshot().unwrap();
        assert_eq!(info.revision, self.map.head);
        std::fs::remove_dir_all(self.place.bus()).unwrap();
        self.handles = (0..HANDLES).map(|handle| open(&self.place, handle)).collect();
        self.generations.iter_mut().for_each(|generation| *generation += 1);
        self.map.lose();
        assert_eq!(info.entries as usize, self.map.entries.len());
    }
}

/// Makes the change: its revision, or the counter's new value.
fn made(
    put: Put<'_, &Vec<u8>>,
    action: Action,
) -> Result<Result<Option<Revision>, i64>, WriteError> {
    match action {
        Action::Set { value, ttl, ephemeral } => {
            let put = if let Some(ttl) = ttl { put.ttl(length(ttl)) } else { put };
            let put = if ephemeral { put.ephemeral() } else { put };
            let set = match value {
                Value::Bytes(size, fill) => put.set_bytes(vec![fill; size]),
                Value::Structure(number) => put.set(&number),
                Value::Counter(number) => put.set_counter(number),
            };
            set.map(|revision| Ok(Some(revision)))
        }
        Action::Add(by) => put.add(by).map(Err),
        Action::Delete => put.delete().map(Ok),
        Action::Require => unreachable!("only in batches"),
    }
}

fn put_into(batch: &mut Batch, name: &[u8], action: Action, named: Option<Option<Revision>>) {
    let mut put = batch.put(name);
    put = match named {
        None => put,
        Some(None) => put.if_absent(),
        Some(Some(revision)) => put.if_revision(revision),
    };
    match action {
        Action::Set { value, ttl, ephemeral } => {
            let put = if let Some(ttl) = ttl { put.ttl(length(ttl)) } else { put };
            let put = if ephemeral { put.ephemeral() } else { put };
            match value {
                Value::Bytes(size, fill) => put.set_bytes(vec![fill; size]),
                Value::Structure(number) => put.set(&number).unwrap(),
                Value::Counter(number) => put.set_counter(number),
            };
        }
        Action::Add(by) => drop(put.add(by).len()),
        Action::Delete => drop(put.delete().len()),
        Action::Require => unreachable!("a condition"),
    }
}

#[track_caller]
fn is(found: &membus::Entry, expected: &Entry) {
    let stat = &found.stat;
    assert_eq!(stat.revision.get(), expected.revision, "{}", found.key);
    assert!(found.value == expected.value, "{}", found.key);
    assert_eq!(stat.size as usize, expected.value.len());
    assert_eq!((stat.kind, &stat.who), (expected.kind, &expected.who));
    assert_eq!(stat.expires_in.is_some(), expected.ttl.is_some());
    assert_eq!(stat.ephemeral, expected.owner.is_some());
}

#[track_caller]
fn is_told(change: &Change, told: &Told, newest: bool) {
    assert_eq!(
        (change.revision.get(), change.kind, &*change.key, &change.who),
        (told.revision, told.kind, &*told.key, &told.who)
    );
    if told.kind != membus::ChangeKind::Set {
        return assert_eq!(change.value, ChangeValue::None);
    }
    let Some(value) = &told.value else { return };
    let size = value.len() as u64;
    if size <= membus::limits::RECORD_VALUE_MAX || newest {
        assert!(change.value == ChangeValue::Here(value.clone()), "{told:?}");
    } else {
        assert_eq!(change.value, ChangeValue::TooLarge { size });
    }
}

/// Conditions name what they should.
#[test]
fn conditions_of_the_model() {
    let map = Map::default();
    assert_eq!(map.named(b"k", Condition::Absent), None);
    assert_eq!(map.named(b"k", Condition::Present), Some(1));
}
