//! What a forked child does first, with the fork that its seat's page shows played by `wipe`.

use super::*;
use crate::WriteError;
use crate::bus::Bus;
use crate::bus::read::ReadBus;
use crate::bus::testing::Place;
use crate::sys::file::open_file;
use nix::fcntl::OFlag;
use std::sync::Barrier;

/// Another description of the members file.
fn members(place: &Place) -> std::fs::File {
    open_file(&place.bus().join("members"), OFlag::O_RDWR, 0).unwrap()
}

/// A handle as a forked child has it.
fn forked(place: &Place) -> Bus {
    let bus = place.options().keeper(true).attach_at(place.bus()).unwrap();
    bus.inner.seats.as_ref().unwrap().first.fork.wipe();
    bus
}

/// Promise: as long as one thread of a child mends its slot, the slot is no other's, or it would be robbed of its locks.
/// Plant: a seat counts as soon as there is one.
#[test]
fn who_sits_down_has_no_seat_yet() {
    let place = Place::new();
    let _parent = place.make();
    let child = forked(&place);
    let (inner, seats) = (&child.inner, child.inner.seats.as_ref().unwrap());
    let held = NoFork::begin();
    let seat = Seat::take(&inner.directory, &inner.path, &inner.core.space, 0, &held).unwrap();
    let seat = seats.first.heir.get_or_init(|| Box::new(seat));
    drop(held);
    assert!(inner.seat().is_none(), "another thread writes in its name");
    assert!(seats.probe().is_some(), "who mends the slot can't probe");
    inner.sit_down(seat, false).unwrap();
    assert_eq!(inner.writer().unwrap(), seat.slot);
}

/// Promise: all threads of a child write at once, by one slot.
/// Plant: a seat for each.
#[test]
fn the_threads_of_a_child_share_a_seat() {
    const THREADS: usize = 4;
    let place = Place::new();
    let parent = place.make();
    for round in 1..=50 {
        let child = forked(&place);
        let together = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    together.wait();
                    for _ in 0..20 {
                        child.add("n", 1).unwrap();
                    }
                });
            }
        });
        assert_eq!(parent.add("n", 0).unwrap(), (round * THREADS * 20) as i64);
        assert_eq!(parent.members().unwrap().iter().filter(|member| member.alive).count(), 3);
        let seats = child.inner.seats.as_ref().unwrap();
        seats.first.die();
        drop(child);
        parent.inner.bury_all(parent.inner.writer().unwrap()).unwrap();
        assert_eq!(parent.members().unwrap().len(), 1);
    }
    assert!(parent.check().is_clean());
}

/// Promise: a slot that could not be had is given up, and the next write gets another seat. Nor does a child, that has no
/// keeper's thread, say that it may keep the bus.
/// Plants: the seat counts all the same; the byte stays locked; the same slot once more; the state of the parent.
#[test]
fn a_slot_that_is_not_to_be_had_is_given_up() {
    let place = Place::new();
    let parent = place.make();
    let child = forked(&place);
    let held = members(&place);
    assert!(try_lock_byte(&held, LIFE_BYTES + 2).unwrap());
    let end = child.set("k", &1);
    assert!(matches!(end, Err(WriteError::Forked { .. })), "{end:?}");
    assert!(child.inner.seat().is_none());
    assert!(!parent.inner.is_locked(2), "a slot that nobody uses is taken");
    child.set("k", &1).unwrap();
    let member = parent.members().unwrap().into_iter().find(|member| member.slot == 3);
    assert!(member.is_some_and(|member| member.alive));
    let state = parent.inner.member_at(3) + member::STATE;
    assert_eq!(parent.inner.core.region.load(state, Acquire), Ok(member::STATE_IN_USE));
    assert_eq!(parent.get::<i32>("k").unwrap(), Some(1));
}

/// Promise: trying again and again costs no more and more descriptors, and other slots are tried as well.
/// Plants: a seat for each try; the lowest slot each time.
#[test]
fn a_child_that_finds_no_slot_keeps_few() {
    let place = Place::new();
    let parent = place.make();
    let child = forked(&place);
    let held = members(&place);
    let slots = parent.inner.core.geometry.members_max;
    assert!(crate::sys::lock::try_lock_range(&held, LIFE_BYTES + 2, LIFE_BYTES + slots).unwrap());
    let seats = child.inner.seats.as_ref().unwrap();
    for tried in 1..=20 {
        child.set("k", &1).unwrap_err();
        assert_eq!(seats.given_up(), tried.min(GIVEN_UP_MAX));
    }
    assert_eq!(seats.first.last().slot, 1 + GIVEN_UP_MAX as u32);
    drop(held);
    child.set("k", &1).unwrap();
    assert_eq!(parent.members().unwrap().len(), 3);
}
