//! Writers: set, delete, clear, sweep and abort, and the freeing that spares a snapshot.

use super::{Entry, FREE, Op, Plant, STRIPES, Snapshot, State, Use, Words, places};
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
    Decide,
    Commit,
    Retire,
    Unlock,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
pub(super) struct Writer {
    at: At,
    op: Option<Op>,
    stripe: u8,
    new: u8,
    old: u8,
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
            At::Free => self.free(state, who, steps),
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

    /// Locking, looking at the snapshot's words, retiring, unlocking.
    fn go_on(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, w) = (*state, state.writer[who]);
        let stripe = usize::from(w.stripe);
        let stale = self.breaks(Plant::StaleLook);
        let q = &mut next.writer[who];
        let what = match w.at {
            At::Lock if state.stripe_lock[stripe] != FREE => return,
            At::Lock => {
                next.stripe_lock[stripe] = 1 + who as u8;
                // A sweep retires first and frees afterwards.
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
            At::Retire => {
                if w.old != 0 {
                    next.entry[usize::from(w.old)].usage = Use::Retired;
                }
                q.at = if w.op == Some(Op::Sweep) { At::LoadOn } else { At::Unlock };
                "retires the old entry"
            }
            _ => {
                next.stripe_lock[stripe] = FREE;
                *q = Writer::new(w.left);
                "unlocks its stripe"
            }
        };
        steps.go(WHO[who], what, next);
    }

    /// FREE of any retired entry that the snapshot, as far as it is known, does not need.
    fn free(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let w = state.writer[who];
        for place in places(usize::from(w.stripe)) {
            let entry = state.entry[place];
            let needed = w.reading && entry.was_there(w.seen.revision, w.seen.cleared);
            if entry.usage == Use::Retired && (!needed || self.breaks(Plant::KeepsNothing)) {
                let mut next = *state;
                next.entry[place] = Entry::default();
                steps.go(WHO[who], "frees a retired entry", next);
            }
        }
        let mut next = *state;
        let swept = w.op == Some(Op::Sweep);
        next.writer[who].at = if swept { At::Unlock } else { At::Decide };
        steps.go(WHO[who], "frees nothing more", next);
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
                let mut free = places(stripe).filter(|p| state.entry[*p].usage == Use::Free);
                match free.next() {
                    Some(place) => {
                        q.new = place as u8;
                        next.values += 1;
                        next.entry[place] =
                            Entry { usage: Use::Used, value: next.values, ..Entry::default() };
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
                (next.slot[stripe], q.at) = (0, At::Retire);
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
        next.writer[who].at = At::Retire;
        steps.go(WHO[who], "commits", next);
    }
}
