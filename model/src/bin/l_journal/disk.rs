//! What the journaler does on the disk: groups, syncs, and the removal of segments.

use super::{At, Journal, NOTHING, Plant, State};
use membus_model::Steps;

impl Journal {
    pub(super) fn write_out(
        &self,
        state: &State,
        next: &mut State,
        steps: &mut Steps<State>,
    ) -> &'static str {
        match state.at {
            At::Write => {
                let group = std::mem::take(&mut next.group);
                if let Some(last) = next.segments.last_mut() {
                    last.groups.push(group);
                }
                next.at = if self.breaks(Plant::EarlyJournaled) { At::Journaled } else { At::Sync };
                "writes a group"
            }
            At::Sync => {
                if state.failures > 0 {
                    let mut failed = state.clone();
                    failed.failures -= 1;
                    if self.breaks(Plant::RetriedSync) {
                        if let Some(last) = failed.segments.last_mut() {
                            last.dropped = true;
                        }
                    } else {
                        failed.at = At::Begin;
                    }
                    steps.go("journaler", "fails to sync", failed);
                }
                if let Some(last) = next.segments.last_mut()
                    && !last.dropped
                {
                    last.synced = last.groups.len();
                }
                next.at = if self.breaks(Plant::EarlyJournaled) { At::Read } else { At::Journaled };
                "syncs"
            }
            _ => {
                if self.is_based(state) {
                    next.journaled = state.passed.max(state.journaled);
                }
                next.at = if self.breaks(Plant::EarlyJournaled) { At::Sync } else { At::Read };
                "stores `journaled`"
            }
        }
    }

    pub(super) fn clean(&self, state: &State, next: &mut State) -> &'static str {
        match state.at {
            At::Rotate => {
                next.rotated = state.saved;
                next.at = At::Delete;
                if !self.breaks(Plant::DeletesFirst) {
                    next.segments.push(state.segment(state.passed));
                }
                "has the next segment on the disk"
            }
            _ => {
                let oldest = match self.breaks(Plant::DeletesToNewest) {
                    true => state.snapshots.last(),
                    false => state.snapshots.first(),
                };
                let oldest = oldest.map_or(NOTHING, |snapshot| snapshot.at);
                let is_needed = |index: usize| {
                    let following = state.segments.get(index + 1);
                    let is_last = self.breaks(Plant::DeletesFirst) && following.is_none();
                    !is_last
                        && following.is_none_or(|s| {
                            (s.at.life, s.at.revision) > (oldest.life, oldest.revision)
                        })
                };
                let mut index = 0;
                next.segments.retain(|_| {
                    index += 1;
                    is_needed(index - 1)
                });
                next.at = At::Read;
                if self.breaks(Plant::DeletesFirst) {
                    next.at = At::Segment(state.passed);
                }
                "deletes superfluous segments"
            }
        }
    }
}
