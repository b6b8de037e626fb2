//! The shape of one region: what its header's unchanging words say, checked once at attach.

use super::layout::{
    BYTE_ORDER, HEADER_SIZE, INDEX_STRIDE, LAYOUT_PRINT, LAYOUT_VERSION, LINE, MAGIC, WATCH_GROUPS,
    header, member, record, stripe, watch,
};
use super::{BadRegion, Region};
use crate::sync::Ordering::{Relaxed, Release};

/// Blocks that a region has at the most; the block's size follows from it.
pub(crate) const BLOCKS_MAX: u64 = 1 << 18;
/// Smallest block, as a power of two.
pub(crate) const BLOCK_SHIFT_MIN: u32 = 14;
/// Largest block, as a power of two.
pub(crate) const BLOCK_SHIFT_MAX: u32 = 20;

/// What a region is made with: the words of its header that never change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) bus_id: u128,
    pub(crate) boot_id: u128,
    pub(crate) incarnation: u64,
    pub(crate) seed: u64,
    pub(crate) capacity: u64,
    pub(crate) max_capacity: u64,
    pub(crate) block_shift: u32,
    pub(crate) stripes: u64,
    pub(crate) members_max: u64,
    pub(crate) watches_max: u64,
    pub(crate) log_size: u64,
    pub(crate) created: u64,
    pub(crate) mode: u64,
    /// Head of the new region: revisions go on above it.
    pub(crate) first_revision: u64,
    /// What the bus does beyond what every bus does, a bit each.
    pub(crate) features: u64,
}

/// Of a region's features: log records tell old values too.
pub(crate) const FEATURE_OLD_VALUES: u64 = 1;
/// Changes go into a journal.
pub(crate) const FEATURE_JOURNAL: u64 = 2;
/// A write that says nothing waits for the journal.
pub(crate) const FEATURE_SYNCED: u64 = 4;

/// Snapshots are taken of it, by whoever knows where they go.
pub(crate) const FEATURE_SAVED: u64 = 8;

/// How a bus gets from one layout to another. Not by `destroy`, which forgets what it would be rebuilt from.
const BY_SNAPSHOT: &str = "use the membus that made it, or take a snapshot with that one, end the bus's \
     members, remove its directory and open it: it is rebuilt from the snapshot";

/// Why a header was refused. The order of the checks is the order of the variants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Not a region at all.
    #[error("this is not a membus region (its first word is {found:#x})")]
    Magic {
        /// The first word found.
        found: u64,
    },
    /// Made on a machine of the other byte order.
    #[error("the region was made on a machine of another byte order (mark {found:#x})")]
    ByteOrder {
        /// The mark found.
        found: u32,
    },
    /// Another version of the layout.
    #[error("the region has layout version {found}, this membus reads {expected}; {BY_SNAPSHOT}")]
    Version {
        /// The version found.
        found: u32,
        /// The version of this build.
        expected: u32,
    },
    /// The same version, but other offsets.
    #[error(
        "the region's layout fingerprint is {found:#x}, this build has {expected:#x}; {BY_SNAPSHOT}"
    )]
    Print {
        /// The fingerprint found.
        found: u64,
        /// The fingerprint of this build.
        expected: u64,
    },
    /// The header's words do not add up.
    #[error(
        "the header's checksum is {found:#x}, its words give {expected:#x}: the region is damaged"
    )]
    Checksum {
        /// The checksum found.
        found: u64,
        /// The checksum of the words.
        expected: u64,
    },
    /// A size in the header is outside of its limits.
    #[error(
        "the header says {what} = {found}, which is outside of its limits: the region is damaged"
    )]
    Limits {
        /// Which word.
        what: &'static str,
        /// Its value.
        found: u64,
    },
    /// The file ends before the header says.
    #[error(transparent)]
    Bad(#[from] BadRegion),
}

/// Rounds up to whole steps.
pub(crate) const fn align(value: u64, step: u64) -> u64 {
    value.div_ceil(step) * step
}

/// A shape, and where everything stands in a region of this shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Geometry {
    shape: Shape,
    stripe_table: u64,
    member_table: u64,
    pinned: u64,
    asleep: u64,
    watches: u64,
    index: u64,
    index_mask: u64,
    log: u64,
    heap: u64,
    blocks_max: u64,
    reserve_from: u64,
}

impl std::ops::Deref for Geometry {
    type Target = Shape;
    fn deref(&self) -> &Shape {
        &self.shape
    }
}

impl Shape {
    pub(crate) fn block_size(&self) -> u64 {
        1 << self.block_shift
    }
    #[inline]
    pub(crate) fn tells_old_values(&self) -> bool {
        self.features & FEATURE_OLD_VALUES != 0
    }
    #[inline]
    pub(crate) fn has_journal(&self) -> bool {
        self.features & FEATURE_JOURNAL != 0
    }
    #[inline]
    pub(crate) fn waits_for_journal(&self) -> bool {
        self.features & FEATURE_SYNCED != 0
    }
    pub(crate) fn is_saved(&self) -> bool {
        self.features & FEATURE_SAVED != 0
    }
}

