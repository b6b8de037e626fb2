//! Checked atomic words over the bytes that processes share.
//!
//! ```text
//! | header | block words | stripes | members | watches | log index | log | blocks ... |
//! ```
//!
//! 1. Every access is bounds-checked against the size that this process asked the kernel for, and
//!    aligned; anything else is [`BadRegion`], whatever a word held.
//! 2. Bytes that another process may be overwriting are only touched as relaxed atomic words.
//! 3. Every store passes [`hook`]: a test stops the program after the n-th one.
//!
//! A death inside leaves a prefix of the stores; what that means is said where protocols use them.
#![cfg_attr(not(loom), expect(unsafe_code, reason = "turns checked offsets into atomic words"))]

pub(crate) mod geometry;
pub(crate) mod hook;
pub(crate) mod layout;

use crate::sync::{AtomicU32, AtomicU64, Ordering};
use std::borrow::Borrow;

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

#[cfg(not(loom))]
mod memory {
    use super::{AtomicU32, AtomicU64, Extent, Ordering};

    /// The bytes behind a region.
    #[derive(Debug)]
    pub(crate) struct Memory {
        base: *mut u8,
        /// Bytes that are mapped and backed by the file, as far as this process has asked.
        known: AtomicU64,
        mapped: u64,
        writable: bool,
        extent: Option<Box<dyn Extent>>,
        _keep: Keep,
    }

