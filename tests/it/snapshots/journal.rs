//! A journal under processes that are killed: what was acknowledged comes back without any region.

use super::{content, lose};
use crate::harness::actor::{Actor, actor};
use crate::harness::part::{Part, say};
use crate::harness::{Place, Seed, heavy, parameter};
use membus::{JournalSync, ReadBus};
use std::collections::BTreeMap;
use std::time::Duration;

/// Writers, each of which may be the keeper.
const WRITERS: usize = 3;

/// Counts its key up, and says each number when its write has returned, until it is killed. Every seventh is a large
/// value, every eleventh has a time to live, which no record of the log tells.
pub(crate) fn journaling(part: &Part) {
    let bus = part.options().attach_at(part.place.bus()).unwrap();
    let key = part.word("key");
    let mut value = bus.get::<(u64, Vec<u8>)>(&key).unwrap().map_or(0, |value| value.0);
    loop {
        value += 1;
        let filler = if value.is_multiple_of(7) { vec![7_u8; 3000] } else { Vec::new() };
        let mut put = bus.put(&key);
        if value.is_multiple_of(11) {
            put = put.ttl(Duration::from_secs(3600));
        }
        put.set(&(value, filler)).unwrap();
        say(&format!("wrote {value}"));
    }
}

/// What a writer has acknowledged.
fn acknowledge(writer: &Actor, numbers: &mut BTreeMap<String, u64>, key: &str) {
    while let Some(line) = writer.try_line() {
        let number = line.strip_prefix("wrote ").unwrap().parse().unwrap();
        numbers.insert(key.to_owned(), number);
    }
}

/// Promise "durable as asked": with a journal that is always synced, a write that returned is there after the region is
/// gone, whoever was killed meanwhile, the keeper too; and no value is there that was not written.
/// Method: three writers, each a candidate for the keeper, are killed in turn and started anew; then all at once, and
/// the region is removed. In each of some rounds.
/// Plants: no wait for the journal (an acknowledged number is missing); a new keeper that goes on at the head, as if the
/// rest were written.
#[test]
fn what_was_acknowledged_outlives_region_and_keepers() {
    let _alone = heavy();
    let seed = Seed::of("what_was_acknowledged_outlives_region_and_keepers");
    let (mut rng, kills) = (seed.rng(), parameter("MEMBUS_IT_JOURNAL_KILLS", 24));
    let place = Place::new();
    drop(
        place.options().keeper(false).journal(JournalSync::Always).create_at(place.bus()).unwrap(),
    );
    let start = |key: &str| actor("journaling", &place).with("keeper", 1).with("key", key).start();
    let keys: Vec<String> = (0..WRITERS).map(|number| format!("writer{number}")).collect();
    let mut numbers = BTreeMap::new();
    for round in 0..3 {
        let mut writers: Vec<Actor> = keys.iter().map(|key| start(key)).collect();
        for _ in 0..kills / 3 {
            std::thread::sleep(rng.micros(80_000));
            let number = rng.below(WRITERS as u64) as usize;
            writers[number].kill();
            for line in writers[number].rest() {
                let value = line.strip_prefix("wrote ").unwrap().parse().unwrap();
                numbers.insert(keys[number].clone(), value);
            }
            writers[number] = start(&keys[number]);
        }
        // Each has written something in this round.
        for (key, writer) in keys.iter().zip(&writers) {
            numbers.insert(key.clone(), writer.expect("wrote").parse().unwrap());
            acknowledge(writer, &mut numbers, key);
        }
        for (key, writer) in keys.iter().zip(&mut writers) {
            writer.kill();
            for line in writer.rest() {
                numbers.insert(key.clone(), line.strip_prefix("wrote ").unwrap().parse().unwrap());
            }
        }
        lose(&place);
        let bus = place.options().keeper(false).open_at(place.bus()).unwrap();
        for (key, number) in &numbers {
            let (found, filler) = bus.get::<(u64, Vec<u8>)>(key).unwrap().unwrap();
            assert!(
                found >= *number,
                "round {round}, {key}: {found}, and {number} was acknowledged"
            );
            assert!(found <= number + 1, "round {round}, {key}: {found} after {number}");
            assert_eq!(filler.len(), if found.is_multiple_of(7) { 3000 } else { 0 });
            let stat = bus.stat(key).unwrap().unwrap();
            assert_eq!(stat.expires_in.is_some(), found.is_multiple_of(11));
        }
        assert_eq!(content(&bus).len(), WRITERS);
    }
    println!("{} writes acknowledged, {kills} killed", numbers.values().sum::<u64>());
}
