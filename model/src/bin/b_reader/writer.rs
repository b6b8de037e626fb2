//! The writer: what becomes visible is set down by the commit lock's holder, store by store.

use super::{BLOCKS, Block, FORGED, KEYS, MOVED, NO_PRED, Plant, Read, State, Use};
use membus_model::Steps;

/// What the writer may do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Set0,
    Set1,
    /// Sets key 0 with a deadline.
    SetExpiring,
    Delete0,
    Delete1,
    SetSet,
    SetDelete,
    /// Fills an entry for key 0 and dies before `ready`.
    SetDies,
    /// The keeper ends key 0 after its deadline.
    Expire0,
    /// A commit that concerns another stripe.
    Other,
    Clear,
    /// What a backup has takes the place of all there is: key 0 alone.
    Restore0,
    /// Both keys.
    RestoreBoth,
    Double,
}

impl Op {
    fn restores(self) -> bool {
        matches!(self, Self::Restore0 | Self::RestoreBoth)
    }

    /// Keys it changes, and whether it sets them.
    fn changes(self) -> &'static [(usize, bool)] {
        match self {
            Self::Set0 | Self::SetExpiring | Self::SetDies | Self::Restore0 => &[(0, true)],
            Self::Set1 => &[(1, true)],
            Self::Delete0 | Self::Expire0 => &[(0, false)],
            Self::Delete1 => &[(1, false)],
            Self::SetSet | Self::RestoreBoth => &[(0, true), (1, true)],
            Self::SetDelete => &[(0, true), (1, false)],
            Self::Other | Self::Clear | Self::Double => &[],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum At {
    #[default]
    Idle,
    Fill,
    FillSecond,
    LockCommit,
    Born,
    Died,
    Slot,
    After,
    Retire,
    RestoreHead,
    ClearHead,
    Sweep,
    SweepDied,
    Copy,
    Mark,
    Publish,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
pub(super) struct Writer {
    at: At,
    op: Option<Op>,
    /// The change, key or slot in hand.
    index: u8,
    new: [u8; KEYS],
    old: [u8; KEYS],
    /// Operations left.
    left: u8,
}

impl Writer {
    pub(super) fn new(left: u8) -> Self {
        Self { left, ..Self::default() }
    }
    fn changes(&self) -> &'static [(usize, bool)] {
        self.op.map_or(&[], Op::changes)
    }
    fn restores(&self) -> bool {
        self.op.is_some_and(Op::restores)
    }
    fn done(&mut self) {
        *self = Self::new(self.left);
    }
}

const WHO: &str = "writer";

impl Read {
    pub(super) fn write(&self, state: &State, steps: &mut Steps<State>) {
        match state.writer.at {
            At::Idle => {
                self.keep_house(state, steps);
                self.choose(state, steps);
            }
            At::Fill | At::FillSecond => self.fill(state, steps),
            At::ClearHead | At::Sweep | At::SweepDied => self.sweep(state, steps),
            At::Copy | At::Mark | At::Publish => self.double(state, steps),
            _ => self.commit(state, steps),
        }
    }

    /// What may happen to free room and dead entries at any time between operations.
    fn keep_house(&self, state: &State, steps: &mut Steps<State>) {
        for place in 1..=BLOCKS {
            let block = state.block[place];
            if block.usage == Use::Dead {
                let mut next = *state;
                next.block[place] = Block { born: 0, usage: Use::Wiped, ..block };
                steps.go(WHO, "frees a dead entry: `born` is 0", next);
            }
            if block.usage == Use::Wiped {
                let mut next = *state;
                next.block[place] = Block { died: 0, usage: Use::Free, ..block };
                steps.go(WHO, "frees a dead entry: `died` is 0", next);
            }
            if block.usage == Use::Recut {
                let mut next = *state;
                let generation = block.generation + 1;
                next.block[place] = Block { generation, ..Block::default() };
                steps.go(WHO, "cuts a block back for entries", next);
            }
            if block.usage == Use::Free && state.recuts < self.recuts {
                for born in 1..=state.head + 1 {
                    for garbled in [false, true] {
                        self.recut(state, place, born, garbled, steps);
                    }
                }
            }
        }
        if state.array > 0 && !state.scribbled {
            for word in 1..=BLOCKS as u8 {
                let mut next = *state;
                next.slots[usize::from(1 - state.array % 2)][0] = word;
                next.scribbled = true;
                steps.go(WHO, "uses the old array's bytes for something else", next);
            }
        }
    }

    /// A free block goes to a span of another class, and its bytes are a value's.
    fn recut(
        &self,
        state: &State,
        place: usize,
        born: u8,
        garbled: bool,
        steps: &mut Steps<State>,
    ) {
        let mut next = *state;
        next.recuts += 1;
        next.block[place] = Block {
            usage: Use::Recut,
            generation: state.block[place].generation + 1,
            garbled,
            value: [FORGED; 2],
            born,
            pred: NO_PRED,
            ..Block::default()
        };
        steps.go(WHO, "cuts a block anew, for a value that looks like an entry", next);
    }

    fn choose(&self, state: &State, steps: &mut Steps<State>) {
        let current = state.slots[usize::from(state.array % 2)];
        for op in self.allowed.iter().filter(|_| state.writer.left > 0) {
            if op.changes().iter().any(|(key, set)| !set && current[*key] == 0) {
                continue;
            }
            let expired = current[0] != 0 && state.block[usize::from(current[0])].expires;
            if *op == Op::Expire0 && !(state.late && expired) {
                continue;
            }
            let mut next = *state;
            next.writer =
                Writer { op: Some(*op), at: At::Fill, ..Writer::new(state.writer.left - 1) };
            match op {
                Op::Other => {
                    next.head += 1;
                    next.writer.done();
                }
                Op::Clear => {
                    next.cleared = state.head + 1;
                    (0..KEYS).for_each(|key| self.note(&mut next, key, 0));
                    next.writer.at = At::ClearHead;
                }
                Op::Double => next.writer.at = At::Copy,
                _ => {}
            }
            steps.go(WHO, "begins an operation", next);
        }
    }

    /// WRITE 2: a new entry for each set.
    fn fill(&self, state: &State, steps: &mut Steps<State>) {
        let (mut next, w) = (*state, &state.writer);
        let index = usize::from(w.index);
        let Some((key, set)) = w.changes().get(index).copied() else {
            let early = self.breaks(Plant::EarlyBorn);
            (next.writer.index, next.writer.at) = (0, At::LockCommit);
            if early {
                (0..w.changes().len()).for_each(|index| self.store_born(&mut next, index));
            }
            if w.op == Some(Op::SetDies) {
                let place = usize::from(w.new[0]);
                next.block[place].usage = Use::Dead;
                next.writer.done();
                return steps.go(WHO, "dies before `ready`; what it filled is freed", next);
            }
            return steps.go(WHO, "locks the commit", next);
        };
        if w.at == At::FillSecond {
            let place = usize::from(w.new[index]);
            next.block[place].value[1] = next.block[place].value[0];
            (next.writer.index, next.writer.at) = (w.index + 1, At::Fill);
            return steps.go(WHO, "fills the second word", next);
        }
        let old = state.slots[usize::from(state.array % 2)][key];
        next.writer.old[index] = old;
        if !set {
            next.writer.index += 1;
            return steps.go(WHO, "decides to delete", next);
        }
        let Some(place) = (1..=BLOCKS).find(|place| state.block[*place].usage == Use::Free) else {
            return;
        };
        let block = &mut next.block[place];
        *block = Block {
            usage: Use::Used,
            key: key as u8,
            value: [1 + self.ops - w.left, block.value[1]],
            pred: if old == 0 { NO_PRED } else { old },
            expires: w.op == Some(Op::SetExpiring),
            garbled: false,
            ..*block
        };
        (next.writer.new[index], next.writer.at) = (place as u8, At::FillSecond);
        steps.go(WHO, "fills the first word of a new entry", next);
    }

    /// FINISH, then the retiring.
    fn commit(&self, state: &State, steps: &mut Steps<State>) {
        let (mut next, w) = (*state, &state.writer);
        let (index, count) = (usize::from(w.index), w.changes().len());
        let current = usize::from(state.array % 2);
        let change = w.changes().get(index).copied();
        let what = match (w.at, change) {
            (At::LockCommit, _) => {
                next.writer.at = At::Born;
                "stores `ready`"
            }
            (At::Born, Some(_)) => {
                self.store_born(&mut next, index);
                next.writer.at = At::Died;
                "stores `born`"
            }
            (At::Died, Some(_)) => {
                if w.old[index] != 0 && !self.breaks(Plant::NoDied) {
                    next.block[usize::from(w.old[index])].died = self.revision(state, index);
                }
                next.writer.at = At::Slot;
                "stores `died`"
            }
            (At::Slot, Some((key, set))) => {
                if set || self.breaks(Plant::NoDied) {
                    next.slots[current][key] = w.new[index];
                }
                (next.writer.index, next.writer.at) = (w.index + 1, At::Born);
                "stores a slot word"
            }
            (At::Born | At::RestoreHead, None) if w.restores() => {
                self.show_restored(state, &mut next)
            }
            (At::Born, None) => {
                next.head += count as u8;
                for (index, (key, set)) in w.changes().iter().enumerate() {
                    let block = next.block[usize::from(w.new[index])];
                    let absent = !set || (block.expires && state.late);
                    self.note(&mut next, *key, if absent { 0 } else { block.value[0] });
                }
                (next.writer.index, next.writer.at) = (0, At::After);
                "stores the head"
            }
            (At::After, Some((key, _))) => {
                next.slots[current][key] = w.new[index];
                next.writer.at = At::Retire;
                "stores the slot word as it is to be"
            }
            (At::Retire, Some(_)) => {
                if w.old[index] != 0 {
                    next.block[usize::from(w.old[index])].usage = Use::Dead;
                }
                (next.writer.index, next.writer.at) = (w.index + 1, At::After);
                "notes that the old entry is dead"
            }
            _ if w.restores() => {
                (next.writer.index, next.writer.at) = (0, At::Sweep);
                "has retired what it replaced"
            }
            _ => {
                next.writer.done();
                "is done"
            }
        };
        steps.go(WHO, what, next);
    }

    /// A restore is seen with the store of its floor; the head follows.
    fn show_restored(&self, state: &State, next: &mut State) -> &'static str {
        let is_floor = (state.writer.at == At::Born) != self.breaks(Plant::RestoreHeadFirst);
        if state.writer.at == At::Born {
            next.writer.at = At::RestoreHead;
        } else {
            (next.writer.index, next.writer.at) = (0, At::After);
        }
        let count = state.writer.changes().len() as u8;
        let one = !self.breaks(Plant::RestoreRevisions);
        let revision = match state.writer.at {
            At::Born => state.head + if one { 1 } else { count },
            _ => state.head.max(state.cleared),
        };
        if is_floor {
            next.cleared = revision;
            self.note_restored(next);
            return "stores the floor of a restore";
        }
        next.head = revision;
        "stores the head of a restore"
    }

    /// From now on each key is worth what the restore has for it.
    fn note_restored(&self, state: &mut State) {
        let w = state.writer;
        for key in 0..KEYS {
            let index = w.changes().iter().position(|(changed, _)| *changed == key);
            let value = index.map_or(0, |index| state.block[usize::from(w.new[index])].value[0]);
            self.note(state, key, value);
        }
    }

    /// The revision of a change of the commit in hand: all of a restore have one.
    fn revision(&self, state: &State, index: usize) -> u8 {
        let one = state.writer.restores() && !self.breaks(Plant::RestoreRevisions);
        state.head + 1 + if one { 0 } else { index as u8 }
    }

    fn store_born(&self, state: &mut State, index: usize) {
        let place = usize::from(state.writer.new[index]);
        if place != 0 {
            state.block[place].born = self.revision(state, index);
        }
    }

    fn sweep(&self, state: &State, steps: &mut Steps<State>) {
        let (mut next, key) = (*state, usize::from(state.writer.index));
        if state.writer.at == At::ClearHead {
            next.head += 1;
            next.writer.at = At::Sweep;
            return steps.go(WHO, "stores the head of the clear", next);
        }
        if key == KEYS {
            next.writer.done();
            return steps.go(WHO, "has swept", next);
        }
        if state.writer.at == At::SweepDied {
            let block = &mut next.block[usize::from(state.writer.old[0])];
            (block.died, block.usage) = (state.cleared, Use::Dead);
            (next.writer.old[0], next.writer.index, next.writer.at) = (0, key as u8 + 1, At::Sweep);
            return steps.go(WHO, "stores `died` of what it swept", next);
        }
        let slot = &mut next.slots[usize::from(state.array % 2)][key];
        let entry = *slot;
        if entry != 0 && state.block[usize::from(entry)].born < state.cleared {
            *slot = 0;
            (next.writer.old[0], next.writer.at) = (entry, At::SweepDied);
        } else {
            next.writer.index += 1;
        }
        steps.go(WHO, "sweeps a slot", next);
        if key == 0 {
            let mut later = *state;
            later.writer.done();
            steps.go(WHO, "leaves the sweep to somebody else", later);
        }
    }

    fn double(&self, state: &State, steps: &mut Steps<State>) {
        let (mut next, index) = (*state, usize::from(state.writer.index));
        let current = usize::from(state.array % 2);
        let what = match state.writer.at {
            At::Copy if index < KEYS => {
                next.slots[1 - current][index] = state.slots[current][index];
                next.writer.index += 1;
                "copies a slot word"
            }
            At::Copy => {
                (next.writer.index, next.writer.at) = (0, At::Publish);
                if self.breaks(Plant::Marks) {
                    next.writer.at = At::Mark;
                }
                "has copied all"
            }
            At::Mark if index < KEYS => {
                next.slots[current][index] = MOVED;
                next.writer.index += 1;
                "marks a slot word as moved"
            }
            At::Mark => {
                next.writer.at = At::Publish;
                "has marked all"
            }
            _ => {
                next.array += 1;
                next.scribbled = false;
                next.writer.done();
                "publishes the new array"
            }
        };
        steps.go(WHO, what, next);
    }
}
