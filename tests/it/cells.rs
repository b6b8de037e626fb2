//! Cells: what is read again and again is what is there, whoever changes it and dies meanwhile.

use crate::harness::actor::{Actor, actor};
use crate::harness::part::Part;
use crate::harness::{Place, Rng, Seed, assert_whole, earned, eventually, heavy, parameter, tell};
use membus::{Batch, Bus, BusReader, Cell, ReadBus, WriteError};
use std::time::Duration;

const KEYS: u64 = 6;

fn key(number: u64) -> String {
    format!("k{number}")
}

/// A value that says what it is: its tag, and bytes that follow from it.
fn value(tag: u64) -> Vec<u8> {
    let size = 8 + if tag.is_multiple_of(50) { tag % 20_000 } else { tag % 300 };
    let mut value = tag.to_le_bytes().to_vec();
    value.extend((8..size).map(|at| (tag.wrapping_mul(31) + at) as u8));
    value
}

/// Changes the keys in all ways there are, as fast as it can: sets, batches, short times to live,
/// deletes, clears; and keys beside them, so that arrays double, the file grows, and blocks are cut anew.
pub(crate) fn writer(part: &Part) {
    let bus = part.attach();
    let mut rng = Rng::new(part.number("seed"));
    part.say("attached");
    while !part.is_over() {
        match change(&bus, &mut rng) {
            Ok(()) | Err(WriteError::Full { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn change(bus: &Bus, rng: &mut Rng) -> Result<(), WriteError> {
    let (number, tag) = (rng.below(KEYS), rng.next() >> 8);
    match rng.below(1000) {
        0..450 => bus.set_bytes(key(number), value(tag)).map(drop),
        450..600 => bus.delete(key(number)).map(drop),
        600..700 => {
            let ttl = Duration::from_micros(tag % 2000);
            bus.put(key(number)).ttl(ttl).set_bytes(value(tag)).map(drop)
        }
        700..800 => {
            let mut batch = Batch::new();
            batch.set_bytes(key(number), value(tag)).delete(key((number + 1) % KEYS));
            bus.commit(&batch).map(drop).map_err(|error| error.source)
        }
        800..997 => bus.set_bytes(format!("beside/{}", tag % 20_000), value(tag)).map(drop),
        997 => bus.clear().map(drop),
        _ => bus.delete_prefix("beside/1").map(drop),
    }
}

/// What is known of a key by all that was read of it.
#[derive(Default)]
struct Known {
    /// The newest revision that was seen.
    last: u64,
    /// Whether that has ended.
    is_over: bool,
}

impl Known {
    /// Somebody saw this: nothing older than what is known, and nothing that had ended.
    #[track_caller]
    fn sees(&mut self, by: &str, revision: u64) {
        let Self { last, is_over } = *self;
        if revision == 0 {
            self.is_over = true;
            return;
        }
        assert!(revision >= last, "{by} gave revision {revision} after {last}");
        assert!(revision > last || !is_over, "{by} gave revision {revision}, which had ended");
        *self = Self { last: revision, is_over: false };
    }
}

/// Revision and value of a key as a lookup finds them; 0 when there is none.
fn look_up(bus: &impl ReadBus, number: u64) -> (u64, Vec<u8>) {
    let entry = bus.get_entry(key(number)).unwrap();
    entry.map_or_else(Default::default, |entry| (entry.stat.revision.get(), entry.value))
}

/// The same by a cell, and whether that had it already.
fn look_at(cell: &mut Cell<[u8]>) -> (u64, Vec<u8>, bool) {
    let before = cell.revision();
    let bytes = cell.get().unwrap().map(<[u8]>::to_vec).unwrap_or_default();
    (cell.revision().map_or(0, membus::Revision::get), bytes, before == cell.revision())
}

/// Looks at the keys by cells, and by lookups before and after; says what the cells have when it is
/// asked to.
pub(crate) fn reader(part: &Part) {
    if part.has("member") {
        read(part, &part.attach());
    } else {
        read(part, &BusReader::open_at(part.place.bus()).unwrap());
    }
}

fn read(part: &Part, bus: &impl ReadBus) {
    let mut rng = Rng::new(part.number("seed"));
    let mut cells: Vec<Cell<[u8]>> = (0..KEYS).map(|n| bus.cell(key(n)).unwrap()).collect();
    let mut known: Vec<Known> = (0..KEYS).map(|_| Known::default()).collect();
    let (mut looks, mut changes) = (0_u64, 0_u64);
    part.say("ready");
    while !part.is_over() {
        if part.overhear().is_some() {
            let seen = cells.iter_mut().map(|cell| look_at(cell).0.to_string());
            part.say(&format!("has {}", seen.collect::<Vec<_>>().join(" ")));
        }
        let number = rng.below(KEYS);
        let (cell, known) = (&mut cells[number as usize], &mut known[number as usize]);
        let before = look_up(bus, number);
        known.sees("a lookup", before.0);
        for _ in 0..1 + rng.below(20) {
            let (revision, bytes, is_same) = look_at(cell);
            known.sees("a cell", revision);
            if let Some(tag) = bytes.first_chunk() {
                assert_eq!(bytes, value(u64::from_le_bytes(*tag)), "torn, revision {revision}");
            }
            assert!(revision != before.0 || bytes == before.1, "another value of {revision}");
            (looks, changes) = (looks + 1, changes + u64::from(!is_same));
        }
        let has = cell.revision().map_or(0, membus::Revision::get);
        let after = look_up(bus, number);
        known.sees("a lookup", after.0);
        // Who is there before and after was there all the time.
        assert!(before.0 != after.0 || before.0 == 0 || has == after.0, "{has} for {}", after.0);
    }
    part.say(&format!("looked {looks} {changes}"));
}

/// What the cells of a reader have, by key.
fn has(reader: &mut Actor) -> Vec<u64> {
    reader.tell("has");
    let line = eventually("what the cells have", || reader.try_line());
    let revisions = line.strip_prefix("has ").unwrap_or_else(|| panic!("{line}"));
    revisions.split(' ').map(|revision| revision.parse().unwrap()).collect()
}

/// Promise (cells): a cell never gives what was replaced, deleted, cleared or had expired before the
/// call, nor anything before it is visible: revisions never go back, what has ended stays so, what is
/// there throughout is given; and in the end it has the last value. Of members and of readers, while a
/// writer at full load is killed and followed by the next.
/// Plants: `died` not looked at; the last clear not looked at; an absence that holds for good; the
/// clock not looked at.
#[test]
fn cells_never_go_back_beside_writers_that_are_killed() {
    let _alone = heavy();
    let seed = Seed::of("cells_never_go_back_beside_writers_that_are_killed");
    let mut rng = seed.rng();
    let place = Place::new();
    let bus = place.open_small();
    let cast = |rng: &mut Rng| actor("cells_reader", &place).with("seed", rng.next() >> 1);
    let mut readers = [cast(&mut rng).start(), cast(&mut rng).with("member", 1).start()];
    readers.iter().for_each(|reader| drop(reader.expect("ready")));
    let kills = (parameter("MEMBUS_IT_KILLS", 300) / 10).max(1);
    for _ in 0..kills {
        let mut writer = actor("cells_writer", &place).with("seed", rng.next() >> 1).start();
        writer.expect("attached");
        writer.kill_after(rng.micros(60_000));
    }
    for number in 0..KEYS {
        bus.set_bytes(key(number), value(number)).unwrap();
        if number % 2 == 0 {
            bus.delete(key(number)).unwrap();
        }
    }
    let expected: Vec<u64> = (0..KEYS).map(|number| look_up(&bus, number).0).collect();
    assert!(expected.iter().enumerate().all(|(n, revision)| (n % 2 == 0) == (*revision == 0)));
    readers.iter_mut().for_each(|reader| assert_eq!(has(reader), expected, "in the end"));
    for reader in readers {
        let rest = reader.end();
        let figures: Vec<u64> =
            rest[0].split(' ').skip(1).map(|figure| figure.parse().unwrap()).collect();
        assert!(figures[0] > figures[1] && figures[1] > 10, "{rest:?}");
        earned(figures[0], "reads of cells beside writers that are killed");
        tell(&format!("cells: {} reads, {} of them found a change", figures[0], figures[1]));
    }
    earned(kills, "kills of writers beside cells");
    eventually("burials", || (crate::harness::living(&bus) == 1).then_some(()));
    assert_whole(&bus);
}

/// Promise (cells): what a process was told of by another one, by whatever way, its cells know.
/// Method: one sets a key and says by a pipe that it did; the other looks at its cell at once.
/// Plant: `died` not looked at.
#[test]
fn a_cell_knows_what_its_process_was_told() {
    let place = Place::new();
    let bus = place.open_small();
    let mut reader = actor("cells_told", &place).start();
    reader.expect("ready");
    for round in 0..3000_u64 {
        match round % 7 {
            6 => drop(bus.delete("k").unwrap()),
            5 => drop(bus.clear().unwrap()),
            _ => drop(bus.set("k", &round).unwrap()),
        }
        reader.tell("look");
        let found = reader.expect("found");
        let expected = if round % 7 < 5 { round.to_string() } else { "nothing".to_owned() };
        assert_eq!(found, expected, "round {round}");
    }
    reader.end();
    assert_whole(&bus);
}

/// Says what its cell has, whenever it is told to look.
pub(crate) fn told(part: &Part) {
    let bus = part.attach();
    let mut cell = bus.cell::<u64>("k").unwrap();
    part.say("ready");
    while part.hear().is_some() {
        match cell.get().unwrap() {
            Some(number) => part.say(&format!("found {number}")),
            None => part.say("found nothing"),
        }
    }
}
