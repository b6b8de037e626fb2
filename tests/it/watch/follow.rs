//! List, then follow: no gap and no repeat, whoever writes meanwhile; and replay from a cursor.

use super::{Fold, listing};
use crate::harness::actor::{Actor, actor};
use crate::harness::{Place, Rng, Seed, assert_whole, caught_up, heavy, next, next_change};
use membus::{
    Bus, BusReader, Change, ChangeKind, Cursor, Event, ReadBus, Revision, Watch, WatchError,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// A bus whose log holds all that these tests write.
fn wide(place: &Place) -> Bus {
    let options = place.options().capacity(48 << 20).max_capacity(256 << 20).log_size(64 << 20);
    options.open_at(place.bus()).unwrap()
}

fn writers(place: &Place, rng: &mut Rng, changes: u64) -> Vec<Actor> {
    let start = |own| {
        let casting = actor("watch_writer", place).with("own", own).with("changes", changes);
        casting.with("seed", rng.next() >> 1).with("clears", 1).start()
    };
    ["a", "b", "c"].map(start).into()
}

/// One watch from its listing on, and what it told.
struct Followed {
    watch: Watch,
    fold: Fold,
    from: u64,
    listed: BTreeMap<Vec<u8>, u64>,
    told: Vec<u64>,
}

impl Followed {
    fn begin(mut watch: Watch) -> Self {
        let fold = listing(&mut watch);
        let listed = fold.entries.iter().map(|(key, entry)| (key.clone(), entry.0)).collect();
        Self { watch, from: fold.last, fold, listed, told: Vec::new() }
    }

    /// Takes what is there, so many events at the most: whether there was an end.
    fn take(&mut self, most: usize) -> bool {
        for _ in 0..most {
            match self.watch.try_recv().unwrap() {
                Some(Event::Change(change)) => {
                    self.told.push(change.revision.get());
                    self.fold.change(change);
                }
                None => return true,
                other => panic!("{other:?}"),
            }
        }
        false
    }

    /// It told exactly the changes of this prefix that its listing did not hold already, and what it
    /// told comes to what is there.
    fn told_exactly(mut self, bus: &Bus, prefix: &str, all: &[(u64, ChangeKind, Vec<u8>)]) {
        while !self.take(usize::MAX) {}
        let head = bus.info().unwrap().revision;
        assert_eq!(self.watch.cursor().revision, head);
        let expected = all.iter().filter(|(revision, kind, key)| {
            let ours = *kind == ChangeKind::Clear || key.starts_with(prefix.as_bytes());
            *revision > self.from
                && ours
                && self.listed.get(key).is_none_or(|listed| revision > listed)
        });
        let expected: Vec<_> = expected.map(|(revision, ..)| *revision).collect();
        assert!(self.told == expected, "{prefix}: {} of {}", self.told.len(), expected.len());
        self.fold.is(bus, prefix);
    }
}

/// Begins watches while others write, and follows each of them for a while.
fn follow_many(open: impl Fn() -> Watch, done: &AtomicBool, rng: &mut Rng) -> Vec<Followed> {
    let mut followed: Vec<Followed> = Vec::new();
    while !done.load(Ordering::Relaxed) {
        if followed.len() < 8 || rng.once_in(20) {
            followed.truncate(7);
            followed.push(Followed::begin(open()));
        }
        for watch in &mut followed {
            watch.take(rng.below(300) as usize);
        }
    }
    followed
}

/// Every change of the bus, in order: replay has no gap.
fn replay(bus: &Bus) -> Vec<(u64, ChangeKind, Vec<u8>)> {
    let mut watch = bus.watch_from("", Cursor { incarnation: 0, revision: 0 }).unwrap();
    let mut all = Vec::new();
    while let Some(event) = watch.try_recv().unwrap() {
        let Event::Change(change) = event else { panic!("{event:?}") };
        all.push((change.revision.get(), change.kind, change.key.to_vec()));
        assert_eq!(change.revision.get(), all.len() as u64);
    }
    assert_eq!(all.len() as u64, bus.info().unwrap().revision);
    all
}

/// Promise "one order": `watch(prefix)` is all current entries, then every later change, no gap and no
/// repeat, in the order in which they became visible; what is told comes to what is there. By a member
/// and by a reader, with and without a prefix.
/// Method: watches begin at any time while three processes write; at the end each is compared with the
/// replay of the whole log.
/// Plants: `next = after + 1` in `list` leaves a gap; `listed` not looked at in `told` repeats.
#[test]
fn list_then_follow_has_no_gap_and_no_repeat() {
    let _alone = heavy();
    let seed = Seed::of("list_then_follow_has_no_gap_and_no_repeat");
    let place = Place::new();
    let bus = wide(&place);
    let reader = BusReader::open_at(place.bus()).unwrap();
    let mut rng = seed.rng();
    let writers = writers(&place, &mut rng, 12_000);
    let done = AtomicBool::new(false);
    let [one, two, three] = [(); 3].map(|()| Rng::new(rng.next()));
    let follow = |open: &dyn Fn() -> Watch, mut rng| follow_many(open, &done, &mut rng);
    let (all, shared, polled) = std::thread::scope(|scope| {
        let (bus, reader, follow) = (&bus, &reader, &follow);
        let all = scope.spawn(move || follow(&|| bus.watch("").unwrap(), one));
        let shared = scope.spawn(move || follow(&|| bus.watch("shared/").unwrap(), two));
        let polled = scope.spawn(move || follow(&|| reader.watch("").unwrap(), three));
        for writer in writers {
            writer.expect("wrote");
            writer.end();
        }
        done.store(true, Ordering::Relaxed);
        (all.join().unwrap(), shared.join().unwrap(), polled.join().unwrap())
    });
    let changes = replay(&bus);
    for (watches, prefix) in [(all, ""), (shared, "shared/"), (polled, "")] {
        assert!(watches.iter().any(|watch| watch.from > 100), "none began in the middle");
        for watch in watches {
            watch.told_exactly(&bus, prefix, &changes);
        }
    }
    assert_whole(&bus);
}

/// A change as it is compared: without the value of one that is read by key.
fn brief(change: &Change) -> (u64, ChangeKind, Vec<u8>, Option<String>) {
    (change.revision.get(), change.kind, change.key.to_vec(), change.who.clone())
}

/// Promise (watching): a cursor replays exactly what came after it, again and again, by any handle; its
/// text is `INCARNATION:REVISION`, a bare revision means this incarnation, one beyond the newest change
/// is an error with both numbers, and `NOW` begins with the next change.
/// Plant: `log_find` that gives the record after the one asked for.
#[test]
fn a_cursor_replays_exactly_the_rest() {
    let place = Place::new();
    let bus = wide(&place);
    let mut watch = bus.watch("").unwrap();
    let mut cursors = vec![caught_up(&mut watch)];
    assert_eq!(cursors[0].revision, 0);
    let mut rng = Rng::new(7);
    for writer in writers(&place, &mut rng, 400) {
        writer.expect("wrote");
        writer.end();
    }
    let mut told = Vec::new();
    while let Some(event) = watch.try_recv().unwrap() {
        let Event::Change(change) = event else { panic!("{event:?}") };
        assert_eq!(watch.cursor().revision, change.revision.get());
        told.push(brief(&change));
        cursors.push(watch.cursor());
    }
    let reader = BusReader::open_at(place.bus()).unwrap();
    for index in (0..cursors.len()).step_by(97).chain([1, cursors.len() - 1]) {
        let text = cursors[index].to_string();
        assert_eq!(text.split_once(':').unwrap().0.len(), 16);
        let cursor: Cursor = text.parse().unwrap();
        let bare: Cursor = cursor.revision.to_string().parse().unwrap();
        assert_eq!((cursor, bare.incarnation), (cursors[index], 0));
        for mut again in [
            bus.watch_from("", cursor).unwrap(),
            reader.watch_from("", cursor).unwrap(),
            bus.watch_from("", bare).unwrap(),
        ] {
            for expected in &told[index..] {
                assert_eq!(brief(&next_change(&mut again)), *expected);
            }
            assert!(again.try_recv().unwrap().is_none());
        }
    }
    let head = told.len() as u64;
    let future = Cursor { incarnation: 0, revision: head + 1 };
    for refused in [bus.watch_from("", future), reader.watch_from("", future)] {
        let error = refused.unwrap_err();
        assert!(
            matches!(error, WatchError::Future { cursor, head: h } if cursor == future && h == head)
        );
    }
    let mut now = bus.watch_from("", Cursor::NOW).unwrap();
    assert!(matches!(next(&mut now), Event::CaughtUp(cursor) if cursor.revision == head));
    let revision: Revision = bus.set("k", &1).unwrap();
    assert_eq!(next_change(&mut now).revision, revision);
    for wrong in ["", "x", "1:", ":1", "zz:1", "1:2:3", "-1"] {
        assert!(wrong.parse::<Cursor>().is_err(), "{wrong}");
    }
}

/// Promise (watching): a prefix lets pass what begins with it and every clear, and nothing else; an empty
/// prefix everything; one as long as a key that key.
/// Plant: `watch_matches` compares no more than a writer's part of the prefix: others wake it, none is
/// told.
#[test]
fn a_prefix_lets_pass_what_begins_with_it() {
    let place = Place::new();
    let bus = place.open_small();
    let long = "p".repeat(300);
    let prefixes = ["", "a", "a/", "a/b", "b", &long];
    let mut watches: Vec<_> = prefixes.iter().map(|prefix| bus.watch(prefix).unwrap()).collect();
    for watch in &mut watches {
        caught_up(watch);
    }
    let keys = ["a", "a/", "a/b", "a/bc", "ab", "b/", &long, &format!("{long}q"), &"p".repeat(299)];
    for key in keys {
        bus.set_bytes(key, b"").unwrap();
    }
    bus.delete("a").unwrap();
    bus.clear().unwrap();
    for (watch, prefix) in watches.iter_mut().zip(prefixes) {
        let told = std::iter::from_fn(|| watch.try_recv().unwrap());
        let told: Vec<_> = told
            .map(|event| match event {
                Event::Change(change) => (change.kind, change.key.to_string()),
                other => panic!("{other:?}"),
            })
            .collect();
        let sets = keys.iter().filter(|key| key.starts_with(prefix));
        let mut expected: Vec<_> = sets.map(|key| (ChangeKind::Set, key.to_string())).collect();
        if "a".starts_with(prefix) {
            expected.push((ChangeKind::Delete, "a".to_owned()));
        }
        expected.push((ChangeKind::Clear, String::new()));
        assert_eq!(told, expected, "{prefix}");
    }
    assert!(bus.is_empty().unwrap());
}
