//! What was counted between two looks.

use super::{MemberMetrics, Metrics};

/// The named fields less those of an earlier look; what is no count stays.
macro_rules! less {
    ($now:expr, $before:expr, $($field:ident),* $(,)?) => {{
        let mut now = $now;
        $(now.$field = now.$field.saturating_sub($before.$field);)*
        now
    }};
}

fn member_since(now: &MemberMetrics, before: &Metrics) -> MemberMetrics {
    let same =
        |other: &&MemberMetrics| (other.slot, other.generation) == (now.slot, now.generation);
    match before.members.iter().find(same) {
        Some(old) => less!(now.clone(), old, gets, misses, sets, adds, deletes, commits),
        None => now.clone(),
    }
}

impl Metrics {
    /// What was counted since an earlier look at the same bus, and how it is now. When the region was rebuilt
    /// between, all that was counted since then.
    #[must_use]
    #[rustfmt::skip]
    pub fn since(&self, before: &Self) -> Self {
        if self.created != before.created {
            return self.clone();
        }
        let operations = less!(
            self.operations, before.operations, total, gets, hits, misses, sets, adds, deletes, commits,
            changes, clears, scans, created, updated, deleted, expired, conflicts, lock_changes,
        );
        let errors = less!(
            self.errors, before.errors, total, read, write, full, stalled, watch, lock, snapshot, callback,
            growth,
        );
        let messaging = less!(
            self.messaging, before.messaging, messages, broadcasts, delivered, expired, events, lagged,
            missed, callbacks, bells,
        );
        let recovery = less!(self.recovery, before.recovery, burials, takeovers, finished, restores);
        let saved = self.persistence.clone();
        let persistence = less!(saved, before.persistence, snapshots, failures, backups);
        Self {
            operations,
            errors,
            messaging,
            recovery,
            persistence,
            memory: less!(self.memory, before.memory, growths),
            get_times: self.get_times.since(&before.get_times),
            set_times: self.set_times.since(&before.set_times),
            members: self.members.iter().map(|member| member_since(member, before)).collect(),
            ..self.clone()
        }
    }
}
