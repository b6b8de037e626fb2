//! Where everything stands in a region: offsets, widths and the packing of words.
//!
//! `docs/layout.md` is this file in prose; a test holds the two together through
//! [`LAYOUT_PRINT`]. Everything is little-endian, offsets count bytes from the region's start,
//! nothing is a pointer. Each constant is built on the one before it.

/// First word of every region.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"MEMBUS\x00R");
/// Version of this layout; it rises with every change of this file that moves anything.
pub(crate) const LAYOUT_VERSION: u32 = 5;
/// Written beside the version: reads differently on a machine of the other byte order.
pub(crate) const BYTE_ORDER: u32 = 0x0102_0304;
/// Bytes in a cache line: the unit in which words are kept apart.
pub(crate) const LINE: u64 = 64;
/// Bytes of the header.
pub(crate) const HEADER_SIZE: u64 = 4096;

/// The header's words. Up to [`header::IMMUTABLE_END`] they never change and are checksummed.
pub(crate) mod header {
    pub(crate) const MAGIC: u64 = 0;
    pub(crate) const VERSION: u64 = 8;
    pub(crate) const PRINT: u64 = 16;
    pub(crate) const CHECKSUM: u64 = 24;
    pub(crate) const BUS_ID: u64 = 32;
    pub(crate) const BOOT_ID: u64 = 48;
    pub(crate) const INCARNATION: u64 = 64;
    pub(crate) const SEED: u64 = 72;
    pub(crate) const MAX_CAPACITY: u64 = 80;
    pub(crate) const BLOCK_SHIFT: u64 = 88;
    pub(crate) const STRIPES: u64 = 96;
    pub(crate) const MEMBERS_MAX: u64 = 104;
    pub(crate) const WATCHES_MAX: u64 = 112;
    pub(crate) const LOG_SIZE: u64 = 120;
    pub(crate) const CREATED: u64 = 128;
    pub(crate) const CAPACITY: u64 = 136;
    pub(crate) const MODE: u64 = 144;
    pub(crate) const FIRST_REVISION: u64 = 152;
    pub(crate) const FEATURES: u64 = 160;
    pub(crate) const IMMUTABLE_END: u64 = 168;

    pub(crate) const SIZE: u64 = 256;
    pub(crate) const DESTROYED: u64 = 264;
    pub(crate) const GROW_LOCK: u64 = 272;
    pub(crate) const FREE_HINT: u64 = 280;
    pub(crate) const MEMBERS_HIGH: u64 = 288;
    pub(crate) const WATCHES_HIGH: u64 = 296;
    pub(crate) const CLAIMS: u64 = 304;
    pub(crate) const JOURNAL_LIMIT: u64 = 312;
    pub(crate) const KEEPER: u64 = 320;
    pub(crate) const HEARTBEAT: u64 = 328;
    pub(crate) const CLOCK_BOOT: u64 = 336;
    pub(crate) const CLOCK_WALL: u64 = 344;
    pub(crate) const SNAPSHOT_REVISION: u64 = 352;
    pub(crate) const SNAPSHOT_TIME: u64 = 360;
    pub(crate) const SNAPSHOT_FAILURES: u64 = 368;
    pub(crate) const SNAPSHOT_WANTED: u64 = 376;
    pub(crate) const SNAPSHOT_BYTES: u64 = 384;
    pub(crate) const SNAPSHOT_TOOK: u64 = 392;
    pub(crate) const BELL_LENGTHS: u64 = 448;

