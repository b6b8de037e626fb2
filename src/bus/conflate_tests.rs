//! What a conflated watch tells, beside writers that stand still while it does: exactly.

use super::conflate::Conflation;
use super::testing::Place;
use crate::rng::Rng;
use crate::{Batch, Bus, Change, ChangeKind, ChangeValue, Cursor, Event, ReadBus, Watch};
use std::collections::BTreeMap;

fn narrow() -> (Bus, Place) {
    let place = Place::new();
    (place.options().log_size(4096).create_at(place.bus()).unwrap(), place)
}

/// What a receiver makes of what it is told.
#[derive(Debug, Default, Clone)]
struct Receiver {
    entries: BTreeMap<Vec<u8>, (u64, Vec<u8>)>,
    /// The last revision of each key, also of those that are gone; of the empty key: of a clear.
    last: BTreeMap<Vec<u8>, u64>,
    gaps: u64,
}

impl Receiver {
    fn take(&mut self, event: Event) {
        match event {
            Event::Current(entry) => {
                let revision = entry.stat.revision.get();
                self.last.insert(entry.key.to_vec(), revision);
                self.entries.insert(entry.key.to_vec(), (revision, entry.value));
            }
            Event::CaughtUp(_) => {}
            Event::Change(change) => self.change(change),
            Event::Lagged { .. } => {
                self.gaps += 1;
                self.entries.clear();
            }
        }
    }

    fn change(&mut self, change: Change) {
        let (key, revision) = (change.key.to_vec(), change.revision.get());
        for known in [&key, &Vec::new()].map(|key| self.last.get(key).copied().unwrap_or(0)) {
            assert!(known < revision, "{}: {revision} after {known}", change.key);
        }
        self.last.insert(key.clone(), revision);
        match (change.kind, change.value) {
            (ChangeKind::Set, ChangeValue::Here(value)) => {
                self.entries.insert(key, (revision, value));
            }
            (ChangeKind::Delete | ChangeKind::Expire, ChangeValue::None) => {
                assert!(self.entries.remove(&key).is_some(), "{}: unknown", change.key);
            }
            (ChangeKind::Clear, ChangeValue::None) => self.entries.clear(),
            other => panic!("{other:?}"),
        }
    }

    fn knows(&self, bus: &Bus) {
        let there = bus.scan_entries("").map(|entry| {
            let entry = entry.unwrap();
            (entry.key.to_vec(), (entry.stat.revision.get(), entry.value))
        });
        assert_eq!(self.entries, there.collect());
    }
}

fn told(watch: &mut Watch) -> Vec<(u64, String)> {
    let told = watch.try_iter().filter_map(|event| match event.unwrap() {
        Event::Change(change) => Some((change.revision.get(), change.key.to_string())),
        Event::Current(_) | Event::CaughtUp(_) => None,
        other => panic!("{other:?}"),
    });
    told.collect()
}

/// Plants: the older change of a key is kept; a round that is not sorted; the end of an unknown key is
/// told.
#[test]
fn the_newest_of_each_key_is_told_in_order() {
    let (bus, _place) = narrow();
    bus.set("a", &0).unwrap();
    let mut watch = bus.watch("").unwrap().conflated();
    assert_eq!(told(&mut watch), []);
    for number in 1..4 {
        for key in ["c", "b", "a", "new"] {
            bus.set(key, &number).unwrap();
        }
    }
    bus.delete("new").unwrap();
    let ones = |keys: &[(u64, &str)]| -> Vec<_> {
        keys.iter().map(|(revision, key)| (*revision, (*key).to_owned())).collect()
    };
    assert_eq!(watch.cursor().revision, 1);
    assert_eq!(told(&mut watch), ones(&[(10, "c"), (11, "b"), (12, "a")]));
    assert_eq!(watch.cursor().revision, 14);
    bus.delete("a").unwrap();
    bus.clear().unwrap();
    bus.set("b", &1).unwrap();
    bus.delete("c").unwrap();
    assert_eq!(told(&mut watch), ones(&[(16, ""), (17, "b")]));
    bus.delete("b").unwrap();
    assert_eq!(told(&mut watch), ones(&[(18, "b")]));
    assert_eq!(told(&mut watch), []);
}