impl Geometry {
    /// The parts one behind the other, in the order of `docs/layout.md`.
    pub(crate) fn new(shape: Shape) -> Self {
        let blocks = shape.max_capacity >> shape.block_shift;
        let stripe_table = HEADER_SIZE + align(8 * blocks, 4096);
        let member_table = stripe_table + shape.stripes * stripe::SIZE;
        let pinned = member_table + shape.members_max * member::SIZE;
        let asleep = pinned + align(shape.members_max.div_ceil(8), LINE);
        let watches = asleep + WATCH_GROUPS * align(shape.watches_max / 8, LINE);
        let index = watches + shape.watches_max * watch::SIZE;
        // As many as the ring can hold records, by the stride.
        let index_count = (shape.log_size / record::BYTES / INDEX_STRIDE + 2).next_power_of_two();
        let log = align(index + 8 * index_count, 4096);
        let heap = align(log + shape.log_size, shape.block_size());
        let blocks_max = shape.max_capacity.saturating_sub(heap) >> shape.block_shift;
        let index_mask = index_count - 1;
        let reserve_from = blocks_max - (shape.stripes * 4).min(blocks_max / 8);
        Self {
            shape,
            stripe_table,
            member_table,
            pinned,
            asleep,
            watches,
            index,
            index_mask,
            log,
            heap,
            blocks_max,
            reserve_from,
        }
    }

    /// Blocks when the region has grown to its maximum.
    #[inline]
    pub(crate) fn blocks_max(&self) -> u64 {
        self.blocks_max
    }
    /// The block from which on all are the reserve.
    #[inline]
    pub(crate) fn reserve_from(&self) -> u64 {
        self.reserve_from
    }
    /// Blocks in a file of `size` bytes.
    pub(crate) fn blocks_in(&self, size: u64) -> u64 {
        size.min(self.max_capacity).saturating_sub(self.heap) >> self.block_shift
    }
    /// Where the word of a block stands.
    #[inline]
    pub(crate) fn block_word(&self, block: u64) -> u64 {
        HEADER_SIZE + 8 * block
    }
    #[inline]
    pub(crate) fn stripe(&self, index: u64) -> u64 {
        self.stripe_table + index * stripe::SIZE
    }
    #[inline]
    pub(crate) fn member(&self, slot: u64) -> u64 {
        self.member_table + slot * member::SIZE
    }
    /// The word of the bitmap of members that may have pins, in which `slot` stands.
    pub(crate) fn pinned(&self, slot: u64) -> u64 {
        self.pinned + 8 * (slot / 64)
    }
    /// The word of a group's bitmap of watches that sleep, in which `watch` stands.
    #[inline]
    pub(crate) fn asleep(&self, group: u64, watch: u64) -> u64 {
        let row = align(self.watches_max / 8, LINE);
        self.asleep + group % WATCH_GROUPS * row + 8 * (watch / 64)
    }
    pub(crate) fn watch(&self, index: u64) -> u64 {
        self.watches + index * watch::SIZE
    }
    /// Entries of the log's index.
    pub(crate) fn index_count(&self) -> u64 {
        self.index_mask + 1
    }
    /// Where the position of the record with this revision is noted.
    pub(crate) fn index(&self, revision: u64) -> u64 {
        self.index + 8 * ((revision / INDEX_STRIDE) & self.index_mask)
    }
    /// Where the log's ring begins.
    #[inline]
    pub(crate) fn log(&self) -> u64 {
        self.log
    }
    /// Where the blocks begin.
    #[inline]
    pub(crate) fn heap(&self) -> u64 {
        self.heap
    }
    #[inline]
    pub(crate) fn block(&self, index: u64) -> u64 {
        self.heap + (index << self.block_shift)
    }
    /// Which block an offset lies in.
    #[inline]
    pub(crate) fn block_of(&self, at: u64) -> Result<u64, BadRegion> {
        let block = at.wrapping_sub(self.heap) >> self.block_shift;
        // What lies before the heap wraps round to more than there can be.
        if block < self.blocks_max {
            return Ok(block);
        }
        Err(BadRegion::new(at, at, "an offset inside the heap"))
    }

    /// The block size for a maximum capacity, as a power of two.
    pub(crate) fn shift_for(max_capacity: u64) -> u32 {
        let mut shift = BLOCK_SHIFT_MIN;
        while shift < BLOCK_SHIFT_MAX && max_capacity >> shift > BLOCKS_MAX {
            shift += 1;
        }
        shift
    }

    /// Writes the header of a new, zeroed region. Its magic goes last.
    pub(crate) fn format(&self, region: &Region, size: u64) -> Result<(), BadRegion> {
        for (at, word) in self.words().into_iter().skip(1) {
            region.store(at, word, Relaxed)?;
        }
        region.store(header::CHECKSUM, self.checksum(), Relaxed)?;
        region.store(header::SIZE, size, Relaxed)?;
        region.store(header::HEAD, self.first_revision, Relaxed)?;
        region.store(header::MAGIC, MAGIC, Release)
    }

