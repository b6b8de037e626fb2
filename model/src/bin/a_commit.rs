//! A: a commit, the robust locks, takeover, reuse of a slot, burial, repair, and the heap's entries.
//!
//! *Modelled:* LOCK, WRITE 1-7, FINISH, the heap's entries, REPAIR, ATTACH and BURIAL of `docs/design.md`, with a
//! death possible before every step. A and B are members; N is a newcomer that takes any slot whose
//! byte is free, and mends what names it; U is an undertaker that never dies. A write may meet its
//! deadline while it waits for the commit lock, and its changes may stand in a list, as those of a big
//! batch do.
//!
//! *A state* has the lock words, the bytes of the slots, the slot words of three keys in two
//! stripes, eight places for entries with their bitmap, the ring of the lately dead and the spares, the
//! commit record, the log, and where each process stands. Who holds a lock is kept beside the words, for the checks alone.
//!
//! *Checked* in every state: a lookup gives exactly what the changes up to the head make of the key;
//! each log record up to the head is the change that was committed with its revision, and so is the
//! entry that bears it; no revision stands in an entry before its commit; no living owner is robbed;
//! no place in use is given out; an entry that a reader has pinned stays; the list of a commit is there
//! until it is finished. At the end: nobody waits, no lock is held, every place is free, alive and named,
//! or dead and not named, no list stays.
//!
//! *Rules that can be broken:* see [`Plant`].

use membus_model::{Model, Steps, Suite};
use std::process::ExitCode;

#[path = "a_commit/check.rs"]
mod check;
#[path = "a_commit/heap.rs"]
mod heap;
#[path = "a_commit/lock.rs"]
mod lock;
#[path = "a_commit/write.rs"]
mod write;

const NAMES: [&str; 4] = ["A", "B", "N", "U"];
/// The process that buries and does not die.
const UNDERTAKER: usize = 3;
const SLOTS: usize = 4;
const STRIPES: usize = 2;
/// The commit lock's place among the locks.
const COMMIT: usize = STRIPES;
const KEYS: usize = 3;
/// Places for entries: 1 to 5 belong to stripe 0, 6 to 8 to stripe 1; 0 is none.
const PLACES: usize = 9;
const STRIPE_PLACES: [u16; STRIPES] = [0b0_0011_1110, 0b1_1100_0000];
/// Head and `born` of what is there at first.
const FIRST: u8 = 1;
const REVISIONS: usize = 14;
const NOBODY: u8 = 255;
/// Spare entries of a stripe at the most.
const SPARES: u32 = 1;
/// More than all names of one round.
const ROUND: u8 = 16;
/// An entry that a reader has pinned throughout: the first one of key 0.
const PINNED: u8 = 1;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// A stripe is taken over without passing through the commit.
    NoPass,
    /// A stripe's word is swapped first, then the commit is passed.
    SwapFirst,
    /// A dead owner's byte is tested and not held.
    TestByte,
    /// A newcomer uses its slot without mending what names it.
    NewcomerMendsNothing,
    /// A newcomer mends the stripes before the commit.
    StripesFirst,
    /// A freer does not look at the pins.
    BlindFree,
    /// A spare entry is filled without being wiped.
    SpareAsItIs,
    /// A spare entry's `died` is wiped before its `born`.
    SpareDiedFirst,
    /// Repair frees dead entries like unborn ones.
    RepairFreesDead,
    /// Repair leaves unborn entries.
    RepairForgetsNothing,
    /// `born` is stored before `ready`.
    EarlyBorn,
    /// `ready` is stored before the changes of the record.
    EarlyReady,
    /// The head is stored before the entries.
    EarlyHead,
    /// A deleted slot word is emptied before the head.
    EarlyEmpty,
    /// Whoever takes the commit lock over does not finish.
    NoFinish,
    /// All changes of a batch are given the last revision.
    OneRevision,
    /// The list of a batch is freed before its commit is finished.
    EarlyListFree,
    /// Repair leaves the lists of batches.
    KeepsLists,
}

/// What a change does to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Set,
    Delete,
}
use Action::{Delete, Set};

/// What a process is there to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Nothing,
    Write(&'static [(usize, Action)]),
    /// To bury the dead, as a member that may die over it.
    Bury,
}

