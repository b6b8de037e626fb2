//! Checked atomic words over the bytes that processes share.
//!
//! ```text
//! | header | block words | stripes | members | pinned | asleep | watches | log index | log | blocks ... |
//! ```
//!
//! 1. Every access is bounds-checked against the size that this process asked the kernel for, and
//!    aligned; anything else is [`BadRegion`], whatever a word held.
//! 2. Bytes that another process may be overwriting are only touched as relaxed atomic words.
//! 3. Every store passes [`hook`]: a test stops the program after the n-th one.
//!
//! A death inside leaves a prefix of the stores; what that means is said where protocols use them.
#![cfg_attr(not(loom), expect(unsafe_code, reason = "hands the caller's word on to `memory`"))]

pub(crate) mod geometry;
pub(crate) mod layout;
mod memory;
mod words;

use crate::hook;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A word of the region that makes no sense, or an access outside of it.
///
/// It is one pointer, since nearly every function here may answer with it, and nearly none does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRegion(Box<BadWord>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct BadWord {
    offset: u64,
    found: u64,
    expected: &'static str,
}

impl BadRegion {
    #[cold]
    pub(crate) fn new(offset: u64, found: u64, expected: &'static str) -> Self {
        Self(Box::new(BadWord { offset, found, expected }))
    }
    /// Where in the region, in bytes from its start.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.0.offset
    }
    /// The word that was found there.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.0.found
    }
    /// What belongs there.
    #[must_use]
    pub fn expected(&self) -> &'static str {
        self.0.expected
    }
}

impl std::fmt::Display for BadRegion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let BadWord { offset, found, expected } = &*self.0;
        write!(
            f,
            "the region is damaged: at offset {offset} stands {found:#x}, expected {expected}"
        )
    }
}

impl std::error::Error for BadRegion {}

/// Asks how many bytes of the file may be touched by now.
pub(crate) trait Extent: Send + Sync + std::fmt::Debug {
    /// The file's size in bytes as the kernel tells it.
    fn size(&self) -> u64;
}

pub(crate) use memory::Memory;
#[cfg(not(loom))]
pub(crate) use words::Line;
pub(crate) use words::Words;

/// The region: words and bytes at offsets.
#[derive(Debug)]
pub(crate) struct Region {
    memory: Memory,
}

/// What an access outside of the region is told.
#[cold]
fn outside(at: u64) -> BadRegion {
    BadRegion::new(at, at, "an aligned offset inside the region")
}

impl Region {
    pub(crate) fn new(memory: Memory) -> Self {
        Self { memory }
    }