/// Plants: `is_due` not looked at: the key that never rests is never told; nothing is passed over: a
/// state is told that is old.
#[test]
fn a_key_that_never_rests_is_told_and_old_states_are_not() {
    let (bus, _place) = narrow();
    let mut watch = bus.watch("").unwrap().conflated();
    told(&mut watch);
    let (mut hot, mut old, mut all) = (0, 0, 0);
    for step in 0..1000_u32 {
        // Two more keys a step than are taken; one of them always the same.
        for key in [step, step + 1].map(|number| format!("cold/{}", number % 10)) {
            bus.set(key, &step).unwrap();
        }
        bus.set("hot", &step).unwrap();
        let Event::Change(change) = watch.recv().unwrap() else { panic!("no change") };
        all += 1;
        hot += u64::from(&*change.key == b"hot");
        let newest = bus.stat(&change.key).unwrap().unwrap().revision;
        old += u64::from(newest != change.revision);
    }
    assert!(hot >= all / 25, "{hot} of {all}");
    assert!(old <= all / 8, "{old} of {all} were old");
    bus.set("quiet", &1).unwrap();
    bus.set("x", &1).unwrap();
    bus.set("x", &2).unwrap();
    let rest = told(&mut watch);
    assert!(rest.is_sorted(), "{rest:?}");
}

/// Plants: keys that are gone are not looked for; the rest of a round is told as it was.
#[test]
fn behind_a_gap_what_differs_is_told() {
    let (bus, _place) = narrow();
    for key in ["stays", "goes", "changes"] {
        bus.set(key, &0).unwrap();
    }
    let mut watch = bus.watch("").unwrap().conflated();
    told(&mut watch);
    bus.set("first", &0).unwrap();
    bus.set("second", &0).unwrap();
    let Event::Change(first) = watch.recv().unwrap() else { panic!("no change") };
    assert_eq!(&*first.key, b"first");
    bus.put("second").who("me").set(&1).unwrap();
    bus.delete("goes").unwrap();
    for number in 0..1000 {
        bus.set("changes", &number).unwrap();
    }
    let head = bus.info().unwrap().revision;
    let Event::Change(second) = watch.recv().unwrap() else { panic!("no change") };
    assert_eq!((&*second.key, second.revision.get()), (&b"second"[..], 6));
    assert_eq!(second.who.as_deref(), Some("me"));
    let rest = told(&mut watch);
    assert_eq!(rest, [(head, "changes".to_owned()), (head, "goes".to_owned())]);
    assert_eq!(watch.cursor().revision, head);
}

/// Promise (watching): whoever goes on from the cursor of a watch, as it was after any of its events, is told all
/// that it was not told yet: that a key is gone, too, of which no record is left.
/// Plants: a cursor behind the gap as soon as what is there was listed, of a watch that knows all, or of one that
/// began at a cursor.
#[test]
fn a_cursor_from_the_midst_of_a_listing_leads_back_before_its_gap() {
    let (bus, _place) = narrow();
    for key in ["stays", "goes", "changes"] {
        bus.set(key, &0).unwrap();
    }
    let mut watches = [bus.watch("").unwrap(), bus.watch_from("", Cursor::NOW).unwrap()]
        .map(|watch| (watch.conflated(), Receiver::default()));
    for (watch, receiver) in &mut watches {
        watch.try_iter().for_each(|event| receiver.take(event.unwrap()));
    }
    bus.delete("goes").unwrap();
    for number in 0..1000 {
        bus.set("changes", &number).unwrap();
    }
    for (mut watch, mut receiver) in watches {
        let mut events = 0;
        while let Some(event) = watch.try_recv().unwrap() {
            receiver.take(event);
            events += 1;
            let (mut next, mut goes_on) =
                (bus.watch_from("", watch.cursor()).unwrap().conflated(), receiver.clone());
            next.try_iter().for_each(|event| goes_on.take(event.unwrap()));
            goes_on.knows(&bus);
        }
        receiver.knows(&bus);
        assert!(events >= 2 && watch.cursor().revision == bus.info().unwrap().revision);
    }
}

