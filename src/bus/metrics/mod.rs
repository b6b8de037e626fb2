//! Metrics: what all members counted since the region was made, and how the bus is now.
//!
//! What is counted stands in the members' slots (`crate::tally`), where it outlives who counted it; how
//! the bus is, is looked up when it is asked for. Nothing here takes a lock or writes to the region.

mod gather;
pub(crate) mod lanes;
pub(crate) mod latency;
mod openmetrics;
mod since;
#[cfg(test)]
mod tests;

use latency::Latencies;
use serde::{Serialize, Serializer};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// As seconds.
pub(crate) fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// As seconds, or none.
pub(crate) fn some_seconds<S: Serializer>(
    time: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}

/// As seconds since 1970.
pub(crate) fn moment<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64())
}

/// As seconds since 1970, or none.
fn some_moment<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.map(|time| time.duration_since(UNIX_EPOCH).unwrap_or_default());
    since.map(|since| since.as_secs_f64()).serialize(serializer)
}

/// What a bus has done since its region was made, and how it is. From [`Bus::metrics`](crate::Bus::metrics).
///
/// Counts are sums over all members that ever were, the killed ones included; they begin anew when a region is
/// rebuilt. Each rises only. An operation that runs may be in one of them and not yet in another.
/// What readers do (`BusReader`) is in no sum, since they can't write: only [`own`](Self::own) has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Metrics {
    /// Name of the bus.
    pub name: String,
    /// When this was read.
    #[serde(serialize_with = "moment")]
    pub time: SystemTime,
    /// When the region was made.
    #[serde(serialize_with = "moment")]
    pub created: SystemTime,
    /// The newest revision.
    pub revision: u64,
    /// What was done with keys.
    pub operations: OperationMetrics,
    /// What failed.
    pub errors: ErrorMetrics,
    /// Watches and messages.
    pub messaging: MessagingMetrics,
    /// What the dead left, and what was done about it.
    pub recovery: RecoveryMetrics,
    /// Snapshots.
    pub persistence: PersistenceMetrics,
    /// Memory, as measured.
    pub memory: MemoryMetrics,
    /// How long gets took: one in 256 is timed.
    pub get_times: Latencies,
    /// How long sets and additions took, waits for locks and growth included: one in 64 is timed.
    pub set_times: Latencies,
    /// Who is attached, with what each has done.
    pub members: Vec<MemberMetrics>,
    /// Watches and subscriptions that are registered.
    pub watching: Vec<WatchingMetrics>,
    /// What this handle has done.
    pub own: OwnMetrics,
}

/// What was done with keys: calls, counted as they begin, unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct OperationMetrics {
    /// Gets, sets, additions, deletes, batches and clears together.
    pub total: u64,
    /// Lookups of a key. Reads of cells are added a thousand at a time, so a kill loses up to that many.
    pub gets: u64,
    /// Those that found a value.
    pub hits: u64,
    /// Those that found none, or failed.
    pub misses: u64,
    /// Values set by `set`, `put`, `update` and `expire`.
    pub sets: u64,
    /// Additions to counters.
    pub adds: u64,
    /// Deletes, of absent keys too.
    pub deletes: u64,
    /// Batches.
    pub commits: u64,
    /// Changes that batches made.
    pub changes: u64,
    /// Clears.
    pub clears: u64,
    /// Walks over keys.
    pub scans: u64,
    /// Changes that made a key which was absent, by whatever call.
    pub created: u64,
    /// Changes that gave a new value to a key which was there.
    pub updated: u64,
    /// Keys that a delete took away, or the end of whom they belonged to.
    pub deleted: u64,
    /// Keys whose end by time was carried out.
    pub expired: u64,
    /// Conditions that did not hold.
    pub conflicts: u64,
    /// Changes of locks, leases, semaphores, barriers and elections.
    pub lock_changes: u64,
}

impl OperationMetrics {
    /// The part of the gets that found a value, from 0.0 to 1.0; 0.0 when there was none.
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        if self.gets == 0 { 0.0 } else { self.hits as f64 / self.gets as f64 }
    }
}

