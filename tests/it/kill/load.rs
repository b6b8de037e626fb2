//! What the killed processes do: everything, as fast as they can, and say before and after each change what
//! it is.
//!
//! | line | what begins |
//! | --- | --- |
//! | `b set KEY TAG SIZE` | a value of one of this place's own keys |
//! | `b delete KEY` | its end |
//! | `b batch FIRST COUNT TAG EACH` | `COUNT` own keys from `FIRST` on; each `EACH`th is deleted |
//! | `b add COUNTER BY` | a sum |
//! | `b vanishing KEY TAG`, `b short KEY TAG` | a key that goes with this process, with its time |
//! | `b shared KEY` | a value of a key that all of them set |
//! | `b clear` | the end of everything |
//! | `a REVISION MICROS` | it is done; 0: nothing was to do |
//! | `f` | it was refused: the bus is full |
//! | `paused` | nothing is begun before it is told to go on |

use crate::harness::Rng;
use crate::harness::part::Part;
use membus::{
    Batch, BatchError, Bus, Cursor, Event, ReadBus, Revision, ValueGuard, Watch, WriteError,
};
use std::time::{Duration, Instant};

/// Keys that each place has to itself.
pub(super) const KEYS: u64 = 400;
/// Keys that vanish, and keys with a short time, of each place.
pub(super) const FEW: u64 = 10;
/// Sums.
pub(super) const COUNTERS: u64 = 8;
const SHARED: u64 = 20;

pub(super) fn own_key(place: u64, key: u64) -> String {
    format!("own{place}/{key}")
}
pub(super) fn vanishing_key(place: u64, key: u64) -> String {
    format!("vanishing{place}/{key}")
}
pub(super) fn short_key(place: u64, key: u64) -> String {
    format!("short{place}/{key}")
}
pub(super) fn counter_key(counter: u64) -> String {
    format!("sum/{counter}")
}

/// A value that says what it is: its tag, and bytes that follow from it.
pub(super) fn value(tag: u64, size: u64) -> Vec<u8> {
    let mut value = tag.to_le_bytes().to_vec();
    value.extend((8..size).map(|at| (tag.wrapping_mul(31) + at) as u8));
    value
}

/// The tag of a value that must be whole.
#[track_caller]
pub(super) fn tag_of(bytes: &[u8]) -> u64 {
    let tag = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert!(*bytes == *value(tag, bytes.len() as u64), "a torn value of {} bytes", bytes.len());
    tag
}

/// Size of the value with this tag: mostly small, seldom larger than a span of blocks.
pub(super) fn size_of(tag: u64) -> u64 {
    let mut rng = Rng::new(tag);
    match rng.below(400) {
        0 => 8 + rng.below(150_000),
        1..20 => 8 + rng.below(6000),
        _ => 8 + rng.below(250),
    }
}

struct Load<'a> {
    part: &'a Part,
    bus: &'a Bus,
    rng: Rng,
    place: u64,
}

/// Does everything at once.
pub(crate) fn load(part: &Part) {
    let mut options = part.options();
    if part.has("keeper") {
        options = options.snapshot_every(Duration::from_millis(50));
    }
    let bus = options.attach_at(part.place.bus()).unwrap();
    let members = bus.members().unwrap();
    let own = members.iter().find(|member| member.alive && member.pid == std::process::id());
    part.say(&format!("attached {}", own.unwrap().slot));
    let (rng, place) = (Rng::new(part.number("seed")), part.number("at"));
    let mut load = Load { part, bus: &bus, rng, place };
    let (mut watch, mut held) = (None, None);
    part.hear();
    while !part.is_over() {
        if let Some(line) = part.overhear() {
            assert_eq!(line, "pause");
            part.say("paused");
            part.hear();
        }
        load.change();
        match load.rng.below(30) {
            0..4 => load.look(),
            4 => load.follow(&mut watch),
            5..8 => held = load.hold(held),
            8 => watch = None,
            _ => {}
        }
    }
}

impl<'a> Load<'a> {
    fn tag(&mut self) -> u64 {
        self.rng.next() >> 8
    }

    /// Begins a change, makes it, and says how it ended.
    fn make(&self, what: &str, change: impl FnOnce(&Bus) -> Result<Option<Revision>, WriteError>) {
        self.part.say(&format!("b {what}"));
        let begun = Instant::now();
        match change(self.bus) {
            Ok(revision) => {
                let revision = revision.map_or(0, Revision::get);
                self.part.say(&format!("a {revision} {}", begun.elapsed().as_micros()));
            }
            Err(WriteError::Full { .. }) => self.part.say("f"),
            Err(error) => panic!("{what}: {error}"),
        }
    }

