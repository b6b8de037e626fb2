//! Deadlines: absent at once, logged later, by the keeper or by whoever overwrites.
//!
//! *Checked:* a lookup gives what the key was at one moment of the call, time counted; the log is a
//! history (what has expired ends by a record before the key is set again, nothing else ends so); the
//! stripe's earliest deadline is never later than that of an entry; a condition holds when its writer
//! has the commit lock. At the end, whatever has expired was logged.

use membus_model::{Model, Steps, Suite};

#[path = "changer.rs"]
mod changer;

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
    suite.holds("deadline: 2 changes, 1 death, 2 lookups", 5_000_000, base(2, 1));
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
