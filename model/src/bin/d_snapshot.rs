//! D: snapshots of one revision while writers set, delete, clear, sweep, free and abort.
//!
//! *Modelled:* SNAPSHOT of `docs/design.md`, and how freeing spares what a running snapshot needs.
//! There is one key in each of two stripes. A commit is one step under the commit lock (A has it in
//! pieces); the words of a snapshot and of an entry are stored and loaded one by one. A dead entry is
//! one that is occupied, has `died`, and is named by no slot word; a walk looks at all that are
//! occupied, some at a time, and takes no lock. A keeper may be slow
//! enough to be thought lost: then a second one begins another snapshot. A writer may die in the middle
//! of a sweep or of freeing: REPAIR comes next. A free place may be cut anew for something else: its
//! bytes may then look like an entry.
//!
//! *A state* has four places for entries in each stripe, the locks, the snapshot's words and each
//! stripe's `done`, the steps of the writers, and what each keeper has copied and read.
//!
//! *Checked:* an image that is called good is the state at its revision, each key once; a delete is
//! never committed for a key that a clear has taken away. At the end no keeper waits.
//!
//! *Rules that can be broken:* see [`Plant`].

use membus_model::{Model, Steps, Suite};
use std::process::ExitCode;

#[path = "d_snapshot/keeper.rs"]
mod keeper;
#[path = "d_snapshot/writer.rs"]
mod writer;

use keeper::Keeper;
use writer::Writer;

const STRIPES: usize = 2;
/// Places of a stripe; place 0 is none.
const ROOM: usize = 4;
const PLACES: usize = STRIPES * ROOM + 1;
const FREE: u8 = 0;
/// Value in bytes that are no entry's.
const FORGED: u8 = 99;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// Freeing does not look whether a snapshot runs.
    KeepsNothing,
    /// Freeing looks whether a snapshot runs before it has the stripe's lock.
    StaleLook,
    /// The image takes what was born up to its revision, dead by then or not.
    TakesDead,
    /// The image takes what a clear before its revision took away.
    TakesCleared,
    /// A stripe is done when it was copied, before it was read.
    DoneWhenCopied,
    /// A stripe is done with its first piece.
    DoneByPiece,
    /// `done` is a flag and not the snapshot's id.
    DoneIsFlag,
    /// The snapshot's id is not looked at in the end.
    NoIdAtEnd,
    /// Only what slot words name is copied, no dead entries.
    SlotWordsOnly,
    /// `born` is not looked at again after an entry's value.
    NoSecondLook,
    /// Freeing wipes `died` before `born`.
    WipesDiedFirst,
    /// The block word is not looked at.
    NoBlockWord,
    /// `cleared_at` is not looked at again under the commit lock.
    NoClearedAgain,
}

/// What a writer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Op {
    Set,
    Delete,
    Clear,
    Sweep,
    /// To end the snapshot, since there is no room.
    Abort,
}

struct Snapshot {
    ops: [u8; 2],
    allowed: &'static [Op],
    /// Snapshots that each keeper tries.
    tries: [u8; 2],
    /// How often a free place may be cut anew.
    recuts: u8,
    plant: Option<Plant>,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
struct Entry {
    occupied: bool,
    born: u8,
    died: u8,
    value: u8,
}

/// The words of the snapshot.
#[derive(Debug, Clone, Copy, Hash, Default)]
struct Words {
    on: bool,
    id: u8,
    revision: u8,
    cleared: u8,
}

#[derive(Debug, Clone, Copy, Hash)]
struct State {
    entry: [Entry; PLACES],
    /// The block word of each place, and whether it is cut for something else, a bit each.
    generation: [u8; PLACES],
    recut: u16,
    recuts: u8,
    slot: [u8; STRIPES],
    /// Locks of the stripes and of the commit: who has them.
    stripe_lock: [u8; STRIPES],
    commit_lock: u8,
    head: u8,
    cleared: u8,
    words: Words,
    done: [u8; STRIPES],
    writer: [Writer; 2],
    keeper: [Keeper; 2],
    values: u8,
    /// The value of each key now, for the checks.
    truth: [u8; STRIPES],
}

impl Snapshot {
    fn breaks(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// A free place goes to a span of another class, with bytes that look like an entry; and back.
    fn cut_anew(&self, state: &State, steps: &mut Steps<State>) {
        for place in 1..PLACES {
            let mut next = *state;
            next.generation[place] += 1;
            next.recut ^= 1 << place;
            if state.recut & 1 << place != 0 {
                next.entry[place] = Entry::default();
                steps.go("heap", "cuts a place back for entries", next);
            } else if !state.entry[place].occupied && state.recuts < self.recuts {
                next.recuts += 1;
                for born in 1..=state.head {
                    next.entry[place] = Entry { born, value: FORGED, ..Entry::default() };
                    steps.go("heap", "cuts a free place anew", next);
                }
            }
        }
    }
}

/// The places of a stripe.
fn places(stripe: usize) -> std::ops::Range<usize> {
    stripe * ROOM + 1..(stripe + 1) * ROOM + 1
}

impl Entry {
    /// Whether it was there at a revision, after the clear that counted then.
    fn was_there(&self, revision: u8, cleared: u8) -> bool {
        let died_later = self.died == 0 || revision < self.died;
        cleared <= self.born && self.born <= revision && died_later
    }
}

impl Model for Snapshot {
    type State = State;

