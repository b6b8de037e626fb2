//! J: open-file-description locks: two threads of one process, and a fork.
//!
//! *Modelled:* what the kernel does with locks of descriptions that threads and children share, and
//! how members tell the dead by it. A member of the past, in slot 2, died with a stripe's lock. P1 and
//! P2 are threads of one member, which forks at any moment of P1; the child C closes its copies and
//! attaches anew before it writes, or never writes; Q is another member and N a newcomer. All want
//! the lock. P and C may die at any step; with P both of its threads do.
//!
//! *A state* has the lock word, for each description who has a descriptor of it and which bytes it has
//! locked, the mutex of P, and where each thread stands.
//!
//! *Checked:* no living owner is robbed; nobody unlocks what it does not hold. At the end nobody waits.
//!
//! *Rules that can be broken:* see [`Plant`].

use membus_model::{Model, Steps, Suite};
use std::process::ExitCode;

const NAMES: [&str; 5] = ["P1", "P2", "Q", "N", "C"];
const P1: usize = 0;
const P2: usize = 1;
const Q: usize = 2;
const N: usize = 3;
const C: usize = 4;
const SLOTS: usize = 4;
/// The slot of the dead one, and what the lock word says of it.
const DEAD_SLOT: u8 = 2;
const NOBODY: u8 = 255;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// The child keeps its copies of the parent's descriptors.
    KeepsCopies,
    /// The child closes the copy that has the parent's byte, and keeps the one that probes.
    KeepsProbe,
    /// The child probes through the parent's description.
    SharesProbe,
    /// The child writes in the parent's slot.
    WritesAsParent,
    /// The child unlocks what the parent held when it forked.
    UnlocksForParent,
    /// Threads of one process probe at the same time.
    NoMutex,
    /// A member probes through the description that has its own byte.
    ProbesByOwn,
}

struct Fork {
    /// How often each takes the lock.
    rounds: u8,
    deaths: u8,
    plant: Option<Plant>,
}

/// Descriptions of the members file: one with the own byte and one to probe by, for each process.
#[derive(Debug, Clone, Copy, Hash, Default)]
struct Description {
    /// Processes that have a descriptor of it, a bit each.
    open: u8,
    /// Bytes that it has locked, a bit each.
    locked: u8,
}

const DESCRIPTIONS: usize = 8;

/// The process of a thread: P is 0, Q 1, N 2, C 3.
const PROCESS: [usize; 5] = [0, 0, 1, 2, 3];

fn own_of(process: usize) -> usize {
    2 * process
}

