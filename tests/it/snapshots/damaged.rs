//! Damaged images are refused, loudly, and the one before is used; killed savers leave whole ones.

use super::{Content, content, lose, quiet};
use crate::harness::actor::actor;
use crate::harness::part::Part;
use crate::harness::{Place, Seed, assert_whole, heavy, tree};
use membus::{OpenError, ReadBus, SnapshotError};
use std::path::PathBuf;

/// A bus with two images, and what is in the older one; nobody is there.
fn two_images() -> (Place, Content) {
    let place = Place::new();
    let bus = quiet(&place);
    for number in 0..500_u32 {
        bus.set_bytes(format!("k{number}"), vec![number as u8; 300]).unwrap();
    }
    bus.snapshot().unwrap();
    let older = content(&bus);
    for number in 0..300_u32 {
        bus.set_bytes(format!("k{number}"), vec![9; 301]).unwrap();
    }
    bus.delete("k400").unwrap();
    bus.snapshot().unwrap();
    (place, older)
}

/// Promise "durable as asked": an image of which any byte was changed or any end cut off is refused whole, and the
/// one before is used; never a part of it.
/// Method: 150 damages at random places, and the ends.
/// Plants: no checksum over the frames; a footer that is not looked for.
#[test]
fn a_damaged_image_is_refused_and_the_one_before_is_used() {
    let seed = Seed::of("a_damaged_image_is_refused_and_the_one_before_is_used");
    let mut rng = seed.rng();
    let (place, older) = two_images();
    let newest = place.image_files()[0].clone();
    let good = std::fs::read(&newest).unwrap();
    let size = good.len() as u64;
    let cuts = [0, 1, 63, 64, 65, size - 1, size - 48, size - 49];
    for round in 0..150 {
        lose(&place);
        let mut bad = good.clone();
        let what = match cuts.get(round) {
            Some(cut) => {
                bad.truncate(*cut as usize);
                format!("cut at {cut}")
            }
            None if round % 10 == 8 => {
                bad.truncate(rng.below(size) as usize);
                format!("cut at {}", bad.len())
            }
            None if round % 10 == 9 => {
                bad.push(rng.next() as u8);
                "a byte more".to_owned()
            }
            None => {
                let (at, bit) = (rng.below(size) as usize, rng.below(8));
                bad[at] ^= 1 << bit;
                format!("bit {bit} of byte {at}")
            }
        };
        std::fs::write(&newest, &bad).unwrap();
        let back = quiet(&place);
        assert!(content(&back) == older, "{what}");
    }
    lose(&place);
    std::fs::write(&newest, &good).unwrap();
    assert!(content(&quiet(&place)) != older);
}

/// Promise "durable as asked": when all images are damaged, opening fails with the newest one's path and what is
/// wrong with it; no empty bus takes their place, and they are not touched.
/// Plant: an empty bus when none is good.
#[test]
fn when_all_are_damaged_there_is_no_bus() {
    let (place, older) = two_images();
    lose(&place);
    let files = place.image_files();
    let good = std::fs::read(&files[1]).unwrap();
    for file in &files {
        std::fs::write(file, b"MEMBUSIM and then nothing of use").unwrap();
    }
    for _ in 0..2 {
        let refused = place.options().open_at(place.bus()).unwrap_err();
        let OpenError::Snapshot(SnapshotError::Damaged { at, reason }) = &refused else {
            panic!("{refused}")
        };
        assert_eq!(*at, files[0].display().to_string());
        assert!(!reason.is_empty() && refused.to_string().contains(reason));
        assert!(!place.region().exists());
        assert_eq!(place.image_files(), files);
    }
    std::fs::write(&files[1], good).unwrap();
    assert!(content(&quiet(&place)) == older);
}

/// Promise "durable as asked": a directory, a link to nowhere or a FIFO with the name of an image is refused like a
/// damaged one: nothing is waited for, and the one before is used.
/// Plant: an image opened without `O_NONBLOCK` waits for a writer of the FIFO.
#[test]
fn what_is_no_image_is_refused() {
    let (place, older) = two_images();
    let newest = place.image_files()[0].clone();
    let make: [&dyn Fn(); 3] = [
        &|| std::fs::create_dir(&newest).unwrap(),
        &|| std::os::unix::fs::symlink(place.path().join("nowhere"), &newest).unwrap(),
        &|| nix::unistd::mkfifo(&newest, nix::sys::stat::Mode::S_IRWXU).unwrap(),
    ];
    std::fs::remove_file(&newest).unwrap();
    for make in make {
        make();
        lose(&place);
        assert!(content(&quiet(&place)) == older);
        std::fs::remove_file(&newest).or_else(|_| std::fs::remove_dir(&newest)).unwrap();
    }
}

