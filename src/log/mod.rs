//! The log: a ring of records, one for each revision, filled under the commit lock.
//!
//! ```text
//! | revision 8 | length 4, kind 1, flags 1, value kind 1, who length 1 | value length 8 |
//! | time 8 | key length 2, old value: kind 1, flags 1, length 4                         |
//! | who, key, value, old value, each padded to 8 bytes                                  |
//! ```
//!
//! 1. Positions are bytes since the region was made and only grow; a record never wraps: what is
//!    left at the ring's end is a gap, told by a revision of 0.
//! 2. `LOG_INTENT` is moved before old bytes are overwritten and never goes back: a copy is good
//!    when, after it, the intent is still within one ring of it.
//! 3. The index names the position of the first record of each 64 revisions; it is a hint, since the
//!    record that is found must confirm it.
//! 4. Revisions are dense, so a reader knows that the record after revision r is that of r + 1.
//!
//! A death leaves bytes beyond the tail, which the next commit overwrites.

use crate::heap::Space;
use crate::region::BadRegion;
use crate::region::geometry::align;
use crate::region::layout::{INDEX_STRIDE, LINE, header, record};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::fence;
use crate::word::{Name, Realm};

/// Largest value that a record carries, in bytes; larger ones are told by their size.
pub(crate) const RECORD_VALUE_MAX: u64 = 1024;
/// The value did not fit into the record.
pub(crate) const FLAG_TOO_LARGE: u8 = 1;
/// The key is that of a lock.
pub(crate) const FLAG_LOCK: u8 = 2;
/// The entry has a deadline or an owner, which the record does not tell.
const FLAG_TIMED: u8 = 4;
/// The next record is of the same commit.
const FLAG_MORE: u8 = 8;
/// There was an old value; the one of its record's flags that says so, beside `FLAG_TOO_LARGE`.
const FLAG_OLD: u8 = 2;
/// Bytes of a record beyond who, key and value.
pub(crate) const RECORD_FIXED: u64 = record::BYTES + 8;

/// Lines of the ring that a writer asks for ahead of its record.
const PREFETCH_LINES: u64 = 3;

/// What a record tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum RecordKind {
    Set = 1,
    Delete = 2,
    Expire = 3,
    Clear = 4,
    Message = 5,
    Snapshot = 6,
    Restore = 7,
}

impl RecordKind {
    fn from_byte(byte: u8) -> Option<Self> {
        use RecordKind::{Clear, Delete, Expire, Message, Restore, Set, Snapshot};
        [Set, Delete, Expire, Clear, Message, Snapshot, Restore]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A record to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewRecord<'a> {
    pub(crate) kind: RecordKind,
    pub(crate) value_kind: u8,
    pub(crate) time: u64,
    pub(crate) who: &'a [u8],
    pub(crate) key: Name<'a>,
    pub(crate) value: &'a [u8],
    /// Bytes of a value that a record may carry at the most.
    pub(crate) value_max: u64,
    /// Whether the entry has a deadline or an owner.
    pub(crate) is_timed: bool,
    /// What was there before, where it is to be told.
    pub(crate) old: Option<OldValue<'a>>,
}

/// The value that a change replaced or took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OldValue<'a> {
    pub(crate) kind: u8,
    /// Its bytes, all of them or none.
    pub(crate) bytes: &'a [u8],
    /// How many it has.
    pub(crate) size: u64,
}

impl NewRecord<'_> {
    fn carried(&self) -> u64 {
        let size = self.value.len() as u64;
        if size <= self.value_max { size } else { 0 }
    }
    /// Bytes that it takes in the ring.
    pub(crate) fn size(&self) -> u64 {
        let pad = |len: usize| align(len as u64, 8);
        RECORD_FIXED
            + pad(self.who.len())
            + pad(self.key.bytes.len())
            + align(self.carried(), 8)
            + pad(self.carried_old().len())
    }

    fn carried_old(&self) -> &[u8] {
        match self.old {
            Some(old) if old.size <= self.value_max => old.bytes,
            _ => &[],
        }
    }

    /// The word of the key's length and of the old value.
    fn lengths(&self) -> u64 {
        let old = self.old.map_or(0, |old| {
            let is_cut = self.carried_old().len() as u64 != old.size;
            let flags = FLAG_OLD | if is_cut { FLAG_TOO_LARGE } else { 0 };
            u64::from(old.kind) << 16 | u64::from(flags) << 24 | old.size << 32
        });
        self.key.bytes.len() as u64 | old
    }

    fn flags(&self) -> u8 {
        let too_large = if self.carried() < self.value.len() as u64 { FLAG_TOO_LARGE } else { 0 };
        let lock = if self.key.realm == Realm::Locks { FLAG_LOCK } else { 0 };
        let timed = if self.is_timed { FLAG_TIMED } else { 0 };
        too_large | lock | timed
    }
}

