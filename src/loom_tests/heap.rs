//! Blocks that go from one stripe to another, each under its own lock only.

use super::{Image, ROOM, explore, race, shape};
use crate::heap::class::LIST;
use crate::heap::{HeapError, Pieces, Space};
use crate::region::geometry::{Geometry, Shape};
use crate::region::layout::{entry, header, span};
use crate::sync::Ordering::Relaxed;
use loom::thread;

/// An entry of `stripe`, born with this revision.
fn bear(space: &Space, stripe: u64, born: u64) -> Result<u64, HeapError> {
    let room = space.allocate(stripe, ROOM, (false, true))?;
    space.entry_in(room)?.set_born(born)?;
    Ok(room.at)
}

/// Promise "no block is lost or given twice, and what was written there before does not come back":
/// one stripe ends its span, another one makes a span of the same block.
/// Plants: Relaxed in `block_word`; Relaxed in `set_block_word`, and no fence in `delist`.
#[test]
fn a_block_changes_hands() {
    let geometry = Geometry::new(Shape { stripes: 2, ..shape() });
    let image = Image::of(geometry.clone())
        .commit()
        .pins()
        .stripe(0)
        .stripe(1)
        .words([header::SIZE], geometry.block(1))
        .words([geometry.block_word(0)], 0)
        .entries(0, 1)
        .after(|core| {
            let at = bear(core, 0, 1).unwrap();
            core.entry(at).unwrap().set_died(2).unwrap();
        });
    explore("a_block_changes_hands", 3, move || {
        let bus = image.start();
        let (here, there) = (bus.core(), bus.core());
        let there = thread::spawn(move || match bear(&there, 1, 3) {
            Ok(at) => Some(at),
            Err(HeapError::NoRoom(_)) => None,
            Err(HeapError::Bad(bad)) => panic!("{bad}"),
        });
        assert_eq!(here.sweep_retired(0).unwrap(), 1);
        let Some(at) = there.join().unwrap() else { return };
        assert_eq!(
            here.region.load(at + entry::BORN, Relaxed),
            Ok(3),
            "what stood there came back"
        );
        assert_eq!(here.spans(1).unwrap().len(), 1);
    });
}

/// Promise "a walk finds each span that is there all the while": before such a span one block ends and becomes the middle of
/// another span, with bytes that would be a length where it begins.
/// Plants: no fence between a span's length and the second look at its word; no second look.
#[test]
fn a_walk_steps_over_what_was_there() {
    const LAST: u64 = 2;
    let geometry = Geometry::new(shape());
    let at = |block| geometry.block(block) + span::BLOCKS;
    let image = Image::of(geometry.clone())
        .stripe(0)
        .words([header::SIZE], geometry.block(3))
        .words([0, 1, 2].map(|block| geometry.block_word(block)), 0)
        .words([0, 1, 2].map(at), 0)
        .after(|core| {
            let blocks = [0, 1, LAST].map(|_| core.make_span(0, LIST, (1, true), 0).unwrap());
            assert_eq!(blocks, [0, 1, LAST]);
            core.free_span(0).unwrap();
        });
    let middle = at(1);
    race(
        ("a_walk_steps_over_what_was_there", 3),
        image,
        move |core| {
            core.free_span(1).unwrap();
            assert_eq!(core.make_span(0, LIST, (2, true), 0), Ok(0));
            core.region.store(middle, 2, Relaxed).unwrap();
        },
        |core| Pieces::of(0).next(core, 3).unwrap(),
        |_, spans| assert!(spans.iter().any(|(first, _)| *first == LAST), "{spans:?}"),
    );
}
