//! A snapshot as backends see it: what it is of, and one entry of it.

/// One entry of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotEntry {
    /// Its key: 1 to 1,024 bytes.
    pub key: Vec<u8>,
    /// Its value; of a counter 8 bytes, little-endian.
    pub value: Vec<u8>,
    /// What the value is: 0 bytes, 1 a structure (MessagePack with field names), 2 a counter.
    pub kind: u8,
    /// Revision of the change that made it.
    pub revision: u64,
    /// When that was, in nanoseconds since 1970.
    pub time: u64,
    /// Who made it; empty when they did not say. Up to 64 bytes.
    pub who: Vec<u8>,
    /// When it expires, in nanoseconds since 1970; 0: never.
    pub expires: u64,
}

/// Bytes of a buffer that is used again; a longer one is given back.
const KEPT: usize = 1 << 20;

impl SnapshotEntry {
    /// Empties its buffers.
    pub(crate) fn clear(&mut self) {
        for bytes in [&mut self.key, &mut self.value, &mut self.who] {
            if bytes.capacity() > KEPT {
                *bytes = Vec::new();
            }
            bytes.clear();
        }
    }

    /// Makes it the same as another, in the buffers that it has.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        let Self { key, value, kind, revision, time, who, expires } = other;
        self.key.clone_from(key);
        self.value.clone_from(value);
        self.who.clone_from(who);
        (self.kind, self.revision, self.time, self.expires) = (*kind, *revision, *time, *expires);
    }
}

/// What a snapshot is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SnapshotHead {
    /// The bus, as all its lives have it.
    pub bus_id: u128,
    /// The life of the bus.
    pub incarnation: u64,
    /// The revision: all changes up to it are in the snapshot, and none after it.
    pub revision: u64,
    /// When it was taken, in nanoseconds since 1970.
    pub created: u64,
}
