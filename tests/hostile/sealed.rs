//! The words of the header that never change: damage is found when somebody attaches.

use crate::layout::header;
use crate::place::Place;
use membus::{HeaderError, OpenError};

/// Plants: a checksum that leaves one of the words out, and one that is not compared.
#[test]
fn damage_of_the_header_is_found_at_attach() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = Place::new(root.path());
    let shapes = place.shapes();
    for at in (0..header::IMMUTABLE_END).step_by(8) {
        let old = shapes[1].image.word(at);
        let flips = (0..64).map(|bit| old ^ 1 << bit);
        let others = [0, 1, u64::MAX, old.wrapping_add(1), old.swap_bytes()];
        for word in flips.chain(others).filter(|word| *word != old) {
            let mut image = shapes[1].image.clone();
            image.set(at, word);
            place.put(&shapes[1], &image);
            let bus = place.options().attach_at(place.path()).map(drop);
            let refused = matches!(bus, Err(OpenError::Header { .. }));
            assert!(refused, "the word at {at} became {word:#x}: {bus:?}");
            assert!(place.options().reader_at(place.path()).is_err());
            assert!(membus::check(place.path()).is_err());
        }
    }
}

/// A checksum can be made to fit; the limits of each number hold all the same.
/// Plant: `limits` that is not asked.
#[test]
fn a_forged_header_is_held_to_its_limits() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = Place::new(root.path());
    let shapes = place.shapes();
    for (what, at, beyond) in [
        ("max_capacity", header::MAX_CAPACITY, vec![(1 << 38) + 1, u64::MAX, 0, 1 << 14]),
        ("block_shift", header::BLOCK_SHIFT, vec![13, 21, 63, 64]),
        ("stripes", header::STRIPES, vec![0, 3, 2048, u64::MAX]),
        ("members_max", header::MEMBERS_MAX, vec![0, (1 << 16) + 1, u64::MAX]),
        ("watches_max", header::WATCHES_MAX, vec![1, 1 << 17, u64::MAX]),
        ("log_size", header::LOG_SIZE, vec![0, 2048, 5000, 1 << 37]),
        ("first_revision", header::FIRST_REVISION, vec![1 << 62, u64::MAX]),
    ] {
        for word in beyond {
            let mut image = shapes[1].image.clone();
            image.set(at, word);
            image.reseal();
            place.put(&shapes[1], &image);
            let end = place.options().attach_at(place.path()).map(drop);
            let Err(OpenError::Header { source, .. }) = end else {
                panic!("{what}: {word}: {end:?}")
            };
            let is_told = matches!(source, HeaderError::Limits { what: told, .. } if told == what);
            assert!(is_told, "{what} = {word}: {source:?}");
        }
    }
}

/// Plant: a file's size that is not compared with the size word.
#[test]
fn a_file_that_was_cut_is_found_at_attach() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = Place::new(root.path());
    let shapes = place.shapes();
    for shape in &shapes {
        let size = shape.image.word(header::SIZE);
        for len in [0, 1, 4095, 4096, 4097, size / 2, size - 4096, size - 1] {
            let mut image = shape.image.clone();
            image.0.truncate(len as usize);
            place.put(shape, &image);
            let end = place.options().attach_at(place.path()).map(drop);
            assert!(
                matches!(end, Err(OpenError::Truncated { .. })),
                "{}: {len}: {end:?}",
                shape.name
            );
        }
    }
}
