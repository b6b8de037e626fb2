//! Walking over all entries, without a lock.

use super::Core;
use super::read::ReadFailure;
use crate::region::BadRegion;
use crate::region::layout::stripe;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::fence;
use crate::word::{ArrayWord, Hash, Realm, offset_of};
use std::collections::HashSet;

/// Times that one stripe is walked anew because its array was replaced: each time it doubled.
const WALKS_MAX: u32 = 64;
/// Looks at one slot word that others are changing.
const LOOKS_MAX: u32 = 1 << 16;

impl Core {
    /// Keys of one stripe, each once: what was present throughout is among them. The array may be
    /// replaced meanwhile; then the stripe is read again, and what was seen already is left out.
    pub(crate) fn stripe_keys(
        &self,
        index: u64,
        prefix: &[u8],
    ) -> Result<Vec<Vec<u8>>, ReadFailure> {
        let mut keys: HashSet<Vec<u8>> = HashSet::new();
        for _ in 0..WALKS_MAX {
            let array = self.array_word(index)?;
            let walked = self.walk_array(array, prefix, &mut keys);
            // ORDERING: [array.reuse] Acquire fence: the slot words come before this look; pairs
            // with the Release fence in `double`.
            fence(Acquire);
            if self.array_word(index)? == array {
                walked?;
                // An array that was replaced may be another stripe's by now: its keys are told there.
                let hash = |key: &[u8]| Hash::of(key.into(), self.geometry.seed);
                let stripe = |key: &[u8]| hash(key).stripe(self.geometry.stripes);
                keys.retain(|key| stripe(key) == index);
                return Ok(keys.into_iter().collect());
            }
        }
        Err(ReadFailure::Contended { attempts: WALKS_MAX })
    }

    fn walk_array(
        &self,
        array: ArrayWord,
        prefix: &[u8],
        keys: &mut HashSet<Vec<u8>>,
    ) -> Result<(), BadRegion> {
        self.each_chain_slot(array, |slot| self.key_at(slot, prefix, keys))
    }

    /// Adds the key that a slot word names. A garbled key, of an entry being reused, does no harm:
    /// every key is looked up before it is told.
    fn key_at(
        &self,
        slot: u64,
        prefix: &[u8],
        keys: &mut HashSet<Vec<u8>>,
    ) -> Result<(), BadRegion> {
        for _ in 0..LOOKS_MAX {
            let word = self.slot(slot)?;
            if word == 0 {
                return Ok(());
            }
            let key = self.copy_key(offset_of(word));
            fence(Acquire);
            if self.slot(slot)? == word {
                keys.extend(key?.filter(|key| key.starts_with(prefix)));
                return Ok(());
            }
        }
        Ok(())
    }

    /// The key of an entry; none of a lock.
    fn copy_key(&self, at: u64) -> Result<Option<Vec<u8>>, BadRegion> {
        let entry = self.entry(at)?;
        let (realm, key) = entry.key(&entry.header()?)?;
        Ok((realm == Realm::Keys).then_some(key))
    }

    /// Counts a stripe's slot words, and those of locks among them. The stripe's lock is held.
    #[inline]
    pub(crate) fn recount(&self, index: u64, realm: Realm, by: i64) -> Result<(), BadRegion> {
        let add = |at| {
            let at = self.geometry.stripe(index) + at;
            let count = self.region.load(at, Relaxed)?;
            self.region.store(at, count.wrapping_add_signed(by), Release)
        };
        if realm == Realm::Locks {
            add(stripe::LOCKS)?;
        }
        add(stripe::COUNT)
    }

    /// Entries that are there, expired ones included until they are buried; locks are not among them.
    pub(crate) fn count_entries(&self) -> Result<u64, BadRegion> {
        let mut sum = 0_u64;
        for index in 0..self.geometry.stripes {
            let base = self.geometry.stripe(index);
            let count = self.region.load(base + stripe::COUNT, Relaxed)?;
            let locks = self.region.load(base + stripe::LOCKS, Relaxed)?;
            sum = sum.saturating_add(count.saturating_sub(locks));
        }
        Ok(sum)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::testing::{bus, set, small};
    use crate::sync::Ordering::Release;

    /// An array that was replaced may be another stripe's by now, while somebody still walks over it.
    /// Plant: keys are told whatever stripe they belong to: the key is told twice.
    #[test]
    fn a_key_that_is_met_in_another_stripes_words_is_not_told() {
        let (core, _yard) = bus(small(1 << 20));
        core.write_one(0, &set("k", b"v")).unwrap();
        let site = core.site(b"k".into(), &|_| false);
        let (own, other) = (site.stripe, (site.stripe + 1) % core.geometry.stripes);
        let mut word = 0;
        let look = |at| core.slot(at).map(|found| word = found);
        core.each_chain_slot(core.array_word(own).unwrap(), look).unwrap();
        let first = core.bucket(core.array_word(other).unwrap(), 0);
        core.region.store(first, word, Release).unwrap();
        let told = |stripe| core.stripe_keys(stripe, b"").unwrap();
        assert_eq!(told(own), [b"k"]);
        assert!(told(other).is_empty());
    }
}
