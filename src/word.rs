//! Slot words and array words: eight bytes that say where something stands.
//!
//! ```text
//! slot word    | tag of the hash 16 | offset of the entry 48 |
//! array word   | generation 10 | log2 of the buckets 6 | offset of the array 48 |
//! ```

const OFFSET: u64 = (1 << 48) - 1;

/// To which names a key belongs: two that are spelled alike in two realms are two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Realm {
    /// What users read and write.
    #[default]
    Keys,
    /// Locks and what else processes meet at: not in listings, counts and snapshots, and no clear
    /// frees them.
    Locks,
}

/// A key, and the realm it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Name<'a> {
    pub(crate) realm: Realm,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Name<'a> {
    pub(crate) fn lock(bytes: &'a [u8]) -> Self {
        Self { realm: Realm::Locks, bytes }
    }
}

impl<'a> From<&'a [u8]> for Name<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> Self {
        Self { realm: Realm::Keys, bytes }
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Name<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::from(bytes.as_slice())
    }
}

/// A key's hash, cut into its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Hash(u64);

impl Hash {
    pub(crate) fn of(name: Name<'_>, seed: u64) -> Self {
        let seed = match name.realm {
            Realm::Keys => seed,
            Realm::Locks => !seed,
        };
        Self(xxhash_rust::xxh3::xxh3_64_with_seed(name.bytes, seed))
    }
    /// The stripe: the high bits.
    #[inline]
    pub(crate) fn stripe(self, stripes: u64) -> u64 {
        (self.0 >> 48) & (stripes - 1)
    }
    /// The bucket in an array of `1 << log2` buckets: the middle bits.
    #[inline]
    pub(crate) fn bucket(self, log2: u64) -> u64 {
        (self.0 >> 16) & ((1 << log2) - 1)
    }
    /// The tag in a slot word: the low bits, at the word's top.
    #[inline]
    pub(crate) fn tag(self) -> u64 {
        self.0 << 48
    }
    /// The slot word of an entry with this hash.
    #[inline]
    pub(crate) fn word(self, at: u64) -> u64 {
        self.tag() | at
    }
}

/// Where the entry of a slot word stands.
#[inline]
pub(crate) fn offset_of(word: u64) -> u64 {
    word & OFFSET
}

/// Whether a slot word may be the one of a key with this tag.
#[inline]
pub(crate) fn tag_matches(word: u64, tag: u64) -> bool {
    word ^ tag <= OFFSET
}

/// An array word, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArrayWord(pub(crate) u64);

impl ArrayWord {
    pub(crate) fn new(at: u64, log2: u64, generation: u64) -> Self {
        Self(at | log2 << 48 | generation << 54)
    }
    #[inline]
    pub(crate) fn at(self) -> u64 {
        self.0 & OFFSET
    }
    #[inline]
    pub(crate) fn log2(self) -> u64 {
        self.0 >> 48 & 63
    }
    pub(crate) fn generation(self) -> u64 {
        self.0 >> 54
    }
}
