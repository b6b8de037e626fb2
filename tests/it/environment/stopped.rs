//! SIGSTOP: a stopped member is alive, keeps its locks, and delays no reader.

use crate::harness::actor::{Actor, actor};
use crate::harness::part::Part;
use crate::harness::{Place, assert_whole, eventually};
use membus::{Batch, Bus, BusReader, ReadBus, WriteError};
use std::time::Duration;

/// Keys of [`writer`]: enough for every stripe.
const KEYS: u32 = 64;

pub(crate) fn batch(value: u32) -> Batch {
    let mut batch = Batch::new();
    for key in 0..KEYS {
        batch.set(format!("w/{key}"), &value).unwrap();
    }
    batch
}

/// Writes batches over all stripes, one after another, and says how many at the end. Besides it holds
/// `resident` MiB of memory, all of it touched.
pub(crate) fn writer(part: &Part) {
    let bus = part.attach();
    let resident = if part.has("resident") { part.number("resident") as usize } else { 0 };
    let _held = vec![1_u8; resident << 20];
    part.say("attached");
    let mut count = 0;
    while !part.is_over() {
        bus.commit(&batch(count)).unwrap();
        count += 1;
    }
    part.say(&format!("wrote {count}"));
}

/// Stops a member again and again until it stands inside a lock, by what `prober`, who waits shortly, is
/// told.
#[track_caller]
pub(crate) fn stop_inside_a_lock(writer: &Actor, prober: &Bus) -> WriteError {
    eventually("a member stopped inside a lock", || {
        writer.freeze();
        match prober.commit(&batch(u32::MAX)) {
            Err(error) => Some(error.source),
            Ok(_) => {
                writer.thaw();
                None
            }
        }
    })
}

fn impatient(place: &Place) -> Bus {
    let options = place.options().keeper(false).deadline(Duration::from_millis(20));
    options.attach_at(place.bus()).unwrap()
}

/// Promises "never blocked reading" and (locks) that a stopped owner is never robbed: writers are told
/// its label and pid at their deadline, readers go on meanwhile, and after SIGCONT all is well.
/// Method: a writer in a loop is stopped until another one says `Stalled`.
/// Plant: `Probing::acquire` that answers true robs the living: no `Stalled` ever comes, and batches mix.
#[test]
fn a_stopped_writer_is_named_and_delays_no_reader() {
    let place = Place::new();
    let bus = place.small().keeper(false).open_at(place.bus()).unwrap();
    bus.commit(&batch(0)).unwrap();
    bus.set("other", &"value").unwrap();
    let prober = impatient(&place);
    let reader = BusReader::open_at(place.bus()).unwrap();
    let writer = actor("writer", &place).with("label", "stopper").start();
    writer.expect("attached");
    for round in 0..5 {
        let stalled = stop_inside_a_lock(&writer, &prober);
        let WriteError::Stalled { member, label, pid, .. } = &stalled else { panic!("{stalled}") };
        let members = bus.members().unwrap();
        let named = members.iter().find(|m| m.slot == *member).unwrap();
        assert_eq!((label.as_deref(), *pid), (Some("stopper"), writer.pid()), "{stalled}");
        assert!(named.alive && named.pid == writer.pid(), "{named:?}");
        assert!(stalled.to_string().contains("stopper"));
        let head = bus.info().unwrap().revision;
        let seen = bus.get::<u32>("w/0").unwrap().unwrap();
        for key in 0..KEYS {
            assert_eq!(bus.get::<u32>(format!("w/{key}")).unwrap(), Some(seen), "{round}");
            assert!(reader.read_all(&format!("w/{key}")));
        }
        assert_eq!(reader.scan_entries("").count() as u32, KEYS + 1);
        assert!(prober.commit(&batch(u32::MAX)).is_err(), "and again");
        assert_eq!(bus.info().unwrap().revision, head, "a refusal changes nothing");
        writer.thaw();
        bus.commit(&batch(u32::MAX)).unwrap();
    }
    let wrote = writer.end();
    assert!(wrote[0].starts_with("wrote "), "{wrote:?}");
    assert_whole(&bus);
}

trait ReadAll {
    /// Every way of reading one key says that it is there.
    fn read_all(&self, key: &str) -> bool;
}

impl ReadAll for BusReader {
    fn read_all(&self, key: &str) -> bool {
        let entry = self.get_entry(key).unwrap().unwrap();
        let bytes = self.get_bytes(key).unwrap().unwrap();
        !bytes.is_empty() && entry.key.as_ref() == key.as_bytes() && self.contains(key).unwrap()
    }
}

/// Hosts the keeper and does nothing else.
pub(crate) fn keeper(part: &Part) {
    let bus = part.attach();
    eventually("the keeper's first turn", || bus.info().unwrap().keeper);
    part.say("keeps");
    while part.hear().is_some() {}
    bus.close().unwrap();
}

/// Promise (keeper): nothing depends on it for being right: while it is stopped the others write, grow
/// the file, double and bury at attach; its silence is seen; after SIGCONT it goes on.
/// Plant: `grow` left to the keeper alone gives `Full` here.
#[test]
fn a_stopped_keeper_stops_nobody() {
    let place = Place::new();
    let bus = place.small().keeper(false).open_at(place.bus()).unwrap();
    let keeper = actor("keeper", &place).with("keeper", 1).with("label", "keeper").start();
    keeper.expect("keeps");
    let slot = bus.info().unwrap().keeper.unwrap();
    let prober = impatient(&place);
    // Asleep between its turns: it holds no lock.
    eventually("a keeper that stands outside of locks", || {
        keeper.freeze();
        let free = prober.commit(&batch(1)).is_ok();
        (free || {
            keeper.thaw();
            false
        })
        .then_some(())
    });
    let before = bus.info().unwrap();
    for number in 0..3000_u32 {
        bus.set_bytes(number.to_le_bytes(), vec![1; 1500]).unwrap();
    }
    let after = bus.info().unwrap();
    assert!(after.capacity > before.capacity, "{} {}", before.capacity, after.capacity);
    eventually("its silence", || {
        let info = bus.info().unwrap();
        assert_eq!(info.keeper, Some(slot), "a stopped keeper is not robbed");
        (info.keeper_seen.unwrap() > Duration::from_millis(500)).then_some(())
    });
    let mut dies = actor("writer", &place).start();
    dies.expect("attached");
    dies.kill();
    // The newcomer takes the dead slot, and mends it first.
    let next = place.attach();
    next.set("next", &1).unwrap();
    keeper.thaw();
    eventually("a sign of the keeper", || {
        (bus.info().unwrap().keeper_seen.unwrap() < Duration::from_millis(500)).then_some(())
    });
    keeper.end();
    assert_whole(&bus);
}
