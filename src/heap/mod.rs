//! The heap: blocks, spans of one size class, and two bitmaps for each span.
//!
//! ```text
//! block words   | state 4 | class 8 | stripe 12 | distance 8 | generation 32 |   one a block
//! span          | links | occupied bits | retired bits | entry | entry | ...
//! ```
//!
//! 1. A block that is not free belongs to one stripe; only the holder of that stripe's lock changes
//!    its word. A free one is claimed by compare-and-swap, so no lock for the whole heap exists.
//! 2. A span counts from the moment its first block's word says `HEAD`, the last store of its
//!    making; until then, and from the first store of its end, its blocks are just claimed.
//! 3. Retired is a part of occupied. An entry is free when it is not occupied.
//! 4. The list of spans with room is a hint: who repairs the stripe builds it anew.
//!
//! A death leaves claimed blocks of no span, entries that nothing names, and a broken list, all in
//! stripes whose lock names the dead: `repair` finds them by recomputing (`docs/design.md`, REPAIR).

pub(crate) mod class;

use crate::region::geometry::Geometry;
use crate::region::layout::{header, span, stripe};
use crate::region::{BadRegion, Region};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::fence;
use class::{ARRAY, BIG, Cut, LIST};

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
    fn new(state: State, class: u64, stripe: u64, distance: u64, generation: u64) -> Self {
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
    /// Whether entries may stand in this block.
    pub(crate) fn holds_entries(self) -> bool {
        matches!(self.state(), State::Head | State::Tail) && !matches!(self.class(), ARRAY | LIST)
    }
}

/// No run of free blocks is long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom {
    pub(crate) blocks: u64,
}

/// Why the heap could not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeapError {
    NoRoom(NoRoom),
    Bad(BadRegion),
}

impl From<BadRegion> for HeapError {
    fn from(bad: BadRegion) -> Self {
        Self::Bad(bad)
    }
}

/// The place of an entry: its span and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// First block of the span.
    pub(crate) block: u64,
    pub(crate) cut: Cut,
    pub(crate) index: u64,
}

/// A region and its shape.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) region: Region,
    pub(crate) geometry: Geometry,
}

impl Space {
    pub(crate) fn block_word(&self, block: u64) -> Result<BlockWord, BadRegion> {
        // ORDERING: [block.word] Acquire; pairs with the Release stores in `set_block_word`.
        Ok(BlockWord(self.region.load(self.geometry.block_word(block), Acquire)?))
    }

    fn set_block_word(&self, block: u64, word: BlockWord) -> Result<(), BadRegion> {
        // ORDERING: [block.word] Release; pairs with the Acquire load in `block_word`.
        self.region.store(self.geometry.block_word(block), word.0, Release)
    }

    /// Blocks that the file holds by now.
    pub(crate) fn blocks(&self) -> Result<u64, BadRegion> {
        // ORDERING: [header.size] Acquire; pairs with the Release store of who grew the file.
        Ok(self.geometry.blocks_in(self.region.load(header::SIZE, Acquire)?))
    }