struct Commit {
    /// What A, B and N do.
    tasks: [Task; 3],
    stripe_of: [usize; KEYS],
    /// How often A, B and N do it.
    rounds: u8,
    deaths: u8,
    /// Whether a write may meet its deadline.
    deadline: bool,
    /// Whether changes stand in a list of their stripe's heap, as those of a big batch do.
    lists: bool,
    plant: Option<Plant>,
}

/// Where a process stands: the step that it takes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum At {
    /// Not attached.
    #[default]
    Outside,
    Dead,
    Done,
    // ATTACH and BURIAL
    MendCommit,
    MendUnlock,
    MendStripe,
    MendPassed,
    MendTake,
    MendEnd,
    // LOCK(stripe)
    Lock,
    Probed,
    Passed,
    Take,
    // What died lately.
    FreeBegin,
    FreeEach,
    VacateBorn,
    VacateDied,
    VacateBit,
    // WRITE
    Decide,
    Occupy,
    SweepEach,
    SpareFirst,
    SpareSecond,
    OccupyBit,
    Fill,
    MakeList,
    Draw,
    Record,
    Ready,
    UnlockCommit,
    Settle,
    GiveBack,
    FreeList,
    UnlockStripes,
    // LOCK(commit)
    WantCommit,
    TakeCommit,
    // FINISH
    Finish,
    // REPAIR
    RepairHints,
    RepairList,
    RepairPlaces,
}

/// What a process knows by itself; lost with it.
#[derive(Debug, Clone, Copy, Hash, Default)]
struct Process {
    at: At,
    slot: u8,
    /// How often it has done its task.
    round: u8,
    /// Bytes of dead slots that it holds, a bit each.
    held: u8,
    /// The dead slot whose stripe or name it is about.
    victim: u8,
    /// The dead slot that holds the commit lock.
    commit_victim: u8,
    /// The stripe in hand.
    stripe: u8,
    /// The change in hand.
    change: u8,
    /// The place in hand.
    place: u8,
    /// Dead entries that it has still to look at, a bit each.
    due: u16,
    /// The step of FINISH.
    step: u8,
    /// Changes that are to be committed, a bit each, and the new entry of each.
    planned: u8,
    new: [u8; KEYS],
    old: [u8; KEYS],
    after_commit: At,
    after_finish: At,
    after_repair: At,
    after_vacate: At,
}

/// One change in the commit record.
#[derive(Debug, Clone, Copy, Hash, Default)]
struct Stored {
    key: u8,
    new: u8,
    old: u8,
}

/// Where the changes of a big batch stand: one span for each stripe.
#[derive(Debug, Clone, Copy, Hash, Default)]
struct List {
    used: bool,
    changes: [Stored; KEYS],
}

#[derive(Debug, Clone, Copy, Hash)]
struct State {
    process: [Process; 4],
    /// Lock words: slot + 1, or 0. Two stripes, then the commit.
    lock: [u8; STRIPES + 1],
    /// Who holds a slot's byte.
    byte: [u8; SLOTS],
    slot_word: [u8; KEYS],
    born: [u8; PLACES],
    died: [u8; PLACES],
    pred: [u8; PLACES],
    value: [u8; PLACES],
    occupied: u16,
    /// Hints: places of the lately dead, and of spare entries.
    ring: u16,
    spare: u16,
    head: u8,
    ready: u8,
    count: u8,
    record: [Stored; KEYS],
    list: [List; STRIPES],
    /// The stripe of the list that the record names, + 1; 0: the changes stand in the record.
    record_list: u8,
    log: [u8; REVISIONS],
    deaths: u8,
    // For the checks: who holds each lock, and the changes in the order of their commits.
    holder: [u8; STRIPES + 1],
    committed: [u8; REVISIONS],
    last: u8,
}

/// How a change is named in the log: by its round, its process and its number there.
fn change_name(round: u8, who: usize, change: usize) -> u8 {
    round * ROUND + (who * KEYS + change + 1) as u8
}

/// The value that a process sets in a round.
fn value_of(round: u8, who: usize) -> u8 {
    round * ROUND + who as u8 + 1
}

fn bit(place: u8) -> u16 {
    1 << place
}

impl Commit {
    fn breaks(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    fn changes(&self, who: usize) -> &'static [(usize, Action)] {
        match self.tasks.get(who) {
            Some(Task::Write(changes)) => changes,
            _ => &[],
        }
    }

