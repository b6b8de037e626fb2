//! Conflated watches: the last state of each key arrives, at any pace, and nothing twice.

use super::{Fold, listing};
use crate::harness::actor::actor;
use crate::harness::{Place, Rng, Seed, assert_whole, heavy, tell};
use membus::{Bus, BusReader, Change, ChangeKind, ChangeValue, Event, Watch};
use std::collections::BTreeMap;

/// A conflated watch, and what its receiver makes of it.
struct Receiver {
    watch: Watch,
    fold: Fold,
    /// The last revision told of each key, also of one that is gone.
    last: BTreeMap<Vec<u8>, u64>,
    cleared: u64,
    told: u64,
}

impl Receiver {
    fn begin(watch: Watch) -> Self {
        let mut watch = watch.conflated();
        let fold = listing(&mut watch);
        let last = fold.entries.iter().map(|(key, entry)| (key.clone(), entry.0)).collect();
        Self { watch, fold, last, cleared: 0, told: 0 }
    }

    /// Takes so many events at the most: whether there was an end.
    fn take(&mut self, most: u64) -> bool {
        for _ in 0..most {
            match self.watch.try_recv().unwrap() {
                Some(Event::Change(change)) => self.change(change),
                None => return true,
                other => panic!("{other:?}"),
            }
        }
        false
    }

    fn change(&mut self, change: Change) {
        self.told += 1;
        let (key, revision) = (change.key.to_vec(), change.revision.get());
        let known = self.last.insert(key.clone(), revision).unwrap_or(0).max(self.cleared);
        assert!(known < revision, "`{}`: {revision} after {known}", change.key);
        let entries = &mut self.fold.entries;
        match (change.kind, change.value) {
            (ChangeKind::Set, ChangeValue::Here(value)) => {
                entries.insert(key, (revision, Some(value)));
            }
            (ChangeKind::Set, ChangeValue::TooLarge { .. }) => {
                entries.insert(key, (revision, None));
            }
            (ChangeKind::Delete, ChangeValue::None) => {
                assert!(entries.remove(&key).is_some(), "`{}` was not known", change.key);
            }
            (ChangeKind::Clear, ChangeValue::None) => {
                entries.clear();
                self.cleared = revision;
            }
            other => panic!("{other:?}"),
        }
    }

    fn knows(mut self, bus: &Bus, prefix: &str) {
        while !self.take(u64::MAX) {}
        self.fold.is(bus, prefix);
        assert_eq!(self.watch.cursor().revision, bus.info().unwrap().revision);
    }
}

/// Promise (conflated watches): however slow the receiver is, it is told the last state of each key, for
/// each key in order and nothing twice, and never that it missed something.
/// Method: three processes write at full speed into the smallest log; watches of a member and of a
/// reader, of all keys and of some, begin at any time and take few events or many, with long pauses.
/// Plants: `told` not looked at in `tell`; what was kept for the next round survives a gap.
#[test]
fn a_slow_receiver_gets_the_last_state_of_each_key() {
    let _alone = heavy();
    let seed = Seed::of("a_slow_receiver_gets_the_last_state_of_each_key");
    let mut rng = seed.rng();
    let place = Place::new();
    let bus = place.small().log_size(4096).open_at(place.bus()).unwrap();
    let reader = BusReader::open_at(place.bus()).unwrap();
    let prefixes = ["", "shared/", "a/"];
    let open = |rng: &mut Rng| {
        let prefix = prefixes[rng.below(3) as usize];
        let watch = if rng.once_in(2) { bus.watch(prefix) } else { reader.watch(prefix) };
        (prefix, 1 + rng.below(300), Receiver::begin(watch.unwrap()))
    };
    let start = |own, seed| {
        let casting = actor("watch_writer", &place).with("own", own).with("seed", seed);
        casting.with("changes", 150_000).with("clears", 1).start()
    };
    let mut running: Vec<_> = ["a", "b", "c"].map(|own| start(own, rng.next() >> 1)).into();
    let mut receivers: Vec<_> = (0..6).map(|_| open(&mut rng)).collect();
    let mut told = 0;
    while !running.is_empty() {
        running.retain(|writer| writer.try_line().is_none());
        let index = rng.below(6) as usize;
        let (_, pace, receiver) = &mut receivers[index];
        receiver.take(rng.below(*pace));
        if rng.once_in(50) {
            std::thread::sleep(rng.micros(3000));
        }
        if rng.once_in(500) {
            told += receiver.told;
            receivers[index] = open(&mut rng);
        }
    }
    for (prefix, _, receiver) in receivers {
        told += receiver.told;
        receiver.knows(&bus, prefix);
    }
    let head = bus.info().unwrap().revision;
    assert!(told > 1000, "{told}");
    tell(&format!("conflated: {told} changes told, of {head} each to six watches"));
    assert_whole(&bus);
}
