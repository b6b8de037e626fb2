//! Walking over all entries, without a lock.

use super::{Core, read::ReadFailure};
use crate::region::BadRegion;
use crate::region::layout::{BUCKET_SLOTS, CHAIN_MAX, stripe};
use crate::sync::Ordering::Relaxed;
use crate::word::{ArrayWord, offset_of};
use std::collections::HashSet;

impl Core {
    /// Keys of one stripe, each once: what was present throughout is among them. The array may be
    /// replaced meanwhile; then the stripe is read again, and what was seen already is left out.
    pub(crate) fn stripe_keys(
        &self,
        index: u64,
        prefix: &[u8],
    ) -> Result<Vec<Vec<u8>>, ReadFailure> {
        let mut keys: HashSet<Vec<u8>> = HashSet::new();
        for attempts in 0..super::read::ATTEMPTS {
            let array = self.array_word(index)?;
            let walked = self.walk_array(array, prefix, &mut keys);
            crate::sync::fence(crate::sync::Ordering::Acquire);
            if self.array_word(index)? == array {
                walked?;
                return Ok(keys.into_iter().collect());
            }
            if attempts + 1 == super::read::ATTEMPTS {
                break;
            }
        }
        Err(ReadFailure::Contended { attempts: super::read::ATTEMPTS })
    }

    fn walk_array(
        &self,
        array: ArrayWord,
        prefix: &[u8],
        keys: &mut HashSet<Vec<u8>>,
    ) -> Result<(), BadRegion> {
        for main in 0..1u64 << array.log2() {
            let mut bucket = self.bucket(array, main);
            for _ in 0..CHAIN_MAX {
                for slot in 0..BUCKET_SLOTS {
                    self.key_at(bucket + 8 * slot, prefix, keys)?;
                }
                match self.next_bucket(array, bucket)? {
                    Some(next) => bucket = next,
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Adds the key that a slot word names. A garbled key, of an entry being reused, does no harm:
    /// every key is looked up before it is told.
    fn key_at(
        &self,
        slot: u64,
        prefix: &[u8],
        keys: &mut HashSet<Vec<u8>>,
    ) -> Result<(), BadRegion> {
        for _ in 0..super::read::ATTEMPTS {
            let word = self.slot(slot)?;
            if word == 0 {
                return Ok(());
            }
            let key = self.copy_key(offset_of(word), prefix);
            crate::sync::fence(crate::sync::Ordering::Acquire);
            if self.slot(slot)? == word {
                keys.extend(key?);
                return Ok(());
            }
        }
        Ok(())
    }

    fn copy_key(&self, at: u64, prefix: &[u8]) -> Result<Option<Vec<u8>>, BadRegion> {
        let room = self.geometry.heap() + (self.geometry.blocks_max() << self.geometry.block_shift);
        let header = self.header(at, room.saturating_sub(at))?;
        let mut key = Vec::with_capacity(header.key_len as usize);
        self.region.read_into(header.key(), header.key_len, &mut key)?;
        Ok(key.starts_with(prefix).then_some(key))
    }

    /// Entries that are there, expired ones included until they are buried.
    pub(crate) fn count_entries(&self) -> Result<u64, BadRegion> {
        let mut sum = 0;
        for index in 0..self.geometry.stripes {
            sum += self.region.load(self.geometry.stripe(index) + stripe::COUNT, Relaxed)?;
        }
        Ok(sum)
    }
}
