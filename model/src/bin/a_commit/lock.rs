//! LOCK, ATTACH and BURIAL: who holds a lock word, and what is done about a dead owner.

use super::{At, COMMIT, Commit, NAMES, NOBODY, Plant, Process, STRIPES, State, Task, UNDERTAKER};
use membus_model::Steps;

impl State {
    /// Whether a lock names a slot.
    fn names(&self, lock: usize, slot: u8) -> bool {
        self.lock[lock] == slot + 1
    }

    /// The slot that a lock names, when it is not this process's own and its byte is free or held
    /// by this process: then it is dead.
    fn dead_owner(&self, lock: usize, who: usize) -> Option<u8> {
        let (process, owner) = (&self.process[who], self.lock[lock].checked_sub(1)?);
        let byte = self.byte[usize::from(owner)];
        let dead = byte == NOBODY || process.held & 1 << owner != 0;
        (owner != process.slot && dead).then_some(owner)
    }

    fn take(&mut self, lock: usize, who: usize) {
        self.lock[lock] = self.process[who].slot + 1;
        self.holder[lock] = who as u8;
    }

    pub(super) fn unlock(&mut self, lock: usize) {
        (self.lock[lock], self.holder[lock]) = (0, NOBODY);
    }

    pub(super) fn holds(&self, lock: usize, who: usize) -> bool {
        self.holder[lock] == who as u8 && self.names(lock, self.process[who].slot)
    }

    fn acquire(&mut self, slot: u8, who: usize, tested: bool) {
        if !tested {
            self.byte[usize::from(slot)] = who as u8;
            self.process[who].held |= 1 << slot;
        }
    }

    fn release(&mut self, slot: u8, who: usize) {
        if self.process[who].held & 1 << slot != 0 {
            self.process[who].held &= !(1 << slot);
            self.byte[usize::from(slot)] = NOBODY;
        }
    }

    /// Whether the one who has the lock lives, and is not `who`.
    fn would_rob(&self, lock: usize, who: usize) -> bool {
        let holder = usize::from(self.holder[lock]);
        holder != who && holder < NAMES.len() && self.process[holder].at != At::Dead
    }
}

impl Commit {
    /// A newcomer takes a slot; an undertaker takes the byte of somebody dead.
    pub(super) fn come(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let buries = who == UNDERTAKER || state.byte.contains(&(who as u8));
        for slot in 0..UNDERTAKER as u8 {
            let named = state.lock.contains(&(slot + 1));
            if state.byte[usize::from(slot)] != NOBODY || (buries && !named) {
                continue;
            }
            let mut next = *state;
            next.byte[usize::from(slot)] = who as u8;
            let process = &mut next.process[who];
            process.victim = slot;
            process.at = At::MendCommit;
            if buries {
                process.held |= 1 << slot;
                steps.go(NAMES[who], "takes a dead slot's byte", next);
                continue;
            }
            process.slot = slot;
            match self.plant {
                Some(Plant::NewcomerMendsNothing) => self.begin_task(who, process),
                Some(Plant::StripesFirst) => process.at = At::MendStripe,
                _ => {}
            }
            steps.go(NAMES[who], "attaches", next);
        }
    }

