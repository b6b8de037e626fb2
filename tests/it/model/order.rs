//! Several processes at once: whatever each of them was answered could have been answered if all had been done
//! one after another, in the order of the revisions, each between its call and its return.

use crate::harness::actor::actor;
use crate::harness::part::Part;
use crate::harness::{Place, Rng, Seed, assert_whole, earned, eventually, heavy, parameter, tell};
use membus::{
    Batch, Bus, Cell, ChangeKind, ChangeValue, Cursor, Event, Expected, ReadBus, Revision,
    WriteError,
};
use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

const CLIENTS: usize = 4;
const KEYS: u64 = 6;
/// Value of what a conflict saw: it tells the revision alone.
const UNTOLD: u64 = u64::MAX;
/// Operations on one bus, whose log holds all of their records.
const OPERATIONS_A_BUS: u64 = 200_000;

/// The clock that all processes share, in nanoseconds.
fn now() -> u64 {
    let now: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().into();
    now.as_nanos() as u64
}

fn key(number: u64) -> String {
    format!("k{number}")
}

/// What an operation was, and what it was answered. Revision 0: there was nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    /// It saw this revision of the key: 0 when there was none.
    Saw {
        key: u64,
        revision: u64,
        value: u64,
    },
    /// It made a change; with what it knew to be there before, when it had a condition.
    Set {
        key: u64,
        revision: u64,
        value: u64,
        before: Option<u64>,
    },
    Deleted {
        key: u64,
        revision: u64,
    },
    Cleared {
        revision: u64,
    },
}

#[derive(Debug, Clone, Copy)]
struct Operation {
    call: u64,
    end: u64,
    did: Did,
}

impl Operation {
    fn line(&self) -> String {
        let Self { call, end, did } = self;
        let did = match did {
            Did::Saw { key, revision, value } => format!("saw {key} {revision} {value} -"),
            Did::Set { key, revision, value, before } => {
                let before = before.map_or("-".to_owned(), |before| before.to_string());
                format!("set {key} {revision} {value} {before}")
            }
            Did::Deleted { key, revision } => format!("deleted {key} {revision} 0 -"),
            Did::Cleared { revision } => format!("cleared 0 {revision} 0 -"),
        };
        format!("{call} {end} {did}\n")
    }

    fn parse(line: &str) -> Self {
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let (key, revision, value) = (number(3), number(4), number(5));
        let did = match words[2] {
            "saw" => Did::Saw { key, revision, value },
            "set" => Did::Set { key, revision, value, before: words[6].parse().ok() },
            "deleted" => Did::Deleted { key, revision },
            "cleared" => Did::Cleared { revision },
            other => panic!("{other}"),
        };
        Self { call: number(0), end: number(1), did }
    }

    fn revision(&self) -> u64 {
        match self.did {
            Did::Saw { revision, .. } | Did::Set { revision, .. } => revision,
            Did::Deleted { revision, .. } | Did::Cleared { revision } => revision,
        }
    }
}

/// One process: does random operations, and writes down what it was answered.
pub(crate) fn client(part: &Part) {
    let bus = part.attach();
    let (mut rng, client) = (Rng::new(part.number("seed")), part.number("client"));
    let log = std::fs::File::create(part.place.path().join(format!("log-{client}"))).unwrap();
    let mut log = std::io::BufWriter::new(log);
    let mut cells: Vec<_> = (0..KEYS).map(|number| bus.cell(key(number)).unwrap()).collect();
    part.say("ready");
    part.hear();
    for number in 0..part.number("count") {
        let value = client << 48 | number << 8;
        let call = now();
        let did = operate(&bus, &mut cells, &mut rng, value);
        let end = now();
        for did in did {
            log.write_all(Operation { call, end, did }.line().as_bytes()).unwrap();
        }
    }
    log.flush().unwrap();
    part.say("done");
}

/// The number that a value begins with.
fn number_of(value: &[u8]) -> u64 {
    u64::from_le_bytes(value[..8].try_into().unwrap())
}

/// Revision and value of a key; zeros when there is none.
fn look(bus: &Bus, number: u64) -> (u64, u64) {
    let entry = bus.get_entry(key(number)).unwrap();
    entry.map_or((0, 0), |entry| (entry.stat.revision.get(), number_of(&entry.value)))
}