    /// What keeps the bytes alive.
    #[derive(Debug)]
    enum Keep {
        Map(#[expect(dead_code, reason = "held for its Drop")] crate::sys::map::Mapping),
        #[cfg(test)]
        Heap(#[expect(dead_code, reason = "held for its Drop")] Box<[AtomicU64]>),
    }

    // SAFETY: the bytes are only touched as atomics, and `Keep` lives as long as `base`.
    unsafe impl Send for Memory {}
    // SAFETY: as above.
    unsafe impl Sync for Memory {}

    impl Memory {
        pub(crate) fn map(
            map: crate::sys::map::Mapping,
            writable: bool,
            extent: Box<dyn Extent>,
        ) -> Self {
            let (base, mapped) = (map.as_ptr(), map.len() as u64);
            let known = AtomicU64::new(extent.size().min(mapped));
            Self { base, known, mapped, writable, extent: Some(extent), _keep: Keep::Map(map) }
        }

        #[cfg(test)]
        pub(crate) fn heap(words: Box<[AtomicU64]>) -> Self {
            let size = words.len() as u64 * 8;
            let base = words.as_ptr().cast_mut().cast::<u8>();
            Self {
                base,
                known: AtomicU64::new(size),
                mapped: size,
                writable: true,
                extent: None,
                _keep: Keep::Heap(words),
            }
        }

        pub(crate) fn writable(&self) -> bool {
            self.writable
        }

        pub(crate) fn known(&self) -> u64 {
            self.known.load(Ordering::Relaxed)
        }

        /// Invariant: `at + 8 <= mapped` and the file reaches there, or `None`.
        #[inline]
        fn inside(&self, at: u64, align: u64, len: u64) -> bool {
            if !at.is_multiple_of(align) {
                return false;
            }
            match at.checked_add(len) {
                Some(end) if end <= self.known.load(Ordering::Relaxed) => true,
                Some(end) => self.grown(end),
                None => false,
            }
        }

        #[cold]
        fn grown(&self, end: u64) -> bool {
            let Some(extent) = &self.extent else { return false };
            if end > self.mapped {
                return false;
            }
            let size = extent.size().min(self.mapped);
            self.known.fetch_max(size, Ordering::Relaxed);
            end <= size
        }

        #[inline]
        pub(crate) fn word(&self, at: u64) -> Option<&AtomicU64> {
            if !self.inside(at, 8, 8) {
                return None;
            }
            // SAFETY: `inside` says that `at` lies in the mapping, which starts at `base`.
            let place = unsafe { self.base.add(at as usize) };
            // SAFETY: in bounds and aligned (invariant 1), alive as long as `self`, and all
            // accesses by anyone are atomic (invariant 2).
            Some(unsafe { AtomicU64::from_ptr(place.cast()) })
        }

        #[inline]
        pub(crate) fn half(&self, at: u64) -> Option<&AtomicU32> {
            if !self.inside(at, 8, 8) {
                return None;
            }
            // SAFETY: `inside` says that `at` lies in the mapping, which starts at `base`.
            let place = unsafe { self.base.add(at as usize) };
            // SAFETY: as in `word`; locks are only ever touched as 32-bit words.
            Some(unsafe { AtomicU32::from_ptr(place.cast()) })
        }

        /// The words of `len` bytes from `at`.
        #[inline]
        pub(crate) fn words(&self, at: u64, len: u64) -> Option<&[AtomicU64]> {
            let count = len.div_ceil(8);
            if !self.inside(at, 8, count.checked_mul(8)?) {
                return None;
            }
            // SAFETY: `inside` says that `at` lies in the mapping, which starts at `base`.
            let place = unsafe { self.base.add(at as usize) };
            // SAFETY: in bounds for all words and aligned (invariant 1), alive as long as `self`;
            // atomics may be shared.
            Some(unsafe { std::slice::from_raw_parts(place.cast::<AtomicU64>(), count as usize) })
        }

        /// Plain bytes, for a guard over a pinned entry.
        ///
        /// # Safety
        /// Nobody writes these bytes as long as the slice lives.
        pub(crate) unsafe fn bytes(&self, at: u64, len: u64) -> Option<&[u8]> {
            if !self.inside(at, 8, len) {
                return None;
            }
            // SAFETY: `inside` says that `at` lies in the mapping, which starts at `base`.
            let place = unsafe { self.base.add(at as usize) };
            // SAFETY: in bounds; the caller vouches that nobody writes them.
            Some(unsafe { std::slice::from_raw_parts(place, len as usize) })
        }

        /// Asks the kernel's prefetcher for the line at `at`; a hint, never an access.
        #[inline]
        pub(crate) fn prefetch(&self, at: u64) {
            #[cfg(target_arch = "x86_64")]
            if at < self.known.load(Ordering::Relaxed) {
                // SAFETY: in bounds of the mapping.
                let place = unsafe { self.base.add(at as usize) };
                // SAFETY: a prefetch has no effect on memory and needs no valid address.
                unsafe {
                    std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(
                        place.cast(),
                    );
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = at;
        }
    }
}

#[cfg(loom)]
mod memory {
    use super::{AtomicU32, AtomicU64};
    use std::collections::BTreeMap;

    /// A few words at chosen offsets, each a loom atomic.
    #[derive(Debug, Default)]
    pub(crate) struct Memory {
        words: BTreeMap<u64, AtomicU64>,
        halves: BTreeMap<u64, AtomicU32>,
    }

    impl Memory {
        pub(crate) fn of(words: &[(u64, u64)], halves: &[u64]) -> Self {
            Self {
                words: words.iter().map(|(at, value)| (*at, AtomicU64::new(*value))).collect(),
                halves: halves.iter().map(|at| (*at, AtomicU32::new(0))).collect(),
            }
        }
        pub(crate) fn writable(&self) -> bool {
            true
        }
        pub(crate) fn known(&self) -> u64 {
            u64::MAX
        }
        pub(crate) fn word(&self, at: u64) -> Option<&AtomicU64> {
            self.words.get(&at)
        }
        pub(crate) fn half(&self, at: u64) -> Option<&AtomicU32> {
            self.halves.get(&at)
        }
        pub(crate) fn prefetch(&self, _: u64) {}
    }
}

pub(crate) use memory::Memory;

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

#[cfg(not(loom))]
type WordRun<'r> = &'r [AtomicU64];
#[cfg(loom)]
type WordRun<'r> = Vec<&'r AtomicU64>;

/// A run of words that lies inside the region: checked once, then used by index. An index beyond
/// its end is [`BadRegion`], as any access outside is.
#[derive(Debug, Clone)]
pub(crate) struct Words<'r> {
    at: u64,
    run: WordRun<'r>,
}

impl Words<'_> {
    /// Where it begins in the region.
    #[inline]
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// How many words there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.run.len()
    }

    #[inline]
    fn word(&self, index: usize) -> Result<&AtomicU64, BadRegion> {
        match self.run.get(index) {
            Some(word) => Ok(plain(word)),
            None => Err(outside(self.at + 8 * index as u64)),
        }
    }

    #[inline]
    pub(crate) fn load(&self, index: usize, order: Ordering) -> Result<u64, BadRegion> {
        Ok(self.word(index)?.load(order))
    }

    #[inline]
    pub(crate) fn store(&self, index: usize, value: u64, order: Ordering) -> Result<(), BadRegion> {
        let word = self.word(index)?;
        if hook::step() {
            word.store(value, order);
        }
        Ok(())
    }

    /// `len` bytes from word `index` on, as a run of its own.
    #[inline]
    pub(crate) fn part(&self, index: usize, len: usize) -> Result<Words<'_>, BadRegion> {
        let at = self.at + 8 * index as u64;
        let end = index.checked_add(len.div_ceil(8)).ok_or_else(|| outside(at))?;
        #[cfg(not(loom))]
        let run = self.run.get(index..end);
        #[cfg(loom)]
        let run = self.run.get(index..end).map(<[_]>::to_vec);
        Ok(Words { at, run: run.ok_or_else(|| outside(at))? })
    }

