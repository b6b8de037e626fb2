//! REPAIR: what a dead owner of a stripe left, found by recomputing.
//!
//! There are no intents. Under the stripe's lock, after passing the commit: an entry that is
//! occupied and named by no slot word was never born, and is freed, or is dead; blocks of no span
//! are freed; the count, the list of spans with room, the ring and the spares are built anew. All
//! of it may be done again from the start, since who repairs may die too.

use crate::heap::class::{ARRAY, LIST};
use crate::heap::{BlockWord, Space};
use crate::region::BadRegion;
use crate::region::layout::{header, stripe};
use crate::sync::Ordering::{Acquire, Relaxed};
use crate::word::Realm;
use std::collections::HashSet;

impl Space {
    /// REPAIR(stripe). The stripe's lock is held and the commit was passed.
    pub(crate) fn repair(&self, index: u64) -> Result<(), BadRegion> {
        let base = self.geometry.stripe(index);
        let array = self.array_word(index)?;
        if array.0 == 0 {
            return Ok(());
        }
        let named = self.named(index)?;
        // What is dead, and what expires here, is looked up anew.
        self.region.store(base + stripe::SWEEP_WANTED, 1, Relaxed)?;
        self.region.store(base + stripe::DEADLINE, 1, Relaxed)?;
        self.forget_lists(index)?;
        let (spans, lost) = self.spans_and_lost(index)?;
        for block in lost {
            self.release_lost(block)?;
        }
        for (first, word) in spans {
            let stale = match word.class() {
                LIST => true,
                ARRAY => self.geometry.block(first) != array.at(),
                _ => self.repair_span(first, word, &named)?,
            };
            if stale {
                self.free_span(first)?;
            }
        }
        let mut locks = 0;
        for at in &named {
            locks += u64::from(self.entry(*at)?.header()?.realm() == Realm::Locks);
        }
        self.region.store(base + stripe::LOCKS, locks, Relaxed)?;
        self.region.store(base + stripe::COUNT, named.len() as u64, Relaxed)
    }

    /// Repairs one span of entries: whether nothing in it is occupied.
    fn repair_span(
        &self,
        first: u64,
        word: BlockWord,
        named: &HashSet<u64>,
    ) -> Result<bool, BadRegion> {
        let cut = self.cut(first, word)?;
        self.unlist(first)?;
        let mut used = false;
        for at in self.occupied_entries(first, &cut)? {
            let entry = self.entry(at)?;
            if named.contains(&at) {
                used = true;
            } else if entry.born(Acquire)? == 0 {
                self.forget(at)?;
            } else {
                used = true;
                if entry.died(Acquire)? == 0 {
                    entry.set_died(self.region.load_count(header::HEAD, Acquire)?)?;
                }
            }
        }
        if used {
            self.enlist(first, word)?;
        }
        Ok(!used)
    }
}
