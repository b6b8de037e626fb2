//! How a snapshot goes: how fast, who hears how far it is, and who may end it.

use super::{content, lose, quiet};
use crate::harness::{Place, assert_whole, eventually};
use membus::{Bus, Persist, Progress, ReadBus, SnapshotError, SnapshotOptions, Stage};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Bytes a second by which a snapshot of what [`fill`] sets takes half an hour.
const CRAWL: u64 = 1000;

fn fill(bus: &Bus) {
    for number in 0..20_000_u32 {
        bus.set_bytes(format!("k{number}"), [1; 50]).unwrap();
    }
}

/// Promise (rate): the keeper's snapshots go by the rate that was said, which is kept and told.
/// Plant: the keeper saves by full speed.
#[test]
fn the_keeper_saves_no_faster_than_it_may() {
    let place = Place::new();
    let bus = quiet(&place);
    for number in 0..4000_u32 {
        bus.set_bytes(number.to_le_bytes(), vec![1; 200]).unwrap();
    }
    drop(bus);
    // More than a million bytes.
    let options = place.options().snapshot_rate(500_000).snapshot_after(1);
    let begun = Instant::now();
    let bus = options.open_at(place.bus()).unwrap();
    assert_eq!(bus.info().unwrap().snapshot_rate, 500_000);
    eventually("a snapshot", || (bus.info().unwrap().last_snapshot_revision > 0).then_some(()));
    assert!(begun.elapsed() >= Duration::from_millis(1700), "{:?}", begun.elapsed());
    assert_whole(&bus);
}

/// Promise (rate): nobody waits for a snapshot that is slow: one that is asked for makes it go by full speed, by
/// whatever handle; a handle that closes or is dropped ends it, and so does who destroys the bus.
/// Plant: no look whether somebody waits: `Busy`.
#[test]
fn nobody_waits_for_a_slow_snapshot() {
    let crawling = || {
        let place = Place::new();
        let options = place.options().snapshot_rate(CRAWL).snapshot_every(Duration::ZERO);
        let bus = quiet(&place);
        fill(&bus);
        let keeper = options.open_at(place.bus()).unwrap();
        // It has made its file.
        eventually("a snapshot", || {
            let mut files = std::fs::read_dir(place.images()).ok()?;
            files.next().map(drop)
        });
        (place, bus, keeper)
    };
    let (place, other, keeper) = crawling();
    other.snapshot().unwrap();
    assert_eq!(place.image_files().len(), 2, "both");
    keeper.set("k", &1).unwrap();
    keeper.close().unwrap();
    drop(other);
    let (place, other, keeper) = crawling();
    keeper.snapshot().unwrap();
    assert!(!place.image_files().is_empty());
    drop((keeper, other));
    let (place, other, keeper) = crawling();
    drop(keeper);
    assert!(place.image_files().is_empty(), "it was ended");
    drop(other);
    let (place, _other, _keeper) = crawling();
    place.options().destroy_at(place.bus(), true).unwrap();
    assert!(place.image_files().is_empty());
}

/// Promise (rate): a snapshot that is so slow that a writer needs the room of what it keeps gives way, and then goes by
/// full speed.
/// Plant: by the rate again.
#[test]
fn what_gave_way_goes_by_full_speed() {
    let place = Place::new();
    let options = place.options().max_capacity(8 << 20).keeper(false);
    let bus = options.open_at(place.bus()).unwrap();
    for number in 0..175_u32 {
        bus.set_bytes(number.to_le_bytes(), vec![1; 20_000]).unwrap();
    }
    let mut told = |progress: &Progress| {
        if progress.entries > 0 && progress.bytes < 1 << 20 {
            // Each of these keeps another old value in the file.
            for number in 0..175_u32 {
                bus.set_bytes(number.to_le_bytes(), vec![2; 20_000]).unwrap();
            }
        }
        ControlFlow::Continue(())
    };
    let saved = bus.snapshot_with(SnapshotOptions::new().rate(CRAWL).progress(&mut told)).unwrap();
    assert_eq!(saved.entries, 175);
    assert_whole(&bus);
}

