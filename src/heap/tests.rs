//! The heap's words, one by one: what each function leaves, exactly. Deaths and schedules show that it is
//! right as a whole; what a list, a hint or a bound says by itself, they can't show.
//!
//! Plants: mutants of this module that nothing else sees, among them links that name the span beside, an offset
//! subtracted, a bound that is one too far, `||` for `&&` in the checks of a place.

use super::class::{ARRAY, BIG, LIST, class_for};
use super::*;
use crate::table::Core;
use crate::table::testing::{bus, heap, put, small, word};

const STRIPE: u64 = 1;

/// An empty span of a class, in no list; its links name nonsense.
fn span_of(core: &Core, class: u64) -> (u64, Cut) {
    let cut = core.cut_of(class).unwrap();
    let first = core.make_span(STRIPE, class, (cut.blocks, true), cut.first).unwrap();
    for link in [span::PREVIOUS, span::NEXT] {
        put(core, core.geometry.block(first) + link, 77);
    }
    (first, cut)
}

fn head(core: &Core, first: u64) -> BlockWord {
    core.block_word(first).unwrap()
}

/// Spans of a list from its front; each link back names the one before.
fn listed(core: &Core, class: u64) -> Vec<u64> {
    let (mut spans, mut previous) = (Vec::new(), 0);
    let mut link = word(core, core.list_head(STRIPE, class));
    while link != 0 {
        let at = core.geometry.block(link - 1);
        assert_eq!(word(core, at + span::PREVIOUS), previous, "before {link}");
        assert_eq!(word(core, at + span::LISTED), 1);
        spans.push(link - 1);
        (previous, link) = (link, word(core, at + span::NEXT));
    }
    spans
}

#[test]
fn a_list_names_its_spans_both_ways() {
    let core = heap();
    let class = class_for(500, 14).unwrap();
    let spans = [(); 4].map(|()| span_of(&core, class).0);
    let like = head(&core, spans[0]);
    for first in spans {
        core.enlist(first, like).unwrap();
        core.enlist(first, like).unwrap();
    }
    let [a, b, c, d] = spans;
    assert_eq!(listed(&core, class), [d, c, b, a]);
    for (gone, left) in [(c, vec![d, b, a]), (d, vec![b, a]), (a, vec![b]), (b, vec![])] {
        core.delist(gone, like).unwrap();
        assert_eq!(word(&core, core.geometry.block(gone) + span::LISTED), 0);
        core.delist(gone, like).unwrap();
        assert_eq!(listed(&core, class), left);
    }
}

#[test]
fn a_link_names_a_span_of_its_stripe_and_class_or_nothing() {
    let core = heap();
    let class = class_for(500, 14).unwrap();
    let first = span_of(&core, class).0;
    let like = head(&core, first);
    assert_eq!(core.listed(first + 1, like).unwrap(), Some(first));
    let other = span_of(&core, class + 1).0;
    assert_eq!(core.listed(other + 1, like).unwrap(), None, "of another class");
    let claimed = BlockWord::new(State::Claimed, class, STRIPE, 0, 1);
    put(&core, core.geometry.block_word(other), claimed.0);
    assert_eq!(core.listed(other + 1, like).unwrap(), None, "that was given up");
    let beyond = core.geometry.blocks_max();
    put(&core, core.geometry.block_word(beyond), like.0);
    assert_eq!(core.listed(beyond + 1, like).unwrap(), None, "beyond the last block");
    assert_eq!(core.listed(0, like).unwrap(), None);
}

#[test]
fn a_repair_begins_with_empty_lists() {
    let core = heap();
    let base = core.geometry.stripe(STRIPE);
    let words = [stripe::RETIRED_COUNT, stripe::SPARE_COUNT].map(|at| base + at);
    let heads = [class_for(500, 14).unwrap(), 2 + TIMED].map(|class| core.list_head(STRIPE, class));
    words.iter().chain(&heads).for_each(|at| put(&core, *at, 3));
    core.forget_lists(STRIPE).unwrap();
    assert!(words.iter().chain(&heads).all(|at| word(&core, *at) == 0));
}

