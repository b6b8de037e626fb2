//! The heap: spans of blocks, cut into entries of one size class, with a bitmap of what is occupied.
//!
//! ```text
//! span   | blocks, links | occupied bits | entry | entry | ...
//! ```
//!
//! 1. An entry whose bit is not set is free. One whose bit is set is unborn, alive, or dead: its own
//!    words `born` and `died` say which. There is no second record of what may be freed.
//! 2. Before a bit is set, `born` and `died` of its entry are 0.
//! 3. The list of spans with room and the list of spare entries are hints of a stripe: who repairs
//!    the stripe builds them anew.
//! 4. A spare entry is dead, was pinned by nobody after it left the table, and no snapshot needs
//!    it: it may be filled anew at once, with no look at the bitmap.
//!
//! A death leaves occupied entries that nothing names, and broken lists, in stripes whose lock names
//! the dead: REPAIR recomputes them (`docs/design.md`).

pub(crate) mod block;
pub(crate) mod class;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;

use crate::region::geometry::Geometry;
use crate::region::layout::{LINE, SPARE_MAX, entry, span, stripe};
use crate::region::{BadRegion, Region};
use crate::sync::Ordering::{Relaxed, Release};
use crate::sync::fence;
use crate::word::offset_of;
pub(crate) use block::{BlockWord, HeapError, Pieces, State};
use class::{BIG, BIG_TIMED, Cut, TIMED};

/// The place of an entry: its span and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// First block of the span.
    pub(crate) block: u64,
    pub(crate) cut: Cut,
    pub(crate) index: u64,
}

/// Room for an entry: occupied, unborn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) at: u64,
    /// Bytes that may be used.
    pub(crate) size: u64,
}

/// A region and its shape.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) region: Region,
    pub(crate) geometry: Geometry,
    /// How spans are cut, by size class.
    cuts: Vec<Cut>,
    /// Bytes of an entry, by class; 0 where that alone does not say it.
    sizes: Box<[u64; 256]>,
}

/// Most bytes of an entry that is kept as a spare, as a power of two below the block's.
const SPARE_SHIFT: u32 = 3;

impl Space {
    pub(crate) fn new(region: Region, geometry: Geometry) -> Self {
        let shift = geometry.block_shift;
        let cuts: Vec<Cut> =
            (0..class::classes(shift)).map(|class| class::cut_of_class(class, shift)).collect();
        let mut sizes = Box::new([0; 256]);
        for (class, cut) in cuts.iter().enumerate() {
            sizes[class] = cut.size;
            sizes[class + TIMED as usize] = cut.size;
        }
        Self { region, geometry, cuts, sizes }
    }

    /// How the span at `first` is cut, when it holds entries.
    pub(crate) fn cut(&self, first: u64, word: BlockWord) -> Result<Cut, BadRegion> {
        let shift = self.geometry.block_shift;
        if class::is_big(word.class()) {
            let mut cut = class::cut_of_big(1, shift);
            cut.blocks = self.span_blocks(first)?;
            cut.size = (cut.blocks << shift) - cut.first;
            return Ok(cut);
        }
        let offset = self.geometry.block_word(first);
        let bad = || BadRegion::new(offset, word.0, "a class of entries");
        self.cut_of(word.class()).ok_or_else(bad)
    }

    /// How spans of a size class, plain or timed, are cut.
    #[inline]
    fn cut_of(&self, class: u64) -> Option<Cut> {
        let size_class = if class < 2 * TIMED { class % TIMED } else { class };
        self.cuts.get(size_class as usize).copied()
    }

    /// How many bytes an entry at `at` may have, by its block's word.
    #[inline(always)]
    pub(crate) fn room_at(&self, at: u64, block: u64, word: BlockWord) -> Result<u64, BadRegion> {
        let size = self.sizes[word.class() as usize & 255];
        if word.is_span() && size != 0 { Ok(size) } else { self.room_of_big(at, block, word) }
    }

    #[cold]
    fn room_of_big(&self, at: u64, block: u64, word: BlockWord) -> Result<u64, BadRegion> {
        if word.state() == State::Head && class::is_big(word.class()) {
            let end = self.geometry.block(block)
                + (self.span_blocks(block)? << self.geometry.block_shift);
            return Ok(end.saturating_sub(at));
        }
        Err(BadRegion::new(at, word.0, "a block of entries"))
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
        let bad = || BadRegion::new(at, word.0, "an entry of a span");
        if word.state() != State::Head || !word.holds_entries() {
            return Err(bad());
        }
        let cut = self.cut(first, word)?;
        let inside = at.checked_sub(self.geometry.block(first) + cut.first).ok_or_else(bad)?;
        if !inside.is_multiple_of(cut.size) || inside / cut.size >= cut.entries {
            return Err(bad());
        }
        Ok(Place { block: first, cut, index: inside / cut.size })
    }