/// Promise (progress): each stage is told from its beginning to its end, never backwards, with what there is in all
/// where that is known.
/// Plant: a stage that begins where the one before ended.
#[test]
fn how_far_it_is_is_told() {
    let place = Place::new();
    let bus = quiet(&place);
    fill(&bus);
    let (mut heard, sizes) = (Vec::new(), (20_000, 20_000 * 50));
    let backup = Persist::Image(place.path().join("backup")).backend(1).unwrap().unwrap();
    let mut told = |progress: &Progress| {
        heard.push(*progress);
        ControlFlow::Continue(())
    };
    bus.snapshot_with(SnapshotOptions::new().progress(&mut told)).unwrap();
    bus.backup_with(&*backup, SnapshotOptions::new().progress(&mut told)).unwrap();
    bus.restore_with(&*backup, "x", SnapshotOptions::new().progress(&mut told)).unwrap();
    let saves = |at: &Progress| at.stage == Stage::Saving && at.total == Some(sizes.0);
    let loads = |at: &Progress| at.stage == Stage::Loading && at.total.is_none();
    let mut left = heard.as_slice();
    for is_stage in [&saves as &dyn Fn(&Progress) -> bool, &saves, &loads, &saves] {
        let all = left.iter().take_while(|at| is_stage(at));
        let begins = left.iter().skip(1).position(|at| at.entries == 0).unwrap() + 1;
        assert!(all.count() >= begins, "{left:?}");
        let (stage, rest) = left.split_at(begins);
        assert_eq!((stage[0].entries, stage[0].bytes), (0, 0));
        assert!(stage.is_sorted_by_key(|at| (at.entries, at.bytes)));
        let last = stage.last().unwrap();
        assert!(last.entries > sizes.0 - 1024 && last.bytes > sizes.1 - 100_000, "{last:?}");
        left = rest;
    }
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].stage, left[0].total), (Stage::Filling, Some(sizes.0)));
}

type Operation<'a> = &'a dyn Fn(SnapshotOptions<'_>) -> Option<SnapshotError>;

/// Promise (progress): whoever is told may end it, at any moment that is told; the last good snapshot stays, the bus is as
/// it was, nothing is left of it and none of it counts as a failure.
/// Plant: a break that is not looked at.
#[test]
fn whoever_is_told_may_end_it() {
    let place = Place::new();
    let bus = quiet(&place);
    fill(&bus);
    let saved = bus.snapshot().unwrap();
    let backup = Persist::Image(place.path().join("backup")).backend(1).unwrap().unwrap();
    bus.backup(&*backup).unwrap();
    let files = || {
        let of = |path| std::fs::read_dir(path).map_or(0, Iterator::count);
        (of(place.images()), of(place.path().join("backup")))
    };
    let there = content(&bus);
    let operations: [Operation<'_>; 3] = [
        &|options| bus.snapshot_with(options).err(),
        &|options| bus.backup_with(&*backup, options).err(),
        &|options| bus.restore_with(&*backup, "x", options).err(),
    ];
    let mut ended = Vec::new();
    for operation in operations {
        let before = files();
        for limit in 0.. {
            let mut heard = 0;
            let mut told = |_: &Progress| {
                heard += 1;
                if heard > limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let Some(error) = operation(SnapshotOptions::new().progress(&mut told)) else {
                ended.push(limit);
                break;
            };
            assert!(matches!(error, SnapshotError::GivenUp), "{error}");
            assert_eq!((heard, files()), (limit + 1, before));
            assert!(content(&bus) == there);
        }
    }
    assert!(ended.iter().all(|ended| *ended > 10), "{ended:?}");
    let info = bus.info().unwrap();
    assert_eq!(info.operations.snapshot_failures, 0);
    assert!(info.last_snapshot_revision >= saved.revision);
    assert_whole(&bus);
    drop(bus);
    lose(&place);
    assert_eq!(quiet(&place).len().unwrap(), 20_000);
}
