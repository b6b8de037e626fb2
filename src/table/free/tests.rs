//! What is freed and what is not, exactly; and words of commit and pins that only a death or a damaged
//! region would show.
//!
//! Plants: mutants of these functions, among them a bound of FREE that is one too far, `||` for `&&` in what a
//! snapshot keeps, a bit of pins that is not taken away.

use super::super::testing::{heap, put, word};
use super::*;
use crate::heap::State;
use crate::heap::class::{LIST, class_for};
use crate::hook;
use crate::region::layout::{CHANGE_SIZE, INLINE_CHANGES, span};
use crate::table::Core;

const STRIPE: u64 = 1;

fn of_stripe(core: &Core, at: u64) -> u64 {
    word(core, core.geometry.stripe(STRIPE) + at)
}

/// An occupied entry that was born at 5 and died at 9.
fn dead(core: &Core, size: u64) -> u64 {
    let at = core.allocate(STRIPE, size, (false, true)).unwrap().at;
    put(core, at + entry::BORN, 5);
    put(core, at + entry::DIED, 9);
    at
}

fn is_free(core: &Core, at: u64) -> bool {
    core.place(at).map_or(true, |place| !core.is_occupied(&place).unwrap())
}

fn snapshot(core: &Core, revision: u64, done: bool) {
    for (at, value) in [(header::SNAP_ID, 7), (header::SNAP_REVISION, revision)] {
        put(core, at, value);
    }
    put(core, header::SNAP_ON, 1);
    put(core, core.geometry.stripe(STRIPE) + stripe::SNAP_DONE, if done { 7 } else { 6 });
}

#[test]
fn a_snapshot_keeps_what_lived_at_its_revision_and_was_not_cleared() {
    let core = heap();
    let at = dead(&core, 500);
    for (revision, cleared, is_kept) in
        [(4, 0, false), (5, 0, true), (8, 0, true), (9, 0, false), (7, 5, true), (7, 6, false)]
    {
        let needed = Needed { pinned: Vec::new(), kept: Some((revision, cleared)) };
        assert_eq!(core.is_needed(at, &needed).unwrap(), is_kept, "{revision}, {cleared}");
    }
    let needed = |pinned, kept| Needed { pinned, kept };
    assert!(!core.is_needed(at, &needed(vec![at + 64], None)).unwrap());
    assert!(core.is_needed(at, &needed(vec![at], None)).unwrap());
    put(&core, at + entry::DIED, 0);
    assert!(core.is_needed(at, &needed(Vec::new(), Some((7, 0)))).unwrap(), "not dead yet");
}

#[test]
fn a_stripe_that_a_snapshot_has_read_keeps_nothing() {
    let core = heap();
    snapshot(&core, 8, true);
    assert_eq!(core.needed(STRIPE).unwrap().kept, None);
    snapshot(&core, 8, false);
    assert_eq!(core.needed(STRIPE).unwrap().kept, Some((8, 0)));
}

#[test]
fn every_pin_of_every_member_is_seen() {
    let core = heap();
    for slot in [0, 3, 7] {
        core.may_pin(slot).unwrap();
        assert_eq!(core.pin_at(slot, 2), core.geometry.member(slot) + member::PINS + 16);
        for pin in [0, 2] {
            put(&core, core.pin_at(slot, pin), 1000 + 10 * slot + pin);
        }
    }
    let all = [1000, 1002, 1030, 1032, 1070, 1072];
    assert_eq!(core.needed(STRIPE).unwrap().pinned, all);
    core.unpin(core.pin_at(3, 0)).unwrap();
    assert_eq!(core.needed(STRIPE).unwrap().pinned, [1000, 1002, 1032, 1070, 1072]);
    // A bit beyond the last member is nobody's.
    put(&core, core.geometry.pinned(0), 1 << 9);
    assert_eq!(core.needed(STRIPE).unwrap().pinned, [0; 0]);
}

#[test]
fn a_full_ring_asks_for_a_sweep() {
    let core = heap();
    for number in 0..RETIRED_MAX {
        core.retire(STRIPE, number).unwrap();
        assert_eq!(of_stripe(&core, stripe::RETIRED_COUNT), number + 1);
        assert_eq!(of_stripe(&core, stripe::SWEEP_WANTED), 0);
    }
    core.retire(STRIPE, 99).unwrap();
    assert_eq!(of_stripe(&core, stripe::RETIRED_COUNT), RETIRED_MAX);
    assert_eq!(of_stripe(&core, stripe::SWEEP_WANTED), 1);
}