/// A record as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) revision: u64,
    pub(crate) kind: RecordKind,
    pub(crate) value_kind: u8,
    pub(crate) too_large: bool,
    /// Whether the entry has a deadline or an owner.
    pub(crate) is_timed: bool,
    /// Whether the next record is of the same commit.
    pub(crate) has_more: bool,
    pub(crate) value_size: u64,
    pub(crate) time: u64,
    pub(crate) who: Vec<u8>,
    pub(crate) realm: Realm,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) old: Option<Old>,
}

/// An old value as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Old {
    pub(crate) kind: u8,
    pub(crate) size: u64,
    /// `None`: it is too large for a record.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// What reading at a position gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    /// A record, and where the next one stands.
    Record(Record, u64),
    /// The writers have come round: these bytes are gone.
    Overtaken,
}

impl Space {
    #[inline]
    fn ring(&self, position: u64) -> u64 {
        self.geometry.log() + (position & (self.geometry.log_size - 1))
    }

    /// Where a record of `size` bytes goes when the tail stands at `tail`.
    pub(crate) fn record_place(&self, tail: u64, size: u64) -> u64 {
        let left = self.geometry.log_size - (tail & (self.geometry.log_size - 1));
        if left < size { tail + left } else { tail }
    }

    /// Where the next record goes, that of `revision`: to the tail. Whoever died while it left records
    /// out has moved the intent so far that bytes at the tail count as overwritten: then to the first
    /// place that does not.
    pub(crate) fn log_begin(&self, revision: u64) -> Result<u64, BadRegion> {
        let tail = self.region.load_count(header::LOG_TAIL, Relaxed)?;
        let intent = self.region.load_count(header::LOG_INTENT, Relaxed)?;
        let there = intent.saturating_sub(self.geometry.log_size);
        if tail >= there {
            return Ok(tail);
        }
        self.region.store(self.geometry.index(revision), there, Relaxed)?;
        Ok(there)
    }

    /// Moves the intent word to `end`, before older bytes are overwritten.
    pub(crate) fn log_intend(&self, end: u64) -> Result<(), BadRegion> {
        let intent = self.region.load_count(header::LOG_INTENT, Relaxed)?;
        if end > intent {
            self.region.store(header::LOG_INTENT, end, Relaxed)?;
        }
        // ORDERING: [log.intent] Release fence: the intent comes before the new bytes; pairs with
        // the Acquire fence in `log_still_there`.
        fence(Release);
        Ok(())
    }

    /// Writes one record at `tail`, beyond what anybody reads yet; gives the new tail. `has_more`: the
    /// next one is of the same commit.
    pub(crate) fn log_write(
        &self,
        tail: u64,
        revision: u64,
        new: &NewRecord<'_>,
        has_more: bool,
    ) -> Result<u64, BadRegion> {
        let (size, carried) = (new.size(), new.carried());
        let flags = new.flags() | if has_more { FLAG_MORE } else { 0 };
        let place = self.record_place(tail, size);
        if place != tail {
            self.region.store(self.ring(tail), 0, Relaxed)?;
        }
        let at = self.ring(place);
        let meta = size
            | u64::from(new.kind as u8) << 32
            | u64::from(flags) << 40
            | u64::from(new.value_kind) << 48
            | (new.who.len() as u64) << 56;
        self.region.store(at + record::REVISION, revision, Relaxed)?;
        self.region.store(at + record::META, meta, Relaxed)?;
        self.region.store(at + record::VALUE_LEN, new.value.len() as u64, Relaxed)?;
        self.region.store(at + record::TIME, new.time, Relaxed)?;
        self.region.store(at + record::BYTES, new.lengths(), Relaxed)?;
        let mut to = at + RECORD_FIXED;
        let value = &new.value[..carried as usize];
        for bytes in [new.who, new.key.bytes, value, new.carried_old()] {
            if !bytes.is_empty() {
                self.region.write(to, bytes)?;
                to += align(bytes.len() as u64, 8);
            }
        }
        if revision.is_multiple_of(INDEX_STRIDE) || revision == self.geometry.first_revision + 1 {
            self.region.store(self.geometry.index(revision), place, Relaxed)?;
        }
        Ok(place + size)
    }

