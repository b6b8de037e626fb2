//! The holder of the stripe's lock: finds a slot, appends, commits, empties, doubles.

use super::{
    Array, Bucket, Chain, ENTRIES, Entry, KEYS, LINES, MAINS, Plant, ROOM, State, main_of,
};
use membus_model::Steps;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Set(usize),
    Delete(usize),
    /// Sets keys 1 and 2 together.
    Batch,
    Double,
}

impl Op {
    fn changes(self) -> Vec<(usize, bool)> {
        match self {
            Self::Set(key) => vec![(key, true)],
            Self::Delete(key) => vec![(key, false)],
            Self::Batch => vec![(1, true), (2, true)],
            Self::Double => Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum At {
    #[default]
    Idle,
    /// Looks for a slot; appends a bucket when there is none.
    Place,
    Used,
    Link,
    Ready,
    // FINISH
    Entry,
    Slot,
    Head,
    After,
    // DOUBLE
    Copy,
    Publish,
}

/// One change, decided: what the commit record says of it.
#[derive(Debug, Clone, Copy, Hash, Default)]
struct Planned {
    line: u8,
    new: u8,
    old: u8,
    /// The slot that the old entry stood in, when it is another (a plant).
    old_line: u8,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
pub(super) struct Writer {
    at: At,
    op: Option<Op>,
    index: u8,
    planned: [Planned; 2],
    /// The first revision of the commit.
    first: u8,
    left: u8,
}

impl Writer {
    pub(super) fn new(left: u8) -> Self {
        Self { left, ..Self::default() }
    }
    pub(super) fn is_idle(&self) -> bool {
        self.at == At::Idle
    }
    fn changes(&self) -> Vec<(usize, bool)> {
        self.op.map(Op::changes).unwrap_or_default()
    }
}

const WHO: &str = "writer";

impl Chain {
    pub(super) fn write(&self, state: &State, steps: &mut Steps<State>) {
        match state.writer.at {
            At::Idle => return self.choose(state, steps),
            At::Place => self.place(state, steps),
            At::Used | At::Link => self.append(state, steps),
            At::Copy | At::Publish => self.double(state, steps),
            _ => self.commit(state, steps),
        }
        if state.deaths < self.deaths {
            // Whoever comes after finishes from the record, or finds nothing to finish.
            let mut next = *state;
            next.deaths += 1;
            if matches!(state.writer.at, At::Entry | At::Slot | At::Head | At::After) {
                (next.writer.at, next.writer.index) = (At::Entry, 0);
            } else {
                next.writer = Writer::new(state.writer.left);
            }
            steps.dies(WHO, next);
        }
    }

    fn choose(&self, state: &State, steps: &mut Steps<State>) {
        for op in self.allowed.iter().filter(|_| state.writer.left > 0) {
            let absent = |(key, set): &(usize, bool)| !set && state.truth[*key] == 0;
            let needed = op.changes().len();
            if op.changes().iter().any(absent) || usize::from(state.entries) + needed >= ENTRIES {
                continue;
            }
            let mut next = *state;
            next.writer =
                Writer { op: Some(*op), at: At::Place, ..Writer::new(state.writer.left - 1) };
            if *op == Op::Double {
                if state.current == 1 {
                    continue;
                }
                next.writer.at = At::Copy;
                if self.breaks(Plant::PublishesEarly) {
                    next.writer.at = At::Publish;
                }
            }
            steps.go(WHO, "begins an operation", next);
        }
    }

    /// Decides one change: its slot, and a new entry, unborn.
    fn place(&self, state: &State, steps: &mut Steps<State>) {
        let (mut next, w) = (*state, &state.writer);
        let index = usize::from(w.index);
        let Some((key, set)) = w.changes().get(index).copied() else {
            (next.writer.at, next.writer.index) = (At::Ready, 0);
            return steps.go(WHO, "has decided", next);
        };
        let chain = state.chain(key);
        let current = state.line_of(key);
        let taken = |line: &u8| {
            !self.breaks(Plant::TakesTwice) && w.planned[..index].iter().any(|p| p.line == *line)
        };
        let empty =
            |line: &&u8| state.array().bucket[usize::from(**line)].word == 0 && !taken(line);
        let first_empty = chain.iter().find(empty).copied();
        let leaves = set && self.breaks(Plant::LeavesItsSlot) && first_empty.is_some();
        let line = if leaves { first_empty } else { current.or(first_empty) };
        let Some(line) = line else {
            next.writer.at = if self.breaks(Plant::LinkFirst) { At::Link } else { At::Used };
            if usize::from(state.array().used) >= usize::from(ROOM[usize::from(state.current)]) {
                next.writer = Writer::new(w.left);
            }
            return steps.go(WHO, "finds its chain full", next);
        };
        let old = current.map_or(0, |line| state.array().bucket[usize::from(line)].word);
        let mut new = 0;
        if set {
            next.entries += 1;
            new = next.entries;
            next.entry[usize::from(new)] = Entry { key: key as u8, born: 0, died: 0, pred: old };
        }
        let old_line = current.unwrap_or(line);
        next.writer.planned[index] = Planned { line, new, old, old_line };
        next.writer.index += 1;
        steps.go(WHO, "finds a slot", next);
    }

    /// Appends a bucket to the chain that is full.
    fn append(&self, state: &State, steps: &mut Steps<State>) {
        let mut next = *state;
        let (key, _) = state.writer.changes()[usize::from(state.writer.index)];
        let current = usize::from(state.current);
        let array = &mut next.array[current];
        let link_first = self.breaks(Plant::LinkFirst);
        let chain = state.chain(key);
        if state.writer.at == At::Used {
            if state.spare == 0 {
                array.used += 1;
            }
            next.writer.at = if link_first { At::Place } else { At::Link };
            return steps.go(WHO, "counts a new bucket", next);
        }
        let line = match state.spare {
            0 if link_first => array.used,
            0 => array.used - 1,
            spare => spare,
        };
        array.bucket[usize::from(chain[chain.len() - 1])].link = line;
        next.spare = 0;
        next.writer.at = if link_first { At::Used } else { At::Place };
        steps.go(WHO, "links the new bucket", next);
    }

    fn commit(&self, state: &State, steps: &mut Steps<State>) {
        let (mut next, w) = (*state, &state.writer);
        let (index, changes) = (usize::from(w.index), w.changes());
        let planned = w.planned.get(index).copied().unwrap_or_default();
        let current = usize::from(state.current);
        let ended = index >= changes.len();
        let what = match w.at {
            At::Ready => {
                (next.writer.at, next.writer.first) = (At::Entry, state.head + 1);
                "stores `ready`"
            }
            At::Entry if ended => {
                (next.writer.at, next.writer.index) = (At::Head, 0);
                "has stored all entries"
            }
            At::Entry => {
                let revision = w.first + w.index;
                if planned.new != 0 {
                    next.entry[usize::from(planned.new)].born = revision;
                }
                if planned.old != 0 {
                    next.entry[usize::from(planned.old)].died = revision;
                }
                next.writer.at = At::Slot;
                "stores `born` and `died`"
            }
            At::Slot => {
                if planned.new != 0 {
                    next.array[current].bucket[usize::from(planned.line)].word = planned.new;
                }
                (next.writer.at, next.writer.index) = (At::Entry, w.index + 1);
                "stores the slot word"
            }
            At::Head => {
                next.head = w.first + changes.len() as u8 - 1;
                for (index, (key, _)) in changes.iter().enumerate() {
                    self.note(&mut next, *key, w.planned[index].new);
                }
                next.writer.at = At::After;
                "stores the head"
            }
            _ if ended => {
                next.writer = Writer::new(w.left);
                "is done"
            }
            _ => {
                self.empty(&mut next, planned, changes[index].0);
                next.writer.index += 1;
                "stores the slot word as it is to be"
            }
        };
        steps.go(WHO, what, next);
    }

    /// Empties the slot of a delete, in the ways that are right and wrong.
    fn empty(&self, next: &mut State, planned: Planned, key: usize) {
        let current = usize::from(next.current);
        let chain = next.chain(key);
        let array = &mut next.array[current];
        if planned.old_line != planned.line {
            array.bucket[usize::from(planned.old_line)].word = 0;
        }
        array.bucket[usize::from(planned.line)].word = planned.new;
        if planned.new != 0 {
            return;
        }
        if self.breaks(Plant::MovesWords) {
            let named = |line: &&u8| array.bucket[usize::from(**line)].word != 0;
            let last = chain.iter().rev().find(named).copied();
            if let Some(last) = last.filter(|last| {
                chain.iter().position(|l| l == last) > chain.iter().position(|l| *l == planned.line)
            }) {
                array.bucket[usize::from(planned.line)].word = array.bucket[usize::from(last)].word;
                array.bucket[usize::from(last)].word = 0;
            }
        }
        let at = chain.iter().position(|line| *line == planned.line);
        if let (true, Some(at)) = (self.breaks(Plant::UnlinksBuckets), at.filter(|at| *at > 0)) {
            let before = usize::from(chain[at - 1]);
            array.bucket[before].link = array.bucket[usize::from(planned.line)].link;
            array.bucket[usize::from(planned.line)].link = 0;
            next.spare = planned.line;
        }
    }

    /// DOUBLE: the new array is known to nobody before its word is stored.
    fn double(&self, state: &State, steps: &mut Steps<State>) {
        let mut next = *state;
        let early = self.breaks(Plant::PublishesEarly);
        if state.writer.at == At::Copy {
            next.array[1] = state.doubled();
            next.writer.at = At::Publish;
            if early {
                next.writer = Writer::new(state.writer.left);
            }
            return steps.go(WHO, "builds an array of twice as many buckets", next);
        }
        next.current = 1;
        next.writer = Writer::new(state.writer.left);
        if early {
            (next.writer.op, next.writer.at) = (Some(Op::Double), At::Copy);
        }
        steps.go(WHO, "stores the array word", next);
    }

    /// The old array's bytes become something else.
    pub(super) fn scribble(&self, state: &State, steps: &mut Steps<State>) {
        if state.current == 0 || state.scribbled {
            return;
        }
        for line in [0, 2] {
            for garbage in 0..LINES as u8 {
                let mut next = *state;
                next.scribbled = true;
                next.array[0].bucket[line] =
                    Bucket { word: garbage.min(state.entries), link: garbage };
                steps.go("heap", "uses the old array for something else", next);
            }
        }
    }
}

impl State {
    fn doubled(&self) -> Array {
        let mut new = Array { used: MAINS[1] as u8, ..Array::default() };
        for key in 0..KEYS {
            let Some(from) = self.line_of(key) else { continue };
            let word = self.array().bucket[usize::from(from)].word;
            let mut line = main_of(key, 1);
            while new.bucket[line].word != 0 {
                if new.bucket[line].link == 0 {
                    new.bucket[line].link = new.used;
                    new.used += 1;
                }
                line = usize::from(new.bucket[line].link);
            }
            new.bucket[line].word = word;
        }
        new
    }
}
