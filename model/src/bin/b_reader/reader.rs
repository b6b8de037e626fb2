//! READ and CELL, one load a step.

use super::{MOVED, NO_PRED, Plant, Read, State};
use membus_model::Steps;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum At {
    #[default]
    Idle,
    Array,
    Slot,
    Block,
    Born,
    Head,
    PredBlock,
    PredBorn,
    Died,
    Header,
    Cleared,
    Deadline,
    SlotAgain,
    ArrayAgain,
    PredHead,
    CopyFirst,
    CopySecond,
    BornAgain,
    BlockAgain,
    PredAgain,
    EmptyArray,
    /// Before the lookup of a cell: the head, as of which the key may be found absent.
    CellBefore,
    CellBeforeCleared,
    CellDied,
    CellBorn,
    CellBlock,
    CellCleared,
    CellDeadline,
    CellHead,
    CellHeadCleared,
    /// A plant's look.
    CellSlot,
}

/// What the key was found to be, as far as the read has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Answer {
    #[default]
    Hit,
    Absent,
    /// Another key's entry. There is one slot for each key: nothing else is to be looked at.
    Mismatch,
    /// Lengths that make no sense.
    Damaged,
}

/// What is known of key 0 without a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Known {
    #[default]
    Nothing,
    Absent,
    Here,
}