/// Sets a value, perhaps long enough to be no part of a record, under a condition or none.
fn set(bus: &Bus, rng: &mut Rng, number: u64, value: u64, before: Option<u64>) -> Did {
    let mut bytes = value.to_le_bytes().to_vec();
    bytes.resize(8 + rng.below(100) as usize, 0);
    let put = bus.put(key(number));
    let put = match before.map(Revision::new) {
        None => put,
        Some(None) => put.if_absent(),
        Some(Some(revision)) => put.if_revision(revision),
    };
    match put.set_bytes(bytes) {
        Ok(revision) => Did::Set { key: number, revision: revision.get(), value, before },
        Err(WriteError::Conflict { expected, found, .. }) => {
            let asked = match expected {
                Expected::Revision(revision) => revision.get(),
                _ => 0,
            };
            let found = found.map_or(0, Revision::get);
            assert!(before == Some(asked) && asked != found, "{before:?} {expected} {found}");
            Did::Saw { key: number, revision: found, value: UNTOLD }
        }
        Err(error) => panic!("{error}"),
    }
}

/// The same by a cell.
fn look_at(cell: &mut Cell<[u8]>) -> (u64, u64) {
    let value = cell.get().unwrap().map_or(0, number_of);
    (cell.revision().map_or(0, Revision::get), value)
}

fn operate(bus: &Bus, cells: &mut [Cell<[u8]>], rng: &mut Rng, value: u64) -> Vec<Did> {
    let number = rng.below(KEYS);
    match rng.below(1000) {
        0..250 => {
            let (revision, value) = look_at(&mut cells[number as usize]);
            vec![Did::Saw { key: number, revision, value }]
        }
        250..450 => {
            let (revision, value) = look(bus, number);
            vec![Did::Saw { key: number, revision, value }]
        }
        450..650 => vec![set(bus, rng, number, value, None)],
        650..800 => {
            let (revision, _) = look(bus, number);
            vec![set(bus, rng, number, value, Some(revision))]
        }
        800..900 => match bus.delete(key(number)).unwrap() {
            Some(revision) => vec![Did::Deleted { key: number, revision: revision.get() }],
            None => vec![Did::Saw { key: number, revision: 0, value: 0 }],
        },
        900..999 => {
            let mut batch = Batch::new();
            let keys: Vec<_> = (0..1 + rng.below(3)).map(|n| (number + n) % KEYS).collect();
            for (index, number) in keys.iter().enumerate() {
                batch.set_bytes(key(*number), (value + index as u64).to_le_bytes());
            }
            let last = bus.commit(&batch).unwrap().unwrap().get();
            let first = last + 1 - keys.len() as u64;
            let did = |(index, key): (usize, &u64)| {
                let index = index as u64;
                Did::Set { key: *key, revision: first + index, value: value + index, before: None }
            };
            keys.iter().enumerate().map(did).collect()
        }
        _ => vec![Did::Cleared { revision: bus.clear().unwrap().get() }],
    }
}

/// A change by its revision: when it was called, and what it left of the key.
#[derive(Debug, Clone, Copy)]
struct Made {
    call: u64,
    /// `None`: nothing.
    value: Option<u64>,
}

/// What was made of each key, by revision.
struct History {
    keys: Vec<BTreeMap<u64, Made>>,
    /// Changes in all.
    count: u64,
}

impl History {
    fn of(operations: &[Operation]) -> Self {
        let mut history = Self { keys: vec![BTreeMap::new(); KEYS as usize], count: 0 };
        for operation in operations {
            let (call, revision) = (operation.call, operation.revision());
            let mut put = |key: u64, value| {
                let made = Made { call, value };
                let twice = history.keys[key as usize].insert(revision, made);
                assert!(twice.is_none(), "revision {revision} was given twice");
            };
            match operation.did {
                Did::Saw { .. } => continue,
                Did::Set { key, value, .. } => put(key, Some(value)),
                Did::Deleted { key, .. } => put(key, None),
                Did::Cleared { .. } => (0..KEYS).for_each(|key| put(key, None)),
            }
            history.count += 1;
        }
        history
    }

