//! A region as bytes, read as `docs/layout.md` says and by no line of the library.

use crate::layout::{
    BUCKET_SLOTS, HEADER_SIZE, LINE, WATCH_GROUPS, array, entry, header, member, record, span,
    stripe, watch,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const OFFSET: u64 = (1 << 48) - 1;
/// Block classes that hold no entries.
pub(crate) const LIST: u64 = 253;
pub(crate) const ARRAY: u64 = 254;

/// A region's bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image(pub(crate) Vec<u8>);

fn align(value: u64, step: u64) -> u64 {
    value.div_ceil(step) * step
}

/// Where an entry stands, and what names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) stripe: u64,
    /// Where the slot word is.
    pub(crate) slot: u64,
    pub(crate) at: u64,
}

impl Image {
    pub(crate) fn word(&self, at: u64) -> u64 {
        let bytes = self.0.get(at as usize..at as usize + 8);
        bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
    }
    pub(crate) fn set(&mut self, at: u64, word: u64) {
        self.0[at as usize..at as usize + 8].copy_from_slice(&word.to_le_bytes());
    }
    pub(crate) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// The header's checksum as its words give it.
    pub(crate) fn checksum(&self) -> u64 {
        let all = (0..header::IMMUTABLE_END).step_by(8);
        let bytes: Vec<u8> = all
            .filter(|at| *at != header::CHECKSUM)
            .flat_map(|at| [at.to_le_bytes(), self.word(at).to_le_bytes()].concat())
            .collect();
        xxh3_64(&bytes)
    }
    /// Makes the checksum right again.
    pub(crate) fn reseal(&mut self) {
        self.set(header::CHECKSUM, self.checksum());
    }

    pub(crate) fn stripes(&self) -> u64 {
        self.word(header::STRIPES)
    }
    pub(crate) fn shift(&self) -> u64 {
        self.word(header::BLOCK_SHIFT)
    }
    pub(crate) fn members_max(&self) -> u64 {
        self.word(header::MEMBERS_MAX)
    }
    pub(crate) fn stripe(&self, index: u64) -> u64 {
        let blocks = self.word(header::MAX_CAPACITY) >> self.shift();
        HEADER_SIZE + align(8 * blocks, 4096) + index * stripe::SIZE
    }
    pub(crate) fn member(&self, slot: u64) -> u64 {
        self.stripe(self.stripes()) + slot * member::SIZE
    }
    /// The bitmap of members that may have pins.
    pub(crate) fn pinned(&self) -> u64 {
        self.member(self.members_max())
    }
    /// The bitmap of watches of a group that sleep.
    pub(crate) fn asleep(&self, group: u64) -> u64 {
        let row = align(self.word(header::WATCHES_MAX) / 8, LINE);
        self.pinned() + align(self.members_max().div_ceil(8), LINE) + group * row
    }
    pub(crate) fn watch(&self, index: u64) -> u64 {
        self.asleep(WATCH_GROUPS) + index * watch::SIZE
    }
    /// Where the log's index begins.
    pub(crate) fn index(&self) -> u64 {
        self.watch(self.word(header::WATCHES_MAX))
    }
    pub(crate) fn index_len(&self) -> u64 {
        (self.word(header::LOG_SIZE) / record::BYTES / 64 + 2).next_power_of_two()
    }
    /// Where the log's ring begins.
    pub(crate) fn log(&self) -> u64 {
        align(self.index() + 8 * self.index_len(), 4096)
    }
    /// Where a log position stands.
    pub(crate) fn ring(&self, position: u64) -> u64 {
        self.log() + position % self.word(header::LOG_SIZE)
    }
    pub(crate) fn heap(&self) -> u64 {
        align(self.log() + self.word(header::LOG_SIZE), 1 << self.shift())
    }
    pub(crate) fn block(&self, index: u64) -> u64 {
        self.heap() + (index << self.shift())
    }
    pub(crate) fn blocks(&self) -> u64 {
        self.word(header::SIZE).min(self.len()).saturating_sub(self.heap()) >> self.shift()
    }
    pub(crate) fn block_word(&self, block: u64) -> u64 {
        HEADER_SIZE + 8 * block
    }

