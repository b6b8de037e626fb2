//! What is looked at beside the metrics: whether the bus is still there, who is dead, who sits on a lock.

use super::Thresholds;
use crate::bus::Inner;
use crate::bus::metrics::Metrics;
use crate::error::ReadError;
use crate::lock::RobustLock;
use crate::region::BadRegion;
use std::time::{Duration, Instant};

/// How often a lock that is held is looked at again.
const LOOK: Duration = Duration::from_millis(2);

/// A lock of the bus, in the hand of one who does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sitting {
    pub(super) slot: u32,
    pub(super) label: Option<String>,
    pub(super) pid: u32,
    pub(super) what: &'static str,
    /// Whether its process is stopped; `false`, too, when it can't be seen.
    pub(super) is_stopped: bool,
}

/// What there is to judge.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) is_gone: bool,
    pub(super) has_journal: bool,
    pub(super) metrics: Result<Metrics, ReadError>,
    pub(super) dead: u32,
    pub(super) sitting: Option<Sitting>,
}

impl Inner {
    pub(super) fn look(&self, thresholds: &Thresholds) -> Look {
        let is_gone = self.is_gone() || self.files_are_gone();
        let metrics = self.metrics();
        let members = metrics.as_ref().map_or(&[][..], |metrics| &metrics.members);
        // A byte that is held may be held by who buries: counted as alive.
        let dead = members.iter().filter(|one| !self.is_locked(one.slot.into())).count() as u32;
        // What damage makes of it is told by the metrics.
        let sitting = self.sitting(thresholds.lock_held).unwrap_or_default();
        let has_journal = self.core.geometry.has_journal();
        Look { is_gone, has_journal, metrics, dead: if is_gone { 0 } else { dead }, sitting }
    }

    /// Whether the region's file is no longer in its directory, or that no longer where it was: wherever this process is by now.
    pub(in crate::bus) fn files_are_gone(&self) -> bool {
        match (crate::sys::file::stat(&self.region), self.directory.stat("region")) {
            (Ok(here), Ok(there)) => !here.is_same(&there) || !self.directory.has_its_name(),
            (_, Err(error)) => error.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        }
    }

    fn locks(&self) -> impl Iterator<Item = RobustLock<'_>> {
        let stripes = (0..self.core.geometry.stripes).map(|index| self.core.stripe_lock(index));
        std::iter::once(self.core.commit_lock()).chain(stripes)
    }

    /// Who holds one lock all the time, while nothing changes in the bus or its process is stopped.
    fn sitting(&self, least: Duration) -> Result<Option<Sitting>, BadRegion> {
        let head = self.core.visible_head()?;
        let mut held = Vec::new();
        for lock in self.locks() {
            held.extend(lock.owner()?.map(|owner| (lock, owner)));
        }
        let begun = Instant::now();
        while !held.is_empty() && begun.elapsed() < least {
            std::thread::sleep(LOOK.min(least.saturating_sub(begun.elapsed())));
            held.retain(|(lock, owner)| lock.owner().is_ok_and(|now| now == Some(*owner)));
        }
        let is_still = self.core.visible_head()? == head;
        Ok(held.into_iter().find_map(|(lock, slot)| {
            let (label, pid) = self.describe(slot);
            let is_stopped = matches!(crate::sys::process::state_of(pid), Some('T' | 't'));
            let sitting = Sitting { slot, label, pid, what: lock.name(), is_stopped };
            (is_still || is_stopped).then_some(sitting)
        }))
    }
}
