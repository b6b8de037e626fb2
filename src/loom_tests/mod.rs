//! The real protocols under loom: every interleaving and every allowed reordering, up to a bound of
//! preemptions: the model's own, or `LOOM_MAX_PREEMPTIONS`.
//!
//! Each model runs functions of the library over the words that they touch; a word that a model
//! forgot is an error of the access. Each says which promise it keeps, and names the plants with
//! which it was seen to fail: `tests/weaken` plants them again, one by one.
//!
//! What a model begins with is made by the same functions, run once by themselves ([`Image::after`]);
//! every execution starts from those words. So only what is at stake costs executions.
//!
//! Not shown here: a load that takes place before an earlier one's result is known, or after a later
//! store (loom has no load buffering); the orders that death alone needs, since loom runs a thread
//! as it is written.

mod array;
mod cell;
mod commit;
mod doorbell;
mod heap;
mod lock;
mod log;
mod pin;
mod read;
mod snapshot;
mod turn;

use crate::commit::Stored;
use crate::heap::{Space, class};
use crate::lock::{Liveness, Patience};
use crate::log::RECORD_FIXED;
use crate::region::geometry::{Geometry, Shape};
use crate::region::layout::{self, BUCKET_SLOTS, PINS_MAX, header, member, span, stripe};
use crate::region::{Memory, Region};
use crate::sync::AtomicU64;
use crate::sync::Ordering::Relaxed;
use crate::table::entry::Note;
use crate::table::plan::Plan;
use crate::table::read::ReadFailure;
use crate::table::wish::{Action, Condition, KIND_BYTES, Wish};
use crate::table::{Clock, Core, Nobody};
use crate::word::{ArrayWord, offset_of};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Size of the smallest entry, which is what these models use.
const ROOM: u64 = 64;
/// Places in the rings and lists of a stripe that models may use.
const NOTED: u64 = 3;

/// Runs a model with every interleaving of so many preemptions at the most, `usual` ones unless
/// `LOOM_MAX_PREEMPTIONS` is set, and says how many there are.
fn explore(name: &str, usual: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    let bound = builder.preemption_bound.unwrap_or(usual);
    builder.preemption_bound = Some(bound);
    builder.max_branches = 2_000;
    let (count, begun) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let counted = Arc::clone(&count);
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        model();
    });
    let (count, took) = (count.load(Relaxed), begun.elapsed().as_secs_f64());
    println!("{name}: {count} executions of at most {bound} preemptions, {took:.1} s");
    crate::earned(count as u64, "loom executions");
}

/// A model of one process that writes while another one reads; `check` is told what was read, and
/// looks at what is left.
///
/// The writer goes first. Loom tries what could have happened the other way round when it sees two
/// accesses of one word by two threads, but of loads it remembers the last one alone: of a reader
/// that went first it would forget what the writer loads too before it stores there.
fn race<T: 'static>(
    (name, usual): (&str, usize),
    image: Image,
    write: impl Fn(&Core) + Send + Sync + 'static,
    read: impl Fn(&Core) -> T + Send + Sync + Copy + 'static,
    check: impl Fn(&Core, T) + Send + Sync + 'static,
) {
    explore(name, usual, move || {
        let bus = image.start();
        let reader = bus.core();
        let reader = loom::thread::spawn(move || read(&reader));
        write(&bus.core());
        let seen = reader.join().unwrap();
        check(&bus.core(), seen);
    });
}

/// One stripe; blocks of 16 KiB, of which the file holds two: the first for entries, the second for
/// the array, of one bucket; a log of two records.
fn geometry() -> Geometry {
    Geometry::new(shape())
}

fn shape() -> Shape {
    Shape {
        bus_id: 1,
        boot_id: 2,
        incarnation: 3,
        seed: 4,
        capacity: 1 << 20,
        max_capacity: 1 << 20,
        block_shift: 14,
        stripes: 1,
        members_max: 3,
        watches_max: 64,
        log_size: 128,
        created: 5,
        mode: 0o600,
        first_revision: 0,
        features: 0,
    }
}

/// The words of a region at some moment.
#[derive(Debug, Clone)]
struct Image {
    geometry: Geometry,
    words: BTreeMap<u64, u64>,
    locks: Vec<(u64, u32)>,
}

impl Image {
    /// Nothing but the locks of a region of this shape.
    fn of(geometry: Geometry) -> Self {
        let locks = [header::GROW_LOCK, header::COMMIT_LOCK, geometry.stripe(0) + stripe::LOCK];
        Self { words: BTreeMap::new(), locks: locks.map(|at| (at, 0)).to_vec(), geometry }
    }