    /// All words as they stand. Nobody stores meanwhile.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn copy(&self) -> std::sync::Arc<[AtomicU64]> {
        self.memory.copy()
    }

    /// Writes the first `len` bytes to the disk, where they have one.
    #[cfg(not(loom))]
    pub(crate) fn sync(&self, len: u64) -> std::io::Result<()> {
        self.memory.sync(len)
    }

    /// Whether this process may store to it.
    pub(crate) fn writable(&self) -> bool {
        self.memory.writable()
    }

    /// So many of `size` bytes as the kernel says are there.
    pub(crate) fn confirmed(&self, size: u64) -> u64 {
        self.memory.confirmed(size)
    }

    #[inline]
    fn word(&self, at: u64) -> Result<&AtomicU64, BadRegion> {
        self.memory.word(at).ok_or_else(|| outside(at))
    }

    /// The lock word at `at`, for the lock alone.
    #[inline]
    pub(crate) fn half(&self, at: u64) -> Result<&AtomicU32, BadRegion> {
        hook::turn();
        self.memory.half(at).ok_or_else(|| outside(at))
    }

    #[inline]
    pub(crate) fn load(&self, at: u64, order: Ordering) -> Result<u64, BadRegion> {
        hook::turn();
        Ok(self.word(at)?.load(order))
    }

    /// A word that counts up from something small and can't come near its end: revisions, log
    /// positions. Whoever adds to it needs no look at an overflow.
    #[inline]
    pub(crate) fn load_count(&self, at: u64, order: Ordering) -> Result<u64, BadRegion> {
        let count = self.load(at, order)?;
        if count >> 63 == 0 { Ok(count) } else { Err(BadRegion::new(at, count, "a count so far")) }
    }

    #[inline]
    pub(crate) fn store(&self, at: u64, value: u64, order: Ordering) -> Result<(), BadRegion> {
        let word = self.word(at)?;
        if hook::step() {
            word.store(value, order);
        }
        Ok(())
    }

    /// Compare-and-swap: what was there, and whether it was replaced.
    #[inline]
    pub(crate) fn exchange(
        &self,
        at: u64,
        old: u64,
        new: u64,
        order: Ordering,
    ) -> Result<Result<u64, u64>, BadRegion> {
        let word = self.word(at)?;
        if !hook::step() {
            return Ok(Err(word.load(Ordering::Relaxed)));
        }
        Ok(word.compare_exchange(old, new, order, Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn add(&self, at: u64, by: u64, order: Ordering) -> Result<u64, BadRegion> {
        let word = self.word(at)?;
        Ok(if hook::step() { word.fetch_add(by, order) } else { 0 })
    }

    #[inline]
    pub(crate) fn set_bits(&self, at: u64, bits: u64, order: Ordering) -> Result<u64, BadRegion> {
        let word = self.word(at)?;
        Ok(if hook::step() { word.fetch_or(bits, order) } else { 0 })
    }

    #[inline]
    pub(crate) fn clear_bits(&self, at: u64, bits: u64, order: Ordering) -> Result<u64, BadRegion> {
        let word = self.word(at)?;
        Ok(if hook::step() { word.fetch_and(!bits, order) } else { 0 })
    }

    /// Asks for the cache line at `at` ahead of its use; nothing when it lies outside.
    #[inline]
    pub(crate) fn prefetch(&self, at: u64) {
        self.memory.prefetch(at);
    }

    /// The words of `len` bytes from `at` on.
    #[inline]
    pub(crate) fn words(&self, at: u64, len: u64) -> Result<Words<'_>, BadRegion> {
        #[cfg(not(loom))]
        let run = self.memory.words(at, len).ok_or_else(|| outside(at))?;
        #[cfg(loom)]
        let run = (0..len.div_ceil(8)).map(|i| self.word(at + 8 * i)).collect::<Result<_, _>>()?;
        Ok(Words::new(at, run))
    }

    /// The line at `at`.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn line(&self, at: u64) -> Option<Line<'_>> {
        Line::of(self.memory.words(at, layout::LINE)?)
    }

    /// Appends `len` bytes from `at` to `into`.
    #[inline]
    pub(crate) fn read_into(&self, at: u64, len: u64, into: &mut Vec<u8>) -> Result<(), BadRegion> {
        self.words(at, len)?.copy_into(len as usize, into);
        Ok(())
    }

    /// Whether the bytes at `at` are `bytes`.
    #[inline]
    pub(crate) fn equals(&self, at: u64, bytes: &[u8]) -> Result<bool, BadRegion> {
        Ok(self.words(at, bytes.len() as u64)?.equals(bytes))
    }

    /// Writes bytes, padded with zeros to whole words.
    #[inline]
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> Result<(), BadRegion> {
        self.words(at, bytes.len() as u64)?.write(bytes);
        Ok(())
    }

    /// Zeroes `len` bytes (a multiple of 8).
    pub(crate) fn zero(&self, at: u64, len: u64) -> Result<(), BadRegion> {
        self.words(at, len)?.zero();
        Ok(())
    }

    /// Plain bytes of a pinned entry.
    ///
    /// # Safety
    /// Nobody writes these bytes as long as the slice lives.
    #[cfg(not(loom))]
    pub(crate) unsafe fn bytes(&self, at: u64, len: u64) -> Result<&[u8], BadRegion> {
        // SAFETY: the caller's word.
        let bytes = unsafe { self.memory.bytes(at, len) };
        bytes.ok_or_else(|| outside(at))
    }
}
