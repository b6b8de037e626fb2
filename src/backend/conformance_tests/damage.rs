//! Rule 3, refuses: whatever became of the files.

use super::{Place, everything, head, load, of_round, save};
use crate::backend::BackendError;
use crate::snapshot_entry::SnapshotEntry;

/// Places of a file that are harmed: its ends, and others all over it.
fn places(size: usize, count: usize) -> Vec<usize> {
    let ends = (0..size.min(40)).chain(size.saturating_sub(40)..size);
    let mut places: Vec<_> = ends.chain((0..size).step_by((size / count).max(1))).collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn entries() -> Vec<SnapshotEntry> {
    let short = |entry: &SnapshotEntry| entry.value.len() < 2000;
    let mut entries: Vec<_> = everything().into_iter().filter(short).collect();
    entries.extend(of_round(1, 30));
    super::sorted(entries)
}

/// A file that was cut off or in which a bit was changed is refused, or gives exactly what was saved, where
/// the change says nothing; never a shorter snapshot or another one.
pub(super) fn damaged(place: fn() -> Place) {
    let (place, entries) = (place(), entries());
    save(&*place.open(1), &head(1), &entries).unwrap();
    let files = place.files();
    let [file] = files.as_slice() else { return };
    let good = std::fs::read(file).unwrap();
    let mut harmless = 0;
    let mut harm = |what: String, bad: &[u8], may_be_harmless: bool| {
        std::fs::write(file, bad).unwrap();
        match load(&*place.open(1)) {
            Ok(Some((loaded, found))) => {
                assert!(may_be_harmless, "{what}: was not seen");
                assert!(loaded.head == head(1) && found == entries, "{what}: another snapshot");
                harmless += 1;
            }
            Ok(None) => assert!(bad.is_empty() && !place.is_tight, "{what}: absent"),
            Err(BackendError::Damaged { reason, .. }) => assert!(!reason.is_empty(), "{what}"),
            Err(error) => panic!("{what}: {error}"),
        }
    };
    for cut in places(good.len(), 150) {
        harm(
            format!("cut at {cut} of {}", good.len()),
            &good[..cut],
            cut + 40 > good.len() && !place.is_tight,
        );
    }
    for at in places(good.len(), 700) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        harm(format!("bit {} of byte {at} of {}", at % 8, good.len()), &bad, !place.is_tight);
    }
    for (from, to) in
        places(good.len(), 40).into_iter().zip(places(good.len(), 30).into_iter().rev())
    {
        let mut bad = good.clone();
        bad.splice(from..from, good[to..].iter().copied());
        harm(format!("{to}.. again at {from}"), &bad, !place.is_tight);
    }
    // Some formats say how long they are.
    let may_be_longer =
        matches!(file.extension().and_then(|end| end.to_str()).unwrap_or_default(), "db");
    harm("a byte more".to_owned(), &[&good[..], b"x"].concat(), may_be_longer);
    harm("twice".to_owned(), &[&good[..], &good[..]].concat(), may_be_longer);
    std::fs::write(file, &good).unwrap();
    assert!(load(&*place.open(1)).unwrap().unwrap().1 == entries);
    println!("{harmless} changes said nothing");
}
