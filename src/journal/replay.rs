//! A snapshot with the journal on top: the state as of the last cut, or as of an earlier one.
//!
//! 1. When the snapshot's head is known, the segments are read once: which keys have another value since, and where
//!    it stands. Then the snapshot's other entries are passed on, and what the journal has is read from there.
//! 2. What counts is what was whole: groups by their checksum, states by their cuts.
//!
//! It holds the changed keys in memory, and no value.

use super::Point;
use super::format::{
    Group, HEADER, Header, Kind, RECORD, Record, SegmentReader, record, record_size,
};
use super::segments::{self, FileFrom, Found};
use crate::backend::{Backend, BackendError, Loaded, Saved, Sink, Source};
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use crate::sys::file;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Up to when changes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// All that are there.
    Newest,
    /// Those up to this revision.
    Revision(u64),
    /// Those up to this time, in nanoseconds since 1970.
    Time(u64),
}

impl Until {
    fn has(self, revision: u64, time: u64) -> bool {
        match self {
            Self::Newest => true,
            Self::Revision(last) => revision <= last,
            Self::Time(last) => time <= last,
        }
    }
}

/// Where a changed key's value stands: the segment, and the record in it. `None`: it has none.
type Place = Option<(usize, u64)>;

/// Keys that have another value than before.
#[derive(Debug, Default)]
struct Changed {
    /// Everything before is gone.
    cleared: bool,
    keys: HashMap<Vec<u8>, Place>,
}

impl Changed {
    fn take(&mut self, cleared: bool, later: impl IntoIterator<Item = (Vec<u8>, Place)>) {
        if cleared {
            self.cleared = true;
            self.keys.clear();
        }
        self.keys.extend(later);
    }
}

/// What came of the segments.
#[derive(Debug, Default)]
struct Changes {
    /// Up to where they were read.
    reached: Point,
    /// When the last whole state was made that was read.
    time: u64,
    /// The last state that is wanted, when it was made, and what changed up to it.
    state: Point,
    made: u64,
    changed: Changed,
    /// What changed after it: it counts when a later state is wanted again.
    beyond: Changed,
    /// Segments that are torn, or passed over: where they are, and why.
    refused: Vec<(String, String)>,
    /// Whether the last state that was read is a later one than was asked for.
    is_past: bool,
}

/// Changes between two cuts.
#[derive(Debug, Default)]
struct Pending {
    cleared: bool,
    keys: Vec<(Vec<u8>, Place)>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        !self.cleared && self.keys.is_empty()
    }
}

impl Changes {
    /// A whole state was read, made at this time.
    fn come_to(&mut self, at: Point, time: u64, pending: Pending, until: Until) {
        self.reached = at;
        self.is_past = !until.has(at.revision, time);
        if self.is_past {
            self.beyond.take(pending.cleared, pending.keys);
            return;
        }
        let beyond = std::mem::take(&mut self.beyond);
        self.changed.take(beyond.cleared, beyond.keys);
        self.changed.take(pending.cleared, pending.keys);
        (self.state, self.made) = (at, time);
    }

    /// Whether no later state is wanted any more. A clock may go back, a revision does not.
    fn is_over(&self, until: Until) -> bool {
        self.is_past && matches!(until, Until::Revision(_))
    }

    /// When a cut was made, as far as its record tells that: by the clock of the host, as that went. A record has the time of
    /// its entry, which is not that of its commit where it was imported.
    fn time_of(&self, cut: &Record, group: &Group) -> Option<u64> {
        let time = cut.entry.time;
        let is_own = !cut.is_old && time <= group.time;
        // Of two writers the one that looked at the clock first may have committed last.
        let least = if self.time <= group.time { self.time } else { 0 };
        is_own.then_some(time.max(least))
    }

    fn refuse(&mut self, found: &Found, reason: String) {
        // What is behind the state that is wanted is not missed.
        if !self.is_past {
            self.refused.push((found.path.display().to_string(), reason));
        }
    }

    /// Whether a segment goes on after what was reached.
    fn goes_on(&self, at: Point, continues: Point) -> bool {
        match at.incarnation == self.reached.incarnation {
            true => at.revision <= self.reached.revision,
            false => continues == self.reached,
        }
    }

    /// Reads a segment that goes on.
    fn read(&mut self, index: usize, found: &Found, until: Until) -> Result<(), BackendError> {
        let fail = BackendError::io(&found.path);
        let Ok(header) = found.header else { return Ok(()) };
        if header.at.incarnation != self.reached.incarnation {
            // A life begins with what the last one has come to.
            self.come_to(header.at, header.created, Pending::default(), until);
            if self.is_over(until) {
                return Ok(());
            }
        }
        found.with_file(|file| self.read_from(file, index, (found, header), until)).map_err(fail)?
    }

