//! What a bus is to its users: a map with revisions, and the list of its changes.

use super::operations::{Action, Condition, Ttl, Value, Wish, key};
use membus::{ChangeKind, Kind};
use std::collections::{BTreeMap, HashMap};

/// An entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) revision: u64,
    pub(super) value: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) who: Option<String>,
    pub(super) ttl: Option<Ttl>,
    /// Which handle it vanishes with: its number, and which of them.
    pub(super) owner: Option<(usize, u64)>,
}

impl Entry {
    pub(super) fn counter(&self) -> i64 {
        i64::from_le_bytes(self.value.as_slice().try_into().unwrap_or_default())
    }
}

/// A change, as a watch tells it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) revision: u64,
    pub(super) kind: ChangeKind,
    pub(super) key: Vec<u8>,
    /// `None`: whatever it says.
    pub(super) value: Option<Vec<u8>>,
    pub(super) who: Option<String>,
}

/// Why nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Conflict { found: Option<u64> },
    NotACounter,
    Overflow,
}

/// What a change is made of.
#[derive(Debug, Clone)]
enum Planned {
    Set(Entry),
    Delete,
}

/// The map.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) entries: BTreeMap<Vec<u8>, Entry>,
    pub(super) head: u64,
    /// All changes of this life, the first of which has the revision `first + 1`.
    pub(super) told: Vec<Told>,
    pub(super) first: u64,
}

pub(super) fn bytes(value: Value) -> (Vec<u8>, Kind) {
    match value {
        Value::Bytes(size, fill) => (vec![fill; size], Kind::Bytes),
        Value::Structure(number) => (rmp_serde::to_vec_named(&number).unwrap(), Kind::Structure),
        Value::Counter(number) => (number.to_le_bytes().to_vec(), Kind::Counter),
    }
}