    fn change(&mut self) {
        let (place, key, tag) = (self.place, self.rng.below(KEYS), self.tag());
        let few = key % FEW;
        match self.rng.below(100) {
            0..50 => self.make(&format!("set {key} {tag} {}", size_of(tag)), |bus| {
                bus.set_bytes(own_key(place, key), value(tag, size_of(tag))).map(Some)
            }),
            50..60 => self.make(&format!("delete {key}"), |bus| bus.delete(own_key(place, key))),
            60..72 => self.batch(key, tag),
            72..82 if self.part.has("clears") => {
                if self.rng.once_in(150) {
                    self.make("clear", |bus| bus.clear().map(Some));
                }
            }
            72..82 => {
                let counter = key % COUNTERS;
                self.make(&format!("add {counter} {}", tag % 1000), |bus| {
                    bus.add(counter_key(counter), (tag % 1000) as i64).map(|_| None)
                });
            }
            82..86 => self.make(&format!("vanishing {few} {tag}"), |bus| {
                let put = bus.put(vanishing_key(place, few)).ephemeral();
                put.set_bytes(value(tag, 40)).map(Some)
            }),
            86..90 => self.make(&format!("short {few} {tag}"), |bus| {
                let ttl = Duration::from_micros(tag % 20_000);
                bus.put(short_key(place, few)).ttl(ttl).set_bytes(value(tag, 60)).map(Some)
            }),
            _ => self.make(&format!("shared {}", key % SHARED), |bus| {
                let key = format!("shared/{}", key % SHARED);
                bus.set_bytes(key, value(tag, size_of(tag))).map(Some)
            }),
        }
    }

    fn batch(&mut self, first: u64, tag: u64) {
        let place = self.place;
        let (count, each) = (1 + self.rng.below(60), 2 + self.rng.below(5));
        let mut batch = Batch::new();
        for index in 0..count {
            let key = own_key(place, (first + index) % KEYS);
            match index % each {
                0 => batch.delete(key),
                _ => batch.set_bytes(key, value(tag + index, 8 + (tag + index) % 200)),
            };
        }
        self.make(&format!("batch {first} {count} {tag} {each}"), |bus| {
            bus.commit(&batch).map_err(|BatchError { source, .. }| source)
        });
    }

    /// Reads by key and by scan: every value is whole.
    fn look(&mut self) {
        let key = self.rng.below(KEYS);
        if let Some(entry) = self.bus.get_entry(own_key(self.place, key)).unwrap() {
            tag_of(&entry.value);
            assert_eq!(&*entry.key, own_key(self.place, key).as_bytes());
        }
        if let Some(value) = self.bus.get_bytes(format!("shared/{}", key % SHARED)).unwrap() {
            tag_of(&value);
        }
        if self.rng.once_in(20) {
            for entry in self.bus.scan_entries("own") {
                tag_of(&entry.unwrap().value);
            }
        }
    }

    /// Follows a watch of everything for a while: revisions in a row, or `Lagged` in between.
    fn follow(&mut self, watch: &mut Option<(Watch, u64)>) {
        let bus = self.bus;
        let (watch, last) = watch.get_or_insert_with(|| {
            let watch = bus.watch_from("", Cursor::NOW).unwrap();
            (watch, 0)
        });
        for _ in 0..self.rng.below(100) {
            match watch.recv_timeout(Duration::from_micros(self.rng.below(50))).unwrap() {
                Some(Event::Change(change)) => {
                    *last += 1;
                    assert_eq!(change.revision.get(), *last, "a gap or a repeat");
                }
                Some(Event::Lagged { missed, resume }) => {
                    *last += missed;
                    assert_eq!(resume.revision, *last);
                }
                Some(Event::CaughtUp(cursor)) => *last = cursor.revision,
                None => return,
                Some(other) => panic!("{other:?}"),
            }
        }
    }

    /// Lets a guard go, whose bytes must be what they were, and takes another.
    fn hold(&mut self, held: Option<(u64, ValueGuard<'a>)>) -> Option<(u64, ValueGuard<'a>)> {
        if let Some((tag, guard)) = held {
            assert_eq!(tag_of(&guard), tag, "a guard's bytes changed");
        }
        let key = format!("shared/{}", self.rng.below(SHARED));
        let guard = self.bus.read(key).unwrap()?;
        Some((tag_of(&guard), guard))
    }
}
