//! The bytes of a segment.
//!
//! ```text
//! header  | "MEMBUSJN" | version 4, byte order 4 | sequence 8 | incarnation 8 | after 8 |
//!         | continues: incarnation 8, revision 8 | created 8 | bus id 16 | CRC32C 4, zero 4 |
//! group   | length of the rest 8 | CRC32C 4, zero 4 | last revision 8 | time 8 | records |
//! record  | key length 2 | kind 1 | flags 1 | value kind 1 | who length 1 | zero 2 | value length 4, zero 4 |
//!         | revision 8 | time 8 | expires 8 | key | who | value |
//! ```
//!
//! Everything is little-endian. A group's checksum begins with that of its segment's header, so that no group of
//! another file counts that the disk had there before. A length is never allocated before it was seen that the file
//! is so long.

use super::Point;
use crate::snapshot_entry::SnapshotEntry;
use std::io::{self, Read};

/// First bytes of a segment.
const MAGIC: [u8; 8] = *b"MEMBUSJN";
/// Version of the format.
pub(crate) const VERSION: u32 = 1;
const BYTE_ORDER: u32 = 0x0102_0304;
/// Bytes of a segment's header.
pub(crate) const HEADER: usize = 88;
/// Bytes of a group before its records.
const GROUP: usize = 32;
/// Bytes of a group that its length does not count.
const FRAME: usize = 16;
/// Bytes of a record before its key.
pub(crate) const RECORD: usize = 40;
/// A state is whole with this record.
const FLAG_CUT: u8 = 1;
/// The entry's time is from before its commit could be: of what was imported, or of a writer that had to wait.
const FLAG_OLD: u8 = 2;

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Header {
    pub(crate) bus_id: u128,
    pub(crate) sequence: u64,
    /// The life that it is of, and the revision after which its changes come.
    pub(crate) at: Point,
    /// The same moment as a point of the life before, where it is the first of its life; else `at`.
    pub(crate) continues: Point,
    pub(crate) created: u64,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(bytes.get(at..at + 8).unwrap_or(&[0; 8]));
    u64::from_le_bytes(word)
}

fn half(bytes: &[u8], at: usize) -> u32 {
    word(bytes, at) as u32
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        let version = u64::from(VERSION) | u64::from(BYTE_ORDER) << 32;
        let words = [
            version,
            self.sequence,
            self.at.incarnation,
            self.at.revision,
            self.continues.incarnation,
            self.continues.revision,
            self.created,
        ];
        for (place, word) in bytes[8..64].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes[64..80].copy_from_slice(&self.bus_id.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[..80]);
        bytes[80..84].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads one; `Err` says what is wrong with it.
    pub(crate) fn decode(bytes: &[u8; HEADER]) -> Result<Self, String> {
        if bytes[..8] != MAGIC {
            return Err("it is no segment of a journal".to_owned());
        }
        let (version, order) = (half(bytes, 8), half(bytes, 12));
        if order != BYTE_ORDER {
            return Err("it was written on a machine of another byte order".to_owned());
        }
        if version != VERSION {
            return Err(format!("it has format version {version}, this membus reads {VERSION}"));
        }
        let (found, expected) = (half(bytes, 80), crc32c::crc32c(&bytes[..80]));
        if found != expected {
            return Err(format!(
                "the header's checksum is {found:#x}, its bytes give {expected:#x}"
            ));
        }
        let point = |at| Point { incarnation: word(bytes, at), revision: word(bytes, at + 8) };
        Ok(Self {
            bus_id: u128::from(word(bytes, 64)) | u128::from(word(bytes, 72)) << 64,
            sequence: word(bytes, 16),
            at: point(24),
            continues: point(40),
            created: word(bytes, 56),
        })
    }

    /// With what the checksums of its groups begin.
    fn salt(&self) -> u32 {
        half(&self.encode(), 80)
    }
}

/// What a record tells of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// It has this value.
    Set = 1,
    /// It is not there, as far as a snapshot goes: deleted, expired, ephemeral, or replaced before its value
    /// could be read; then what replaced it follows before the next cut.
    Gone = 2,
    /// No key is there.
    Cleared = 3,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    /// Whether a state is whole with it.
    pub(crate) is_cut: bool,
    /// Whether its time is older than its commit.
    pub(crate) is_old: bool,
    /// Of the key: all of it for a set, the key, revision and time else.
    pub(crate) entry: SnapshotEntry,
}

/// A group that is being put together.
#[derive(Debug, Default)]
pub(crate) struct GroupWriter {
    bytes: Vec<u8>,
    /// Where the last record of the commit that is being told stands.
    commit: Option<usize>,
    /// What is told was committed after this time.
    since: u64,
}

