//! The log's ring, which holds two records, under a reader.

use super::{Image, geometry, race, set, wish};
use crate::log::{Read, RecordKind};
use crate::region::layout::stripe;
use crate::table::Core;

/// Where the records of the revisions 1 and 2 stand.
const PLACES: [u64; 2] = [0, 56];

/// Two records, of `k` := 10 and `k` := 20.
fn full() -> Image {
    Image::with_entries(4).after(|core| {
        set(core, b"k", 10);
        set(core, b"k", 20);
    })
}

/// Reads the record of a revision: whole, or not at all.
fn read(core: &Core, revision: u64) -> bool {
    match core.log_read(PLACES[revision as usize - 1], revision).unwrap() {
        Read::Record(record, _) => {
            assert_eq!((record.revision, &record.key[..]), (revision, &b"k"[..]));
            assert_eq!(record.value, (10 * revision).to_le_bytes(), "torn");
            true
        }
        Read::Overtaken => false,
    }
}

/// Promise "one order, nothing passed over in silence": a record is read while the ring comes round.
/// Plants: the fence in `log_intend` or in `log_still_there` left out.
#[test]
fn the_ring_comes_round() {
    let write = |core: &Core| set(core, b"k", 30);
    race(
        ("the_ring_comes_round", 3),
        full(),
        write,
        |core| read(core, 1),
        |core, _| {
            assert!(!read(core, 1), "overwritten bytes are still believed");
            assert!(read(core, 2));
        },
    );
}

/// The same for a watch that looks for its place first: it gets there, or is told what it missed.
/// Plant: the fence in `log_intend` left out.
#[test]
fn a_place_is_looked_for() {
    let write = |core: &Core| set(core, b"k", 30);
    let find = |core: &Core| match core.log_find(1).unwrap() {
        Ok(position) => {
            assert_eq!(position, PLACES[0]);
            read(core, 1);
            1
        }
        Err(oldest) => oldest,
    };
    race(("a_place_is_looked_for", 2), full(), write, find, |core, oldest| {
        assert!((1..=4).contains(&oldest), "{oldest}");
        assert!(core.log_find(1).unwrap().is_err());
    });
}

/// The same for a watch that looks for the first change of all: it finds its record, or the place where
/// it will stand.
/// Plant: Relaxed for the head in `log_find`.
#[test]
fn the_first_place_is_looked_for() {
    let write = |core: &Core| set(core, b"k", 10);
    let find = |core: &Core| core.log_find(1).unwrap();
    let model = ("the_first_place_is_looked_for", 3);
    race(model, Image::with_entries(4), write, find, |core, found| {
        assert_eq!(found, Ok(PLACES[0]), "passed over");
        assert!(read(core, 1));
    });
}

/// Promise "both or neither" for a clear: its floor is visible before the head has followed, and then its
/// record can be read.
/// Plants: Relaxed for the floor, in `finish` or in `visible_head`.
#[test]
fn a_clear_is_told_with_its_record() {
    let swept = geometry().stripe(0) + stripe::SWEPT_TO;
    let write = |core: &Core| assert_eq!(core.clear(0, 0, b"").unwrap(), 1);
    let read = |core: &Core| match core.head().unwrap() {
        0 => None,
        head => match core.log_read(PLACES[0], head).unwrap() {
            Read::Record(record, _) => Some(record.kind),
            Read::Overtaken => panic!("nobody came round"),
        },
    };
    let image = Image::with_entries(1).words([swept], 0);
    race(("a_clear_is_told_with_its_record", 3), image, write, read, move |core, told| {
        assert!(matches!(told, None | Some(RecordKind::Clear)), "{told:?}");
        assert_eq!(read(core), Some(RecordKind::Clear));
    });
}

/// The same when the records of a batch are left out of the log: what comes next stands where the
/// reader reads, and no older byte counts as still there.
/// Plant: `log_skip` moves the intent to the end of this round only.
#[test]
fn records_are_left_out() {
    let write = |core: &Core| {
        let values = [30u64, 40].map(u64::to_le_bytes);
        let batch = [wish(b"k", Some(&values[0])), wish(b"j", Some(&values[1]))];
        assert_eq!(core.write_batch(0, &batch).unwrap().revision, 4);
        set(core, b"k", 50);
    };
    race(("records_are_left_out", 3), full(), write, |core| (read(core, 1), read(core, 2)), {
        |core, seen| {
            assert_ne!(seen, (false, true), "they go together");
            assert_eq!((read(core, 1), read(core, 2)), (false, false));
            assert_eq!(core.log_find(2).unwrap(), Err(5));
        }
    });
}
