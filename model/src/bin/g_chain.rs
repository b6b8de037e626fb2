//! G: chains of overflow buckets: appending, deleting and setting again, doubling, scanning.
//!
//! *Modelled:* the table of `docs/design.md` under a stripe's lock: a new key takes the first empty
//! slot of its chain; where there is none a bucket is appended, `used` first and then the link; a
//! deleted slot is emptied after the head; an array is doubled by one store of the array word, and
//! the old one's bytes are used for something else. A bucket has one slot here, so that chains are
//! long. Entries are never reused: B has that.
//!
//! *A state* has two arrays of buckets with slot word and link, the entries with `born` and `died`,
//! the head, the writer's step and its record, and what a reader and a scan have seen. The writer may
//! die at every step; who comes after it finishes what is committed and goes on.
//!
//! *Checked:* a lookup gives what its key was at one moment of the call; a scan meets every key that is
//! there throughout; every bucket is reached by one chain and counted in `used`; no key stands in two
//! slots; a reader whose writer stands still comes to an end.
//!
//! *Rules that can be broken:* see [`Plant`].

use membus_model::{Model, Steps, Suite};
use std::process::ExitCode;

#[path = "g_chain/reader.rs"]
mod reader;
#[path = "g_chain/writer.rs"]
mod writer;

use reader::{Lookup, Scan};
use writer::{Op, Writer};

const KEYS: usize = 4;
/// Lines of an array: main buckets, then room for overflow buckets.
const LINES: usize = 6;
/// Main buckets of the first and of the second array, and lines of each.
const MAINS: [usize; 2] = [2, 4];
const ROOM: [u8; 2] = [4, 6];
const ENTRIES: usize = 9;
/// Steps within which a reader has to end when nobody else moves.
const ALONE: usize = 128;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// The link to an overflow bucket is stored before `used`.
    LinkFirst,
    /// A delete moves the last slot word of the chain into the hole.
    MovesWords,
    /// An empty overflow bucket leaves its chain, and another chain may take it.
    UnlinksBuckets,
    /// Two new keys of a batch may be given the same slot.
    TakesTwice,
    /// A set of a key that is there takes the first empty slot instead of its own.
    LeavesItsSlot,
    /// The new array is published before all words are in it.
    PublishesEarly,
    /// The array word is not looked at again after a miss.
    NoArrayOnMiss,
    /// The array word is not looked at again after a hit.
    NoArrayOnHit,
    /// A lookup stops at the first empty slot.
    StopsAtHole,
    /// A scan does not look at the array word again.
    NoArrayInScan,
}

struct Chain {
    ops: u8,
    allowed: &'static [Op],
    deaths: u8,
    /// Keys that the lookups are for.
    script: &'static [usize],
    scans: u8,
    plant: Option<Plant>,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
struct Bucket {
    /// The entry that the slot word names; 0: empty.
    word: u8,
    /// The line of the next bucket of the chain; 0: none.
    link: u8,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
struct Array {
    bucket: [Bucket; LINES],
    used: u8,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
struct Entry {
    key: u8,
    born: u8,
    died: u8,
    pred: u8,
}

#[derive(Debug, Clone, Copy, Hash)]
struct State {
    array: [Array; 2],
    /// The array word: which array counts.
    current: u8,
    entry: [Entry; ENTRIES],
    entries: u8,
    head: u8,
    /// A bucket that left its chain (a plant).
    spare: u8,
    scribbled: bool,
    writer: Writer,
    deaths: u8,
    lookup: Lookup,
    scan: Scan,
    /// The entry that each key has now; 0: absent.
    truth: [u8; KEYS],
}

/// The main bucket of a key: keys 0, 1 and 2 share one until the array is doubled.
fn main_of(key: usize, array: usize) -> usize {
    [0, 2, 4, 1][key] % MAINS[array]
}

/// Keys 0 and 1 have the same tag, too.
fn tag_of(key: usize) -> usize {
    [0, 0, 1, 2][key]
}

impl Chain {
    fn breaks(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// Notes what a key is from now on, for the reads that are under way.
    fn note(&self, state: &mut State, key: usize, entry: u8) {
        state.truth[key] = entry;
        if state.lookup.is_reading() && self.script[usize::from(state.lookup.reads)] == key {
            state.lookup.possible |= 1 << entry;
        }
        if entry == 0 {
            state.scan.throughout &= !(1 << key);
        }
    }
}

impl State {
    fn array(&self) -> &Array {
        &self.array[usize::from(self.current)]
    }

    /// The lines of a chain, as the writer walks them.
    fn chain(&self, key: usize) -> Vec<u8> {
        let mut lines = vec![main_of(key, usize::from(self.current)) as u8];
        while lines.len() <= LINES {
            let last = usize::from(lines[lines.len() - 1]);
            match self.array().bucket[last].link {
                0 => break,
                next => lines.push(next),
            }
        }
        lines
    }

    /// The line whose slot names an entry of this key.
    fn line_of(&self, key: usize) -> Option<u8> {
        self.chain(key).into_iter().find(|line| {
            let word = self.array().bucket[usize::from(*line)].word;
            word != 0 && usize::from(self.entry[usize::from(word)].key) == key
        })
    }
}

impl Model for Chain {
    type State = State;