#[test]
fn a_place_is_one_of_an_entry_and_of_nothing_else() {
    let core = heap();
    // Several blocks a span, and room behind the last entry.
    let fits = |class: &u64| {
        let cut = core.cut_of(*class).unwrap();
        cut.blocks > 1 && cut.first + cut.entries * cut.size < cut.blocks << 14
    };
    let class = (0..class::classes(14)).find(fits).unwrap();
    let (first, cut) = span_of(&core, class);
    for index in 0..cut.entries {
        let at = core.entry_at(first, &cut, index);
        let place = core.place(at).unwrap();
        assert_eq!((place.block, place.cut, place.index), (first, cut, index));
        assert!(core.place(at + 8).is_err(), "inside of an entry");
    }
    let beyond = core.entry_at(first, &cut, cut.entries);
    assert_eq!(core.geometry.block_of(beyond).unwrap(), first + cut.blocks - 1);
    assert!(core.place(beyond).is_err(), "behind the last entry");
    for class in [ARRAY, LIST] {
        let first = core.make_span(STRIPE, class, (1, true), 64).unwrap();
        let refused = core.place(core.geometry.block(first) + 64).unwrap_err();
        assert!(refused.to_string().contains("an entry of a span"), "{refused}");
    }
    assert!(core.cut_of(2 * TIMED).is_none(), "no class");
    let free = core.geometry.block(core.blocks().unwrap() - 1);
    assert!(core.place(free + cut.first).is_err(), "of no span");
}

#[test]
fn a_big_entry_has_its_span() {
    let core = heap();
    let room = core.allocate(STRIPE, 100_000, (false, true)).unwrap();
    let place = core.place(room.at).unwrap();
    let word = head(&core, place.block);
    assert_eq!(word.class(), BIG);
    let cut = core.cut(place.block, word).unwrap();
    assert_eq!(cut.first + cut.size, cut.blocks << 14);
    assert_eq!(core.room_at(room.at, place.block, word).unwrap(), cut.size);
    let tail = head(&core, place.block + 1);
    assert_eq!(tail.state(), State::Tail);
    assert!(core.room_at(room.at, place.block + 1, tail).is_err(), "not by a tail's word");
    let list = BlockWord::new(State::Head, LIST, STRIPE, 0, 1);
    assert!(core.room_at(room.at, place.block, list).is_err(), "no entries in a list");
}

#[test]
fn a_bit_of_a_place_is_set_until_it_is_cleared() {
    let core = heap();
    let (first, cut) = span_of(&core, class_for(500, 14).unwrap());
    let place = Place { block: first, cut, index: 1 };
    for on in [true, true, false, false] {
        core.mark(&place, on).unwrap();
        assert_eq!(core.is_occupied(&place).unwrap(), on);
        assert_eq!(core.occupied(first, 0).unwrap(), u64::from(on) << 1);
    }
}

#[test]
fn a_full_span_has_no_free_place() {
    let core = heap();
    let (first, cut) = span_of(&core, class_for(500, 14).unwrap());
    assert!(!cut.entries.is_multiple_of(64), "its last bits are of no place");
    for index in 0..cut.entries {
        assert_eq!(core.free_index(first, &cut).unwrap(), Some(index));
        core.mark(&Place { block: first, cut, index }, true).unwrap();
    }
    assert_eq!(core.free_index(first, &cut).unwrap(), None);
}

/// A room that was an entry's before is unborn and lives, however it is had or given up.
#[test]
fn a_room_is_unborn_before_and_after() {
    let core = heap();
    let (size, class) = (500, class_for(500, 14).unwrap());
    let life = |at| (word(&core, at + entry::BORN), word(&core, at + entry::DIED));
    let spoil = |at| {
        put(&core, at + entry::BORN, 5);
        put(&core, at + entry::DIED, 9);
    };
    let room = core.allocate(STRIPE, size, (false, true)).unwrap();
    spoil(room.at);
    core.vacate(&core.place(room.at).unwrap()).unwrap();
    assert_eq!(life(room.at), (0, 0), "vacated");
    spoil(room.at);
    assert_eq!(core.allocate(STRIPE, size, (false, true)).unwrap().at, room.at);
    assert_eq!(life(room.at), (0, 0), "in a span");
    spoil(room.at);
    assert_eq!(core.put_spare(STRIPE, room.at, class).unwrap(), None);
    let again = core.take_spare(STRIPE, class, true).unwrap().unwrap();
    assert_eq!((again.at, life(room.at)), (room.at, (0, 0)), "of the spares");
    assert!(core.take_spare(STRIPE, class, true).unwrap().is_none());
    core.put_spare(STRIPE, room.at, class + 1).unwrap();
    assert!(core.take_spare(STRIPE, class + 1, true).is_err(), "of another class than was said");
    assert_eq!(word(&core, 0), crate::region::layout::MAGIC);
}

