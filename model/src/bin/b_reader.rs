//! B: readers without locks, against a writer that replaces, frees, reuses and cuts anew.
//!
//! *Modelled:* READ and CELL of `docs/design.md`, load by load, against every store of FINISH, of a
//! clear and of a doubling, with entries freed and filled again as soon as they may be. The commit
//! lock makes one writer of all of them; that it may stop for ever is part of the check. A block may
//! be cut anew while it is free: its bytes then look like any entry, or like none.
//!
//! *A state* has five blocks of one entry each, two arrays of two slot words, the head, the last
//! clear, a clock that passes one deadline, the writer's step, and all that each reader remembers.
//!
//! *Checked:* each read gives a value that its key had at one moment of the call (linearizable), and
//! not half of it; a reader that begins again while the writer stands still comes to an end; and no
//! read calls the region damaged, which it never is.
//!
//! *Rules that can be broken:* see [`Plant`].

use membus_model::{Model, Steps, Suite};
use std::process::ExitCode;

#[path = "b_reader/reader.rs"]
mod reader;
#[path = "b_reader/writer.rs"]
mod writer;

use reader::Reader;
use writer::{Op, Writer};

const BLOCKS: usize = 5;
const KEYS: usize = 2;
/// `pred` of an entry that replaces nothing.
const NO_PRED: u8 = 255;
/// A slot word of an array that is being replaced, where marks are made (a plant).
const MOVED: u8 = 254;
/// Value in bytes that are no entry's.
const FORGED: u8 = 15;
/// Steps within which a reader has to end when nobody else moves.
const ALONE: usize = 64;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// `born` is stored before `ready`.
    EarlyBorn,
    /// An entry of the key is believed without a second look at the slot word.
    NoSlotOnMatch,
    /// A mismatch is believed without a second look at the slot word.
    NoSlotOnMismatch,
    /// The array word is not looked at again.
    NoArray,
    /// Deleted slot words are emptied before the head, and nothing tells that an entry died.
    NoDied,
    /// `died` counts for a predecessor, too, and the head is looked at again before it.
    PredecessorDied,
    /// The head is not looked at again for a predecessor.
    NoHeadAgain,
    /// It is looked at again, but before the predecessor's deadline is compared with the clock.
    EarlyHeadAgain,
    /// `born` is not looked at again after the copy.
    NoBornAgain,
    /// Slot words are marked while an array is doubled.
    Marks,
    /// The block word is not looked at.
    NoBlockWord,
    /// Lengths that make no sense are called damage when slot and array word have not changed,
    /// whatever became of `born` and the block word.
    HastyDamage,
    /// A cell compares the slot word alone.
    CellSlotOnly,
    /// A cell compares slot word and `born`.
    CellSlotAndBorn,
    /// A cell does not look at `died`.
    CellNoDied,
    /// A cell looks at `born` before `died`.
    CellBornFirst,
    /// A cell does not look at the block word.
    CellNoBlock,
    /// A cell looks at the block word before `born`.
    CellBornLast,
    /// A cell does not look at the last clear.
    CellNoCleared,
    /// A cell does not look at the clock.
    CellNoDeadline,
    /// A cell remembers the head after the lookup, as of which its key is absent.
    CellHeadAfter,
    /// The deadline is not looked at.
    NoDeadline,
    /// The floor of the last clear does not count as the head until that follows.
    HeadAlone,
    /// A restore stores the head before the floor of what it cleared.
    RestoreHeadFirst,
    /// The entries of a restore have a revision each, and the floor is the last of them.
    RestoreRevisions,
}

struct Read {
    ops: u8,
    allowed: &'static [Op],
    readers: usize,
    /// The keys that each reader reads.
    script: [&'static [usize]; 2],
    /// Whether key 0 is read through a cell.
    cell: bool,
    /// How often a free block may be cut anew.
    recuts: u8,
    plant: Option<Plant>,
}

/// What a block is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Use {
    #[default]
    Free,
    Used,
    /// Dead: it may be freed.
    Dead,
    /// Its `born` is 0, its `died` not yet.
    Wiped,
    /// It belongs to another span: what looks like an entry is part of a value.
    Recut,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
struct Block {
    usage: Use,
    /// The block word.
    generation: u8,
    /// Bytes whose lengths make no sense.
    garbled: bool,
    key: u8,
    /// A value is two words.
    value: [u8; 2],
    born: u8,
    died: u8,
    pred: u8,
    expires: bool,
}

#[derive(Debug, Clone, Copy, Hash)]
struct State {
    /// Block 0 is none.
    block: [Block; BLOCKS + 1],
    /// The array word: its generation; the array is this one modulo 2.
    array: u8,
    slots: [[u8; KEYS]; 2],
    head: u8,
    cleared: u8,
    /// Whether the deadline has passed.
    late: bool,
    writer: Writer,
    reader: [Reader; 2],
    /// The value that each key has at this moment; 0: absent.
    truth: [u8; KEYS],
    scribbled: bool,
    recuts: u8,
}

impl Read {
    fn breaks(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// Notes what keys are worth from now on, for all reads that are under way.
    fn note(&self, state: &mut State, key: usize, value: u8) {
        state.truth[key] = value;
        for who in 0..self.readers {
            if state.reader[who].is_reading() && self.key(state, who) == key {
                state.reader[who].possible |= 1 << value;
            }
        }
    }

    /// The key that a reader reads now.
    fn key(&self, state: &State, who: usize) -> usize {
        self.script[who][usize::from(state.reader[who].reads)]
    }

    /// The deadline passes: what bears it is absent at once.
    fn tick(&self, state: &State, steps: &mut Steps<State>) {
        let expires = |op: &Op| matches!(op, Op::SetExpiring);
        if state.late || !self.allowed.iter().any(expires) {
            return;
        }
        let mut next = *state;
        next.late = true;
        let entry = state.visible(0);
        if entry != 0 && state.block[entry].expires {
            self.note(&mut next, 0, 0);
        }
        steps.go("clock", "passes the deadline", next);
    }
}

impl State {
    /// The entry of a key at the head, by the changes made so far; expired ones too.
    fn visible(&self, key: usize) -> usize {
        let entry = usize::from(self.slots[usize::from(self.array % 2)][key]);
        if entry == 0 || self.block[entry].born == 0 {
            return 0;
        }
        if self.block[entry].born <= self.head {
            return entry;
        }
        match self.block[entry].pred {
            NO_PRED => 0,
            pred => usize::from(pred),
        }
    }
}

impl Model for Read {
    type State = State;