    fn needs(&self, who: usize, stripe: usize) -> bool {
        self.changes(who).iter().any(|(key, _)| self.stripe_of[*key] == stripe)
    }

    /// The stripe that a batch's list belongs to: the lowest that its writer locks.
    fn list_stripe(&self, who: usize) -> usize {
        (0..STRIPES).find(|stripe| self.needs(who, *stripe)).unwrap_or(0)
    }

    fn begin_task(&self, who: usize, process: &mut Process) {
        let (slot, round) = (process.slot, process.round);
        *process = Process { slot, round, at: At::Lock, ..Process::default() };
        match self.tasks.get(who) {
            Some(Task::Write(_)) => {}
            Some(Task::Bury) => process.at = At::Outside,
            _ => process.at = At::Done,
        }
    }

    fn deaths(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        if who == UNDERTAKER || state.deaths == self.deaths {
            return;
        }
        let mut next = *state;
        next.deaths += 1;
        next.process[who] = Process { at: At::Dead, ..Process::default() };
        for byte in &mut next.byte {
            if *byte == who as u8 {
                *byte = NOBODY;
            }
        }
        steps.dies(NAMES[who], next);
    }
}

/// What is there at first.
fn initial(key: usize) -> u8 {
    255 - key as u8
}

impl Model for Commit {
    type State = State;

