//! One entry of a snapshot: what backends store and what a new region is filled from.

/// One entry as backends see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SnapshotEntry {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) revision: u64,
    /// Wall-clock nanoseconds of the change.
    pub(crate) time: u64,
    pub(crate) who: Vec<u8>,
    /// Wall-clock nanoseconds at which it expires; 0: never.
    pub(crate) expires: u64,
}