/// Operations that failed. A condition that does not hold is no error, nor is a lock that somebody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct ErrorMetrics {
    /// All of those below but `full` and `stalled`, which are among `write`.
    pub total: u64,
    /// Reads: a key of an impossible length, a value of another type, damage.
    pub read: u64,
    /// Writes, batches and messages.
    pub write: u64,
    /// Of these: there was no room.
    pub full: u64,
    /// Of these: a member held a lock until the deadline.
    pub stalled: u64,
    /// Watches and subscriptions: no slot was free, or the bus was gone.
    pub watch: u64,
    /// Locks, leases, semaphores, barriers and elections.
    pub lock: u64,
    /// Snapshots.
    pub snapshot: u64,
    /// Callbacks that panicked.
    pub callback: u64,
    /// Growths for which the file system had no room.
    pub growth: u64,
}

/// Watches and messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct MessagingMetrics {
    /// Messages published.
    pub messages: u64,
    /// Of these: to no one in particular.
    pub broadcasts: u64,
    /// Messages that subscribers took, each counted for each of them.
    pub delivered: u64,
    /// Messages that had expired before it was their turn.
    pub expired: u64,
    /// Events that watches told.
    pub events: u64,
    /// How often a watch or a subscriber had fallen behind what the log holds.
    pub lagged: u64,
    /// Changes and messages that these missed.
    pub missed: u64,
    /// Calls of callbacks.
    pub callbacks: u64,
    /// Datagrams sent to wake somebody.
    pub bells: u64,
    /// Watches registered now.
    pub watches: u64,
    /// Subscriptions registered now.
    pub subscriptions: u64,
    /// Changes and messages that the slowest watch or subscriber has not taken yet. One that sleeps has
    /// taken all that concerns it.
    pub backlog: u64,
}

/// What the dead left, and what was done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct RecoveryMetrics {
    /// Members that died and were buried.
    pub burials: u64,
    /// Locks taken over from a dead owner.
    pub takeovers: u64,
    /// Commits that their maker had no time to carry out, and others did.
    pub finished: u64,
    /// Restores.
    pub restores: u64,
    /// Members attached now, the dead that are not buried yet too.
    pub members: u32,
    /// Slot of the keeper, when one lives.
    pub keeper: Option<u32>,
    /// How long ago it gave a sign.
    #[serde(serialize_with = "some_seconds")]
    pub keeper_seen: Option<Duration>,
}

/// Snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct PersistenceMetrics {
    /// Where they go, as a URL; `none`: nowhere; `unknown`: this handle does not know, as [`Info`](crate::Info) has it.
    pub backend: String,
    /// How often the keeper takes one, when something changed.
    #[serde(serialize_with = "seconds")]
    pub every: Duration,
    /// After how many changes it takes one before that; 0: by time alone.
    pub after: u64,
    /// Bytes a second that it takes at most for that; 0: full speed.
    pub rate: u64,
    /// Snapshots taken.
    pub snapshots: u64,
    /// Snapshots that failed.
    pub failures: u64,
    /// Of these: since the last good one.
    pub failures_in_a_row: u64,
    /// Backups made.
    pub backups: u64,
    /// Whether something changed since the last snapshot.
    pub unsaved: bool,
    /// Revision of the last snapshot; 0: there was none since the region was made.
    pub last_revision: u64,
    /// When it was taken.
    #[serde(serialize_with = "some_moment")]
    pub last_time: Option<SystemTime>,
    /// Its bytes.
    pub last_bytes: u64,
    /// How long it took.
    #[serde(serialize_with = "seconds")]
    pub last_took: Duration,
    /// The journal, where the bus has one.
    pub journal: Option<JournalMetrics>,
}

/// The journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct JournalMetrics {
    /// Revision up to which changes are durable.
    pub journaled: u64,
    /// Changes that are not durable yet; messages and changes of locks count.
    pub behind: u64,
    /// Bytes written since the region was made.
    pub bytes: u64,
    /// Failures one after another; 0: all is well.
    pub failures_in_a_row: u64,
    /// Whether it waits for a snapshot to build on: until that is saved, nothing new is durable.
    pub is_rebuilding: bool,
    /// When it was last synced: when that turn looked at the log.
    #[serde(serialize_with = "some_moment")]
    pub last_time: Option<SystemTime>,
    /// How long that turn took, from the look at the log on.
    #[serde(serialize_with = "seconds")]
    pub last_took: Duration,
}

