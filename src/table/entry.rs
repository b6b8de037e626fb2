//! Entries: a header of fixed words, optional words, key and value.
//!
//! ```text
//! | born | died | pred | value length 32, key length 16, kind 4, flags 4, who length 8 | time |
//! | deadline? | owner? | who, padded | key, padded | value, padded |
//! ```
//!
//! 1. `born` is 0 until FINISH stores the revision, and again before the room is given back.
//! 2. Between those, nothing but `died` changes.

use crate::heap::Space;
use crate::region::BadRegion;
use crate::region::geometry::align;
use crate::region::layout::entry;
use crate::sync::Ordering::Relaxed;

/// What an entry says of itself beyond its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Note<'a> {
    pub(crate) kind: u8,
    /// Wall-clock time of the change in nanoseconds since 1970.
    pub(crate) time: u64,
    /// `CLOCK_BOOTTIME` in nanoseconds at which it expires; 0: never.
    pub(crate) deadline: u64,
    /// Member that it vanishes with: generation << 16 | slot + 1; 0: none.
    pub(crate) owner: u64,
    pub(crate) who: &'a [u8],
}

/// The header of an entry, and where its bytes stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) at: u64,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) who_len: u64,
    pub(crate) key_len: u64,
    pub(crate) value_len: u64,
}

impl Header {
    fn unpack(at: u64, meta: u64) -> Self {
        Self {
            at,
            value_len: meta & 0xffff_ffff,
            key_len: meta >> 32 & 0xffff,
            kind: (meta >> 48 & 15) as u8,
            flags: (meta >> 52 & 15) as u8,
            who_len: meta >> 56,
        }
    }
    fn pack(&self) -> u64 {
        self.value_len
            | self.key_len << 32
            | u64::from(self.kind) << 48
            | u64::from(self.flags) << 52
            | self.who_len << 56
    }
    fn optional(&self) -> u64 {
        8 * u64::from((self.flags & 3).count_ones())
    }
    fn who(&self) -> u64 {
        self.at + entry::FIXED + self.optional()
    }
    pub(crate) fn key(&self) -> u64 {
        self.who() + align(self.who_len, 8)
    }
    pub(crate) fn value(&self) -> u64 {
        self.key() + align(self.key_len, 8)
    }
    /// Bytes from the entry's start to its end.
    pub(crate) fn size(&self) -> u64 {
        self.value() + align(self.value_len, 8) - self.at
    }
}

/// Bytes that an entry takes.
pub(crate) fn size_of(key: &[u8], value: &[u8], note: &Note<'_>) -> u64 {
    header_for(0, key, value, note).size()
}

fn header_for(at: u64, key: &[u8], value: &[u8], note: &Note<'_>) -> Header {
    let deadline = if note.deadline == 0 { 0 } else { entry::FLAG_DEADLINE };
    let owner = if note.owner == 0 { 0 } else { entry::FLAG_OWNER };
    Header {
        at,
        kind: note.kind,
        flags: deadline | owner,
        who_len: note.who.len() as u64,
        key_len: key.len() as u64,
        value_len: value.len() as u64,
    }
}

impl Space {
    /// Fills an entry that is occupied and unborn.
    pub(crate) fn fill(
        &self,
        at: u64,
        pred: u64,
        key: &[u8],
        value: &[u8],
        note: &Note<'_>,
    ) -> Result<(), BadRegion> {
        let header = header_for(at, key, value, note);
        self.region.store(at + entry::DIED, 0, Relaxed)?;
        self.region.store(at + entry::PRED, pred, Relaxed)?;
        self.region.store(at + entry::META, header.pack(), Relaxed)?;
        self.region.store(at + entry::TIME, note.time, Relaxed)?;
        let mut optional = at + entry::FIXED;
        for word in [note.deadline, note.owner] {
            if word != 0 {
                self.region.store(optional, word, Relaxed)?;
                optional += 8;
            }
        }
        if !note.who.is_empty() {
            self.region.write(header.who(), note.who)?;
        }
        self.region.write(header.key(), key)?;
        if !value.is_empty() {
            self.region.write(header.value(), value)?;
        }
        Ok(())
    }

    /// Reads an entry's header; its lengths are checked against `room` bytes.
    #[inline]
    pub(crate) fn header(&self, at: u64, room: u64) -> Result<Header, BadRegion> {
        let meta = self.region.load(at + entry::META, Relaxed)?;
        let header = Header::unpack(at, meta);
        if header.size() > room {
            return Err(BadRegion { offset: at, found: meta, expected: "lengths inside its room" });
        }
        Ok(header)
    }

    /// `CLOCK_BOOTTIME` nanoseconds at which it expires, or 0.
    #[inline]
    pub(crate) fn deadline(&self, header: &Header) -> Result<u64, BadRegion> {
        if header.flags & entry::FLAG_DEADLINE == 0 {
            return Ok(0);
        }
        self.region.load(header.at + entry::FIXED, Relaxed)
    }

    /// The member that it vanishes with, or 0.
    pub(crate) fn entry_owner(&self, header: &Header) -> Result<u64, BadRegion> {
        if header.flags & entry::FLAG_OWNER == 0 {
            return Ok(0);
        }
        let skip = if header.flags & entry::FLAG_DEADLINE == 0 { 0 } else { 8 };
        self.region.load(header.at + entry::FIXED + skip, Relaxed)
    }

    pub(crate) fn who(&self, header: &Header) -> Result<Vec<u8>, BadRegion> {
        let mut who = Vec::new();
        self.region.read_into(header.who(), header.who_len, &mut who)?;
        Ok(who)
    }

    pub(crate) fn time(&self, header: &Header) -> Result<u64, BadRegion> {
        self.region.load(header.at + entry::TIME, Relaxed)
    }
}