    /// Where a stripe's array stands.
    pub(crate) fn array(&self, index: u64) -> u64 {
        self.word(self.stripe(index) + stripe::ARRAY) & OFFSET
    }
    pub(crate) fn buckets(&self, index: u64) -> u64 {
        1 << (self.word(self.stripe(index) + stripe::ARRAY) >> 48 & 63)
    }
    /// Where a bucket of a stripe's array stands.
    pub(crate) fn bucket(&self, index: u64, line: u64) -> u64 {
        self.array(index) + array::FIRST + line * LINE
    }
    /// Where a bucket's link stands.
    pub(crate) fn link(&self, index: u64, line: u64) -> u64 {
        self.bucket(index, line) + 8 * BUCKET_SLOTS
    }

    /// All entries that slot words name.
    pub(crate) fn named(&self) -> Vec<Named> {
        let mut all = Vec::new();
        for index in 0..self.stripes() {
            for line in 0..self.word(self.array(index) + array::USED) {
                for number in 0..BUCKET_SLOTS {
                    let slot = self.bucket(index, line) + 8 * number;
                    let at = self.word(slot) & OFFSET;
                    if at != 0 {
                        all.push(Named { stripe: index, slot, at });
                    }
                }
            }
        }
        all
    }

    /// The entry of a key.
    pub(crate) fn find(&self, key: &[u8]) -> Named {
        let is_it = |named: &Named| self.key_of(named.at) == key;
        self.named().into_iter().find(is_it).expect("the key is there")
    }

    /// Where an entry's key begins.
    pub(crate) fn key_at(&self, at: u64) -> u64 {
        let meta = self.word(at + entry::META);
        let flags = (meta >> 52 & 1) + (meta >> 53 & 1);
        at + entry::FIXED + 8 * flags + align(meta >> 56, 8)
    }
    pub(crate) fn key_of(&self, at: u64) -> &[u8] {
        let (from, len) = (self.key_at(at), self.word(at + entry::META) >> 32 & 0xffff);
        self.0.get(from as usize..(from + len) as usize).unwrap_or_default()
    }
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.word(header::SEED))
    }
    /// The stripe and the bucket to which a key belongs.
    pub(crate) fn home(&self, key: &[u8]) -> (u64, u64) {
        let hash = self.hash(key);
        let stripe = (hash >> 48) & (self.stripes() - 1);
        (stripe, (hash >> 16) & (self.buckets(stripe) - 1))
    }

    /// The first block of the span in which `at` lies.
    pub(crate) fn span_of(&self, at: u64) -> u64 {
        let block = (at - self.heap()) >> self.shift();
        let word = self.word(self.block_word(block));
        if word & 15 == 3 { block - (word >> 24 & 255) } else { block }
    }
    pub(crate) fn class(&self, block: u64) -> u64 {
        self.word(self.block_word(block)) >> 4 & 255
    }
    /// How a size class is cut: bytes of an entry, entries, offset of the first.
    pub(crate) fn cut(&self, class: u64) -> (u64, u64, u64) {
        let (block, class) = (1_u64 << self.shift(), class % 64);
        let size = (64 << (class / 4)) + class % 4 * (16 << (class / 4));
        let of = |blocks: u64| {
            let words = ((blocks * block - span::BITMAP) / size).div_ceil(64);
            let first = align(span::BITMAP + 8 * words, LINE);
            ((blocks * block - first) / size, first, blocks)
        };
        let fills = |(count, _, blocks): &(u64, u64, u64)| count * size * 8 >= blocks * block * 7;
        let (count, first, _) = (1..=16).map(of).find(fills).expect("small classes fill a span");
        (size, count, first)
    }
    /// The bitmap word and bit of an entry of a size class.
    pub(crate) fn bit_of(&self, at: u64) -> (u64, u64) {
        let first = self.span_of(at);
        let (size, _, skip) = self.cut(self.class(first));
        let number = (at - self.block(first) - skip) / size;
        (self.block(first) + span::BITMAP + 8 * (number / 64), number % 64)
    }
    /// Head blocks, with their classes.
    pub(crate) fn spans(&self) -> Vec<(u64, u64)> {
        let is_head = |block: &u64| self.word(self.block_word(*block)) & 15 == 2;
        (0..self.blocks()).filter(is_head).map(|block| (block, self.class(block))).collect()
    }
}
