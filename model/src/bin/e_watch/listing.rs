//! Listing and following: all entries, then every later change.

use membus_model::{Model, Steps, Suite};

const KEYS: usize = 2;
/// Revision of the last change before the model begins.
const FIRST: u8 = 2;
const RECORDS: usize = 8;
/// Steps within which a listing has to end when nobody else moves.
const ALONE: usize = 24;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// The log is followed from the head after the listing.
    FollowsFromEnd,
    /// Records of what was listed are not dropped.
    DropsNothing,
    /// Single changes are visible before the head.
    EarlySingles,
    /// A clear during the listing is not minded.
    NoSecondListing,
    /// The head counts without the last clear, which shows before it: as the code stood.
    HeadAlone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Change {
    Set0,
    Set1,
    Delete0,
    Clear,
    /// Sets both keys.
    Batch,
}

/// What a log record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Record {
    #[default]
    None,
    Set(u8),
    Delete(u8),
    Clear,
}

/// The revision of each key's entry; 0: absent.
type Table = [u8; KEYS];

struct Listing {
    changes: u8,
    allowed: &'static [Change],
    plant: Option<Plant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum At {
    #[default]
    Before,
    BeforeClear,
    List(u8),
    After,
    AfterClear,
    LastClear,
    Follow,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
struct Watch {
    at: At,
    before: u8,
    after: u8,
    cursor: u8,
    listed: Table,
    view: Table,
}

#[derive(Debug, Clone, Copy, Hash)]
struct State {
    /// What a lookup gives.
    table: Table,
    head: u8,
    cleared: u8,
    log: [Record; RECORDS],
    /// The change that is committed but not yet at the head.
    pending: Option<Change>,
    left: u8,
    watch: Watch,
}

fn apply(table: &mut Table, record: Record, revision: u8) {
    match record {
        Record::Set(key) => table[usize::from(key)] = revision,
        Record::Delete(key) => table[usize::from(key)] = 0,
        Record::Clear => *table = [0; KEYS],
        Record::None => {}
    }
}

impl Change {
    fn records(self) -> &'static [Record] {
        match self {
            Self::Set0 => &[Record::Set(0)],
            Self::Set1 => &[Record::Set(1)],
            Self::Delete0 => &[Record::Delete(0)],
            Self::Clear => &[Record::Clear],
            Self::Batch => &[Record::Set(0), Record::Set(1)],
        }
    }
}

impl State {
    fn record(&self, revision: u8) -> Record {
        self.log[usize::from(revision - FIRST - 1)]
    }

