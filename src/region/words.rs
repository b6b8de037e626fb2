//! Runs of words that were checked once.
#![cfg_attr(not(loom), expect(unsafe_code, reason = "says that bytes it wrote are there"))]

use super::{AtomicU64, BadRegion, Ordering, outside};
use crate::hook;
use std::borrow::Borrow;

#[cfg(not(loom))]
pub(super) type WordRun<'r> = &'r [AtomicU64];
#[cfg(loom)]
pub(super) type WordRun<'r> = Vec<&'r AtomicU64>;

#[cfg(not(loom))]
fn all<'a>(run: &'a WordRun<'_>) -> &'a [AtomicU64] {
    run
}
#[cfg(loom)]
fn all<'a, 'r>(run: &'a WordRun<'r>) -> &'a [&'r AtomicU64] {
    run
}

/// A run of words that lies inside the region: checked once, then used by index. An index beyond
/// its end is [`BadRegion`], as any access outside is.
#[derive(Debug, Clone)]
pub(crate) struct Words<'r> {
    at: u64,
    run: WordRun<'r>,
}

impl<'r> Words<'r> {
    /// A run that was found to lie inside the region.
    #[inline]
    pub(super) fn new(at: u64, run: WordRun<'r>) -> Self {
        Self { at, run }
    }

    /// Words of this process, used like those of a region.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn local(run: &'r [AtomicU64]) -> Self {
        Self { at: 0, run }
    }

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
        hook::turn();
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

    #[inline]
    pub(crate) fn add(&self, index: usize, by: u64, order: Ordering) -> Result<u64, BadRegion> {
        let word = self.word(index)?;
        Ok(if hook::step() { word.fetch_add(by, order) } else { 0 })
    }

    /// Compare-and-swap: whether the word was replaced.
    pub(crate) fn exchange(&self, index: usize, old: u64, new: u64) -> Result<bool, BadRegion> {
        let word = self.word(index)?;
        let relaxed = Ordering::Relaxed;
        Ok(hook::step() && word.compare_exchange(old, new, relaxed, relaxed).is_ok())
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
        hook::turn();
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

    /// Appends the first `len` bytes to `into`, read word by word. A schedule may turn before it and
    /// half-way.
    #[inline]
    pub(crate) fn copy_into(&self, len: usize, into: &mut Vec<u8>) {
        let (start, words) = (into.len(), all(&self.run));
        let (first, second) = words.split_at(if cfg!(test) { words.len() / 2 } else { 0 });
        if !first.is_empty() {
            hook::turn();
            copy::append(first, into);
        }
        hook::turn();
        copy::append(second, into);
        into.truncate(start + len);
    }

    /// Writes bytes from its beginning, padded with zeros to whole words. Two steps for the hook:
    /// half, and all. What does not fit is left out.
    #[inline]
    pub(crate) fn write(&self, bytes: &[u8]) {
        if cfg!(not(test)) {
            return store_words(all(&self.run), bytes);
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

/// A line of words that was checked once: one pointer, so that it stays in a register where a run of words
/// would be stored and loaded again.
#[cfg(not(loom))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'r>(&'r [AtomicU64; 8]);

#[cfg(not(loom))]
impl<'r> Line<'r> {
    /// The line that a run of words is: `None` when it has another length.
    #[inline]
    pub(crate) fn of(run: &'r [AtomicU64]) -> Option<Self> {
        run.try_into().ok().map(Self)
    }

    /// Adds to a word that nobody else writes; gives what it was.
    #[inline]
    pub(crate) fn add_alone(self, index: usize, by: u64) -> u64 {
        let Some(word) = self.0.get(index) else { return 0 };
        let before = word.load(Ordering::Relaxed);
        if hook::step() {
            word.store(before.wrapping_add(by), Ordering::Relaxed);
        }
        before
    }

    /// Adds to a word that others add to as well; gives what it was.
    #[inline]
    pub(crate) fn add(self, index: usize, by: u64) -> u64 {
        match self.0.get(index) {
            Some(word) if hook::step() => word.fetch_add(by, Ordering::Relaxed),
            _ => 0,
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
