//! What a bus is opened with.

use crate::backend::Backend;
use crate::config::Persist;
use crate::error::OpenError;
use crate::journal::{Durability, JournalSync};
use crate::types::limits;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How to open, create or attach to a bus. What is not set is taken from the bus that is there,
/// or from the defaults.
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) capacity: Option<u64>,
    pub(crate) max_capacity: Option<u64>,
    pub(crate) mode: Option<u32>,
    pub(crate) log_size: Option<u64>,
    pub(crate) label: Option<String>,
    pub(crate) deadline: Duration,
    pub(crate) keeper: bool,
    pub(crate) metrics: bool,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) state: Option<PathBuf>,
    pub(crate) persist: Option<Persist>,
    pub(crate) every: Option<Duration>,
    pub(crate) after: Option<u64>,
    pub(crate) rate: Option<u64>,
    pub(crate) keep: Option<usize>,
    pub(crate) old_values: Option<bool>,
    pub(crate) backend: Option<Arc<dyn Backend>>,
    /// `Some(None)`: no journal is asked for.
    pub(crate) journal: Option<Option<JournalSync>>,
    pub(crate) durability: Option<Durability>,
    /// Slots of members and of watches that a new region has.
    pub(crate) slots: (u64, u64),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            capacity: None,
            max_capacity: None,
            mode: None,
            log_size: None,
            label: None,
            deadline: Duration::from_secs(5),
            keeper: true,
            metrics: true,
            directory: None,
            state: None,
            persist: None,
            every: None,
            after: None,
            rate: None,
            keep: None,
            old_values: None,
            backend: None,
            journal: None,
            durability: None,
            slots: (limits::MEMBERS_MAX, limits::WATCHES_MAX),
        }
    }
}

