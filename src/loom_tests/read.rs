//! READ while the room that it looks at is used anew.
//!
//! Values are ten times their revision, so one word tells whether bytes and revision belong together.

use super::{Image, ROOM, commit, entry_at, explore, far, geometry, get, race, try_get, wish};
use crate::commit::Stored;
use crate::heap::class::LIST;
use crate::region::layout::{CHANGE_SIZE, entry, span, stripe};
use crate::sync::Ordering::Relaxed;
use crate::table::Core;
use crate::table::entry::Note;
use crate::table::plan::Plan;
use loom::thread;

/// How a dead entry's room comes to be used anew.
#[derive(Debug, Clone, Copy)]
enum Path {
    /// As a spare: `take_spare`.
    Spare,
    /// Vacated and found in the bitmap: `vacate`, `occupy`.
    Bitmap,
}

/// `k` is replaced, and its room used anew by `refill`; a reader sees one of its values, never that
/// it is not there.
fn reuse(model: (&str, usize), path: Path, refill: fn(&Core)) {
    let image = Image::with_entries(3).after(|core| commit(core, &[(b"k", Some(10))]));
    let write = move |core: &Core| {
        commit(core, &[(b"k", Some(20))]);
        match path {
            Path::Spare => core.free_retired(0, 1).unwrap(),
            Path::Bitmap => assert_eq!(core.sweep_retired(0).unwrap(), 1),
        }
        refill(core);
    };
    let read = |core: &Core| try_get(core, b"k");
    race(model, image, write, read, |core, seen| {
        // Several changes may cost more retries than a model has.
        assert!(
            matches!(seen, None | Some(Some(10 | 20 | 30))),
            "not there all the time: {seen:?}"
        );
        assert!(matches!(get(core, b"k"), Some(20 | 30)));
    });
}

/// Fills the room with what is never committed.
fn fill_unborn(core: &Core) {
    let room = core.allocate(0, ROOM, (false, true)).unwrap();
    assert_eq!(room.at, entry_at(0), "the room that became free");
    let value = 990u64.to_le_bytes();
    core.entry_in(room).unwrap().fill(entry::NONE, b"k".into(), &value, &Note::default()).unwrap();
}

/// Promise "never torn": an entry is replaced, and its room, a spare, is being filled anew.
/// Plants: the fence in `take_spare` left out; the fence of the second look left out.
#[test]
fn a_spare_is_filled() {
    reuse(("a_spare_is_filled", 3), Path::Spare, fill_unborn);
}

/// The same when one writer makes the spare and another one fills it; the reader waits for neither.
/// Plant: Relaxed for the spare's `born` := 0, in `take_spare`.
#[test]
fn a_spare_changes_hands() {
    let image = Image::with_entries(3).after(|core| commit(core, &[(b"k", Some(10))]));
    explore("a_spare_changes_hands", 2, move || {
        let bus = image.start();
        let (reader, filler, maker) = (bus.core(), bus.core(), bus.core());
        let reader = thread::spawn(move || {
            // A replacement and a reuse meet it: they may cost more than the attempts of one read.
            try_get(&reader, b"k").unwrap_or_else(|| get(&reader, b"k"))
        });
        let filler = thread::spawn(move || {
            let _guard = filler.lock_stripe(0, 1, &far()).unwrap();
            let count = geometry().stripe(0) + stripe::SPARE_COUNT;
            if filler.region.load(count, Relaxed) == Ok(1) {
                fill_unborn(&filler);
            }
        });
        let guard = maker.lock_stripe(0, 0, &far()).unwrap();
        commit(&maker, &[(b"k", Some(20))]);
        maker.free_retired(0, 1).unwrap();
        drop(guard);
        filler.join().unwrap();
        assert!(matches!(reader.join().unwrap(), Some(10 | 20)), "not there all the time");
    });
}

/// The same for a room that was given back to its span.
/// Plant: the fence in `occupy` left out.
#[test]
fn a_free_room_is_filled() {
    reuse(("a_free_room_is_filled", 3), Path::Bitmap, fill_unborn);
}

/// Promise "what is there is found": another key is committed in the room; nor is it taken for the
/// predecessor of what took its place.
/// Plants: no second look at the slot word; a predecessor whose revision is not compared, nor the
/// head looked at again.
#[test]
fn another_key_gets_the_room() {
    let refill = |core: &Core| commit(core, &[(b"j", Some(30))]);
    reuse(("another_key_gets_the_room", 2), Path::Spare, refill);
}

/// Promise "never torn": the key itself comes back into the room, with another revision.
/// Plant: Relaxed for `born`, in `finish` or in `candidate`.
#[test]
fn the_key_returns_to_the_room() {
    let refill = |core: &Core| commit(core, &[(b"k", Some(30))]);
    reuse(("the_key_returns_to_the_room", 2), Path::Spare, refill);
}

