//! What was answered, and whether one history in the order of the log agrees with all of it.

use super::{COUNTER, KEYS, key, value};
use crate::log::{Read, Record, RecordKind};
use crate::table::Core;
use crate::table::testing::get;
use crate::table::wish::Done;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

type Heads = RangeInclusive<u64>;

/// A value as somebody saw it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Saw {
    pub(super) revision: u64,
    pub(super) value: Vec<u8>,
}

#[derive(Debug)]
enum Answer {
    /// This many changes, the last with this revision, made after a head.
    Changed {
        id: u64,
        done: Done,
        count: u64,
        before: u64,
    },
    Deleted {
        id: u64,
        key: u64,
        done: Done,
        heads: Heads,
    },
    Cleared {
        id: u64,
        revision: u64,
        before: u64,
    },
    /// With this revision, or given up.
    Restored {
        id: u64,
        revision: Option<u64>,
        before: u64,
    },
    /// The key had this revision.
    Revision {
        key: u64,
        revision: u64,
        heads: Heads,
    },
    Read {
        key: u64,
        saw: Option<Saw>,
        heads: Heads,
        clocks: RangeInclusive<u64>,
    },
    Scanned {
        told: Vec<Vec<u8>>,
        heads: Heads,
    },
    Snapshot {
        revision: u64,
        entries: Vec<(Vec<u8>, Vec<u8>, u64)>,
    },
}

/// What was answered in one schedule, and sums over all of them.
#[derive(Debug, Default)]
pub(super) struct History {
    answers: Vec<Answer>,
    /// Deadlines of what these operations set.
    deadlines: BTreeMap<u64, u64>,
    /// Changes that these operations make at once.
    together: BTreeMap<u64, usize>,
    /// What these restores bring: values by key.
    restores: BTreeMap<u64, BTreeMap<u64, Vec<u8>>>,
    pub(super) contended: usize,
    changes: u64,
    looks: usize,
    snapshots: usize,
    unanswered: usize,
}

impl History {
    pub(super) fn changed(&mut self, id: u64, done: Done, count: u64, before: u64) {
        self.answers.push(Answer::Changed { id, done, count, before });
    }
    pub(super) fn deleted(&mut self, id: u64, key: u64, done: Done, heads: Heads) {
        self.answers.push(Answer::Deleted { id, key, done, heads });
    }
    pub(super) fn cleared(&mut self, id: u64, revision: u64, before: u64) {
        self.answers.push(Answer::Cleared { id, revision, before });
    }
    pub(super) fn restored(&mut self, id: u64, revision: Option<u64>, before: u64) {
        self.answers.push(Answer::Restored { id, revision, before });
    }
    pub(super) fn saw_revision(&mut self, key: u64, revision: u64, heads: Heads) {
        self.answers.push(Answer::Revision { key, revision, heads });
    }
    pub(super) fn read(&mut self, key: u64, saw: Option<Saw>, heads: Heads, clocks: Heads) {
        self.answers.push(Answer::Read { key, saw, heads, clocks });
    }
    pub(super) fn scanned(&mut self, told: Vec<Vec<u8>>, heads: Heads) {
        self.answers.push(Answer::Scanned { told, heads });
    }
    pub(super) fn snapshot(&mut self, revision: u64, entries: Vec<(Vec<u8>, Vec<u8>, u64)>) {
        self.answers.push(Answer::Snapshot { revision, entries });
    }
    pub(super) fn expires(&mut self, id: u64, deadline: u64) {
        self.deadlines.insert(id, deadline);
    }
    pub(super) fn together(&mut self, id: u64, count: usize) {
        self.together.insert(id, count);
    }

    pub(super) fn restores(&mut self, id: u64, key: u64, value: &[u8]) {
        self.restores.entry(id).or_default().insert(key, value.to_vec());
    }

    /// Adds one schedule's figures.
    pub(super) fn count(&mut self, one: &Self) {
        self.changes += one.changes;
        self.looks += one.looks;
        self.snapshots += one.snapshots;
        self.unanswered += one.unanswered;
        self.contended += one.contended;
    }