    fn read_from(
        &mut self,
        file: &File,
        index: usize,
        (found, header): (&Found, Header),
        until: Until,
    ) -> Result<(), BackendError> {
        let fail = BackendError::io(&found.path);
        let file = BufReader::with_capacity(1 << 16, FileFrom { file, at: HEADER as u64 });
        let mut reader = SegmentReader::new(file, header, found.size);
        while let Some(group) = reader.next_group().map_err(&fail)? {
            self.read_group(index, found, &group, until)?;
            if self.is_over(until) {
                return Ok(());
            }
        }
        if let Some(torn) = reader.torn {
            self.refuse(found, format!("cut off at byte {}: {}", torn.at, torn.reason));
        }
        Ok(())
    }

    fn read_group(
        &mut self,
        index: usize,
        found: &Found,
        group: &Group,
        until: Until,
    ) -> Result<(), BackendError> {
        let mut pending = Pending::default();
        for part in group.records() {
            let Some((at, record)) = part else {
                let at = found.path.display().to_string();
                let reason = "a group with a good checksum has a record that does not fit";
                return Err(BackendError::Damaged { at, reason: reason.to_owned() });
            };
            let revision = record.entry.revision;
            if revision <= self.reached.revision {
                continue;
            }
            let time = if record.is_cut { self.time_of(&record, group) } else { None };
            match record.kind {
                Kind::Cleared => pending = Pending { cleared: true, keys: Vec::new() },
                Kind::Set => pending.keys.push((record.entry.key, Some((index, at)))),
                Kind::Gone => pending.keys.push((record.entry.key, None)),
            }
            // By time, one that does not tell its own goes with the next one that does.
            if record.is_cut && (time.is_some() || !matches!(until, Until::Time(_))) {
                self.time = time.unwrap_or(group.time);
                let at = Point { revision, ..self.reached };
                self.come_to(at, self.time, std::mem::take(&mut pending), until);
                if self.is_over(until) {
                    return Ok(());
                }
            }
        }
        if group.last > self.reached.revision {
            if !pending.is_empty() {
                self.time = group.time;
            }
            let at = Point { revision: group.last, ..self.reached };
            self.come_to(at, self.time, pending, until);
        }
        Ok(())
    }
}

/// Puts the journal on top of the snapshot that it is given, for a sink behind it.
struct Merge<'a> {
    segments: &'a [Found],
    until: Until,
    to: &'a mut dyn Sink,
    changes: Changes,
    begun: Option<SnapshotHead>,
    entries: u64,
}

impl Merge<'_> {
    /// Reads the segments from the state of a snapshot on, or from nothing.
    fn reach(&mut self, from: Point) -> Result<(), BackendError> {
        self.changes = Changes { reached: from, state: from, ..Changes::default() };
        let is_before = |found: &Found| match &found.header {
            Ok(header) => {
                header.at.incarnation == from.incarnation && header.at.revision <= from.revision
            }
            Err(_) => false,
        };
        // What is before that is in the snapshot.
        let first = self.segments.iter().rposition(is_before).unwrap_or(0);
        for (index, found) in self.segments.iter().enumerate().skip(first) {
            let changes = &mut self.changes;
            match &found.header {
                Err(reason) => changes.refuse(found, reason.clone()),
                Ok(header) if changes.goes_on(header.at, header.continues) => {
                    if self.until == Until::Newest {
                        // Whoever goes on from here relies on it, and its writer may have died before the sync.
                        let synced = found.with_file(file::sync_data).and_then(|end| end);
                        synced.map_err(BackendError::io(&found.path))?;
                    }
                    changes.read(index, found, self.until)?;
                }
                Ok(header) => {
                    let reason = format!(
                        "passed over: it goes on after revision {}, and {} is reached",
                        header.continues.revision, changes.reached.revision
                    );
                    changes.refuse(found, reason);
                }
            }
            if self.changes.is_over(self.until) {
                break;
            }
        }
        Ok(())
    }

    fn pass(&mut self, entry: &SnapshotEntry) -> Result<(), BackendError> {
        self.entries += 1;
        self.to.entry(entry)
    }

    /// What the journal has.
    fn pass_changes(&mut self) -> Result<(), BackendError> {
        let mut places: Vec<(usize, u64)> =
            self.changes.changed.keys.values().filter_map(|p| *p).collect();
        places.sort_unstable();
        let segments = self.segments;
        for places in places.chunk_by(|one, next| one.0 == next.0) {
            let Some(found) = places.first().and_then(|(index, _)| segments.get(*index)) else {
                continue;
            };
            let pass_all = |file: &File| {
                places.iter().try_for_each(|(_, at)| self.pass(&entry_at(file, found, *at)?))
            };
            found.with_file(pass_all).map_err(BackendError::io(&found.path))??;
        }
        Ok(())
    }
}

/// Reads the record at this place of a segment, which was read before.
fn entry_at(file: &File, found: &Found, at: u64) -> Result<SnapshotEntry, BackendError> {
    let left = found.size.saturating_sub(at);
    let entry = read_entry(left, |bytes| file.read_exact_at(bytes, at));
    entry.map_err(BackendError::io(&found.path))
}

