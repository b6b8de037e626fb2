//! Ephemeral keys: a claim that is gone with its worker, and a piece that is counted once.
//!
//! A worker attaches, buries whoever had its slot, claims the piece unless it is claimed or done, and
//! commits one batch: the claim ends, the count rises, the piece is done. The stripe's lock stands
//! for the commit lock, too; FINISH is done by whoever takes it over.
//!
//! *Checked:* nobody deletes the claim of somebody alive; the piece is never counted twice. At the end
//! it was counted if anybody is left, no claim of a dead one stays, and nobody waits.

use membus_model::{Model, Steps, Suite};

const NAMES: [&str; 5] = ["worker 1", "worker 2", "newcomer 1", "newcomer 2", "undertaker"];
const UNDERTAKER: usize = 4;
const SLOTS: usize = 2;
const NOBODY: u8 = 255;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// The undertaker tests the dead slot's byte and does not hold it.
    TestByte,
    /// A newcomer's generation is stored before its predecessor is buried.
    EarlyGeneration,
    /// The note that a slot may own keys is withdrawn before they are deleted.
    EarlyWithdrawal,
    /// The slot counts as buried before its keys are deleted.
    EarlyBuried,
    /// The note that a slot may own keys is made after the claim.
    LateNote,
    /// A burial deletes keys before it has taken the locks of the dead.
    DeletesFirst,
    /// The count and the claim's end are two commits.
    TwoCommits,
    /// The claim is no ephemeral key.
    LastingClaim,
}

struct Ephemeral {
    deaths: u8,
    plant: Option<Plant>,
}

/// Whose a key is: slot + 1 and generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Owner {
    slot: u8,
    generation: u8,
}

/// What is known of the piece: who claims it, how often it was counted, whether it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Piece {
    claim: Option<Owner>,
    count: u8,
    done: bool,
}