    /// The log from its beginning, each record once; the last one carries the head.
    fn records(core: &Core) -> Vec<Record> {
        let head = core.head().unwrap();
        let mut position = core.log_find(1).unwrap().unwrap();
        let mut records = Vec::new();
        for revision in 1..=head {
            match core.log_read(position, revision).unwrap() {
                Read::Record(record, next) => {
                    assert_eq!(record.revision, revision);
                    records.push(record);
                    position = next;
                }
                Read::Overtaken => panic!("the log is too small for this test"),
            }
        }
        records
    }

    /// Holds all answers against the log, and the region against its end.
    pub(super) fn verify(&mut self, core: &Core) {
        let records = Self::records(core);
        let states = States::of(&records, &self.restores);
        self.changes = records.len() as u64;
        for (id, count) in &self.together {
            let is_its = |record: &Record| record.time == *id && record.kind == RecordKind::Set;
            let begin = records.iter().position(is_its).unwrap_or(records.len());
            // What had expired ends in between.
            let ends = |record: &&Record| is_its(record) || record.kind == RecordKind::Expire;
            let found =
                records[begin..].iter().take_while(ends).filter(|record| is_its(record)).count();
            let all = records.iter().filter(|record| is_its(record)).count();
            assert!(found == all && (all == 0 || all == *count), "operation {id} in part");
        }
        for number in 0..=KEYS {
            let name = key(number);
            let now = states.at(records.len() as u64).get(&number);
            let is_over =
                |saw: &Saw| self.deadline(saw).is_some_and(|end| end <= core.clock.boot());
            let expected = now.filter(|saw| !is_over(saw)).map(|saw| saw.value.clone());
            assert_eq!(get(core, &name), expected, "{name} in the end");
        }
        let mut answered = Vec::new();
        for answer in &self.answers {
            self.agrees(answer, &records, &states, &mut answered);
        }
        self.looks = self.answers.len();
        let mut ids: Vec<_> =
            records.iter().map(|record| record.time).filter(|id| *id >= 100).collect();
        ids.retain(|id| id < &1_000_000 && !answered.contains(id));
        ids.dedup();
        self.unanswered = ids.len();
    }

    fn deadline(&self, saw: &Saw) -> Option<u64> {
        let id = saw.value.first_chunk().map(|id| u64::from_le_bytes(*id))?;
        self.deadlines.get(&id).copied()
    }

    fn agrees(&self, answer: &Answer, records: &[Record], states: &States, ids: &mut Vec<u64>) {
        let of = |id: u64| records.iter().filter(move |record| record.time == id);
        match answer {
            Answer::Changed { id, done, count, before } => {
                ids.push(*id);
                let made: Vec<_> =
                    of(*id).filter(|record| record.kind == RecordKind::Set).collect();
                assert_eq!(made.len() as u64, *count, "{answer:?}");
                assert_eq!(made.last().unwrap().revision, done.revision, "{answer:?}");
                assert!(made[0].revision > *before, "{answer:?}");
                if let [add] = &made[..]
                    && add.key == key(COUNTER).as_bytes()
                {
                    assert_eq!(add.value, done.value.to_le_bytes(), "{answer:?}");
                }
            }
            Answer::Deleted { id, key, done, heads } => {
                ids.push(*id);
                let made: Vec<_> =
                    of(*id).filter(|record| record.kind == RecordKind::Delete).collect();
                assert_eq!(made.len() as u64, done.count.min(1), "{answer:?}");
                match made.first() {
                    Some(record) => assert_eq!(record.revision, done.revision, "{answer:?}"),
                    None => {
                        let is_gone =
                            |saw: Option<&Saw>| saw.is_none_or(|saw| self.deadline(saw).is_some());
                        assert!(states.any(heads, |state| is_gone(state.get(key))), "{answer:?}");
                    }
                }
            }
            Answer::Cleared { id, revision, before } => {
                ids.push(*id);
                let made: Vec<_> = of(*id).map(|record| (record.kind, record.revision)).collect();
                assert_eq!(made, [(RecordKind::Clear, *revision)], "{answer:?}");
                assert!(revision > before, "{answer:?}");
            }
            Answer::Restored { id, revision, before } => {
                ids.push(*id);
                let made: Vec<_> = of(*id).map(|record| (record.kind, record.revision)).collect();
                let one = revision.map(|revision| (RecordKind::Restore, revision));
                assert_eq!(made, Vec::from_iter(one), "{answer:?}");
                assert!(revision.is_none_or(|revision| revision > *before), "{answer:?}");
            }
            Answer::Revision { key, revision, heads } => {
                let has =
                    |state: &State| state.get(key).is_some_and(|saw| saw.revision == *revision);
                assert!(states.any(heads, has), "{answer:?}");
            }
            Answer::Read { key, saw, heads, clocks } => {
                let ended = |saw: &Saw| self.deadline(saw).is_some_and(|end| end <= *clocks.end());
                let agrees = |state: &State| match (saw, state.get(key)) {
                    (None, there) => there.is_none_or(ended),
                    (Some(saw), there) => {
                        there == Some(saw)
                            && self.deadline(saw).is_none_or(|end| end > *clocks.start())
                    }
                };
                assert!(states.any(heads, agrees), "{answer:?}");
            }
            Answer::Scanned { told, heads } => {
                for number in 0..=KEYS {
                    let times = told.iter().filter(|told| **told == key(number).as_bytes()).count();
                    let is_there = |state: &State| state.contains_key(&number);
                    let stays = heads.clone().all(|revision| is_there(states.at(revision)));
                    assert!(times <= 1 && (times == 1 || !stays), "key {number}: {answer:?}");
                }
            }
            Answer::Snapshot { revision, entries } => self.is_of(*revision, entries, states),
        }
    }