/// Of a class, one empty span stays, wherever in the list the others are.
#[test]
fn an_empty_span_goes_when_another_one_has_room() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let core = heap();
        let class = class_for(500, 14).unwrap();
        let spans = [(); 3].map(|()| span_of(&core, class));
        for (first, cut) in spans {
            core.mark(&Place { block: first, cut, index: 0 }, true).unwrap();
            core.enlist(first, head(&core, first)).unwrap();
        }
        for (gone, index) in (1..).zip(order) {
            let (first, cut) = spans[index];
            core.vacate(&Place { block: first, cut, index: 0 }).unwrap();
            assert_eq!(listed(&core, class).len(), (3 - gone).max(1), "{order:?}, {gone}");
            assert_eq!(head(&core, first).state() == State::Free, gone < 3, "{order:?}, {gone}");
        }
    }
}

#[test]
fn all_spares_of_a_stripe_are_at_most_two_blocks() {
    let core = heap();
    assert_eq!(SPARE_MAX * core.spare_size_max(), 2 * core.geometry.block_size());
}

/// A reader that saw a block's word before sees another one whenever the block has changed hands.
#[test]
fn a_blocks_generation_rises_with_each_life() {
    let core = heap();
    let class = class_for(500, 14).unwrap();
    let mut last = [0; 2];
    for _ in 0..3 {
        let first = core.make_span(STRIPE, class, (2, true), 64).unwrap();
        let hint = word(&core, crate::region::layout::header::FREE_HINT);
        assert!(first > 1 && hint == first + 2, "the hint is behind what was taken");
        let now = [first, first + 1].map(|block| head(&core, block).generation());
        assert_eq!(now, [last[0] + 1, last[1] + 1]);
        core.free_span(first).unwrap();
        assert_eq!(word(&core, crate::region::layout::header::FREE_HINT), first);
        last = [first, first + 1].map(|block| head(&core, block).generation());
        assert_eq!(
            last,
            [now[0] + 1, now[1]],
            "of the first block, whose word said what the span was"
        );
    }
    for state in [State::Free, State::Claimed] {
        assert!(!BlockWord::new(state, class, STRIPE, 0, 1).is_span());
    }
}

#[test]
fn a_span_has_blocks_and_no_more_than_there_are() {
    let core = heap();
    let first = span_of(&core, class_for(500, 14).unwrap()).0;
    let most = core.geometry.blocks_max() - first;
    for (count, is_good) in [(0, false), (1, true), (most, true), (most + 1, false)] {
        put(&core, core.geometry.block(first) + span::BLOCKS, count);
        assert_eq!(core.span_blocks(first).is_ok(), is_good, "{count}");
    }
}

#[test]
fn free_blocks_are_counted_and_their_longest_run() {
    let core = heap();
    let (free, run) = core.free_blocks().unwrap();
    let reserve = free - run;
    assert!(reserve > 0, "behind what every stripe has from the start, and before the reserve");
    let spans = [(); 3].map(|()| core.make_span(STRIPE, LIST, (1, true), 64).unwrap());
    assert_eq!(core.free_blocks().unwrap(), (free - 3, run - 3));
    core.free_span(spans[1]).unwrap();
    assert_eq!(core.free_blocks().unwrap(), (free - 2, run - 3));
}

/// Several claim runs of several lengths at once: whoever finds a block of his run taken gives back what he has, and
/// no block of anybody else.
#[test]
fn nobody_gives_back_a_block_of_others() {
    let core = bus(small(1 << 20)).0;
    let before = core.free_blocks().unwrap();
    std::thread::scope(|scope| {
        for (stripe, count) in [(0, 3), (1, 5), (2, 1), (3, 8)] {
            let core = &core;
            scope.spawn(move || {
                for _ in 0..40_000 {
                    let Ok(first) = core.make_span(stripe, LIST, (count, true), 64) else {
                        continue;
                    };
                    for block in first..first + count {
                        let word = head(core, block);
                        assert!(word.is_span() && word.stripe() == stripe, "{block}: {word:?}");
                    }
                    core.free_span(first).unwrap();
                }
            });
        }
    });
    assert_eq!(core.free_blocks().unwrap(), before);
}