    /// ATTACH and BURIAL: the commit first, then the stripes.
    pub(super) fn mend(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, process) = (*state, &state.process[who]);
        let stripe = usize::from(process.stripe);
        let q = &mut next.process[who];
        let what = match process.at {
            At::MendCommit if state.names(COMMIT, process.victim) => {
                q.at = At::MendUnlock;
                self.finish_if_ready(state, q);
                next.take(COMMIT, who);
                "takes the commit lock in the dead name"
            }
            At::MendCommit => {
                q.at = At::MendStripe;
                "the commit lock is not in the dead name"
            }
            At::MendUnlock => {
                q.at = if self.breaks(Plant::StripesFirst) { At::MendEnd } else { At::MendStripe };
                next.unlock(COMMIT);
                "unlocks the commit"
            }
            At::MendStripe if stripe == STRIPES => {
                let late = self.breaks(Plant::StripesFirst) && state.names(COMMIT, process.victim);
                q.at = if late { At::MendCommit } else { At::MendEnd };
                "no stripe left"
            }
            At::MendStripe if state.names(stripe, process.victim) => {
                (q.at, q.after_commit) = (At::WantCommit, At::MendPassed);
                if self.breaks(Plant::NoPass) {
                    q.at = At::MendTake;
                }
                "finds a stripe in the dead name"
            }
            At::MendStripe => {
                q.stripe += 1;
                "a stripe that is not in the dead name"
            }
            At::MendPassed => {
                q.at = At::MendTake;
                next.unlock(COMMIT);
                "has passed the commit"
            }
            At::MendTake if state.names(stripe, process.victim) => {
                (q.at, q.after_repair) = (At::RepairHints, At::MendEnd);
                next.take(stripe, who);
                "takes the dead one's stripe"
            }
            At::MendTake => {
                (q.at, q.stripe) = (At::MendStripe, q.stripe + 1);
                "somebody else took the stripe"
            }
            _ if stripe < STRIPES && state.holds(stripe, who) => {
                (q.at, q.stripe) = (At::MendStripe, q.stripe + 1);
                next.unlock(stripe);
                "unlocks the repaired stripe"
            }
            _ => {
                self.mended(&mut next, who);
                "has mended all"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    fn mended(&self, next: &mut State, who: usize) {
        let Process { slot, round, .. } = next.process[who];
        let victim = next.process[who].victim;
        if next.process[who].held == 0 {
            self.begin_task(who, &mut next.process[who]);
            return;
        }
        next.release(victim, who);
        let again = who == UNDERTAKER || self.tasks[who] == Task::Bury;
        let at = if again { At::Outside } else { At::Done };
        next.process[who] = Process { slot, round, at, ..Process::default() };
    }

    fn finish_if_ready(&self, state: &State, process: &mut Process) {
        if state.ready != 0 && !self.breaks(Plant::NoFinish) {
            (process.after_finish, process.at, process.step) = (process.at, At::Finish, 0);
        }
    }

    /// LOCK(stripe).
    pub(super) fn lock_stripe(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, process) = (*state, &state.process[who]);
        let stripe = usize::from(process.stripe);
        let q = &mut next.process[who];
        let what = match process.at {
            At::Lock if stripe == STRIPES => {
                (q.at, q.change) = (At::Decide, 0);
                "has all its stripes"
            }
            At::Lock if !self.needs(who, stripe) => {
                q.stripe += 1;
                "does not need this stripe"
            }
            At::Lock if state.lock[stripe] == 0 => {
                q.at = At::FreeBegin;
                next.take(stripe, who);
                "locks a stripe"
            }
            At::Lock => {
                let Some(owner) = state.dead_owner(stripe, who) else { return };
                (q.victim, q.at) = (owner, At::Probed);
                next.acquire(owner, who, self.breaks(Plant::TestByte));
                "takes the byte of a stripe's dead owner"
            }
            At::Probed if !state.names(stripe, process.victim) => {
                q.at = At::Lock;
                next.release(process.victim, who);
                "somebody else took the stripe"
            }
            At::Probed => {
                (q.at, q.after_commit) = (At::WantCommit, At::Passed);
                if matches!(self.plant, Some(Plant::NoPass | Plant::SwapFirst)) {
                    q.at = At::Take;
                }
                "the word still names the dead one"
            }
            At::Passed => {
                q.at = At::Take;
                if self.breaks(Plant::SwapFirst) {
                    (q.at, q.after_repair) = (At::RepairHints, At::FreeBegin);
                }
                next.unlock(COMMIT);
                "has passed the commit"
            }
            _ if !state.names(stripe, process.victim) => {
                q.at = At::Lock;
                next.release(process.victim, who);
                "somebody else took the stripe"
            }
            _ if state.would_rob(stripe, who) => {
                let why = "a living owner is robbed of its stripe";
                return steps.wrong(NAMES[who], "takes a stripe over", why, state);
            }
            _ => {
                (q.at, q.after_repair) = (At::RepairHints, At::FreeBegin);
                if self.breaks(Plant::SwapFirst) {
                    (q.at, q.after_commit) = (At::WantCommit, At::Passed);
                }
                next.take(stripe, who);
                next.release(process.victim, who);
                "takes a stripe over"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    /// LOCK(commit).
    pub(super) fn lock_commit(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, process) = (*state, &state.process[who]);
        let q = &mut next.process[who];
        let what = match process.at {
            At::WantCommit if state.lock[COMMIT] == 0 => {
                q.at = process.after_commit;
                next.take(COMMIT, who);
                "locks the commit"
            }
            At::WantCommit => {
                self.give_up(state, who, steps);
                let Some(owner) = state.dead_owner(COMMIT, who) else { return };
                (q.commit_victim, q.at) = (owner, At::TakeCommit);
                next.acquire(owner, who, self.breaks(Plant::TestByte));
                "holds the byte of the commit's dead owner"
            }
            _ if !state.names(COMMIT, process.commit_victim) => {
                q.at = At::WantCommit;
                self.release_for_commit(&mut next, who);
                "somebody else took the commit lock"
            }
            _ if state.would_rob(COMMIT, who) => {
                let why = "a living owner is robbed of the commit lock";
                return steps.wrong(NAMES[who], "takes the commit lock over", why, state);
            }
            _ => {
                q.at = process.after_commit;
                self.finish_if_ready(state, q);
                next.take(COMMIT, who);
                self.release_for_commit(&mut next, who);
                "takes the commit lock over"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    /// Gives the byte of the commit's dead owner back, unless it is held for a stripe or a burial.
    fn release_for_commit(&self, next: &mut State, who: usize) {
        let process = next.process[who];
        let probing = matches!(process.after_commit, At::Passed | At::MendPassed);
        if !(probing && process.commit_victim == process.victim) {
            next.release(process.commit_victim, who);
        }
        next.process[who].commit_victim = 0;
    }

    /// The deadline passes while a write waits for the commit lock.
    fn give_up(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let process = &state.process[who];
        if !self.deadline || !matches!(process.after_commit, At::Draw | At::Passed) {
            return;
        }
        let mut next = *state;
        next.release(process.victim, who);
        let q = &mut next.process[who];
        (q.at, q.change, q.stripe) = (At::GiveBack, 0, 0);
        steps.go(NAMES[who], "meets its deadline", next);
    }
}