    fn begin(&self) -> Vec<State> {
        let mut entry = [Entry::default(); ENTRIES];
        let mut array =
            [Array { used: 2, ..Array::default() }, Array { used: 4, ..Array::default() }];
        // Key 0 in its main bucket, key 1 behind it, key 3 in the other one.
        for (number, (key, line)) in [(0, 0), (1, 2), (3, 1)].into_iter().enumerate() {
            entry[number + 1] = Entry { key, born: 1, died: 0, pred: 0 };
            array[0].bucket[line].word = number as u8 + 1;
        }
        (array[0].bucket[0].link, array[0].used) = (2, 3);
        vec![State {
            array,
            current: 0,
            entry,
            entries: 3,
            head: 1,
            spare: 0,
            scribbled: false,
            writer: Writer::new(self.ops),
            deaths: 0,
            lookup: Lookup::default(),
            scan: Scan::new(self.scans),
            truth: [1, 2, 0, 3],
        }]
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        self.write(state, steps);
        self.scribble(state, steps);
        self.look_up(state, steps);
        self.go_over(state, steps);
    }

    fn check(&self, state: &State) -> Result<(), String> {
        let mut reached = 0_u16;
        for main in 0..MAINS[usize::from(state.current)] {
            let mut line = main;
            for _ in 0..=LINES {
                if line >= usize::from(state.array().used) {
                    return Err("a bucket is reached that is not counted".to_owned());
                }
                if reached & 1 << line != 0 {
                    return Err("a bucket is reached twice".to_owned());
                }
                reached |= 1 << line;
                match state.array().bucket[line].link {
                    0 => break,
                    next => line = usize::from(next),
                }
            }
        }
        let mut named = [0; KEYS];
        for bucket in state.array().bucket.iter().filter(|bucket| bucket.word != 0) {
            named[usize::from(state.entry[usize::from(bucket.word)].key)] += 1;
        }
        if named.iter().any(|count| *count > 1) && self.plant != Some(Plant::MovesWords) {
            return Err("a key stands in two slots".to_owned());
        }
        if state.writer.is_idle()
            && (0..KEYS).any(|key| (state.truth[key] != 0) != (named[key] == 1))
        {
            return Err("a key that is there stands in no slot".to_owned());
        }
        self.ends_alone(state)
    }

    fn end(&self, _: &State) -> Result<(), String> {
        Ok(())
    }
}

const ALL: &[Op] = &[
    Op::Set(0),
    Op::Set(1),
    Op::Set(2),
    Op::Set(3),
    Op::Delete(0),
    Op::Delete(1),
    Op::Batch,
    Op::Double,
];
const CHAIN: &[Op] = &[Op::Set(1), Op::Set(2), Op::Delete(0), Op::Delete(1), Op::Set(3)];

fn main() -> ExitCode {
    let mut suite = Suite::from_arguments("G: chains of buckets");
    let with =
        |ops, allowed| Chain { ops, allowed, deaths: 1, script: &[1, 2], scans: 0, plant: None };
    let scans = |ops, allowed| Chain { script: &[], scans: 1, ..with(ops, allowed) };
    let quick = 3_000_000;
    suite.holds("all operations, 2 operations, 1 death, 2 lookups", quick, with(2, ALL));
    suite.holds("one chain, 3 operations, 1 death, 2 lookups", quick, with(3, CHAIN));
    suite.holds("all operations, 2 operations, 1 death, a scan", quick, scans(2, ALL));
    suite.holds_in_full("all operations, 3 operations, 2 deaths, 2 lookups", {
        Chain { deaths: 2, ..with(3, ALL) }
    });
    suite.holds_in_full("one chain, 4 operations, 1 death, 2 lookups", with(4, CHAIN));
    suite.holds_in_full("all operations, 3 operations, 2 deaths, 2 scans", {
        Chain { deaths: 2, scans: 2, ..scans(3, ALL) }
    });
    suite.holds_in_full("all operations, 3 operations, no death, lookups and a scan", {
        Chain { deaths: 0, script: &[1, 2], ..scans(3, ALL) }
    });
    let plants = [
        ("the link before `used`", Plant::LinkFirst, with(3, ALL)),
        ("a delete moves another slot word", Plant::MovesWords, with(3, CHAIN)),
        ("an empty bucket leaves its chain", Plant::UnlinksBuckets, with(4, CHAIN)),
        ("two new keys in one slot", Plant::TakesTwice, with(3, ALL)),
        ("a set leaves its key's slot", Plant::LeavesItsSlot, with(3, CHAIN)),
        ("an array is published early", Plant::PublishesEarly, with(2, ALL)),
        ("the array word is not looked at after a miss", Plant::NoArrayOnMiss, with(2, ALL)),
        ("the array word is not looked at after a hit", Plant::NoArrayOnHit, with(3, ALL)),
        ("a lookup stops at a hole", Plant::StopsAtHole, with(2, CHAIN)),
        ("a scan does not look at the array word", Plant::NoArrayInScan, scans(2, ALL)),
    ];
    for (name, plant, model) in plants {
        suite.plant(name, Chain { plant: Some(plant), ..model });
    }
    suite.run()
}
