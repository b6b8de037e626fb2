//! The rules, as far as one process shows them.

use super::{Collected, Place, assert_same, everything, head, load, of_round, save, sorted};
use crate::backend::{Backend, BackendError, FromFn};
use crate::config::Persist;
use crate::hook;
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use crate::sys::seam::failing;
use std::ops::ControlFlow;

/// Rule 2, exact: every entry comes back byte for byte, of a first snapshot as of one that replaces,
/// changes, adds to and takes away from another; with revisions, times and deadlines to their ends.
pub(super) fn exact(place: fn() -> Place) {
    let place = place();
    let backend = place.open(3);
    assert!(load(&*backend).unwrap().is_none() && !backend.exists().unwrap());
    let all = everything();
    let ends = SnapshotHead {
        bus_id: u128::MAX,
        incarnation: u64::MAX,
        revision: u64::MAX,
        created: u64::MAX,
    };
    let mut other: Vec<_> = all.iter().step_by(2).cloned().collect();
    for (number, entry) in other.iter_mut().enumerate().step_by(3) {
        match number % 4 {
            0 => entry.who = vec![b'x'; 64],
            1 => entry.expires ^= 5,
            2 => (entry.value, entry.kind) = (b"changed".to_vec(), 0),
            _ => (entry.revision, entry.time) = (u64::MAX, u64::MAX),
        }
    }
    other.push(SnapshotEntry { key: vec![0xff; 3], who: vec![0xfe], ..SnapshotEntry::default() });
    let other = sorted(other);
    for (number, entries) in [&all, &other, &other, &all, &Vec::new(), &all].iter().enumerate() {
        let head = if number % 2 == 0 { head(number as u64) } else { ends };
        let saved = save(&*backend, &head, entries).unwrap();
        assert_eq!(saved.entries, entries.len() as u64);
        assert!(saved.bytes > 0 || entries.is_empty());
        // By a handle of its own, as another process would.
        let found = load(&*place.open(3)).unwrap();
        assert_same(&format!("snapshot {number}"), &found, &head, entries);
        assert_eq!(found.unwrap().0.refused, []);
    }
}

/// Rule 1, whole or absent: a save whose source gives up after n entries changes nothing, and leaves
/// nothing that hinders the next one.
pub(super) fn given_up(place: fn() -> Place) {
    let place = place();
    let backend = place.open(1);
    let give_up = |after: u64| {
        let mut entries = of_round(2, after).into_iter();
        let next = || entries.next().map(Some).ok_or(BackendError::GivenUp);
        let end = backend.save(&head(2), &mut FromFn(next));
        assert!(matches!(end, Err(BackendError::GivenUp)), "{end:?}");
    };
    give_up(5);
    assert!(load(&*backend).unwrap().is_none() && !backend.exists().unwrap());
    for after in [0, 1, 2, 500, 4000] {
        save(&*backend, &head(1), &of_round(1, 3)).unwrap();
        let before = place.files();
        give_up(after);
        assert_same("the old one", &load(&*backend).unwrap(), &head(1), &of_round(1, 3));
        assert_eq!(place.files(), before, "nothing is left");
    }
    save(&*backend, &head(3), &of_round(3, 7)).unwrap();
    assert_same("the next", &load(&*backend).unwrap(), &head(3), &of_round(3, 7));
}

/// What a save that may have failed has left: the old one or the new one, and the next one goes well.
fn old_or_new(what: &str, backend: &dyn Backend, is_done: bool) {
    let found = load(backend).unwrap_or_else(|error| panic!("{what}: {error}"));
    let revision = found.as_ref().map(|(loaded, _)| loaded.head.revision);
    assert!(revision == Some(1) && !is_done || revision == Some(2), "{what}: {revision:?}");
    let round = revision.unwrap_or_default();
    assert_same(what, &found, &head(round), &of_round(round, 3));
    save(backend, &head(3), &of_round(3, 4)).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_same(what, &load(backend).unwrap(), &head(3), &of_round(3, 4));
}

/// Rule 1, whole or absent: whichever system call fails, and however, the old snapshot stays or the new one
/// is there whole; an error is told unless the new one is.
pub(super) fn failing_calls(place: fn() -> Place) {
    for errno in [libc::ENOSPC, libc::EIO, libc::EMFILE, libc::EROFS] {
        for n in 0.. {
            let place = place();
            let backend = place.open(1);
            save(&*backend, &head(1), &of_round(1, 3)).unwrap();
            let (end, failed) = failing(n, errno, || save(&*backend, &head(2), &of_round(2, 3)));
            old_or_new(&format!("call {n}, errno {errno}"), &*backend, end.is_ok());
            if !failed {
                assert!(n > 5 || !place.is_seamed, "the calls of a save pass the seam");
                break;
            }
        }
    }
}