fn probe_of(process: usize) -> usize {
    2 * process + 1
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum At {
    /// Not there yet: a newcomer that has not come, a child that is not forked.
    #[default]
    Outside,
    CloseOwn,
    CloseProbe,
    Attach,
    Mend,
    Lock,
    Swap,
    Held,
    Done,
    Dead,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
struct Thread {
    at: At,
    slot: u8,
    victim: u8,
    /// How often it has had the lock.
    rounds: u8,
}

#[derive(Debug, Clone, Copy, Hash)]
struct State {
    word: u8,
    description: [Description; DESCRIPTIONS],
    thread: [Thread; 5],
    /// Which thread of P probes.
    mutex: u8,
    forked: bool,
    /// Whether P1 held the lock when it forked.
    forked_with_lock: bool,
    deaths: u8,
    /// Which thread has the lock, for the checks.
    holder: u8,
}

impl State {
    /// Locks a byte through a description, unless another one has it.
    fn acquire(&mut self, description: usize, byte: u8) -> bool {
        let taken = |(index, other): (usize, &Description)| {
            index != description && other.open != 0 && other.locked & 1 << byte != 0
        };
        let free = !self.description.iter().enumerate().any(taken);
        if free {
            self.description[description].locked |= 1 << byte;
        }
        free
    }

    fn release(&mut self, description: usize, byte: u8) {
        self.description[description].locked &= !(1 << byte);
    }

    /// Closes a process's descriptor: with the last one the locks go.
    fn close(&mut self, description: usize, process: usize) {
        let it = &mut self.description[description];
        it.open &= !(1 << process);
        if it.open == 0 {
            it.locked = 0;
        }
    }

    fn open(&mut self, process: usize) {
        for description in [own_of(process), probe_of(process)] {
            self.description[description] = Description { open: 1 << process, locked: 0 };
        }
    }

    fn is_alive(&self, thread: u8) -> bool {
        let thread = self.thread.get(usize::from(thread));
        thread.is_some_and(|thread| !matches!(thread.at, At::Dead | At::Outside))
    }
}

impl Fork {
    fn breaks(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// The description through which a thread probes.
    fn prober(&self, who: usize) -> usize {
        match self.plant {
            Some(Plant::ProbesByOwn) => own_of(PROCESS[who]),
            Some(Plant::SharesProbe) if who == C => probe_of(PROCESS[P1]),
            _ => probe_of(PROCESS[who]),
        }
    }

    fn fork(&self, state: &State, steps: &mut Steps<State>) {
        if state.forked || !state.is_alive(P1 as u8) {
            return;
        }
        let mut next = *state;
        next.forked = true;
        next.forked_with_lock = usize::from(state.holder) == P1;
        for description in [own_of(0), probe_of(0)] {
            next.description[description].open |= 1 << PROCESS[C];
        }
        let at = if self.breaks(Plant::KeepsCopies) { At::Done } else { At::CloseOwn };
        next.thread[C] = Thread { at, ..Thread::default() };
        steps.go("P1", "forks", next);
    }

    /// The child, until it is a member of its own.
    fn child(&self, state: &State, steps: &mut Steps<State>) {
        let mut next = *state;
        let keeps_probe = matches!(self.plant, Some(Plant::KeepsProbe | Plant::SharesProbe));
        let what = match state.thread[C].at {
            At::CloseOwn => {
                next.close(own_of(0), PROCESS[C]);
                next.thread[C].at = At::CloseProbe;
                let unlocks = self.breaks(Plant::UnlocksForParent) && state.forked_with_lock;
                if unlocks && usize::from(state.holder) != C {
                    let why = "a lock is given back by somebody who does not hold it";
                    return steps.wrong("C", "drops its copy of a guard", why, state);
                }
                "closes its copy of the parent's own descriptor"
            }
            _ => {
                if !keeps_probe {
                    next.close(probe_of(0), PROCESS[C]);
                }
                // It may never write.
                let mut rests = next;
                rests.thread[C].at = At::Done;
                steps.go("C", "closes its copies and never writes", rests);
                next.thread[C].at = At::Attach;
                if self.breaks(Plant::WritesAsParent) {
                    (next.thread[C].at, next.thread[C].slot) = (At::Lock, 0);
                    next.open(PROCESS[C]);
                }
                "closes its copy of the descriptor that probes"
            }
        };
        steps.go("C", what, next);
    }

    fn attach(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        for slot in 0..SLOTS as u8 {
            let mut next = *state;
            next.open(PROCESS[who]);
            if next.acquire(own_of(PROCESS[who]), slot) {
                next.thread[who] = Thread { at: At::Mend, slot, ..Thread::default() };
                steps.go(NAMES[who], "opens the members file and takes a slot", next);
            }
        }
    }

    fn step(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, t) = (*state, state.thread[who]);
        let prober = self.prober(who);
        let minds_mutex = PROCESS[who] == 0 && !self.breaks(Plant::NoMutex);
        let what = match t.at {
            At::Mend => {
                next.thread[who].at = At::Lock;
                if state.word == t.slot + 1 {
                    (next.word, next.holder) = (0, NOBODY);
                }
                "mends what names its slot"
            }
            At::Lock if state.word == 0 => {
                (next.word, next.holder, next.thread[who].at) = (t.slot + 1, who as u8, At::Held);
                "locks"
            }
            At::Lock => {
                let owner = state.word - 1;
                if minds_mutex && state.mutex != NOBODY || !next.acquire(prober, owner) {
                    return;
                }
                if minds_mutex {
                    next.mutex = who as u8;
                }
                (next.thread[who].at, next.thread[who].victim) = (At::Swap, owner);
                "has the dead owner's byte"
            }
            At::Swap => {
                next.release(prober, t.victim);
                if minds_mutex {
                    next.mutex = NOBODY;
                }
                next.thread[who].at = At::Lock;
                if state.word == t.victim + 1 {
                    if state.is_alive(state.holder) {
                        let why = "a living owner is robbed";
                        return steps.wrong(NAMES[who], "takes the lock over", why, state);
                    }
                    (next.word, next.holder) = (t.slot + 1, who as u8);
                    next.thread[who].at = At::Held;
                }
                "takes the lock over, if it still names the dead one"
            }
            _ => {
                if usize::from(state.holder) != who {
                    let why = "a lock is given back by somebody who does not hold it";
                    return steps.wrong(NAMES[who], "unlocks", why, state);
                }
                let rounds = t.rounds + 1;
                let at = if rounds < self.rounds { At::Lock } else { At::Done };
                (next.word, next.holder) = (0, NOBODY);
                next.thread[who] = Thread { at, slot: t.slot, rounds, victim: 0 };
                "unlocks"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    fn dies(&self, state: &State, process: usize, steps: &mut Steps<State>) {
        if state.deaths == self.deaths {
            return;
        }
        let mut next = *state;
        next.deaths += 1;
        for (thread, of) in next.thread.iter_mut().zip(PROCESS) {
            if of == process {
                *thread = Thread { at: At::Dead, ..Thread::default() };
            }
        }
        if process == 0 {
            next.mutex = NOBODY;
        }
        for description in 0..DESCRIPTIONS {
            next.close(description, process);
        }
        steps.dies(["P", "Q", "N", "C"][process], next);
    }
}

impl Model for Fork {
    type State = State;

    fn begin(&self) -> Vec<State> {
        let mut state = State {
            word: DEAD_SLOT + 1,
            description: [Description::default(); DESCRIPTIONS],
            thread: [Thread::default(); 5],
            mutex: NOBODY,
            forked: false,
            forked_with_lock: false,
            deaths: 0,
            holder: NOBODY,
        };
        for (process, slot) in [(0, 0), (1, 1)] {
            state.open(process);
            state.acquire(own_of(process), slot);
        }
        for (who, slot) in [(P1, 0), (P2, 0), (Q, 1)] {
            state.thread[who] = Thread { at: At::Lock, slot, ..Thread::default() };
        }
        state.thread[N].at = At::Attach;
        vec![state]
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        self.fork(state, steps);
        for who in 0..NAMES.len() {
            match state.thread[who].at {
                At::Outside | At::Dead | At::Done => {}
                At::CloseOwn | At::CloseProbe => self.child(state, steps),
                At::Attach => self.attach(state, who, steps),
                _ => self.step(state, who, steps),
            }
        }
        for who in [P1, C] {
            if state.is_alive(who as u8) {
                self.dies(state, PROCESS[who], steps);
            }
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        let held = |thread: &&Thread| thread.at == At::Held;
        if state.thread.iter().filter(held).count() > 1 {
            return Err("two have the lock".to_owned());
        }
        Ok(())
    }

    fn end(&self, state: &State) -> Result<(), String> {
        let waits = |thread: &Thread| !matches!(thread.at, At::Outside | At::Dead | At::Done);
        match state.thread.iter().position(waits) {
            Some(who) => Err(format!("{} waits for ever", NAMES[who])),
            None => Ok(()),
        }
    }
}

fn main() -> ExitCode {
    let mut suite = Suite::from_arguments("J: threads, forks and file locks");
    let with = |rounds, deaths| Fork { rounds, deaths, plant: None };
    suite.holds("two threads, a fork, a member, a newcomer; no death", 2_000_000, with(2, 0));
    suite.holds("the same, P and C may die", 2_000_000, with(2, 2));
    suite.holds_in_full("the same, four times each", with(4, 2));
    for (name, plant, deaths) in [
        ("the child keeps its copies", Plant::KeepsCopies, 2),
        ("the child keeps the copy that probes", Plant::KeepsProbe, 2),
        ("the child probes through the parent's description", Plant::SharesProbe, 0),
        ("the child writes in the parent's slot", Plant::WritesAsParent, 2),
        ("the child unlocks for its parent", Plant::UnlocksForParent, 0),
        ("two threads probe at the same time", Plant::NoMutex, 0),
        ("a member probes through its own byte's description", Plant::ProbesByOwn, 0),
    ] {
        suite.plant(name, Fork { plant: Some(plant), ..with(1, deaths) });
    }
    suite.run()
}