#[test]
fn a_ring_is_looked_at_when_it_names_so_many() {
    let core = heap();
    let dead = [(); 3].map(|()| dead(&core, 500));
    dead.iter().for_each(|at| core.retire(STRIPE, *at).unwrap());
    core.free_retired(STRIPE, 4).unwrap();
    assert_eq!(
        (of_stripe(&core, stripe::RETIRED_COUNT), of_stripe(&core, stripe::SPARE_COUNT)),
        (3, 0)
    );
    core.free_retired(STRIPE, 3).unwrap();
    assert_eq!(
        (of_stripe(&core, stripe::RETIRED_COUNT), of_stripe(&core, stripe::SPARE_COUNT)),
        (0, 3)
    );
    core.retire(STRIPE, self::dead(&core, 500)).unwrap();
    core.free_retired(STRIPE, 0).unwrap();
    assert_eq!(of_stripe(&core, stripe::RETIRED_COUNT), 0, "more than were asked for");
}

/// Half a ring that is held back goes to the sweep, and no write looks at it again.
#[test]
fn half_a_ring_that_is_held_back_is_given_up() {
    for (count, left, wanted) in [(15, 15, 0), (16, 0, 1)] {
        let core = heap();
        snapshot(&core, 8, false);
        for _ in 0..count {
            core.retire(STRIPE, dead(&core, 500)).unwrap();
        }
        core.free_retired(STRIPE, 1).unwrap();
        assert_eq!(of_stripe(&core, stripe::RETIRED_COUNT), left);
        assert_eq!(of_stripe(&core, stripe::SWEEP_WANTED), wanted);
    }
}

#[test]
fn small_dead_entries_become_spares_and_others_free() {
    let core = heap();
    let most = core.spare_size_max();
    for (size, becomes_spare) in [(500, true), (most, true), (most + 1, false), (100_000, false)] {
        let before = of_stripe(&core, stripe::SPARE_COUNT);
        let at = dead(&core, size);
        core.release_dead(STRIPE, at).unwrap();
        assert_eq!(is_free(&core, at), !becomes_spare, "{size}");
        let spares = of_stripe(&core, stripe::SPARE_COUNT);
        assert_eq!(spares, before + u64::from(becomes_spare), "{size}");
    }
    let at = dead(&core, 500);
    assert!(core.release_dead(STRIPE + 1, at).is_err(), "of another stripe");
    put(&core, at + entry::DIED, 0);
    assert!(core.release_dead(STRIPE, at).is_err(), "it lives");
}

#[test]
fn a_sweep_frees_what_is_dead_and_says_how_much() {
    let core = heap();
    let [a, b, c] = [(); 3].map(|()| dead(&core, 500));
    put(&core, b + entry::DIED, 0);
    core.retire(STRIPE, a).unwrap();
    core.put_spare(STRIPE, c, class_for(500, 14).unwrap()).unwrap();
    put(&core, core.geometry.stripe(STRIPE) + stripe::SWEEP_WANTED, 1);
    assert_eq!(core.sweep_retired(STRIPE).unwrap(), 2);
    assert_eq!([a, b, c].map(|at| is_free(&core, at)), [true, false, true]);
    for at in [stripe::SWEEP_WANTED, stripe::RETIRED_COUNT, stripe::SPARE_COUNT] {
        assert_eq!(of_stripe(&core, at), 0);
    }
}

/// Promise: a sweep in pieces frees what a whole one does, less what is listed, and that is freed once.
/// Plants: what the ring names, or a spare, is freed as well; what is pinned; what a snapshot keeps; a sweep that is not wanted
/// again for that, or whose want the next span takes back.
#[test]
fn a_sweep_in_pieces_leaves_what_is_listed_pinned_or_kept() {
    let core = heap();
    let [lost, living, ringed, spare, pinned] = [(); 5].map(|()| dead(&core, 500));
    let elsewhere = dead(&core, 2000);
    put(&core, living + entry::DIED, 0);
    core.retire(STRIPE, ringed).unwrap();
    core.put_spare(STRIPE, spare, class_for(500, 14).unwrap()).unwrap();
    core.may_pin(3).unwrap();
    put(&core, core.pin_at(3, 0), pinned);
    put(&core, core.geometry.stripe(STRIPE) + stripe::SWEEP_WANTED, 1);
    let is_free = || [lost, living, ringed, spare, pinned].map(|at| is_free(&core, at));
    let is_wanted = || of_stripe(&core, stripe::SWEEP_WANTED);
    snapshot(&core, 8, false);
    assert_eq!(core.sweep_in_pieces(0, STRIPE, core.patience).unwrap(), 0);
    assert_eq!((is_free(), is_wanted()), ([false; 5], 1), "a snapshot keeps them");
    snapshot(&core, 8, true);
    assert!(!self::is_free(&core, elsewhere));
    assert_eq!(core.sweep_in_pieces(0, STRIPE, core.patience).unwrap(), 2);
    assert_eq!((is_free(), is_wanted()), ([true, false, false, false, false], 0));
    assert_eq!(of_stripe(&core, stripe::RETIRED_COUNT), 2, "what is pinned is looked at again");
    core.unpin(core.pin_at(3, 0)).unwrap();
    core.free_retired(STRIPE, 1).unwrap();
    assert_eq!(core.sweep_retired(STRIPE).unwrap(), 3);
    assert_eq!(is_free(), [true, false, true, true, true]);
}

