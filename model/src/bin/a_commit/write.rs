//! WRITE from the filling of entries to the unlocking, and FINISH.

use super::{
    Action, At, COMMIT, Commit, FIRST, List, NAMES, Plant, Process, STRIPES, State, Stored, bit,
    change_name, value_of,
};
use membus_model::Steps;

impl Commit {
    /// One step of a process that is attached.
    pub(super) fn step(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        match state.process[who].at {
            At::MendCommit
            | At::MendUnlock
            | At::MendStripe
            | At::MendPassed
            | At::MendTake
            | At::MendEnd => self.mend(state, who, steps),
            At::Lock | At::Probed | At::Passed | At::Take => self.lock_stripe(state, who, steps),
            At::WantCommit | At::TakeCommit => self.lock_commit(state, who, steps),
            At::FreeBegin | At::FreeEach => self.free(state, who, steps),
            At::VacateBorn | At::VacateDied | At::VacateBit => self.vacate(state, who, steps),
            At::Occupy | At::SweepEach | At::SpareFirst | At::SpareSecond | At::OccupyBit => {
                self.occupy(state, who, steps);
            }
            At::RepairHints | At::RepairList | At::RepairPlaces => self.repair(state, who, steps),
            At::Finish => self.finish(state, who, steps),
            At::Decide | At::Fill => self.fill(state, who, steps),
            At::Draw | At::Record | At::Ready => self.commit(state, who, steps),
            _ => self.settle(state, who, steps),
        }
    }

