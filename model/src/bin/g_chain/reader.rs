//! A lookup along a chain, and a scan over all of them.

use super::{ALONE, Chain, KEYS, LINES, MAINS, Plant, State, main_of, tag_of};
use membus_model::Steps;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum At {
    #[default]
    Idle,
    Array,
    Slot,
    Look,
    SlotAgain,
    ArrayAgain,
    Link,
    End,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
pub(super) struct Lookup {
    at: At,
    pub(super) reads: u8,
    array: u8,
    line: u8,
    /// Lines that it has walked.
    walked: u8,
    word: u8,
    /// The answer of the entry in hand: its number or 0 for absent; `None`: another key's.
    answer: Option<u8>,
    /// What the key was since the lookup began, a bit for each entry.
    pub(super) possible: u16,
}

impl Lookup {
    pub(super) fn is_reading(&self) -> bool {
        self.at != At::Idle
    }
    fn again(&mut self) {
        let Self { reads, possible, .. } = *self;
        *self = Self { at: At::Array, reads, possible, ..Self::default() };
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum ScanAt {
    #[default]
    Idle,
    Array,
    Slot,
    Link,
    End,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
pub(super) struct Scan {
    at: ScanAt,
    left: u8,
    array: u8,
    main: u8,
    line: u8,
    walked: u8,
    /// Keys met, and keys that were there throughout, a bit each.
    met: u8,
    pub(super) throughout: u8,
}

impl Scan {
    pub(super) fn new(left: u8) -> Self {
        Self { left, ..Self::default() }
    }
}

/// What a step came to.
enum End {
    Next(&'static str),
    Wrong(&'static str),
    Nothing,
}
use End::{Next, Nothing, Wrong};

impl Chain {
    pub(super) fn look_up(&self, state: &State, steps: &mut Steps<State>) {
        let mut next = *state;
        match self.lookup_step(state, &mut next) {
            Next(what) => steps.go("reader", what, next),
            Wrong(why) => steps.wrong("reader", "answers", why, state),
            Nothing => {}
        }
    }

    pub(super) fn go_over(&self, state: &State, steps: &mut Steps<State>) {
        let mut next = *state;
        match self.scan_step(state, &mut next) {
            Next(what) => steps.go("scan", what, next),
            Wrong(why) => steps.wrong("scan", "ends", why, state),
            Nothing => {}
        }
    }

    /// Whether the readers come to their ends while the writer stands still.
    pub(super) fn ends_alone(&self, state: &State) -> Result<(), String> {
        let mut alone = *state;
        if state.lookup.at != At::Array && state.scan.at != ScanAt::Array {
            return Ok(());
        }
        for _ in 0..ALONE {
            let (before, mut next) = (alone, alone);
            let looks = self.lookup_step(&before, &mut next);
            alone = next;
            let goes_over = self.scan_step(&alone.clone(), &mut alone);
            if matches!((looks, goes_over), (Nothing | Wrong(_), Nothing | Wrong(_))) {
                return Ok(());
            }
        }
        Err("a writer that stands still keeps a reader from its end".to_owned())
    }

    fn lookup_step(&self, state: &State, next: &mut State) -> End {
        let r = state.lookup;
        let Some(key) = self.script.get(usize::from(r.reads)).copied() else { return Nothing };
        let bucket = state.array[usize::from(r.array)].bucket[usize::from(r.line)];
        let same_array = state.current == r.array;
        let q = &mut next.lookup;
        match r.at {
            At::Idle => {
                (q.at, q.possible) = (At::Array, 1 << state.truth[key]);
                Next("begins a lookup")
            }
            At::Array => {
                (q.array, q.at) = (state.current, At::Slot);
                q.line = main_of(key, usize::from(state.current)) as u8;
                Next("loads the array word")
            }
            At::Slot => {
                q.word = bucket.word;
                let entry = usize::from(state.entry[usize::from(bucket.word)].key);
                let matches = bucket.word != 0 && tag_of(entry) == tag_of(key);
                q.at = if matches { At::Look } else { At::Link };
                if bucket.word == 0 && self.breaks(Plant::StopsAtHole) {
                    q.at = At::End;
                }
                Next("loads a slot word")
            }
            At::Look => {
                q.answer = state.seen(r.word, key);
                q.at = At::SlotAgain;
                Next("looks at the entry")
            }
            At::SlotAgain if bucket.word != r.word => {
                q.again();
                Next("finds another slot word")
            }
            At::SlotAgain => {
                q.at = At::ArrayAgain;
                Next("loads the slot word again")
            }
            At::ArrayAgain if !same_array && !self.breaks(Plant::NoArrayOnHit) => {
                q.again();
                Next("finds another array word")
            }
            At::ArrayAgain => match r.answer {
                Some(answer) => self.answer(state, answer, next),
                None => {
                    q.at = At::Link;
                    Next("it is another key's entry")
                }
            },
            At::Link => {
                (q.line, q.walked, q.at) = (bucket.link, r.walked + 1, At::Slot);
                (q.word, q.answer) = (0, None);
                if bucket.link == 0 || usize::from(q.walked) > LINES {
                    (q.line, q.at) = (0, At::End);
                }
                Next("loads the link")
            }
            At::End if !same_array && !self.breaks(Plant::NoArrayOnMiss) => {
                q.again();
                Next("finds another array word")
            }
            At::End if usize::from(r.walked) > LINES => Wrong("a chain that does not end"),
            At::End => self.answer(state, 0, next),
        }
    }

    fn answer(&self, state: &State, answer: u8, next: &mut State) -> End {
        if state.lookup.possible & 1 << answer == 0 {
            return Wrong("what the key never was during the lookup");
        }
        next.lookup = Lookup { reads: state.lookup.reads + 1, ..Lookup::default() };
        Next("answers")
    }

    fn scan_step(&self, state: &State, next: &mut State) -> End {
        let s = state.scan;
        let bucket = state.array[usize::from(s.array)].bucket[usize::from(s.line)];
        let q = &mut next.scan;
        match s.at {
            ScanAt::Idle if s.left == 0 => Nothing,
            ScanAt::Idle => {
                *q = Scan { at: ScanAt::Array, ..Scan::new(s.left - 1) };
                for key in (0..KEYS).filter(|key| state.truth[*key] != 0) {
                    q.throughout |= 1 << key;
                }
                Next("begins")
            }
            ScanAt::Array => {
                (q.array, q.main, q.line, q.walked) = (state.current, 0, 0, 0);
                q.at = ScanAt::Slot;
                Next("loads the array word")
            }
            ScanAt::Slot => {
                if bucket.word != 0 {
                    q.met |= 1 << state.entry[usize::from(bucket.word)].key;
                }
                q.at = ScanAt::Link;
                Next("meets a slot word")
            }
            ScanAt::Link => {
                (q.line, q.walked, q.at) = (bucket.link, s.walked + 1, ScanAt::Slot);
                if bucket.link == 0 || usize::from(q.walked) > LINES {
                    (q.main, q.line, q.walked) = (s.main + 1, s.main + 1, 0);
                    if usize::from(q.main) == MAINS[usize::from(s.array)] {
                        (q.at, q.main, q.line) = (ScanAt::End, 0, 0);
                    }
                }
                Next("loads the link")
            }
            ScanAt::End if state.current != s.array && !self.breaks(Plant::NoArrayInScan) => {
                q.at = ScanAt::Array;
                Next("finds another array word")
            }
            ScanAt::End if s.throughout & !s.met != 0 => {
                Wrong("a key that was there throughout was not met")
            }
            ScanAt::End => {
                *q = Scan::new(s.left);
                Next("ends")
            }
        }
    }
}

impl State {
    /// What an entry is for a key: another key's, absent, or there (its predecessor, when it is not
    /// visible yet).
    fn seen(&self, word: u8, key: usize) -> Option<u8> {
        let entry = &self.entry[usize::from(word)];
        if usize::from(entry.key) != key {
            return None;
        }
        if entry.born > self.head || entry.born == 0 {
            return Some(entry.pred);
        }
        Some(if (1..=self.head).contains(&entry.died) { 0 } else { word })
    }
}
