//! What a snapshot's entries add up to, in whatever order they come.
//!
//! Stores that keep no order have no sum over all their bytes. Here each entry has its own hash, of all that
//! is in it; these are added up, and the head's hash with the sum and the count seals the snapshot. An entry
//! that is missing, twice, changed or of another snapshot gives another seal.

use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use std::fmt;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// The sum of some entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Content {
    pub(super) count: u64,
    sum: u128,
}

/// What a snapshot with this head and these entries is sealed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seal(u128);

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Content {
    /// Counts an entry; gives the hash of all that is in it.
    pub(super) fn add(&mut self, entry: &SnapshotEntry) -> u128 {
        let mut hash = Xxh3::new();
        let lengths = [entry.key.len(), entry.who.len(), entry.value.len()];
        for length in lengths {
            hash.update(&(length as u64).to_le_bytes());
        }
        for word in [u64::from(entry.kind), entry.revision, entry.time, entry.expires] {
            hash.update(&word.to_le_bytes());
        }
        for bytes in [&entry.key, &entry.who, &entry.value] {
            hash.update(bytes);
        }
        let hash = hash.digest128();
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash);
        hash
    }

    pub(super) fn seal(&self, head: &SnapshotHead) -> Seal {
        let mut bytes = [head.bus_id.to_le_bytes(), self.sum.to_le_bytes()].concat();
        for word in [head.incarnation, head.revision, head.created, self.count] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        Seal(xxh3_128(&bytes))
    }

    /// Why a snapshot that says so of itself is refused; nothing when it is whole.
    pub(super) fn refusal(&self, head: &SnapshotHead, count: u64, seal: &str) -> Option<String> {
        let own = self.seal(head);
        if count != self.count {
            return Some(format!("it has {} entries, and should have {count}", self.count));
        }
        (seal != own.to_string()).then(|| {
            format!("its checksum is {seal}, what is in it gives {own}: it was damaged or edited")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plants: no lengths (a byte goes from the key to the value), the sum by exclusive or (two of one kind are
    /// none).
    #[test]
    fn each_field_and_each_entry_counts() {
        let (key, value, who) = (b"k".to_vec(), b"v".to_vec(), b"w".to_vec());
        let entry = SnapshotEntry { key, value, who, kind: 1, revision: 2, time: 3, expires: 4 };
        let head = SnapshotHead { bus_id: 1, incarnation: 2, revision: 3, created: 4 };
        let seal = |head: SnapshotHead, entries: &[SnapshotEntry]| {
            let mut content = Content::default();
            for entry in entries {
                content.add(entry);
            }
            content.seal(&head)
        };
        let e = || entry.clone();
        let others = [
            vec![],
            vec![e(), e()],
            vec![e(), e(), e()],
            vec![SnapshotEntry { key: b"kv".to_vec(), value: vec![], ..e() }],
            vec![SnapshotEntry { who: b"wv".to_vec(), value: vec![], ..e() }],
            vec![SnapshotEntry { kind: 2, ..e() }],
            vec![SnapshotEntry { revision: 3, ..e() }],
            vec![SnapshotEntry { time: 4, ..e() }],
            vec![SnapshotEntry { expires: 0, ..e() }],
        ];
        let mut seals: Vec<_> = others.iter().map(|entries| seal(head, entries).0).collect();
        let heads = [
            SnapshotHead { bus_id: 2, ..head },
            SnapshotHead { incarnation: 3, ..head },
            SnapshotHead { revision: 4, ..head },
            SnapshotHead { created: 5, ..head },
            head,
        ];
        seals.extend(heads.map(|head| seal(head, &[e()]).0));
        seals.sort_unstable();
        seals.dedup();
        assert_eq!(seals.len(), others.len() + heads.len());
        let mut content = Content::default();
        content.add(&e());
        assert_eq!(content.refusal(&head, 1, &content.seal(&head).to_string()), None);
        assert!(content.refusal(&head, 2, &content.seal(&head).to_string()).is_some());
    }
}
