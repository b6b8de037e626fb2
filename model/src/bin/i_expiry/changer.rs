//! Whoever changes the key under the stripe's lock: the writer, and the keeper that ends what is due.

use super::{At, Changer, Deadline, Entry, FIRST, Op, Plant, State, WHO};
use membus_model::Steps;

impl Deadline {
    pub(super) fn write(&self, state: &State, steps: &mut Steps<State>) {
        if state.writer.at == At::Idle {
            for op in self.allowed.iter().filter(|_| state.writer.left > 0 && state.lock == 0) {
                let mut next = *state;
                let left = state.writer.left - 1;
                next.writer = Changer { op: Some(*op), at: At::Decide, left, ..Changer::default() };
                next.lock = 1;
                steps.go(WHO[0], "locks the stripe", next);
            }
            return;
        }
        self.change(state, 0, steps);
    }

    pub(super) fn keep(&self, state: &State, steps: &mut Steps<State>) {
        let mut next = *state;
        let q = &mut next.keeper;
        let what = match q.at {
            At::Idle if state.earliest == 0 || state.earliest > state.clock => return,
            At::Idle => {
                q.at = At::LookLock;
                "finds the earliest deadline passed"
            }
            At::LookLock | At::Expire if state.lock != 0 => return,
            At::LookLock => {
                (next.lock, q.at) = (2, At::Collect);
                "locks the stripe to look"
            }
            At::Collect => {
                let due = state.has_expired(state.slot);
                let deadline = state.entry[usize::from(state.slot)].deadline;
                (q.due, q.at) = (if due { state.slot } else { 0 }, At::Expire);
                if !due || self.breaks(Plant::RaisesEarly) {
                    next.earliest = if due { 0 } else { deadline };
                }
                if !due {
                    q.at = At::Idle;
                }
                next.lock = 0;
                "has looked at the stripe's deadlines, and unlocks"
            }
            At::Expire => {
                (next.lock, q.at) = (2, At::Decide);
                "locks the stripe to end what is due"
            }
            _ => return self.change(state, 1, steps),
        };
        steps.go(WHO[1], what, next);
        self.deaths(state, 1, steps);
    }

    /// WRITE by either of them.
    fn change(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let mut next = *state;
        let c = if who == 0 { state.writer } else { state.keeper };
        let mut q = c;
        let what = match c.at {
            At::Decide => {
                self.decide(&mut next, &mut q, who);
                "decides"
            }
            At::Note => {
                let deadline = next.entry[usize::from(c.new)].deadline;
                if !self.breaks(Plant::NotesLate) {
                    next.note_deadline(deadline);
                }
                q.at = At::WantCommit;
                "notes the deadline"
            }
            At::WantCommit if state.commit_busy => return,
            At::WantCommit => {
                q.locked_at = state.clock;
                q.at = if self.breaks(Plant::DecidesOnce) { At::Ready } else { At::LookAgain };
                "locks the commit"
            }
            At::LookAgain => {
                let stale = c.old != 0 && !c.expired && state.has_expired(c.old);
                q.at = if stale { At::Decide } else { At::Ready };
                "compares the deadline again"
            }
            At::Ready if self.breaks_condition(state, &c) => {
                let why = "a condition leans on an entry that had expired";
                return steps.wrong(WHO[who], "commits", why, state);
            }
            At::Ready if self.breaks_history(state, &c) => {
                let why = "the log does not tell how the entry ended";
                return steps.wrong(WHO[who], "commits", why, state);
            }
            At::Ready => {
                q.at = At::Died;
                "stores `ready`"
            }
            _ => return self.finish(state, who, steps),
        };
        *next.changer(who) = q;
        steps.go(WHO[who], what, next);
        self.deaths(state, who, steps);
    }