    /// Offset of an entry.
    pub(crate) fn entry_at(&self, first: u64, cut: &Cut, index: u64) -> u64 {
        self.geometry.block(first) + cut.first + index * cut.size
    }

    /// The `index`-th word of a span's bitmap.
    pub(crate) fn occupied(&self, first: u64, index: u64) -> Result<u64, BadRegion> {
        self.region.load(self.bitmap(first) + 8 * index, Relaxed)
    }

    fn bitmap(&self, first: u64) -> u64 {
        self.geometry.block(first) + span::BITMAP
    }

    /// Whether the place is occupied.
    pub(crate) fn is_occupied(&self, place: &Place) -> Result<bool, BadRegion> {
        Ok(self.occupied(place.block, place.index / 64)? & 1 << (place.index % 64) != 0)
    }

    /// Sets or clears the bit of a place. The stripe's lock is held: no one else writes it.
    fn mark(&self, place: &Place, on: bool) -> Result<(), BadRegion> {
        let (at, bit) =
            (self.bitmap(place.block) + 8 * (place.index / 64), 1 << (place.index % 64));
        let word = self.region.load(at, Relaxed)?;
        // Release, so that a death leaves a prefix of what stands in the source.
        self.region.store(at, if on { word | bit } else { word & !bit }, Release)
    }

    pub(crate) fn list_head(&self, stripe: u64, class: u64) -> u64 {
        let lists = if class < TIMED { stripe::CLASSES } else { stripe::TIMED };
        self.geometry.stripe(stripe) + lists + 8 * (class % TIMED)
    }