    fn begin(&self) -> Vec<State> {
        let mut block = [Block::default(); BLOCKS + 1];
        for key in 0..KEYS {
            let value = 13 + key as u8;
            block[key + 1] = Block {
                usage: Use::Used,
                key: key as u8,
                value: [value; 2],
                born: key as u8 + 1,
                pred: NO_PRED,
                ..Block::default()
            };
        }
        let mut reader = [Reader::default(); 2];
        for (who, reader) in reader.iter_mut().enumerate() {
            reader.head = 2;
            if who >= self.readers {
                reader.reads = self.script[who].len() as u8;
            }
        }
        vec![State {
            block,
            array: 0,
            slots: [[1, 2], [0, 0]],
            head: 2,
            cleared: 0,
            late: false,
            writer: Writer::new(self.ops),
            reader,
            truth: [13, 14],
            scribbled: false,
            recuts: 0,
        }]
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        self.write(state, steps);
        self.tick(state, steps);
        for who in 0..self.readers {
            self.read(state, who, steps);
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        for who in 0..self.readers {
            if !state.reader[who].begins_again() {
                continue;
            }
            let mut alone = *state;
            for _ in 0..ALONE {
                if alone.reader[who].reads == state.reader[who].reads {
                    alone = self.step_alone(&alone, who);
                }
            }
            if alone.reader[who].reads == state.reader[who].reads {
                return Err("a writer that stands still keeps a reader from its end".to_owned());
            }
        }
        Ok(())
    }

    fn end(&self, _: &State) -> Result<(), String> {
        Ok(())
    }
}

const SETS: &[Op] = &[Op::Set0, Op::Set1];
const ALL: &[Op] = &[
    Op::Set0,
    Op::Set1,
    Op::Delete0,
    Op::Delete1,
    Op::SetSet,
    Op::SetDelete,
    Op::SetDies,
    Op::Other,
    Op::Clear,
    Op::Double,
];
const CHANGES: &[Op] = &[Op::Set0, Op::Delete0, Op::SetSet, Op::SetDelete];
const DEATHS: &[Op] = &[Op::Set0, Op::Set1, Op::SetDies, Op::Other];
const RESTORES: &[Op] = &[Op::Set0, Op::Delete0, Op::Restore0, Op::RestoreBoth, Op::Clear];
const EXPIRY: &[Op] = &[Op::SetExpiring, Op::Set0, Op::Expire0, Op::Delete0, Op::Clear];

/// States at which a quick search stops.
const QUICK: usize = 2_000_000;

fn base() -> Read {
    Read {
        ops: 3,
        allowed: ALL,
        readers: 1,
        script: [&[0, 1, 0], &[1, 0]],
        cell: false,
        recuts: 0,
        plant: None,
    }
}

fn main() -> ExitCode {
    let mut suite = Suite::from_arguments("B: readers against reuse");
    let recut = |allowed| Read { allowed, script: [&[0], &[]], recuts: 2, ..base() };
    let two = |ops| Read { ops, readers: 2, script: [&[0, 1], &[1, 0]], ..base() };
    let short = |ops, allowed| Read { ops, allowed, script: [&[0, 1], &[]], ..base() };
    let one_key = |ops, allowed| Read { script: [&[0], &[]], ..short(ops, allowed) };
    suite.holds("all operations, 2 operations, 2 reads", QUICK, short(2, ALL));
    suite.holds("expiry, 3 operations, 2 reads", QUICK, short(3, EXPIRY));
    suite.holds("restores, 2 operations, 2 reads", QUICK, short(2, RESTORES));
    suite.holds("blocks cut anew, 3 sets, 1 read", QUICK, recut(&[Op::Set0]));
    suite.holds("two readers, 1 operation, 2 reads each", QUICK, two(1));
    suite.holds_in_full("all operations, 3 operations, 3 reads", base());
    suite.holds_in_full("sets and batches, 4 operations, 1 read", one_key(4, CHANGES));
    suite.holds_in_full("sets, deaths, another stripe, 4 operations, 2 reads", short(4, DEATHS));
    suite.holds_in_full("expiry, 4 operations, 2 reads", short(4, EXPIRY));
    suite.holds_in_full("restores, 3 operations, 2 reads", short(3, RESTORES));
    suite.holds_in_full(
        "blocks cut anew, all changes, 2 operations, 2 reads",
        Read { ops: 2, script: [&[0, 1], &[]], ..recut(CHANGES) },
    );
    suite.holds_in_full("two readers, 2 operations, 2 reads each", two(2));
    let plants = [
        (
            "`born` before `ready`",
            Plant::EarlyBorn,
            Read { script: [&[1], &[]], ..short(3, DEATHS) },
        ),
        ("an entry of the key without the slot word again", Plant::NoSlotOnMatch, short(4, SETS)),
        ("a mismatch without the slot word again", Plant::NoSlotOnMismatch, short(4, SETS)),
        ("the array word is not looked at again", Plant::NoArray, base()),
        ("deleted slots emptied early, no `died`", Plant::NoDied, base()),
        ("`died` counts for a predecessor", Plant::PredecessorDied, base()),
        ("a predecessor without the head again", Plant::NoHeadAgain, short(3, EXPIRY)),
        (
            "as the code stood: head again before the deadline",
            Plant::EarlyHeadAgain,
            short(3, EXPIRY),
        ),
        ("`born` is not looked at again", Plant::NoBornAgain, base()),
        ("slot words are marked while an array is doubled", Plant::Marks, base()),
        ("blocks cut anew, no block word", Plant::NoBlockWord, recut(&[Op::Set0])),
        ("as the code stood: damage by slot and array word", Plant::HastyDamage, recut(CHANGES)),
        ("the deadline is not looked at", Plant::NoDeadline, short(3, EXPIRY)),
        ("a restore's floor does not count as the head", Plant::HeadAlone, short(2, RESTORES)),
        ("a restore's head before its floor", Plant::RestoreHeadFirst, short(1, RESTORES)),
        ("a revision for each entry of a restore", Plant::RestoreRevisions, short(1, RESTORES)),
    ];
    for (name, plant, model) in plants {
        suite.plant(name, Read { plant: Some(plant), ..model });
    }
    cells(&mut suite);
    suite.run()
}

/// What is read again and again.
fn cells(suite: &mut Suite<'_>) {
    let cell = || Read { script: [&[0, 0, 0], &[]], cell: true, ..base() };
    let twice = |ops, allowed| Read { ops, allowed, script: [&[0, 0], &[]], ..cell() };
    let recut = |ops, allowed| Read { recuts: 1, ..twice(ops, allowed) };
    suite.holds("a cell, 2 operations, 3 reads", QUICK, Read { ops: 2, ..cell() });
    suite.holds("a cell, restores, 2 operations, 2 reads", QUICK, twice(2, RESTORES));
    suite.holds("a cell, expiry, 2 operations, 2 reads", QUICK, twice(2, EXPIRY));
    suite.holds("a cell, blocks cut anew, 2 sets, 2 reads", QUICK, recut(2, &[Op::Set0]));
    suite.holds_in_full("a cell, 3 operations, 3 reads", cell());
    suite.holds_in_full("a cell, expiry, 3 operations, 2 reads", twice(3, EXPIRY));
    suite.holds_in_full(
        "a cell, blocks cut anew, all changes, 2 operations, 2 reads",
        recut(2, CHANGES),
    );
    let plants = [
        (
            "a cell of the slot word alone",
            Plant::CellSlotOnly,
            Read { ops: 4, allowed: &[Op::Set0], ..cell() },
        ),
        ("a cell of slot word and `born`", Plant::CellSlotAndBorn, cell()),
        ("a cell without `died`", Plant::CellNoDied, twice(2, &[Op::Delete0])),
        ("a cell that looks at `born` before `died`", Plant::CellBornFirst, twice(2, SETS)),
        ("a cell without the block word", Plant::CellNoBlock, recut(2, &[Op::Set0])),
        (
            "as it was designed: a cell that looks at `born` last",
            Plant::CellBornLast,
            recut(2, &[Op::Set0]),
        ),
        ("a cell without the last clear", Plant::CellNoCleared, twice(2, &[Op::Clear])),
        ("a cell without the clock", Plant::CellNoDeadline, twice(2, EXPIRY)),
        (
            "a cell whose key is absent as of a later head",
            Plant::CellHeadAfter,
            twice(3, &[Op::Delete0, Op::Set0]),
        ),
    ];
    for (name, plant, model) in plants {
        suite.plant(name, Read { plant: Some(plant), ..model });
    }
}
