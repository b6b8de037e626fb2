//! Entries: a header of fixed words, optional words, key and value.
//!
//! ```text
//! | born | died | pred | value length 32, key length 16, kind 4, flags 4, who length 8 | time |
//! | deadline? | owner? | who, padded | key, padded | value, padded |
//! ```
//!
//! 1. `born` is 0 until FINISH stores the revision, and again before the room is given back.
//! 2. Between those, nothing but `died` changes.
//! 3. Lengths are checked against the entry's room whenever a header is read.

use crate::heap::{BlockWord, Room, Space};
use crate::region::layout::entry;
use crate::region::{BadRegion, Words};
use crate::sync::Ordering::{self, Relaxed};
use crate::word::{Name, Realm};

const BORN: usize = (entry::BORN / 8) as usize;
const DIED: usize = (entry::DIED / 8) as usize;
const PRED: usize = (entry::PRED / 8) as usize;
const META: usize = (entry::META / 8) as usize;
const TIME: usize = (entry::TIME / 8) as usize;
const FIXED: usize = (entry::FIXED / 8) as usize;

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
    /// It may take of the blocks that others leave: it makes room, or is there for a while.
    pub(crate) reserve: bool,
}

impl Note<'_> {
    /// Whether its entry belongs among the timed ones.
    pub(crate) fn is_timed(&self) -> bool {
        self.deadline != 0 || self.owner != 0
    }
}

/// The lengths and marks of an entry, and the words at which its parts begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) who_len: usize,
    pub(crate) key_len: usize,
    pub(crate) value_len: usize,
    who: usize,
    key: usize,
    value: usize,
    end: usize,
}

impl Header {
    #[inline]
    fn new(kind: u8, flags: u8, who_len: usize, key_len: usize, value_len: usize) -> Self {
        let who = FIXED + usize::from(flags & 1) + usize::from(flags >> 1 & 1);
        let key = who + who_len.div_ceil(8);
        let value = key + key_len.div_ceil(8);
        let end = value + value_len.div_ceil(8);
        Self { kind, flags, who_len, key_len, value_len, who, key, value, end }
    }
    #[inline]
    fn unpack(meta: u64) -> Self {
        Self::new(
            (meta >> 48 & 15) as u8,
            (meta >> 52 & 15) as u8,
            (meta >> 56) as usize,
            (meta >> 32 & 0xffff) as usize,
            (meta & 0xffff_ffff) as usize,
        )
    }
    fn pack(&self) -> u64 {
        self.value_len as u64
            | (self.key_len as u64) << 32
            | u64::from(self.kind) << 48
            | u64::from(self.flags) << 52
            | (self.who_len as u64) << 56
    }
    #[inline]
    fn of(name: Name<'_>, value: &[u8], note: &Note<'_>) -> Self {
        let deadline = if note.deadline == 0 { 0 } else { entry::FLAG_DEADLINE };
        let owner = if note.owner == 0 { 0 } else { entry::FLAG_OWNER };
        let lock = if name.realm == Realm::Keys { 0 } else { entry::FLAG_LOCK };
        let flags = deadline | owner | lock;
        Self::new(note.kind, flags, note.who.len(), name.bytes.len(), value.len())
    }
    /// To which realm its key belongs.
    #[inline]
    pub(crate) fn realm(&self) -> Realm {
        if self.flags & entry::FLAG_LOCK == 0 { Realm::Keys } else { Realm::Locks }
    }
    /// Whether a clear that made `cleared` its floor took an entry away that was born at `born`.
    #[inline]
    pub(crate) fn is_cleared(&self, born: u64, cleared: u64) -> bool {
        born < cleared && self.flags & entry::FLAG_LOCK == 0
    }
}

/// Bytes that an entry takes.
#[inline]
pub(crate) fn size_of(name: Name<'_>, value: &[u8], note: &Note<'_>) -> u64 {
    8 * Header::of(name, value, note).end as u64
}

/// An entry's room, as words.
#[derive(Debug, Clone)]
pub(crate) struct Entry<'r> {
    words: Words<'r>,
}

