//! From the log to a group of the journal.
//!
//! A record of the log tells a small value, and neither a deadline nor an owner. What it does not tell is read from
//! the entry, as long as that is the newest. One that was replaced since is left out, and the group goes on to what replaced it:
//! its end is whole, and no state between counts.

use super::super::Inner;
use super::super::follow::{Follower, Next};
use crate::error::ReadError;
use crate::journal::format::{GroupWriter, Kind};
use crate::log::{Record, RecordKind};
use crate::region::BadRegion;
use crate::snapshot_entry::SnapshotEntry;
use crate::word::Realm;
use std::collections::HashMap;

/// Bytes from which on a group ends where it is whole.
const GROUP_MAX: usize = 1 << 20;

/// What came of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collected {
    /// A group, up to this revision.
    Group(u64),
    /// Records are gone, or one has no content: the journal begins anew with a snapshot.
    Gap,
}

/// A key's newest entry.
struct Newest {
    entry: SnapshotEntry,
    is_ephemeral: bool,
}

/// Collects groups.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) log: Follower,
    pub(super) group: GroupWriter,
    /// Entries that are newer than the record through which they were met.
    ahead: HashMap<Vec<u8>, SnapshotEntry>,
    /// The group is whole from this revision on.
    whole_from: u64,
    /// What is still to be read was committed after this time.
    pub(super) since: u64,
}

impl Collector {
    pub(super) fn after(revision: u64) -> Self {
        let (group, ahead) = (GroupWriter::default(), HashMap::new());
        Self { log: Follower::after(revision), group, ahead, whole_from: 0, since: 0 }
    }

    /// Collects up to the head, or less when that is much.
    pub(super) fn collect(&mut self, inner: &Inner, head: u64) -> Result<Collected, ReadError> {
        let mut until = head;
        self.group.begin(self.since);
        self.ahead.clear();
        self.whole_from = 0;
        loop {
            while let Some(next) = self.log.next(&inner.core, until)? {
                let Next::Record(record) = next else { return Ok(Collected::Gap) };
                if record.kind == RecordKind::Restore {
                    return Ok(Collected::Gap);
                }
                let (revision, has_more) = (record.revision, record.has_more);
                self.take(inner, record)?;
                if !has_more {
                    let is_whole = self.whole_from <= revision;
                    self.group.end_commit(is_whole);
                    if is_whole && self.group.len() >= GROUP_MAX {
                        return Ok(Collected::Group(revision));
                    }
                }
            }
            if self.whole_from <= until {
                return Ok(Collected::Group(until));
            }
            until = self.whole_from;
        }
    }

    fn take(&mut self, inner: &Inner, record: Record) -> Result<(), ReadError> {
        let entry = SnapshotEntry {
            key: record.key,
            value: record.value,
            kind: record.value_kind,
            revision: record.revision,
            time: record.time,
            who: record.who,
            expires: 0,
        };
        match record.kind {
            RecordKind::Clear => self.group.push(Kind::Cleared, &entry),
            _ if record.realm == Realm::Locks => {}
            RecordKind::Set if record.too_large || record.is_timed => {
                let kept = self.newest(inner, &entry)?;
                match kept {
                    Some(kept) => self.group.push(Kind::Set, &kept),
                    None => self.group.push(Kind::Gone, &entry),
                }
            }
            RecordKind::Set => self.group.push(Kind::Set, &entry),
            RecordKind::Delete | RecordKind::Expire => self.group.push(Kind::Gone, &entry),
            RecordKind::Message | RecordKind::Snapshot | RecordKind::Restore => {}
        }
        Ok(())
    }

    /// The entry that a record is of, with all that the record does not tell; nothing when it is ephemeral, or
    /// gone by now: then the group has to go on.
    fn newest(
        &mut self,
        inner: &Inner,
        told: &SnapshotEntry,
    ) -> Result<Option<SnapshotEntry>, ReadError> {
        match self.ahead.get(&told.key).map(|entry| entry.revision) {
            Some(newer) if newer > told.revision => return Ok(None),
            Some(same) if same == told.revision => return Ok(self.ahead.remove(&told.key)),
            _ => {}
        }
        let found = match inner.newest(&told.key) {
            // Overtaken as long as a handle waits: it is not the newest any more.
            Err(ReadError::Contended { .. }) => None,
            found => found?,
        };
        match found {
            Some(newest) if newest.entry.revision == told.revision => {
                Ok((!newest.is_ephemeral).then_some(newest.entry))
            }
            Some(newest) if newest.entry.revision > told.revision => {
                self.whole_from = self.whole_from.max(newest.entry.revision);
                if !newest.is_ephemeral {
                    self.ahead.insert(told.key.clone(), newest.entry);
                }
                Ok(None)
            }
            // Deleted, expired or cleared since.
            _ => {
                self.whole_from = self.whole_from.max(inner.core.visible_head()?);
                Ok(None)
            }
        }
    }
}

impl Inner {
    /// A key's newest entry, whole.
    fn newest(&self, key: &[u8]) -> Result<Option<Newest>, ReadError> {
        let (mut value, mut who) = (Vec::new(), Vec::new());
        let mut newest = None;
        let found = self.find(key, |seen| {
            value.clear();
            who.clear();
            seen.entry.copy_value(&seen.header, &mut value)?;
            seen.entry.copy_who(&seen.header, &mut who)?;
            let is_ephemeral = seen.entry.owner(&seen.header)? != 0;
            let (kind, time) = (seen.header.kind, seen.entry.time()?);
            newest = Some((kind, time, seen.born, seen.deadline, is_ephemeral));
            Ok::<(), BadRegion>(())
        })?;
        let Some((kind, time, revision, deadline, is_ephemeral)) = newest.filter(|_| found) else {
            return Ok(None);
        };
        let clock = &self.core.clock;
        let left = deadline.saturating_sub(clock.boot()).max(1);
        let expires = if deadline == 0 { 0 } else { clock.wall().saturating_add(left) };
        let key = key.to_vec();
        let entry = SnapshotEntry { key, value, kind, revision, time, who, expires };
        Ok(Some(Newest { entry, is_ephemeral }))
    }
}