/// Promises "what is there is found" and "a read waits for nobody": a key moves into the room of
/// another one that was deleted, and is never taken for that one.
/// Plants: Relaxed for the slot word, in `finish` or in `search`.
#[test]
fn a_room_had_an_earlier_life() {
    let image = Image::with_entries(3).after(|core| {
        commit(core, &[(b"j", Some(10))]);
        commit(core, &[(b"k", Some(20))]);
        commit(core, &[(b"j", None)]);
        core.free_retired(0, 1).unwrap();
    });
    let write = |core: &Core| commit(core, &[(b"k", Some(40))]);
    let read = |core: &Core| get(core, b"k");
    race(("a_room_had_an_earlier_life", 3), image, write, read, |core, seen| {
        assert!(matches!(seen, Some(20 | 40)), "not there all the time: {seen:?}");
        assert_eq!(get(core, b"k"), Some(40));
    });
}

/// What looks like the entry of `k` that was born with revision 2, but has the value 660.
pub(super) const LOOKS: [u64; 9] = [2, 0, entry::NONE, 8 | 1 << 32, 0, b'k' as u64, 660, 0, 0];
/// The same with lengths that no room has.
const NONSENSE: [u64; 9] = [2, 0, entry::NONE, u64::MAX >> 8, 0, b'k' as u64, 660, 0, 0];

/// `k` was born with revision 2 in a block that is all its own, and may be cut for larger entries.
pub(super) fn room_for_more() -> Image {
    let base = geometry().stripe(0);
    Image::with_entries(3).words([base + stripe::CLASSES + 8 * 4], 0).after(|core| {
        commit(core, &[(b"x", Some(10))]);
        commit(core, &[(b"k", Some(20))]);
        commit(core, &[(b"x", None)]);
    })
}

/// The block of a deleted entry is cut anew by `recut`, which lets `looks` stand in its place.
fn cut_anew(model: (&str, usize), looks: [u64; 9], recut: fn(&Core, [u64; 9])) {
    let image = room_for_more();
    let write = move |core: &Core| {
        commit(core, &[(b"k", None)]);
        assert_eq!(core.sweep_retired(0).unwrap(), 2);
        recut(core, looks);
    };
    let read = |core: &Core| try_get(core, b"k");
    race(model, image, write, read, move |core, seen| {
        assert!(matches!(seen, None | Some(Some(20) | None)), "{seen:?}");
        assert_eq!(core.region.load(entry_at(1), Relaxed), Ok(looks[0]));
        assert_eq!(get(core, b"k"), None);
    });
}

/// The block is cut for larger entries, and a value stands where the entry stood.
pub(super) fn for_values(core: &Core, looks: [u64; 9]) {
    let mut value = [0; 80];
    for (bytes, word) in value[16..].chunks_mut(8).zip(looks) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let mut plans: Vec<Plan> = Vec::new();
    let site = core.site(b"y".into(), &|_| false);
    let basis = core.basis().unwrap();
    core.plan(0, &wish(b"y", Some(&value)), &site, &basis, &mut plans).unwrap();
}

/// The block becomes the list of a batch.
pub(super) fn for_a_list(core: &Core, looks: [u64; 9]) {
    let first = core.make_span(0, LIST, (1, true), span::BITMAP).unwrap();
    let list = core.geometry.block(first) + span::BITMAP;
    let before = ((entry_at(1) - list) / CHANGE_SIZE) as usize;
    let looks = looks.chunks(3).map(|change| match *change {
        [slot, new, old] => Stored { slot, new, old },
        _ => Stored::default(),
    });
    let changes = std::iter::repeat_n(Stored::default(), before).chain(looks);
    core.commit_record(changes, list, 0, 0, 0).unwrap();
}

/// Promise "no bytes are taken for an entry that is none": a block is cut anew under a reader that
/// has a stale slot word.
/// Plants: the second look without the block's word; Relaxed in `block_word`.
#[test]
fn a_block_is_cut_for_values() {
    cut_anew(("a_block_is_cut_for_values", 2), LOOKS, for_values);
}

/// The same. Plant: `make_span` without its fence.
#[test]
fn a_block_is_cut_for_a_list() {
    cut_anew(("a_block_is_cut_for_a_list", 2), LOOKS, for_a_list);
}

/// Promise "nobody is told of damage that is none".
/// Plant: damage is believed in `look` before the entry is looked at again, and no fence comes before
/// the second looks in `read_once` and `read`. (Each of the three suffices.)
#[test]
fn a_block_holds_nonsense() {
    cut_anew(("a_block_holds_nonsense", 2), NONSENSE, for_values);
}