    /// Reads and checks a header.
    pub(crate) fn read(region: &Region) -> Result<Self, HeaderError> {
        let word = |at| region.load(at, Relaxed);
        let magic = word(header::MAGIC)?;
        if magic != MAGIC {
            return Err(HeaderError::Magic { found: magic });
        }
        let version = word(header::VERSION)?;
        let (found, order) = (version as u32, (version >> 32) as u32);
        if order != BYTE_ORDER {
            return Err(HeaderError::ByteOrder { found: order });
        }
        if found != LAYOUT_VERSION {
            return Err(HeaderError::Version { found, expected: LAYOUT_VERSION });
        }
        let found = word(header::PRINT)?;
        if found != LAYOUT_PRINT {
            return Err(HeaderError::Print { found, expected: LAYOUT_PRINT });
        }
        let wide =
            |at| Ok::<u128, BadRegion>(u128::from(word(at)?) | u128::from(word(at + 8)?) << 64);
        let shape = Shape {
            bus_id: wide(header::BUS_ID)?,
            boot_id: wide(header::BOOT_ID)?,
            incarnation: word(header::INCARNATION)?,
            seed: word(header::SEED)?,
            capacity: word(header::CAPACITY)?,
            max_capacity: word(header::MAX_CAPACITY)?,
            // All of the word counts: what does not fit is beyond every limit, and no checksum's.
            block_shift: u32::try_from(word(header::BLOCK_SHIFT)?).unwrap_or(u32::MAX),
            stripes: word(header::STRIPES)?,
            members_max: word(header::MEMBERS_MAX)?,
            watches_max: word(header::WATCHES_MAX)?,
            log_size: word(header::LOG_SIZE)?,
            created: word(header::CREATED)?,
            mode: word(header::MODE)?,
            first_revision: word(header::FIRST_REVISION)?,
            features: word(header::FEATURES)?,
        };
        let (found, expected) = (word(header::CHECKSUM)?, shape.checksum());
        if found != expected {
            return Err(HeaderError::Checksum { found, expected });
        }
        shape.limits()?;
        let geometry = Self::new(shape);
        if geometry.heap + geometry.block_size() > geometry.max_capacity {
            let found = geometry.max_capacity;
            return Err(HeaderError::Limits { what: "max_capacity", found });
        }
        Ok(geometry)
    }
}

impl Shape {
    fn words(&self) -> [(u64, u64); 20] {
        let version = u64::from(LAYOUT_VERSION) | u64::from(BYTE_ORDER) << 32;
        [
            (header::MAGIC, MAGIC),
            (header::VERSION, version),
            (header::PRINT, LAYOUT_PRINT),
            (header::BUS_ID, self.bus_id as u64),
            (header::BUS_ID + 8, (self.bus_id >> 64) as u64),
            (header::BOOT_ID, self.boot_id as u64),
            (header::BOOT_ID + 8, (self.boot_id >> 64) as u64),
            (header::INCARNATION, self.incarnation),
            (header::SEED, self.seed),
            (header::MAX_CAPACITY, self.max_capacity),
            (header::BLOCK_SHIFT, u64::from(self.block_shift)),
            (header::STRIPES, self.stripes),
            (header::MEMBERS_MAX, self.members_max),
            (header::WATCHES_MAX, self.watches_max),
            (header::LOG_SIZE, self.log_size),
            (header::CREATED, self.created),
            (header::CAPACITY, self.capacity),
            (header::MODE, self.mode),
            (header::FIRST_REVISION, self.first_revision),
            (header::FEATURES, self.features),
        ]
    }

    fn checksum(&self) -> u64 {
        let mut bytes = Vec::with_capacity(20 * 16);
        for (at, word) in self.words() {
            bytes.extend_from_slice(&at.to_le_bytes());
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }

    /// A checksum can be forged; the arithmetic above must hold all the same.
    fn limits(&self) -> Result<(), HeaderError> {
        let checks = [
            ("max_capacity", self.max_capacity, self.max_capacity <= 1 << 38),
            (
                "block_shift",
                u64::from(self.block_shift),
                (BLOCK_SHIFT_MIN..=BLOCK_SHIFT_MAX).contains(&self.block_shift),
            ),
            ("stripes", self.stripes, self.stripes.is_power_of_two() && self.stripes <= 1024),
            ("members_max", self.members_max, (1..=1 << 16).contains(&self.members_max)),
            (
                "watches_max",
                self.watches_max,
                self.watches_max.is_multiple_of(64) && self.watches_max <= 1 << 16,
            ),
            (
                "log_size",
                self.log_size,
                self.log_size.is_power_of_two() && (4096..=1 << 36).contains(&self.log_size),
            ),
            ("first_revision", self.first_revision, self.first_revision < 1 << 62),
            ("features", self.features, self.features < FEATURE_SAVED << 1),
        ];
        for (what, found, good) in checks {
            if !good {
                return Err(HeaderError::Limits { what, found });
            }
        }
        Ok(())
    }
}