    /// An empty bus with room for so many entries in block 0.
    fn with_entries(count: u64) -> Self {
        let geometry = geometry();
        Self::of(geometry.clone())
            .commit()
            .log()
            .pins()
            .stripe(0)
            .array(1, BUCKET_SLOTS + 1)
            .words([header::SIZE], geometry.block(2))
            .words([geometry.block_word(0)], 0)
            .entries(0, count)
    }

    /// Room for entries of the smallest size, from this block on.
    fn entries(self, block: u64, count: u64) -> Self {
        let (at, shift) = (self.geometry.block(block), self.geometry.block_shift);
        assert_eq!(class::cut_of_class(0, shift).first, ROOM, "entries stand behind the bitmap");
        self.run(at, (1 + count) * ROOM / 8)
    }

    /// The words of a stripe that has no array.
    fn stripe(self, index: u64) -> Self {
        let base = self.geometry.stripe(index);
        let lists = [stripe::CLASSES, stripe::RETIRED_COUNT, stripe::SPARE_COUNT];
        self.words([header::FREE_HINT, header::CLAIMS], 0)
            .words(
                [stripe::COUNT, stripe::LOCKS, stripe::SWEEP_WANTED, stripe::SNAP_DONE]
                    .map(|at| base + at),
                0,
            )
            .words(lists.map(|at| base + at), 0)
            .run(base + stripe::RETIRED, NOTED)
            .run(base + stripe::SPARE, NOTED)
    }

    /// An array of one bucket in this block, with so many of its words.
    fn array(self, block: u64, words: u64) -> Self {
        let (at, lane) = (self.geometry.block(block), self.geometry.stripe(0) + stripe::ARRAY);
        let fixed = [span::BLOCKS, layout::array::USED, layout::array::LINES].map(|word| at + word);
        let word = self.geometry.block_word(block);
        self.run(at + layout::array::FIRST, words)
            .words(fixed, 1)
            // The head of a span that holds an array.
            .words([word], 2 | class::ARRAY << 4)
            .words([lane], ArrayWord::new(at, 0, 0).0)
    }

    /// The words of commits of up to two changes, and of snapshots.
    fn commit(self) -> Self {
        let snap = [header::SNAP_ON, header::SNAP_ID, header::SNAP_REVISION, header::SNAP_CLEARED];
        self.words([header::HEAD, header::CLEARED_AT, header::LOG_TAIL], 0)
            .words([header::READY, header::COUNT, header::TAIL, header::CLEARED, header::LIST], 0)
            .run(header::INLINE, 6)
            .words(snap, 0)
            .words([header::SNAP_OWNER], 0)
    }

    /// The log and its index.
    fn log(self) -> Self {
        let (log, index) = (self.geometry.log(), self.geometry.index(0));
        let (size, count) = (self.geometry.log_size, self.geometry.index_count());
        assert!(size / (RECORD_FIXED + 16) == 2, "the third record begins the second round");
        self.words([header::LOG_INTENT], 0).run(log, size / 8).run(index, count)
    }

    /// The hazard slots of all members.
    fn pins(self) -> Self {
        let geometry = self.geometry.clone();
        (0..geometry.members_max).fold(self.words([geometry.pinned(0)], 0), |image, slot| {
            image.run(geometry.member(slot) + member::PINS, PINS_MAX)
        })
    }

    /// These words, with one value.
    fn words(mut self, at: impl IntoIterator<Item = u64>, value: u64) -> Self {
        self.words.extend(at.into_iter().map(|at| (at, value)));
        self
    }

    /// So many words one behind the other, of 0.
    fn run(self, at: u64, count: u64) -> Self {
        self.words((0..count).map(|index| at + 8 * index), 0)
    }

    /// What the words are after `setup`, which one thread runs by itself.
    fn after(self, setup: impl Fn(&Core) + Send + Sync + 'static) -> Self {
        let after = Arc::new(Mutex::new(self.clone()));
        let end = Arc::clone(&after);
        loom::model::Builder::new().check(move || {
            let bus = self.start();
            setup(&bus.core());
            let mut end = end.lock().unwrap();
            for (at, value) in &mut end.words {
                *value = bus.memory.word(*at).unwrap().load(Relaxed);
            }
            for (at, value) in &mut end.locks {
                *value = bus.memory.half(*at).unwrap().load(Relaxed);
            }
        });
        Arc::into_inner(after).unwrap().into_inner().unwrap()
    }