    /// Puts a span with room at the front of its stripe's list.
    pub(crate) fn enlist(&self, first: u64, word: BlockWord) -> Result<(), BadRegion> {
        let at = self.geometry.block(first);
        if class::is_big(word.class()) || self.region.load(at + span::LISTED, Relaxed)? == 1 {
            return Ok(());
        }
        let head = self.list_head(word.stripe(), word.class());
        let next = self.region.load(head, Relaxed)?;
        // ORDERING: [block.cut] Release fence: who cut the block need not be who stores the links; his
        // word of it comes before them. Pairs with the Acquire load and fence of readers.
        fence(Release);
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
        // ORDERING: [block.cut] Release fence, as in `enlist`.
        fence(Release);
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

    /// Says that a span is in no list, for a repair.
    pub(crate) fn unlist(&self, first: u64) -> Result<(), BadRegion> {
        // ORDERING: [block.cut] Release, as in `enlist`.
        self.region.store(self.geometry.block(first) + span::LISTED, 0, Release)
    }

    /// Empties the stripe's lists, for a repair.
    pub(crate) fn forget_lists(&self, stripe: u64) -> Result<(), BadRegion> {
        let base = self.geometry.stripe(stripe);
        self.region.store(base + stripe::RETIRED_COUNT, 0, Relaxed)?;
        self.region.store(base + stripe::SPARE_COUNT, 0, Relaxed)?;
        for class in 0..class::classes(self.geometry.block_shift) {
            self.region.store(self.list_head(stripe, class), 0, Relaxed)?;
            self.region.store(self.list_head(stripe, class + TIMED), 0, Relaxed)?;
        }
        Ok(())
    }

    /// The first entry that is free in a span.
    fn free_index(&self, first: u64, cut: &Cut) -> Result<Option<u64>, BadRegion> {
        for word in 0..cut.bitmap_words() {
            let free = !self.occupied(first, word)?;
            if free != 0 {
                let index = 64 * word + u64::from(free.trailing_zeros());
                return Ok((index < cut.entries).then_some(index));
            }
        }
        Ok(None)
    }

    /// Takes room for `size` bytes in `stripe`, whose lock is held. `timed`: the entry will have a
    /// deadline or an owner; `reserve`: it may take of what others leave.
    #[inline]
    pub(crate) fn allocate(
        &self,
        stripe: u64,
        size: u64,
        (timed, reserve): (bool, bool),
    ) -> Result<Room, HeapError> {
        let Some(size_class) = class::class_for(size, self.geometry.block_shift) else {
            let class = if timed { BIG_TIMED } else { BIG };
            let cut = class::cut_of_big(size, self.geometry.block_shift);
            let first = self.make_span(stripe, class, (cut.blocks, reserve), cut.first)?;
            return Ok(self.occupy(Place { block: first, cut, index: 0 })?);
        };
        let class = size_class + if timed { TIMED } else { 0 };
        match self.take_spare(stripe, class, reserve)? {
            Some(room) => Ok(room),
            None => self.allocate_in_span(stripe, class, reserve),
        }
    }

    /// Whether somebody may have room in this block: all may, but in the reserve.
    #[inline]
    fn is_for(&self, reserve: bool, block: u64) -> bool {
        reserve || block < self.geometry.reserve_from()
    }

    fn allocate_in_span(&self, stripe: u64, class: u64, reserve: bool) -> Result<Room, HeapError> {
        let like = BlockWord::new(State::Head, class, stripe, 0, 0);
        let cut = self.cut(0, like)?;
        let mut link = self.region.load(self.list_head(stripe, class), Relaxed)?;
        for _ in 0..self.geometry.blocks_max() {
            let Some(first) = self.listed(link, like)? else { break };
            if !self.is_for(reserve, first) {
                link = self.region.load(self.geometry.block(first) + span::NEXT, Relaxed)?;
                continue;
            }
            if let Some(index) = self.free_index(first, &cut)? {
                return Ok(self.occupy(Place { block: first, cut, index })?);
            }
            self.delist(first, like)?;
            link = self.region.load(self.list_head(stripe, class), Relaxed)?;
        }
        let first = self.make_span(stripe, class, (cut.blocks, reserve), cut.first)?;
        self.enlist(first, like)?;
        Ok(self.occupy(Place { block: first, cut, index: 0 })?)
    }

    fn occupy(&self, place: Place) -> Result<Room, BadRegion> {
        let at = self.entry_at(place.block, &place.cut, place.index);
        // What stood here before the span was cut may be anything (invariant 2).
        self.region.store(at + entry::BORN, 0, Release)?;
        // ORDERING: [entry.reuse] Release: after `born` = 0; pairs with the Acquire load in
        // `still_lives`.
        self.region.store(at + entry::DIED, 0, Release)?;
        self.mark(&place, true)?;
        // ORDERING: [entry.refill] Release fence: `born` = 0 comes before the new bytes; pairs with
        // the Acquire fence of a reader after its copy.
        fence(Release);
        Ok(Room { at, size: place.cut.size })
    }

    /// Makes an entry free, and ends its span when it was the last one and the stripe has another
    /// with room in its class. Nobody names or needs the entry.
    pub(crate) fn vacate(&self, place: &Place) -> Result<(), BadRegion> {
        let at = self.entry_at(place.block, &place.cut, place.index);
        // ORDERING: [entry.born] Release; pairs with the Acquire loads of readers. Relaxed would do:
        // what was ever born comes here behind the fence in `needed`.
        self.region.store(at + entry::BORN, 0, Release)?;
        // ORDERING: [entry.reuse] Release: after `born` = 0; pairs with the Acquire load in
        // `still_lives`.
        self.region.store(at + entry::DIED, 0, Release)?;
        self.mark(place, false)?;
        let word = self.block_word(place.block)?;
        if class::is_big(word.class()) {
            return self.free_span(place.block);
        }
        self.enlist(place.block, word)?;
        if self.is_empty(place.block, &place.cut)? {
            let span = self.geometry.block(place.block);
            let previous = self.region.load(span + span::PREVIOUS, Relaxed)?;
            let next = self.region.load(span + span::NEXT, Relaxed)?;
            if self.listed(previous, word)?.is_some() || self.listed(next, word)?.is_some() {
                return self.end_span(place.block, word);
            }
        }
        Ok(())
    }

    /// Clears the bit of an entry that was never born, for a repair.
    pub(crate) fn forget(&self, at: u64) -> Result<(), BadRegion> {
        let place = self.place(at)?;
        // ORDERING: [entry.reuse] Release: after `born` = 0, which the dead stored; pairs with the
        // Acquire load in `still_lives`. Not for loom to show: the kernel hands it over.
        self.region.store(at + entry::DIED, 0, Release)?;
        self.mark(&place, false)
    }

    /// Whether nothing in a span of entries is occupied.
    pub(crate) fn is_empty(&self, first: u64, cut: &Cut) -> Result<bool, BadRegion> {
        for index in 0..cut.bitmap_words() {
            if self.occupied(first, index)? != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes an empty span out of its list and frees its blocks.
    pub(crate) fn end_span(&self, first: u64, word: BlockWord) -> Result<(), BadRegion> {
        self.delist(first, word)?;
        self.free_span(first)
    }

    fn spare_slot(&self, stripe: u64, index: u64) -> u64 {
        self.geometry.stripe(stripe) + stripe::SPARE + 8 * index
    }

    /// Takes a spare entry of a class: dead before, unborn after.
    #[inline]
    fn take_spare(
        &self,
        stripe: u64,
        class: u64,
        reserve: bool,
    ) -> Result<Option<Room>, BadRegion> {
        let counter = self.geometry.stripe(stripe) + stripe::SPARE_COUNT;
        let count = self.region.load(counter, Relaxed)?.min(SPARE_MAX);
        for index in (0..count).rev() {
            let spare = self.region.load(self.spare_slot(stripe, index), Relaxed)?;
            if spare >> 48 != class + 1
                || !self.is_for(reserve, self.geometry.block_of(offset_of(spare))?)
            {
                continue;
            }
            let last = self.region.load(self.spare_slot(stripe, count - 1), Relaxed)?;
            self.region.store(self.spare_slot(stripe, index), last, Relaxed)?;
            // A death leaves one that is dead, then unborn, and the list to the repair.
            self.region.store(counter, count - 1, Release)?;
            let at = offset_of(spare);
            let block = self.geometry.block_of(at)?;
            let word = self.block_word(block)?;
            if (word.class(), word.stripe()) != (class, stripe) || !word.holds_entries() {
                let expected = "a spare entry of this stripe and class";
                return Err(BadRegion::new(at, word.0, expected));
            }
            // ORDERING: [entry.born] Release: the slot word left the entry before; pairs with the
            // Acquire loads of readers, who look at the slot word again.
            self.region.store(at + entry::BORN, 0, Release)?;
            // ORDERING: [entry.reuse] Release: after `born` = 0; pairs with the Acquire load in
            // `still_lives`.
            self.region.store(at + entry::DIED, 0, Release)?;
            // ORDERING: [entry.refill] Release fence, as in `occupy`.
            fence(Release);
            return Ok(Some(Room { at, size: self.room_at(at, block, word)? }));
        }
        Ok(None)
    }

    /// The spares of a stripe. Its lock is held.
    pub(crate) fn spares(&self, stripe: u64) -> Result<Vec<u64>, BadRegion> {
        let counter = self.geometry.stripe(stripe) + stripe::SPARE_COUNT;
        let count = self.region.load(counter, Relaxed)?.min(SPARE_MAX);
        let spare = |index| self.region.load(self.spare_slot(stripe, index), Relaxed);
        (0..count).map(|index| spare(index).map(offset_of)).collect()
    }

    /// The most bytes of an entry that may become a spare: all spares of a stripe are at most two
    /// blocks.
    pub(crate) fn spare_size_max(&self) -> u64 {
        self.geometry.block_size() >> SPARE_SHIFT
    }

    /// Puts a dead entry (invariant 4) among the spares; gives the one that had to make room.
    pub(crate) fn put_spare(
        &self,
        stripe: u64,
        at: u64,
        class: u64,
    ) -> Result<Option<u64>, BadRegion> {
        let counter = self.geometry.stripe(stripe) + stripe::SPARE_COUNT;
        let spare = at | (class + 1) << 48;
        let count = self.region.load(counter, Relaxed)?.min(SPARE_MAX);
        if count < SPARE_MAX {
            self.region.store(self.spare_slot(stripe, count), spare, Relaxed)?;
            self.region.store(counter, count + 1, Relaxed)?;
            return Ok(None);
        }
        // The one that was put here first makes room: its class may not be asked for any more.
        let oldest = self.region.load(self.spare_slot(stripe, 0), Relaxed)?;
        for index in 1..SPARE_MAX {
            let next = self.region.load(self.spare_slot(stripe, index), Relaxed)?;
            self.region.store(self.spare_slot(stripe, index - 1), next, Relaxed)?;
        }
        self.region.store(self.spare_slot(stripe, SPARE_MAX - 1), spare, Relaxed)?;
        Ok(Some(offset_of(oldest)))
    }

    /// Asks for the lines of the spare that would be taken next.
    #[inline]
    pub(crate) fn prefetch_spare(&self, stripe: u64) {
        let counter = self.geometry.stripe(stripe) + stripe::SPARE_COUNT;
        let Ok(count) = self.region.load(counter, Relaxed) else { return };
        let Some(last) = count.min(SPARE_MAX).checked_sub(1) else { return };
        if let Ok(spare) = self.region.load(self.spare_slot(stripe, last), Relaxed) {
            let at = offset_of(spare);
            self.region.prefetch(at);
            self.region.prefetch(at + LINE);
        }
    }
}