    /// Asks for the ring's next lines, before any lock is taken.
    #[inline]
    pub(crate) fn log_prefetch(&self) {
        let Ok(tail) = self.region.load_count(header::LOG_TAIL, Relaxed) else { return };
        for ahead in 0..PREFETCH_LINES {
            self.region.prefetch(self.ring(tail + LINE * ahead));
        }
    }

    /// Whether bytes read at `position` were not yet overwritten.
    fn log_still_there(&self, position: u64) -> Result<bool, BadRegion> {
        // ORDERING: [log.intent] Acquire fence: the copy comes before the look at the intent; pairs
        // with the Release fence in `log_intend`.
        fence(Acquire);
        let intent = self.region.load_count(header::LOG_INTENT, Relaxed)?;
        Ok(intent <= position + self.geometry.log_size)
    }

    /// Reads the record of `revision` (≤ head) at `position`, or after a gap there.
    pub(crate) fn log_read(&self, position: u64, revision: u64) -> Result<Read, BadRegion> {
        match self.log_at(position)? {
            Read::Record(record, _) if record.revision != revision => {
                let (offset, found) = (self.ring(position), record.revision);
                Err(BadRegion::new(offset, found, "the log record of the next revision"))
            }
            read => Ok(read),
        }
    }

    /// Reads the record at `position`, or after a gap there.
    fn log_at(&self, position: u64) -> Result<Read, BadRegion> {
        let mut position = position;
        // A gap is followed by a record.
        for _ in 0..2 {
            let at = self.ring(position);
            let found = self.region.load(at + record::REVISION, Relaxed)?;
            if found == 0 {
                if !self.log_still_there(position)? {
                    return Ok(Read::Overtaken);
                }
                position = self.next_round(position);
                continue;
            }
            let read = self.log_copy(at);
            if !self.log_still_there(position)? {
                return Ok(Read::Overtaken);
            }
            let (record, size) = read?;
            return Ok(Read::Record(record, position + size));
        }
        Err(BadRegion::new(self.ring(position), 0, "a log record"))
    }

    /// The position at which the ring begins again.
    fn next_round(&self, position: u64) -> u64 {
        position + self.geometry.log_size - (position & (self.geometry.log_size - 1))
    }

    /// Leaves the records of a commit out: too many bytes for the ring. Whoever is not beyond the
    /// revision `last` is told that it missed them. Gives the new tail.
    pub(crate) fn log_skip(&self, last: u64) -> Result<u64, BadRegion> {
        let tail = self.region.load_count(header::LOG_TAIL, Relaxed)?;
        // Beyond the next round, no byte that was written before counts as still there.
        let new = self.next_round(self.next_round(tail));
        self.log_intend(new)?;
        self.region.store(self.geometry.index(last + 1), new, Relaxed)?;
        Ok(new)
    }

