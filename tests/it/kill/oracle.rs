//! What must be there, from what the processes said: outside of the region, and of everything in it.

use super::load::{
    COUNTERS, FEW, KEYS, counter_key, own_key, short_key, size_of, tag_of, vanishing_key,
};
use membus::{Bus, ReadBus};
use std::collections::HashMap;
use std::time::Duration;

/// A value: its tag and its size.
type Value = (u64, u64);

/// What is known of one key: the revision of its last change, and what that left there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Known {
    revision: u64,
    value: Option<Value>,
}

/// A change that was begun.
#[derive(Debug, Clone)]
enum Change {
    Keys(Vec<(u64, Option<Value>)>),
    Add(u64, i64),
    Vanishing(u64, u64),
    Short(u64, u64),
    Shared,
    Clear,
}

impl Change {
    fn parse(words: &[&str]) -> Self {
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "set" => Self::Keys(vec![(number(1), Some((number(2), number(3))))]),
            "delete" => Self::Keys(vec![(number(1), None)]),
            "batch" => {
                let (first, count, tag, each) = (number(1), number(2), number(3), number(4));
                let change = |index: u64| {
                    let (key, tag) = ((first + index) % KEYS, tag.wrapping_add(index));
                    (key, (!index.is_multiple_of(each)).then(|| (tag, 8 + tag % 200)))
                };
                Self::Keys((0..count).map(change).collect())
            }
            "add" => Self::Add(number(1), number(2) as i64),
            "vanishing" => Self::Vanishing(number(1), number(2)),
            "short" => Self::Short(number(1), number(2)),
            "shared" => Self::Shared,
            "clear" => Self::Clear,
            other => panic!("{other}"),
        }
    }
}

/// What one place's processes, one after another, have done.
#[derive(Debug, Default)]
struct PlaceKnown {
    keys: HashMap<u64, Known>,
    vanishing: HashMap<u64, Known>,
    short: HashMap<u64, Vec<u64>>,
    begun: Option<Change>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    places: Vec<PlaceKnown>,
    sums: [i64; COUNTERS as usize],
    /// Sums that were begun and not acknowledged.
    doubtful_sums: [i64; COUNTERS as usize],
    /// Revision of the last clear that was acknowledged.
    cleared: u64,
    /// A clear was begun and not acknowledged.
    doubtful_clear: bool,
    /// Changes of keys in doubt, by place.
    doubts: Vec<(usize, Change)>,
    pub(super) changes: u64,
    pub(super) in_doubt: u64,
    pub(super) happened: u64,
    /// Changes that took longer than a lock is waited for before its owner is looked at.
    pub(super) waits: Vec<Duration>,
}

impl Oracle {
    pub(super) fn new(places: usize) -> Self {
        let places = (0..places).map(|_| PlaceKnown::default()).collect();
        Self { places, ..Self::default() }
    }

    /// Takes what a process of this place said.
    pub(super) fn hear(&mut self, place: usize, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match words[0] {
            "b" => self.places[place].begun = Some(Change::parse(&words[1..])),
            "f" => self.places[place].begun = None,
            "a" => {
                let change = self.places[place].begun.take().unwrap();
                let took = Duration::from_micros(words[2].parse().unwrap());
                if took > Duration::from_millis(5) {
                    self.waits.push(took);
                }
                self.changes += 1;
                self.done(place, change, words[1].parse().unwrap());
            }
            _ => panic!("{line}"),
        }
    }

    fn done(&mut self, place: usize, change: Change, last: u64) {
        let known = &mut self.places[place];
        match change {
            Change::Keys(changes) if last > 0 => {
                for (key, value) in changes {
                    known.keys.insert(key, Known { revision: last, value });
                }
            }
            // Nothing was there to delete.
            Change::Keys(_) | Change::Shared => {}
            Change::Add(counter, by) => self.sums[counter as usize] += by,
            Change::Vanishing(key, tag) => {
                known.vanishing.insert(key, Known { revision: last, value: Some((tag, 40)) });
            }
            Change::Short(key, tag) => drop(known.short.insert(key, vec![tag])),
            Change::Clear => self.cleared = self.cleared.max(last),
        }
    }

    /// A process of this place has left or was killed: what it had begun is in doubt, what vanishes with it goes.
    pub(super) fn left(&mut self, place: usize) {
        let known = &mut self.places[place];
        known.vanishing.clear();
        let Some(change) = known.begun.take() else { return };
        self.in_doubt += 1;
        match change {
            Change::Add(counter, by) => self.doubtful_sums[counter as usize] += by,
            Change::Short(key, tag) => known.short.entry(key).or_default().push(tag),
            Change::Clear => self.doubtful_clear = true,
            Change::Vanishing(..) | Change::Shared => {}
            change @ Change::Keys(_) => self.doubts.push((place, change)),
        }
    }
}

/// What stands there: revision and value, which must be whole.
fn look(bus: &Bus, key: &str) -> Known {
    match bus.get_entry(key).unwrap() {
        None => Known::default(),
        Some(entry) => {
            let value = Some((tag_of(&entry.value), entry.stat.size));
            Known { revision: entry.stat.revision.get(), value }
        }
    }
}

