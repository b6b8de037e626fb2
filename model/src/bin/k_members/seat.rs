//! The seat: ATTACH of a newcomer in a dead member's slot, BURIAL, and a writer that waits.
//!
//! *Checked:* whoever uses the stripe finds it repaired and its commit finished; a newcomer has no pins
//! of the dead; no living owner is robbed. At the end nobody waits and no lock names the living.

use membus_model::{Model, Steps, Suite};

const NAMES: [&str; 4] = ["writer", "newcomer 1", "newcomer 2", "undertaker"];
const WRITER: usize = 0;
const UNDERTAKER: usize = 3;
/// Slots: 0 is the dead member's, 1 the writer's, 2 the undertaker's.
const SLOTS: usize = 3;
const SLOT_OF: [u8; 4] = [1, 0, 0, 2];
const COMMIT: usize = 0;
const STRIPE: usize = 1;
const NOBODY: u8 = 255;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// Who takes a word over gives up when a waiter set the contended bit meanwhile, as the code stood.
    GivesUp,
    /// The stripes are mended before the commit.
    StripesFirst,
    /// A newcomer uses its slot before it has mended.
    UsesFirst,
    /// A newcomer does not clear the pins that it finds.
    KeepsPins,
    /// A stripe is taken over without passing the commit.
    NoPass,
    /// The undertaker tests the byte and does not hold it.
    TestByte,
}

struct Seat {
    deaths: u8,
    plant: Option<Plant>,
}

