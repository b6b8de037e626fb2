//! Processes that take and give back at random, and leave a mark while they hold something.
//!
//! A mark is an ephemeral key that is set when something was taken and deleted before it is given back; the
//! death of its process takes it away before what was held is free. All changes of a bus have one order, so
//! who counts the marks in it sees exactly who held what at the same time.

use crate::harness::Rng;
use crate::harness::part::Part;
use membus::Bus;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

/// Permits of the semaphore.
pub(crate) const PERMITS: u32 = 3;

fn number(file: &File) -> u64 {
    let mut bytes = [0; 8];
    // One that was not written yet is 0.
    let _read = file.read_at(&mut bytes, 0).unwrap();
    u64::from_le_bytes(bytes)
}

fn store(file: &File, number: u64) {
    file.write_all_at(&number.to_le_bytes(), 0).unwrap();
}

/// Takes and gives back until it is over, or killed.
pub(crate) fn crowd(part: &Part) {
    let open = |name: &str| {
        let path = part.place.path().join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).open(path).unwrap()
    };
    let pid = std::process::id();
    let (sum, own) = (open("sum"), open(&format!("own-{pid}")));
    let (bus, mut rng) = (part.attach(), Rng::new(part.number("seed")));
    part.say("attached");
    let mut count = 0;
    while !part.is_over() {
        let draw = rng.below(4);
        match draw {
            0 => {
                let guard = bus.lock("l").unwrap();
                mark(&bus, "l", 1, || {
                    // Two at a time would lose one of these.
                    let now = number(&sum);
                    std::thread::yield_now();
                    store(&sum, now + 1);
                    count += 1;
                    store(&own, count);
                });
                guard.release().unwrap();
            }
            1 => {
                let units = 1 + rng.below(2) as u32;
                let semaphore = bus.semaphore("s", PERMITS).unwrap();
                let permits = semaphore.acquire(units).unwrap();
                mark(&bus, "s", units, std::thread::yield_now);
                permits.release().unwrap();
            }
            2 => {
                let guard = bus.read_lock("r").unwrap();
                mark(&bus, "r", 1, std::thread::yield_now);
                guard.release().unwrap();
            }
            _ => {
                let guard = bus.write_lock("r").unwrap();
                mark(&bus, "w", 1, std::thread::yield_now);
                guard.release().unwrap();
            }
        }
    }
}

fn mark(bus: &Bus, sort: &str, units: u32, run: impl FnOnce()) {
    let key = format!("in/{sort}/{}", std::process::id());
    bus.put(&key).ephemeral().set_bytes([units as u8]).unwrap();
    run();
    bus.delete(&key).unwrap();
}
