//! The heap of a stripe under its lock: dead entries become spare or free, room is taken, REPAIR.
//!
//! An entry whose occupied bit is not set is free. One whose bit is set is unborn, alive, or dead: its
//! own words say which. The ring of the lately dead and the list of spares are hints.

use super::{At, Commit, List, NAMES, PINNED, Plant, SPARES, STRIPE_PLACES, State, bit};
use membus_model::Steps;

impl State {
    fn named(&self) -> u16 {
        self.slot_word.iter().fold(0, |all, place| all | bit(*place)) & !bit(0)
    }

    /// Places of a stripe whose entries are dead.
    fn dead(&self, stripe: usize) -> u16 {
        let dead = |place: &u8| {
            let place = usize::from(*place);
            self.born[place] != 0 && self.died[place] != 0
        };
        let all = (1..super::PLACES as u8).filter(dead).fold(0, |all, place| all | bit(place));
        all & STRIPE_PLACES[stripe] & self.occupied & !self.named()
    }

    fn wipe(&mut self, place: u8, died: bool) {
        let words = if died { &mut self.died } else { &mut self.born };
        words[usize::from(place)] = 0;
    }
}

impl Commit {
    /// Looks at what died lately in the stripe that was just locked: what nobody has pinned becomes
    /// spare, or free when there are spares enough.
    pub(super) fn free(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, process) = (*state, &state.process[who]);
        let stripe = usize::from(process.stripe);
        let q = &mut next.process[who];
        let what = match process.at {
            At::FreeBegin if state.ring & STRIPE_PLACES[stripe] == 0 => {
                (q.at, q.stripe) = (At::Lock, q.stripe + 1);
                "finds nothing that died lately"
            }
            At::FreeBegin => {
                (q.due, q.at) = (state.ring & STRIPE_PLACES[stripe], At::FreeEach);
                next.ring &= !STRIPE_PLACES[stripe];
                "empties the ring of the lately dead"
            }
            At::FreeEach if process.due == 0 => {
                (q.at, q.stripe) = (At::Lock, q.stripe + 1);
                "has looked at what died lately"
            }
            _ => {
                let place = process.due.trailing_zeros() as u8;
                q.due &= !bit(place);
                let spares = (state.spare & STRIPE_PLACES[stripe]).count_ones();
                if place == PINNED && !self.breaks(Plant::BlindFree) {
                    next.ring |= bit(place);
                    "puts a pinned entry back into the ring"
                } else if spares < SPARES {
                    next.spare |= bit(place);
                    "puts a dead entry among the spares"
                } else {
                    (q.place, q.at, q.after_vacate) = (place, At::VacateBorn, At::FreeEach);
                    "has spares enough"
                }
            }
        };
        steps.go(NAMES[who], what, next);
    }

    /// Makes an entry free: `born`, `died`, then the bit.
    pub(super) fn vacate(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, process) = (*state, &state.process[who]);
        let q = &mut next.process[who];
        let what = match process.at {
            At::VacateBorn => {
                q.at = At::VacateDied;
                next.wipe(process.place, false);
                "FREE: `born` is 0"
            }
            At::VacateDied => {
                q.at = At::VacateBit;
                next.wipe(process.place, true);
                "FREE: `died` is 0"
            }
            _ => {
                (q.at, q.after_vacate, q.place) = (process.after_vacate, At::Outside, 0);
                next.occupied &= !bit(process.place);
                "FREE: the occupied bit"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    /// Takes room for the set in hand: a spare entry, a free one, or what a sweep frees.
    pub(super) fn occupy(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, process) = (*state, &state.process[who]);
        let (key, _) = self.changes(who)[usize::from(process.change)];
        let stripe = self.stripe_of[key];
        let (spare, free) = (state.spare & STRIPE_PLACES[stripe], STRIPE_PLACES[stripe]);
        let free = free & !state.occupied;
        let died_first = self.breaks(Plant::SpareDiedFirst);
        let q = &mut next.process[who];
        let what = match process.at {
            At::Occupy if spare != 0 => {
                (q.place, q.at) = (spare.trailing_zeros() as u8, At::SpareFirst);
                if self.breaks(Plant::SpareAsItIs) {
                    q.at = At::Fill;
                }
                next.spare &= !bit(spare.trailing_zeros() as u8);
                "takes an entry from the spares"
            }
            At::Occupy if free != 0 => {
                (q.place, q.at) = (free.trailing_zeros() as u8, At::OccupyBit);
                "finds a free place"
            }
            At::Occupy if process.due != 0 || state.dead(stripe) & !bit(PINNED) == 0 => {
                (q.at, q.change, q.due) = (At::GiveBack, 0, 0);
                "finds no room"
            }
            At::Occupy => {
                (q.due, q.at) = (state.dead(stripe) & !bit(PINNED), At::SweepEach);
                next.ring &= !STRIPE_PLACES[stripe];
                next.spare &= !STRIPE_PLACES[stripe];
                "sweeps the stripe for room"
            }
            At::SweepEach if process.due == 0 => {
                q.at = At::Occupy;
                "has swept"
            }
            At::SweepEach => {
                (q.place, q.at) = (process.due.trailing_zeros() as u8, At::VacateBorn);
                (q.due, q.after_vacate) = (q.due & (q.due - 1), At::SweepEach);
                "finds a dead entry"
            }
            At::SpareFirst => {
                q.at = At::SpareSecond;
                next.wipe(process.place, died_first);
                "wipes the spare's first word"
            }
            At::SpareSecond => {
                q.at = At::Fill;
                next.wipe(process.place, !died_first);
                "wipes the spare's second word"
            }
            _ => {
                q.at = At::Fill;
                next.occupied |= bit(process.place);
                "sets the occupied bit"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    /// REPAIR of a stripe whose lock is held, the commit having been passed.
    pub(super) fn repair(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, process) = (*state, &state.process[who]);
        let stripe = usize::from(process.stripe);
        let mine = STRIPE_PLACES[stripe];
        let q = &mut next.process[who];
        if process.at == At::RepairHints {
            let lists = state.list[stripe].used && !self.breaks(Plant::KeepsLists);
            q.at = if lists { At::RepairList } else { At::RepairPlaces };
            next.ring &= !mine;
            next.spare &= !mine;
            return steps.go(NAMES[who], "REPAIR: empties the ring and the spares", next);
        }
        if process.at == At::RepairList {
            q.at = At::RepairPlaces;
            next.list[stripe] = List::default();
            return steps.go(NAMES[who], "REPAIR: frees the list of a batch", next);
        }
        let unnamed = state.occupied & mine & !state.named();
        let frees_dead = self.breaks(Plant::RepairFreesDead);
        let lost = if frees_dead { unnamed } else { unnamed & !state.dead(stripe) };
        if lost == 0 || self.breaks(Plant::RepairForgetsNothing) {
            (q.at, q.after_repair) = (q.after_repair, At::Outside);
            return steps.go(NAMES[who], "REPAIR: nothing is lost", next);
        }
        let place = lost.trailing_zeros() as u8;
        if state.born[usize::from(place)] != 0 && !frees_dead {
            // Here entries die by a commit alone; D has those that a sweep takes out of their slots.
            let why = "an entry that had died is to die again";
            return steps.wrong(NAMES[who], "REPAIR: lets an entry die", why, state);
        }
        if state.died[usize::from(place)] != 0 {
            next.wipe(place, true);
            steps.go(NAMES[who], "REPAIR: `died` of an unborn entry is 0", next);
        } else {
            next.occupied &= !bit(place);
            next.wipe(place, false);
            steps.go(NAMES[who], "REPAIR: frees an unborn entry", next);
        }
    }
}