/// Rule 1, whole or absent: whoever dies after the n-th call of a save leaves the old snapshot or the new
/// one whole, and nothing that hinders the next one.
pub(super) fn dying(place: fn() -> Place) {
    for n in 0.. {
        let place = place();
        let backend = place.open(1);
        save(&*backend, &head(1), &of_round(1, 3)).unwrap();
        let end = hook::dying_after(n, || save(&*backend, &head(2), &of_round(2, 3)));
        old_or_new(&format!("death after call {n}"), &*backend, end.is_some());
        let kept = place.files().len();
        if end.is_some() {
            assert!(n > 5 || !place.is_seamed, "the calls of a save pass the seam");
            break;
        }
        // What the dead one left is gone.
        save(&*backend, &head(4), &of_round(4, 4)).unwrap();
        assert_eq!(place.files().len(), kept, "after {n} calls: {:?}", place.files());
    }
}

/// `exists` and `delete`: what was deleted is absent, for every handle; to delete nothing is well; the next
/// snapshot is the only one.
pub(super) fn gone(place: fn() -> Place) {
    let place = place();
    let backend = place.open(3);
    backend.delete().unwrap();
    assert!(!backend.exists().unwrap());
    for round in 1..4 {
        save(&*backend, &head(round), &of_round(round, 5)).unwrap();
    }
    let other = place.open(3);
    assert!(other.exists().unwrap());
    other.delete().unwrap();
    assert!(!backend.exists().unwrap() && load(&*backend).unwrap().is_none());
    other.delete().unwrap();
    save(&*backend, &head(9), &of_round(9, 2)).unwrap();
    assert_same("the only one", &load(&*other).unwrap(), &head(9), &of_round(9, 2));
}

/// Older snapshots stay, as many as asked for, and no more; where none does, the newest is all there is.
pub(super) fn keeps(place: fn() -> Place) {
    for (keep, stay) in [(0, 1), (1, 1), (3, 3)] {
        let place = place();
        for round in 1..8 {
            save(&*place.open(keep), &head(round), &of_round(round, 40)).unwrap();
        }
        let files = place.files();
        if !place.keeps_older {
            continue;
        }
        assert_eq!(files.len(), stay, "{files:?}");
        for lost in 0..stay as u64 {
            let round = 7 - lost;
            let (found, entries) = load(&*place.open(keep)).unwrap().unwrap();
            assert_eq!(found.head.revision, round);
            assert!(entries == of_round(round, 40));
            assert_eq!(found.refused.len() as u64, lost);
            let newest = place.files().into_iter().find(|file| is_of(file, round));
            std::fs::write(newest.unwrap(), b"no snapshot").unwrap();
        }
        let refused = load(&*place.open(keep)).unwrap_err();
        assert!(matches!(refused, BackendError::Damaged { .. }), "{refused}");
        // With all of them damaged, the next one is good and is found.
        save(&*place.open(keep), &head(8), &of_round(8, 2)).unwrap();
        assert_same("anew", &load(&*place.open(keep)).unwrap(), &head(8), &of_round(8, 2));
    }
}

