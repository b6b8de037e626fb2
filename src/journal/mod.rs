//! The journal: every change, in files of their own beside the snapshots, synced while the bus goes on.
//!
//! 1. A *segment* is a file to which groups are appended; a *group* is what came between two looks at the log, under
//!    one checksum. A group is whole or it is none: the first that is not ends what is read of its segment.
//! 2. Each segment says after which [`Point`] it goes on. Replay takes one that goes on after what it has reached,
//!    and passes over every other: it is of a future that was lost, or has no snapshot to build on.
//! 3. What was synced is never written to again after a failed sync: the next segment has it anew.
//! 4. A state is whole at a *cut*: where a commit ends, and no value is missing that was replaced before it could be
//!    read. A group ends with one.
//!
//! A death leaves a group that is cut short, which nobody reads. What the journal promises and why is in
//! `docs/design.md`, explored in `model/src/bin/l_journal.rs`; the bytes are in `docs/backends.md`.

pub(crate) mod format;
pub(crate) mod replay;
pub(crate) mod segments;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A revision of one life of a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Point {
    /// The life; 0: of none, where a bus begins with nothing.
    pub(crate) incarnation: u64,
    pub(crate) revision: u64,
}

/// Shortest interval of syncs.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// Longest interval of syncs.
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// When the journal is synced to the disk: what a power cut may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalSync {
    /// Whenever something is new, and a write returns when its change is on the disk: nothing that was acknowledged is
    /// lost. Writes that come meanwhile share the next sync.
    Always,
    /// In this interval, 1 ms to 60 s: what was committed in it, and while the disk wrote, may be lost.
    Every(Duration),
    /// When somebody asks ([`Bus::sync`](crate::Bus::sync), [`Durability::Synced`]), at a clean end, and else when the
    /// system writes by itself: by default some 30 s. What is left is always the state as of some moment.
    System,
}

/// A text that names no [`JournalSync`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no way to sync a journal: `always`, `system`, or an interval of 1ms to 60s")]
pub struct JournalSyncError(pub(crate) String);

impl JournalSync {
    /// Whether the interval is one that can be kept.
    pub(crate) fn is_possible(self) -> bool {
        match self {
            Self::Every(interval) => (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval),
            Self::Always | Self::System => true,
        }
    }
}

impl fmt::Display for JournalSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::System => f.write_str("system"),
            Self::Every(interval) => write!(f, "{interval:?}"),
        }
    }
}

impl FromStr for JournalSync {
    type Err = JournalSyncError;

    fn from_str(text: &str) -> Result<Self, JournalSyncError> {
        let wrong = || JournalSyncError(text.to_owned());
        let sync = match text {
            "always" => Self::Always,
            "system" => Self::System,
            _ => {
                let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
                    (Some(number), _) => (number, 1e-3),
                    (None, Some(number)) => (number, 1.0),
                    (None, None) => return Err(wrong()),
                };
                let number: f64 = number.parse().map_err(|_| wrong())?;
                let seconds = Duration::try_from_secs_f64(number * unit);
                Self::Every(seconds.map_err(|_| wrong())?)
            }
        };
        if sync.is_possible() { Ok(sync) } else { Err(wrong()) }
    }
}

/// What a write waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// That its change is there for everybody on this host. It outlives every process, not the host.
    Visible,
    /// That the journal has it on the disk, too: it outlives a power cut.
    Synced,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plants: `ms` taken for seconds; no look at the limits.
    #[test]
    fn a_way_to_sync_is_told_and_understood() {
        for (text, sync) in [
            ("always", JournalSync::Always),
            ("system", JournalSync::System),
            ("10ms", JournalSync::Every(Duration::from_millis(10))),
            ("1.5s", JournalSync::Every(Duration::from_millis(1500))),
        ] {
            assert_eq!(text.parse(), Ok(sync));
            assert_eq!(sync.to_string(), text);
        }
        for text in ["", "0ms", "61s", "-1s", "10", "NaNs", "often", "1e30s"] {
            assert!(text.parse::<JournalSync>().is_err(), "{text}");
        }
    }
}
