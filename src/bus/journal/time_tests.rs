//! Promise "a bus goes back to a time": what was there when the clock showed it, whatever times its entries have, and
//! however the clock went.

use super::super::testing::Place;
use super::keep::Journaler;
use super::*;
use crate::backend::FromFn;
use crate::backend::conformance_tests::load;
use crate::journal::format::{GroupWriter, Header, Kind};
use crate::journal::segments::Segment;
use crate::snapshot_entry::SnapshotEntry;
use crate::sys::clock::wall_ns;
use crate::{Persist, ReadBus};

type State = Vec<(Vec<u8>, Vec<u8>)>;

/// What is loaded of a past; nothing when there is none.
fn found(past: &dyn Backend) -> Option<State> {
    let (_, entries) = load(past).unwrap()?;
    Some(entries.into_iter().map(|entry| (entry.key, entry.value)).collect())
}

fn entry(key: &str, time: u64) -> SnapshotEntry {
    let (key, value) = (key.as_bytes().to_vec(), time.to_le_bytes().to_vec());
    SnapshotEntry { key, value, time, ..SnapshotEntry::default() }
}

/// Promise: entries that are imported come with their import, whether they are old, of another bus a moment ago, or of the
/// future, and hide nothing that came after them.
/// Plants: times of entries taken for those of commits; a time that counts when it is not older than what was committed before
/// (what another bus had a moment ago).
#[test]
fn imported_times_are_no_times_of_commits() {
    for is_turned in [true, false] {
        let place = Place::new();
        let options = place.options().journal(JournalSync::Always);
        let bus = options.durability(Durability::Visible).create_at(place.bus()).unwrap();
        let (directory, sync) = bus.inner.saving.journaling.place.clone().unwrap();
        let mut journaler = Journaler::new(directory, sync);
        let snapshots = bus.inner.saving.backend.clone().unwrap();
        let past = |time| bus.inner.saving.journaling.past(&snapshots, Until::Time(time)).unwrap();
        let state = || -> State {
            let entries = bus.scan_entries("").map(|entry| entry.unwrap());
            let mut state: State = entries.map(|e| (e.key.to_vec(), e.value)).collect();
            state.sort();
            state
        };
        for times in [1_000_000_000, 0, 4_102_444_800_000_000_000] {
            bus.set("k", &times).unwrap();
            // Elsewhere something is set, and here the log is looked at after that.
            let time = if times == 0 { wall_ns() } else { times };
            journaler.turn(&bus.inner).unwrap();
            let (then, before) = (wall_ns(), state());
            let mut entries = [entry("one", time), entry("two", time)].into_iter();
            bus.import(&mut FromFn(|| Ok(entries.next()))).unwrap();
            if is_turned {
                journaler.turn(&bus.inner).unwrap();
                assert_eq!(found(&past(wall_ns())), Some(state()), "{times}");
            }
            bus.set("x", &times).unwrap();
            journaler.turn(&bus.inner).unwrap();
            assert_eq!(found(&past(then)), Some(before), "{times}");
            assert_eq!(found(&past(wall_ns())), Some(state()), "{times}");
        }
    }
}

/// A journal of these groups: when each was sealed, since when its records were looked for, and times of its entries. The
/// revisions count from 1, and the keys are named by them.
fn journal(place: &Place, groups: &[(u64, u64, &[u64])]) -> Past {
    let journal = place.path().join("journal");
    let at = Point { incarnation: 7, revision: 0 };
    let header = Header { at, created: 900, ..Header::default() };
    let mut segment = Segment::create(&journal, header).unwrap();
    let (mut writer, mut revision) = (GroupWriter::default(), 0);
    for (sealed, since, times) in groups {
        writer.begin(*since);
        for time in *times {
            revision += 1;
            let entry = SnapshotEntry { revision, ..entry(&revision.to_string(), *time) };
            writer.push(Kind::Set, &entry);
            writer.end_commit(true);
        }
        segment.append(writer.seal(&segment.header.clone(), revision, *sealed)).unwrap();
    }
    let images = Persist::Image(place.path().join("images"));
    let snapshots = images.backend(1).unwrap().unwrap();
    Past { snapshots, journal, until: Until::Newest }
}

/// The revision of the last state at or before a time.
fn last_at(past: &Past, time: u64) -> Option<usize> {
    let (snapshots, journal) = (Arc::clone(&past.snapshots), past.journal.clone());
    found(&Past { snapshots, journal, until: Until::Time(time) }).map(|state| state.len())
}

/// Promise: where the clock was ahead or behind for a while, what is found is the last state that was made when it showed the
/// time that was asked for, or an earlier one.
/// Plants: the first later cut taken for the end; times that never fall.
#[test]
fn a_clock_that_was_set_hides_nothing() {
    let place = Place::new();
    let groups: [(u64, u64, &[u64]); 6] = [
        (1001, 900, &[1000]),
        (5001, 1001, &[5000]),
        (2001, 5001, &[2000]),
        (6001, 2001, &[6000]),
        (3001, 2999, &[3000]),
        (3501, 3001, &[3500]),
    ];
    let past = journal(&place, &groups);
    for (time, last) in [(899, None), (999, Some(0)), (1000, Some(1)), (1999, Some(1))] {
        assert_eq!(last_at(&past, time), last, "{time}");
    }
    // Of the third no own time is known, as the clock had gone back since the log was looked at: its group's counts.
    for (time, last) in [(2000, 1), (2001, 3), (2999, 3), (3000, 5), (3499, 5), (3500, 6)] {
        assert_eq!(last_at(&past, time), Some(last), "{time}");
    }
    for time in [4999, 5001, 6001, u64::MAX] {
        assert_eq!(last_at(&past, time), Some(6), "{time}");
    }
    assert_eq!(found(&past).map(|state| state.len()), Some(6));
}

/// Promise: who looked at the clock and then had to wait for others is no reason that what they wrote is told late, or
/// told with what came after it.
/// Plants: the group's time for the rest of a group; cuts by their own times alone.
#[test]
fn writers_that_waited_are_told_in_order() {
    let place = Place::new();
    // The first had begun before the look at the log; the third had waited for the second.
    let past = journal(&place, &[(9000, 2000, &[1999, 2100, 2050, 2200, 1500])]);
    let expected = [(1999, 0), (2099, 0), (2100, 3), (2199, 3), (2200, 4), (8999, 4), (9000, 5)];
    for (time, last) in expected {
        assert_eq!(last_at(&past, time), Some(last), "{time}");
    }
}
