//! Growing: the grow lock, `fallocate`, then the size word.
//!
//! *Checked:* every block that the size word counts has memory behind it (else a store there is a
//! SIGBUS); the size word never goes back; no living owner of the grow lock is robbed. At the end
//! nobody waits.

use membus_model::{Model, Steps, Suite};

const NAMES: [&str; 4] = ["A", "B", "newcomer 1", "newcomer 2"];
/// Slots of A and B; newcomers take those of the dead.
const SLOTS: usize = 2;
const NOBODY: u8 = 255;
/// Blocks at first and at the most.
const FIRST: u8 = 2;
const MAX: u8 = 7;
/// Blocks by which each grows.
const STEP: [u8; 4] = [2, 1, 2, 1];

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// Whoever takes a slot leaves the grow lock in its name.
    LeavesGrowLock,
    /// The size word is stored before the room is reserved.
    SizeFirst,
    /// The size from before the lock is believed under it.
    OldSize,
    /// There is no grow lock.
    NoLock,
    /// A dead owner's byte is tested and not held.
    TestByte,
}

struct Growth {
    /// How often A and B find no room.
    needs: u8,
    deaths: u8,
    plant: Option<Plant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum At {
    #[default]
    Outside,
    Mend,
    Before,
    Lock,
    Swap,
    Compare,
    Reserve,
    Store,
    Unlock,
    Done,
    Dead,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
struct Process {
    at: At,
    slot: u8,
    victim: u8,
    before: u8,
    size: u8,
    /// How often it still finds no room.
    needs: u8,
}

#[derive(Debug, Clone, Copy, Hash)]
struct State {
    /// The size word, and how far memory reaches.
    size: u8,
    backed: u8,
    lock: u8,
    byte: [u8; SLOTS],
    process: [Process; 4],
    deaths: u8,
    /// Who has the grow lock, for the checks.
    holder: u8,
}

impl Growth {
    fn breaks(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    fn attach(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        for slot in 0..SLOTS {
            if state.byte[slot] == NOBODY {
                let mut next = *state;
                next.byte[slot] = who as u8;
                (next.process[who].slot, next.process[who].at) = (slot as u8, At::Mend);
                steps.go(NAMES[who], "takes a dead slot", next);
            }
        }
    }

    fn step(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, p) = (*state, &state.process[who]);
        let me = p.slot + 1;
        let size_first = self.breaks(Plant::SizeFirst);
        let q = &mut next.process[who];
        let what = match p.at {
            At::Mend => {
                q.at = At::Before;
                if state.lock == me && !self.breaks(Plant::LeavesGrowLock) {
                    (next.lock, next.holder) = (0, NOBODY);
                }
                "frees the grow lock if it bears its slot"
            }
            At::Before if p.needs == 0 => {
                q.at = At::Done;
                "has room"
            }
            At::Before => {
                (q.before, q.at) = (state.size, At::Lock);
                if self.breaks(Plant::NoLock) {
                    q.at = At::Compare;
                }
                "finds no room"
            }
            At::Lock => return self.lock(state, who, steps),
            At::Swap => return self.swap(state, who, steps),
            At::Compare => {
                q.size = if self.breaks(Plant::OldSize) { p.before } else { state.size };
                let grown = q.size > p.before || q.size == MAX;
                q.at = match (grown, size_first) {
                    (true, _) => At::Unlock,
                    (false, false) => At::Reserve,
                    (false, true) => At::Store,
                };
                "looks at the size under the lock"
            }
            At::Reserve => {
                let mut full = *state;
                full.process[who].at = At::Unlock;
                steps.go(NAMES[who], "finds no room in the file system", full);
                next.backed = state.backed.max(p.grown(who));
                q.at = if size_first { At::Unlock } else { At::Store };
                "reserves the file's next part"
            }
            At::Store if p.grown(who) < state.size => {
                let why = "the size word goes back";
                return steps.wrong(NAMES[who], "stores the size word", why, state);
            }
            At::Store => {
                (next.size, q.at) = (p.grown(who), At::Unlock);
                if size_first {
                    q.at = At::Reserve;
                }
                "stores the size word"
            }
            _ => {
                if state.holder == who as u8 {
                    (next.lock, next.holder) = (0, NOBODY);
                }
                let (slot, needs) = (p.slot, p.needs - 1);
                *q = Process { at: At::Before, slot, needs, ..Process::default() };
                "unlocks"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    fn lock(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, slot) = (*state, state.process[who].slot);
        let q = &mut next.process[who];
        let Some(owner) = state.lock.checked_sub(1) else {
            (next.lock, next.holder, q.at) = (slot + 1, who as u8, At::Compare);
            return steps.go(NAMES[who], "locks", next);
        };
        if owner == slot || state.byte[usize::from(owner)] != NOBODY {
            return;
        }
        if !self.breaks(Plant::TestByte) {
            next.byte[usize::from(owner)] = who as u8;
        }
        (q.victim, q.at) = (owner, At::Swap);
        steps.go(NAMES[who], "takes the byte of the dead owner", next);
    }

    /// Takes the lock over, when the word still names the dead owner.
    fn swap(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, p) = (*state, &state.process[who]);
        let holder = usize::from(state.holder);
        if state.byte[usize::from(p.victim)] == who as u8 {
            next.byte[usize::from(p.victim)] = NOBODY;
        }
        next.process[who].at = At::Lock;
        if state.lock != p.victim + 1 {
            return steps.go(NAMES[who], "somebody else took it over", next);
        }
        if state.process.get(holder).is_some_and(|p| p.at != At::Dead) {
            let why = "a living owner is robbed of the grow lock";
            return steps.wrong(NAMES[who], "takes the lock over", why, state);
        }
        (next.lock, next.holder) = (p.slot + 1, who as u8);
        next.process[who].at = At::Compare;
        steps.go(NAMES[who], "takes the lock over", next);
    }
}

impl Process {
    fn grown(&self, who: usize) -> u8 {
        (self.size + STEP[who]).min(MAX)
    }
}

impl Model for Growth {
    type State = State;

    fn begin(&self) -> Vec<State> {
        let member =
            |slot| Process { at: At::Before, slot, needs: self.needs, ..Process::default() };
        let newcomer = Process { needs: 1, ..Process::default() };
        vec![State {
            size: FIRST,
            backed: FIRST,
            lock: 0,
            byte: [0, 1],
            process: [member(0), member(1), newcomer, newcomer],
            deaths: 0,
            holder: NOBODY,
        }]
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        for (who, name) in NAMES.into_iter().enumerate() {
            match state.process[who].at {
                At::Dead | At::Done => continue,
                At::Outside => {
                    self.attach(state, who, steps);
                    continue;
                }
                _ => self.step(state, who, steps),
            }
            if state.deaths < self.deaths {
                let mut next = *state;
                next.deaths += 1;
                next.process[who] = Process { at: At::Dead, ..Process::default() };
                next.byte.iter_mut().filter(|b| **b == who as u8).for_each(|b| *b = NOBODY);
                steps.dies(name, next);
            }
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        if state.size > state.backed {
            return Err("the size word counts a block without memory".to_owned());
        }
        Ok(())
    }

    fn end(&self, state: &State) -> Result<(), String> {
        let waits = |p: &Process| !matches!(p.at, At::Dead | At::Done | At::Outside);
        match state.process.iter().position(waits) {
            Some(who) => Err(format!("{} waits for the grow lock for ever", NAMES[who])),
            None => Ok(()),
        }
    }
}

pub(super) fn cases(suite: &mut Suite<'_>) {
    let base = |needs, deaths| Growth { needs, deaths, plant: None };
    suite.holds("growth: A and B once each, 2 deaths", 2_000_000, base(1, 2));
    suite.holds("growth: A and B twice each, 2 deaths", 2_000_000, base(2, 2));
    suite.holds_in_full("growth: A and B three times each, 3 deaths", base(3, 3));
    for (name, plant) in [
        ("growth: a newcomer leaves the grow lock", Plant::LeavesGrowLock),
        ("growth: the size word before the memory", Plant::SizeFirst),
        ("growth: the size from before the lock is believed", Plant::OldSize),
        ("growth: no lock", Plant::NoLock),
        ("growth: the dead owner's byte is tested, not held", Plant::TestByte),
    ] {
        suite.plant(name, Growth { plant: Some(plant), ..base(2, 2) });
    }
}