/// Tells by the log that the program has what is told there as an error.
struct Loud(std::sync::mpsc::Sender<String>);

impl tracing::Subscriber for Loud {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!("{}={value:?} ", field.name());
            }
        }
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.0.send(fields.0).unwrap();
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Opens the bus, and says what its log had of errors.
pub(crate) fn opener(part: &Part) {
    let (sender, told) = std::sync::mpsc::channel();
    tracing::subscriber::set_global_default(Loud(sender)).unwrap();
    let bus = part.options().open_at(part.place.bus()).unwrap();
    part.say(&format!("opened {}", bus.len().unwrap()));
    told.try_iter().for_each(|line| part.say(&format!("error {line}")));
}

/// Promise "durable as asked": a newer image that was refused is told as an error, with its path and the reason.
/// Plant: told as a warning.
#[test]
fn a_refused_image_is_told_loudly() {
    let (place, older) = two_images();
    lose(&place);
    let newest = place.image_files()[0].clone();
    let mut bytes = std::fs::read(&newest).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let opener = actor("snapshots_opener", &place).start();
    assert_eq!(opener.expect("opened"), older.len().to_string());
    let told = opener.expect("error");
    assert!(told.contains(newest.to_str().unwrap()) && told.contains("checksum"), "{told}");
    assert_eq!(opener.end(), [""; 0]);
}

/// Promise (snapshots): as many images stay as were asked for, the newest; at least one.
/// Plant: the oldest ones stay.
#[test]
fn as_many_stay_as_were_asked_for() {
    for (keep, stay) in [(0, 1), (1, 1), (4, 4)] {
        let place = Place::new();
        let bus = place.options().keeper(false).keep(keep).open_at(place.bus()).unwrap();
        let taken: Vec<PathBuf> = (0..7)
            .map(|number| {
                bus.set("k", &number).unwrap();
                bus.snapshot().unwrap().path.unwrap()
            })
            .collect();
        let newest: Vec<_> = taken.iter().rev().take(stay).cloned().collect();
        assert_eq!(place.image_files(), newest);
        assert_eq!(tree(&place.images()).len(), stay, "and nothing else");
    }
}

/// Takes one snapshot after another.
pub(crate) fn saver(part: &Part) {
    let bus = part.attach();
    part.say("saves");
    for number in 0_u32.. {
        bus.set("saves", &number).unwrap();
        bus.snapshot().unwrap();
        if part.is_over() {
            return;
        }
    }
}

/// Promise "durable as asked": a process that is killed while it saves leaves the last good image and no other one
/// that counts; the next save removes what is left, and is not hindered.
/// Method: savers of some megabytes are killed at random moments; after each the bus is built anew from what
/// there is.
/// Plant: the image written under its own name.
#[test]
fn savers_that_are_killed_leave_whole_images() {
    let _alone = heavy();
    let seed = Seed::of("savers_that_are_killed_leave_whole_images");
    let mut rng = seed.rng();
    let place = Place::new();
    let bus = quiet(&place);
    for number in 0..4000_u32 {
        bus.set_bytes(format!("k{number}"), vec![number as u8; 500]).unwrap();
    }
    bus.snapshot().unwrap();
    drop(bus);
    let mut halves = 0;
    for round in 0..30 {
        let mut saver = actor("snapshots_saver", &place).start();
        saver.expect("saves");
        saver.kill_after(rng.micros(20_000));
        halves += tree(&place.images()).len() - place.image_files().len();
        lose(&place);
        let back = quiet(&place);
        let entries = back.len().unwrap();
        assert!(entries == 4000 + u64::from(back.contains("saves").unwrap()), "{round}: {entries}");
        assert_eq!(back.get_bytes("k77").unwrap().unwrap(), vec![77; 500]);
        let info = back.snapshot().unwrap();
        assert_eq!((info.entries, tree(&place.images()).len() <= 3), (entries, true), "{round}");
        assert_whole(&back);
    }
    assert!(halves > 0, "none was killed in the middle");
}
