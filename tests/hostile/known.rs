//! Damage that once brought a process down, or kept it busy for ever, each with every operation.

use crate::image::Image;
use crate::layout::{BUCKET_SLOTS, array, entry, header, member, stripe};
use crate::operations::{Hands, OPERATIONS};
use crate::place::{Place, Shape};
use crate::rng::Rng;
use membus::Bus;
use std::time::{Duration, Instant};

/// A piece of damage, and the shape in which it is done.
type Known = (&'static str, &'static str, fn(&mut Image));

const KNOWN: [Known; 12] = [
    // `head + 1` overflowed; without overflow checks a walk along the index never came to the head.
    ("head at its end", "full of small entries", |i| i.set(header::HEAD, u64::MAX)),
    // Positions of the log overflowed when a record's length was added.
    ("tail at its end", "a log that wrapped", |i| i.set(header::LOG_TAIL, u64::MAX - 7)),
    ("a committed tail at its end", "dead in the middle of a commit", |i| {
        i.set(header::TAIL, u64::MAX - 7);
    }),
    ("ready at its end", "dead in the middle of a commit", |i| i.set(header::READY, u64::MAX)),
    // The place of a linked bucket overflowed.
    ("a link beyond all lines", "full of small entries", |i| {
        for index in 0..i.stripes() {
            for line in 0..i.buckets(index) {
                i.set(i.bucket(index, line) + 8 * BUCKET_SLOTS, u64::MAX);
            }
        }
    }),
    // Held by the bound of a chain.
    ("links in a circle", "full of small entries", |i| {
        for index in 0..i.stripes() {
            for line in 0..i.buckets(index) {
                i.set(i.bucket(index, line) + 8 * BUCKET_SLOTS, 1);
            }
        }
    }),
    // So did that of a bucket that is to be linked.
    ("lines beyond all", "empty", |i| {
        for index in 0..i.stripes() {
            for slot in
                (0..i.buckets(index)).flat_map(|line| (0..BUCKET_SLOTS).map(move |n| (line, n)))
            {
                i.set(i.bucket(index, slot.0) + 8 * slot.1, 1);
            }
            i.set(i.array(index) + array::USED, u64::MAX - 1);
            i.set(i.array(index) + array::LINES, u64::MAX);
        }
    }),
    // The sum over the members overflowed.
    ("counters at their end", "several members", |i| {
        for slot in 0..3 {
            i.set(i.member(slot) + member::COUNTERS, u64::MAX);
        }
    }),
    // The next user of a slot counts its generation up.
    ("generations at their end", "several members", |i| {
        for slot in 0..i.members_max() {
            i.set(i.member(slot) + member::GENERATION, u64::MAX);
        }
    }),
    // A snapshot's deadline in wall time overflowed.
    ("a deadline at its end", "timed, pinned and ephemeral", |i| {
        for number in 0..40 {
            let named = i.find(format!("hour{number}").as_bytes());
            i.set(named.at + entry::FIXED, u64::MAX);
        }
    }),
    ("an id of snapshots at its end", "a snapshot that is on", |i| {
        i.set(header::SNAP_ID, u64::MAX)
    }),
    // A lock that is free and contended was never got, and its deadline not looked at.
    ("locks that are free and contended", "full of small entries", |i| {
        for at in [header::GROW_LOCK, header::COMMIT_LOCK] {
            i.set(at, 1 << 31);
        }
        for index in 0..i.stripes() {
            i.set(i.stripe(index) + stripe::LOCK, 1 << 31);
        }
    }),
];

/// Plants: each was what the library did. Without `load_count`, without the bound of a bucket's link or
/// of an array's lines, with sums that are added plainly, with `swap_in(FREE, …)` in place of the word
/// that was seen in `lock_contended`, or without the bound of a chain, a line fails.
#[test]
fn damage_that_is_known_gives_errors_or_answers() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = Place::new(root.path());
    let shapes = place.shapes();
    for (name, shape, plant) in KNOWN {
        let shape: &Shape = shapes.iter().find(|s| s.name == shape).unwrap();
        let mut image = shape.image.clone();
        plant(&mut image);
        for (what, operation) in OPERATIONS {
            place.put(shape, &image);
            let begun = Instant::now();
            let bus = place.options().attach_at(place.path());
            if let (Ok(bus), Ok(reader)) = (bus, place.options().reader_at(place.path())) {
                let _either = operation(&mut Hands::new(bus, reader), &mut Rng::new(1));
            }
            assert!(begun.elapsed() < Duration::from_secs(2), "{name}: {what} took too long");
        }
    }
}

/// A deadline that the clock can't reach is none: adding it to the time overflowed.
#[test]
fn a_deadline_beyond_the_clock_is_for_ever() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = Place::new(root.path());
    let options = place.options().deadline(Duration::MAX).max_capacity(4 << 20);
    let (one, two): (Bus, Bus) =
        (options.create_at(place.path()).unwrap(), options.attach_at(place.path()).unwrap());
    one.update("k", |_: Option<u8>| membus::Update::Set(1)).unwrap();
    std::thread::scope(|scope| {
        for bus in [&one, &two] {
            scope.spawn(move || (0..5000).for_each(|_| assert!(bus.add("n", 1).is_ok())));
        }
    });
}