    pub(crate) const HEAD: u64 = 512;
    pub(crate) const CLEARED_AT: u64 = 520;
    pub(crate) const COMMIT_LOCK: u64 = 576;
    pub(crate) const LOG_INTENT: u64 = 640;
    pub(crate) const LOG_TAIL: u64 = 648;
    pub(crate) const READY: u64 = 656;
    pub(crate) const COUNT: u64 = 664;
    pub(crate) const TAIL: u64 = 672;
    pub(crate) const CLEARED: u64 = 680;
    pub(crate) const LIST: u64 = 688;
    pub(crate) const INLINE: u64 = 704;
    pub(crate) const SNAP_ON: u64 = 1152;
    pub(crate) const SNAP_ID: u64 = 1160;
    pub(crate) const SNAP_REVISION: u64 = 1168;
    pub(crate) const SNAP_CLEARED: u64 = 1176;
    pub(crate) const SNAP_OWNER: u64 = 1184;
    pub(crate) const JOURNAL_LIFE: u64 = 1200;
    pub(crate) const JOURNAL_WRITTEN: u64 = 1208;
    pub(crate) const JOURNALED: u64 = 1216;
    pub(crate) const JOURNAL_TURN: u64 = 1224;
    pub(crate) const JOURNAL_BASE: u64 = 1232;
    pub(crate) const JOURNAL_CONTINUES: u64 = 1240;
    pub(crate) const JOURNAL_TIME: u64 = 1248;
    pub(crate) const JOURNAL_TOOK: u64 = 1256;
    pub(crate) const JOURNAL_BYTES: u64 = 1264;
    pub(crate) const JOURNAL_FAILURES: u64 = 1272;
    pub(crate) const JOURNAL_ASK: u64 = 1280;
}

/// Changes that fit into the commit record itself; more go to a list in the heap.
pub(crate) const INLINE_CHANGES: u64 = 16;
/// Bytes of one change of a commit record: slot address, new entry's word, old entry's word.
pub(crate) const CHANGE_SIZE: u64 = 24;
const _: () = assert!(header::INLINE + INLINE_CHANGES * CHANGE_SIZE <= header::SNAP_ON);

/// One stripe of the table.
pub(crate) mod stripe {
    pub(crate) const LOCK: u64 = 0;
    pub(crate) const ARRAY: u64 = 64;
    pub(crate) const COUNT: u64 = 128;
    pub(crate) const SWEPT_TO: u64 = 136;
    pub(crate) const SNAP_DONE: u64 = 144;
    pub(crate) const SWEEP_WANTED: u64 = 152;
    pub(crate) const RETIRED_COUNT: u64 = 160;
    pub(crate) const SPARE_COUNT: u64 = 168;
    pub(crate) const DEADLINE: u64 = 176;
    pub(crate) const LOCKS: u64 = 184;
    pub(crate) const RETIRED: u64 = 192;
    pub(crate) const SPARE: u64 = RETIRED + 8 * super::RETIRED_MAX;
    pub(crate) const CLASSES: u64 = SPARE + 8 * super::SPARE_MAX;
    pub(crate) const TIMED: u64 = CLASSES + 8 * super::CLASSES_MAX;
    pub(crate) const SIZE: u64 = 2048;
}
/// Offsets in a stripe's ring of entries that died lately.
pub(crate) const RETIRED_MAX: u64 = 32;
/// Offsets in a stripe's list of dead entries that may be filled anew.
pub(crate) const SPARE_MAX: u64 = 16;
/// Size classes at the most.
pub(crate) const CLASSES_MAX: u64 = 64;
const _: () = assert!(stripe::TIMED + 8 * CLASSES_MAX <= stripe::SIZE);

/// One member slot.
pub(crate) mod member {
    pub(crate) const GENERATION: u64 = 0;
    pub(crate) const PID: u64 = 8;
    pub(crate) const JOINED: u64 = 16;
    pub(crate) const LABEL_LEN: u64 = 24;
    pub(crate) const LABEL: u64 = 32;
    pub(crate) const STATE: u64 = 96;
    pub(crate) const EPHEMERAL: u64 = 104;
    pub(crate) const ENDED: u64 = 112;
    pub(crate) const PINS: u64 = 128;
    pub(crate) const LANES: u64 = 192;
    pub(crate) const COUNTERS: u64 = LANES + super::LINE * super::LANES_MAX;
    pub(crate) const GET_TIMES: u64 = COUNTERS + 8 * super::COUNTERS_MAX;
    pub(crate) const SET_TIMES: u64 = GET_TIMES + 8 * super::TIMES_MAX;
    pub(crate) const BASE: u64 = SET_TIMES + 8 * super::TIMES_MAX;
    pub(crate) const SIZE: u64 = BASE + super::LINE;
    pub(crate) const STATE_IN_USE: u64 = 1;
    pub(crate) const STATE_MAY_KEEP: u64 = 2;
    pub(crate) const ENDED_LEFT: u64 = 1;
    pub(crate) const ENDED_DIED: u64 = 2;
}
/// Entries that one member may pin at a time; past it a guard holds a copy.
pub(crate) const PINS_MAX: u64 = 8;
/// Lanes of a member: lines of the counters that every operation touches. The last one is shared by
/// all threads of the member, each other one is a single thread's at a time.
pub(crate) const LANES_MAX: u64 = 5;
/// Words of counters in a member slot beside its lanes.
pub(crate) const COUNTERS_MAX: u64 = 32;
/// Words of a histogram of latencies: buckets, then the sum and the longest.
pub(crate) const TIMES_MAX: u64 = 32;
// No line of a member is another one's.
const _: () = assert!(member::SIZE.is_multiple_of(LINE) && member::COUNTERS.is_multiple_of(LINE));