impl Entry<'_> {
    /// Where it stands.
    #[inline]
    pub(crate) fn at(&self) -> u64 {
        self.words.at()
    }
    #[inline]
    pub(crate) fn born(&self, order: Ordering) -> Result<u64, BadRegion> {
        self.words.load(BORN, order)
    }
    #[inline]
    pub(crate) fn died(&self, order: Ordering) -> Result<u64, BadRegion> {
        self.words.load(DIED, order)
    }
    #[inline]
    pub(crate) fn pred(&self) -> Result<u64, BadRegion> {
        self.words.load(PRED, Relaxed)
    }
    #[inline]
    pub(crate) fn time(&self) -> Result<u64, BadRegion> {
        self.words.load(TIME, Relaxed)
    }

    /// Its lengths, checked against its room.
    #[inline]
    pub(crate) fn header(&self) -> Result<Header, BadRegion> {
        let meta = self.words.load(META, Relaxed)?;
        let header = Header::unpack(meta);
        if header.end > self.words.len() {
            let offset = self.at() + entry::META;
            return Err(BadRegion::new(offset, meta, "lengths inside its room"));
        }
        Ok(header)
    }

    /// `CLOCK_BOOTTIME` nanoseconds at which it expires, or 0.
    #[inline]
    pub(crate) fn deadline(&self, header: &Header) -> Result<u64, BadRegion> {
        if header.flags & entry::FLAG_DEADLINE == 0 {
            return Ok(0);
        }
        self.words.load(FIXED, Relaxed)
    }

    /// The member that it vanishes with, or 0.
    #[inline]
    pub(crate) fn owner(&self, header: &Header) -> Result<u64, BadRegion> {
        if header.flags & entry::FLAG_OWNER == 0 {
            return Ok(0);
        }
        let skip = usize::from(header.flags & entry::FLAG_DEADLINE != 0);
        self.words.load(FIXED + skip, Relaxed)
    }

    /// Whether its key is this one.
    #[inline]
    pub(crate) fn has_key(&self, header: &Header, name: Name<'_>) -> Result<bool, BadRegion> {
        Ok(header.key_len == name.bytes.len()
            && header.realm() == name.realm
            && self.words.part(header.key, header.key_len)?.equals(name.bytes))
    }

    pub(crate) fn copy_who(&self, header: &Header, into: &mut Vec<u8>) -> Result<(), BadRegion> {
        self.copy(header.who, header.who_len, into)
    }
    pub(crate) fn copy_key(&self, header: &Header, into: &mut Vec<u8>) -> Result<(), BadRegion> {
        self.copy(header.key, header.key_len, into)
    }
    /// Its key, and the realm it belongs to.
    pub(crate) fn key(&self, header: &Header) -> Result<(Realm, Vec<u8>), BadRegion> {
        let mut key = Vec::new();
        self.copy_key(header, &mut key)?;
        Ok((header.realm(), key))
    }
    #[inline]
    pub(crate) fn copy_value(&self, header: &Header, into: &mut Vec<u8>) -> Result<(), BadRegion> {
        self.copy(header.value, header.value_len, into)
    }

    #[inline]
    fn copy(&self, from: usize, len: usize, into: &mut Vec<u8>) -> Result<(), BadRegion> {
        self.words.part(from, len)?.copy_into(len, into);
        Ok(())
    }

    /// The first word of its value: a counter's number.
    pub(crate) fn number(&self, header: &Header) -> Result<i64, BadRegion> {
        Ok(self.words.load(header.value, Relaxed)?.cast_signed())
    }

    /// Where the bytes of its value stand in the region.
    pub(crate) fn value_at(&self, header: &Header) -> u64 {
        self.at() + 8 * header.value as u64
    }

    /// Fills it; it is occupied and unborn.
    pub(crate) fn fill(
        &self,
        pred: u64,
        name: Name<'_>,
        value: &[u8],
        note: &Note<'_>,
    ) -> Result<(), BadRegion> {
        let header = Header::of(name, value, note);
        self.words.store(PRED, pred, Relaxed)?;
        self.words.store(META, header.pack(), Relaxed)?;
        self.words.store(TIME, note.time, Relaxed)?;
        let mut optional = FIXED;
        for word in [note.deadline, note.owner] {
            if word != 0 {
                self.words.store(optional, word, Relaxed)?;
                optional += 1;
            }
        }
        let parts = [(header.who, note.who), (header.key, name.bytes), (header.value, value)];
        for (at, bytes) in parts {
            if !bytes.is_empty() {
                self.words.part(at, bytes.len())?.write(bytes);
            }
        }
        Ok(())
    }

    /// Stores `born` or `died`, outside of a commit: for loading, sweeping and repair.
    pub(crate) fn set_born(&self, revision: u64) -> Result<(), BadRegion> {
        self.words.store(BORN, revision, Ordering::Release)
    }
    /// As [`set_born`](Self::set_born).
    pub(crate) fn set_died(&self, revision: u64) -> Result<(), BadRegion> {
        self.words.store(DIED, revision, Ordering::Release)
    }
}

impl Space {
    /// The entry in a room that was just allocated.
    #[inline]
    pub(crate) fn entry_in(&self, room: Room) -> Result<Entry<'_>, BadRegion> {
        Ok(Entry { words: self.region.words(room.at, room.size)? })
    }

    /// The entry at `at` in a block with this number and word.
    #[inline(always)]
    pub(crate) fn entry_of(
        &self,
        at: u64,
        block: u64,
        word: BlockWord,
    ) -> Result<Entry<'_>, BadRegion> {
        Ok(Entry { words: self.region.words(at, self.room_at(at, block, word)?)? })
    }

    /// The entry at `at`, by its block's word as it is now.
    #[inline]
    pub(crate) fn entry(&self, at: u64) -> Result<Entry<'_>, BadRegion> {
        let block = self.geometry.block_of(at)?;
        self.entry_of(at, block, self.block_word(block)?)
    }
}