/// A lock word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Word {
    /// Slot + 1; 0: free.
    owner: u8,
    contended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum At {
    #[default]
    Outside,
    ClearPins,
    // Mending one lock after the other: load the word, pass the commit for a stripe, swap.
    MendLoad,
    MendSwap,
    MendRepair,
    Mended,
    // Using the stripe.
    Lock,
    Contend,
    Probed,
    TakeLoad,
    TakeSwap,
    Repair,
    Use,
    Unlock,
    // LOCK(commit), to pass it.
    PassLock,
    PassContend,
    PassLoad,
    PassSwap,
    PassFinish,
    PassUnlock,
    Done,
    Dead,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
struct Process {
    at: At,
    /// The dead slot that it is about, and whether it holds its byte by a probe.
    grave: u8,
    holds: bool,
    /// The dead slot that has the commit lock, and whether its byte is held for that alone.
    commit_grave: u8,
    commit_holds: bool,
    /// The lock that it mends, and how many it has mended.
    lock: u8,
    mended: u8,
    seen: Word,
    /// Where it goes on after it has passed the commit.
    after: At,
}

#[derive(Debug, Clone, Copy, Hash)]
struct State {
    word: [Word; 2],
    byte: [u8; SLOTS],
    /// Whether a commit waits to be finished, and the stripe to be repaired.
    ready: bool,
    broken: bool,
    /// Whether slot 0 has pins of its dead user.
    stale_pins: bool,
    process: [Process; 4],
    deaths: u8,
    holder: [u8; 2],
}

impl Seat {
    fn breaks(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    fn come(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let named = state.word.iter().any(|word| word.owner == 1);
        if state.byte[0] != NOBODY || (who == UNDERTAKER && !named) {
            return;
        }
        let mut next = *state;
        let q = &mut next.process[who];
        (q.grave, q.at) = (0, At::ClearPins);
        q.lock = if self.breaks(Plant::StripesFirst) { STRIPE as u8 } else { COMMIT as u8 };
        q.holds = who == UNDERTAKER && !self.breaks(Plant::TestByte);
        if who != UNDERTAKER || q.holds {
            next.byte[0] = who as u8;
        }
        if who != UNDERTAKER && self.breaks(Plant::UsesFirst) {
            next.process[who].at = At::Lock;
        }
        steps.go(NAMES[who], "takes the dead slot's byte", next);
    }

    /// ATTACH and BURIAL.
    fn mend(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, p) = (*state, state.process[who]);
        let lock = usize::from(p.lock);
        let names = |word: Word| word.owner == p.grave + 1;
        let what = match p.at {
            At::ClearPins => {
                if !(self.breaks(Plant::KeepsPins) && who != UNDERTAKER) {
                    next.stale_pins = false;
                }
                next.process[who].at = At::MendLoad;
                "clears the pins of the dead"
            }
            At::MendLoad if p.mended == 2 => {
                next.process[who].at = At::Mended;
                "has mended all"
            }
            At::MendLoad if !names(state.word[lock]) => {
                self.mend_next(&mut next.process[who]);
                "finds a lock that does not bear the dead name"
            }
            At::MendLoad => {
                (next.process[who].seen, next.process[who].at) = (state.word[lock], At::MendSwap);
                let passes = lock == STRIPE && p.after != At::MendSwap;
                if passes && !self.breaks(Plant::NoPass) {
                    (next.process[who].at, next.process[who].after) = (At::PassLock, At::MendLoad);
                    next.process[who].seen = Word::default();
                }
                "finds a lock in the dead name"
            }
            At::MendSwap if state.word[lock] != p.seen => {
                next.process[who].at = At::MendLoad;
                if self.breaks(Plant::GivesUp) {
                    self.mend_next(&mut next.process[who]);
                }
                "finds the word changed under its hands"
            }
            At::MendSwap => {
                next.take(lock, who);
                next.process[who].at = At::MendRepair;
                "takes a lock in the dead name"
            }
            At::MendRepair => {
                if lock == COMMIT {
                    next.ready = false;
                } else {
                    next.broken = false;
                }
                next.unlock(lock);
                self.mend_next(&mut next.process[who]);
                "repairs what the lock protects, and unlocks"
            }
            _ if who == UNDERTAKER => {
                if p.holds {
                    next.byte[0] = NOBODY;
                }
                next.process[who] = Process::default();
                "has buried the dead"
            }
            _ if state.stale_pins => {
                let why = "pins of the dead count as the newcomer's";
                return steps.wrong(NAMES[who], "uses its slot", why, state);
            }
            _ => {
                next.process[who] = Process { at: At::Lock, ..Process::default() };
                "uses its slot"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    fn mend_next(&self, process: &mut Process) {
        let (grave, holds, mended) = (process.grave, process.holds, process.mended + 1);
        let lock = 1 - process.lock;
        *process = Process { at: At::MendLoad, grave, holds, lock, mended, ..Process::default() };
    }

    /// LOCK(stripe), by the writer and by whoever has a seat.
    fn lock_stripe(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, p) = (*state, state.process[who]);
        let (word, me) = (state.word[STRIPE], SLOT_OF[who] + 1);
        let q = &mut next.process[who];
        let what = match p.at {
            At::Lock if word.owner == 0 => {
                q.at = At::Use;
                next.take(STRIPE, who);
                "locks the stripe"
            }
            At::Lock if !word.contended => {
                next.word[STRIPE].contended = true;
                q.at = At::Contend;
                "says that somebody waits"
            }
            At::Lock => {
                q.at = At::Contend;
                "waits"
            }
            At::Contend if word.owner == 0 => {
                q.at = At::Lock;
                "is woken"
            }
            At::Contend => {
                let owner = word.owner - 1;
                if word.owner == me || state.byte[usize::from(owner)] != NOBODY {
                    return;
                }
                next.byte[usize::from(owner)] = who as u8;
                (q.grave, q.holds, q.at) = (owner, true, At::Probed);
                "takes the byte of the dead owner"
            }
            At::Probed => {
                (q.at, q.after) = (At::PassLock, At::TakeLoad);
                if self.breaks(Plant::NoPass) {
                    q.at = At::TakeLoad;
                }
                "is to pass the commit"
            }
            At::TakeLoad | At::TakeSwap => return self.take_over(state, who, steps),
            At::Repair => {
                (next.broken, q.at) = (false, At::Use);
                "repairs the stripe"
            }
            At::Use if state.broken || state.ready => {
                let why = "a stripe is used that was not mended";
                return steps.wrong(NAMES[who], "uses the stripe", why, state);
            }
            At::Use => {
                (next.broken, q.at) = (true, At::Unlock);
                "uses the stripe"
            }
            _ => {
                *q = Process { at: At::Done, ..Process::default() };
                next.broken = false;
                next.unlock(STRIPE);
                "has done, and unlocks"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    /// From a dead owner whose byte is held: load the word, then swap it.
    fn take_over(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, p) = (*state, state.process[who]);
        let word = state.word[STRIPE];
        let q = &mut next.process[who];
        let what = match p.at {
            At::TakeLoad if word.owner != p.grave + 1 => {
                *q = Process { at: At::Lock, ..Process::default() };
                next.byte[usize::from(p.grave)] = NOBODY;
                "somebody else took the stripe over"
            }
            At::TakeLoad => {
                (q.seen, q.at) = (word, At::TakeSwap);
                "loads the word"
            }
            At::TakeSwap if word != p.seen => {
                q.at = At::TakeLoad;
                "finds the word changed under its hands"
            }
            _ => {
                *q = Process { at: At::Repair, ..Process::default() };
                next.byte[usize::from(p.grave)] = NOBODY;
                next.take(STRIPE, who);
                "takes the stripe over"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    /// LOCK(commit) and UNLOCK: whatever is committed is finished then.
    fn pass(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, p) = (*state, state.process[who]);
        let (word, me) = (state.word[COMMIT], SLOT_OF[who] + 1);
        let q = &mut next.process[who];
        let what = match p.at {
            At::PassLock if word.owner == 0 => {
                q.at = At::PassUnlock;
                next.take(COMMIT, who);
                "locks the commit"
            }
            At::PassLock => {
                next.word[COMMIT].contended = true;
                q.at = At::PassContend;
                "says that somebody waits for the commit"
            }
            At::PassContend if word.owner == 0 => {
                q.at = At::PassLock;
                "is woken"
            }
            At::PassContend => {
                let (owner, byte) = (word.owner - 1, &mut next.byte[usize::from(word.owner - 1)]);
                let held = p.holds && owner == p.grave && *byte == who as u8;
                if word.owner == me || !(held || *byte == NOBODY) {
                    return;
                }
                *byte = who as u8;
                (q.commit_grave, q.commit_holds, q.at) = (owner, !held, At::PassLoad);
                "has the byte of the commit's dead owner"
            }
            At::PassLoad if word.owner != p.commit_grave + 1 => {
                q.at = At::PassLock;
                next.release_for_commit(who);
                "somebody else took the commit over"
            }
            At::PassLoad => {
                (q.seen, q.at) = (word, At::PassSwap);
                "loads the commit's word"
            }
            At::PassSwap if word != p.seen => {
                (q.seen, q.at) = (Word::default(), At::PassLoad);
                "finds the commit's word changed under its hands"
            }
            At::PassSwap => {
                (q.seen, q.at) = (Word::default(), At::PassFinish);
                next.take(COMMIT, who);
                next.release_for_commit(who);
                "takes the commit over"
            }
            At::PassFinish => {
                (next.ready, q.at) = (false, At::PassUnlock);
                "FINISH"
            }
            _ => {
                // It does not pass a second time for the same stripe.
                let mending = p.after == At::MendLoad;
                (q.at, q.after) = (p.after, if mending { At::MendSwap } else { At::Outside });
                next.unlock(COMMIT);
                "has passed the commit"
            }
        };
        steps.go(NAMES[who], what, next);
    }
}

impl State {
    fn take(&mut self, lock: usize, who: usize) {
        // Whoever comes over a waiter keeps the bit: the waiter must be woken.
        self.word[lock].owner = SLOT_OF[who] + 1;
        self.holder[lock] = who as u8;
    }
    fn release_for_commit(&mut self, who: usize) {
        let process = &mut self.process[who];
        if process.commit_holds {
            self.byte[usize::from(process.commit_grave)] = NOBODY;
        }
        (process.commit_grave, process.commit_holds) = (0, false);
    }
    fn unlock(&mut self, lock: usize) {
        self.word[lock] = Word::default();
        self.holder[lock] = NOBODY;
    }
}

impl Model for Seat {
    type State = State;

    fn begin(&self) -> Vec<State> {
        let state = |commit, ready| {
            let dead = Word { owner: 1, contended: false };
            let mut process = [Process::default(); 4];
            process[WRITER].at = At::Lock;
            State {
                word: [if commit { dead } else { Word::default() }, dead],
                byte: [NOBODY, WRITER as u8, UNDERTAKER as u8],
                ready,
                broken: true,
                stale_pins: true,
                process,
                deaths: 0,
                holder: [NOBODY; 2],
            }
        };
        vec![state(true, true), state(true, false), state(false, false)]
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        for (who, name) in NAMES.into_iter().enumerate() {
            match state.process[who].at {
                At::Done | At::Dead => continue,
                At::Outside => {
                    self.come(state, who, steps);
                    continue;
                }
                At::ClearPins | At::MendLoad | At::MendSwap | At::MendRepair | At::Mended => {
                    self.mend(state, who, steps);
                }
                At::PassLock
                | At::PassContend
                | At::PassLoad
                | At::PassSwap
                | At::PassFinish
                | At::PassUnlock => self.pass(state, who, steps),
                _ => self.lock_stripe(state, who, steps),
            }
            if state.deaths < self.deaths && who != UNDERTAKER {
                let mut next = *state;
                next.deaths += 1;
                next.process[who] = Process { at: At::Dead, ..Process::default() };
                next.byte.iter_mut().filter(|b| **b == who as u8).for_each(|b| *b = NOBODY);
                steps.dies(name, next);
            }
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        for lock in [COMMIT, STRIPE] {
            let holder = usize::from(state.holder[lock]);
            if holder < NAMES.len()
                && state.process[holder].at != At::Dead
                && state.word[lock].owner != SLOT_OF[holder] + 1
            {
                return Err("a living owner is robbed".to_owned());
            }
        }
        Ok(())
    }

    fn end(&self, state: &State) -> Result<(), String> {
        for (who, process) in state.process.iter().enumerate() {
            let named = state.word.iter().any(|word| word.owner == SLOT_OF[who] + 1);
            if !matches!(process.at, At::Outside | At::Dead | At::Done) {
                return Err(format!("{} waits for ever", NAMES[who]));
            }
            if process.at == At::Done && named && state.byte[usize::from(SLOT_OF[who])] == who as u8
            {
                return Err(format!("a lock bears the living name of {} for ever", NAMES[who]));
            }
        }
        Ok(())
    }
}

pub(super) fn cases(suite: &mut Suite<'_>) {
    suite.holds("seat: no death but the first", 2_000_000, Seat { deaths: 0, plant: None });
    suite.holds("seat: 3 more deaths", 2_000_000, Seat { deaths: 3, plant: None });
    for (name, plant) in [
        ("as the code stood: a contended word is not taken", Plant::GivesUp),
        ("seat: the stripes before the commit", Plant::StripesFirst),
        ("seat: a newcomer uses its slot first", Plant::UsesFirst),
        ("seat: a newcomer keeps the pins of the dead", Plant::KeepsPins),
        ("seat: the commit is not passed", Plant::NoPass),
        ("seat: the undertaker tests the byte", Plant::TestByte),
    ] {
        suite.plant(name, Seat { deaths: 1, plant: Some(plant) });
    }
}
