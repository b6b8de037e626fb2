//! A region on the heap, for tests: members live and die by a word of ours.

use super::cell::Known;
use super::read::ReadFailure;
use super::wish::{Action, Condition, KIND_BYTES, Wish};
use super::{Clock, Core};
use crate::heap::Space;
use crate::hook;
use crate::lock::{Liveness, Probe};
use crate::region::geometry::{Geometry, Shape};
use crate::region::layout::header;
use crate::region::{Memory, Region};
use crate::sync::AtomicU64;
use crate::sync::Ordering::Relaxed;
use crate::table::entry::Note;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

/// Dead slots, as a bit set, and the mutex that probing takes.
#[derive(Debug, Default, Clone)]
pub(crate) struct Graveyard(Arc<(AtomicU64, Mutex<()>)>);

impl Graveyard {
    pub(crate) fn dies(&self, slot: u32) {
        self.0.0.fetch_or(1 << slot, Relaxed);
    }
    /// Takes the byte of a dead slot: whether it was free.
    pub(crate) fn take(&self, slot: u32) -> bool {
        let _nobody_probes = self.probe();
        self.0.0.fetch_and(!(1 << slot), Relaxed) & 1 << slot != 0
    }
    pub(crate) fn lives(&self, slot: u32) {
        self.0.0.fetch_and(!(1 << slot), Relaxed);
    }
}

struct Held<'a>(
    &'a Graveyard,
    #[expect(dead_code, reason = "held for its Drop")] MutexGuard<'a, ()>,
);

impl Liveness for Graveyard {
    fn probe(&self) -> Option<Box<dyn Probe + '_>> {
        loop {
            let held = match self.0.1.try_lock() {
                Ok(held) => held,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    if !hook::give_way() {
                        std::thread::yield_now();
                    }
                    continue;
                }
            };
            return Some(Box::new(Held(self, held)));
        }
    }
}

impl Probe for Held<'_> {
    fn acquire(&mut self, slot: u32) -> bool {
        self.0.0.0.load(Relaxed) & 1 << slot != 0
    }
}

/// The shape of a small region: 4 stripes, blocks of 16 KiB, a log of 16 KiB.
pub(crate) fn small(max_capacity: u64) -> Geometry {
    Geometry::new(Shape {
        bus_id: 1,
        boot_id: 2,
        incarnation: 3,
        seed: 4,
        capacity: max_capacity,
        max_capacity,
        block_shift: 14,
        stripes: 4,
        members_max: 8,
        watches_max: 64,
        log_size: 16384,
        created: 5,
        mode: 0o600,
        first_revision: 0,
        features: 0,
    })
}

/// An empty bus on the heap.
pub(crate) fn bus(geometry: Geometry) -> (Core, Graveyard) {
    let words = (0..geometry.max_capacity / 8).map(|_| AtomicU64::new(0)).collect();
    let region = Region::new(Memory::heap(words));
    let size = geometry.max_capacity;
    geometry.format(&region, size).unwrap();
    region.store(header::MEMBERS_HIGH, geometry.members_max, Relaxed).unwrap();
    let core = over(region, geometry);
    core.0.format_stripes().unwrap();
    core
}

/// A small bus of which the words are looked at one by one.
pub(crate) fn heap() -> Core {
    bus(small(2 << 20)).0
}

/// A word as it stands.
pub(crate) fn word(core: &Core, at: u64) -> u64 {
    core.region.load(at, Relaxed).unwrap()
}

/// Puts a word there.
pub(crate) fn put(core: &Core, at: u64, value: u64) {
    core.region.store(at, value, Relaxed).unwrap();
}

/// The same bytes under a new core; everybody else is gone.
pub(crate) fn over(region: Region, geometry: Geometry) -> (Core, Graveyard) {
    let yard = Graveyard::default();
    let core = Core {
        space: Space::new(region, geometry),
        liveness: Box::new(yard.clone()),
        clock: Clock::fixed(1_000_000),
        known_head: AtomicU64::new(0),
        patience: Duration::from_secs(10),
    };
    (core, yard)
}

/// A copy of a bus as its bytes stand, with the clock of the original.
pub(crate) fn copy(core: &Core) -> (Core, Graveyard) {
    let words = core.region.copy();
    let (mut new, yard) = over(Region::new(Memory::heap(words)), core.geometry.clone());
    new.clock = Clock::fixed(core.clock.boot());
    (new, yard)
}

/// A change to raw bytes.
pub(crate) fn set<'a>(key: &'a str, value: &'a [u8]) -> Wish<'a> {
    let note = Note { kind: KIND_BYTES, time: 7, ..Note::default() };
    Wish {
        key: key.as_bytes().into(),
        action: Action::Set { value, note },
        condition: Condition::Any,
    }
}

/// The end of a key.
pub(crate) fn delete(key: &str) -> Wish<'_> {
    let action = Action::Delete { time: 8, who: b"" };
    Wish { key: key.as_bytes().into(), action, condition: Condition::Any }
}

/// Adds to a counter.
pub(crate) fn add(key: &str, by: i64) -> Wish<'_> {
    let action = Action::Add { by, time: 9, who: b"me" };
    Wish { key: key.as_bytes().into(), action, condition: Condition::Any }
}

/// The value of a key.
pub(crate) fn get(core: &Core, key: &str) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    let seen = core.read(key.as_bytes(), |seen| {
        value.clear();
        seen.entry.copy_value(&seen.header, &mut value)
    });
    seen.unwrap().then_some(value)
}

/// An entry as somebody saw it: its revision and its value.
pub(crate) type Sight = (u64, Vec<u8>);

/// A cell of a core: what was found of a key, and what is known of it since.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memo {
    pub(crate) known: Known,
    found: Option<Sight>,
}

impl Memo {
    /// What is there: what was found, as long as that holds.
    pub(crate) fn get(&mut self, core: &Core, key: &str) -> Result<Option<Sight>, ReadFailure> {
        if core.still_holds(&self.known)? {
            return Ok(self.found.clone());
        }
        let mut sight = Sight::default();
        self.known = core.learn(|note| {
            core.read(key.as_bytes(), |seen| {
                note(seen);
                sight.0 = seen.born;
                sight.1.clear();
                seen.entry.copy_value(&seen.header, &mut sight.1)
            })
        })?;
        self.found = self.known.is_there().then_some(sight);
        Ok(self.found.clone())
    }
}
