//! One bus for long: what its keeper and the region use stays the same, however many die.

use super::under_load::{PLACES, Plan, Stage, Totals};
use crate::harness::{Seed, earned, eventually, heavy, parameter, tell, tree};
use membus::{Bus, ReadBus};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Looks at what is used, over the whole time.
const MOMENTS: u32 = 200;
/// Of these, however slow the machine is.
const FEWEST: usize = 12;

/// What is used at one moment, when nobody writes.
type Use = BTreeMap<&'static str, u64>;

/// Bytes of a process's own memory, and its open files.
fn of_process(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kilobytes: u64 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    (kilobytes << 10, std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64)
}

fn look(stage: &Stage) -> Use {
    let memory = stage.bus.metrics().unwrap().memory;
    let values = stage.bus.scan_entries("").map(|entry| entry.unwrap().value.len() as u64);
    let (keeper, files) = of_process(stage.cast[PLACES - 1].0.pid());
    Use::from([
        ("bytes of the region", memory.capacity),
        ("bytes of its used blocks", memory.used),
        ("bytes of the values there", values.sum()),
        ("bytes of the keeper's process", keeper),
        ("files of the keeper's process", files),
        ("paths of the bus", tree(&stage.place.bus()).len() as u64),
        ("paths of its snapshots", tree(&stage.place.images()).len() as u64),
        ("paths of its state", tree(&stage.place.state()).len() as u64),
    ])
}

/// The median of one use over some moments.
fn median(moments: &[Use], name: &str) -> u64 {
    let mut all: Vec<_> = moments.iter().map(|one| one[name]).collect();
    all.sort_unstable();
    all[all.len() / 2]
}

/// A soak of so long has had its busiest moment by the end of its second quarter.
const SETTLES: Duration = Duration::from_secs(60);

/// What one use may come to in the last quarter, when it was so much in the second: a quarter more, and what varies from moment to
/// moment. A region never shrinks, it is as large as its busiest moment made it: that may still come in a soak that is too `short`
/// to tell more of it than that it does not grow without end.
fn bound(name: &str, early: u64, short: bool) -> u64 {
    match name {
        "bytes of the region" if short => 2 * early + (4 << 20),
        _ if name.starts_with("bytes") => early + early / 4 + (512 << 10),
        _ => early + early / 4 + 2,
    }
}

/// Whether a bus is left with nothing but what an empty one has: its array, some spans, no hole in what is free.
fn is_bare(bus: &Bus) -> bool {
    let memory = bus.metrics().unwrap().memory;
    memory.entries == 0 && memory.used < 1 << 20 && memory.largest_free > memory.free / 2
}

/// Promise "memory stays what it is": one bus that lives on while processes work, are killed and replaced takes no more room after
/// a long time than after a short one, nor does the process that keeps it; no file is left, and what is free is in one piece when
/// the entries go.
/// Method: as `killed_at_any_moment_under_load`, comparison and check included, with one process that works, too, keeps the bus and
/// is never killed (the test's own does other tests meanwhile); medians of the last quarter of the time beside those of the second.
/// Plants: a sweep that frees nothing; a burial that leaves the bells; a snapshot that leaves the ones before, a file open, or a hundred
/// kilobytes.
#[test]
fn what_is_used_stays_the_same() {
    let _alone = heavy();
    let seed = Seed::of("what_is_used_stays_the_same");
    let (mut rng, mut totals) = (seed.rng(), Totals::default());
    let time = Duration::from_secs(parameter("MEMBUS_IT_SOAK_SECONDS", 8));
    let plan = Plan { keeps: false, clears: false, mortal: PLACES - 1, load: 100_000 };
    let mut stage = Stage::begin(plan, &mut rng);
    let (begun, mut moments) = (Instant::now(), Vec::new());
    while begun.elapsed() < time || moments.len() < FEWEST {
        // What is noted is to take no room to speak of.
        let is_due = begun.elapsed() >= time * moments.len() as u32 / MOMENTS;
        stage.round(&mut rng, &mut totals, |stage| moments.extend(is_due.then(|| look(stage))));
    }
    let quarter = moments.len() / 4;
    let (early, late) = (&moments[quarter..2 * quarter], &moments[3 * quarter..]);
    for name in moments[0].keys() {
        let (before, after) = (median(early, name), median(late, name));
        tell(&format!("  {name}: {before}, {after} at the end"));
        assert!(after <= bound(name, before, time < SETTLES), "{name}: {before}, and then {after}");
    }
    stage.end(&mut totals, |stage| {
        // Somebody has to bury the last ones.
        let _keeper = stage.place.open_small();
        stage.bus.clear().unwrap();
        eventually("the room of what was there", || is_bare(&stage.bus).then_some(()));
    });
    tell(&format!(
        "soak: {} kills, {} changes in {:?}",
        totals.kills,
        totals.changes,
        begun.elapsed()
    ));
    earned(begun.elapsed().as_secs(), "seconds of a soak");
}
