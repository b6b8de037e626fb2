//! Deadlines: absent at once, logged later, by the keeper or by whoever overwrites.
//!
//! *Checked:* a lookup gives what the key was at one moment of the call, time counted; the log is a
//! history (what has expired ends by a record before the key is set again, nothing else ends so); the
//! stripe's earliest deadline is never later than that of an entry; a condition holds when its writer
//! has the commit lock. At the end, whatever has expired was logged.

use membus_model::{Model, Steps, Suite};

const ENTRIES: usize = 7;
/// The last moment of the clock. A deadline lies one moment ahead.
const CLOCK: u8 = 3;
const NONE: u8 = 0;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// A reader does not compare the deadline.
    ReaderBlind,
    /// A set over an expired entry logs no end of it.
    SilentOverwrite,
    /// The keeper ends what it saw before, without another look under the lock.
    KeeperHasty,
    /// The stripe's earliest deadline is lowered after the commit, and repair does not reset it.
    NotesLate,
    /// The keeper raises it before what is due was ended.
    RaisesEarly,
    /// A condition sees an expired entry as there.
    ConditionBlind,
    /// The clock is read once, before the wait for the commit lock, as the code stood.
    DecidesOnce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Op {
    Set,
    SetExpiring,
    SetIfAbsent,
    /// Sets when the entry is the one that was there first.
    SetIfFirst,
}

