//! Blocks: the heap's unit, and the runs of them that stripes claim.
//!
//! ```text
//! block word   | state 4 | class 8 | stripe 12 | distance 8 | generation 32 |   one a block
//! ```
//!
//! 1. A block that is not free belongs to one stripe; only the holder of that stripe's lock changes
//!    its word. A free one is claimed by compare-and-swap, so no lock for the whole heap exists.
//! 2. A span counts from the moment its first block's word says `HEAD`, the last store of its
//!    making; from the first store of its end on its blocks are just claimed.
//! 3. A block's generation rises before its bytes mean something else.
//!
//! A death leaves claimed blocks of no span, in a stripe whose lock names the dead: REPAIR frees
//! them (`docs/design.md`).

use super::{Space, class};
use crate::region::BadRegion;
use crate::region::layout::{header, span};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::fence;

/// State of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    Claimed,
    Head,
    Tail,
}

/// A block's word, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockWord(pub(crate) u64);

impl BlockWord {
    pub(super) fn new(
        state: State,
        class: u64,
        stripe: u64,
        distance: u64,
        generation: u64,
    ) -> Self {
        let state = state as u64;
        Self(state | class << 4 | stripe << 12 | distance.min(255) << 24 | generation << 32)
    }
    pub(crate) fn state(self) -> State {
        match self.0 & 15 {
            0 => State::Free,
            2 => State::Head,
            3 => State::Tail,
            _ => State::Claimed,
        }
    }
    #[inline]
    pub(crate) fn class(self) -> u64 {
        self.0 >> 4 & 0xff
    }
    pub(crate) fn stripe(self) -> u64 {
        self.0 >> 12 & 0xfff
    }
    pub(crate) fn distance(self) -> u64 {
        self.0 >> 24 & 0xff
    }
    pub(crate) fn generation(self) -> u64 {
        self.0 >> 32
    }
    /// Whether it belongs to a span.
    #[inline]
    pub(crate) fn is_span(self) -> bool {
        // `HEAD` or `TAIL`.
        self.0 & 14 == 2
    }
    /// Whether entries may stand in this block.
    pub(crate) fn holds_entries(self) -> bool {
        self.is_span() && !matches!(self.class(), class::ARRAY | class::LIST)
    }
}

/// No run of free blocks is long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom {
    pub(crate) blocks: u64,
}

/// Why the heap could not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeapError {
    NoRoom(NoRoom),
    Bad(BadRegion),
}

impl From<BadRegion> for HeapError {
    fn from(bad: BadRegion) -> Self {
        Self::Bad(bad)
    }
}

/// Spans, each by its first block and that one's word.
pub(crate) type Spans = Vec<(u64, BlockWord)>;

/// The spans of a stripe, some at a time. No lock is needed.
///
/// 1. It finds each span that is there all the while, and of those that come or go meanwhile some.
/// 2. For what it steps over was there at one moment: a block that was no first one of this stripe, or a whole span. So no span
///    that is there all the while lies in what was stepped over, and none is begun in its middle.
#[derive(Debug)]
pub(crate) struct Pieces {
    stripe: u64,
    /// Where the next piece begins.
    block: u64,
    is_over: bool,
}

impl Pieces {
    pub(crate) fn of(stripe: u64) -> Self {
        Self { stripe, block: 0, is_over: false }
    }

    /// Whether all of them were had.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The next spans, `most` at the most.
    pub(crate) fn next(&mut self, space: &Space, most: usize) -> Result<Spans, BadRegion> {
        let (mut spans, blocks) = (Spans::new(), space.blocks()?);
        while self.block < blocks && spans.len() < most {
            let span = (self.block, space.block_word(self.block)?);
            let mut length = None;
            if span.1.state() == State::Head && span.1.stripe() == self.stripe {
                length = space.look_in(span, || space.span_blocks(span.0))?;
            }
            if length.is_some() {
                spans.push(span);
            }
            self.block += length.unwrap_or(1);
        }
        self.is_over = self.block >= blocks;
        Ok(spans)
    }
}

impl Space {
    #[inline]
    pub(crate) fn block_word(&self, block: u64) -> Result<BlockWord, BadRegion> {
        // ORDERING: [block.word] Acquire; pairs with the Release stores in `set_block_word`.
        Ok(BlockWord(self.region.load(self.geometry.block_word(block), Acquire)?))
    }