#[derive(Debug, Clone, Copy, Hash)]
struct Slot {
    byte: u8,
    generation: u8,
    /// Whether it was used and not buried, and whether it may own keys.
    used: bool,
    owns: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum At {
    #[default]
    Outside,
    // burial of the slot's last user, or of a dead one
    BuryLock,
    BuryOwns,
    BuryDelete,
    BuryWithdraw,
    BuryEnd,
    // the newcomer's own
    Generation,
    Used,
    // claiming
    Note,
    ClaimLock,
    Claim,
    // ending
    EndLock,
    End,
    // the second commit of a plant
    AfterLock,
    After,
    LateNote,
    // a commit in progress
    Ready,
    Finish,
    Unlock,
    Done,
    Dead,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
struct Process {
    at: At,
    slot: u8,
    generation: u8,
    /// The slot that it buries, the generation of its last user, and whether it holds its byte.
    grave: u8,
    dead: u8,
    holds: bool,
    /// Where it goes on after a commit and the unlocking.
    next: At,
}

#[derive(Debug, Clone, Copy, Hash)]
struct State {
    slot: [Slot; SLOTS],
    /// Slot + 1; the undertaker is 9.
    lock: u8,
    ready: bool,
    record: Piece,
    piece: Piece,
    process: [Process; 5],
    deaths: u8,
}

impl Ephemeral {
    fn breaks(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    fn come(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        for index in 0..SLOTS {
            let slot = state.slot[index];
            if slot.byte != NOBODY || (who == UNDERTAKER && !slot.used) {
                continue;
            }
            let mut next = *state;
            let q = &mut next.process[who];
            (q.grave, q.at) = (index as u8, At::BuryLock);
            if self.breaks(Plant::DeletesFirst) {
                q.at = At::BuryOwns;
            }
            q.holds = who != UNDERTAKER || !self.breaks(Plant::TestByte);
            if q.holds {
                next.slot[index].byte = who as u8;
            }
            if who != UNDERTAKER {
                next.process[who].slot = index as u8;
                if self.breaks(Plant::EarlyGeneration) {
                    next.slot[index].generation += 1;
                }
            }
            steps.go(NAMES[who], "takes a free slot's byte", next);
        }
    }

    /// The number in the lock word of a process.
    fn me(state: &State, who: usize) -> u8 {
        if who == UNDERTAKER { 9 } else { state.process[who].slot + 1 }
    }

    /// Takes the lock, when it is free or its owner dead: then FINISH comes first.
    fn lock(&self, state: &State, who: usize, then: At) -> Option<State> {
        let (mut next, me) = (*state, Self::me(state, who));
        let q = &mut next.process[who];
        (q.at, q.next) = (then, At::Outside);
        if state.lock == 0 {
            next.lock = me;
            return Some(next);
        }
        let owner = usize::from(state.lock - 1);
        if state.lock == me || owner >= SLOTS || state.slot[owner].byte != NOBODY {
            return None;
        }
        next.lock = me;
        if state.ready {
            let q = &mut next.process[who];
            (q.at, q.next) = (At::Finish, then);
        }
        Some(next)
    }

    fn bury(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, p) = (*state, state.process[who]);
        let grave = usize::from(p.grave);
        let early = self.breaks(Plant::EarlyGeneration);
        let buried = At::BuryEnd;
        let deletes_first = self.breaks(Plant::DeletesFirst);
        let q = &mut next.process[who];
        let what = match p.at {
            At::BuryLock if state.lock == p.grave + 1 => {
                (next.lock, q.at) = (Self::me(state, who), At::Unlock);
                q.next = if deletes_first { buried } else { At::BuryOwns };
                if state.ready {
                    q.at = At::Finish;
                }
                "takes the lock in the dead name"
            }
            At::BuryLock => {
                q.at = if deletes_first { buried } else { At::BuryOwns };
                "the lock is not in the dead name"
            }
            At::BuryOwns => {
                q.dead = state.slot[grave].generation;
                let keys = state.slot[grave].owns;
                q.at = if keys { At::BuryDelete } else { buried };
                if deletes_first && !keys {
                    q.at = At::BuryLock;
                }
                if self.breaks(Plant::EarlyWithdrawal) {
                    next.slot[grave].owns = false;
                }
                if self.breaks(Plant::EarlyBuried) {
                    next.slot[grave].used = false;
                }
                "looks whether the dead one may own keys"
            }
            At::BuryDelete => return self.delete(state, who, steps),
            At::BuryWithdraw => {
                next.slot[grave].owns = false;
                q.at = if deletes_first { At::BuryLock } else { buried };
                "withdraws the note of keys"
            }
            At::BuryEnd => {
                next.slot[grave].used = false;
                if who == UNDERTAKER {
                    if p.holds {
                        next.slot[grave].byte = NOBODY;
                    }
                    next.process[who] = Process::default();
                } else {
                    q.at = if early { At::Used } else { At::Generation };
                }
                "notes that the slot is buried"
            }
            At::Generation => {
                next.slot[grave].generation += 1;
                q.at = At::Used;
                "stores its generation"
            }
            _ => {
                next.slot[grave].used = true;
                q.generation = state.slot[grave].generation;
                q.at = At::Note;
                "has its seat"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    /// Deletes what belongs to the dead one's generation, under the lock.
    fn delete(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let p = state.process[who];
        let Some(mut taken) = self.lock(state, who, At::BuryWithdraw) else { return };
        let of = Owner { slot: p.grave + 1, generation: p.dead };
        let (mut at, mut next) = (At::Unlock, At::BuryWithdraw);
        if taken.process[who].at == At::Finish {
            (at, next) = (At::Finish, At::BuryDelete);
        } else if taken.piece.claim == Some(of) {
            if self.is_alive(state, of) {
                let why = "the claim of somebody alive is deleted";
                return steps.wrong(NAMES[who], "deletes the dead's keys", why, state);
            }
            taken.record = Piece { claim: None, ..state.piece };
            at = At::Ready;
        }
        (taken.process[who].at, taken.process[who].next) = (at, next);
        steps.go(NAMES[who], "locks, and deletes the dead's keys", taken);
    }

    fn is_alive(&self, state: &State, owner: Owner) -> bool {
        (0..UNDERTAKER).any(|who| {
            let p = &state.process[who];
            let seated = !matches!(p.at, At::Dead | At::Outside);
            seated && p.slot + 1 == owner.slot && p.generation == owner.generation
        })
    }

    fn work(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, p) = (*state, state.process[who]);
        let own = Owner { slot: p.slot + 1, generation: p.generation };
        let late = self.breaks(Plant::LateNote);
        let lasting = self.breaks(Plant::LastingClaim);
        let what = match p.at {
            At::Note => {
                next.slot[usize::from(p.slot)].owns |= !late && !lasting;
                next.process[who].at = At::ClaimLock;
                "notes that it may own keys"
            }
            At::ClaimLock | At::EndLock | At::AfterLock => {
                let waits = p.at == At::ClaimLock && state.piece.claim.is_some();
                let then = match p.at {
                    At::ClaimLock => At::Claim,
                    At::EndLock => At::End,
                    _ => At::After,
                };
                if waits && !state.piece.done && !state.ready {
                    return;
                }
                let Some(mut taken) = self.lock(state, who, then) else { return };
                if taken.process[who].at == At::Finish {
                    taken.process[who].next = p.at;
                }
                return steps.go(NAMES[who], "locks", taken);
            }
            At::Claim if state.piece.done || state.piece.claim.is_some() => {
                let again = if state.piece.done { At::Done } else { At::ClaimLock };
                (next.process[who].at, next.process[who].next) = (At::Unlock, again);
                "finds the piece claimed or done"
            }
            At::Claim => {
                let claim = if lasting { Owner { slot: 99, generation: 0 } } else { own };
                next.record = Piece { claim: Some(claim), ..state.piece };
                next.process[who].next = if late { At::LateNote } else { At::EndLock };
                next.process[who].at = At::Ready;
                "claims the piece"
            }
            At::LateNote => {
                next.slot[usize::from(p.slot)].owns = true;
                next.process[who].at = At::EndLock;
                "notes late that it may own keys"
            }
            At::End => {
                let count = state.piece.count + 1;
                let two = self.breaks(Plant::TwoCommits);
                let rest = if two { state.piece } else { Piece { done: true, ..Piece::default() } };
                next.record = Piece { count, ..rest };
                next.process[who].next = if two { At::AfterLock } else { At::Done };
                next.process[who].at = At::Ready;
                "counts the piece"
            }
            At::After => {
                next.record = Piece { claim: None, done: true, ..state.piece };
                (next.process[who].at, next.process[who].next) = (At::Ready, At::Done);
                "ends its claim, late"
            }
            _ => return self.commit(state, who, steps),
        };
        steps.go(NAMES[who], what, next);
    }

    /// The commit that was decided, FINISH, and the unlocking.
    fn commit(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, p) = (*state, state.process[who]);
        let what = match p.at {
            At::Ready => {
                (next.ready, next.process[who].at) = (true, At::Finish);
                "stores `ready`"
            }
            At::Finish if state.piece != state.record => {
                // Absolute stores, one after the other.
                if state.piece.claim != state.record.claim {
                    next.piece.claim = state.record.claim;
                } else if state.piece.count != state.record.count {
                    next.piece.count = state.record.count;
                } else {
                    next.piece.done = state.record.done;
                }
                "FINISH: a store"
            }
            At::Finish => {
                (next.ready, next.process[who].at) = (false, At::Unlock);
                "FINISH: `ready` is 0"
            }
            _ => {
                next.lock = 0;
                (next.process[who].at, next.process[who].next) = (p.next, At::Outside);
                "unlocks"
            }
        };
        steps.go(NAMES[who], what, next);
    }
}

impl Model for Ephemeral {
    type State = State;

    fn begin(&self) -> Vec<State> {
        let slot = |byte| Slot { byte, generation: 1, used: true, owns: false };
        let worker = |slot| Process { at: At::Note, slot, generation: 1, ..Process::default() };
        let none = Process::default();
        vec![State {
            slot: [slot(0), slot(1)],
            lock: 0,
            ready: false,
            record: Piece::default(),
            piece: Piece::default(),
            process: [worker(0), worker(1), none, none, none],
            deaths: 0,
        }]
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        for (who, name) in NAMES.into_iter().enumerate() {
            match state.process[who].at {
                At::Dead | At::Done => continue,
                At::Outside => {
                    self.come(state, who, steps);
                    continue;
                }
                At::BuryLock
                | At::BuryOwns
                | At::BuryDelete
                | At::BuryWithdraw
                | At::BuryEnd
                | At::Generation
                | At::Used => self.bury(state, who, steps),
                _ => self.work(state, who, steps),
            }
            if who != UNDERTAKER && state.deaths < self.deaths {
                let mut next = *state;
                next.deaths += 1;
                next.process[who] = Process { at: At::Dead, ..Process::default() };
                next.slot.iter_mut().filter(|s| s.byte == who as u8).for_each(|s| s.byte = NOBODY);
                steps.dies(name, next);
            }
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        if state.piece.count > 1 {
            return Err("the piece is counted twice".to_owned());
        }
        Ok(())
    }

    fn end(&self, state: &State) -> Result<(), String> {
        let stands = |at: At| !matches!(at, At::Dead | At::Done | At::Outside);
        if let Some(who) = (0..NAMES.len()).find(|who| stands(state.process[*who].at)) {
            return Err(format!("{} waits for ever", NAMES[who]));
        }
        let done = state.process.iter().any(|p| p.at == At::Done);
        if done && (state.piece.count != 1 || !state.piece.done) {
            return Err("the piece was not counted".to_owned());
        }
        if state.piece.claim.is_some() {
            return Err("the claim of a dead one stays".to_owned());
        }
        Ok(())
    }
}

pub(super) fn cases(suite: &mut Suite<'_>) {
    let base = |deaths| Ephemeral { deaths, plant: None };
    suite.holds("ephemeral: 2 workers, 2 newcomers, 2 deaths", 1_500_000, base(2));
    suite.holds_in_full("ephemeral: 2 workers, 2 newcomers, 4 deaths", base(4));
    for (name, plant) in [
        ("ephemeral: the undertaker tests the byte and does not hold it", Plant::TestByte),
        ("ephemeral: the generation before the burial", Plant::EarlyGeneration),
        ("ephemeral: the note is withdrawn before the keys are deleted", Plant::EarlyWithdrawal),
        ("ephemeral: buried before the keys are deleted", Plant::EarlyBuried),
        ("ephemeral: the note comes after the claim", Plant::LateNote),
        ("ephemeral: keys are deleted before the locks are taken", Plant::DeletesFirst),
        ("ephemeral: the count and the claim's end apart", Plant::TwoCommits),
        ("ephemeral: the claim lasts", Plant::LastingClaim),
    ] {
        suite.plant(name, Ephemeral { plant: Some(plant), ..base(3) });
    }
}
