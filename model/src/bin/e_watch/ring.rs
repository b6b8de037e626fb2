//! The ring of log records: old bytes are overwritten under readers, also by writers that die.

use membus_model::{Model, Steps, Suite};

/// Records that the ring holds.
const RING: u8 = 4;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// The intent is where this writer's records end, even when it was further already.
    IntentGoesBack,
    /// The intent is raised after the records were written.
    LateIntent,
    /// A reader does not look at the intent after its copy.
    NoLookAtIntent,
}

struct Ring {
    commits: u8,
    deaths: u8,
    plant: Option<Plant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum WriterAt {
    #[default]
    Idle,
    Intend,
    Write,
    Head,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum ReaderAt {
    #[default]
    Idle,
    CopyFirst,
    CopySecond,
    Judge,
}

#[derive(Debug, Clone, Copy, Hash)]
struct State {
    /// A record is two words, each with the number of its commit; positions count from 0.
    cell: [[u8; 2]; RING as usize],
    intent: u8,
    head: u8,
    /// What the next writer writes in its records: a dead one's are told apart.
    mark: u8,
    writer: WriterAt,
    count: u8,
    /// Words written so far.
    words: u8,
    left: u8,
    deaths: u8,
    /// The records as committed, by position.
    truth: [u8; 16],
    reader: ReaderAt,
    wanted: u8,
    copy: [u8; 2],
}

impl Ring {
    fn breaks(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    fn write(&self, state: &State, steps: &mut Steps<State>) {
        let mut next = *state;
        let late = self.breaks(Plant::LateIntent);
        let what = match state.writer {
            WriterAt::Idle => {
                for count in (1..=2).filter(|_| state.left > 0) {
                    let mut next = *state;
                    (next.left, next.count, next.words) = (state.left - 1, count, 0);
                    next.mark += 1;
                    next.writer = if late { WriterAt::Write } else { WriterAt::Intend };
                    steps.go("writer", "locks the commit", next);
                }
                return;
            }
            WriterAt::Intend => {
                let end = state.head + state.count;
                let back = self.breaks(Plant::IntentGoesBack);
                next.intent = if back { end } else { state.intent.max(end) };
                next.writer = if late { WriterAt::Head } else { WriterAt::Write };
                "raises the intent"
            }
            WriterAt::Write if state.words < 2 * state.count => {
                let position = usize::from((state.head + state.words / 2) % RING);
                next.cell[position][usize::from(state.words % 2)] = state.mark;
                next.words += 1;
                "writes a word of a record"
            }
            WriterAt::Write => {
                next.writer = if late { WriterAt::Intend } else { WriterAt::Head };
                "has written its records"
            }
            WriterAt::Head => {
                for position in state.head..state.head + state.count {
                    next.truth[usize::from(position)] = state.mark;
                }
                next.head += state.count;
                (next.writer, next.count, next.words) = (WriterAt::Idle, 0, 0);
                "stores the head"
            }
        };
        steps.go("writer", what, next);
        if state.deaths < self.deaths {
            let mut next = *state;
            next.deaths += 1;
            (next.writer, next.count, next.words) = (WriterAt::Idle, 0, 0);
            steps.aside("writer", "dies, and another one comes", next);
        }
    }

    fn read(&self, state: &State, steps: &mut Steps<State>) {
        let mut next = *state;
        let cell = state.cell[usize::from(state.wanted % RING)];
        let what = match state.reader {
            ReaderAt::Idle => {
                for position in state.head.saturating_sub(RING)..state.head {
                    let mut next = *state;
                    (next.wanted, next.reader) = (position, ReaderAt::CopyFirst);
                    steps.go("reader", "wants a record", next);
                }
                return;
            }
            ReaderAt::CopyFirst => {
                (next.copy[0], next.reader) = (cell[0], ReaderAt::CopySecond);
                "copies the first word"
            }
            ReaderAt::CopySecond => {
                (next.copy[1], next.reader) = (cell[1], ReaderAt::Judge);
                "copies the second word"
            }
            ReaderAt::Judge => {
                let good = state.intent <= state.wanted + RING;
                let believed = good || self.breaks(Plant::NoLookAtIntent);
                if believed && state.copy != [state.truth[usize::from(state.wanted)]; 2] {
                    let why = "a record that was overwritten is believed";
                    return steps.wrong("reader", "looks at the intent", why, state);
                }
                (next.reader, next.wanted, next.copy) = (ReaderAt::Idle, 0, [0; 2]);
                "looks at the intent"
            }
        };
        steps.go("reader", what, next);
    }
}

impl Model for Ring {
    type State = State;

    fn begin(&self) -> Vec<State> {
        let mut truth = [0; 16];
        truth[..4].copy_from_slice(&[1, 1, 1, 1]);
        vec![State {
            cell: [[1; 2]; RING as usize],
            intent: RING,
            head: RING,
            mark: 1,
            writer: WriterAt::Idle,
            count: 0,
            words: 0,
            left: self.commits,
            deaths: 0,
            truth,
            reader: ReaderAt::Idle,
            wanted: 0,
            copy: [0; 2],
        }]
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        self.write(state, steps);
        self.read(state, steps);
    }

    fn check(&self, state: &State) -> Result<(), String> {
        if state.intent < state.head && state.writer == WriterAt::Idle {
            return Err("the intent lies behind the head".to_owned());
        }
        Ok(())
    }

    fn end(&self, _: &State) -> Result<(), String> {
        Ok(())
    }
}

pub(super) fn cases(suite: &mut Suite<'_>) {
    let base = |commits, deaths| Ring { commits, deaths, plant: None };
    suite.holds("ring: 4 commits, 2 deaths", 2_000_000, base(4, 2));
    suite.holds_in_full("ring: 6 commits, 3 deaths", base(6, 3));
    for (name, plant) in [
        ("ring: the intent goes back", Plant::IntentGoesBack),
        ("ring: the intent is raised after the writing", Plant::LateIntent),
        ("ring: a reader does not look at the intent", Plant::NoLookAtIntent),
    ] {
        suite.plant(name, Ring { plant: Some(plant), ..base(4, 2) });
    }
}