impl Options {
    /// Bytes that a new bus begins with (default 8 MiB).
    #[must_use]
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = Some(bytes);
        self
    }
    /// Bytes that it may grow to (default 1 GiB).
    #[must_use]
    pub fn max_capacity(mut self, bytes: u64) -> Self {
        self.max_capacity = Some(bytes);
        self
    }
    /// Permissions of the files (default 0600).
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }
    /// Bytes of the log's ring, rounded up to a power of two (default an eighth of the capacity, 2 MiB at least where the
    /// capacity allows). What a watch may fall behind; one that begins at a cursor finds its place by a mark,
    /// one for each 64 revisions, and so loses up to 64 of the oldest records.
    #[must_use]
    pub fn log_size(mut self, bytes: u64) -> Self {
        self.log_size = Some(bytes);
        self
    }
    /// Whether the log tells what a set, delete or expiry replaced or took away, up to
    /// [`RECORD_VALUE_MAX`](limits::RECORD_VALUE_MAX) bytes (default: no). It costs each such change a
    /// copy, and room in the log.
    #[must_use]
    pub fn old_values(mut self, told: bool) -> Self {
        self.old_values = Some(told);
        self
    }
    /// What this member is called, and who its changes are by unless they say otherwise.
    #[must_use]
    pub fn label(mut self, label: &str) -> Self {
        self.label = Some(label.to_owned());
        self
    }
    /// How long an operation may wait for others (default 5 s).
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
    /// Whether this handle may host the keeper: a thread that buries the dead, takes away what
    /// expired, grows the file ahead of need and takes snapshots (default: it may).
    #[must_use]
    pub fn keeper(mut self, may: bool) -> Self {
        self.keeper = may;
        self
    }
    /// Whether this handle counts and times its gets, sets, additions, deletes and batches (default: it does;
    /// `docs/metrics.md` says what that costs). What happens more seldom is counted all the same.
    #[must_use]
    pub fn metrics(mut self, counts: bool) -> Self {
        self.metrics = counts;
        self
    }
    /// Directory of all buses, in place of `$MEMBUS_DIR`.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Directory of what outlives a region, in place of `$XDG_STATE_HOME/membus`.
    #[must_use]
    pub fn state(mut self, directory: impl Into<PathBuf>) -> Self {
        self.state = Some(directory.into());
        self
    }
    /// Where snapshots go (default: images in `NAME.snapshots` of the state directory, which go
    /// with [`Bus::destroy`](crate::Bus::destroy); a place that was named here stays).
    #[must_use]
    pub fn persist(mut self, persist: Persist) -> Self {
        self.persist = Some(persist);
        self
    }
    /// A backend of the program's own, in place of [`persist`](Self::persist). That the bus has one is kept,
    /// not which: handles that do not bring it with them attach, take no snapshots and never host the
    /// keeper, and without it the bus can not be rebuilt.
    #[must_use]
    pub fn backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.persist = Some(Persist::Own);
        self.backend = Some(backend);
        self
    }
    /// How often the keeper takes a snapshot, when something changed (default 300 s). The time goes on where one keeper follows
    /// another.
    #[must_use]
    pub fn snapshot_every(mut self, interval: Duration) -> Self {
        self.every = Some(interval);
        self
    }
    /// Changes after which the keeper takes a snapshot, however soon that is; whichever comes first, they or
    /// the [interval](Self::snapshot_every). Revisions are counted: each key of a batch is one. It looks ten times
    /// a second and takes one at a time, so that it may be more of them. 0: by the interval alone, which is the default.
    #[must_use]
    pub fn snapshot_after(mut self, changes: u64) -> Self {
        self.after = Some(changes);
        self
    }
    /// Bytes of entries a second that the keeper's snapshots may take at most, so that others have the disk (default, and 0: full
    /// speed). Counted as an image has them: JSON writes about twice as many, a compressed one fewer. What was not used is kept
    /// for a tenth of a second; what a large value costs beyond 20 s is waited for with the entries behind it.
    ///
    /// Snapshots that somebody waits for go by full speed: that of [`close`](crate::Bus::close), and those that are asked
    /// for; [`SnapshotOptions::rate`](crate::SnapshotOptions::rate) slows one of these. So does the keeper's own as soon as one
    /// of them has to wait for it, or a journal that begins anew, and when it gave way to a writer who needed the room that a
    /// snapshot keeps: the longer it takes, the more that is.
    #[must_use]
    pub fn snapshot_rate(mut self, bytes_per_second: u64) -> Self {
        self.rate = Some(bytes_per_second);
        self
    }
    /// How many snapshots stay (default 3).
    #[must_use]
    pub fn keep(mut self, count: usize) -> Self {
        self.keep = Some(count);
        self
    }

    /// Whether every change also goes to a journal (default: none does), and when that is synced to the disk: then a
    /// power cut takes no more than the sync says, not all that came after the last snapshot. The journal is in
    /// `NAME.journal` of the state directory, builds on the snapshots, which shorten it, and is written by the
    /// keeper. Writers wait for it when it falls behind by half the log.
    #[must_use]
    pub fn journal(mut self, sync: impl Into<Option<JournalSync>>) -> Self {
        self.journal = Some(sync.into());
        self
    }
    /// What the writes of this handle wait for that do not say so themselves (default: [`Durability::Synced`] with
    /// [`JournalSync::Always`], else [`Durability::Visible`]).
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    pub(crate) fn state_directory(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(crate::config::state_directory)
    }

    /// Checks the settings against their limits.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let wrong =
            |setting, asked: String, rule: String| Err(OpenError::Setting { setting, asked, rule });
        if let Some(max) = self.max_capacity
            && !(limits::MIN_CAPACITY..=limits::MAX_CAPACITY).contains(&max)
        {
            let rule = format!("{} to {} bytes", limits::MIN_CAPACITY, limits::MAX_CAPACITY);
            return wrong("max_capacity", max.to_string(), rule);
        }
        let max = self.max_capacity.unwrap_or(limits::DEFAULT_MAX_CAPACITY);
        if let Some(capacity) = self.capacity
            && capacity > max
        {
            return wrong(
                "capacity",
                capacity.to_string(),
                format!("at most {max} (max_capacity)"),
            );
        }
        if let Some(log) = self.log_size
            && (log < 4096 || log > max / 2)
        {
            return wrong("log_size", log.to_string(), format!("4096 to {} bytes", max / 2));
        }
        if let Some(mode) = self.mode
            && (mode & !0o666 != 0 || mode & 0o600 != 0o600)
        {
            return wrong(
                "mode",
                format!("{mode:o}"),
                "read and write for the owner; no execute bits".into(),
            );
        }
        if let Some(Some(sync)) = self.journal
            && !sync.is_possible()
        {
            return wrong("journal", sync.to_string(), "an interval of 1ms to 60s".into());
        }
        if let Some(label) = &self.label
            && label.len() > limits::LABEL_MAX
        {
            return wrong("label", label.clone(), format!("at most {} bytes", limits::LABEL_MAX));
        }
        Ok(())
    }
}
