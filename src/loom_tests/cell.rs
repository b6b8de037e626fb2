//! A cell against what ends its entry, and against what comes to stand in its room.
//!
//! The reader first learns the head, as whoever reads anything else or is woken does; then it looks at
//! its cell. What it knows to have ended must not be good any more.

use super::read::{LOOKS, for_a_list, for_values, room_for_more};
use super::{Image, commit, explore, far, geometry, race, shape};
use crate::heap::State;
use crate::heap::class::LIST;
use crate::region::geometry::{Geometry, Shape};
use crate::region::layout::{array, entry, header, span, stripe};
use crate::table::Core;
use crate::table::cell::Known;
use loom::thread;
use std::sync::{Arc, Mutex};

/// What a lookup of `k` finds, and what can be kept of it.
fn look_up(core: &Core) -> (Known, Option<u64>) {
    let mut born = 0;
    let known = core.learn(|note| {
        core.read(b"k", |seen| {
            note(seen);
            born = seen.born;
            Ok(())
        })
    });
    let known = known.unwrap();
    (known, known.is_there().then_some(born))
}

/// A cell of `k` that is filled before anything happens.
fn cell(image: &Image) -> Known {
    let known = Arc::new(Mutex::new(Known::Nothing));
    let found = Arc::clone(&known);
    let _same = image.clone().after(move |core| *found.lock().unwrap() = look_up(core).0);
    let known = *known.lock().unwrap();
    assert!(matches!(known, Known::Here(_)));
    known
}

/// `write` ends the entry of `k` by a change with this revision.
fn ends(
    model: (&str, usize),
    image: Image,
    end: u64,
    write: impl Fn(&Core) + Send + Sync + 'static,
) {
    let known = cell(&image);
    let read = move |core: &Core| (core.head().unwrap(), core.still_holds(&known).unwrap());
    race(model, image, write, read, move |core, (head, holds)| {
        assert!(!holds || head < end, "good at the head {head}, ended at {end}");
        assert_eq!(core.still_holds(&known), Ok(false));
    });
}

fn filled() -> Image {
    Image::with_entries(3).after(|core| commit(core, &[(b"k", Some(10))]))
}

/// Promise (cells): no value from before a change that one knows of: the key is replaced, and comes
/// back into the same room.
/// Plants: Relaxed for `died`, in `still_lives` or in `take_spare`; `died` or `born` not looked at;
/// `born` looked at first.
#[test]
fn the_key_returns_to_its_room() {
    ends(("the_key_returns_to_its_room", 3), filled(), 2, |core| {
        commit(core, &[(b"k", Some(20))]);
        core.free_retired(0, 1).unwrap();
        commit(core, &[(b"k", Some(30))]);
    });
}

/// The same for a room that is given back to its span.
/// Plant: Relaxed for `died` in `vacate`.
#[test]
fn the_room_becomes_free() {
    ends(("the_room_becomes_free", 3), filled(), 2, |core| {
        commit(core, &[(b"k", Some(20))]);
        assert_eq!(core.sweep_retired(0).unwrap(), 1);
    });
}

/// The same when another key gets it from there.
/// Plant: Relaxed for `died` in `occupy`.
#[test]
fn another_key_gets_the_free_room() {
    let image = filled().after(|core| {
        commit(core, &[(b"j", Some(20))]);
    });
    ends(("another_key_gets_the_free_room", 3), image, 3, |core| {
        commit(core, &[(b"k", None)]);
        assert_eq!(core.sweep_retired(0).unwrap(), 1);
        commit(core, &[(b"i", Some(40))]);
    });
}

/// The same for a clear, which stores nothing in the entry.
/// Plant: the last clear is not looked at.
#[test]
fn a_clear_ends_a_cell() {
    let swept = geometry().stripe(0) + stripe::SWEPT_TO;
    ends(("a_clear_ends_a_cell", 2), filled().words([swept], 0), 2, |core| {
        assert_eq!(core.clear(0, 0, b"").unwrap(), 2);
    });
}

