//! FREE and REPAIR: the two bitmaps of a stripe.

use super::{At, Commit, List, NAMES, PINNED, Plant, STRIPE_PLACES, State, bit};
use membus_model::Steps;

impl Commit {
    /// FREE of one retired entry of the stripe that was just locked, unless it is pinned.
    pub(super) fn free(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, process) = (*state, &state.process[who]);
        let (place, stripe) = (process.place, usize::from(process.stripe));
        let q = &mut next.process[who];
        let mut clear_born = || {
            let place = usize::from(place);
            (next.born[place], next.died[place]) = (0, 0);
        };
        let what = match process.at {
            At::FreeBegin => {
                let due = STRIPE_PLACES[stripe] & state.retired & state.occupied & !bit(PINNED);
                if due == 0 {
                    (q.at, q.stripe) = (At::Lock, q.stripe + 1);
                    return steps.go(NAMES[who], "has nothing to free", next);
                }
                (q.place, q.at) = (due.trailing_zeros() as u8, At::FreeBorn);
                if self.breaks(Plant::BitsFirst) {
                    q.at = At::FreeOccupied;
                }
                "finds something to free"
            }
            At::FreeBorn if self.breaks(Plant::BitsFirst) => {
                (q.at, q.stripe, q.place) = (At::Lock, q.stripe + 1, 0);
                clear_born();
                "FREE: `born` is 0, late"
            }
            At::FreeBorn => {
                q.at = At::FreeOccupied;
                clear_born();
                "FREE: `born` is 0"
            }
            At::FreeOccupied => {
                q.at = At::FreeRetired;
                next.occupied &= !bit(place);
                "FREE: the occupied bit"
            }
            _ => {
                q.at = At::FreeBorn;
                if !self.breaks(Plant::BitsFirst) {
                    (q.at, q.stripe, q.place) = (At::Lock, q.stripe + 1, 0);
                }
                next.retired &= !bit(place);
                "FREE: the retired bit"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    /// REPAIR of a stripe whose lock is held, the commit having been passed.
    pub(super) fn repair(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, process) = (*state, &state.process[who]);
        let mine = STRIPE_PLACES[usize::from(process.stripe)];
        let q = &mut next.process[who];
        if process.at == At::RepairBits {
            let stripe = usize::from(process.stripe);
            let lists = state.list[stripe].used && !self.breaks(Plant::KeepsLists);
            q.at = if lists { At::RepairList } else { At::RepairPlaces };
            if !self.breaks(Plant::StrayRetired) {
                next.retired &= state.occupied | !mine;
            }
            return steps.go(NAMES[who], "REPAIR: retired only where occupied", next);
        }
        if process.at == At::RepairList {
            q.at = At::RepairPlaces;
            next.list[usize::from(process.stripe)] = List::default();
            return steps.go(NAMES[who], "REPAIR: frees the list of a batch", next);
        }
        let named = state.slot_word.iter().fold(0, |all, place| all | bit(*place));
        let lost = state.occupied & !state.retired & mine & !named;
        if lost == 0 {
            (q.at, q.after_repair) = (q.after_repair, At::Outside);
            return steps.go(NAMES[who], "REPAIR: nothing is lost", next);
        }
        let place = lost.trailing_zeros() as u8;
        if state.born[usize::from(place)] == 0 || self.breaks(Plant::RepairFrees) {
            next.occupied &= !bit(place);
            steps.go(NAMES[who], "REPAIR: frees what is unborn and unnamed", next);
        } else {
            next.retired |= bit(place);
            steps.go(NAMES[who], "REPAIR: retires what is unnamed", next);
        }
    }
}
