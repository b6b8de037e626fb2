//! A shared-memory state bus for the processes of one Linux host.
//!
//! Any number of programs open the same bus by name; each maps the same region and reads and
//! writes it directly, with no server between them. Reads take no lock. A member may be killed at
//! any instruction: what it had committed stays, nothing is torn, and the others go on.
//!
//! ```
//! use membus::{Bus, ReadBus};
//!
//! # fn main() -> Result<(), membus::Error> {
//! # let directory = tempfile::tempdir().unwrap();
//! let options = Bus::options().directory(directory.path()).state(directory.path().join("state"));
//! let bus = options.open("orders")?;
//! bus.set("price/ACME", &101.5)?;
//! assert_eq!(bus.get::<f64>("price/ACME")?, Some(101.5));
//! assert_eq!(bus.add("orders/count", 1)?, 1);
//! # Ok(())
//! # }
//! ```
//!
//! Features: `json` (on): snapshots as JSON. `gzip` (on): compressed snapshots. `sqlite`, `redis`,
//! `redis-tls` (off): snapshots there. `stream` (off): watches and subscribers as `futures_core::Stream`.

#![expect(dead_code, reason = "parts of the layout serve layers that come on top of it")]

// Layers, lowest first; an import may only point up this list (tests/tidy.rs). The blank lines keep
// rustfmt from sorting them.
mod sync;

mod hook;

mod sys;

mod region;

mod word;

mod lock;

mod heap;

mod log;

mod snapshot_entry;

mod commit;

mod doorbell;

mod turn;

mod tally;

mod table;

mod check;

mod types;

mod error;

mod value;

mod topic;

mod message;

mod name;

mod member;

mod snapshot;

#[cfg(not(loom))]
mod backend;

#[cfg(not(loom))]
mod journal;

mod config;

#[cfg(not(loom))]
mod bus;
#[cfg(not(loom))]
pub use backend::{
    Backend, BackendError, Loaded, Progress, Saved, Sink, Source, Stage, copy as copy_snapshot,
};
#[cfg(not(loom))]
pub use bus::Bus;
#[cfg(not(loom))]
pub use bus::arrivals::{MemberCanceller, MemberEvent, MemberEvents};
#[cfg(not(loom))]
pub use bus::batch::{Batch, BatchPut};
#[cfg(not(loom))]
pub use bus::callback::{Calls, Subscription, SubscriptionId, Unsubscribed};
#[cfg(not(loom))]
pub use bus::cancel::Canceller;
#[cfg(not(loom))]
pub use bus::cell::Cell;
#[cfg(not(loom))]
pub use bus::counters::Operations;
#[cfg(not(loom))]
pub use bus::event::{Change, ChangeKind, ChangeValue, Event, OldValue};
#[cfg(not(loom))]
pub use bus::going::SnapshotOptions;
#[cfg(not(loom))]
pub use bus::guard::ValueGuard;
#[cfg(not(loom))]
pub use bus::health::{
    Health, Issue, MemoryHealth, MessagingHealth, PerformanceHealth, PersistenceHealth,
    ReliabilityHealth, Section, Status, Thresholds,
};
#[cfg(not(loom))]
pub use bus::history::History;
#[cfg(not(loom))]
pub use bus::info::{BusEntry, Info, buses, check};
#[cfg(not(loom))]
pub use bus::iter::Events;
#[cfg(not(loom))]
pub use bus::locks::Fence;
#[cfg(not(loom))]
pub use bus::locks::barrier::{Barrier, BarrierWait};
#[cfg(not(loom))]
pub use bus::locks::election::{Campaign, Election, Leadership};
#[cfg(not(loom))]
pub use bus::locks::lock::{Lease, LockGuard};
#[cfg(not(loom))]
pub use bus::locks::rw::{ReadGuard, WriteGuard};
#[cfg(not(loom))]
pub use bus::locks::semaphore::{Permits, Semaphore};
#[cfg(not(loom))]
pub use bus::members::MemberInfo;
#[cfg(not(loom))]
pub use bus::metrics::latency::Latencies;
#[cfg(not(loom))]
pub use bus::metrics::{
    ErrorMetrics, JournalMetrics, MemberMetrics, MemoryMetrics, MessagingMetrics, Metrics,
    OperationMetrics, OwnMetrics, PersistenceMetrics, RecoveryMetrics, WatchingMetrics,
};
#[cfg(not(loom))]
pub use bus::options::Options;
#[cfg(not(loom))]
pub use bus::persist::SnapshotInfo;
#[cfg(not(loom))]
pub use bus::publish::Publish;
#[cfg(not(loom))]
pub use bus::put::Put;
#[cfg(not(loom))]
pub use bus::queue::Queue;
#[cfg(not(loom))]
pub use bus::queue::look::{QueueItem, QueueItems, QueueView};
#[cfg(not(loom))]
pub use bus::queue::put::Offer;
#[cfg(not(loom))]
pub use bus::queue::taken::{Receipt, ReceiptError, Taken};
#[cfg(not(loom))]
pub use bus::read::ReadBus;
#[cfg(not(loom))]
pub use bus::reader::BusReader;
#[cfg(not(loom))]
pub use bus::restore::RestoreInfo;
#[cfg(not(loom))]
pub use bus::scan::{EntryScan, Scan};
#[cfg(all(feature = "stream", not(loom)))]
pub use bus::stream::Streamed;
#[cfg(not(loom))]
pub use bus::subscribe::{Begin, Notice, Subscriber};
#[cfg(not(loom))]
pub use bus::wait::Waited;
#[cfg(not(loom))]
pub use bus::watch::Watch;
#[cfg(not(loom))]
pub use bus::write::{Update, Updated};
pub use check::CheckReport;
pub use config::{Persist, PersistError, RedisPlace};
pub use error::{
    BatchError, CloseError, Error, Expected, LockError, OpenError, QueueError, ReadError,
    SnapshotError, WatchError, WriteError,
};
#[cfg(not(loom))]
pub use journal::{Durability, JournalSync, JournalSyncError};
pub use message::{Message, Target};
pub use name::directory;
pub use region::BadRegion;
pub use region::geometry::HeaderError;
pub use snapshot_entry::{SnapshotEntry, SnapshotHead};
pub use types::{
    Cursor, CursorError, Key, Kind, LockHolder, MemberId, MemberIdError, Revision, limits,
};
pub use value::{Entry, Stat};

/// Says what a test proved, in the form that `tests/release` adds up.
#[cfg(test)]
fn earned(count: u64, what: &str) {
    println!("earned {count} {what}");
}

#[cfg(test)]
#[cfg(loom)]
mod loom_tests;

#[cfg(test)]
#[path = "../tests/support/rng.rs"]
mod rng;