/// Promise "no bytes are taken for an entry that is none": the block is cut anew, and a value that
/// stands there looks as if the entry lived.
/// Plants: the block word not looked at; Relaxed for `born` in `still_lives`.
#[test]
fn a_cells_block_is_cut_for_values() {
    ends(("a_cells_block_is_cut_for_values", 2), room_for_more(), 4, |core| {
        commit(core, &[(b"k", None)]);
        assert_eq!(core.sweep_retired(0).unwrap(), 2);
        for_values(core, LOOKS);
    });
}

/// The same for a list.
/// Plant: `make_span` without its fence.
#[test]
fn a_cells_block_is_cut_for_a_list() {
    ends(("a_cells_block_is_cut_for_a_list", 2), room_for_more(), 4, |core| {
        commit(core, &[(b"k", None)]);
        assert_eq!(core.sweep_retired(0).unwrap(), 2);
        for_a_list(core, LOOKS);
    });
}

/// `k`, born with revision 4, at the beginning of block 2: the second of a span of small blocks.
fn second_block() -> Image {
    let geometry = Geometry::new(Shape { block_shift: 8, ..shape() });
    Image::of(geometry.clone())
        .commit()
        .log()
        .pins()
        .stripe(0)
        .words([header::SIZE], geometry.block(5))
        .words((0..5).map(|block| geometry.block_word(block)), 0)
        .array(0, geometry.block_size() / 8 - array::FIRST / 8)
        .entries(1, 7)
        .after(|core| {
            for (key, value) in [(b"a", 10), (b"b", 20), (b"c", 30), (b"k", 40)] {
                commit(core, &[(key, Some(value))]);
            }
            commit(core, &[(b"a", None), (b"b", None)]);
            commit(core, &[(b"c", None)]);
            assert_eq!(core.sweep_retired(0).unwrap(), 3);
        })
}

/// The same when the block begins another span, and whoever has the stripe's lock next puts that in
/// its list: links stand where the entry's life stood.
/// Plant: no fence in `enlist`.
#[test]
fn a_cells_block_begins_a_span() {
    const END: u64 = 8;
    assert_eq!(span::PREVIOUS, entry::DIED, "a link of 0 looks like `died`");
    let image = second_block();
    let known = cell(&image);
    explore("a_cells_block_begins_a_span", 2, move || {
        let bus = image.start();
        let (reader, cutter, lister) = (bus.core(), bus.core(), bus.core());
        let lister = thread::spawn(move || {
            let _guard = lister.lock_stripe(0, 1, &far()).unwrap();
            let word = lister.block_word(2).unwrap();
            if word.state() == State::Head {
                lister.enlist(2, word).unwrap();
            }
        });
        let reader = thread::spawn(move || {
            let head = reader.head().unwrap();
            (head, reader.still_holds(&known).unwrap())
        });
        let guard = cutter.lock_stripe(0, 0, &far()).unwrap();
        commit(&cutter, &[(b"k", None)]);
        assert_eq!(cutter.sweep_retired(0).unwrap(), 1);
        assert_eq!(cutter.make_span(0, LIST, (1, true), span::BITMAP), Ok(1));
        assert_eq!(cutter.make_span(0, 0, (2, true), span::BITMAP), Ok(2));
        drop(guard);
        lister.join().unwrap();
        let (head, holds) = reader.join().unwrap();
        assert!(!holds || head < END, "good at the head {head}, ended at {END}");
    });
}

/// Promise (cells): a cell that is filled while the key is replaced gives no value before it is visible,
/// and keeps none that has ended.
/// Plant: `died` not looked at.
#[test]
fn a_cell_is_filled() {
    let write = |core: &Core| commit(core, &[(b"k", Some(20))]);
    let read = |core: &Core| {
        let (known, born) = look_up(core);
        let head = core.head().unwrap();
        (born, head, core.still_holds(&known).unwrap())
    };
    race(("a_cell_is_filled", 3), filled(), write, read, |_, (born, head, holds)| {
        assert!(matches!(born, Some(1 | 2)) && born <= Some(head), "{born:?} at the head {head}");
        assert!(!holds || born == Some(2) || head < 2, "{born:?} at the head {head}");
    });
}