    fn before(&self, key: u64, revision: u64) -> Option<(u64, Made)> {
        self.keys[key as usize].range(..revision).next_back().map(|(r, made)| (*r, *made))
    }

    fn after(&self, key: u64, revision: u64) -> u64 {
        self.keys[key as usize].range(revision + 1..).next().map_or(u64::MAX, |(r, _)| *r)
    }

    /// Whether an operation may have seen this of a key, that knew of everything up to `known`.
    fn may_be_seen(&self, operation: &Operation, key: u64, known: u64) -> Result<(), String> {
        let Did::Saw { revision, value, .. } = operation.did else { return Ok(()) };
        if revision > 0 {
            let Some(made) = self.keys[key as usize].get(&revision) else {
                return Err("nobody made it".into());
            };
            if made.value != Some(value) && value != UNTOLD {
                return Err(format!("its value is {:?}", made.value));
            }
            if made.call > operation.end {
                return Err("it was made later".into());
            }
            let after = self.after(key, revision);
            return if after > known { Ok(()) } else { Err(format!("{after} was known")) };
        }
        if self.before(key, known + 1).is_none_or(|(_, made)| made.value.is_none()) {
            return Ok(());
        }
        let mut later = self.keys[key as usize].range(known + 1..);
        match later.find(|(_, made)| made.value.is_none()) {
            Some((_, made)) if made.call <= operation.end => Ok(()),
            _ => Err("it was there all the time".into()),
        }
    }
}

/// Goes through calls and returns in the order of time: whoever is called knows at least what everybody knew who
/// had returned.
fn check(operations: &[Operation]) -> History {
    let history = History::of(operations);
    let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * operations.len());
    for (index, operation) in operations.iter().enumerate() {
        // Of one moment, calls come first: nobody had returned before them.
        moments.push((operation.call, false, index));
        moments.push((operation.end, true, index));
    }
    moments.sort_unstable();
    let mut known = 0;
    for (_, returns, index) in moments {
        let operation = &operations[index];
        let revision = operation.revision();
        if returns {
            known = known.max(revision);
            continue;
        }
        match operation.did {
            Did::Saw { key, .. } => {
                if let Err(why) = history.may_be_seen(operation, key, known) {
                    panic!("{operation:?} with {known} known: {why}");
                }
            }
            Did::Set { key, before, .. } => {
                assert!(revision > known, "{operation:?} with {known} known");
                let there = history.before(key, revision).filter(|(_, made)| made.value.is_some());
                let there = there.map_or(0, |(revision, _)| revision);
                assert!(before.is_none_or(|before| before == there), "{operation:?}: {there}");
            }
            Did::Deleted { key, .. } => {
                assert!(revision > known, "{operation:?} with {known} known");
                let there = history.before(key, revision);
                assert!(there.is_some_and(|(_, made)| made.value.is_some()), "{operation:?}");
            }
            Did::Cleared { .. } => assert!(revision > known, "{operation:?} with {known} known"),
        }
    }
    history
}

/// A watch has told every change, and nothing else.
fn was_told(bus: &Bus, history: &History) {
    let mut watch = bus.watch_from("", Cursor { incarnation: 0, revision: 0 }).unwrap();
    let mut told = 0;
    while let Some(event) = watch.try_recv().unwrap() {
        let Event::Change(change) = event else { panic!("{event:?}") };
        told += 1;
        let value = match &change.value {
            ChangeValue::Here(bytes) => Some(number_of(bytes)),
            _ => None,
        };
        assert_eq!(value.is_some(), change.kind == ChangeKind::Set, "{change:?}");
        let keys = match change.kind {
            ChangeKind::Clear => 0..KEYS,
            _ => {
                let number = change.key.to_string().trim_start_matches('k').parse().unwrap();
                number..number + 1
            }
        };
        for key in keys {
            let made = history.keys[key as usize].get(&change.revision.get());
            assert_eq!(made.map(|made| made.value), Some(value), "{change:?}");
        }
    }
    assert_eq!(told, history.count);
}