impl Oracle {
    /// Compares with the bus, at which nobody writes; what was in doubt is known afterwards.
    pub(super) fn compare(&mut self, bus: &Bus) {
        let mut there = Vec::new();
        for place in 0..self.places.len() {
            there.push((0..KEYS).map(|key| look(bus, &own_key(place as u64, key))).collect());
        }
        self.resolve_clear(&there);
        for (place, change) in std::mem::take(&mut self.doubts) {
            self.resolve(place, &change, &there[place]);
        }
        for (place, found) in there.iter().enumerate() {
            for (key, found) in found.iter().enumerate() {
                let known = self.expected(place, key as u64);
                assert_eq!(
                    found.value, known.value,
                    "place {place}, key {key}: {known:?} {found:?}"
                );
                assert!(found.value.is_none() || found.revision <= known.revision);
            }
        }
        self.compare_few(bus);
        for counter in 0..COUNTERS {
            let index = counter as usize;
            let found = bus.get::<i64>(counter_key(counter)).unwrap().unwrap_or(0);
            let (least, most) = (self.sums[index], self.sums[index] + self.doubtful_sums[index]);
            assert!((least..=most).contains(&found), "sum {counter}: {least} {found} {most}");
            self.sums[index] = found;
            self.doubtful_sums[index] = 0;
        }
    }

    fn expected(&self, place: usize, key: u64) -> Known {
        let known = self.places[place].keys.get(&key).copied().unwrap_or_default();
        if known.revision < self.cleared { Known { value: None, ..known } } else { known }
    }

    /// Whether a key's change in doubt says what is found.
    fn is_new(&self, place: usize, key: u64, found: Known) -> bool {
        self.doubts.iter().any(|(at, change)| {
            let Change::Keys(changes) = change else { return false };
            *at == place && changes.contains(&(key, found.value))
        })
    }

    /// A clear in doubt took place when something is missing that no other change took away; then all that
    /// is left is younger than all that is missing.
    fn resolve_clear(&mut self, there: &[Vec<Known>]) {
        let (mut missing, mut oldest) = (0, u64::MAX);
        for (place, found) in there.iter().enumerate() {
            for (key, found) in found.iter().enumerate() {
                let known = self.expected(place, key as u64);
                match (found.value, known.value) {
                    (None, Some(_)) if !self.is_new(place, key as u64, *found) => {
                        missing = missing.max(known.revision);
                    }
                    (Some(_), _) => oldest = oldest.min(found.revision),
                    _ => {}
                }
            }
        }
        if std::mem::take(&mut self.doubtful_clear) && missing > 0 {
            assert!(missing < oldest, "a clear left {oldest} and took {missing}");
            self.cleared = self.cleared.max(missing + 1);
            self.happened += 1;
        }
    }

    /// A change in doubt is there whole, or not at all.
    fn resolve(&mut self, place: usize, change: &Change, found: &[Known]) {
        let Change::Keys(changes) = change else { return };
        let (mut old, mut new) = (0, 0);
        for (key, value) in changes {
            let (known, found) = (self.expected(place, *key).value, found[*key as usize].value);
            old += u32::from(found == known && found != *value);
            new += u32::from(found == *value && found != known);
        }
        assert!(old == 0 || new == 0, "half of {change:?}: {old} old, {new} new");
        if new > 0 {
            self.happened += 1;
            for (key, value) in changes {
                let revision = found[*key as usize].revision.max(self.cleared);
                self.places[place].keys.insert(*key, Known { revision, value: *value });
            }
        }
    }

    /// Keys that end by themselves.
    fn compare_few(&self, bus: &Bus) {
        for (place, known) in self.places.iter().enumerate() {
            for key in 0..FEW {
                let found = look(bus, &vanishing_key(place as u64, key));
                if let Some(known) = known.vanishing.get(&key).filter(|k| k.revision > self.cleared)
                {
                    assert_eq!(found.value, known.value, "place {place}, vanishing {key}");
                }
                if let Some(found) = look(bus, &short_key(place as u64, key)).value {
                    let begun = known.short.get(&key).is_some_and(|tags| tags.contains(&found.0));
                    assert!(begun, "place {place}, short {key}: {found:?}");
                }
            }
        }
    }

    /// Whether keys are there that must vanish with the last process of this place.
    pub(super) fn is_left(bus: &Bus, place: usize) -> bool {
        (0..FEW).any(|key| bus.contains(vanishing_key(place as u64, key)).unwrap())
    }
}

/// The load's sizes are what the oracle takes them for.
#[test]
fn sizes_follow_from_tags() {
    let sizes: Vec<_> = (0..10_000).map(size_of).collect();
    assert!(sizes.iter().all(|size| (8..150_008).contains(size)));
    assert!(sizes.iter().any(|size| *size > 70_000) && sizes.iter().any(|size| *size < 20));
}
