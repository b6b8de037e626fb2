//! Health: what is wrong with a bus, as figures against thresholds, and what to do about each.
//!
//! It reads and judges, changes nothing and takes no lock. Only when a lock is seen held does it look
//! again, for as long as a threshold says.

mod judge;
mod look;
#[cfg(test)]
mod tests;

use super::metrics::{Metrics, moment, seconds, some_seconds};
use super::reader::BusReader;
use super::{Bus, Inner};
use serde::Serialize;
use std::fmt;
use std::time::{Duration, SystemTime};

/// Above which figures something is an issue.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Thresholds {
    /// Errors (default 100).
    pub errors: u64,
    /// How long a get or a set takes on average (default 1 s).
    pub mean: Duration,
    /// Changes and messages that the slowest watch or subscriber has not taken yet (default 1,000).
    pub queue: u64,
    /// How often watches and subscribers fell behind what the log holds (default 100).
    pub lagged: u64,
    /// The part of the maximum capacity that is in use, from 0.0 to 1.0 (default 0.9).
    pub fullness: f64,
    /// Snapshots that failed one after another (default 0).
    pub snapshot_failures: u64,
    /// How old the last snapshot may be when something changed since (default: three times the interval at
    /// which the keeper takes them).
    pub snapshot_age: Option<Duration>,
    /// How long the keeper may give no sign (default 2 s).
    pub keeper_silence: Duration,
    /// How long a member may hold one of the bus's own locks while nothing changes (default 100 ms). So
    /// long a look takes at the most, and only when a lock is held.
    pub lock_held: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            errors: 100,
            mean: Duration::from_secs(1),
            queue: 1000,
            lagged: 100,
            fullness: 0.9,
            snapshot_failures: 0,
            snapshot_age: None,
            keeper_silence: Duration::from_secs(2),
            lock_held: Duration::from_millis(100),
        }
    }
}

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No issue.
    #[default]
    Healthy,
    /// It works; something wants to be looked after.
    Degraded,
    /// It does not do what it is for, or soon will not.
    Unhealthy,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        })
    }
}

/// What an issue is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Section {
    /// Room.
    Memory,
    /// Snapshots.
    Persistence,
    /// Watches and messages.
    Messaging,
    /// Errors, members, locks, the region itself.
    Reliability,
    /// How long operations take.
    Performance,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Memory => "memory",
            Self::Persistence => "persistence",
            Self::Messaging => "messaging",
            Self::Reliability => "reliability",
            Self::Performance => "performance",
        })
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Issue {
    /// Its name in `docs/operations.md`, for programs.
    pub code: &'static str,
    /// What it is about.
    pub section: Section,
    /// How bad it is.
    pub severity: Status,
    /// What is wrong, in one sentence.
    pub what: String,
    /// The figure.
    pub figure: f64,
    /// The threshold that it is above.
    pub threshold: f64,
    /// Unit of both.
    pub unit: &'static str,
    /// What to do about it.
    pub action: String,
}

/// Room, and how it is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct MemoryHealth {
    /// How it is.
    pub status: Status,
    /// Megabytes (2^20 bytes) of memory that the region's file has.
    pub usage_mb: f64,
    /// Megabytes that it may grow to.
    pub limit_mb: f64,
    /// The part of it that is in use, from 0.0 to 1.0.
    pub fullness: f64,
    /// Bytes of the longest run of free blocks, without growth.
    pub largest_free: u64,
    /// Entries.
    pub entries: u64,
}

/// Snapshots, and how they are.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct PersistenceHealth {
    /// How they are.
    pub status: Status,
    /// Where they go; `none`: nowhere.
    pub backend: String,
    /// Snapshots taken.
    pub operations: u64,
    /// Backups made.
    pub backups: u64,
    /// Failures since the last good one.
    pub failures_in_a_row: u64,
    /// Whether something changed since the last one.
    pub unsaved: bool,
    /// How old the last one is.
    #[serde(serialize_with = "some_seconds")]
    pub age: Option<Duration>,
}