    fn begin(&self) -> Vec<State> {
        let mut state = State {
            process: [Process::default(); 4],
            lock: [0; 3],
            byte: [NOBODY; SLOTS],
            slot_word: [0; KEYS],
            born: [0; PLACES],
            died: [0; PLACES],
            pred: [0; PLACES],
            value: [0; PLACES],
            occupied: 0,
            ring: 0,
            spare: 0,
            head: FIRST,
            ready: 0,
            count: 0,
            record: [Stored::default(); KEYS],
            list: [List::default(); STRIPES],
            record_list: 0,
            log: [0; REVISIONS],
            deaths: 0,
            holder: [NOBODY; 3],
            committed: [0; REVISIONS],
            last: FIRST,
        };
        for key in 0..KEYS {
            let free = STRIPE_PLACES[self.stripe_of[key]] & !state.occupied;
            let place = free.trailing_zeros() as usize;
            state.slot_word[key] = place as u8;
            (state.born[place], state.value[place]) = (FIRST, initial(key));
            state.occupied |= bit(place as u8);
        }
        for who in 0..2 {
            if self.tasks[who] != Task::Nothing {
                state.byte[who] = who as u8;
                state.process[who].slot = who as u8;
                self.begin_task(who, &mut state.process[who]);
            } else {
                state.process[who].at = At::Done;
            }
        }
        if self.tasks[2] == Task::Nothing {
            state.process[2].at = At::Done;
        }
        state.process[UNDERTAKER].slot = UNDERTAKER as u8;
        state.byte[UNDERTAKER] = UNDERTAKER as u8;
        vec![state]
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        for who in 0..NAMES.len() {
            match state.process[who].at {
                At::Dead | At::Done => continue,
                At::Outside => self.come(state, who, steps),
                _ => self.step(state, who, steps),
            }
            self.deaths(state, who, steps);
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        self.check_state(state)
    }

    fn end(&self, state: &State) -> Result<(), String> {
        Self::check_end(state)
    }
}

/// Two keys in two stripes; the third is there and nobody changes it.
const APART: [usize; KEYS] = [0, 1, 0];
/// Two keys in one stripe, and one in the other.
const TOGETHER: [usize; KEYS] = [0, 0, 1];

const SET_0: Task = Task::Write(&[(0, Set)]);
const SET_1: Task = Task::Write(&[(1, Set)]);
const DELETE_0: Task = Task::Write(&[(0, Delete)]);
const SET_DELETE: Task = Task::Write(&[(0, Set), (1, Delete)]);
const SET_SET: Task = Task::Write(&[(0, Set), (1, Set)]);
const THREE: Task = Task::Write(&[(0, Set), (1, Delete), (2, Set)]);

/// Cases are put together from these.
impl Commit {
    fn of(tasks: [Task; 3], deaths: u8) -> Self {
        let (stripe_of, rounds, deadline, lists) = (APART, 1, false, false);
        Self { tasks, stripe_of, rounds, deaths, deadline, lists, plant: None }
    }
    fn twice(self) -> Self {
        Self { rounds: 2, ..self }
    }
    fn with_deadlines(self) -> Self {
        Self { deadline: true, ..self }
    }
    fn with_lists(self) -> Self {
        Self { lists: true, ..self }
    }
    fn in_one_stripe(self) -> Self {
        Self { stripe_of: TOGETHER, ..self }
    }
    fn without(self, plant: Plant) -> Self {
        Self { plant: Some(plant), ..self }
    }
}

fn main() -> ExitCode {
    let mut suite = Suite::from_arguments("A: commit, locks, takeover, repair");
    let base = || Commit::of([SET_DELETE, SET_0, SET_1], 2);
    let batches = || Commit::of([SET_DELETE, SET_SET, SET_DELETE], 3);
    let listed = |deaths| Commit::of([SET_DELETE, SET_SET, SET_1], deaths).with_lists();
    let deletes = Commit::of([DELETE_0, SET_DELETE, SET_0], 3);
    let buries = Commit::of([SET_DELETE, SET_1, Task::Bury], 3);
    let three = Commit::of([THREE, SET_DELETE, SET_1], 2).in_one_stripe();
    let one_stripe = Commit::of([SET_DELETE, SET_1, DELETE_0], 2).in_one_stripe();
    let quick = 3_000_000;
    suite.holds("batch, set, newcomer's set; 2 deaths, deadlines", quick, base().with_deadlines());
    suite.holds("three batches; 3 deaths", quick, batches());
    suite.holds("delete, batch, newcomer's set; 3 deaths", quick, deletes);
    suite.holds("batch, set, a newcomer that buries; 3 deaths", quick, buries);
    suite.holds("keys of one stripe: three changes, batch, set; 2 deaths", quick, three);
    suite.holds("changes in lists: two batches, set; 2 deaths", quick, listed(2));
    suite.holds_in_full("batch, set, newcomer's set, twice each; 3 deaths", {
        Commit { deaths: 3, ..base().twice() }
    });
    suite.holds_in_full("three batches, twice each; 3 deaths, deadlines", {
        batches().twice().with_deadlines()
    });
    suite.holds_in_full("keys of one stripe: batch, set, delete, twice; 2 deaths", {
        one_stripe.twice()
    });
    suite.holds_in_full("changes in lists: two batches, set, twice; 3 deaths, deadlines", {
        listed(3).twice().with_deadlines()
    });
    plants(&mut suite, base);
    suite.run()
}

fn plants(suite: &mut Suite<'_>, base: impl Fn() -> Commit) {
    for (name, plant) in [
        ("a stripe is taken without passing the commit", Plant::NoPass),
        ("a dead owner's byte is tested, not held", Plant::TestByte),
        ("a newcomer mends nothing", Plant::NewcomerMendsNothing),
        ("a newcomer mends the stripes before the commit", Plant::StripesFirst),
        ("a freer does not look at the pins", Plant::BlindFree),
        ("repair frees dead entries like unborn ones", Plant::RepairFreesDead),
        ("repair leaves unborn entries", Plant::RepairForgetsNothing),
        ("`born` before `ready`", Plant::EarlyBorn),
        ("`ready` before the record", Plant::EarlyReady),
        ("the head before the entries", Plant::EarlyHead),
        ("deleted slots are emptied before the head", Plant::EarlyEmpty),
        ("the commit lock is taken over without FINISH", Plant::NoFinish),
        ("one revision for a whole batch", Plant::OneRevision),
    ] {
        suite.plant(name, base().without(plant));
    }
    suite.plant("the stripe's word is swapped before the commit is passed", {
        base().with_deadlines().without(Plant::SwapFirst)
    });
    suite.plant("a batch's list is freed before FINISH", {
        base().with_lists().without(Plant::EarlyListFree)
    });
    suite.plant("repair leaves lists", base().with_lists().without(Plant::KeepsLists));
    let thrice = || Commit::of([SET_1, SET_1, SET_1], 1).in_one_stripe();
    suite.plant("a spare entry is filled as it is", thrice().without(Plant::SpareAsItIs));
    suite.plant("a spare entry's `died` is wiped first", thrice().without(Plant::SpareDiedFirst));
}