/// Promise: a sweep in pieces that does not come to its end, by a death or for a lock, is wanted still.
/// Plant: it is not wanted any more from its beginning on.
#[test]
fn a_sweep_in_pieces_that_is_cut_is_wanted_still() {
    const ME: u32 = 5;
    let prepared = || {
        let core = heap();
        let dead = [500, 2000, 9000].map(|size| dead(&core, size));
        put(&core, core.geometry.stripe(STRIPE) + stripe::SWEEP_WANTED, 1);
        (core, dead)
    };
    let (core, _) = prepared();
    let (steps, freed) = hook::count(|| core.sweep_in_pieces(ME, STRIPE, core.patience).unwrap());
    assert_eq!((freed, of_stripe(&core, stripe::SWEEP_WANTED)), (3, 0));
    for step in 0..steps {
        let (core, dead) = prepared();
        let end = hook::dying_after(step, || core.sweep_in_pieces(ME, STRIPE, core.patience));
        let is_left = dead.iter().any(|at| !is_free(&core, *at));
        let is_wanted = of_stripe(&core, stripe::SWEEP_WANTED) != 0;
        assert!(end.is_none() && (is_wanted || !is_left), "after {step} of {steps} steps");
    }
}

/// Promise: what is found without a lock in a span that ends meanwhile is not believed, be it an error.
/// Plants: the span's word is not looked at again; an error is told without a look.
#[test]
fn what_is_found_in_a_span_that_ends_does_not_count() {
    let core = heap();
    let at = dead(&core, 100_000);
    let span = core.place(at).map(|place| (place.block, core.block_word(place.block).unwrap()));
    let span = span.unwrap();
    assert_eq!(core.look_in(span, || core.span_blocks(span.0)), Ok(Some(7)));
    let end = || {
        core.vacate(&core.place(at)?)?;
        put(&core, core.geometry.block(span.0) + span::BLOCKS, u64::MAX);
        core.span_blocks(span.0)
    };
    assert_eq!(core.look_in(span, end), Ok(None));
}

/// Promise: no writer waits for the keeper's sweep where there is nothing to free.
/// Plant: the lock is taken for each span.
#[test]
fn a_look_for_the_dead_takes_no_lock() {
    let core = heap();
    let alive = dead(&core, 500);
    put(&core, alive + entry::DIED, 0);
    let first = core.place(alive).unwrap().block;
    let span = (first, core.block_word(first).unwrap());
    let _writer = core.lock_stripe(STRIPE, 1, &core.patience()).unwrap();
    let found = core.dead_in(STRIPE, span).unwrap();
    assert_eq!((found.entries, found.kept), (vec![], false));
    put(&core, alive + entry::DIED, 9);
    assert_eq!(core.dead_in(STRIPE, span).unwrap().entries, [alive]);
}

#[test]
fn a_bit_beyond_the_last_entry_is_none() {
    let core = heap();
    let place = core.place(dead(&core, 500)).unwrap();
    let bits = core.geometry.block(place.block) + crate::region::layout::span::BITMAP;
    put(&core, bits, 1 | 1 << place.cut.entries);
    let entries = core.occupied_entries(place.block, &place.cut).unwrap();
    assert_eq!(entries, [core.entry_at(place.block, &place.cut, 0)]);
}

/// Whoever died in a big batch left its list.
#[test]
fn a_repair_frees_the_list_of_a_batch() {
    let core = heap();
    let list = core.make_span(STRIPE, LIST, (2, true), 64).unwrap();
    core.repair(STRIPE).unwrap();
    for block in [list, list + 1] {
        assert_eq!(core.block_word(block).unwrap().state(), State::Free);
    }
}

#[test]
fn a_commit_is_of_changes_that_its_list_can_hold() {
    let core = heap();
    let first = core.make_span(STRIPE, LIST, (2, true), 64).unwrap();
    let list = core.geometry.block(first) + 64;
    assert_eq!(core.list_room(0).unwrap(), INLINE_CHANGES);
    assert_eq!(core.list_room(list).unwrap(), ((2 << 14) - 64) / CHANGE_SIZE);
    let entry = dead(&core, 500);
    assert!(core.list_room(entry).is_err(), "no list");
    core.free_span(first).unwrap();
    assert!(core.list_room(list).is_err(), "of nobody");
    for (ready, count) in [(2, 3), (INLINE_CHANGES + 9, INLINE_CHANGES + 1)] {
        put(&core, header::COUNT, count);
        put(&core, header::READY, ready);
        assert!(core.finish().is_err(), "{count} changes up to {ready}");
    }
}