    fn make_visible(&mut self, change: Change) {
        for (index, record) in change.records().iter().enumerate() {
            apply(&mut self.table, *record, self.head + 1 + index as u8);
        }
    }
}

impl Listing {
    fn breaks(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// A change is two steps: what it stores before the head, and the head.
    fn write(&self, state: &State, steps: &mut Steps<State>) {
        if let Some(change) = state.pending {
            let mut next = *state;
            next.make_visible(change);
            next.head += change.records().len() as u8;
            next.pending = None;
            return steps.go("writer", "stores the head", next);
        }
        for change in self.allowed.iter().filter(|_| state.left > 0) {
            if *change == Change::Delete0 && state.table[0] == 0 {
                continue;
            }
            let mut next = *state;
            (next.pending, next.left) = (Some(*change), state.left - 1);
            for (index, record) in change.records().iter().enumerate() {
                next.log[usize::from(state.head - FIRST) + index] = *record;
            }
            if *change == Change::Clear {
                next.cleared = state.head + 1;
                next.make_visible(*change);
            } else if self.breaks(Plant::EarlySingles) && *change != Change::Batch {
                next.make_visible(*change);
            }
            steps.go("writer", "commits; a clear shows already", next);
        }
    }

    fn watch(&self, state: &State) -> Option<(&'static str, State)> {
        let mut next = *state;
        let q = &mut next.watch;
        let what = match q.at {
            At::Before => {
                (q.before, q.at) = (state.head, At::BeforeClear);
                "loads the head before listing"
            }
            At::BeforeClear => {
                (q.before, q.at) = (self.visible(q.before, state), At::List(0));
                "loads `cleared_at`: the higher of the two is visible"
            }
            At::List(key) => {
                q.listed[usize::from(key)] = state.table[usize::from(key)];
                let last = usize::from(key) + 1 == KEYS;
                q.at = if last { At::After } else { At::List(key + 1) };
                "looks a key up"
            }
            At::After => {
                (q.after, q.at) = (state.head, At::AfterClear);
                "loads the head after listing"
            }
            At::AfterClear => {
                (q.after, q.at) = (self.visible(q.after, state), At::LastClear);
                "loads `cleared_at`: the higher of the two is visible"
            }
            At::LastClear => {
                if self.lists_again(state) {
                    *q = Watch::default();
                    return Some(("lists again", next));
                }
                q.cursor = if self.breaks(Plant::FollowsFromEnd) { q.after } else { q.before };
                (q.view, q.at) = (q.listed, At::Follow);
                "begins to follow"
            }
            At::Follow if q.cursor == self.visible(state.head, state) => return None,
            At::Follow => {
                let (revision, mut dropped) = (q.cursor + 1, false);
                if let Record::Set(key) | Record::Delete(key) = state.record(revision) {
                    let listed = q.listed[usize::from(key)];
                    dropped = listed != 0 && revision <= listed && revision <= q.after;
                }
                q.cursor = revision;
                if !dropped || self.breaks(Plant::DropsNothing) {
                    apply(&mut q.view, state.record(revision), revision);
                }
                "follows a record"
            }
        };
        Some((what, next))
    }

    /// The visible head: a clear shows at its store, which the head follows.
    fn visible(&self, head: u8, state: &State) -> u8 {
        if self.breaks(Plant::HeadAlone) { head } else { head.max(state.cleared) }
    }

    /// Whether a clear came after the first head: its record would wipe out what was listed after it.
    fn lists_again(&self, state: &State) -> bool {
        !self.breaks(Plant::NoSecondListing) && state.cleared > state.watch.before
    }

    /// Whether the next record tells again what was listed.
    fn tells_twice(&self, state: &State) -> bool {
        let w = &state.watch;
        if w.at != At::Follow || w.cursor == self.visible(state.head, state) {
            return false;
        }
        let told_now = |key: u8| {
            let listed = w.listed[usize::from(key)];
            let dropped = w.cursor < w.after && !self.breaks(Plant::DropsNothing);
            listed == w.cursor + 1 && !dropped
        };
        matches!(state.record(w.cursor + 1), Record::Set(key) if told_now(key))
    }
}

impl Model for Listing {
    type State = State;

    fn begin(&self) -> Vec<State> {
        vec![State {
            table: [1, 2],
            head: FIRST,
            cleared: 0,
            log: [Record::None; RECORDS],
            pending: None,
            left: self.changes,
            watch: Watch::default(),
        }]
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        self.write(state, steps);
        if let Some((what, next)) = self.watch(state) {
            if self.tells_twice(state) {
                let why = "a change that was listed is told again";
                return steps.wrong("watch", what, why, state);
            }
            steps.go("watch", what, next);
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        let w = &state.watch;
        if w.at == At::Follow && w.cursor >= w.after {
            let mut table = [1, 2];
            for revision in FIRST + 1..=w.cursor {
                apply(&mut table, state.record(revision), revision);
            }
            if w.view != table {
                return Err("what was told is not the bus at the watch's cursor".to_owned());
            }
        }
        let mut alone = *state;
        for _ in 0..ALONE {
            match self.watch(&alone) {
                Some((_, next)) => alone = next,
                None => return Ok(()),
            }
        }
        Err("a writer that stands still keeps a watch from its listing's end".to_owned())
    }

    fn end(&self, state: &State) -> Result<(), String> {
        if state.watch.view != state.table {
            return Err("the watch ends with another state than the bus".to_owned());
        }
        Ok(())
    }
}

const ALL: &[Change] = &[Change::Set0, Change::Set1, Change::Delete0, Change::Clear, Change::Batch];

pub(super) fn cases(suite: &mut Suite<'_>) {
    let base = || Listing { changes: 3, allowed: ALL, plant: None };
    suite.holds("listing: 3 changes", 2_000_000, base());
    suite.holds_in_full("listing: 4 changes", Listing { changes: 4, ..base() });
    for (name, plant) in [
        ("listing: follows from the head after it", Plant::FollowsFromEnd),
        ("listing: drops no record", Plant::DropsNothing),
        ("listing: single changes show before the head", Plant::EarlySingles),
        ("listing: a clear meanwhile is not minded", Plant::NoSecondListing),
        ("as the code stood: a clear shows before the visible head", Plant::HeadAlone),
    ] {
        suite.plant(name, Listing { plant: Some(plant), ..base() });
    }
}