    /// Whether the bytes it begins with are `bytes`.
    #[inline]
    pub(crate) fn equals(&self, bytes: &[u8]) -> bool {
        let mut words = self.run.iter();
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let Some(word) = words.next() else { return false };
            if word.load(Ordering::Relaxed).to_le_bytes() != chunk {
                return false;
            }
        }
        let rest = chunks.remainder();
        rest.is_empty()
            || words.next().is_some_and(|word| {
                word.load(Ordering::Relaxed).to_le_bytes().get(..rest.len()) == Some(rest)
            })
    }

    /// Appends the first `len` bytes to `into`, read word by word.
    #[inline]
    pub(crate) fn copy_into(&self, len: usize, into: &mut Vec<u8>) {
        let start = into.len();
        copy::append(&self.run, into);
        into.truncate(start + len);
    }

    /// Writes bytes from its beginning, padded with zeros to whole words. Two steps for the hook:
    /// half, and all. What does not fit is left out.
    #[inline]
    pub(crate) fn write(&self, bytes: &[u8]) {
        if cfg!(not(test)) {
            return store_words(&self.run, bytes);
        }
        let half = (bytes.len() / 16 * 8).min(8 * self.run.len());
        let (first, second) = bytes.split_at(half);
        if hook::step() {
            store_words(&self.run[..half / 8], first);
        }
        if hook::step() {
            store_words(&self.run[half / 8..], second);
        }
    }

    /// Zeroes all of it. Two steps for the hook: half, and all.
    pub(crate) fn zero(&self) {
        let (first, second) = self.run.split_at(self.run.len() / 2);
        for part in [first, second] {
            if hook::step() {
                part.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            }
        }
    }
}

/// Copies of words as bytes.
#[cfg(not(loom))]
mod copy {
    use super::{AtomicU64, Ordering};

    /// Appends the words' bytes: one load and one store a word, since whoever copied them as
    /// bytes would race with a writer.
    #[inline]
    pub(super) fn append(words: &[AtomicU64], into: &mut Vec<u8>) {
        into.reserve(8 * words.len());
        let room = into.spare_capacity_mut();
        for (word, place) in words.iter().zip(room.chunks_exact_mut(8)) {
            place.write_copy_of_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        let len = into.len() + 8 * words.len();
        // SAFETY: `reserve` made the room, and the loop wrote 8 bytes for each word: as many chunks
        // fit into it as there are words.
        unsafe { into.set_len(len) };
    }
}

#[cfg(loom)]
mod copy {
    use super::{AtomicU64, Ordering};

    pub(super) fn append(words: &[&AtomicU64], into: &mut Vec<u8>) {
        for word in words {
            into.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
    }
}

impl Region {
    pub(crate) fn new(memory: Memory) -> Self {
        Self { memory }
    }

    /// Whether this process may store to it.
    pub(crate) fn writable(&self) -> bool {
        self.memory.writable()
    }

    /// Bytes of the file that this process knows to be there.
    pub(crate) fn known_size(&self) -> u64 {
        self.memory.known()
    }

    #[inline]
    fn word(&self, at: u64) -> Result<&AtomicU64, BadRegion> {
        self.memory.word(at).ok_or_else(|| outside(at))
    }

    /// The lock word at `at`, for the lock alone.
    #[inline]
    pub(crate) fn half(&self, at: u64) -> Result<&AtomicU32, BadRegion> {
        self.memory.half(at).ok_or_else(|| outside(at))
    }

    #[inline]
    pub(crate) fn load(&self, at: u64, order: Ordering) -> Result<u64, BadRegion> {
        Ok(self.word(at)?.load(order))
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
        Ok(Words { at, run })
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

/// The word behind a run's element, which under loom is a reference.
#[inline]
fn plain<W: Borrow<AtomicU64>>(word: &W) -> &AtomicU64 {
    word.borrow()
}

#[inline]
fn store_words<W: Borrow<AtomicU64>>(words: &[W], bytes: &[u8]) {
    let mut chunks = bytes.chunks_exact(8);
    let mut words = words.iter();
    for (chunk, word) in (&mut chunks).zip(&mut words) {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        word.borrow().store(u64::from_le_bytes(eight), Ordering::Relaxed);
    }
    let rest = chunks.remainder();
    if let (false, Some(word)) = (rest.is_empty(), words.next()) {
        let mut eight = [0; 8];
        eight[..rest.len()].copy_from_slice(rest);
        word.borrow().store(u64::from_le_bytes(eight), Ordering::Relaxed);
    }
}
