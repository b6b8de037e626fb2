//! Full: a clear error with the numbers, the old value intact, and room again after deleting. On the bus,
//! on its file system, and on that of its snapshots.

use crate::harness::actor::actor;
use crate::harness::os::SmallDisk;
use crate::harness::part::Part;
use crate::harness::{Place, assert_whole, heavy, skipped, tree};
use membus::{
    Batch, BatchError, Bus, BusReader, OpenError, Persist, ReadBus, SnapshotError, WriteError,
};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// A place with a file system of its own below it, unless the machine does not let us.
fn with_disk(test: &str, bytes: u64) -> Option<(Place, SmallDisk)> {
    let outside = Place::new();
    let on = outside.path().join("disk");
    std::fs::create_dir(&on).unwrap();
    match SmallDisk::mount(&on, bytes) {
        Ok(disk) => Some((outside, disk)),
        Err(error) => {
            skipped(test, &format!("mount: {error}"));
            None
        }
    }
}

/// Fills a bus with values of this size under `big/`: how many there are, and why there are no more.
fn fill(bus: &Bus, size: usize) -> (u32, WriteError) {
    for number in 0.. {
        if let Err(error) = bus.set_bytes(format!("big/{number}"), vec![number as u8; size]) {
            return (number, error);
        }
    }
    unreachable!("it is never full")
}

fn is_intact(bus: &Bus, count: u32, size: usize) {
    assert_eq!(bus.keys("big/").unwrap().len() as u32, count);
    for number in 0..count {
        let value = bus.get_bytes(format!("big/{number}")).unwrap().unwrap();
        assert!(value.len() == size && value.iter().all(|byte| *byte == number as u8));
    }
}

/// Promise "bounded": a full bus says what was asked, the longest free run and both capacities; the old values
/// stay, of a batch nothing is there, nothing is lost; others read and delete, and then there is room.
/// Plant: `take_back` left out: `check` finds what the refused batches had filled.
#[test]
fn a_full_bus_says_so_and_keeps_what_it_has() {
    let place = Place::new();
    let (bus, other) = (place.open_small(), place.attach());
    for size in [100_000, 3000, 50] {
        bus.set_bytes("kept", b"old").unwrap();
        let (count, error) = fill(&bus, size);
        let WriteError::Full { asked, largest_free, capacity, max_capacity, reason } = &error
        else {
            panic!("{error}")
        };
        assert_eq!((*asked, *max_capacity), (size as u64, 16 * MIB), "{error}");
        assert!(*capacity <= 16 * MIB && *capacity > 15 * MIB, "{error}");
        assert!(*largest_free < size as u64 + 64 || *largest_free < 65_536, "{error}");
        assert!(reason.as_ref().is_some_and(|reason| !reason.is_empty()), "{error}");
        assert!(error.to_string().contains(&size.to_string()), "{error}");
        let mut batch = Batch::new();
        batch.set_bytes("kept", b"new").delete("big/0");
        for number in 0..40 {
            batch.set_bytes(format!("more/{number}"), vec![0; size.max(2000)]);
        }
        let BatchError { source, .. } = bus.commit(&batch).unwrap_err();
        assert!(matches!(source, WriteError::Full { .. }), "{source}");
        is_intact(&other, count, size);
        assert_eq!(other.get_bytes("kept").unwrap().unwrap(), b"old");
        assert_eq!(other.len().unwrap() as u32, count + 1);
        assert_whole(&bus);
        // Deleting needs no room, and gives it back to whoever wants it.
        for number in 0..count {
            assert!(other.delete(format!("big/{number}")).unwrap().is_some());
        }
        bus.set_bytes("larger", vec![1; 2_000_000]).unwrap();
        bus.set_bytes("kept", vec![2; 100_000]).unwrap();
        other.clear().unwrap();
        assert_whole(&bus);
    }
    // What was there fits again: nothing leaked.
    let counts: Vec<_> = (0..4)
        .map(|_| {
            bus.clear().unwrap();
            fill(&bus, 10_000).0
        })
        .collect();
    assert!(counts.iter().all(|count| count.abs_diff(counts[0]) <= 8), "{counts:?}");
}

/// Promise "bounded": replaced values are no rubbish that fills a bus: at a bus nearly full, replacing goes on
/// for ever; and neither does a guard that is held keep others from their room.
/// Plant: `free_retired` left out.
#[test]
fn replacing_needs_no_more_than_its_room() {
    let place = Place::new();
    let bus = place.open_small();
    let (count, _) = fill(&bus, 3000);
    for number in 0..count / 20 {
        bus.delete(format!("big/{number}")).unwrap();
    }
    let guards: Vec<_> =
        (0..8).map(|n| bus.read(format!("big/{}", count - 1 - n)).unwrap().unwrap()).collect();
    for round in 0..5 {
        for number in count / 20..count {
            bus.set_bytes(format!("big/{number}"), vec![round; 3000]).unwrap();
        }
    }
    assert!(guards.iter().zip(0..8).all(|(guard, n)| guard[0] == (count - 1 - n) as u8));
    drop(guards);
    assert_whole(&bus);
}

