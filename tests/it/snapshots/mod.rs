//! Snapshots: of one revision, whole or refused; and the bus that comes back from them.

mod backends;
mod config;
mod consistent;
pub(crate) mod damaged;
mod golden;
#[cfg(feature = "redis")]
mod golden_redis;
pub(crate) mod journal;
mod own;
mod rebuild;
pub(crate) mod restore;
pub(crate) mod simple;
mod taken;

use crate::harness::Place;
use membus::{Bus, ReadBus};
use std::collections::BTreeMap;

/// Keys, with revision and value.
type Content = BTreeMap<Vec<u8>, (u64, Vec<u8>)>;

/// Everything in a bus.
fn content(bus: &impl ReadBus) -> Content {
    let entries = bus.scan_entries("").map(Result::unwrap);
    entries.map(|entry| (entry.key.to_vec(), (entry.stat.revision.get(), entry.value))).collect()
}

/// The files of a bus are gone, and nobody is there.
fn lose(place: &Place) {
    std::fs::remove_dir_all(place.bus()).unwrap();
}

/// A handle that saves only when it is told to.
fn quiet(place: &Place) -> Bus {
    place.options().keeper(false).open_at(place.bus()).unwrap()
}