impl GroupWriter {
    /// Begins anew, with what was committed after a time.
    pub(crate) fn begin(&mut self, since: u64) {
        self.bytes.clear();
        self.bytes.resize(GROUP, 0);
        (self.commit, self.since) = (None, since);
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a record; lengths beyond what a bus has are cut by nobody, since no bus has them.
    pub(crate) fn push(&mut self, kind: Kind, entry: &SnapshotEntry) {
        self.commit = Some(self.bytes.len());
        let value = if kind == Kind::Set { entry.value.as_slice() } else { &[] };
        let who = if kind == Kind::Set { entry.who.as_slice() } else { &[] };
        let flags = if entry.time < self.since { FLAG_OLD } else { 0 };
        let lengths = entry.key.len() as u64 & 0xffff
            | u64::from(kind as u8) << 16
            | u64::from(flags) << 24
            | u64::from(entry.kind) << 32
            | (who.len() as u64 & 0xff) << 40;
        let words = [lengths, value.len() as u64, entry.revision, entry.time, entry.expires];
        for word in words {
            self.bytes.extend_from_slice(&word.to_le_bytes());
        }
        for bytes in [&entry.key, who, value] {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// The commit that was told ends here; whether a state is whole with it.
    pub(crate) fn end_commit(&mut self, is_whole: bool) {
        if let Some(at) = self.commit.take()
            && is_whole
            && let Some(flags) = self.bytes.get_mut(at + 3)
        {
            *flags |= FLAG_CUT;
        }
    }

    /// The group's bytes, for the segment with this header.
    pub(crate) fn seal(&mut self, header: &Header, last: u64, time: u64) -> &[u8] {
        let length = (self.bytes.len() - FRAME) as u64;
        self.bytes[16..24].copy_from_slice(&last.to_le_bytes());
        self.bytes[24..32].copy_from_slice(&time.to_le_bytes());
        let sum = checksum(header, length, &self.bytes[FRAME..]);
        self.bytes[..8].copy_from_slice(&length.to_le_bytes());
        self.bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        &self.bytes
    }
}

fn checksum(header: &Header, length: u64, rest: &[u8]) -> u32 {
    let sum = crc32c::crc32c_append(header.salt(), &length.to_le_bytes());
    crc32c::crc32c_append(sum, rest)
}

/// A group as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// All changes up to this revision are in it or before it.
    pub(crate) last: u64,
    pub(crate) time: u64,
    /// Where its records begin in the file.
    at: u64,
    bytes: Vec<u8>,
}

/// Why reading a segment ended before its last byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Torn {
    pub(crate) at: u64,
    pub(crate) reason: &'static str,
}

/// Reads the groups of a segment one after the other.
#[derive(Debug)]
pub(crate) struct SegmentReader<R> {
    from: R,
    pub(crate) header: Header,
    at: u64,
    /// Bytes of the file.
    size: u64,
    pub(crate) torn: Option<Torn>,
}

impl<R: Read> SegmentReader<R> {
    /// Begins after the header, which was read.
    pub(crate) fn new(from: R, header: Header, size: u64) -> Self {
        Self { from, header, at: HEADER as u64, size, torn: None }
    }

    /// The next group; `None` at the end, or where the rest is torn.
    ///
    /// # Errors
    /// What reading gave: that is no torn end, and says nothing of what is there.
    pub(crate) fn next_group(&mut self) -> io::Result<Option<Group>> {
        let left = self.size.saturating_sub(self.at);
        if self.torn.is_some() || left == 0 {
            return Ok(None);
        }
        let torn = |reason| Some(Torn { at: self.at, reason });
        if left < GROUP as u64 {
            self.torn = torn("it ends in the middle of a group");
            return Ok(None);
        }
        let mut frame = [0; FRAME];
        self.from.read_exact(&mut frame)?;
        let (length, sum) = (word(&frame, 0), half(&frame, 8));
        if length < (GROUP - FRAME) as u64 || length > left - FRAME as u64 {
            self.torn = torn("a group is longer than the file, or has no length");
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.from.by_ref().take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length || checksum(&self.header, length, &bytes) != sum {
            self.torn = torn("a group's checksum is not that of its bytes");
            return Ok(None);
        }
        let at = self.at + GROUP as u64;
        self.at += FRAME as u64 + length;
        Ok(Some(Group { last: word(&bytes, 0), time: word(&bytes, 8), at, bytes }))
    }
}

impl Group {
    /// Its records, each with where it stands in the file; `None` in the place of one that does not fit.
    pub(crate) fn records(&self) -> impl Iterator<Item = Option<(u64, Record)>> + '_ {
        let mut at = GROUP - FRAME;
        std::iter::from_fn(move || {
            let rest = self.bytes.get(at..).filter(|rest| !rest.is_empty())?;
            let place = self.at + (at - (GROUP - FRAME)) as u64;
            match record(rest) {
                Some((record, size)) => {
                    at += size;
                    Some(Some((place, record)))
                }
                None => {
                    at = self.bytes.len();
                    Some(None)
                }
            }
        })
    }
}

/// Lengths of a record's key, who and value, by its fixed bytes.
fn lengths(fixed: &[u8]) -> [usize; 3] {
    let lengths = word(fixed, 0);
    [(lengths & 0xffff) as usize, (lengths >> 40 & 0xff) as usize, half(fixed, 8) as usize]
}

/// The size of a record, by its fixed bytes.
pub(crate) fn record_size(fixed: &[u8]) -> u64 {
    RECORD as u64 + lengths(fixed).iter().map(|length| *length as u64).sum::<u64>()
}

/// The record with which these bytes begin, and its size.
pub(crate) fn record(bytes: &[u8]) -> Option<(Record, usize)> {
    let fixed = bytes.get(..RECORD)?;
    let [key, who, value] = lengths(fixed);
    let lengths = word(fixed, 0);
    let kind = match lengths >> 16 & 0xff {
        1 => Kind::Set,
        2 => Kind::Gone,
        3 => Kind::Cleared,
        _ => return None,
    };
    let mut at = RECORD;
    let mut take = |len: usize| {
        let part = bytes.get(at..at.checked_add(len)?)?;
        at += len;
        Some(part.to_vec())
    };
    let (key, who, value) = (take(key)?, take(who)?, take(value)?);
    let entry = SnapshotEntry {
        key,
        value,
        kind: (lengths >> 32) as u8,
        revision: word(fixed, 16),
        time: word(fixed, 24),
        who,
        expires: word(fixed, 32),
    };
    let has = |flag| lengths >> 24 & u64::from(flag) != 0;
    Some((Record { kind, is_cut: has(FLAG_CUT), is_old: has(FLAG_OLD), entry }, at))
}
