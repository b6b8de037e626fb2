//! Keys that end by themselves: with their time, or with their member.

use crate::harness::{Place, assert_whole, eventually, from_now, next_change};
use membus::{Batch, ChangeKind, Event, ReadBus, Watch};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(1000);

/// The next change: its kind, its key, its revision.
fn change(watch: &mut Watch) -> (ChangeKind, String, u64) {
    let change = next_change(watch);
    (change.kind, change.key.to_string(), change.revision.get())
}

/// Promise (expiry): at its deadline a key is absent to every reader at once, with nobody to take it
/// away; before it, it is there.
/// Method: a read that ended before the deadline must have seen it, one that began after it must not.
/// Plant: a look at the deadline in seconds instead of nanoseconds.
#[test]
fn a_key_is_there_until_its_deadline_and_not_after() {
    let place = Place::new();
    let bus = place.options().keeper(false).open_at(place.bus()).unwrap();
    let reader = membus::BusReader::open_at(place.bus()).unwrap();
    let (mut seen, mut missed) = (0, 0);
    for ttl in [1, 5, 200].map(Duration::from_millis) {
        let begun = Instant::now();
        bus.put("k").ttl(ttl).set_bytes(b"v").unwrap();
        let done = Instant::now();
        while missed == 0 || done.elapsed() < ttl * 2 {
            let from = Instant::now();
            let there = reader.contains("k").unwrap();
            if begun.elapsed() < ttl {
                assert!(there, "gone too early");
                seen += 1;
            }
            if from > done + ttl {
                assert!(!there, "still there");
                missed += 1;
            }
        }
        assert!(bus.stat("k").unwrap().is_none() && bus.get_bytes("k").unwrap().is_none());
        assert!(bus.read("k").unwrap().is_none() && bus.keys("").unwrap().is_empty());
        assert_eq!(reader.scan_entries("").count(), 0);
        assert!(bus.delete("k").unwrap().is_none(), "nothing is there to delete");
        assert!(bus.expire("k", None).unwrap().is_none());
    }
    assert!(seen > 0 && missed > 0, "{seen} {missed}");
    assert_whole(&bus);
}

/// Promise (expiry): conditions see an expired key as absent; whoever overwrites it logs its end first,
/// with a revision of its own.
/// Plant: the record of the end left out gives the watch one change only.
#[test]
fn an_expired_key_is_absent_to_conditions_and_its_end_is_told() {
    let place = Place::new();
    let bus = place.options().keeper(false).open_at(place.bus()).unwrap();
    let mut watch = from_now(&bus);
    let first = bus.put("k").ttl(Duration::from_nanos(1)).set_bytes(b"x").unwrap();
    assert!(bus.put("k").if_revision(first).set_bytes(b"no").is_err());
    let second = bus.put("k").if_absent().set_bytes(b"y").unwrap();
    bus.put("n").ttl(Duration::from_nanos(1)).set_counter(50).unwrap();
    assert_eq!(bus.add("n", 2).unwrap(), 2, "what expired is nothing to add to");
    let told: Vec<_> = (0..6).map(|_| change(&mut watch)).collect();
    let expected = [
        (ChangeKind::Set, "k", 1),
        (ChangeKind::Expire, "k", 2),
        (ChangeKind::Set, "k", 3),
        (ChangeKind::Set, "n", 4),
        (ChangeKind::Expire, "n", 5),
        (ChangeKind::Set, "n", 6),
    ];
    assert!(told.iter().zip(expected).all(|(t, e)| (t.0, t.1.as_str(), t.2) == e), "{told:?}");
    assert_eq!(second.get(), 3);
    assert_whole(&bus);
}

