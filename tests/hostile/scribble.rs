//! A madman writes random words into a region in use, for seconds on end.

use crate::clock::{timed, watch_over_all};
use crate::crew::{self, Order};
use crate::harm::damage;
use crate::image::Image;
use crate::layout::header;
use crate::operations::{Hands, OPERATIONS};
use crate::place::Place;
use crate::rng::Rng;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long one region is scribbled over.
const LONG: Duration = Duration::from_millis(1500);
/// How often the region is made whole again, so that not everything ends at once in an error.
const MENDED: Duration = Duration::from_millis(50);
/// Between two words.
const PAUSE: Duration = Duration::from_micros(100);

/// Writes until it is told to stop. The word that says that the bus is gone stays as it is: after it
/// there is nothing left to try.
fn scribble(place: &Place, images: &[&Image], stop: &AtomicBool, rng: &mut Rng) -> u64 {
    let file = OpenOptions::new().write(true).open(place.path().join("region")).unwrap();
    let [image, other] = images else { return 0 };
    let (mut mended, mut writes) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        for write in damage(image, other, rng) {
            let covers = write.at..write.at + write.bytes.len() as u64;
            if !covers.contains(&header::DESTROYED) {
                file.write_all_at(&write.bytes, write.at).unwrap();
                writes += 1;
            }
        }
        if mended.elapsed() > MENDED {
            mended = Instant::now();
            file.write_all_at(&image.0, 0).unwrap();
        }
        std::thread::sleep(PAUSE);
    }
    writes
}

fn try_one(place: &Place, seed: u64) {
    let (shapes, mut rng) = (place.shapes(), Rng::new(seed));
    let (shape, other) = (&shapes[seed as usize % shapes.len()], &shapes[1].image);
    place.put(shape, &shape.image);
    let attach = |keeper| {
        let bus = place.options().keeper(keeper).attach_at(place.path()).unwrap();
        Hands::new(bus, place.options().reader_at(place.path()).unwrap())
    };
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        let workers = [attach(true), attach(false)].map(|mut hands| {
            let mut rng = Rng::new(rng.next());
            scope.spawn(move || {
                let mut done = [0_u64; 2];
                while begun.elapsed() < LONG {
                    let (name, operation) = rng.pick(&OPERATIONS);
                    let end = timed(seed, name, || operation(&mut hands, &mut rng));
                    done[usize::from(end.is_err())] += 1;
                }
                timed(seed, "close", || drop(hands));
                done
            })
        });
        let scribbler = scope.spawn(|| scribble(place, &[&shape.image, other], &stop, &mut rng));
        for [answers, errors] in workers.map(|worker| worker.join().unwrap()) {
            println!("sum answers={answers}\nsum errors={errors}");
        }
        stop.store(true, Ordering::Relaxed);
        println!("sum scribbles={}", scribbler.join().unwrap());
    });
}

/// A child of the test below.
#[test]
fn child() {
    let Some((Order { first, step, end }, root)) = crew::order() else { return };
    watch_over_all();
    let place = Place::new(&root);
    for seed in (first..end).step_by(step as usize) {
        println!("seed {seed}");
        try_one(&place, seed);
    }
}

/// Plant: accesses whose bounds are not checked (`inside` in `region::memory` says yes to all).
#[test]
fn scribbling_gives_errors_or_answers() {
    let report = crew::work("scribble::child", 6);
    println!("{:?}", report.sums);
    report.earned("scribbles", "scribbles while others work");
    assert!(report.failures.is_empty(), "{}", report.failures.join("\n"));
}