    /// Claims a run of free blocks for `stripe`; first from the hint on, then from the start.
    fn claim(&self, stripe: u64, class: u64, count: u64) -> Result<u64, HeapError> {
        let blocks = self.blocks()?;
        let hint = self.region.load(header::FREE_HINT, Relaxed)?.min(blocks);
        for (from, to) in [(hint, blocks), (0, (hint + count).min(blocks))] {
            if let Some(first) = self.claim_between(stripe, class, count, from, to)? {
                self.region.store(header::FREE_HINT, first + count, Relaxed)?;
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
        while first + count <= to {
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

    /// Makes a span of `count` blocks. Its first `clear` bytes are zero.
    pub(crate) fn make_span(
        &self,
        stripe: u64,
        class: u64,
        count: u64,
        clear: u64,
    ) -> Result<u64, HeapError> {
        let first = self.claim(stripe, class, count)?;
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
            return Err(BadRegion { offset: at, found: count, expected: "a span's block count" });
        }
        Ok(count)
    }

    /// Ends a span and frees its blocks: the head's word first, then from the end.
    pub(crate) fn free_span(&self, first: u64) -> Result<(), BadRegion> {
        let (count, word) = (self.span_blocks(first)?, self.block_word(first)?);
        let claimed =
            BlockWord::new(State::Claimed, word.class(), word.stripe(), 0, word.generation() + 1);
        self.set_block_word(first, claimed)?;
        self.release(first + 1, count - 1)?;
        self.release(first, 1)
    }

    /// How the span at `first` is cut, when it holds entries.
    pub(crate) fn cut(&self, first: u64, word: BlockWord) -> Result<Cut, BadRegion> {
        let shift = self.geometry.block_shift;
        if word.class() == BIG {
            let mut cut = class::cut_of_big(1, shift);
            cut.blocks = self.span_blocks(first)?;
            cut.size = (cut.blocks << shift) - cut.first;
            return Ok(cut);
        }
        if word.class() >= class::classes(shift) {
            let offset = self.geometry.block_word(first);
            return Err(BadRegion { offset, found: word.0, expected: "a size class" });
        }
        Ok(class::cut_of_class(word.class(), shift))
    }

    /// Where the entry at `at` lies. The caller holds its stripe's lock, or looks again after.
    pub(crate) fn place(&self, at: u64) -> Result<Place, BadRegion> {
        let block = self.geometry.block_of(at)?;
        let mut word = self.block_word(block)?;
        let first = match word.state() {
            State::Tail => block.saturating_sub(word.distance()),
            _ => block,
        };
        if first != block {
            word = self.block_word(first)?;
        }
        let bad = BadRegion { offset: at, found: word.0, expected: "an entry of a span" };
        if word.state() != State::Head || !word.holds_entries() {
            return Err(bad);
        }
        let cut = self.cut(first, word)?;
        let inside = at.checked_sub(self.geometry.block(first) + cut.first).ok_or(bad)?;
        if inside % cut.size != 0 || inside / cut.size >= cut.entries {
            return Err(bad);
        }
        Ok(Place { block: first, cut, index: inside / cut.size })
    }

    /// Offset of an entry.
    pub(crate) fn entry_at(&self, first: u64, cut: &Cut, index: u64) -> u64 {
        self.geometry.block(first) + cut.first + index * cut.size
    }

    /// Where the occupied bits of a span begin; the retired ones follow.
    pub(crate) fn bitmap(&self, first: u64, cut: &Cut, retired: bool) -> u64 {
        let skip = if retired { 8 * cut.bitmap_words() } else { 0 };
        self.geometry.block(first) + span::BITMAPS + skip
    }

    fn bit(&self, place: &Place, retired: bool) -> (u64, u64) {
        let at = self.bitmap(place.block, &place.cut, retired) + 8 * (place.index / 64);
        (at, 1 << (place.index % 64))
    }

    /// Whether a bit of the place is set.
    pub(crate) fn is_set(&self, place: &Place, retired: bool) -> Result<bool, BadRegion> {
        let (at, bit) = self.bit(place, retired);
        Ok(self.region.load(at, Relaxed)? & bit != 0)
    }

    /// Sets or clears a bit of the place. The stripe's lock is held: no one else writes it.
    pub(crate) fn mark(&self, place: &Place, retired: bool, on: bool) -> Result<(), BadRegion> {
        let (at, bit) = self.bit(place, retired);
        let word = self.region.load(at, Relaxed)?;
        // Release, so that a death leaves a prefix of what stands in the source.
        self.region.store(at, if on { word | bit } else { word & !bit }, Release)
    }

    fn list_head(&self, stripe: u64, class: u64) -> u64 {
        self.geometry.stripe(stripe) + stripe::CLASSES + 8 * class
    }

    /// Puts a span with room at the front of its stripe's list.
    pub(crate) fn enlist(&self, first: u64, word: BlockWord) -> Result<(), BadRegion> {
        if word.class() == BIG {
            return Ok(());
        }
        let at = self.geometry.block(first);
        if self.region.load(at + span::LISTED, Relaxed)? == 1 {
            return Ok(());
        }
        let head = self.list_head(word.stripe(), word.class());
        let next = self.region.load(head, Relaxed)?;
        self.region.store(at + span::LISTED, 1, Relaxed)?;
        self.region.store(at + span::PREVIOUS, 0, Relaxed)?;
        self.region.store(at + span::NEXT, next, Relaxed)?;
        if let Some(second) = self.listed(next, word)? {
            self.region.store(self.geometry.block(second) + span::PREVIOUS, first + 1, Relaxed)?;
        }
        self.region.store(head, first + 1, Relaxed)
    }

    /// The span that a link names, when it is one of the same stripe and class.
    fn listed(&self, link: u64, like: BlockWord) -> Result<Option<u64>, BadRegion> {
        let Some(first) = link.checked_sub(1).filter(|b| *b < self.geometry.blocks_max()) else {
            return Ok(None);
        };
        let word = self.block_word(first)?;
        let same = word.state() == State::Head
            && (word.class(), word.stripe()) == (like.class(), like.stripe());
        Ok(same.then_some(first))
    }

    /// Takes a span out of its stripe's list.
    fn delist(&self, first: u64, word: BlockWord) -> Result<(), BadRegion> {
        let at = self.geometry.block(first);
        if self.region.load(at + span::LISTED, Relaxed)? != 1 {
            return Ok(());
        }
        let previous = self.region.load(at + span::PREVIOUS, Relaxed)?;
        let next = self.region.load(at + span::NEXT, Relaxed)?;
        match self.listed(previous, word)? {
            Some(before) => {
                self.region.store(self.geometry.block(before) + span::NEXT, next, Relaxed)?;
            }
            None => {
                self.region.store(self.list_head(word.stripe(), word.class()), next, Relaxed)?;
            }
        }
        if let Some(after) = self.listed(next, word)? {
            self.region.store(self.geometry.block(after) + span::PREVIOUS, previous, Relaxed)?;
        }
        self.region.store(at + span::LISTED, 0, Relaxed)
    }

    /// Empties the stripe's lists, for a repair.
    pub(crate) fn forget_lists(&self, stripe: u64) -> Result<(), BadRegion> {
        for class in 0..class::classes(self.geometry.block_shift) {
            self.region.store(self.list_head(stripe, class), 0, Relaxed)?;
        }
        Ok(())
    }

    /// The first entry that is free in a span.
    fn free_index(&self, first: u64, cut: &Cut) -> Result<Option<u64>, BadRegion> {
        let bits = self.bitmap(first, cut, false);
        for word in 0..cut.bitmap_words() {
            let free = !self.region.load(bits + 8 * word, Relaxed)?;
            if free != 0 {
                let index = 64 * word + u64::from(free.trailing_zeros());
                return Ok((index < cut.entries).then_some(index));
            }
        }
        Ok(None)
    }

    /// Takes room for `size` bytes in `stripe`, whose lock is held: occupied, not yet filled.
    pub(crate) fn allocate(&self, stripe: u64, size: u64) -> Result<u64, HeapError> {
        let Some(class) = class::class_for(size, self.geometry.block_shift) else {
            let cut = class::cut_of_big(size, self.geometry.block_shift);
            let first = self.make_span(stripe, BIG, cut.blocks, cut.first + 64)?;
            return Ok(self.occupy(Place { block: first, cut, index: 0 })?);
        };
        let cut = class::cut_of_class(class, self.geometry.block_shift);
        let like = BlockWord::new(State::Head, class, stripe, 0, 0);
        for _ in 0..self.geometry.blocks_max() {
            let link = self.region.load(self.list_head(stripe, class), Relaxed)?;
            let Some(first) = self.listed(link, like)? else { break };
            if let Some(index) = self.free_index(first, &cut)? {
                return Ok(self.occupy(Place { block: first, cut, index })?);
            }
            self.delist(first, like)?;
        }
        let first = self.make_span(stripe, class, cut.blocks, cut.first)?;
        self.enlist(first, like)?;
        Ok(self.occupy(Place { block: first, cut, index: 0 })?)
    }

    fn occupy(&self, place: Place) -> Result<u64, BadRegion> {
        self.mark(&place, false, true)?;
        // ORDERING: [entry.refill] Release fence: `born` = 0 comes before the new bytes; pairs with
        // the Acquire fence of a reader after its copy.
        fence(Release);
        Ok(self.entry_at(place.block, &place.cut, place.index))
    }

    /// Clears the bits of an entry whose `born` is 0 already, and frees its span when it was the
    /// last one. `keep`: a snapshot reads this stripe, no block is cut anew.
    pub(crate) fn vacate(&self, place: &Place, keep: bool) -> Result<(), BadRegion> {
        self.mark(place, false, false)?;
        self.mark(place, true, false)?;
        let word = self.block_word(place.block)?;
        let bits = self.bitmap(place.block, &place.cut, false);
        let mut empty = true;
        for index in 0..place.cut.bitmap_words() {
            empty &= self.region.load(bits + 8 * index, Relaxed)? == 0;
        }
        if empty && !keep {
            self.delist(place.block, word)?;
            return self.free_span(place.block);
        }
        self.enlist(place.block, word)
    }

    /// Calls `visit` with the first block and word of each span of `stripe`, and `lost` with each
    /// of its blocks that belongs to no span.
    pub(crate) fn spans(
        &self,
        stripe: u64,
        mut visit: impl FnMut(u64, BlockWord) -> Result<(), BadRegion>,
        mut lost: impl FnMut(u64) -> Result<(), BadRegion>,
    ) -> Result<(), BadRegion> {
        let (mut block, blocks) = (0, self.blocks()?);
        while block < blocks {
            let word = self.block_word(block)?;
            if word.state() == State::Free || word.stripe() != stripe {
                block += 1;
            } else if word.state() == State::Head {
                let count = self.span_blocks(block)?;
                visit(block, word)?;
                block += count;
            } else {
                lost(block)?;
                block += 1;
            }
        }
        Ok(())
    }

    /// Gives one block of no span back, for a repair.
    pub(crate) fn release_lost(&self, block: u64) -> Result<(), BadRegion> {
        self.release(block, 1)
    }

    /// Free blocks, and the longest run of them.
    pub(crate) fn free_blocks(&self) -> Result<(u64, u64), BadRegion> {
        let (mut free, mut run, mut longest) = (0, 0, 0);
        for block in 0..self.blocks()? {
            let is_free = self.block_word(block)?.state() == State::Free;
            run = if is_free { run + 1 } else { 0 };
            free += u64::from(is_free);
            longest = run.max(longest);
        }
        Ok((free, longest))
    }
}