    /// A snapshot holds exactly what there was at its revision, less what had expired.
    fn is_of(&self, revision: u64, entries: &[(Vec<u8>, Vec<u8>, u64)], states: &States) {
        let state = states.at(revision);
        let mut left: BTreeMap<_, _> =
            state.iter().map(|(number, saw)| (key(*number).into_bytes(), saw)).collect();
        for (name, value, born) in entries {
            let saw = left.remove(name);
            let found = Saw { revision: *born, value: value.clone() };
            assert_eq!(
                saw,
                Some(&found),
                "{:?} in the snapshot of {revision}",
                name.escape_ascii()
            );
        }
        left.retain(|_, saw| self.deadline(saw).is_none());
        assert!(left.is_empty(), "missing in the snapshot of {revision}: {left:?}");
    }
}

type State = BTreeMap<u64, Saw>;

/// What there was after each revision.
struct States(Vec<State>);

impl States {
    fn of(records: &[Record], restores: &BTreeMap<u64, BTreeMap<u64, Vec<u8>>>) -> Self {
        let mut states = vec![State::new()];
        for record in records {
            let mut state = states.last().cloned().unwrap_or_default();
            let number = (0..=KEYS).find(|number| key(*number).as_bytes() == record.key);
            match (record.kind, number) {
                (RecordKind::Set, Some(number)) => {
                    let saw = Saw { revision: record.revision, value: record.value.clone() };
                    if number == COUNTER {
                        let before = state.get(&COUNTER).map_or(0, |saw| number_of(&saw.value));
                        assert_eq!(number_of(&record.value), before + 1, "a lost addition");
                    } else {
                        assert_eq!(
                            record.value,
                            value(record.time),
                            "revision {}",
                            record.revision
                        );
                    }
                    state.insert(number, saw);
                }
                (RecordKind::Delete | RecordKind::Expire, Some(number)) => {
                    assert!(
                        state.remove(&number).is_some(),
                        "what was not there ended: {record:?}"
                    );
                }
                (RecordKind::Clear, None) => state.clear(),
                // All of it has one revision.
                (RecordKind::Restore, None) => {
                    let saw =
                        |value: &Vec<u8>| Saw { revision: record.revision, value: value.clone() };
                    let brings = restores.get(&record.time).into_iter().flatten();
                    state = brings.map(|(number, value)| (*number, saw(value))).collect();
                }
                _ => panic!("{record:?}"),
            }
            states.push(state);
        }
        Self(states)
    }

    fn at(&self, revision: u64) -> &State {
        &self.0[revision as usize]
    }

    fn any(&self, heads: &Heads, agrees: impl Fn(&State) -> bool) -> bool {
        heads.clone().any(|revision| agrees(self.at(revision)))
    }
}

fn number_of(value: &[u8]) -> u64 {
    u64::from_le_bytes(value.try_into().unwrap())
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { changes, looks, snapshots: _, unanswered, contended, .. } = self;
        write!(
            f,
            "{changes} changes, {looks} answers held against them, {unanswered} operations that were committed and died before they were answered, {contended} contended reads"
        )
    }
}