/// One watch slot.
pub(crate) mod watch {
    pub(crate) const STATE: u64 = 0;
    pub(crate) const NONCE: u64 = 8;
    pub(crate) const FILTER: u64 = 16;
    pub(crate) const GROUP: u64 = 24;
    pub(crate) const PASSED: u64 = 32;
    pub(crate) const PREFIX: u64 = 40;
    pub(crate) const SIZE: u64 = 128;
}
/// Bytes of a watch's prefix that writers compare; the watch itself compares all of it.
pub(crate) const WATCH_PREFIX_MAX: u64 = watch::SIZE - watch::PREFIX;
/// Groups of watches: a writer looks for sleepers in those that its key may concern.
pub(crate) const WATCH_GROUPS: u64 = 1024;

/// One entry. Optional words follow the fixed ones in this order, each only when its flag is set:
/// deadline, owner, who; then key and value, each padded to 8 bytes.
pub(crate) mod entry {
    pub(crate) const BORN: u64 = 0;
    pub(crate) const DIED: u64 = 8;
    pub(crate) const PRED: u64 = 16;
    pub(crate) const META: u64 = 24;
    pub(crate) const TIME: u64 = 32;
    pub(crate) const FIXED: u64 = 40;
    pub(crate) const FLAG_DEADLINE: u8 = 1;
    pub(crate) const FLAG_OWNER: u8 = 2;
    pub(crate) const FLAG_LOCK: u8 = 4;
    /// What an entry without predecessor has in its place: no entry stands at this offset.
    pub(crate) const NONE: u64 = 1;
}

/// The head of a span: links of the stripe's list, then the bitmap of occupied entries.
pub(crate) mod span {
    pub(crate) const BLOCKS: u64 = 0;
    pub(crate) const PREVIOUS: u64 = 8;
    pub(crate) const NEXT: u64 = 16;
    pub(crate) const LISTED: u64 = 24;
    pub(crate) const BITMAP: u64 = 32;
}

/// The first line of a table array.
pub(crate) mod array {
    pub(crate) const BUCKETS: u64 = 64;
    pub(crate) const LINES: u64 = 72;
    pub(crate) const USED: u64 = 80;
    pub(crate) const FIRST: u64 = 128;
}
/// Slot words of a bucket; the eighth word links to an overflow bucket.
pub(crate) const BUCKET_SLOTS: u64 = 7;
/// Buckets that one chain may have.
pub(crate) const CHAIN_MAX: u64 = 64;

/// One record of the log.
pub(crate) mod record {
    pub(crate) const REVISION: u64 = 0;
    pub(crate) const META: u64 = 8;
    pub(crate) const VALUE_LEN: u64 = 16;
    pub(crate) const TIME: u64 = 24;
    pub(crate) const BYTES: u64 = 32;
}
/// Revisions between two entries of the log's index.
pub(crate) const INDEX_STRIDE: u64 = 64;

const fn mix(print: u64, value: u64) -> u64 {
    (print ^ value).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(17)
}