/// Promise "bounded": reserving is done at creation: what does not fit is an error that names the size and
/// what to do in a container; nothing stays of it, and a smaller bus can be made in its place.
/// Plant: `ftruncate` in place of `fallocate`: the creation succeeds, and a later store is a SIGBUS.
#[test]
fn a_bus_that_does_not_fit_is_not_made() {
    let Some((outside, disk)) = with_disk("a_bus_that_does_not_fit_is_not_made", 4 * MIB) else {
        return;
    };
    let path = disk.path().join("bus");
    let options = outside.options().keeper(false).max_capacity(64 * MIB).log_size(4096);
    let refused = options.clone().capacity(8 * MIB).open_at(&path).unwrap_err();
    let OpenError::NoSpace { asked, source, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*asked, 8 * MIB);
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    assert!(refused.to_string().contains("shm-size"), "{refused}");
    assert!(!path.exists(), "{:?} is left", tree(&path));
    assert_eq!(tree(&outside.state()), [""; 0].map(std::path::PathBuf::from));
    let bus = options.capacity(2 * MIB).open_at(&path).unwrap();
    bus.set("k", &1).unwrap();
    assert_whole(&bus);
}

/// Writes and reads until it is told to end; refusals for want of room are none of its concern.
pub(crate) fn neighbour(part: &Part) {
    let bus = part.options().attach_at(part.word("bus")).unwrap();
    part.say("here");
    let (mut wrote, mut refused) = (0_u64, 0_u64);
    for number in 0_u64.. {
        match bus.set(format!("neighbour/{}", number % 100), &number) {
            Ok(_) => wrote += 1,
            Err(WriteError::Full { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        bus.get::<u64>(format!("neighbour/{}", number % 100)).unwrap();
        if part.is_over() {
            break;
        }
    }
    assert!(wrote > 0);
    part.say(&format!("wrote {wrote} {refused}"));
}

/// Promise "bounded": when the file system is full before the bus is, growing fails with its reason and the
/// size stays; nothing is lost, others go on, and there is room again after deleting.
/// Plant: the size word stored before the space is reserved: SIGBUS.
#[test]
fn a_full_file_system_during_growth() {
    let test = "a_full_file_system_during_growth";
    let Some((outside, disk)) = with_disk(test, 12 * MIB) else { return };
    let path = disk.path().join("bus");
    let options = outside.options().capacity(MIB).max_capacity(64 * MIB).log_size(64 << 10);
    let bus = options.open_at(&path).unwrap();
    let neighbour = actor("space_neighbour", &outside).with("bus", path.display()).start();
    neighbour.expect("here");
    bus.set_bytes("kept", b"old").unwrap();
    let mut counts = Vec::new();
    for _ in 0..3 {
        let (count, error) = fill(&bus, 20_000);
        let WriteError::Full { capacity, max_capacity, reason: Some(reason), .. } = &error else {
            panic!("{error}")
        };
        assert!(*capacity < 13 * MIB && *max_capacity == 64 * MIB, "{error}");
        assert!(reason.to_lowercase().contains("no space"), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(bus.get_bytes("kept").unwrap().unwrap(), b"old");
        is_intact(&bus, count, 20_000);
        let size = bus.info().unwrap().capacity;
        assert!(std::fs::metadata(path.join("region")).unwrap().len() >= size);
        counts.push(count);
        for number in 0..count {
            bus.delete(format!("big/{number}")).unwrap();
        }
        bus.set_bytes("big/again", vec![0; 1_000_000]).unwrap();
        bus.delete("big/again").unwrap();
    }
    assert!(counts.iter().all(|count| count.abs_diff(counts[0]) < counts[0] / 8), "{counts:?}");
    // More room on the disk is found by the next one who needs it.
    disk.resize(48 * MIB).unwrap();
    let (count, _) = fill(&bus, 20_000);
    assert!(count > counts[0] * 2, "{count} {counts:?}");
    let wrote = neighbour.end();
    assert!(wrote[0].starts_with("wrote"));
    assert_whole(&bus);
}

/// Promise "durable as asked": a snapshot that does not fit is an error that says where, the last good one stays
/// and is what the bus is rebuilt from; no half of it stays; the failure is counted; with room again it is
/// taken.
/// Plant: older images deleted before the new one is whole.
#[test]
fn a_full_file_system_under_a_snapshot() {
    let test = "a_full_file_system_under_a_snapshot";
    let Some((outside, disk)) = with_disk(test, 2 * MIB) else { return };
    let images = disk.path().join("images");
    let options = outside.options().persist(Persist::Image(images.clone())).keep(1);
    let bus = options.keeper(false).open_at(outside.bus()).unwrap();
    bus.set("k", &"good").unwrap();
    let good = bus.snapshot().unwrap();
    bus.set_bytes("large", vec![7; 3_000_000]).unwrap();
    for failures in 1..=3 {
        let refused = bus.snapshot().unwrap_err();
        let SnapshotError::Io { at, source } = &refused else { panic!("{refused}") };
        assert!(at.starts_with(&images.display().to_string()), "{refused}");
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
        assert_eq!(tree(&images), [good.path.clone().unwrap()]);
        assert_eq!(bus.info().unwrap().operations.snapshot_failures, failures);
        assert_eq!(bus.info().unwrap().last_snapshot_revision, good.revision);
    }
    drop(bus);
    std::fs::remove_dir_all(outside.bus()).unwrap();
    let bus = outside.options().persist(Persist::Image(images.clone()));
    let bus = bus.keeper(false).open_at(outside.bus()).unwrap();
    assert_eq!(bus.get::<String>("k").unwrap().as_deref(), Some("good"));
    assert!(!bus.contains("large").unwrap());
    bus.set("k", &"better").unwrap();
    let better = bus.snapshot().unwrap();
    assert_eq!((tree(&images), better.entries), (vec![better.path.unwrap()], 1));
}

/// Promise (keeper): a snapshot that fails is tried again, and succeeds when it can.
/// Plant: a keeper that gives up after the first failure.
#[test]
fn the_keeper_tries_again() {
    let Some((outside, disk)) = with_disk("the_keeper_tries_again", 2 * MIB) else { return };
    let images = disk.path().join("images");
    let options = outside.options().persist(Persist::Image(images));
    let bus = options.snapshot_every(Duration::from_millis(50)).open_at(outside.bus()).unwrap();
    bus.set_bytes("large", vec![7; 3_000_000]).unwrap();
    let until = |what: &str, is_it: &dyn Fn(&membus::Info) -> bool| {
        crate::harness::eventually(what, || is_it(&bus.info().unwrap()).then_some(()));
    };
    until("two failures", &|info| info.operations.snapshot_failures >= 2);
    assert_eq!(bus.info().unwrap().last_snapshot_revision, 0);
    let revision = bus.set_bytes("large", b"small now").unwrap().get();
    until("a snapshot", &|info| info.last_snapshot_revision == revision);
    drop(bus);
}

/// Promise (attach): whoever comes while others make the file longer finds a whole bus.
/// Method: one thread fills a bus to its maximum, others open it again and again.
/// Plant: the file's size asked for before the region's size word is read: a file that grows is told as truncated.
#[test]
fn who_comes_while_the_file_grows() {
    let _alone = heavy();
    for _ in 0..20 {
        let place = Place::new();
        let options = place.small().keeper(false).max_capacity(64 * MIB);
        let bus = options.open_at(place.bus()).unwrap();
        let full = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let filled = scope.spawn(|| {
                let (_, error) = fill(&bus, 10_000);
                full.store(true, Relaxed);
                error
            });
            while !full.load(Relaxed) {
                BusReader::open_at(place.bus()).unwrap();
                place.attach();
            }
            let error = filled.join().unwrap();
            assert!(matches!(error, WriteError::Full { .. }), "{error}");
        });
        assert!(bus.info().unwrap().capacity > 60 * MIB);
    }
}

/// Promise "bounded": a bus grows from its first size, array by array and block by block, and every handle sees what
/// any of them wrote.
/// Plant: `double` that forgets the overflow buckets.
#[test]
fn a_bus_grows_and_is_shared_by_handles() {
    let place = Place::new();
    let (one, two) = (place.open(), place.open());
    let value = vec![7; 200];
    for number in 0..100_000_u32 {
        one.set_bytes(number.to_le_bytes(), &value).unwrap();
    }
    for number in (0..100_000_u32).step_by(97) {
        assert_eq!(two.get_bytes(number.to_le_bytes()).unwrap().unwrap(), value);
    }
    assert_eq!((two.len().unwrap(), two.scan_entries(b"").count()), (100_000, 100_000));
    assert!(two.info().unwrap().capacity > membus::limits::DEFAULT_CAPACITY);
    assert_whole(&two);
    two.clear().unwrap();
    assert!(one.is_empty().unwrap());
    assert_whole(&one);
}