struct Deadline {
    ops: u8,
    allowed: &'static [Op],
    deaths: u8,
    reads: u8,
    plant: Option<Plant>,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
struct Entry {
    born: u8,
    died: u8,
    pred: u8,
    /// 0: it does not expire.
    deadline: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum At {
    #[default]
    Idle,
    Decide,
    Note,
    WantCommit,
    LookAgain,
    Ready,
    // FINISH
    Died,
    Born,
    Head,
    After,
    NoteLate,
    Unlock,
    // The keeper's look.
    LookLock,
    Collect,
    Expire,
}

/// The writer or the keeper.
#[derive(Debug, Clone, Copy, Hash, Default)]
struct Changer {
    at: At,
    op: Option<Op>,
    /// The new entry and the one that it replaces.
    new: u8,
    old: u8,
    /// Whether the old one had expired, and whether its end is logged.
    expired: bool,
    ends: bool,
    /// Whether it finishes what a dead one committed.
    heir: bool,
    /// What the keeper found due.
    due: u8,
    left: u8,
    /// The clock when it got the commit lock, for the check.
    locked_at: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum ReaderAt {
    #[default]
    Idle,
    Slot,
    Entry,
    Clock,
    Again,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
struct Reader {
    at: ReaderAt,
    word: u8,
    entry: u8,
    answer: u8,
    possible: u16,
    left: u8,
}

#[derive(Debug, Clone, Copy, Hash)]
struct State {
    entry: [Entry; ENTRIES],
    entries: u8,
    slot: u8,
    head: u8,
    clock: u8,
    /// The stripe's earliest deadline; 0: none.
    earliest: u8,
    /// Who has the stripe's lock: 0 nobody, 1 the writer, 2 the keeper.
    lock: u8,
    /// Whether some other stripe's writer has the commit lock.
    commit_busy: bool,
    writer: Changer,
    keeper: Changer,
    reader: Reader,
    deaths: u8,
    truth: u8,
}

const FIRST: u8 = 1;
const WHO: [&str; 2] = ["writer", "keeper"];

impl Deadline {
    fn breaks(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// What a lookup must give now.
    fn truth(state: &State) -> u8 {
        let word = usize::from(state.slot);
        let mut shown = state.slot;
        if word != 0 && state.entry[word].born > state.head {
            shown = state.entry[word].pred;
        }
        let entry = &state.entry[usize::from(shown)];
        let gone = (1..=state.head).contains(&entry.died) || state.has_expired(shown);
        if gone { NONE } else { shown }
    }

    fn note(state: &mut State) {
        state.truth = Self::truth(state);
        if state.reader.at != ReaderAt::Idle {
            state.reader.possible |= 1 << state.truth;
        }
    }

    fn tick(&self, state: &State, steps: &mut Steps<State>) {
        if state.clock < CLOCK {
            let mut next = *state;
            next.clock += 1;
            Self::note(&mut next);
            steps.go("clock", "ticks", next);
        }
        let mut next = *state;
        next.commit_busy = !state.commit_busy;
        if state.commit_busy {
            steps.go("another writer", "unlocks the commit", next);
        } else if state.writer.at == At::Note {
            steps.go("another writer", "locks the commit", next);
        }
    }

    fn write(&self, state: &State, steps: &mut Steps<State>) {
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

    fn keep(&self, state: &State, steps: &mut Steps<State>) {
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
        let (mut q, first) = (c, state.head + 1);
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

    fn read(&self, state: &State, steps: &mut Steps<State>) {
        let (mut next, r) = (*state, state.reader);
        let word = state.entry[usize::from(r.word)];
        let q = &mut next.reader;
        let what = match r.at {
            ReaderAt::Idle if r.left == 0 => return,
            ReaderAt::Idle => {
                (q.possible, q.at) = (1 << state.truth, ReaderAt::Slot);
                "begins a lookup"
            }
            ReaderAt::Slot => {
                (q.word, q.at) = (state.slot, ReaderAt::Entry);
                "loads the slot word"
            }
            ReaderAt::Entry => {
                q.entry = if word.born > state.head { word.pred } else { r.word };
                q.answer = q.entry;
                if q.entry == r.word && (1..=state.head).contains(&word.died) {
                    q.answer = NONE;
                }
                q.at = ReaderAt::Clock;
                "looks at the entry and the head"
            }
            ReaderAt::Clock => {
                if state.has_expired(r.entry) && !self.breaks(Plant::ReaderBlind) {
                    q.answer = NONE;
                }
                q.at = ReaderAt::Again;
                "compares the deadline with the clock"
            }
            ReaderAt::Again => {
                let moved = r.entry != r.word && state.head >= word.born;
                if state.slot != r.word || moved {
                    let Reader { possible, left, .. } = r;
                    *q = Reader { at: ReaderAt::Slot, possible, left, ..Reader::default() };
                    return steps.go("reader", "begins again", next);
                }
                if r.possible & 1 << r.answer == 0 {
                    let why = "what the key never was during the lookup";
                    return steps.wrong("reader", "answers", why, state);
                }
                *q = Reader { left: r.left - 1, ..Reader::default() };
                "answers"
            }
        };
        steps.go("reader", what, next);
    }
}

impl State {
    fn has_expired(&self, entry: u8) -> bool {
        (1..=self.clock).contains(&self.entry[usize::from(entry)].deadline)
    }

    fn note_deadline(&mut self, deadline: u8) {
        if deadline != 0 && (self.earliest == 0 || deadline < self.earliest) {
            self.earliest = deadline;
        }
    }

    fn changer(&mut self, who: usize) -> &mut Changer {
        if who == 0 { &mut self.writer } else { &mut self.keeper }
    }
}

impl Model for Deadline {
    type State = State;

    fn begin(&self) -> Vec<State> {
        let mut entry = [Entry::default(); ENTRIES];
        entry[1] = Entry { born: 1, died: 0, pred: 0, deadline: 1 };
        vec![State {
            entry,
            entries: 1,
            slot: FIRST,
            head: 1,
            clock: 0,
            earliest: 1,
            lock: 0,
            commit_busy: false,
            writer: Changer { left: self.ops, ..Changer::default() },
            keeper: Changer::default(),
            reader: Reader { left: self.reads, ..Reader::default() },
            deaths: 0,
            truth: FIRST,
        }]
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        self.tick(state, steps);
        self.write(state, steps);
        self.keep(state, steps);
        self.read(state, steps);
    }

    fn check(&self, state: &State) -> Result<(), String> {
        let deadline = state.entry[usize::from(state.slot)].deadline;
        let noted = state.earliest != 0 && state.earliest <= deadline;
        if state.lock == 0 && deadline != 0 && !noted {
            return Err("the earliest deadline is later than an entry's".to_owned());
        }
        Ok(())
    }

    fn end(&self, state: &State) -> Result<(), String> {
        if state.slot != 0 && state.has_expired(state.slot) {
            return Err("an expired entry is never logged".to_owned());
        }
        Ok(())
    }
}

const ALL: &[Op] = &[Op::Set, Op::SetExpiring, Op::SetIfAbsent, Op::SetIfFirst];

pub(super) fn cases(suite: &mut Suite<'_>) {
    let base = |ops, deaths| Deadline { ops, allowed: ALL, deaths, reads: 2, plant: None };
    suite.holds("deadline: 2 changes, 1 death, 2 lookups", 1_500_000, base(2, 1));
    suite.holds_in_full("deadline: 3 changes, 1 death, 2 lookups", base(3, 1));
    suite.holds_in_full("deadline: 2 changes, 2 deaths, 2 lookups", base(2, 2));
    for (name, plant) in [
        ("deadline: a reader does not compare it", Plant::ReaderBlind),
        ("deadline: an overwrite logs no end", Plant::SilentOverwrite),
        ("deadline: the keeper ends what it saw before", Plant::KeeperHasty),
        ("deadline: noted after the commit", Plant::NotesLate),
        ("deadline: raised before what is due was ended", Plant::RaisesEarly),
        ("deadline: a condition sees what has expired", Plant::ConditionBlind),
        ("as the code stood: the clock is read once", Plant::DecidesOnce),
    ] {
        suite.plant(name, Deadline { plant: Some(plant), ..base(2, 1) });
    }
}
