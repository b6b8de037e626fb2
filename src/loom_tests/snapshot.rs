//! A snapshot's walk while others write.

use super::{Image, commit, explore, far, set};
use crate::snapshot::{Walk, WalkError};
use crate::snapshot_entry::SnapshotEntry;
use loom::sync::mpsc::channel;
use loom::thread::{self, JoinHandle};
use std::collections::BTreeMap;

/// The member that takes the snapshot.
const KEEPER: u32 = 1;

/// `a` and `b`, born with the revisions 1 and 2.
fn pair() -> Image {
    Image::with_entries(4).after(|core| {
        commit(core, &[(b"a", Some(10))]);
        commit(core, &[(b"b", Some(20))]);
    })
}

type Entries = BTreeMap<Vec<u8>, u64>;

/// What a bus of this revision holds: `a` is replaced by the third one, the fourth is `c`.
fn of_revision(revision: u64) -> Entries {
    let a = (b"a".to_vec(), if revision < 3 { 10 } else { 30 });
    let c = (revision > 3).then(|| (b"c".to_vec(), 40));
    [a, (b"b".to_vec(), 20)].into_iter().chain(c).collect()
}

/// A thread that goes first, as in [`race`](super::race).
fn first(write: impl FnOnce() + 'static) -> JoinHandle<()> {
    let (tell, told) = channel();
    let writer = thread::spawn(move || {
        tell.send(()).unwrap();
        write();
    });
    told.recv().unwrap();
    writer
}

/// Reads one entry: `false` at the end of a good image.
fn take(walk: &mut Walk<'_>, into: &mut Entries) -> Result<bool, WalkError> {
    let mut entry = SnapshotEntry::default();
    if !walk.next_into(&mut entry)? {
        return Ok(false);
    }
    let value = u64::from_le_bytes(entry.value[..].try_into().unwrap());
    assert_eq!(value, 10 * entry.revision, "torn");
    assert!(into.insert(entry.key, value).is_none(), "a key twice");
    Ok(true)
}

/// Reads the rest, and holds an image that says it is good against the revision that it is of.
fn take_rest(walk: &mut Walk<'_>, mut entries: Entries) {
    loop {
        match take(walk, &mut entries) {
            Ok(true) => {}
            Ok(false) => break,
            Err(WalkError::Aborted) => return,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(entries, of_revision(walk.head.revision), "a good image of something else");
}

/// Promise "a snapshot is of one revision": it is ended by who needs the room, in the middle of its
/// walk, and what it kept is used anew.
/// Plants: `next_into` without its last look; no fence in `still_on`.
#[test]
fn a_snapshot_gives_way() {
    let image = pair();
    explore("a_snapshot_gives_way", 3, move || {
        let bus = image.start();
        let (keeper, writer) = (bus.core(), bus.core());
        let (mut walk, mut entries) = (Walk::begin(&keeper, KEEPER, 9).unwrap(), Entries::new());
        // The last entry is read first; the first one is replaced, and kept.
        assert_eq!(take(&mut walk, &mut entries), Ok(true));
        commit(&writer, &[(b"a", Some(30))]);
        writer.free_retired(0, 1).unwrap();
        let writer = first(move || {
            assert_eq!(writer.abort_snapshot(0, writer.patience), Ok(true));
            writer.free_retired(0, 1).unwrap();
            commit(&writer, &[(b"c", Some(40))]);
        });
        take_rest(&mut walk, entries);
        writer.join().unwrap();
    });
}

/// The same for a snapshot that begins while a key is replaced, and that nobody ends.
/// Plants: a dead entry is kept when it was born by the revision, whenever it died; `done` before the
/// entries were read.
#[test]
fn a_snapshot_begins() {
    let image = pair();
    explore("a_snapshot_begins", 3, move || {
        let bus = image.start();
        let (keeper, writer) = (bus.core(), bus.core());
        let writer = first(move || {
            set(&writer, b"a", 30);
            let guard = writer.lock_stripe(0, 0, &far()).unwrap();
            writer.free_retired(0, 1).unwrap();
            drop(guard);
            set(&writer, b"c", 40);
        });
        let mut walk = Walk::begin(&keeper, KEEPER, 9).unwrap();
        take_rest(&mut walk, Entries::new());
        writer.join().unwrap();
    });
}
