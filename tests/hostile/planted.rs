//! `check` finds what is planted, names it, and says where.

mod heap;
mod slots;
mod words;

use crate::image::Image;
use crate::layout::{BUCKET_SLOTS, header, stripe};
use crate::place::Place;

/// What is planted, in which shape, and what `check` says of it; the plant gives the place that it
/// must name.
type Planted = (&'static str, &'static str, &'static str, fn(&mut Image) -> String);

const SMALL: &str = "full of small entries";
const TIMED: &str = "timed, pinned and ephemeral";
const CHAINS: &str = "chains of overflow buckets";
const MEMBERS: &str = "several members";
const COMMIT: &str = "dead in the middle of a commit";
const LOG: &str = "a log that wrapped";

fn hex(at: u64) -> String {
    format!("{at:#x}")
}

/// Adds to a word.
fn bump(image: &mut Image, at: u64, by: u64) {
    image.set(at, image.word(at).wrapping_add(by));
}

/// An empty slot word of a stripe, in a bucket that is not the home of `key`.
fn elsewhere(image: &Image, index: u64, key: &[u8]) -> u64 {
    let home = image.home(key).1;
    let line = (0..image.buckets(index)).filter(|line| *line != home);
    let mut slots = line.flat_map(|line| (0..BUCKET_SLOTS).map(move |n| (line, n)));
    let at = |(line, n)| image.bucket(index, line) + 8 * n;
    slots.find(|slot| image.word(at(*slot)) == 0).map(at).expect("an empty slot word")
}

/// The first free block.
fn free_block(image: &Image) -> u64 {
    let is_free = |block: &u64| image.word(image.block_word(*block)) & 15 == 0;
    (0..image.blocks()).find(is_free).expect("a free block")
}

/// The head of a span of a stripe, of a class for which `fits`.
fn span_head(image: &Image, fits: impl Fn(u64) -> bool) -> u64 {
    image.spans().into_iter().find(|(_, class)| fits(*class)).expect("a span").0
}

/// The stripe of a block.
fn stripe_of(image: &Image, block: u64) -> u64 {
    image.word(image.block_word(block)) >> 12 & 0xfff
}

/// A span that is the first of its list, and where that begins.
fn first_listed(image: &Image) -> (u64, u64) {
    let list = |(block, class): (u64, u64)| {
        let at = image.stripe(stripe_of(image, block)) + stripe::CLASSES + 8 * class;
        (class < 64 && image.word(at) == block + 1).then_some((block, at))
    };
    image.spans().into_iter().find_map(list).expect("a list of spans")
}

/// An entry that the ring of lately dead names, with the stripe.
fn ring(image: &Image) -> (u64, u64) {
    let noted = |index: &u64| image.word(image.stripe(*index) + stripe::RETIRED_COUNT) > 1;
    let index = (0..image.stripes()).find(noted).expect("dead entries");
    (index, image.stripe(index) + stripe::RETIRED)
}

/// A stripe with spares, and where the first is noted.
fn spare(image: &Image) -> (u64, u64) {
    let noted = |index: &u64| image.word(image.stripe(*index) + stripe::SPARE_COUNT) > 1;
    let index = (0..image.stripes()).find(noted).expect("spare entries");
    (index, image.stripe(index) + stripe::SPARE)
}

/// Where the record of the head stands, when it is the last before the tail.
fn last_record(image: &Image) -> u64 {
    let (head, tail) = (image.word(header::HEAD), image.word(header::LOG_TAIL));
    let back = (40..2000).step_by(8).map(|back| image.ring(tail - back));
    back.into_iter().find(|at| image.word(*at) == head).expect("a record")
}

/// Plants, each shown to fail: a check without `check_lists`, without `check_marks`, without the log's
/// end; and each of the others is planted here itself.
#[test]
fn check_finds_what_is_planted_and_says_where() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = Place::new(root.path());
    let shapes = place.shapes();
    let all = slots::SLOTS
        .iter()
        .chain(&slots::ENTRIES)
        .chain(&heap::HEAP)
        .chain(&words::WORDS)
        .chain(&words::REST);
    let mut missed = Vec::new();
    for (number, (name, shape, says, plant)) in all.enumerate() {
        let shape = shapes.iter().find(|s| s.name == *shape).unwrap();
        let mut image = shape.image.clone();
        let at = plant(&mut image);
        place.put(shape, &image);
        let report = membus::check(place.path()).unwrap();
        println!("{:>3} {name}", number + 1);
        if !report.findings.iter().any(|found| found.contains(says) && found.contains(&at)) {
            missed.push(format!("{name}: not told as `{says}` at {at}: {:?}", report.findings));
        }
    }
    assert!(missed.is_empty(), "{} missed:\n{}", missed.len(), missed.join("\n"));
}

#[test]
fn whole_regions_of_every_shape_give_clean_reports() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = Place::new(root.path());
    for shape in place.shapes() {
        place.put(&shape, &shape.image);
        let report = membus::check(place.path()).unwrap();
        assert!(report.is_clean(), "{}: {report:?}", shape.name);
        // And again after the dead were buried and their locks taken over.
        let bus = place.options().attach_at(place.path()).unwrap();
        for number in 0..200 {
            bus.set_bytes(format!("more{number}"), b"and more").unwrap();
        }
        drop(bus);
        let report = membus::check(place.path()).unwrap();
        assert!(report.is_clean(), "{}, in use again: {report:?}", shape.name);
    }
}