    fn set_block_word(&self, block: u64, word: BlockWord) -> Result<(), BadRegion> {
        // ORDERING: [block.word] Release; pairs with the Acquire load in `block_word`.
        self.region.store(self.geometry.block_word(block), word.0, Release)
    }

    /// Blocks that the file holds by now, as far as the kernel confirms it.
    pub(crate) fn blocks(&self) -> Result<u64, BadRegion> {
        // ORDERING: [header.size] Acquire; pairs with the Release store of who grew the file. Relaxed
        // would do: the kernel confirms the size, and its pages are zero.
        let size = self.region.load(header::SIZE, Acquire)?;
        Ok(self.geometry.blocks_in(self.region.confirmed(size)))
    }

    /// The same without the reserve, which is never the whole: what makes room finds some there when all else is full.
    fn blocks_for_all(&self) -> Result<u64, BadRegion> {
        Ok(self.blocks()?.min(self.geometry.reserve_from()))
    }

    /// Claims a run of free blocks for `stripe`; first from the hint on, then from the start. Only who may take of the
    /// reserve gets the last blocks that the region can have.
    fn claim(&self, stripe: u64, class: u64, count: u64, reserve: bool) -> Result<u64, HeapError> {
        let (all, blocks) = (self.blocks()?, self.blocks_for_all()?);
        let hint = self.region.load(header::FREE_HINT, Relaxed)?.min(blocks);
        let before = (0, hint.saturating_add(count).min(blocks));
        // The reserve last of all.
        let last = if reserve { (blocks.saturating_sub(count - 1), all) } else { (0, 0) };
        for (from, to) in [(hint, blocks), before, last] {
            if let Some(first) = self.claim_between(stripe, class, count, from, to)? {
                self.region.store(header::FREE_HINT, first + count, Relaxed)?;
                self.region.add(header::CLAIMS, 1, Relaxed)?;
                return Ok(first);
            }
        }
        Err(HeapError::NoRoom(NoRoom { blocks: count }))
    }

    fn claim_between(
        &self,
        stripe: u64,
        class: u64,
        count: u64,
        from: u64,
        to: u64,
    ) -> Result<Option<u64>, BadRegion> {
        let mut first = from;
        while first.saturating_add(count) <= to {
            match self.claim_at(stripe, class, first, count)? {
                Ok(()) => return Ok(Some(first)),
                Err(taken) => first = taken + 1,
            }
        }
        Ok(None)
    }

    /// Claims the run of blocks at `first`, or names one of them that is taken.
    fn claim_at(
        &self,
        stripe: u64,
        class: u64,
        first: u64,
        count: u64,
    ) -> Result<Result<(), u64>, BadRegion> {
        for block in (first..first + count).rev() {
            if self.block_word(block)?.state() != State::Free {
                return Ok(Err(block));
            }
        }
        for block in first..first + count {
            let word = self.block_word(block)?;
            let claimed = BlockWord::new(State::Claimed, class, stripe, 0, word.generation() + 1);
            let at = self.geometry.block_word(block);
            // Relaxed would do: this word was acquired, and `make_span` fences before new bytes.
            if word.state() != State::Free
                || self.region.exchange(at, word.0, claimed.0, AcqRel)?.is_err()
            {
                self.release(first, block - first)?;
                return Ok(Err(block));
            }
        }
        Ok(Ok(()))
    }

    /// Gives claimed blocks back.
    fn release(&self, first: u64, count: u64) -> Result<(), BadRegion> {
        for block in first..first + count {
            let word = self.block_word(block)?;
            self.set_block_word(block, BlockWord::new(State::Free, 0, 0, 0, word.generation()))?;
        }
        let hint = self.region.load(header::FREE_HINT, Relaxed)?;
        if first < hint {
            self.region.store(header::FREE_HINT, first, Relaxed)?;
        }
        Ok(())
    }

    /// Gives one block of no span back, for a repair.
    pub(crate) fn release_lost(&self, block: u64) -> Result<(), BadRegion> {
        self.release(block, 1)
    }

