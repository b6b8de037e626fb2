//! Writers: set, delete, clear, sweep and abort, and the freeing that spares a snapshot.

use super::{Entry, FREE, Op, Plant, STRIPES, Snapshot, State, Words, places};
use membus_model::Steps;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum At {
    #[default]
    Idle,
    Lock,
    // What freeing has to know of the snapshot, word by word.
    LoadOn,
    LoadId,
    LoadRevision,
    LoadCleared,
    LoadDone,
    Free,
    Wipe,
    Decide,
    Commit,
    SweepDied,
    Unlock,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
pub(super) struct Writer {
    at: At,
    op: Option<Op>,
    stripe: u8,
    new: u8,
    old: u8,
    /// The dead entry that it frees.
    dead: u8,
    /// `cleared_at` when it decided.
    cleared: u8,
    /// The snapshot's words as it knows them.
    seen: Words,
    /// Whether the snapshot has still to read this stripe.
    reading: bool,
    left: u8,
}

impl Writer {
    pub(super) fn new(left: u8) -> Self {
        Self { left, ..Self::default() }
    }
}

const WHO: [&str; 2] = ["writer 1", "writer 2"];

impl Snapshot {
    pub(super) fn write(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        match state.writer[who].at {
            At::Idle => self.choose(state, who, steps),
            At::Free | At::Wipe => self.free(state, who, steps),
            At::SweepDied => self.sweep(state, who, steps),
            At::Decide => self.decide(state, who, steps),
            At::Commit => self.commit(state, who, steps),
            _ => self.go_on(state, who, steps),
        }
    }

    fn choose(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        if state.writer[who].left == 0 {
            return;
        }
        for op in self.allowed {
            let mut next = *state;
            next.writer[who].left -= 1;
            match op {
                Op::Clear if state.commit_lock == FREE => {
                    next.head += 1;
                    (next.cleared, next.truth) = (next.head, [0; STRIPES]);
                    steps.go(WHO[who], "clears", next);
                }
                Op::Abort if state.commit_lock == FREE && state.words.on => {
                    next.words.on = false;
                    steps.go(WHO[who], "ends the snapshot for its room", next);
                }
                Op::Clear | Op::Abort => {}
                _ => {
                    for stripe in 0..STRIPES as u8 {
                        let q = &mut next.writer[who];
                        (q.op, q.stripe, q.at) = (Some(*op), stripe, At::Lock);
                        if self.breaks(Plant::StaleLook) {
                            q.at = At::LoadOn;
                        }
                        steps.go(WHO[who], "begins an operation", next);
                    }
                }
            }
        }
    }

    /// Locking, looking at the snapshot's words, unlocking.
    fn go_on(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, w) = (*state, state.writer[who]);
        let stripe = usize::from(w.stripe);
        let stale = self.breaks(Plant::StaleLook);
        let q = &mut next.writer[who];
        let what = match w.at {
            At::Lock if state.stripe_lock[stripe] != FREE => return,
            At::Lock => {
                next.stripe_lock[stripe] = 1 + who as u8;
                // A sweep frees afterwards.
                q.at = if w.op == Some(Op::Sweep) { At::Decide } else { At::LoadOn };
                if stale {
                    q.at = At::Free;
                }
                "locks its stripe"
            }
            At::LoadOn => {
                (q.seen.on, q.at) = (state.words.on, At::LoadId);
                "loads whether a snapshot runs"
            }
            At::LoadId => {
                (q.seen.id, q.at) = (state.words.id, At::LoadRevision);
                "loads the snapshot's id"
            }
            At::LoadRevision => {
                (q.seen.revision, q.at) = (state.words.revision, At::LoadCleared);
                "loads the snapshot's revision"
            }
            At::LoadCleared => {
                (q.seen.cleared, q.at) = (state.words.cleared, At::LoadDone);
                "loads the snapshot's clear"
            }
            At::LoadDone => {
                let flag = self.breaks(Plant::DoneIsFlag) && state.done[stripe] != 0;
                q.reading = w.seen.on && state.done[stripe] != w.seen.id && !flag;
                q.at = if stale { At::Lock } else { At::Free };
                "loads the stripe's `done`"
            }
            _ => {
                next.stripe_lock[stripe] = FREE;
                *q = Writer::new(w.left);
                "unlocks its stripe"
            }
        };
        steps.go(WHO[who], what, next);
    }

    /// FREE of any dead entry that the snapshot, as far as it is known, does not need.
    fn free(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let w = state.writer[who];
        if w.at == At::Wipe {
            return self.wipe(state, who, steps);
        }
        for place in places(usize::from(w.stripe)) {
            let entry = state.entry[place];
            let dead = entry.occupied && entry.died != 0 && !state.slot.contains(&(place as u8));
            let needed = w.reading && entry.was_there(w.seen.revision, w.seen.cleared);
            if dead && (!needed || self.breaks(Plant::KeepsNothing)) {
                let mut next = *state;
                next.wipe(place, self.breaks(Plant::WipesDiedFirst));
                (next.writer[who].dead, next.writer[who].at) = (place as u8, At::Wipe);
                steps.go(WHO[who], "frees a dead entry: its first word is 0", next);
            }
        }
        let mut next = *state;
        let swept = w.op == Some(Op::Sweep);
        next.writer[who].at = if swept { At::Unlock } else { At::Decide };
        steps.go(WHO[who], "frees nothing more", next);
    }

    /// The second word of an entry that is freed; or a death, and REPAIR.
    fn wipe(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, place) = (*state, usize::from(state.writer[who].dead));
        (next.writer[who].dead, next.writer[who].at) = (0, At::Free);
        let mut repaired = next;
        next.wipe(place, !self.breaks(Plant::WipesDiedFirst));
        next.entry[place].occupied = false;
        steps.go(WHO[who], "its second word is 0, and its bit", next);
        if state.entry[place].born == 0 {
            repaired.entry[place] = Entry::default();
        } else {
            repaired.entry[place].died = state.head;
        }
        steps.go(WHO[who], "dies, and who repairs goes on", repaired);
    }

    /// What a sweep took out of its slot dies by the clear; or by whoever repairs, at the head.
    fn sweep(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, w) = (*state, state.writer[who]);
        next.writer[who].at = At::LoadOn;
        let mut repaired = next;
        next.entry[usize::from(w.old)].died = w.cleared;
        steps.go(WHO[who], "stores `died` of what it swept", next);
        repaired.entry[usize::from(w.old)].died = state.head;
        steps.go(WHO[who], "dies, and who repairs stores `died`", repaired);
    }

    fn decide(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, w) = (*state, state.writer[who]);
        let stripe = usize::from(w.stripe);
        let old = state.slot[stripe];
        let cleared = old != 0 && state.entry[usize::from(old)].born < state.cleared;
        let q = &mut next.writer[who];
        (q.old, q.cleared, q.at) = (old, state.cleared, At::Commit);
        let what = match w.op {
            Some(Op::Set) => {
                let free = |p: &usize| !state.entry[*p].occupied && state.recut & 1 << p == 0;
                let mut free = places(stripe).filter(free);
                match free.next() {
                    Some(place) => {
                        q.new = place as u8;
                        next.values += 1;
                        next.entry[place] =
                            Entry { occupied: true, value: next.values, ..Entry::default() };
                        "fills a new entry"
                    }
                    None => {
                        q.at = At::Unlock;
                        "finds no room"
                    }
                }
            }
            Some(Op::Delete) if old == 0 || cleared => {
                q.at = At::Unlock;
                "finds nothing to delete"
            }
            Some(Op::Delete) => "decides to delete",
            _ if cleared => {
                (next.slot[stripe], q.at) = (0, At::SweepDied);
                "sweeps a cleared entry out of its slot"
            }
            _ => {
                q.at = At::Unlock;
                "finds nothing to sweep"
            }
        };
        steps.go(WHO[who], what, next);
    }

    /// The commit, whole: A takes it apart.
    fn commit(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, w) = (*state, state.writer[who]);
        let (stripe, new) = (usize::from(w.stripe), usize::from(w.new));
        if state.commit_lock != FREE {
            return;
        }
        if w.cleared != state.cleared && !self.breaks(Plant::NoClearedAgain) {
            if new != 0 {
                next.entry[new] = Entry::default();
            }
            (next.writer[who].new, next.writer[who].at) = (0, At::Decide);
            return steps.go(WHO[who], "was overtaken by a clear and decides again", next);
        }
        if new == 0 && state.truth[stripe] == 0 {
            let why = "a delete of a key that a clear has taken away";
            return steps.wrong(WHO[who], "commits", why, state);
        }
        next.head += 1;
        if new != 0 {
            next.entry[new].born = next.head;
        }
        if w.old != 0 {
            next.entry[usize::from(w.old)].died = next.head;
        }
        next.slot[stripe] = w.new;
        next.truth[stripe] = if new == 0 { 0 } else { state.entry[new].value };
        next.writer[who].at = At::Unlock;
        steps.go(WHO[who], "commits", next);
    }
}

impl State {
    fn wipe(&mut self, place: usize, died: bool) {
        let entry = &mut self.entry[place];
        *(if died { &mut entry.died } else { &mut entry.born }) = 0;
    }
}
