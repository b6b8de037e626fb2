//! Watches: every change once and in order, an honest `Lagged`, and no lost wake-up.

pub(crate) mod bells;
mod cancel;
mod conflated;
mod follow;
mod history;
pub(crate) mod idle;
mod lagged;
mod old;
pub(crate) mod sleep;
#[cfg(feature = "stream")]
mod stream;

use crate::harness::Rng;
use crate::harness::part::Part;
use membus::{Batch, Bus, Change, ChangeKind, ChangeValue, Entry, Event, ReadBus};
use std::collections::BTreeMap;

/// Writes so many random changes: sets of all sizes, deletes, sums, batches, few clears.
pub(crate) fn writer(part: &Part) {
    let bus = part.attach();
    let (mut rng, own) = (Rng::new(part.number("seed")), part.word("own"));
    for _ in 0..part.number("changes") {
        change(&bus, &mut rng, &own, part.has("clears"));
    }
    part.say("wrote");
}

fn change(bus: &Bus, rng: &mut Rng, own: &str, clears: bool) {
    let area = if rng.once_in(2) { "shared" } else { own };
    let key = format!("{area}/{}", rng.below(40));
    match rng.below(100) {
        0..55 => drop(bus.set_bytes(key, value(rng.below(200) as usize, rng)).unwrap()),
        55..60 => drop(bus.set_bytes(key, value(rng.below(5000) as usize, rng)).unwrap()),
        60..75 => drop(bus.delete(key).unwrap()),
        75..85 => drop(bus.add(format!("n/{}", rng.below(10)), 1).unwrap()),
        85..99 => {
            let mut batch = Batch::new();
            for _ in 0..rng.below(60) {
                let key = format!("{area}/{}", rng.below(40));
                match rng.below(3) {
                    0 => batch.delete(key),
                    _ => batch.set_bytes(key, value(rng.below(100) as usize, rng)),
                };
            }
            bus.commit(&batch).unwrap();
        }
        _ if clears => drop(bus.clear().unwrap()),
        _ => {}
    }
}

fn value(size: usize, rng: &mut Rng) -> Vec<u8> {
    vec![rng.next() as u8; size]
}

/// What a watch was told, folded: the value of each key, `None` when only its size was told, with its
/// revision.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Fold {
    pub(crate) entries: BTreeMap<Vec<u8>, (u64, Option<Vec<u8>>)>,
    /// Revision of the last change.
    pub(crate) last: u64,
    pub(crate) changes: u64,
}

impl Fold {
    pub(crate) fn current(&mut self, entry: Entry) {
        let at = (entry.stat.revision.get(), Some(entry.value));
        let before = self.entries.insert(entry.key.to_vec(), at);
        assert!(before.is_none(), "listed twice: {}", entry.key);
    }

    pub(crate) fn change(&mut self, change: Change) {
        let revision = change.revision.get();
        assert!(revision > self.last, "{revision} after {}", self.last);
        self.last = revision;
        self.changes += 1;
        let known = self.entries.get(&*change.key).map_or(0, |known| known.0);
        assert!(revision > known, "`{}` was listed at {known}, told at {revision}", change.key);
        match (change.kind, change.value) {
            (ChangeKind::Set, ChangeValue::Here(value)) => {
                self.entries.insert(change.key.to_vec(), (revision, Some(value)));
            }
            (ChangeKind::Set, ChangeValue::TooLarge { size }) => {
                assert!(size > membus::limits::RECORD_VALUE_MAX);
                self.entries.insert(change.key.to_vec(), (revision, None));
            }
            (ChangeKind::Delete | ChangeKind::Expire, ChangeValue::None) => {
                self.entries.remove(&*change.key);
            }
            (ChangeKind::Clear, ChangeValue::None) => self.entries.clear(),
            other => panic!("{other:?}"),
        }
    }

    /// It is exactly what is there under a prefix.
    #[track_caller]
    pub(crate) fn is(&self, bus: &impl ReadBus, prefix: &str) {
        let there = bus.scan_entries(prefix).map(Result::unwrap);
        let there: BTreeMap<_, _> = there
            .map(|entry| (entry.key.to_vec(), (entry.stat.revision.get(), Some(entry.value))))
            .collect();
        assert_eq!(self.entries.len(), there.len(), "{prefix}: keys");
        for (key, found) in &there {
            let folded = self.entries.get(key).unwrap_or_else(|| panic!("{key:?} was not told"));
            assert_eq!(folded.0, found.0, "{}", key.escape_ascii());
            assert_eq!(folded.1, found.1, "{}", key.escape_ascii());
        }
    }
}

/// Takes the listing: what is there, and where it is followed from.
pub(crate) fn listing(watch: &mut membus::Watch) -> Fold {
    let mut fold = Fold::default();
    loop {
        match crate::harness::next(watch) {
            Event::Current(entry) => fold.current(entry),
            Event::CaughtUp(cursor) => {
                fold.last = cursor.revision;
                return fold;
            }
            other => panic!("{other:?}"),
        }
    }
}
