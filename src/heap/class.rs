//! Size classes: four steps per doubling, from 64 bytes to just below four blocks.
//!
//! Each size class exists twice: plain, and *timed* for entries that have a deadline or an owner, so
//! that who looks for what expired or whose owner died reads those spans alone.

use crate::region::geometry::align;
use crate::region::layout::{LINE, span};

/// Class of a span that holds one big entry.
pub(crate) const BIG: u64 = 255;
/// Class of a span that holds one big entry with a deadline or an owner.
pub(crate) const BIG_TIMED: u64 = 252;
/// Class of a span that holds a table array.
pub(crate) const ARRAY: u64 = 254;
/// Class of a span that holds the change list of a batch.
pub(crate) const LIST: u64 = 253;
/// Added to a size class for entries with a deadline or an owner.
pub(crate) const TIMED: u64 = 64;
/// Smallest class in bytes.
pub(crate) const SMALLEST: u64 = 64;
/// Blocks of a span of a size class at the most.
const SPAN_BLOCKS_MAX: u64 = 16;

/// How a span of one class is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Bytes of an entry.
    pub(crate) size: u64,
    /// Blocks of the span.
    pub(crate) blocks: u64,
    /// Entries in it.
    pub(crate) entries: u64,
    /// Where the first entry stands, from the span's start.
    pub(crate) first: u64,
}

impl Cut {
    /// Words of the bitmap.
    pub(crate) fn bitmap_words(&self) -> u64 {
        self.entries.div_ceil(64)
    }
}

/// Whether spans of this class hold one big entry.
#[inline]
pub(crate) fn is_big(class: u64) -> bool {
    matches!(class, BIG | BIG_TIMED)
}

/// Whether entries of this class have a deadline or an owner.
pub(crate) fn is_timed(class: u64) -> bool {
    class == BIG_TIMED || (TIMED..2 * TIMED).contains(&class)
}

/// Bytes of an entry of size class `class`.
pub(crate) fn size_of_class(class: u64) -> u64 {
    let (doubling, step) = (class / 4, class % 4);
    (SMALLEST << doubling) + step * ((SMALLEST / 4) << doubling)
}

/// Size classes that blocks of `1 << block_shift` bytes have.
pub(crate) fn classes(block_shift: u32) -> u64 {
    4 * (u64::from(block_shift) + 2 - 6)
}

/// The smallest class that holds `size` bytes, or `None`: a big one.
pub(crate) fn class_for(size: u64, block_shift: u32) -> Option<u64> {
    let size = size.max(SMALLEST);
    let doubling = u64::from(63 - size.leading_zeros()) - 6;
    let base = SMALLEST << doubling;
    let step = (size - base).div_ceil(base / 4);
    let class = 4 * doubling + step;
    (class < classes(block_shift)).then_some(class)
}

fn cut(size: u64, blocks: u64, block: u64) -> Cut {
    let space = blocks * block - span::BITMAP;
    let words = (space / size).div_ceil(64);
    let first = align(span::BITMAP + 8 * words, LINE);
    Cut { size, blocks, entries: (blocks * block - first) / size, first }
}

/// How spans of size class `class` are cut: as few blocks as waste at most an eighth.
pub(crate) fn cut_of_class(class: u64, block_shift: u32) -> Cut {
    let (size, block) = (size_of_class(class), 1 << block_shift);
    let mut best = cut(size, size.div_ceil(block) + 1, block);
    for blocks in 1..=SPAN_BLOCKS_MAX {
        let next = cut(size, blocks, block);
        if next.entries > 0 && next.entries * size * 8 >= blocks * block * 7 {
            return next;
        }
        if next.entries * size * best.blocks > best.entries * best.size * blocks {
            best = next;
        }
    }
    best
}

/// The cut of a span that holds one entry of `size` bytes.
pub(crate) fn cut_of_big(size: u64, block_shift: u32) -> Cut {
    let first = align(span::BITMAP + 8, LINE);
    let blocks = (first + size).div_ceil(1 << block_shift);
    Cut { size: (blocks << block_shift) - first, blocks, entries: 1, first }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plant: `div_ceil` to `/` in `class_for` gives a class too small.
    #[test]
    fn every_size_fits_its_class_with_little_waste() {
        for shift in 14..=20 {
            for size in (1..(4u64 << shift)).step_by(37) {
                let Some(class) = class_for(size, shift) else {
                    let cut = cut_of_big(size, shift);
                    assert!(cut.size >= size && cut.first + cut.size == cut.blocks << shift);
                    continue;
                };
                let got = size_of_class(class);
                assert!(got >= size && (size < 64 || got * 4 <= size * 5 + 4 * 16), "{size} {got}");
                let cut = cut_of_class(class, shift);
                assert!(cut.entries > 0 && cut.first + cut.entries * got <= cut.blocks << shift);
                assert!(
                    cut.entries * got * 5 >= (cut.blocks << shift) * 4,
                    "{shift} {got} {cut:?}"
                );
            }
        }
    }
}