    fn log_copy(&self, at: u64) -> Result<(Record, u64), BadRegion> {
        let meta = self.region.load(at + record::META, Relaxed)?;
        let value_size = self.region.load(at + record::VALUE_LEN, Relaxed)?;
        let (size, who_len) = (meta & 0xffff_ffff, meta >> 56);
        let flags = (meta >> 40) as u8;
        let too_large = flags & FLAG_TOO_LARGE != 0;
        let carried = if too_large { 0 } else { value_size };
        let bad = || BadRegion::new(at, meta, "a log record");
        let lengths = self.region.load(at + record::BYTES, Relaxed)?;
        let (key_len, old_flags) = (lengths & 0xffff, (lengths >> 24) as u8);
        let old_carried = if old_flags == FLAG_OLD { lengths >> 32 } else { 0 };
        let kind = RecordKind::from_byte((meta >> 32) as u8).ok_or_else(bad)?;
        if carried > self.geometry.log_size {
            return Err(bad());
        }
        let needed = RECORD_FIXED
            + [who_len, key_len, carried, old_carried].map(|len| align(len, 8)).iter().sum::<u64>();
        let room = self.geometry.log() + self.geometry.log_size - at;
        if needed != size || size > room {
            return Err(bad());
        }
        let mut from = at + RECORD_FIXED;
        let mut take = |len: u64| {
            let mut bytes = Vec::new();
            let read = self.region.read_into(from, len, &mut bytes);
            from += align(len, 8);
            read.map(|()| bytes)
        };
        let (who, key, value) = (take(who_len)?, take(key_len)?, take(carried)?);
        let old_bytes = take(old_carried)?;
        let old = (old_flags & FLAG_OLD != 0).then(|| Old {
            kind: (lengths >> 16) as u8,
            size: lengths >> 32,
            bytes: (old_flags & FLAG_TOO_LARGE == 0).then_some(old_bytes),
        });
        let record = Record {
            revision: self.region.load(at + record::REVISION, Relaxed)?,
            kind,
            value_kind: (meta >> 48) as u8,
            too_large,
            is_timed: flags & FLAG_TIMED != 0,
            has_more: flags & FLAG_MORE != 0,
            value_size,
            time: self.region.load(at + record::TIME, Relaxed)?,
            who,
            realm: if flags & FLAG_LOCK == 0 { Realm::Keys } else { Realm::Locks },
            key,
            value,
            old,
        };
        Ok((record, size))
    }

    /// Where the record of `revision` stands, or the oldest revision above it that is still there.
    /// `revision` is at most one above the head.
    pub(crate) fn log_find(&self, revision: u64) -> Result<Result<u64, u64>, BadRegion> {
        let first = self.geometry.first_revision + 1;
        let head = self.visible_head()?;
        if revision > head {
            return self.log_end(head, first);
        }
        let mut base = revision - revision % INDEX_STRIDE;
        // Named bound: older entries of the index are used for newer revisions.
        let useful = head.saturating_sub(INDEX_STRIDE * self.geometry.index_count());
        base = base.max(useful - useful % INDEX_STRIDE).max(first - first % INDEX_STRIDE);
        while base <= head {
            if let Some((oldest, position)) = self.log_first(base)? {
                if oldest > revision {
                    return Ok(Err(oldest));
                }
                if let Some(position) = self.log_walk(oldest, position, revision)? {
                    return Ok(Ok(position));
                }
            }
            base += INDEX_STRIDE;
        }
        Ok(Err(head + 1))
    }

    /// Where the record behind that of the head will stand.
    fn log_end(&self, head: u64, first: u64) -> Result<Result<u64, u64>, BadRegion> {
        if head < first {
            return Ok(Ok(0));
        }
        let Ok(position) = self.log_find(head)? else { return Ok(Err(head + 1)) };
        Ok(match self.log_read(position, head)? {
            Read::Record(_, after) => Ok(after),
            Read::Overtaken => Err(head + 1),
        })
    }

    /// The first record that the index knows of the revisions from `base` on, with its position.
    pub(crate) fn log_first(&self, base: u64) -> Result<Option<(u64, u64)>, BadRegion> {
        let position = self.region.load(self.geometry.index(base), Relaxed)?;
        // What was noted for a commit that did not come about.
        if position >= self.region.load_count(header::LOG_TAIL, Acquire)? {
            return Ok(None);
        }
        Ok(match self.log_at(position) {
            Ok(Read::Record(record, _))
                if record.revision / INDEX_STRIDE == base / INDEX_STRIDE =>
            {
                Some((record.revision, position))
            }
            // The index is a hint: what stands there now may be no record at all.
            _ => None,
        })
    }

    /// Walks from the record of `from` at `position` to that of `revision`: its position, or `None`
    /// when the bytes are gone.
    fn log_walk(&self, from: u64, position: u64, revision: u64) -> Result<Option<u64>, BadRegion> {
        let mut position = position;
        for next in from..revision {
            match self.log_read(position, next)? {
                Read::Record(_, after) => position = after,
                Read::Overtaken => return Ok(None),
            }
        }
        Ok(match self.log_read(position, revision)? {
            Read::Record(..) => Some(position),
            Read::Overtaken => None,
        })
    }
}