    /// Makes a span of `count` blocks, which may be of the reserve. Its first `clear` bytes are zero.
    pub(crate) fn make_span(
        &self,
        stripe: u64,
        class: u64,
        (count, reserve): (u64, bool),
        clear: u64,
    ) -> Result<u64, HeapError> {
        let first = self.claim(stripe, class, count, reserve)?;
        // ORDERING: [block.cut] Release fence: the claimed words come before new bytes in them;
        // pairs with the Acquire fence of a reader after its copy.
        fence(Release);
        let at = self.geometry.block(first);
        self.region.zero(at, clear)?;
        self.region.store(at + span::BLOCKS, count, Relaxed)?;
        for block in (first..first + count).rev() {
            let state = if block == first { State::Head } else { State::Tail };
            let generation = self.block_word(block)?.generation();
            let word = BlockWord::new(state, class, stripe, block - first, generation);
            self.set_block_word(block, word)?;
        }
        Ok(first)
    }

    /// Blocks of the span that begins at `first`, against what is there.
    pub(crate) fn span_blocks(&self, first: u64) -> Result<u64, BadRegion> {
        let at = self.geometry.block(first) + span::BLOCKS;
        let count = self.region.load(at, Relaxed)?;
        if count == 0 || count > self.geometry.blocks_max().saturating_sub(first) {
            return Err(BadRegion::new(at, count, "a span's block count"));
        }
        Ok(count)
    }

    /// Ends a span and frees its blocks: the head's word first, its block last.
    pub(crate) fn free_span(&self, first: u64) -> Result<(), BadRegion> {
        let (count, word) = (self.span_blocks(first)?, self.block_word(first)?);
        let claimed =
            BlockWord::new(State::Claimed, word.class(), word.stripe(), 0, word.generation() + 1);
        self.set_block_word(first, claimed)?;
        self.release(first + 1, count - 1)?;
        self.release(first, 1)
    }

    /// What `look` finds in a span, without a lock; `None`: the span ended meanwhile, so that anything may have been found.
    pub(crate) fn look_in<T>(
        &self,
        (first, word): (u64, BlockWord),
        look: impl FnOnce() -> Result<T, BadRegion>,
    ) -> Result<Option<T>, BadRegion> {
        let found = look();
        // ORDERING: [block.cut] Acquire fence: what was found comes before the second look at the word; pairs with the Release
        // fence in `make_span`.
        fence(Acquire);
        if self.block_word(first)? == word { found.map(Some) } else { Ok(None) }
    }

    /// First block and word of each span of `stripe`, and its blocks that belong to no span. Its lock is held.
    pub(crate) fn spans_and_lost(&self, stripe: u64) -> Result<(Spans, Vec<u64>), BadRegion> {
        let (mut spans, mut lost) = (Spans::new(), Vec::new());
        let (mut block, blocks) = (0, self.blocks()?);
        while block < blocks {
            let word = self.block_word(block)?;
            if word.state() == State::Free || word.stripe() != stripe {
                block += 1;
            } else if word.state() == State::Head {
                spans.push((block, word));
                block += self.span_blocks(block)?;
            } else {
                lost.push(block);
                block += 1;
            }
        }
        Ok((spans, lost))
    }

    /// First block and word of each span of `stripe`. Its lock is held.
    pub(crate) fn spans(&self, stripe: u64) -> Result<Spans, BadRegion> {
        Pieces::of(stripe).next(self, usize::MAX)
    }

    /// Free blocks before the end of the file, as far as so many.
    pub(crate) fn free_at_end(&self, most: u64) -> Result<u64, BadRegion> {
        let mut free = 0;
        for block in (0..self.blocks()?).rev().take(most.try_into().unwrap_or(usize::MAX)) {
            if self.block_word(block)?.state() != State::Free {
                break;
            }
            free += 1;
        }
        Ok(free)
    }

    /// Free blocks, and the longest run of them that anybody may have.
    pub(crate) fn free_blocks(&self) -> Result<(u64, u64), BadRegion> {
        let (mut free, mut run, mut longest, for_all) = (0, 0, 0, self.blocks_for_all()?);
        for block in 0..self.blocks()? {
            let is_free = self.block_word(block)?.state() == State::Free;
            run = if is_free && block < for_all { run + 1 } else { 0 };
            free += u64::from(is_free);
            longest = run.max(longest);
        }
        Ok((free, longest))
    }
}