/// Watches and messages, and how they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct MessagingHealth {
    /// How they are.
    pub status: Status,
    /// Messages published.
    pub messages: u64,
    /// Subscriptions registered now.
    pub subscriptions: u64,
    /// Watches registered now.
    pub watches: u64,
    /// Changes and messages that the slowest of them has not taken yet.
    pub queue: u64,
    /// How often one of them fell behind what the log holds.
    pub lagged: u64,
}

/// Errors, members and locks, and how they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct ReliabilityHealth {
    /// How they are.
    pub status: Status,
    /// Errors of all sorts.
    pub errors: u64,
    /// Members that died and were buried.
    pub burials: u64,
    /// Locks taken over from the dead.
    pub takeovers: u64,
    /// Restores.
    pub restores: u64,
    /// Members attached.
    pub members: u32,
    /// Of these: dead, and not buried yet.
    pub dead: u32,
    /// Slot of the keeper, when one lives.
    pub keeper: Option<u32>,
}

/// How long operations take, and how that is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct PerformanceHealth {
    /// How it is.
    pub status: Status,
    /// Operations.
    pub operations: u64,
    /// How long a get or a set took on average.
    #[serde(serialize_with = "seconds")]
    pub average_response_time: Duration,
    /// What 99 % of the gets did not exceed.
    #[serde(serialize_with = "seconds")]
    pub get_p99: Duration,
    /// What 99 % of the sets did not exceed.
    #[serde(serialize_with = "seconds")]
    pub set_p99: Duration,
    /// The part of the gets that found a value, from 0.0 to 1.0.
    pub hit_ratio: f64,
}

/// How a bus is. From [`Bus::health`]. Times are seconds where it is serialised.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Name of the bus.
    pub name: String,
    /// How it is: as bad as its worst issue.
    pub status: Status,
    /// When it was looked at.
    #[serde(serialize_with = "moment")]
    pub time: SystemTime,
    /// Room.
    pub memory: MemoryHealth,
    /// Snapshots.
    pub persistence: PersistenceHealth,
    /// Watches and messages.
    pub messaging: MessagingHealth,
    /// Errors, members, locks.
    pub reliability: ReliabilityHealth,
    /// How long operations take.
    pub performance: PerformanceHealth,
    /// What is wrong, the worst first.
    pub issues: Vec<Issue>,
}

impl Health {
    /// Whether there is no issue.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.status == Status::Healthy
    }
}

impl Inner {
    fn health(&self, before: Option<&Metrics>, thresholds: &Thresholds) -> Health {
        let seen = self.look(thresholds);
        judge::judge(&self.name, &seen, before, thresholds)
    }
}

impl Bus {
    /// How the bus is. Counts, as of errors, are those since the region was made; [`health_since`](Self::health_since)
    /// judges a time of your choice. A bus that is gone or damaged is not healthy: that is no error here.
    /// Takes as long as [`metrics`](Self::metrics), and a file lock's look for each member;
    /// [`Thresholds::lock_held`] longer at the most.
    ///
    /// ```
    /// use membus::{Status, Thresholds};
    /// # use membus::Bus;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let options = Bus::options().directory(directory.path()).state(directory.path().join("state"));
    /// # let bus = options.open("orders")?;
    /// let mut thresholds = Thresholds::default();
    /// thresholds.queue = 10_000;
    /// let health = bus.health(&thresholds);
    /// for issue in &health.issues {
    ///     println!("{}: {} ({})", issue.severity, issue.what, issue.action);
    /// }
    /// assert!(health.status < Status::Unhealthy);
    /// # Ok::<(), membus::Error>(())
    /// ```
    #[must_use]
    pub fn health(&self, thresholds: &Thresholds) -> Health {
        self.inner.health(None, thresholds)
    }

    /// As [`health`](Self::health), of what was counted since an earlier look.
    #[must_use]
    pub fn health_since(&self, before: &Metrics, thresholds: &Thresholds) -> Health {
        self.inner.health(Some(before), thresholds)
    }
}

impl BusReader {
    /// As [`Bus::health`].
    #[must_use]
    pub fn health(&self, thresholds: &Thresholds) -> Health {
        self.inner.health(None, thresholds)
    }

    /// As [`Bus::health_since`].
    #[must_use]
    pub fn health_since(&self, before: &Metrics, thresholds: &Thresholds) -> Health {
        self.inner.health(Some(before), thresholds)
    }
}
