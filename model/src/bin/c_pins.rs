//! C: pins against retiring and freeing; a pinner that dies, its burial, a newcomer in its slot.
//!
//! *Modelled:* PIN, the look of a freer at the marks of members that pin and at their hazard slots, and
//! what burial and ATTACH do with the pins of the dead. There is one key, and one hazard slot: that of
//! member slot 0. The first pinner
//! may die at any step; then a burier and a newcomer compete for the slot. What the two SeqCst
//! fences order is given here, since memory is sequentially consistent: loom has the fences.
//!
//! *A state* has four places for entries, the key's slot word, the head, the hazard slot, the byte of
//! the member slot, and the steps of writer, burier and two pinners.
//!
//! *Checked:* an entry that a living pinner uses is not freed, and it is the one that the pinner
//! looked at. At the end: a retired entry was freed,
//! and nobody waits.
//!
//! *Rules that can be broken:* see [`Plant`].

use membus_model::{Model, Steps, Suite};
use std::process::ExitCode;

const PLACES: usize = 5;
const NOBODY: u8 = 255;
/// How the byte of the slot names the burier; pinners are 0 and 1.
const BURIER: u8 = 2;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// The slot word is not looked at again after the announcement.
    NoSlotAgain,
    /// `born` is not looked at again after the announcement.
    NoBornAgain,
    /// The looks come before the announcement.
    LateAnnouncement,
    /// A member marks itself as one that pins after it has pinned.
    LateMark,
    /// A predecessor is pinned like any other entry, instead of being copied.
    PinsPredecessor,
    /// The burier sees that the byte is free and does not hold it.
    TestByte,
    /// Whoever takes the slot keeps the pins that it finds, and nobody buries.
    KeepsPins,
    /// The freer does not look at the hazard slots.
    BlindFree,
}