/// Plants: a watch that began at a cursor takes what it told for all there is: a key that is gone is not
/// told; its cursor passes the gap before all was told.
#[test]
fn who_began_at_a_cursor_is_told_of_the_first_gap_and_everything() {
    let (bus, _place) = narrow();
    bus.set("before", &0).unwrap();
    let mut watch = bus.watch_from("", Cursor::NOW).unwrap().conflated();
    let mut receiver = Receiver::default();
    bus.set("k", &0).unwrap();
    watch.try_iter().for_each(|event| receiver.take(event.unwrap()));
    assert_eq!((receiver.entries.len(), watch.cursor().revision), (1, 2));
    for gaps in [1, 1] {
        bus.set("before", &1).unwrap();
        bus.delete("before").unwrap();
        for number in 0..1000 {
            bus.set("k", &number).unwrap();
        }
        assert_eq!(watch.cursor().revision, receiver.last[&b"k"[..]]);
        watch.try_iter().for_each(|event| receiver.take(event.unwrap()));
        receiver.knows(&bus);
        // From the first gap on it knows what its receiver knows.
        assert_eq!(receiver.gaps, gaps);
        assert_eq!(watch.cursor().revision, bus.info().unwrap().revision);
    }
    let mut conflation = Conflation::default();
    conflation.has_missed(5, 20);
    assert_eq!(conflation.passed(20), 15);
    // Of another life: what was there when this one began is in no record.
    let foreign = Cursor { incarnation: 77, revision: 0 };
    let mut watch = bus.watch_from("", foreign).unwrap().conflated();
    let mut receiver = Receiver::default();
    watch.try_iter().for_each(|event| receiver.take(event.unwrap()));
    receiver.knows(&bus);
}

fn change(bus: &Bus, rng: &mut Rng) {
    let key = |rng: &mut Rng| format!("k{}", rng.below(20));
    match rng.below(100) {
        0..55 => drop(bus.set(key(rng), &rng.next()).unwrap()),
        55..60 => {
            let value = vec![rng.next() as u8; 1025 + rng.below(3000) as usize];
            bus.set_bytes(key(rng), value).unwrap();
        }
        60..85 => drop(bus.delete(key(rng)).unwrap()),
        85..98 => {
            let mut batch = Batch::new();
            for _ in 0..rng.below(30) {
                match rng.below(3) {
                    0 => batch.delete(key(rng)),
                    _ => batch.set(key(rng), &rng.next()).unwrap(),
                };
            }
            bus.commit(&batch).unwrap();
        }
        _ => drop(bus.clear().unwrap()),
    }
}

/// Whatever is written between its looks, and however seldom it looks: see `Receiver::change`; in the end
/// it knows what is there.
///
/// Plants: `told` not looked at in `tell`; a gap after which nothing is listed; what was kept for the next
/// round survives a gap, or a clear; a large value is told as its record says.
#[test]
fn the_last_state_arrives_at_any_pace() {
    for seed in 0..60 {
        let (bus, _place) = narrow();
        let mut rng = Rng::new(seed);
        for _ in 0..rng.below(30) {
            change(&bus, &mut rng);
        }
        let mut watch = bus.watch("").unwrap().conflated();
        let mut receiver = Receiver::default();
        let haste = 1 + rng.below(60);
        for _ in 0..400 {
            for _ in 0..rng.below(haste) {
                change(&bus, &mut rng);
            }
            for event in watch.try_iter().take(rng.below(8) as usize) {
                receiver.take(event.unwrap());
            }
        }
        watch.try_iter().for_each(|event| receiver.take(event.unwrap()));
        receiver.knows(&bus);
        assert_eq!(receiver.gaps, 0, "seed {seed}");
        assert_eq!(watch.cursor().revision, bus.info().unwrap().revision);
    }
}