    /// WRITE 1 and 2: decide and fill. A delete of what is not there is no change.
    fn fill(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, process) = (*state, &state.process[who]);
        let change = usize::from(process.change);
        let q = &mut next.process[who];
        let Some((key, action)) = self.changes(who).get(change).copied() else {
            (q.at, q.after_commit, q.change) = (At::WantCommit, At::Draw, 0);
            if self.lists {
                q.at = At::MakeList;
            }
            if process.planned == 0 {
                (q.at, q.stripe) = (At::UnlockStripes, 0);
            }
            return steps.go(NAMES[who], "has decided", next);
        };
        let old = state.slot_word[key];
        if process.at == At::Decide {
            q.old[change] = old;
            if action == Action::Set {
                q.at = At::Occupy;
                return steps.go(NAMES[who], "decides to set", next);
            }
            q.change += 1;
            q.planned |= u8::from(old != 0) << change;
            return steps.go(NAMES[who], "decides to delete", next);
        }
        let place = usize::from(process.place);
        if state.slot_word.contains(&process.place) {
            let why = "a place that a slot names is given out";
            return steps.wrong(NAMES[who], "fills the new entry", why, state);
        }
        if state.born[place] != 0 || state.died[place] != 0 {
            let why = "a place is given out that still bears a revision";
            return steps.wrong(NAMES[who], "fills the new entry", why, state);
        }
        (next.value[place], next.pred[place]) = (value_of(process.round, who), old);
        (q.new[change], q.planned) = (process.place, q.planned | 1 << change);
        (q.at, q.change, q.place, q.due) = (At::Decide, q.change + 1, 0, 0);
        steps.go(NAMES[who], "fills the new entry", next);
    }

    /// WRITE 4 and 5: log records, commit record, `ready`.
    fn commit(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, process) = (*state, &state.process[who]);
        let planned = (0..self.changes(who).len()).filter(|i| process.planned & 1 << i != 0);
        let count = process.planned.count_ones() as u8;
        let q = &mut next.process[who];
        let what = match process.at {
            At::Draw => {
                for (index, change) in planned.enumerate() {
                    let revision = state.head + 1 + index as u8;
                    next.log[usize::from(revision - FIRST - 1)] =
                        change_name(process.round, who, change);
                    if self.breaks(Plant::EarlyBorn) && process.new[change] != 0 {
                        next.born[usize::from(process.new[change])] = revision;
                    }
                }
                q.at = if self.breaks(Plant::EarlyReady) { At::Ready } else { At::Record };
                "draws revisions and writes the log records"
            }
            At::Record => {
                let stripe = self.list_stripe(who);
                next.count = count;
                next.record_list = if self.lists { stripe as u8 + 1 } else { 0 };
                let changes =
                    if self.lists { &mut next.list[stripe].changes } else { &mut next.record };
                for (index, change) in planned.enumerate() {
                    let (key, _) = self.changes(who)[change];
                    let (new, old) = (process.new[change], process.old[change]);
                    changes[index] = Stored { key: key as u8, new, old };
                }
                q.at = At::Ready;
                if self.breaks(Plant::EarlyReady) {
                    (q.at, q.after_finish, q.step) = (At::Finish, At::UnlockCommit, 0);
                }
                "writes the commit record"
            }
            _ => {
                next.ready = state.head + count;
                for change in planned {
                    next.committed[usize::from(next.last - FIRST)] =
                        change_name(process.round, who, change);
                    next.last += 1;
                }
                (q.at, q.after_finish, q.step) = (At::Finish, At::UnlockCommit, 0);
                match self.plant {
                    Some(Plant::EarlyReady) => q.at = At::Record,
                    Some(Plant::EarlyListFree) => q.at = At::FreeList,
                    _ => {}
                }
                "stores `ready`: committed"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    /// FINISH: absolute stores from the record, by the writer or by who takes over.
    fn finish(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let mut next = *state;
        if state.record_list != 0 && !state.list[usize::from(state.record_list - 1)].used {
            let why = "the list of a commit is gone before it is finished";
            return steps.wrong(NAMES[who], "reads the list", why, state);
        }
        let q = &mut next.process[who];
        let (step, count) = (q.step, state.count);
        q.step += 1;
        let head_step = if self.breaks(Plant::EarlyHead) { 0 } else { 3 * count };
        let before_head = if self.breaks(Plant::EarlyHead) { 1..=3 * count } else { 0..=3 * count };
        let what = if step == head_step {
            next.head = state.ready;
            "FINISH: the head"
        } else if before_head.contains(&step) {
            let index = step - u8::from(self.breaks(Plant::EarlyHead));
            self.finish_change(&mut next, index / 3, index % 3)
        } else if step <= 4 * count {
            let stored = state.stored(step - 3 * count - 1);
            next.slot_word[usize::from(stored.key)] = stored.new;
            "FINISH: the slot word as it is to be"
        } else {
            (q.at, q.step) = (q.after_finish, 0);
            next.ready = 0;
            "FINISH: `ready` is 0"
        };
        steps.go(NAMES[who], what, next);
    }

    fn finish_change(&self, next: &mut State, index: u8, part: u8) -> &'static str {
        let stored = next.stored(index);
        let one = self.breaks(Plant::OneRevision);
        let revision = if one { next.ready } else { next.ready - next.count + 1 + index };
        match part {
            0 if stored.new != 0 => next.born[usize::from(stored.new)] = revision,
            1 if stored.old != 0 => next.died[usize::from(stored.old)] = revision,
            2 if stored.new != 0 || self.breaks(Plant::EarlyEmpty) => {
                next.slot_word[usize::from(stored.key)] = stored.new;
            }
            _ => return "FINISH: nothing to store here",
        }
        ["FINISH: `born`", "FINISH: `died`", "FINISH: the slot word"][usize::from(part)]
    }

    /// WRITE 7, and the way back of a write that gives up.
    fn settle(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, process) = (*state, &state.process[who]);
        let (change, stripe) = (usize::from(process.change), usize::from(process.stripe));
        let ended = change == self.changes(who).len();
        let q = &mut next.process[who];
        let what = match process.at {
            At::UnlockCommit => {
                (q.at, q.change) = (At::Settle, 0);
                next.unlock(COMMIT);
                "unlocks the commit"
            }
            At::MakeList => {
                q.at = At::WantCommit;
                next.list[self.list_stripe(who)].used = true;
                "makes a list for its changes"
            }
            At::Settle | At::GiveBack if ended => {
                (q.at, q.stripe) = (At::UnlockStripes, 0);
                if self.lists {
                    q.at = At::FreeList;
                }
                "has settled"
            }
            At::FreeList => {
                (q.at, q.stripe) = (At::UnlockStripes, 0);
                if state.ready != 0 && self.breaks(Plant::EarlyListFree) {
                    q.at = At::Finish;
                }
                if state.holds(self.list_stripe(who), who) {
                    next.list[self.list_stripe(who)] = List::default();
                }
                "frees its list"
            }
            At::Settle => {
                q.change += 1;
                if process.planned & 1 << change != 0 && process.old[change] != 0 {
                    next.ring |= bit(process.old[change]);
                }
                "notes in the ring that the old entry died"
            }
            At::GiveBack => {
                q.change += 1;
                if process.new[change] != 0 {
                    (q.place, q.at) = (process.new[change], At::VacateBorn);
                    q.after_vacate = At::GiveBack;
                }
                "gives a new entry back"
            }
            _ if stripe == STRIPES => {
                let (slot, round) = (process.slot, process.round + 1);
                *q = Process { slot, round, at: At::Done, ..Process::default() };
                if round < self.rounds {
                    self.begin_task(who, q);
                }
                "is done"
            }
            _ => {
                q.stripe += 1;
                if state.holds(stripe, who) {
                    next.unlock(stripe);
                }
                "unlocks a stripe"
            }
        };
        steps.go(NAMES[who], what, next);
    }
}

impl State {
    /// A change as the commit record or its list says it.
    fn stored(&self, index: u8) -> Stored {
        match self.record_list.checked_sub(1) {
            None => self.record[usize::from(index)],
            Some(stripe) => self.list[usize::from(stripe)].changes[usize::from(index)],
        }
    }
}