/// Promise "one order": revisions respect real time, reads see what was there between their call and their return
/// and never go back, conditions hold at the change's place in the order, and watches saw all of it.
/// Method: four processes do random operations on six keys and write down call, return and answer; one pass over
/// all of them in the order of time.
/// Plants: `known_head` taken for the head in READ 3; decisions not checked against `cleared_at`; a conflict that
/// says that nothing was there.
#[test]
fn what_was_answered_has_one_order() {
    let _alone = heavy();
    let seed = Seed::of("what_was_answered_has_one_order");
    let mut rng = seed.rng();
    let wanted = parameter("MEMBUS_IT_OPERATIONS", 600_000);
    let (mut done, mut changes, begun) = (0, 0, Instant::now());
    while done < wanted {
        let count = (wanted - done).min(OPERATIONS_A_BUS);
        let place = Place::new();
        let options = place.options().capacity(48 << 20).max_capacity(256 << 20).log_size(64 << 20);
        let bus = options.open_at(place.bus()).unwrap();
        let mut clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let casting = actor("order_client", &place).with("client", client);
                let casting = casting.with("count", count / CLIENTS as u64);
                let client = casting.with("seed", rng.next() >> 1).start();
                client.expect("ready");
                client
            })
            .collect();
        clients.iter_mut().for_each(|client| client.tell("go"));
        let mut operations = Vec::new();
        for (index, client) in clients.into_iter().enumerate() {
            eventually("the end of a client", || client.try_line());
            client.end();
            let log = std::fs::read_to_string(place.path().join(format!("log-{index}"))).unwrap();
            operations.extend(log.lines().map(Operation::parse));
        }
        let history = check(&operations);
        was_told(&bus, &history);
        assert_eq!(bus.info().unwrap().revision, history.count);
        assert_whole(&bus);
        done += count;
        changes += history.count;
    }
    earned(done, "operations held against one order");
    tell(&format!("order: {done} operations, {changes} changes, {:?}", begun.elapsed()));
}

/// The check itself sees what is out of order.
#[test]
fn the_check_of_order_sees_what_is_wrong() {
    let operation = |call, end, did| Operation { call, end, did };
    let set = |revision| Did::Set { key: 0, revision, value: revision * 10, before: None };
    let saw = |revision| Did::Saw { key: 0, revision, value: revision * 10 };
    let good = [operation(1, 4, set(1)), operation(5, 8, set(2)), operation(6, 9, saw(1))];
    assert_eq!(check(&good).count, 2);
    let deleted = |revision| Did::Deleted { key: 0, revision };
    let if_revision =
        |revision, before| Did::Set { key: 0, revision, value: 0, before: Some(before) };
    let cleared = |revision| Did::Cleared { revision };
    let good = [
        operation(1, 2, set(1)),
        operation(3, 6, deleted(2)),
        operation(4, 5, saw(0)),
        operation(7, 8, if_revision(3, 0)),
        operation(9, 12, cleared(4)),
        operation(10, 11, saw(0)),
    ];
    assert_eq!(check(&good).count, 4);
    let wrong: [&[Operation]; 11] = [
        &[operation(1, 2, set(1)), operation(3, 4, deleted(2)), operation(5, 6, deleted(3))],
        &[operation(1, 2, set(1)), operation(3, 4, set(2)), operation(3, 4, if_revision(3, 1))],
        &[operation(1, 2, set(1)), operation(3, 4, if_revision(2, 0))],
        &[operation(1, 2, set(1)), operation(3, 4, cleared(2)), operation(5, 6, saw(1))],
        &[operation(1, 2, set(1)), operation(3, 4, saw(0)), operation(5, 6, deleted(2))],
        &[operation(1, 4, set(2)), operation(5, 8, set(1))],
        &[operation(1, 4, set(1)), operation(5, 8, set(2)), operation(9, 10, saw(1))],
        &[operation(1, 4, set(1)), operation(5, 8, saw(0))],
        &[operation(1, 4, saw(1)), operation(5, 8, set(1))],
        &[operation(1, 9, set(1)), operation(2, 3, saw(1)), operation(4, 5, saw(0))],
        &[operation(1, 2, set(1)), operation(3, 4, Did::Saw { key: 0, revision: 1, value: 11 })],
    ];
    for operations in wrong {
        let seen = std::panic::catch_unwind(|| check(operations).count);
        assert!(seen.is_err(), "{operations:?}");
    }
}