/// Memory, in bytes, as measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct MemoryMetrics {
    /// Of blocks that hold entries, tables or lists.
    pub used: u64,
    /// Of blocks that are free, without growth.
    pub free: u64,
    /// The longest run of free blocks: what fits in one value, without growth.
    pub largest_free: u64,
    /// Of the region, with its header, tables of members and watches, and log.
    pub capacity: u64,
    /// That it may grow to.
    pub max_capacity: u64,
    /// That the file system has given the region's file.
    pub file: u64,
    /// Of the log's ring.
    pub log: u64,
    /// Of these: filled.
    pub log_used: u64,
    /// The oldest revision that the log holds.
    pub log_oldest: u64,
    /// Entries that are there; no bytes.
    pub entries: u64,
    /// How often the region grew; no bytes.
    pub growths: u64,
}

impl MemoryMetrics {
    /// The part of what the region may grow to that is in use, from 0.0 to 1.0: all but free blocks.
    #[must_use]
    pub fn fullness(&self) -> f64 {
        let taken = self.capacity.saturating_sub(self.free);
        if self.max_capacity == 0 { 0.0 } else { taken as f64 / self.max_capacity as f64 }
    }
}

/// What a member has done since it attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MemberMetrics {
    /// Its slot.
    pub slot: u32,
    /// Which user of the slot it is.
    pub generation: u64,
    /// Its process, in its own PID namespace.
    pub pid: u32,
    /// What it is called.
    pub label: Option<String>,
    /// Lookups of a key.
    pub gets: u64,
    /// Those that found none, or failed.
    pub misses: u64,
    /// Values set.
    pub sets: u64,
    /// Additions to counters.
    pub adds: u64,
    /// Deletes.
    pub deletes: u64,
    /// Batches.
    pub commits: u64,
}

/// A watch or a subscription, as others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WatchingMetrics {
    /// Slot of its member.
    pub slot: u32,
    /// Whether it is a subscription.
    pub is_subscription: bool,
    /// Changes and messages of the bus that it has not taken yet; whether they concern it, it will see.
    pub behind: u64,
}

/// What the handle that was asked has done: a member's since it attached, a reader's since it was opened. A
/// forked child that did not write yet has done nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct OwnMetrics {
    /// Lookups of a key.
    pub gets: u64,
    /// Those that found none, or failed.
    pub misses: u64,
    /// Values set.
    pub sets: u64,
    /// Walks over keys, by a reader.
    pub scans: u64,
    /// Events that its watches told, of a reader.
    pub events: u64,
    /// Messages that its subscribers took, of a reader.
    pub delivered: u64,
    /// Errors of reading and watching, of a reader.
    pub errors: u64,
    /// How long a reader's gets took; a member's are in the bus's.
    pub get_times: Latencies,
}

impl Metrics {
    /// Megabytes (2^20 bytes) of memory that the region's file has.
    #[must_use]
    pub fn memory_mb(&self) -> f64 {
        self.memory.file as f64 / f64::from(1 << 20)
    }

    /// How long a get or a set took on average, of those that were timed: each sort weighs as often as it
    /// was called.
    #[must_use]
    pub fn mean_time(&self) -> Duration {
        let part = |times: &Latencies, count: u64| match times.samples() {
            0 => (0.0, 0.0),
            _ => (times.mean().as_secs_f64() * count as f64, count as f64),
        };
        let changes = self.operations.sets.saturating_add(self.operations.adds);
        let (gets, sets) =
            (part(&self.get_times, self.operations.gets), part(&self.set_times, changes));
        let mean = (gets.0 + sets.0) / (gets.1 + sets.1).max(1.0);
        Duration::try_from_secs_f64(mean).unwrap_or_default()
    }
}
