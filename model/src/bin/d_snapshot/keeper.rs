//! The keeper: begins a snapshot, walks the stripes, and says at the end whether it is good.

use super::{Entry, FREE, Plant, ROOM, STRIPES, Snapshot, State, places};
use membus_model::Steps;

/// Places of a stripe that are copied before they are read.
const PIECE: usize = ROOM / 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum At {
    #[default]
    Idle,
    Off,
    Id,
    Revision,
    Cleared,
    On,
    Copy,
    ReadBorn,
    ReadDied,
    ReadValue,
    LookAgain,
    Done,
    End,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
pub(super) struct Keeper {
    at: At,
    tries: u8,
    id: u8,
    revision: u8,
    cleared: u8,
    stripe: u8,
    /// Whether the first piece of the stripe was read.
    second: bool,
    /// Places of the piece that were looked at.
    looked: u8,
    /// Places of the piece that were copied and are still to be read.
    places: [u8; PIECE],
    /// Their block words.
    generations: [u8; PIECE],
    count: u8,
    /// What it has read of an entry.
    seen: Entry,
    image: [u8; STRIPES],
    taken: [u8; STRIPES],
    /// The state at its revision, for the check.
    truth: [u8; STRIPES],
}

impl Keeper {
    pub(super) fn new(tries: u8) -> Self {
        Self { tries, ..Self::default() }
    }
    /// The place that it reads.
    fn place(&self) -> usize {
        usize::from(self.places[usize::from(self.count) - 1])
    }
    pub(super) fn is_idle(&self) -> bool {
        self.at == At::Idle
    }
}

const WHO: [&str; 2] = ["keeper 1", "keeper 2"];

impl Snapshot {
    pub(super) fn keep(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        match state.keeper[who].at {
            At::Idle if state.keeper[who].tries == 0 => {}
            At::Idle | At::Off | At::Id | At::Revision | At::Cleared | At::On => {
                self.begin_snapshot(state, who, steps);
            }
            At::End => self.end_snapshot(state, who, steps),
            _ => self.walk(state, who, steps),
        }
    }

    /// SNAPSHOT 1: under the commit lock, word by word.
    fn begin_snapshot(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let mut next = *state;
        let q = &mut next.keeper[who];
        let what = match q.at {
            At::Idle if state.commit_lock != FREE => return,
            At::Idle => {
                *q = Keeper { at: At::Off, ..Keeper::new(q.tries - 1) };
                next.commit_lock = 8 + who as u8;
                "locks the commit"
            }
            At::Off => {
                (next.words.on, q.at) = (false, At::Id);
                "ends any other snapshot"
            }
            At::Id => {
                next.words.id += 1;
                (q.id, q.at) = (next.words.id, At::Revision);
                "stores the id"
            }
            At::Revision => {
                (next.words.revision, q.revision) = (state.head, state.head);
                (q.truth, q.at) = (state.truth, At::Cleared);
                "stores the revision"
            }
            At::Cleared => {
                (next.words.cleared, q.cleared, q.at) = (state.cleared, state.cleared, At::On);
                "stores the clear that counts"
            }
            _ => {
                (next.words.on, q.at, next.commit_lock) = (true, At::Copy, FREE);
                "says that the snapshot runs, and unlocks the commit"
            }
        };
        steps.go(WHO[who], what, next);
    }

    /// SNAPSHOT 2, stripe by stripe.
    fn walk(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, k) = (*state, state.keeper[who]);
        let stripe = usize::from(k.stripe);
        let early = self.breaks(Plant::DoneWhenCopied) && k.second
            || self.breaks(Plant::DoneByPiece) && !k.second;
        let q = &mut next.keeper[who];
        let what = match k.at {
            At::Copy => {
                self.copy_place(state, stripe, q);
                if usize::from(q.looked) == PIECE {
                    (q.looked, q.at) = (0, At::ReadBorn);
                    if early {
                        next.done[stripe] = k.id;
                    }
                }
                "looks whether a place is occupied"
            }
            At::ReadBorn if k.count == 0 && !k.second => {
                (q.second, q.at) = (true, At::Copy);
                "has read the stripe's first piece"
            }
            At::ReadBorn if k.count == 0 => {
                q.at = At::Done;
                "has read the stripe"
            }
            At::ReadBorn => {
                (q.seen.born, q.at) = (state.entry[k.place()].born, At::ReadDied);
                "reads `born`"
            }
            At::ReadDied => {
                (q.seen.died, q.at) = (state.entry[k.place()].died, At::ReadValue);
                "reads `died`"
            }
            At::ReadValue => {
                (q.seen.value, q.at) = (state.entry[k.place()].value, At::LookAgain);
                "reads the value"
            }
            At::LookAgain => {
                let last = usize::from(k.count) - 1;
                let same = state.entry[k.place()].born == k.seen.born;
                let uncut = state.generation[k.place()] == k.generations[last];
                let same = same || self.breaks(Plant::NoSecondLook);
                if self.takes(&k) && same && (uncut || self.breaks(Plant::NoBlockWord)) {
                    q.image[stripe] = k.seen.value;
                    q.taken[stripe] += 1;
                }
                (q.count, q.places[last], q.seen) = (k.count - 1, 0, Entry::default());
                q.generations[last] = 0;
                q.at = At::ReadBorn;
                "reads `born` and the block word again"
            }
            _ => {
                next.done[stripe] = k.id;
                (q.stripe, q.second) = (k.stripe + 1, false);
                q.at = if stripe + 1 == STRIPES { At::End } else { At::Copy };
                "says that the stripe is done"
            }
        };
        steps.go(WHO[who], what, next);
    }

    /// Looks at the piece's next place. No lock is held.
    fn copy_place(&self, state: &State, stripe: usize, keeper: &mut Keeper) {
        let first = if keeper.second { PIECE } else { 0 };
        let place = places(stripe).start + first + usize::from(keeper.looked);
        keeper.looked += 1;
        let named = state.slot[stripe] == place as u8 || !self.breaks(Plant::SlotWordsOnly);
        if state.entry[place].occupied && named {
            keeper.places[usize::from(keeper.count)] = place as u8;
            keeper.generations[usize::from(keeper.count)] = state.generation[place];
            keeper.count += 1;
        }
    }

    fn takes(&self, keeper: &Keeper) -> bool {
        let mut header = keeper.seen;
        if self.breaks(Plant::TakesDead) {
            header.died = 0;
        }
        let cleared = if self.breaks(Plant::TakesCleared) { 0 } else { keeper.cleared };
        header.born != 0 && header.was_there(keeper.revision, cleared)
    }

    /// SNAPSHOT 3.
    fn end_snapshot(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, k) = (*state, state.keeper[who]);
        next.keeper[who] = Keeper::new(k.tries);
        let still_on = state.words.on && state.words.id == k.id;
        if !still_on && !self.breaks(Plant::NoIdAtEnd) {
            return steps.go(WHO[who], "throws its image away", next);
        }
        if k.taken.iter().any(|count| *count > 1) {
            let why = "an image has a key twice";
            return steps.wrong(WHO[who], "calls its image good", why, state);
        }
        if k.image != k.truth {
            let why = "an image is not the state at its revision";
            return steps.wrong(WHO[who], "calls its image good", why, state);
        }
        next.words.on = false;
        steps.go(WHO[who], "calls its image good and ends the snapshot", next);
    }
}