struct Pins {
    replacements: u8,
    deletes: bool,
    plant: Option<Plant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Use {
    #[default]
    Free,
    Used,
    Retired,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
struct Entry {
    usage: Use,
    born: u8,
    pred: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum WriterAt {
    #[default]
    Idle,
    Slot,
    Head,
    Empty,
    Retire,
    Scan,
    Free,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum PinnerAt {
    /// Not attached.
    #[default]
    Outside,
    ClearPins,
    ClearMark,
    Mark,
    Slot,
    Born,
    Decide,
    Announce,
    SlotAgain,
    BornAgain,
    Use,
    Withdraw,
    Dead,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
struct Pinner {
    at: PinnerAt,
    word: u8,
    born: u8,
    /// The entry to be pinned.
    pin: u8,
    /// Guards still to be taken.
    left: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum BurierAt {
    Idle,
    Clear,
    ClearMark,
    Done,
}

#[derive(Debug, Clone, Copy, Hash)]
struct State {
    entry: [Entry; PLACES],
    slot: u8,
    head: u8,
    hazard: u8,
    /// Whether the member marked itself as one that pins.
    mark: bool,
    byte: u8,
    pinner: [Pinner; 2],
    writer: WriterAt,
    new: u8,
    old: u8,
    left: u8,
    burier: BurierAt,
}

const PINNERS: [&str; 2] = ["pinner", "newcomer"];

impl Pins {
    fn breaks(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    fn write(&self, state: &State, steps: &mut Steps<State>) {
        let (mut next, new, old) = (*state, usize::from(state.new), usize::from(state.old));
        let what = match state.writer {
            WriterAt::Idle => {
                self.look_for_room(state, steps);
                return self.begin_change(state, steps);
            }
            WriterAt::Slot => {
                next.entry[new].born = state.head + 1;
                (next.slot, next.writer) = (state.new, WriterAt::Head);
                "stores `born` and the slot word"
            }
            WriterAt::Head => {
                next.head += 1;
                next.writer = if new == 0 { WriterAt::Empty } else { WriterAt::Retire };
                "stores the head"
            }
            WriterAt::Empty => {
                (next.slot, next.writer) = (0, WriterAt::Retire);
                "empties the slot"
            }
            WriterAt::Retire => {
                if old != 0 {
                    next.entry[old].usage = Use::Retired;
                }
                (next.writer, next.new, next.old) = (WriterAt::Idle, 0, 0);
                "retires the old entry"
            }
            WriterAt::Scan if state.hazard == state.new => {
                (next.writer, next.new) = (WriterAt::Idle, 0);
                "finds the entry pinned"
            }
            WriterAt::Scan => {
                next.writer = WriterAt::Free;
                "finds the entry not pinned"
            }
            WriterAt::Free => {
                let used = |p: &Pinner| p.at == PinnerAt::Use && p.pin == state.new;
                if state.pinner.iter().any(used) {
                    let why = "an entry is freed while somebody uses it";
                    return steps.wrong("writer", "frees", why, state);
                }
                next.entry[new] = Entry::default();
                (next.writer, next.new) = (WriterAt::Idle, 0);
                "frees a retired entry"
            }
        };
        steps.go("writer", what, next);
    }

    fn look_for_room(&self, state: &State, steps: &mut Steps<State>) {
        for place in 1..PLACES {
            if state.entry[place].usage == Use::Retired {
                let mut next = *state;
                let looks = state.mark && !self.breaks(Plant::BlindFree);
                next.writer = if looks { WriterAt::Scan } else { WriterAt::Free };
                next.new = place as u8;
                let what = "looks whether the member pins at all";
                // To look at what is pinned leads nowhere.
                if looks && usize::from(state.hazard) == place {
                    steps.aside("writer", what, next);
                } else {
                    steps.go("writer", what, next);
                }
            }
        }
    }

    fn begin_change(&self, state: &State, steps: &mut Steps<State>) {
        let free = (1..PLACES).find(|place| state.entry[*place].usage == Use::Free);
        if state.left == 0 {
            return;
        }
        if let Some(place) = free {
            let mut next = *state;
            next.left -= 1;
            next.entry[place] = Entry { usage: Use::Used, born: 0, pred: state.slot };
            (next.new, next.old, next.writer) = (place as u8, state.slot, WriterAt::Slot);
            steps.go("writer", "fills a new entry", next);
        }
        if self.deletes && state.slot != 0 {
            let mut next = *state;
            next.left -= 1;
            (next.new, next.old, next.writer) = (0, state.slot, WriterAt::Head);
            steps.go("writer", "decides to delete", next);
        }
    }

    fn pin(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, p) = (*state, state.pinner[who]);
        let word = state.entry[usize::from(p.word)];
        let late = self.breaks(Plant::LateAnnouncement);
        let q = &mut next.pinner[who];
        let what = match p.at {
            PinnerAt::Dead => return,
            PinnerAt::Outside if state.byte != NOBODY => return,
            PinnerAt::Outside => {
                next.byte = who as u8;
                let keeps = self.breaks(Plant::KeepsPins);
                q.at = if keeps { PinnerAt::Mark } else { PinnerAt::ClearPins };
                "takes the member slot"
            }
            PinnerAt::ClearPins => {
                (next.hazard, q.at) = (0, PinnerAt::ClearMark);
                "clears the pins that it finds"
            }
            PinnerAt::ClearMark => {
                (next.mark, q.at) = (false, PinnerAt::Mark);
                "clears the mark that it finds"
            }
            PinnerAt::Mark if p.left == 0 => return,
            PinnerAt::Mark => {
                next.mark |= !self.breaks(Plant::LateMark);
                q.at = PinnerAt::Slot;
                "marks itself as one that pins"
            }
            PinnerAt::Slot if state.slot == 0 => {
                (q.left, q.at) = (p.left - 1, PinnerAt::Mark);
                "finds no entry"
            }
            PinnerAt::Slot => {
                (q.word, q.at) = (state.slot, PinnerAt::Born);
                "loads the slot word"
            }
            PinnerAt::Born => {
                (q.born, q.at) = (word.born, PinnerAt::Decide);
                if word.born == 0 {
                    q.at = PinnerAt::Slot;
                }
                "loads `born`"
            }
            PinnerAt::Decide if p.born > state.head && !self.breaks(Plant::PinsPredecessor) => {
                *q = Pinner { at: PinnerAt::Mark, left: p.left - 1, ..Pinner::default() };
                "is content with a copy of the predecessor"
            }
            PinnerAt::Decide => {
                q.pin = if p.born > state.head { word.pred } else { p.word };
                q.at = if late { PinnerAt::SlotAgain } else { PinnerAt::Announce };
                "has found the entry"
            }
            PinnerAt::Announce => {
                next.hazard = p.pin;
                q.at = if late { PinnerAt::Use } else { PinnerAt::SlotAgain };
                "announces the entry"
            }
            _ => return self.confirm(state, who, steps),
        };
        steps.go(PINNERS[who], what, next);
        self.die(state, who, steps);
    }

    /// PIN from the announcement on, and the use of the guard.
    fn confirm(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, p) = (*state, state.pinner[who]);
        let word = state.entry[usize::from(p.word)];
        let late = self.breaks(Plant::LateAnnouncement);
        let q = &mut next.pinner[who];
        let what = match p.at {
            PinnerAt::SlotAgain => {
                let same = state.slot == p.word || self.breaks(Plant::NoSlotAgain);
                q.at = if same { PinnerAt::BornAgain } else { PinnerAt::Withdraw };
                "loads the slot word again"
            }
            PinnerAt::BornAgain => {
                let same = word.born == p.born || self.breaks(Plant::NoBornAgain);
                q.at = match (same, late) {
                    (false, _) => PinnerAt::Withdraw,
                    (true, true) => PinnerAt::Announce,
                    (true, false) => PinnerAt::Use,
                };
                next.mark |= self.breaks(Plant::LateMark);
                "loads `born` again"
            }
            PinnerAt::Use if state.entry[usize::from(p.pin)].usage == Use::Free => {
                let why = "a guard's entry is free";
                return steps.wrong(PINNERS[who], "uses its guard", why, state);
            }
            PinnerAt::Use if p.pin == p.word && word.born != p.born => {
                let why = "a guard's bytes are another entry's than was looked at";
                return steps.wrong(PINNERS[who], "uses its guard", why, state);
            }
            _ => {
                next.hazard = 0;
                let left = p.left - u8::from(p.at == PinnerAt::Use);
                *q = Pinner { at: PinnerAt::Mark, left, ..Pinner::default() };
                "withdraws its pin"
            }
        };
        steps.go(PINNERS[who], what, next);
        self.die(state, who, steps);
    }

    fn die(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        if who == 0 {
            let mut next = *state;
            next.pinner[0] = Pinner { at: PinnerAt::Dead, ..Pinner::default() };
            next.byte = NOBODY;
            steps.dies(PINNERS[0], next);
        }
    }

    fn bury(&self, state: &State, steps: &mut Steps<State>) {
        let mut next = *state;
        match state.burier {
            BurierAt::Idle
                if state.pinner[0].at == PinnerAt::Dead
                    && state.byte == NOBODY
                    && !self.breaks(Plant::KeepsPins) =>
            {
                next.burier = BurierAt::Clear;
                if !self.breaks(Plant::TestByte) {
                    next.byte = BURIER;
                }
                steps.go("burier", "finds the pinner dead", next);
            }
            BurierAt::Clear => {
                (next.hazard, next.burier) = (0, BurierAt::ClearMark);
                steps.go("burier", "clears the pins", next);
            }
            BurierAt::ClearMark => {
                (next.mark, next.burier) = (false, BurierAt::Done);
                if state.byte == BURIER {
                    next.byte = NOBODY;
                }
                steps.go("burier", "clears the mark, and gives the byte back", next);
            }
            _ => {}
        }
    }
}

impl Model for Pins {
    type State = State;

    fn begin(&self) -> Vec<State> {
        let mut entry = [Entry::default(); PLACES];
        entry[1] = Entry { usage: Use::Used, born: 1, pred: 0 };
        let pinner = |at| Pinner { at, left: 2, ..Pinner::default() };
        vec![State {
            entry,
            slot: 1,
            head: 1,
            hazard: 0,
            mark: false,
            byte: 0,
            pinner: [pinner(PinnerAt::Mark), pinner(PinnerAt::Outside)],
            writer: WriterAt::Idle,
            new: 0,
            old: 0,
            left: self.replacements,
            burier: BurierAt::Idle,
        }]
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        self.write(state, steps);
        self.bury(state, steps);
        for who in 0..2 {
            self.pin(state, who, steps);
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        let in_slot = state.entry[usize::from(state.slot)];
        if state.slot != 0 && (in_slot.usage == Use::Free || in_slot.born == 0) {
            return Err("the slot word names an entry that is free or unborn".to_owned());
        }
        Ok(())
    }

    fn end(&self, state: &State) -> Result<(), String> {
        if state.entry.iter().any(|entry| entry.usage == Use::Retired) {
            return Err("a retired entry is never freed".to_owned());
        }
        if state.byte == BURIER {
            return Err("the burier keeps the byte".to_owned());
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let mut suite = Suite::from_arguments("C: pins");
    let base = || Pins { replacements: 4, deletes: false, plant: None };
    suite.holds("4 replacements, death, burial, newcomer", 2_000_000, base());
    suite.holds("3 replacements or deletes", 2_000_000, {
        Pins { replacements: 3, deletes: true, plant: None }
    });
    suite.holds_in_full("6 replacements or deletes", {
        Pins { replacements: 6, deletes: true, plant: None }
    });
    for (name, plant) in [
        ("the slot word is not looked at again", Plant::NoSlotAgain),
        ("`born` is not looked at again", Plant::NoBornAgain),
        ("the looks come before the announcement", Plant::LateAnnouncement),
        ("a member marks itself after it has pinned", Plant::LateMark),
        ("a predecessor is pinned", Plant::PinsPredecessor),
        ("the burier tests the byte and does not hold it", Plant::TestByte),
        ("whoever takes the slot keeps its pins", Plant::KeepsPins),
        ("a freer does not look at the pins", Plant::BlindFree),
    ] {
        suite.plant(name, Pins { plant: Some(plant), ..base() });
    }
    suite.run()
}
