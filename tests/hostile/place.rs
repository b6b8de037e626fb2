//! Valid regions of every shape, and a place where one after the other is put.

use crate::image::{ARRAY, Image};
use crate::layout::{entry, header, member, stripe};
use membus::{Bus, Options, Watch};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A valid region, with the members file that goes with it.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) image: Image,
    members: Vec<u8>,
}

/// A directory in which a bus is, with all that is kept of it.
#[derive(Debug)]
pub(crate) struct Place {
    root: PathBuf,
}

/// What fills a region, and what is done to its bytes afterwards.
type Make = (&'static str, u64, fn(&Place) -> Image);

/// Each shape: its name, the bytes of its log, and how it comes about.
const SHAPES: [Make; 12] = [
    ("empty", 1 << 16, |place| place.filled(|_| {})),
    ("full of small entries", 1 << 16, |place| place.filled(small)),
    ("big values", 1 << 16, |place| place.filled(big)),
    ("chains of overflow buckets", 1 << 16, Place::chains),
    ("timed, pinned and ephemeral", 1 << 16, Place::timed),
    ("mid-growth", 1 << 16, Place::mid_growth),
    ("dead in the middle of a commit", 1 << 16, Place::mid_commit),
    ("several members", 1 << 16, Place::members),
    ("a log that wrapped", 1 << 14, |place| place.filled(wrapped)),
    ("a log of fewer records than its index has strides", 4096, |place| place.filled(wrapped)),
    ("messages and old values", 1 << 14, Place::messages),
    ("a snapshot that is on", 1 << 16, Place::mid_snapshot),
];

/// The slot of a member that nobody ever was: whoever is named so is dead.
const DEAD: u64 = 7;

impl Place {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
    pub(crate) fn path(&self) -> PathBuf {
        self.root.join("bus")
    }
    /// How to open the bus: nothing waits for long.
    pub(crate) fn options(&self) -> Options {
        let options = Bus::options().state(self.root.join("state")).keeper(false);
        options.deadline(Duration::from_millis(10))
    }
    fn patient(&self) -> Bus {
        self.options().deadline(Duration::from_secs(5)).attach_at(self.path()).unwrap()
    }

    /// All shapes. The last one's bus stays.
    pub(crate) fn shapes(&self) -> Vec<Shape> {
        let make = |(name, log_size, fill): Make| {
            self.empty(log_size);
            let image = fill(self);
            Shape { name, image, members: std::fs::read(self.path().join("members")).unwrap() }
        };
        SHAPES.into_iter().map(make).collect()
    }

    /// An empty bus whose key hash has a seed that is always the same: a region that is damaged by
    /// a seed is damaged in the same places each time.
    fn empty(&self, log_size: u64) {
        if self.path().exists() {
            self.options().destroy_at(self.path(), true).unwrap();
        }
        let options = self.options().max_capacity(4 << 20).capacity(3 << 19).log_size(log_size);
        drop(options.create_at(self.path()).unwrap());
        let mut image = self.image();
        image.set(header::SEED, 42);
        image.reseal();
        self.put_bytes(&image);
    }

    pub(crate) fn image(&self) -> Image {
        Image(std::fs::read(self.path().join("region")).unwrap())
    }
    fn put_bytes(&self, image: &Image) {
        let file = OpenOptions::new().write(true).open(self.path().join("region")).unwrap();
        file.set_len(image.len()).unwrap();
        file.write_all_at(&image.0, 0).unwrap();
    }
    /// Puts a region where the bus is. Nobody is attached.
    pub(crate) fn put(&self, shape: &Shape, image: &Image) {
        let path = self.path().join("members");
        std::fs::write(path, &shape.members).unwrap();
        self.put_bytes(image);
    }

    fn filled(&self, fill: impl FnOnce(&Bus)) -> Image {
        let bus = self.patient();
        fill(&bus);
        drop(bus);
        self.image()
    }

    fn chains(&self) -> Image {
        let empty = self.image();
        self.filled(|bus| {
            let keys = (0_u32..).map(|number| format!("k{number}"));
            let crowded = keys.filter(|key| empty.home(key.as_bytes()) == (1, 5));
            for key in crowded.take(40) {
                bus.set_bytes(key, b"chained").unwrap();
            }
        })
    }

    /// Read while its members live; to whoever finds the copy they are dead.
    fn timed(&self) -> Image {
        let bus = self.patient();
        small(&bus);
        for number in 0..40 {
            let (hour, gone) = (Duration::from_secs(3600), Duration::from_millis(1));
            bus.put(format!("hour{number}")).ttl(hour).set_bytes(b"stays").unwrap();
            bus.put(format!("gone{number}")).ttl(gone).set_bytes(b"goes").unwrap();
            bus.put(format!("mine{number}")).ephemeral().set_bytes(b"owned").unwrap();
        }
        let pins: Vec<_> = (0..8).map(|n| bus.read(format!("n{n}")).unwrap().unwrap()).collect();
        let image = self.image();
        drop(pins);
        image
    }

    fn mid_growth(&self) -> Image {
        let mut image = self.filled(small);
        let blocks = image.blocks();
        image.0.resize(image.0.len() + (8 << image.shift()), 0);
        image.set(header::GROW_LOCK, DEAD + 1);
        // A doubler that died between claiming blocks and making a span of them.
        let claimed = 1 | ARRAY << 4 | 2 << 12 | 1 << 32;
        let free = |block: &u64| image.word(image.block_word(*block)) & 15 == 0;
        let lost: Vec<_> = (0..blocks).filter(free).take(2).collect();
        for block in lost {
            image.set(image.block_word(block), claimed);
        }
        image.set(image.stripe(2) + stripe::LOCK, DEAD + 1);
        bury_not(&mut image);
        image
    }

    /// The last commit stands in its record: the head goes back, and somebody dead holds the locks.
    fn mid_commit(&self) -> Image {
        let mut image = self.filled(|bus| {
            small(bus);
            bus.set_bytes("k3", b"the change that is not finished").unwrap();
        });
        let (head, named) = (image.word(header::HEAD), image.find(b"k3"));
        image.set(header::READY, head);
        image.set(header::HEAD, head - 1);
        image.set(header::COMMIT_LOCK, DEAD + 1);
        image.set(image.stripe(named.stripe) + stripe::LOCK, DEAD + 1);
        bury_not(&mut image);
        image
    }

    fn members(&self) -> Image {
        let handles: Vec<_> = (0..5).map(|_| self.patient()).collect();
        small(&handles[0]);
        let watch = |handle: &Bus| -> Watch {
            let mut watch = handle.watch("k1").unwrap();
            while watch.try_recv().unwrap().is_some() {}
            watch
        };
        let watches: Vec<_> = handles.iter().map(watch).collect();
        let image = self.image();
        drop(watches);
        image
    }

    /// A log that tells old values, messages among them.
    fn messages(&self) -> Image {
        let mut image = self.image();
        image.set(header::FEATURES, 1);
        image.reseal();
        self.put_bytes(&image);
        self.filled(|bus| {
            for number in 0..60_u32 {
                bus.set_bytes(format!("k{}", number % 20), vec![7; number as usize]).unwrap();
                let message = bus.message("t/1").priority(number as i32 % 5).id("an id");
                message.target(["me", "you"][number as usize % 2]).send(&number).unwrap();
                bus.delete(format!("k{}", number % 7)).unwrap();
            }
        })
    }

    fn mid_snapshot(&self) -> Image {
        let mut image = self.filled(small);
        image.set(header::SNAP_REVISION, image.word(header::HEAD));
        image.set(header::SNAP_ID, 1);
        image.set(header::SNAP_ON, 1);
        image.set(header::SNAP_OWNER, 9 << 16 | (DEAD + 1));
        let named = image.find(b"k5");
        image.set(named.at + entry::TIME, u64::MAX);
        image
    }
}

/// Somebody had the dead slot, and was not buried.
fn bury_not(image: &mut Image) {
    image.set(image.member(DEAD) + member::GENERATION, 1);
    image.set(image.member(DEAD) + member::STATE, member::STATE_IN_USE);
    image.set(header::MEMBERS_HIGH, DEAD + 1);
}

fn small(bus: &Bus) {
    for number in 0..600_u32 {
        bus.set_bytes(format!("k{number}"), vec![number as u8; number as usize % 90]).unwrap();
    }
    for number in 0..50_u32 {
        bus.add(format!("n{number}"), i64::from(number)).unwrap();
        bus.set(format!("s{number}"), &vec![number; 5]).unwrap();
        bus.delete(format!("k{}", number * 11)).unwrap();
        bus.set_bytes(format!("k{}", number * 11 + 1), b"replaced").unwrap();
    }
}

fn big(bus: &Bus) {
    for number in 0..12_usize {
        bus.set_bytes(format!("k{number}"), vec![number as u8; 3000 << (number % 6)]).unwrap();
    }
}

fn wrapped(bus: &Bus) {
    for number in 0..700_u32 {
        bus.set_bytes(format!("k{}", number % 20), vec![7; number as usize % 60]).unwrap();
    }
}