    /// FINISH, and what comes after.
    fn finish(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let mut next = *state;
        let c = if who == 0 { state.writer } else { state.keeper };
        let (mut q, first) = (c, state.head + 1);
        let what = match c.at {
            At::Died => {
                if c.old != 0 {
                    next.entry[usize::from(c.old)].died = first;
                }
                q.at = At::Born;
                "stores `died`"
            }
            At::Born => {
                if c.new != 0 {
                    let both = u8::from(c.old != 0 && c.ends);
                    next.entry[usize::from(c.new)].born = first + both;
                    next.slot = c.new;
                }
                q.at = At::Head;
                "stores `born` and the slot word"
            }
            At::Head => {
                next.head += 1 + u8::from(c.new != 0 && c.old != 0 && c.ends);
                q.at = At::After;
                Self::note(&mut next);
                "stores the head"
            }
            At::After => {
                next.slot = c.new;
                q.at = At::Unlock;
                if c.heir {
                    self.reset_earliest(&mut next);
                } else if self.breaks(Plant::NotesLate) {
                    q.at = At::NoteLate;
                }
                "stores the slot word as it is to be"
            }
            At::NoteLate => {
                next.note_deadline(state.entry[usize::from(c.new)].deadline);
                q.at = At::Unlock;
                "notes the deadline, late"
            }
            _ => {
                next.lock = 0;
                q = Changer { left: c.left, ..Changer::default() };
                "unlocks the stripe"
            }
        };
        *next.changer(who) = q;
        steps.go(WHO[who], what, next);
        self.deaths(state, who, steps);
    }

    fn decide(&self, next: &mut State, q: &mut Changer, who: usize) {
        let current = next.slot;
        let expired = current != 0 && next.has_expired(current);
        let live = current != 0 && (!expired || self.breaks(Plant::ConditionBlind));
        (q.old, q.expired, q.ends, q.at) = (current, expired, expired, At::Note);
        let wanted = match q.op {
            None => expired || (self.breaks(Plant::KeeperHasty) && current != 0),
            Some(Op::SetIfAbsent) => !live,
            Some(Op::SetIfFirst) => live && current == FIRST,
            Some(Op::Set | Op::SetExpiring) => true,
        };
        if !wanted {
            (q.old, q.expired, q.ends, q.at) = (0, false, false, At::Unlock);
            return;
        }
        if who == 0 && q.new == 0 {
            next.entries += 1;
            q.new = next.entries;
        }
        if q.new != 0 {
            let deadline = if q.op == Some(Op::SetExpiring) { next.clock + 1 } else { 0 };
            next.entry[usize::from(q.new)] = Entry { born: 0, died: 0, pred: current, deadline };
        }
        if who == 1 {
            q.ends = true;
        }
        if self.breaks(Plant::SilentOverwrite) && who == 0 {
            q.ends = false;
        }
    }

    /// Whether a condition was false already when its writer got the commit lock.
    fn breaks_condition(&self, state: &State, c: &Changer) -> bool {
        let deadline = state.entry[usize::from(c.old)].deadline;
        c.op == Some(Op::SetIfFirst) && deadline != 0 && deadline <= c.locked_at
    }

    /// Whether the records of a commit do not say how the old entry ended: one that had expired when
    /// the commit lock was got ends by a record of its own, and no other one does.
    fn breaks_history(&self, state: &State, c: &Changer) -> bool {
        let deadline = state.entry[usize::from(c.old)].deadline;
        let had_expired = deadline != 0 && deadline <= c.locked_at;
        let has_expired = state.has_expired(c.old);
        let hidden = had_expired && !c.ends && self.plant != Some(Plant::DecidesOnce);
        c.old != 0 && (hidden || (c.ends && !has_expired))
    }

    /// REPAIR: all deadlines are to be looked up anew.
    fn reset_earliest(&self, next: &mut State) {
        if !self.breaks(Plant::NotesLate) {
            next.earliest = 1;
        }
    }

    /// Whoever comes next finishes what is committed, and repairs.
    fn deaths(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let c = if who == 0 { state.writer } else { state.keeper };
        if state.deaths == self.deaths || c.at == At::Idle {
            return;
        }
        let mut next = *state;
        next.deaths += 1;
        if matches!(c.at, At::Died | At::Born | At::Head | At::After) {
            next.changer(who).heir = true;
        } else {
            if next.lock == who as u8 + 1 {
                next.lock = 0;
                self.reset_earliest(&mut next);
            }
            *next.changer(who) = Changer { left: c.left, ..Changer::default() };
        }
        steps.dies(WHO[who], next);
    }
}