    /// The words as an execution of a model begins with them.
    fn start(&self) -> Mapped {
        let words: Vec<(u64, u64)> = self.words.iter().map(|(at, value)| (*at, *value)).collect();
        Mapped { memory: Memory::of(&words, &self.locks), geometry: self.geometry.clone() }
    }
}

/// Memory that several processes map.
#[derive(Debug)]
struct Mapped {
    memory: Memory,
    geometry: Geometry,
}

impl Mapped {
    fn space(&self) -> Space {
        Space::new(Region::new(self.memory.clone()), self.geometry.clone())
    }

    /// A process that believes nobody to be dead.
    fn core(&self) -> Core {
        self.process(Nobody)
    }

    /// A process.
    fn process(&self, liveness: impl Liveness + 'static) -> Core {
        Core {
            space: self.space(),
            liveness: Box::new(liveness),
            clock: Clock::fixed(1),
            known_head: AtomicU64::new(0),
            patience: Duration::from_secs(60),
        }
    }
}

/// Where the `index`-th entry stands.
fn entry_at(index: u64) -> u64 {
    geometry().block(0) + ROOM + index * ROOM
}

/// Where the `index`-th slot word of the bucket stands.
fn slot_at(index: u64) -> u64 {
    geometry().block(1) + layout::array::FIRST + 8 * index
}

fn wish<'a>(key: &'a [u8], value: Option<&'a [u8]>) -> Wish<'a> {
    let note = Note { kind: KIND_BYTES, ..Note::default() };
    let action = match value {
        Some(value) => Action::Set { value, note },
        None => Action::Delete { time: 0, who: b"" },
    };
    Wish { key: key.into(), action, condition: Condition::Any }
}

/// Sets a key, by the whole of a write. Values are ten times the revision with which they come about.
fn set(core: &Core, key: &[u8], value: u64) {
    let done = core.write_one(0, &wish(key, Some(&value.to_le_bytes()))).unwrap();
    assert_eq!(10 * done.revision, value, "the models' rule for values");
}

/// Decides changes and fills their entries, without locks.
fn plan(core: &Core, changes: &[(&[u8], Option<u64>)]) -> Vec<Stored> {
    let mut plans: Vec<Plan> = Vec::new();
    for (key, value) in changes {
        let value = value.map(u64::to_le_bytes);
        let wish = wish(key, value.as_ref().map(|value| &value[..]));
        let basis = core.basis().unwrap();
        core.plan(0, &wish, &core.site((*key).into(), &|_| false), &basis, &mut plans).unwrap();
    }
    plans.into_iter().map(|plan| plan.stored).collect()
}

/// Stores the record of a commit without a log: its last store is the commit.
fn record(core: &Core, changes: &[Stored]) {
    let head = core.region.load(header::HEAD, Relaxed).unwrap();
    let last = head + changes.len() as u64;
    core.commit_record(changes.iter().copied(), 0, last, 0, 0).unwrap();
}

/// Commits changes, and nothing else: the fences and locks of a whole write would stand in for an
/// ordering that is missing in the commit.
fn commit(core: &Core, changes: &[(&[u8], Option<u64>)]) {
    let stored = plan(core, changes);
    record(core, &stored);
    core.finish().unwrap();
    for change in stored.iter().filter(|change| change.old != 0) {
        core.retire(0, offset_of(change.old)).unwrap();
    }
}

/// What a reader sees; `None` when writers overtook it every time. That it never sees a value which
/// was not of the entry with that revision is part of every model.
fn try_get(core: &Core, key: &[u8]) -> Option<Option<u64>> {
    let (mut bytes, mut born) = (Vec::new(), 0);
    let found = core.read(key, |seen| {
        bytes.clear();
        born = seen.born;
        seen.entry.copy_value(&seen.header, &mut bytes)
    });
    match found {
        Ok(found) => Some(found.then(|| {
            let value = u64::from_le_bytes(bytes[..].try_into().unwrap());
            assert_eq!(value, 10 * born, "torn: a value of another revision");
            value
        })),
        Err(ReadFailure::Contended { .. }) => None,
        Err(ReadFailure::Bad(bad)) => panic!("{bad}"),
    }
}

/// What a reader sees whom at most one change meets: that costs it two retries at the most.
fn get(core: &Core, key: &[u8]) -> Option<u64> {
    try_get(core, key).expect("waits for one change longer than it may")
}

fn far() -> Patience {
    Patience::new(Duration::from_secs(60))
}
