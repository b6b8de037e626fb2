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
/// Looks at what one slot word names, from which on it is damaged: nobody replaces a key twice so often in between.
const FAILURES_MAX: u32 = 64;
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

    /// Adds the key that a slot word names. One of another stripe, of an array being reused, does no harm: every key is
    /// looked up before it is told.
    fn key_at(
        &self,
        slot: u64,
        prefix: &[u8],
        keys: &mut HashSet<Vec<u8>>,
    ) -> Result<(), BadRegion> {
        let mut failures = 0;
        for _ in 0..LOOKS_MAX {
            let word = self.slot(slot)?;
            if word == 0 {
                return Ok(());
            }
            match self.copy_key(slot, word) {
                Ok(Some((realm, key))) => {
                    let is_told = realm == Realm::Keys && key.starts_with(prefix);
                    keys.extend(is_told.then_some(key));
                    return Ok(());
                }
                // The word alone does not tell: a key may have come back into the room that it had left, cut anew
                // meanwhile.
                Err(bad) if self.slot(slot)? == word => {
                    failures += 1;
                    if failures == FAILURES_MAX {
                        return Err(bad);
                    }
                }
                Ok(None) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The key of the entry that a slot word names; `None`: the slot names another one.
    ///
    /// The slot is looked at while the entry is the same. Else the entry may be another key's, to whom its room went, and the
    /// slot's own key, which was there throughout, would not be told.
    fn copy_key(&self, slot: u64, word: u64) -> Result<Option<(Realm, Vec<u8>)>, BadRegion> {
        let at = offset_of(word);
        let found = self.candidate(at)?;
        let key = found.entry.header().and_then(|header| found.entry.key(&header));
        // Whose room it went to was born after the slot had its next word, which is seen by who saw that birth.
        let is_named = self.slot(slot)? == word;
        if found.born == 0 || !self.is_same(&found)? {
            return Err(BadRegion::new(at, found.born, "an entry that stays"));
        }
        if is_named { key.map(Some) } else { Ok(None) }
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
    use crate::word::{Realm, offset_of};

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

    /// Promise (scans): a slot's key is told, and no other in its place: the room that it named may be another key's by now. Found
    /// by `random_schedules_tell_one_history`, MEMBUS_SEED=1795950451 at commit d059a37: one in some hundred thousand.
    /// Plant: no look at the slot after the copy.
    #[test]
    fn a_key_that_has_the_room_of_another_is_not_told_in_its_place() {
        let (core, _yard) = bus(small(1 << 20));
        let stripe = core.site(b"k".into(), &|_| false).stripe;
        let place = || core.current(b"k".into(), core.site(b"k".into(), &|_| false).hash, stripe);
        core.write_one(0, &set("k", b"one")).unwrap();
        let first = place().unwrap().unwrap();
        core.write_one(0, &set("k", b"two")).unwrap();
        core.free_retired(stripe, 1).unwrap();
        let is_near = |key: &String| core.site(key.as_bytes().into(), &|_| false).stripe == stripe;
        let other = (0..).map(|number| format!("{number}")).find(is_near).unwrap();
        core.write_one(0, &set(&other, b"oo")).unwrap();
        let now = place().unwrap().unwrap();
        let there = core.entry(offset_of(first.word)).unwrap();
        let key = there.key(&there.header().unwrap()).unwrap();
        assert_eq!(key.1, other.as_bytes());
        assert_eq!(core.copy_key(now.slot, first.word), Ok(None));
        assert_eq!(core.copy_key(now.slot, now.word), Ok(Some((Realm::Keys, b"k".to_vec()))));
    }

    /// Promise (scans): a key is told when its entry was the same throughout, whatever its slot word says: a key may have
    /// left its room and come back while it was read. Found by `random_schedules_tell_one_history`, MEMBUS_SEED=1 at that time.
    /// Plant: no look at `born`: a room that is being filled tells what stands there.
    #[test]
    fn an_entry_that_did_not_stay_is_not_told() {
        let (core, _yard) = bus(small(1 << 20));
        core.write_one(0, &set("k", b"new")).unwrap();
        let site = core.site(b"k".into(), &|_| false);
        assert_eq!(core.stripe_keys(site.stripe, b"").unwrap(), [b"k"]);
        let current = core.current(b"k".into(), site.hash, site.stripe).unwrap().unwrap();
        current.entry.set_born(0).unwrap();
        assert!(core.stripe_keys(site.stripe, b"").is_err(), "it stays so: damage");
        current.entry.set_born(1).unwrap();
        assert_eq!(core.stripe_keys(site.stripe, b"").unwrap(), [b"k"]);
    }
}
