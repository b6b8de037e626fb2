//! Damaged regions: each is attached, worked with, damaged further, and left.

use crate::clock::{timed, watch_over_all};
use crate::crew::{self, Order};
use crate::harm::{Write, damage};
use crate::image::Image;
use crate::operations::{Hands, OPERATIONS};
use crate::place::{Place, Shape};
use crate::rng::Rng;
use crate::setting;
use membus::BusReader;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::Instant;

/// Operations on each region.
const ROUND: u32 = 30;
/// Regions that are tried unless somebody says.
const COUNT: u64 = 20_000;

/// What was done, by name.
#[derive(Debug, Default)]
struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// Runs one operation in its time.
    fn timed<T>(&mut self, seed: u64, what: &str, operation: impl FnOnce() -> T) -> T {
        self.count("operations");
        timed(seed, what, operation)
    }
}

/// Writes damage into the file under everybody's feet.
fn strike(file: &File, writes: &[Write]) {
    for write in writes {
        file.write_all_at(&write.bytes, write.at).unwrap();
    }
}

/// One region from one seed.
fn try_one(place: &Place, shapes: &[Shape], seed: u64, tally: &mut Tally) {
    let mut rng = Rng::new(seed);
    let shape = &shapes[rng.below(shapes.len() as u64) as usize];
    let other = &shapes[rng.below(shapes.len() as u64) as usize].image;
    let mut image = shape.image.clone();
    for _ in 0..rng.pick(&[0, 1, 1, 1, 2, 3, 8]) {
        for write in damage(&shape.image, other, &mut rng) {
            write.apply(&mut image);
        }
    }
    if rng.once_in(50) {
        let len = rng.below(image.len());
        image.0.truncate(len as usize);
    }
    place.put(shape, &image);
    let keeper = rng.once_in(10);
    let options = place.options().keeper(keeper);
    let bus = tally.timed(seed, "attach", || options.attach_at(place.path()));
    let reader = tally.timed(seed, "reader", || place.options().reader_at(place.path()));
    tally.timed(seed, "check without attaching", || membus::check(place.path()).is_ok());
    let (Ok(bus), Ok(reader)) = (bus, reader) else { return tally.count("refused at attach") };
    work(seed, Hands::new(bus, reader), (&shape.image, other), place, &mut rng, tally);
}

/// Thirty operations, with more damage between.
fn work(
    seed: u64,
    mut hands: Hands,
    (image, other): (&Image, &Image),
    place: &Place,
    rng: &mut Rng,
    tally: &mut Tally,
) {
    let file = OpenOptions::new().write(true).open(place.path().join("region")).unwrap();
    for _ in 0..ROUND {
        if rng.once_in(12) {
            strike(&file, &damage(image, other, rng));
        }
        let (name, operation) = rng.pick(&OPERATIONS);
        match tally.timed(seed, name, || operation(&mut hands, rng)) {
            Ok(()) => tally.count("answers"),
            Err(_) => tally.count("errors"),
        }
    }
    let Hands { bus, reader, .. } = hands;
    tally.timed(seed, "close", || drop(bus));
    tally.timed(seed, "close of a reader", || drop::<BusReader>(reader));
    tally.count("worked with");
}

/// A child of the test below.
#[test]
fn child() {
    let Some((Order { first, step, end }, root)) = crew::order() else { return };
    watch_over_all();
    let place = Place::new(&root);
    let (shapes, mut tally) = (place.shapes(), Tally::default());
    for seed in (first..end).step_by(step as usize) {
        println!("seed {seed}");
        try_one(&place, &shapes, seed, &mut tally);
        tally.count("regions");
    }
    for (name, sum) in tally.0 {
        println!("sum {name}={sum}");
    }
}

#[test]
fn damaged_regions_give_errors_or_answers() {
    let begun = Instant::now();
    let report = crew::work("regions::child", setting("MEMBUS_HOSTILE").unwrap_or(COUNT));
    println!("{:?} in {:.1} s", report.sums, begun.elapsed().as_secs_f64());
    report.earned("regions", "damaged regions");
    let failures = report.failures.join("\n");
    assert!(report.failures.is_empty(), "again with MEMBUS_SEED=N:\n{failures}");
}
