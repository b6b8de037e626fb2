//! A reader against an array that grows: by a bucket, or doubled, when its block is used anew.

use super::{Image, commit, geometry, get, race, shape, try_get};
use crate::commit::Stored;
use crate::heap::class::LIST;
use crate::region::geometry::{Geometry, Shape};
use crate::region::layout::{BUCKET_SLOTS, CHANGE_SIZE, array, header, span};
use crate::table::Core;

/// A bus of small blocks, with `k`: block 0 holds the array, 1 and 2 entries; there is just room for
/// an array twice as large.
fn image() -> Image {
    let geometry = Geometry::new(Shape { block_shift: 8, ..shape() });
    let new = geometry.block(3);
    Image::of(geometry.clone())
        .commit()
        .log()
        .pins()
        .stripe(0)
        .words([header::SIZE], geometry.block(5))
        .words((0..5).map(|block| geometry.block_word(block)), 0)
        .run(geometry.block(0), geometry.block_size() / 8)
        .array(0, geometry.block_size() / 8 - array::FIRST / 8)
        .entries(1, 2)
        .run(new, 2 * geometry.block_size() / 8)
        .after(|core| commit(core, &[(b"k", Some(10))]))
}

/// Values of the seven keys that fill a bucket, in the order of their revisions.
const FULL: [(&[u8], u64); 7] =
    [(b"a", 10), (b"b", 20), (b"c", 30), (b"d", 40), (b"e", 50), (b"f", 60), (b"g", 70)];

/// Promises "both or neither" and "what is there is found": one key of a full bucket is replaced, and
/// by the same batch one comes into a bucket that is appended for it.
/// Plants: Relaxed for the head, in `finish` or in `head`; the bucket is not linked.
#[test]
fn a_bucket_is_appended() {
    let lines = geometry().block(1) + array::LINES;
    let image = Image::with_entries(9)
        .array(1, 2 * (BUCKET_SLOTS + 1))
        .words([lines], 2)
        .after(|core| FULL.iter().for_each(|(key, value)| commit(core, &[(key, Some(*value))])));
    let write = |core: &Core| commit(core, &[(b"g", Some(80)), (b"h", Some(90))]);
    let read = |core: &Core| (get(core, b"g"), get(core, b"h"));
    race(("a_bucket_is_appended", 3), image, write, read, move |core, seen| {
        assert!(matches!(seen, (Some(70), None | Some(90)) | (Some(80), Some(90))), "{seen:?}");
        assert_eq!(read(core), (Some(80), Some(90)));
        assert_eq!(get(core, b"a"), Some(10));
    });
}

/// Doubles the array; the old one's block becomes the list of a batch, which has 0 where the slot
/// word of `k` was, and nonsense for the bucket's link.
fn double(core: &Core) {
    core.double(0).unwrap();
    assert_eq!(core.make_span(0, LIST, (1, true), span::BITMAP), Ok(0), "the old array's block");
    let list = core.geometry.block(0) + span::BITMAP;
    let link = core.geometry.block(0) + array::FIRST + 8 * BUCKET_SLOTS;
    let (count, place) = ((link - list) / CHANGE_SIZE, (link - list) % CHANGE_SIZE);
    assert_eq!(place, 8, "the link is the second word of a change");
    let nonsense = Stored { slot: 0, new: 1 << 30, old: 0 };
    let changes = std::iter::repeat_n(Stored::default(), count as usize).chain([nonsense]);
    core.commit_record(changes, list, 0, 0, 0).unwrap();
}

/// Promises "what is there is found" and "a read waits for nobody".
/// Plants: Relaxed for the array word, in `publish_array` or in `read`; no fence before the second
/// look at the array word, in `read_once`, or after nonsense in `read` with Relaxed for the link; no
/// fence before the old array's block is cut anew.
#[test]
fn an_array_is_doubled() {
    let read = |core: &Core| get(core, b"k");
    race(("an_array_is_doubled", 3), image(), double, read, |core, seen| {
        assert_eq!(seen, Some(10), "not there all the time");
        assert_eq!(get(core, b"k"), Some(10));
    });
}

/// The same for a key that is replaced as soon as the array is: its old slot word leads to what is
/// dead.
/// Plant: no second look at the array word in `Spot::is_same`.
#[test]
fn a_key_is_replaced_in_the_new_array() {
    let write = |core: &Core| {
        core.double(0).unwrap();
        commit(core, &[(b"k", Some(20))]);
    };
    let read = |core: &Core| try_get(core, b"k");
    race(("a_key_is_replaced_in_the_new_array", 3), image(), write, read, |core, seen| {
        assert!(matches!(seen, None | Some(Some(10 | 20))), "not there all the time: {seen:?}");
        assert_eq!(get(core, b"k"), Some(20));
    });
}

/// The same for a scan.
/// Plant: no fence before the second look in `stripe_keys`.
#[test]
fn an_array_is_scanned() {
    let read = |core: &Core| core.stripe_keys(0, b"").unwrap();
    race(("an_array_is_scanned", 3), image(), double, read, |_, seen| {
        assert_eq!(seen, [b"k"], "not there all the time");
    });
}

/// The same for a scan under which a key is replaced: its new entry is seen whole.
/// Plant: Relaxed for the slot word, in `slot`.
#[test]
fn a_key_is_replaced_under_a_scan() {
    let write = |core: &Core| commit(core, &[(b"k", Some(20))]);
    let read = |core: &Core| core.stripe_keys(0, b"").unwrap();
    race(("a_key_is_replaced_under_a_scan", 3), image(), write, read, |_, seen| {
        assert_eq!(seen, [b"k"], "not there all the time");
    });
}
