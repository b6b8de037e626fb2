//! Read-write locks and semaphores: what several hold.

use super::{ask, join, unkept};
use crate::harness::{assert_whole, eventually};
use membus::LockError;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(150);

/// Promise "read-write locks": a killed reader or writer is out of the way; a stopped one is not.
/// Plant: rolls whose dead are never looked for.
#[test]
fn the_dead_neither_read_nor_write() {
    let (place, bus) = unkept();
    let mut readers = [join(&place, "r0"), join(&place, "r1")];
    for reader in &mut readers {
        ask(reader, "read r", "has");
    }
    readers[0].freeze();
    let error = bus.write_lock_timeout("r", SHORT).unwrap_err();
    assert!(matches!(&error, LockError::TimedOut { others: 1, .. }), "{error}");
    let [mut stopped, mut reads] = readers;
    reads.kill();
    assert!(bus.try_write_lock("r").unwrap().is_none(), "the stopped one reads");
    stopped.kill();
    drop(bus.write_lock_timeout("r", LONG).unwrap());
    let mut writer = join(&place, "w");
    ask(&mut writer, "write_lock r", "has");
    let error = bus.read_lock_timeout("r", SHORT).unwrap_err();
    assert!(error.to_string().contains("(w, pid"), "{error}");
    writer.kill();
    drop(bus.read_lock_timeout("r", LONG).unwrap());
    assert_whole(&bus);
}

/// Promise "read-write locks": readers that overlap for ever do not starve a writer; a waiting writer that is
/// stopped or killed holds them back for a second at the most.
/// Plants: an announcement without a deadline; none.
#[test]
fn a_waiting_writer_is_next_and_a_stopped_one_is_forgotten() {
    let (place, bus) = unkept();
    let overlap = || {
        let guard = bus.read_lock_timeout("r", LONG).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        drop(guard);
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    overlap();
                }
            });
        }
        for _ in 0..20 {
            drop(bus.write_lock_timeout("r", LONG).unwrap());
        }
        done.store(true, Relaxed);
    });
    let reader = bus.read_lock("r").unwrap();
    for is_killed in [false, true] {
        let mut writer = join(&place, "w");
        writer.tell("write_lock r");
        eventually("a waiting writer", || bus.try_read_lock("r").unwrap().is_none().then_some(()));
        if is_killed {
            writer.kill();
        } else {
            writer.freeze();
        }
        drop(bus.read_lock_timeout("r", LONG).unwrap());
        drop(writer);
    }
    drop(reader);
    drop(bus.write_lock_timeout("r", LONG).unwrap());
    assert_whole(&bus);
}

/// Promise "semaphores": the permits of the dead are free, those of the stopped are not.
#[test]
fn permits_of_the_dead_are_free() {
    let (place, bus) = unkept();
    let (mut one, mut two) = (join(&place, "one"), join(&place, "two"));
    ask(&mut one, "permits s 3 1", "has");
    ask(&mut two, "permits s 3 2", "has");
    let semaphore = bus.semaphore("s", 3).unwrap();
    one.freeze();
    assert!(semaphore.acquire_timeout(1, SHORT).is_err());
    two.kill();
    drop(semaphore.acquire_timeout(2, LONG).unwrap());
    assert!(semaphore.try_acquire(3).unwrap().is_none());
    one.kill();
    drop(semaphore.acquire_timeout(3, LONG).unwrap());
    assert_whole(&bus);
}
