//! Every crash point of taking and giving back: a victim dies after each store, who buries it after each
//! of its own. What the victim held must be free then, and nothing of it may be left
//! (`super::super::crash_tests`).
//!
//! Plants, each seen to fail here: an `EPHEMERAL` that is noted after the lock is taken (`lock`), a roll whose
//! dead are not looked for (`permits`, `write lock`).

use super::super::Bus;
use super::super::crash_tests::{Workshop, crash, fill, with};
use crate::Batch;
use crate::region::layout::stripe;
use crate::sync::Ordering::Relaxed;
use std::time::Duration;

const NOW: Option<Duration> = Some(Duration::ZERO);
const LONG: Duration = Duration::from_secs(1000);

/// Entries in the realm of locks.
pub(in crate::bus) fn lock_entries(bus: &Bus) -> u64 {
    let core = &bus.inner.core;
    let stripes = (0..core.geometry.stripes).map(|index| core.geometry.stripe(index));
    stripes.map(|base| core.region.load(base + stripe::LOCKS, Relaxed).unwrap()).sum()
}

/// Whatever the dead held can be taken, and then nothing is left.
pub(in crate::bus) fn assert_free(bus: &Bus, what: &str) {
    if lock_entries(bus) == 0 {
        return;
    }
    let taken = (
        bus.try_lock("l").unwrap().map(drop),
        bus.try_write_lock("r").unwrap().map(drop),
        bus.semaphore("s", 3).unwrap().try_acquire(3).unwrap().map(drop),
    );
    assert_eq!(taken, (Some(()), Some(()), Some(())), "{what}: the dead hold something");
    let alone = bus.barrier("b", 2).unwrap().wait(NOW);
    assert!(alone.is_err(), "{what}: the dead have arrived");
    assert_eq!(lock_entries(bus), 0, "{what}: entries of locks");
}

#[test]
fn taking_and_giving_back_survive_every_double_crash() {
    let mut shop = Workshop::new(fill);
    let lock = with(|bus| {
        let guard = bus.lock("l").unwrap();
        bus.commit(Batch::new().require_lock(&guard).set_bytes("k3", b"under a lock")).unwrap();
        guard.release().unwrap();
    });
    let lease = with(|bus| {
        let lease = bus.lease("l", LONG).unwrap();
        lease.renew().unwrap();
    });
    let held = with(|bus| std::mem::forget(bus.lock("l").unwrap()));
    let points = crash("lock", &mut shop, 11, &lock)
        + crash("lease", &mut shop, 11, &lease)
        + crash("lock that stays", &mut shop, 5, &held);
    assert!(points > 300, "{points}");
}

#[test]
fn rolls_survive_every_double_crash() {
    let mut shop = Workshop::new(fill);
    let read = with(|bus| {
        let guards = (bus.read_lock("r").unwrap(), bus.read_lock("r").unwrap());
        // It waits for no time: its line is there for a moment.
        assert!(bus.write_lock_timeout("r", Duration::from_nanos(1)).is_err());
        drop(guards);
    });
    let write = with(|bus| std::mem::forget(bus.write_lock("r").unwrap()));
    let permits = with(|bus| {
        let semaphore = bus.semaphore("s", 3).unwrap();
        let two = semaphore.acquire(2).unwrap();
        std::mem::forget(semaphore.acquire(1).unwrap());
        two.release().unwrap();
    });
    let barrier = with(|bus| {
        assert!(bus.barrier("b", 2).unwrap().wait(NOW).is_err());
    });
    let points = crash("read lock", &mut shop, 17, &read)
        + crash("write lock", &mut shop, 11, &write)
        + crash("permits", &mut shop, 17, &permits)
        + crash("barrier", &mut shop, 11, &barrier);
    assert!(points > 300, "{points}");
}