/// Reads a record from where `read` reads, of at most so many bytes: no more is asked for than it has.
fn read_entry(
    left: u64,
    mut read: impl FnMut(&mut [u8]) -> io::Result<()>,
) -> io::Result<SnapshotEntry> {
    let mut bytes = vec![0; RECORD];
    read(&mut bytes)?;
    let size = record_size(&bytes);
    if size > left {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    bytes.resize(size as usize, 0);
    read(&mut bytes)?;
    let (record, _) = record(&bytes).ok_or(ErrorKind::InvalidData)?;
    Ok(record.entry)
}

impl Sink for Merge<'_> {
    fn expect(&mut self, entries: u64) {
        self.to.expect(entries);
    }

    fn begin(&mut self, head: &SnapshotHead) -> Result<(), BackendError> {
        self.reach(Point { incarnation: head.incarnation, revision: head.revision })?;
        let Point { incarnation, revision } = self.changes.state;
        let created = self.changes.made.max(head.created);
        let head = SnapshotHead { incarnation, revision, created, ..*head };
        self.begun = Some(head);
        self.to.begin(&head)
    }

    fn entry(&mut self, entry: &SnapshotEntry) -> Result<(), BackendError> {
        let changed = &self.changes.changed;
        if changed.cleared || changed.keys.contains_key(&entry.key) {
            return Ok(());
        }
        self.pass(entry)
    }
}

/// The state of a bus in the past: its snapshots with its journal on top, to be loaded like a snapshot.
#[derive(Debug)]
pub(crate) struct Past {
    pub(crate) snapshots: Arc<dyn Backend>,
    pub(crate) journal: PathBuf,
    pub(crate) until: Until,
}

impl Past {
    fn read_only(&self) -> BackendError {
        let (at, reason) = (self.journal.display().to_string(), "the past is not written to");
        BackendError::Refused { at, reason: reason.to_owned() }
    }
}

impl Backend for Past {
    fn save(&self, _: &SnapshotHead, _: &mut dyn Source) -> Result<Saved, BackendError> {
        Err(self.read_only())
    }

    fn load(&self, sink: &mut dyn Sink) -> Result<Option<Loaded>, BackendError> {
        let segments = segments::all(&self.journal).map_err(BackendError::io(&self.journal))?;
        let (changes, until) = (Changes::default(), self.until);
        let mut merge =
            Merge { segments: &segments, until, to: sink, changes, begun: None, entries: 0 };
        let wanted = |head: &SnapshotHead| until.has(head.revision, head.created);
        let loaded = self.snapshots.load_where(&wanted, &mut merge)?;
        if merge.begun.is_none() {
            // No snapshot yet: the journal may go back to where the bus began with nothing.
            merge.reach(Point::default())?;
            if merge.changes.state == Point::default() {
                if self.until == Until::Newest {
                    // A bus that is built anew begins with nothing: there is no `Loaded` to tell it by.
                    for (file, reason) in merge.changes.refused {
                        tracing::error!(file, reason, "a part of the journal was not used");
                    }
                }
                return Ok(None);
            }
            let header = segments.iter().find_map(|found| found.header.as_ref().ok());
            let Point { incarnation, revision } = merge.changes.state;
            let bus_id = header.map_or(0, |header| header.bus_id);
            let head = SnapshotHead { bus_id, incarnation, revision, created: merge.changes.made };
            merge.begun = Some(head);
            merge.to.begin(&head)?;
        }
        merge.pass_changes()?;
        let mut refused = loaded.map(|loaded| loaded.refused).unwrap_or_default();
        refused.append(&mut merge.changes.refused);
        Ok(merge.begun.map(|head| Loaded { head, entries: merge.entries, refused }))
    }

    fn oldest(&self) -> Result<Option<SnapshotHead>, BackendError> {
        self.snapshots.oldest()
    }

    fn exists(&self) -> Result<bool, BackendError> {
        let segments = segments::sequences(&self.journal);
        let segments = segments.map_err(BackendError::io(&self.journal))?;
        Ok(!segments.is_empty() || self.snapshots.exists()?)
    }

    fn delete(&self) -> Result<(), BackendError> {
        Err(self.read_only())
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::GroupWriter;
    use super::*;

    /// Promise: no more memory is taken for a record than it has bytes, and none for a length beyond the end of its file.
    /// Plants: a buffer that grows until the record fits in; no look at the file's size.
    #[test]
    fn a_record_is_read_by_its_length() {
        let entry = SnapshotEntry {
            key: b"key".to_vec(),
            value: vec![7; 40_000],
            who: b"who".to_vec(),
            revision: 1,
            ..SnapshotEntry::default()
        };
        let mut writer = GroupWriter::default();
        writer.begin(0);
        writer.push(Kind::Set, &entry);
        let group = writer.seal(&Header::default(), 1, 1).to_vec();
        let bytes = &group[group.len() - RECORD - 40_006..];
        let (mut asked, size) = (Vec::new(), bytes.len() as u64);
        let mut read = |to: &mut [u8]| {
            asked.push(to.len());
            to.copy_from_slice(&bytes[..to.len()]);
            Ok(())
        };
        assert_eq!(read_entry(size, &mut read).unwrap(), entry);
        let cut = read_entry(size - 1, &mut read).unwrap_err();
        assert_eq!(cut.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(asked, [RECORD, bytes.len(), RECORD]);
    }
}