impl Map {
    /// What is there for a reader.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.ttl != Some(Ttl::Moment))
    }

    pub(super) fn live(&self, prefix: &[u8]) -> impl Iterator<Item = (&Vec<u8>, &Entry)> {
        let all = self.entries.iter().filter(|(_, entry)| entry.ttl != Some(Ttl::Moment));
        all.filter(move |(key, _)| key.starts_with(prefix))
    }

    /// The revision that a condition of this key names.
    pub(super) fn named(&self, key: &[u8], condition: Condition) -> Option<u64> {
        match condition {
            Condition::Absent => None,
            Condition::Present => Some(self.get(key).map_or(1, |entry| entry.revision)),
            Condition::Wrong => Some(self.head + 1),
        }
    }

    fn holds(&self, key: &[u8], condition: Option<Condition>) -> Result<(), Refusal> {
        let found = self.get(key).map(|entry| entry.revision);
        match condition {
            Some(condition) if self.named(key, condition) != found => {
                Err(Refusal::Conflict { found })
            }
            _ => Ok(()),
        }
    }

    fn tell(&mut self, kind: ChangeKind, key: &[u8], value: Option<&[u8]>, who: Option<String>) {
        self.head += 1;
        let (key, value) = (key.to_vec(), value.map(<[u8]>::to_vec));
        self.told.push(Told { revision: self.head, kind, key, value, who });
    }

    fn plan(
        &self,
        wish: &Wish,
        who: &Option<String>,
        owner: (usize, u64),
    ) -> Result<Option<Planned>, Refusal> {
        let live = self.get(&key(wish.key));
        Ok(match wish.action {
            Action::Require => None,
            Action::Delete => live.map(|_| Planned::Delete),
            Action::Set { value, ttl, ephemeral } => {
                let ((value, kind), owner) = (bytes(value), ephemeral.then_some(owner));
                Some(Planned::Set(Entry { revision: 0, value, kind, who: who.clone(), ttl, owner }))
            }
            Action::Add(by) => {
                if live.is_some_and(|live| live.kind != Kind::Counter) {
                    return Err(Refusal::NotACounter);
                }
                let old = live.map_or(0, Entry::counter);
                let value = old.checked_add(by).ok_or(Refusal::Overflow)?;
                Some(Planned::Set(self.inherited(&key(wish.key), Value::Counter(value), who)))
            }
        })
    }

    /// A new value that keeps time to live and owner of what is there.
    fn inherited(&self, key: &[u8], value: Value, who: &Option<String>) -> Entry {
        let (value, kind) = bytes(value);
        let (ttl, owner) = self.get(key).map_or((None, None), |live| (live.ttl, live.owner));
        Entry { revision: 0, value, kind, who: who.clone(), ttl, owner }
    }

    fn carry_out(&mut self, key: &[u8], planned: Planned, who: &Option<String>) {
        match planned {
            Planned::Delete => {
                self.entries.remove(key);
                self.tell(ChangeKind::Delete, key, None, who.clone());
            }
            Planned::Set(entry) => {
                if self.entries.get(key).is_some_and(|old| old.ttl == Some(Ttl::Moment)) {
                    self.tell(ChangeKind::Expire, key, None, None);
                }
                self.tell(ChangeKind::Set, key, Some(&entry.value), entry.who.clone());
                self.entries.insert(key.to_vec(), Entry { revision: self.head, ..entry });
            }
        }
    }

    /// All of them or none: the last revision when something changed, or which was refused and why.
    pub(super) fn change(
        &mut self,
        wishes: &[Wish],
        who: &Option<String>,
        owner: (usize, u64),
    ) -> Result<Option<u64>, (usize, Refusal)> {
        let mut last = HashMap::new();
        for (index, wish) in wishes.iter().enumerate() {
            if wish.action != Action::Require {
                last.insert(key(wish.key), index);
            }
        }
        let mut plans = Vec::new();
        for (index, wish) in wishes.iter().enumerate() {
            let key = key(wish.key);
            self.holds(&key, wish.condition).map_err(|refusal| (index, refusal))?;
            if wish.action != Action::Require && last[&key] == index {
                let planned = self.plan(wish, who, owner).map_err(|refusal| (index, refusal))?;
                plans.extend(planned.map(|planned| (key, planned)));
            }
        }
        let changed = !plans.is_empty();
        for (key, planned) in plans {
            self.carry_out(&key, planned, who);
        }
        Ok(changed.then_some(self.head))
    }

    /// A new value that keeps what `add` keeps.
    pub(super) fn replace(&mut self, key: &[u8], number: i64, who: &Option<String>) -> u64 {
        let entry = self.inherited(key, Value::Structure(number), who);
        self.carry_out(key, Planned::Set(entry), who);
        self.head
    }

    pub(super) fn delete(&mut self, key: &[u8], who: &Option<String>) -> Option<u64> {
        self.get(key)?;
        self.carry_out(key, Planned::Delete, who);
        Some(self.head)
    }

    pub(super) fn deadline(
        &mut self,
        key: &[u8],
        ttl: Option<Ttl>,
        who: &Option<String>,
    ) -> Option<u64> {
        let entry = Entry { ttl, who: who.clone(), ..self.get(key)?.clone() };
        self.carry_out(key, Planned::Set(entry), who);
        self.told.last_mut()?.value = None;
        Some(self.head)
    }

    pub(super) fn clear(&mut self, who: &Option<String>) -> u64 {
        self.entries.clear();
        self.tell(ChangeKind::Clear, &[], None, who.clone());
        self.head
    }

    /// The end of a key by itself, as the bus told it: it must have been due.
    pub(super) fn ended(&mut self, told: &Told, owner: (usize, u64)) {
        let entry = self.entries.remove(&told.key).unwrap();
        match told.kind {
            ChangeKind::Expire => assert_eq!(entry.ttl, Some(Ttl::Moment)),
            ChangeKind::Delete => assert_eq!(entry.owner, Some(owner)),
            other => panic!("{other}"),
        }
        self.tell(told.kind, &told.key, None, None);
        assert_eq!(self.head, told.revision);
    }

    /// As a snapshot, and the bus built from it, leave it.
    pub(super) fn lose(&mut self) {
        self.entries.retain(|_, entry| entry.owner.is_none() && entry.ttl != Some(Ttl::Moment));
        self.head += 1 << 40;
        self.first = self.head;
        self.told.clear();
    }
}