/// What is remembered of key 0.
#[derive(Debug, Clone, Copy, Hash, Default)]
struct Cell {
    known: Known,
    /// The head as of which it was absent.
    head: u8,
    array: u8,
    word: u8,
    born: u8,
    generation: u8,
    expires: bool,
    value: u8,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
pub(super) struct Reader {
    at: At,
    /// Reads that are done.
    pub(super) reads: u8,
    /// The newest head that this thread knows.
    pub(super) head: u8,
    array: u8,
    word: u8,
    born: u8,
    generation: u8,
    /// The entry whose value it takes: the slot word's, or its predecessor.
    entry: u8,
    entry_born: u8,
    entry_generation: u8,
    expires: bool,
    answer: Answer,
    value: [u8; 2],
    cell: Cell,
    /// The head before the lookup of a cell.
    before: u8,
    /// Values that the key had since this read began, a bit each.
    pub(super) possible: u16,
}

impl Reader {
    pub(super) fn is_reading(&self) -> bool {
        self.at != At::Idle
    }
    pub(super) fn begins_again(&self) -> bool {
        self.at == At::Array
    }
    /// Back to step 1, with nothing remembered of this attempt.
    fn again(&mut self) {
        let Self { reads, head, cell, before, possible, .. } = *self;
        *self = Self { at: At::Array, reads, head, cell, before, possible, ..Self::default() };
    }
    fn end(&mut self) {
        let Self { reads, head, cell, .. } = *self;
        *self = Self { reads: reads + 1, head, cell, ..Self::default() };
    }
}

const WHO: [&str; 2] = ["reader 1", "reader 2"];

/// What a step came to.
enum End {
    Next(&'static str),
    Again(&'static str),
    Wrong(&'static str),
}
use End::{Again, Next, Wrong};

impl Read {
    pub(super) fn read(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        if usize::from(state.reader[who].reads) == self.script[who].len() {
            return;
        }
        let mut next = *state;
        match self.load(state, who, &mut next) {
            Next(what) => steps.go(WHO[who], what, next),
            Again(what) => {
                next.reader[who].again();
                steps.go(WHO[who], what, next);
            }
            Wrong(why) => steps.wrong(WHO[who], "comes to an end", why, state),
        }
    }

    /// The same step while nobody else moves; what is wrong is told elsewhere.
    pub(super) fn step_alone(&self, state: &State, who: usize) -> State {
        let mut next = *state;
        match self.load(state, who, &mut next) {
            Next(_) => {}
            Again(_) => next.reader[who].again(),
            Wrong(_) => next.reader[who].end(),
        }
        next
    }

    fn load(&self, state: &State, who: usize, next: &mut State) -> End {
        let at = state.reader[who].at;
        match at {
            At::Idle => {
                let key = self.key(state, who);
                let q = &mut next.reader[who];
                q.possible = 1 << state.truth[key];
                q.at = match q.cell.known {
                    _ if !self.cell || key != 0 => At::Array,
                    Known::Nothing => At::CellBefore,
                    known => self.looks(known)[0],
                };
                Next("begins a read")
            }
            At::CellBefore => {
                let q = &mut next.reader[who];
                (q.before, q.at) = (state.head, At::CellBeforeCleared);
                Next("loads the head before its lookup")
            }
            At::CellBeforeCleared => {
                let q = &mut next.reader[who];
                q.before = q.before.max(state.cleared);
                (q.head, q.at) = (q.head.max(q.before), At::Array);
                Next("loads `cleared_at` before its lookup")
            }
            At::Array
            | At::Slot
            | At::Block
            | At::Born
            | At::Head
            | At::PredBlock
            | At::PredBorn => self.find(state, who, next),
            At::Died | At::Header | At::Cleared | At::Deadline => self.judge(state, who, next),
            At::CellDied
            | At::CellBorn
            | At::CellBlock
            | At::CellCleared
            | At::CellDeadline
            | At::CellHead
            | At::CellHeadCleared
            | At::CellSlot => self.look_at_cell(state, who, next),
            At::SlotAgain | At::ArrayAgain | At::EmptyArray | At::PredHead => {
                self.confirm_place(state, who, next)
            }
            _ => self.confirm_entry(state, who, next),
        }
    }

    /// The visible head. Two loads, one after the other; what they give was the visible head at one moment
    /// between them, as neither ever falls and the floor goes ahead of the head.
    fn seen_head(&self, state: &State) -> u8 {
        if self.breaks(Plant::HeadAlone) { state.head } else { state.head.max(state.cleared) }
    }

    /// READ 1 to 3: which entry it is.
    fn find(&self, state: &State, who: usize, next: &mut State) -> End {
        let (r, key) = (state.reader[who], self.key(state, who));
        let q = &mut next.reader[who];
        let word = &state.block[usize::from(r.word)];
        match r.at {
            At::Array => {
                (q.array, q.at) = (state.array, At::Slot);
                Next("loads the array word")
            }
            At::Slot => {
                let found = state.slots[usize::from(r.array % 2)][key];
                if found == MOVED {
                    return Again("finds a mark");
                }
                (q.word, q.entry) = (found, found);
                q.at = if found == 0 { At::EmptyArray } else { At::Block };
                Next("loads the slot word")
            }
            At::Block => {
                (q.generation, q.at) = (word.generation, At::Born);
                Next("loads the block word")
            }
            At::Born if word.born == 0 => Again("finds `born` 0"),
            At::Born => {
                (q.born, q.entry_born, q.at) = (word.born, word.born, At::Died);
                if word.born > r.head {
                    q.at = At::Head;
                }
                Next("loads `born`")
            }
            At::Head if self.seen_head(state) >= r.born => {
                (q.head, q.at) = (self.seen_head(state), At::Died);
                Next("loads the head: visible")
            }
            At::Head => {
                (q.head, q.at) = (self.seen_head(state), At::PredBlock);
                q.entry = word.pred;
                if word.pred == NO_PRED {
                    (q.entry, q.answer, q.at) = (0, Answer::Absent, At::SlotAgain);
                }
                Next("loads the head: not visible yet")
            }
            At::PredBlock => {
                q.entry_generation = state.block[usize::from(r.entry)].generation;
                q.at = At::PredBorn;
                Next("loads the predecessor's block word")
            }
            _ => {
                q.entry_born = state.block[usize::from(r.entry)].born;
                q.at = if self.breaks(Plant::PredecessorDied) { At::Died } else { At::Header };
                if self.looks_early() && self.seen_head(state) >= r.born {
                    return Again("finds the head moved");
                }
                if q.entry_born == 0 || q.entry_born >= r.born {
                    return Again("finds the predecessor reused");
                }
                Next("loads the predecessor's `born`")
            }
        }
    }

    /// READ 4 and 5: whether the entry is the key's, and there.
    fn judge(&self, state: &State, who: usize, next: &mut State) -> End {
        let (r, key) = (state.reader[who], self.key(state, who));
        let q = &mut next.reader[who];
        let entry = &state.block[usize::from(r.entry)];
        match r.at {
            At::Died => {
                if entry.died > r.head {
                    q.head = self.seen_head(state);
                }
                if (1..=q.head).contains(&entry.died) {
                    q.answer = Answer::Absent;
                }
                q.at = At::Header;
                Next("loads `died`")
            }
            At::Header => {
                q.at = At::Cleared;
                if entry.garbled {
                    (q.answer, q.at) = (Answer::Damaged, At::SlotAgain);
                } else if usize::from(entry.key) != key {
                    q.answer = Answer::Mismatch;
                    q.at = At::SlotAgain;
                }
                if self.breaks(Plant::NoSlotOnMismatch) && q.answer == Answer::Mismatch {
                    q.at = At::BornAgain;
                }
                Next("loads the lengths and compares the key")
            }
            At::Cleared => {
                if r.entry_born < state.cleared {
                    q.answer = Answer::Absent;
                }
                q.at = At::Deadline;
                Next("loads `cleared_at`")
            }
            _ => {
                q.expires = entry.expires;
                if entry.expires && state.late && !self.breaks(Plant::NoDeadline) {
                    q.answer = Answer::Absent;
                }
                q.at = At::SlotAgain;
                Next("compares the deadline with the clock")
            }
        }
    }

    /// Whether the head is looked at before the predecessor is, instead of after it.
    fn looks_early(&self) -> bool {
        use Plant::{EarlyHeadAgain, HastyDamage, PredecessorDied};
        matches!(self.plant, Some(EarlyHeadAgain | PredecessorDied | HastyDamage))
    }

    /// READ 6: slot and array word again, and for a predecessor the head: it was the visible entry
    /// when the clock was read.
    fn confirm_place(&self, state: &State, who: usize, next: &mut State) -> End {
        let (r, key) = (state.reader[who], self.key(state, who));
        let q = &mut next.reader[who];
        let after_head = if r.answer == Answer::Hit { At::CopyFirst } else { At::BornAgain };
        let matches = matches!(r.answer, Answer::Hit | Answer::Absent);
        let unsure = self.breaks(Plant::NoSlotOnMatch) && matches;
        match r.at {
            At::SlotAgain if state.slots[usize::from(r.array % 2)][key] != r.word && !unsure => {
                Again("finds another slot word")
            }
            At::SlotAgain => {
                q.at = At::ArrayAgain;
                Next("loads the slot word again")
            }
            At::EmptyArray | At::ArrayAgain
                if state.array != r.array && !self.breaks(Plant::NoArray) =>
            {
                Again("finds another array word")
            }
            At::EmptyArray => {
                q.answer = Answer::Absent;
                self.give(state, who, next)
            }
            At::ArrayAgain if r.answer == Answer::Damaged && self.breaks(Plant::HastyDamage) => {
                Wrong("a sound region is called damaged")
            }
            At::ArrayAgain => {
                q.at = after_head;
                let pred = r.entry != r.word && r.entry != 0;
                if pred && !self.looks_early() && !self.breaks(Plant::NoHeadAgain) {
                    q.at = At::PredHead;
                }
                Next("loads the array word again")
            }
            _ if self.seen_head(state) >= r.born => Again("finds the head moved"),
            _ => {
                q.at = after_head;
                Next("loads the head again")
            }
        }
    }

    /// READ 7: the copy, then `born` and block word again.
    fn confirm_entry(&self, state: &State, who: usize, next: &mut State) -> End {
        let r = state.reader[who];
        let q = &mut next.reader[who];
        let (word, entry) = (&state.block[usize::from(r.word)], &state.block[usize::from(r.entry)]);
        let same_block = |now, seen| now == seen || self.breaks(Plant::NoBlockWord);
        match r.at {
            At::CopyFirst => {
                (q.value[0], q.at) = (entry.value[0], At::CopySecond);
                Next("copies the first word")
            }
            At::CopySecond => {
                (q.value[1], q.at) = (entry.value[1], At::BornAgain);
                Next("copies the second word")
            }
            At::BornAgain if word.born != r.born && !self.breaks(Plant::NoBornAgain) => {
                Again("finds another `born`")
            }
            At::BornAgain => {
                q.at = At::BlockAgain;
                Next("loads `born` again")
            }
            At::BlockAgain if !same_block(word.generation, r.generation) => {
                Again("finds another block word")
            }
            At::BlockAgain if r.entry == r.word || r.entry == 0 => self.give(state, who, next),
            At::BlockAgain => {
                q.at = At::PredAgain;
                Next("loads the block word again")
            }
            _ if entry.born != r.entry_born && !self.breaks(Plant::NoBornAgain) => {
                Again("finds another `born` in the predecessor")
            }
            _ if !same_block(entry.generation, r.entry_generation) => {
                Again("finds another block word of the predecessor")
            }
            _ => self.give(state, who, next),
        }
    }

    fn give(&self, state: &State, who: usize, next: &mut State) -> End {
        let (r, key) = (state.reader[who], self.key(state, who));
        let hit = next.reader[who].answer == Answer::Hit;
        let q = &mut next.reader[who];
        let value = if hit { r.value[0] } else { 0 };
        if q.answer == Answer::Damaged {
            return Wrong("a sound region is called damaged");
        }
        if hit && r.value[0] != r.value[1] {
            return Wrong("half of one value and half of another");
        }
        if r.possible & 1 << value == 0 {
            return Wrong("a value that the key never had during the read");
        }
        if self.cell && key == 0 {
            let Reader { array, word, born, generation, expires, before, .. } = r;
            let late = state.head.max(state.cleared);
            let head = if self.breaks(Plant::CellHeadAfter) { late } else { before };
            let known = match hit {
                false => Known::Absent,
                true if r.entry == r.word => Known::Here,
                true => Known::Nothing,
            };
            q.cell = Cell { known, head, array, word, born, generation, expires, value };
        }
        q.end();
        Next("gives its answer")
    }

    /// The looks of a cell, in their order.
    fn looks(&self, known: Known) -> &'static [At] {
        use At::{CellBlock, CellBorn, CellCleared, CellDeadline, CellDied, CellSlot};
        match (known, self.plant) {
            (Known::Absent, _) => &[At::CellHead, At::CellHeadCleared],
            (_, Some(Plant::CellSlotOnly)) => &[CellSlot],
            (_, Some(Plant::CellSlotAndBorn)) => &[CellSlot, CellBorn],
            (_, Some(Plant::CellNoDied)) => &[CellBorn, CellBlock, CellCleared, CellDeadline],
            (_, Some(Plant::CellBornFirst)) => {
                &[CellBorn, CellDied, CellBlock, CellCleared, CellDeadline]
            }
            (_, Some(Plant::CellNoBlock)) => &[CellDied, CellBorn, CellCleared, CellDeadline],
            (_, Some(Plant::CellBornLast)) => {
                &[CellDied, CellCleared, CellDeadline, CellBlock, CellBorn]
            }
            (_, Some(Plant::CellNoCleared)) => &[CellDied, CellBorn, CellBlock, CellDeadline],
            (_, Some(Plant::CellNoDeadline)) => &[CellDied, CellBorn, CellBlock, CellCleared],
            _ => &[CellDied, CellBorn, CellBlock, CellCleared, CellDeadline],
        }
    }

    /// CELL: whether what is remembered still is so.
    fn look_at_cell(&self, state: &State, who: usize, next: &mut State) -> End {
        let r = state.reader[who];
        let (cell, block) = (r.cell, &state.block[usize::from(r.cell.word)]);
        let holds = match r.at {
            At::CellDied => block.died == 0,
            At::CellBorn => block.born == cell.born,
            At::CellBlock => block.generation == cell.generation,
            At::CellCleared => state.cleared <= cell.born,
            At::CellDeadline => !(cell.expires && state.late),
            At::CellHead => state.head <= cell.head,
            At::CellHeadCleared => state.cleared <= cell.head,
            _ => state.slots[usize::from(cell.array % 2)][0] == cell.word,
        };
        let q = &mut next.reader[who];
        if !holds {
            (q.cell, q.at) = (Cell::default(), At::CellBefore);
            return Next("finds the cell stale");
        }
        let mut looks = self.looks(cell.known).iter().skip_while(|look| **look != r.at);
        if let Some(look) = looks.nth(1) {
            q.at = *look;
            return Next("finds the cell good so far");
        }
        if r.possible & 1 << cell.value == 0 {
            return Wrong("a cell's value that the key never had during the read");
        }
        q.end();
        Next("gives the cell's value")
    }
}