    fn begin(&self) -> Vec<State> {
        let mut entry = [Entry::default(); PLACES];
        // One in its stripe's first piece, one in its second.
        let slot = [places(0).start as u8, places(1).end as u8 - 1];
        for (number, place) in (1..).zip(slot) {
            entry[usize::from(place)] =
                Entry { occupied: true, born: number, died: 0, value: number };
        }
        vec![State {
            entry,
            generation: [0; PLACES],
            recut: 0,
            recuts: 0,
            slot,
            stripe_lock: [FREE; STRIPES],
            commit_lock: FREE,
            head: 2,
            cleared: 0,
            words: Words::default(),
            done: [0; STRIPES],
            writer: self.ops.map(Writer::new),
            keeper: self.tries.map(Keeper::new),
            values: 2,
            truth: [1, 2],
        }]
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        self.cut_anew(state, steps);
        for who in 0..2 {
            self.write(state, who, steps);
            self.keep(state, who, steps);
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        for stripe in 0..STRIPES {
            let entry = state.entry[usize::from(state.slot[stripe])];
            if state.slot[stripe] != 0 && (!entry.occupied || entry.born == 0) {
                return Err("a slot word names an entry that is free or unborn".to_owned());
            }
        }
        Ok(())
    }

    fn end(&self, state: &State) -> Result<(), String> {
        if state.keeper.iter().any(|keeper| !keeper.is_idle()) {
            return Err("a keeper waits for ever".to_owned());
        }
        if state.stripe_lock != [FREE; STRIPES] || state.commit_lock != FREE {
            return Err("a lock stays taken".to_owned());
        }
        Ok(())
    }
}

const ALL: &[Op] = &[Op::Set, Op::Delete, Op::Clear, Op::Sweep, Op::Abort];
const SETS: &[Op] = &[Op::Set];
const CHANGES: &[Op] = &[Op::Set, Op::Delete, Op::Clear];

fn main() -> ExitCode {
    let mut suite = Suite::from_arguments("D: snapshots");
    let with = |ops, tries| Snapshot { ops, allowed: ALL, tries, recuts: 0, plant: None };
    let recut = |ops| Snapshot { recuts: 1, ..with(ops, [1, 0]) };
    let quick = 3_200_000;
    suite.holds("1 writer, 3 operations, 2 tries", quick, with([3, 0], [2, 0]));
    suite.holds("2 writers, 1 operation each", quick, with([1, 1], [1, 0]));
    suite.holds("a keeper that is thought lost, 2 operations", quick, with([2, 0], [1, 1]));
    suite.holds("a place is cut anew, 2 operations", quick, recut([2, 0]));
    suite.holds_in_full("a place is cut anew, 3 operations", recut([3, 0]));
    suite.holds_in_full("1 writer, 4 operations, 2 tries", with([4, 0], [2, 0]));
    suite.holds_in_full("2 writers, 2 operations each", with([2, 2], [1, 0]));
    suite.holds_in_full("2 writers, 3 changes and 1", {
        Snapshot { allowed: CHANGES, ..with([3, 1], [1, 0]) }
    });
    suite.holds_in_full("a keeper that is thought lost, 3 operations", with([3, 0], [1, 1]));
    let one = || with([3, 0], [2, 0]);
    let sets = |ops, tries| Snapshot { allowed: SETS, ..with(ops, tries) };
    let plants = [
        ("freeing does not look for a snapshot", Plant::KeepsNothing, one()),
        ("freeing looks before it has the stripe", Plant::StaleLook, sets([1, 1], [1, 0])),
        ("the image takes the dead", Plant::TakesDead, one()),
        ("the image takes what was cleared before", Plant::TakesCleared, one()),
        ("a stripe is done when it was copied", Plant::DoneWhenCopied, one()),
        ("a stripe is done by its first piece", Plant::DoneByPiece, one()),
        ("`done` is a flag", Plant::DoneIsFlag, sets([3, 0], [1, 1])),
        ("the id is not looked at in the end", Plant::NoIdAtEnd, with([4, 0], [1, 0])),
        ("only what slot words name is copied", Plant::SlotWordsOnly, one()),
        ("`born` is not looked at again", Plant::NoSecondLook, one()),
        (
            "a place is cut anew, no block word",
            Plant::NoBlockWord,
            Snapshot { allowed: SETS, ..recut([3, 0]) },
        ),
        ("freeing wipes `died` first", Plant::WipesDiedFirst, one()),
        ("`cleared_at` is not looked at again", Plant::NoClearedAgain, with([1, 1], [1, 0])),
    ];
    for (name, plant, model) in plants {
        suite.plant(name, Snapshot { plant: Some(plant), ..model });
    }
    suite.run()
}