/// Promise (expiry): the keeper tells the end of each expired key, once, and takes it away; nothing
/// else.
/// Plant: an end that is told but leaves the slot word is told again and again.
#[test]
fn the_keeper_tells_each_end_once() {
    let place = Place::new();
    let bus = place.open_small();
    let mut watch = from_now(&bus);
    for number in 0..500 {
        let put = bus.put(format!("goes/{number}")).ttl(Duration::from_millis(number % 50));
        put.set_bytes(vec![0; 40]).unwrap();
        bus.put(format!("stays/{number}")).ttl(LONG).set_bytes(b"").unwrap();
    }
    let mut gone = std::collections::BTreeSet::new();
    while gone.len() < 500 {
        let (kind, key, _) = change(&mut watch);
        if kind == ChangeKind::Expire {
            assert!(key.starts_with("goes/") && gone.insert(key));
        }
    }
    eventually("the room of what expired", || (bus.len().unwrap() == 500).then_some(()));
    while let Some(event) = watch.try_recv().unwrap() {
        assert!(matches!(event, Event::Change(change) if change.kind == ChangeKind::Set));
    }
    assert_whole(&bus);
}

/// Promise (changes): `set` replaces the time to live, `add` and `update` keep it, `expire` gives or
/// takes it and leaves the value; in a batch the same, from the commit on.
/// Plant: `inherit` without the deadline lets `add` drop it.
#[test]
fn who_keeps_and_who_replaces_a_time_to_live() {
    let place = Place::new();
    let bus = place.open();
    let left = |key: &str| bus.stat(key).unwrap().unwrap().expires_in;
    let about = |key: &str, seconds: u64| {
        let found = left(key).unwrap();
        let most = Duration::from_secs(seconds);
        assert!(found <= most && found > most / 2, "{key}: {found:?}");
    };
    bus.put("n").ttl(LONG).set_counter(1).unwrap();
    about("n", 1000);
    bus.add("n", 1).unwrap();
    about("n", 1000);
    bus.expire("n", Some(Duration::from_secs(100))).unwrap().unwrap();
    about("n", 100);
    assert_eq!(bus.get::<i64>("n").unwrap(), Some(2));
    bus.expire("n", None).unwrap().unwrap();
    assert_eq!(left("n"), None);
    bus.put("n").ttl(LONG).set_counter(1).unwrap();
    bus.put("n").set_counter(1).unwrap();
    assert_eq!(left("n"), None);
    bus.put("n").ttl(LONG).set_counter(1).unwrap();
    let mut batch = Batch::new();
    batch.add("n", 1).put("t").ttl(Duration::from_secs(50)).set_bytes(b"");
    batch.set_bytes("plain", b"");
    bus.commit(&batch).unwrap();
    about("n", 1000);
    about("t", 50);
    assert_eq!(left("plain"), None);
    // Longer than any clock: it is there.
    bus.put("ever").ttl(Duration::MAX).set_bytes(b"").unwrap();
    assert!(left("ever").unwrap() > LONG * 1000);
    assert_whole(&bus);
}

/// Promise (ephemeral): keys vanish with the handle that set them, whoever may have changed their value
/// since; those that were set anew are the setter's own.
/// Plant: `delete_owned` by slot alone takes away what the slot's next user set.
#[test]
fn ephemeral_keys_go_with_their_handle() {
    let place = Place::new();
    let stays = place.open_small();
    let goes = place.attach();
    let clone = goes.clone();
    for key in ["mine", "taken over", "added", "updated"] {
        goes.put(key).ephemeral().set_counter(1).unwrap();
        assert!(stays.stat(key).unwrap().unwrap().ephemeral);
    }
    let mut batch = Batch::new();
    batch.put("in a batch").ephemeral().set_bytes(b"x");
    batch.set_bytes("plain", b"");
    goes.commit(&batch).unwrap();
    goes.put("large").ephemeral().set_bytes(vec![1; 300_000]).unwrap();
    stays.set("taken over", &5).unwrap();
    stays.add("added", 1).unwrap();
    drop(goes);
    assert_eq!(stays.len().unwrap(), 7, "a clone still has the seat");
    drop(clone);
    let mut left: Vec<_> = stays.keys("").unwrap().iter().map(ToString::to_string).collect();
    left.sort_unstable();
    assert_eq!(left, ["plain", "taken over"]);
    // The slot's next user is another member.
    let next = place.attach();
    next.put("next").ephemeral().set_bytes(b"").unwrap();
    let other = place.attach();
    drop(other);
    assert!(stays.contains("next").unwrap());
    drop(next);
    assert!(!stays.contains("next").unwrap());
    assert_whole(&stays);
}