/// Every offset, size and bound above, in the order of the text; a test finds what is missing.
const ALL: &[u64] = &[
    LINE,
    HEADER_SIZE,
    INLINE_CHANGES,
    CHANGE_SIZE,
    RETIRED_MAX,
    SPARE_MAX,
    CLASSES_MAX,
    PINS_MAX,
    LANES_MAX,
    COUNTERS_MAX,
    TIMES_MAX,
    WATCH_PREFIX_MAX,
    WATCH_GROUPS,
    BUCKET_SLOTS,
    CHAIN_MAX,
    INDEX_STRIDE,
    header::MAGIC,
    header::VERSION,
    header::PRINT,
    header::CHECKSUM,
    header::BUS_ID,
    header::BOOT_ID,
    header::INCARNATION,
    header::SEED,
    header::MAX_CAPACITY,
    header::BLOCK_SHIFT,
    header::STRIPES,
    header::MEMBERS_MAX,
    header::WATCHES_MAX,
    header::LOG_SIZE,
    header::CREATED,
    header::CAPACITY,
    header::MODE,
    header::FIRST_REVISION,
    header::FEATURES,
    header::IMMUTABLE_END,
    header::SIZE,
    header::DESTROYED,
    header::GROW_LOCK,
    header::FREE_HINT,
    header::MEMBERS_HIGH,
    header::WATCHES_HIGH,
    header::CLAIMS,
    header::JOURNAL_LIMIT,
    header::KEEPER,
    header::HEARTBEAT,
    header::CLOCK_BOOT,
    header::CLOCK_WALL,
    header::SNAPSHOT_REVISION,
    header::SNAPSHOT_TIME,
    header::SNAPSHOT_FAILURES,
    header::SNAPSHOT_WANTED,
    header::SNAPSHOT_BYTES,
    header::SNAPSHOT_TOOK,
    header::BELL_LENGTHS,
    header::HEAD,
    header::CLEARED_AT,
    header::COMMIT_LOCK,
    header::LOG_INTENT,
    header::LOG_TAIL,
    header::SNAP_ON,
    header::SNAP_ID,
    header::SNAP_REVISION,
    header::SNAP_CLEARED,
    header::SNAP_OWNER,
    header::JOURNAL_LIFE,
    header::JOURNAL_WRITTEN,
    header::JOURNALED,
    header::JOURNAL_TURN,
    header::JOURNAL_BASE,
    header::JOURNAL_CONTINUES,
    header::JOURNAL_TIME,
    header::JOURNAL_TOOK,
    header::JOURNAL_BYTES,
    header::JOURNAL_FAILURES,
    header::JOURNAL_ASK,
    header::READY,
    header::COUNT,
    header::TAIL,
    header::CLEARED,
    header::LIST,
    header::INLINE,
    stripe::LOCK,
    stripe::ARRAY,
    stripe::COUNT,
    stripe::SWEPT_TO,
    stripe::SNAP_DONE,
    stripe::SWEEP_WANTED,
    stripe::RETIRED_COUNT,
    stripe::SPARE_COUNT,
    stripe::DEADLINE,
    stripe::LOCKS,
    stripe::RETIRED,
    stripe::SPARE,
    stripe::CLASSES,
    stripe::TIMED,
    stripe::SIZE,
    member::GENERATION,
    member::PID,
    member::JOINED,
    member::LABEL_LEN,
    member::LABEL,
    member::STATE,
    member::EPHEMERAL,
    member::ENDED,
    member::PINS,
    member::LANES,
    member::COUNTERS,
    member::GET_TIMES,
    member::SET_TIMES,
    member::BASE,
    member::SIZE,
    member::STATE_IN_USE,
    member::STATE_MAY_KEEP,
    member::ENDED_LEFT,
    member::ENDED_DIED,
    watch::STATE,
    watch::NONCE,
    watch::FILTER,
    watch::GROUP,
    watch::PASSED,
    watch::PREFIX,
    watch::SIZE,
    entry::BORN,
    entry::DIED,
    entry::PRED,
    entry::META,
    entry::TIME,
    entry::FIXED,
    entry::FLAG_DEADLINE as u64,
    entry::FLAG_OWNER as u64,
    entry::FLAG_LOCK as u64,
    entry::NONE,
    span::BLOCKS,
    span::PREVIOUS,
    span::NEXT,
    span::LISTED,
    span::BITMAP,
    array::BUCKETS,
    array::LINES,
    array::USED,
    array::FIRST,
    record::REVISION,
    record::META,
    record::VALUE_LEN,
    record::TIME,
    record::BYTES,
];

const fn print() -> u64 {
    let mut print = 0xcbf2_9ce4_8422_2325;
    let mut index = 0;
    while index < ALL.len() {
        print = mix(print, ALL[index]);
        index += 1;
    }
    print
}

/// A hash of the offsets and sizes above: two builds that differ in it do not share a region.
pub(crate) const LAYOUT_PRINT: u64 = print();