/// Who goes back finds the newest snapshot that is wanted of those that stay, a damaged one passed over; `oldest` says how
/// far back that is. Also while others save, whatever names their saves give to what is there.
/// Plants, for JSON: the defaults of `Backend`; documents chosen by names that are another one's when they are read; one look.
pub(super) fn gone_back_to(place: fn() -> Place) {
    let place = place();
    if !place.keeps_older {
        return;
    }
    let backend = place.open(3);
    let back_to = |last: u64| {
        let mut found = Collected::default();
        let loaded = backend.load_where(&|head| head.revision <= last, &mut found);
        loaded.map(|loaded| loaded.map(|loaded| (loaded.head.revision, sorted(found.entries))))
    };
    assert!(back_to(9).unwrap().is_none() && backend.oldest().unwrap().is_none());
    for round in 1..6 {
        save(&*backend, &head(round), &of_round(round, 5)).unwrap();
    }
    assert_eq!(backend.oldest().unwrap(), Some(head(3)));
    for last in 1..8 {
        let is = Some(last.min(5)).filter(|round| *round >= 3);
        assert!(back_to(last).unwrap() == is.map(|round| (round, of_round(round, 5))), "{last}");
    }
    let damage = |round| {
        let file = place.files().into_iter().find(|file| is_of(file, round)).unwrap();
        std::fs::write(file, b"no snapshot").unwrap();
    };
    damage(4);
    assert!(back_to(4).unwrap() == Some((3, of_round(3, 5))));
    damage(3);
    assert_eq!(backend.oldest().unwrap(), Some(head(5)));
    assert!(matches!(back_to(4), Err(BackendError::Damaged { .. })));
    backend.delete().unwrap();
    let shelf = place.open(1000);
    for round in 1..3 {
        save(&*shelf, &head(round), &of_round(round, 5)).unwrap();
    }
    for asked in [2, 1] {
        // Another one saves just when it is asked whether this one is wanted.
        let is_saved = std::cell::Cell::new(false);
        let is_wanted = |of: &SnapshotHead| {
            if of.revision == asked && !is_saved.replace(true) {
                save(&*shelf, &head(3), &of_round(3, 5)).unwrap();
            }
            of.revision == 1
        };
        let mut found = Collected::default();
        let loaded = backend.load_where(&is_wanted, &mut found).unwrap();
        assert_eq!(loaded.map(|loaded| loaded.head.revision), Some(1), "at {asked}");
    }
    std::thread::scope(|scope| {
        let saver = scope.spawn(|| {
            for round in 4..100 {
                save(&*shelf, &head(round), &of_round(round, 5)).unwrap();
            }
        });
        while !saver.is_finished() {
            assert!(back_to(1).unwrap() == Some((1, of_round(1, 5))));
            assert_eq!(backend.oldest().unwrap(), Some(head(1)));
        }
    });
}

/// Whether a file holds the snapshot of a round, by a look at what each backend writes first.
fn is_of(file: &std::path::Path, round: u64) -> bool {
    let copy = super::directory();
    let alone = copy.path().join(file.file_name().unwrap());
    std::fs::copy(file, &alone).unwrap();
    let there = match file.to_string_lossy() {
        name if name.contains(".membus") => Persist::Image(copy.path().to_owned()),
        _ => Persist::Json(alone),
    };
    load(&*there.backend(1).unwrap().unwrap())
        .is_ok_and(|found| found.is_some_and(|(loaded, _)| loaded.head.revision == round))
}

/// The newest is what was saved last, by whomever: also with a lower revision or in another incarnation, as
/// of a bus that was rebuilt from an older one; also where the newest is damaged.
pub(super) fn in_turn(place: fn() -> Place) {
    for keep in [1, 3] {
        let place = place();
        let savers = [place.open(keep), place.open(keep)];
        let revisions = [50, 60, 60, 7, 1 << 50, 8, 8];
        for (number, revision) in revisions.into_iter().enumerate() {
            let incarnation = number as u64 / 2;
            let head = SnapshotHead { incarnation, ..head(revision) };
            let entries = of_round(number as u64 + 1, 3 + number as u64 % 2);
            save(&*savers[number % 2], &head, &entries).unwrap();
            assert_same("the last", &load(&*place.open(keep)).unwrap(), &head, &entries);
        }
    }
}

/// Who loads while others save gets a snapshot whole, and never an older one than before.
pub(super) fn beside(place: fn() -> Place) {
    let place = place();
    save(&*place.open(1), &head(1), &of_round(1, 100)).unwrap();
    std::thread::scope(|scope| {
        let saver = scope.spawn(|| {
            for round in 2..300 {
                let end = save(&*place.open(1), &head(round), &of_round(round, 100));
                end.unwrap_or_else(|error| panic!("round {round}: {error}"));
            }
        });
        let (mut last, mut loads) = (0, 0);
        while !saver.is_finished() || loads < 20 {
            let found = load(&*place.open(1)).unwrap();
            let round = found.as_ref().map_or(0, |(loaded, _)| loaded.head.revision);
            assert!(round >= last, "{round} after {last}");
            assert_same("beside", &found, &head(round), &of_round(round, 100));
            (last, loads) = (round, loads + 1);
        }
    });
}

/// What is copied from images to a backend, and from there to images, is what it was.
pub(super) fn copied(place: fn() -> Place) {
    let (place, all) = (place(), everything());
    let images = |name: &str| super::open(&format!("image:{}/{name}", place.path().display()), 1);
    let (first, last) = (images("first"), images("last"));
    save(&*first, &head(5), &all).unwrap();
    for (from, to) in [(&first, &place.open(1)), (&place.open(1), &last)] {
        let (loaded, saved) =
            crate::backend::copy(&**from, &**to, |_| ControlFlow::Continue(())).unwrap().unwrap();
        assert_eq!((loaded.entries, saved.entries), (all.len() as u64, all.len() as u64));
    }
    assert_same("copied", &load(&*last).unwrap(), &head(5), &all);
}
