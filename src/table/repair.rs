//! REPAIR: what a dead owner of a stripe left, found by recomputing.
//!
//! There are no intents. Under the stripe's lock, after passing the commit: what is occupied, not
//! retired and named by no slot word goes; blocks of no span are freed; the count, the list of
//! spans with room and the ring of retired entries are built anew. All of it may be done again
//! from the start, since who repairs may die too.

use crate::heap::class::{ARRAY, LIST};
use crate::heap::{BlockWord, Place, Space};
use crate::region::BadRegion;
use crate::region::layout::{entry, stripe};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::word::offset_of;
use std::collections::HashSet;

impl Space {
    /// Offsets of the entries that a stripe's slot words name.
    pub(crate) fn named(&self, index: u64) -> Result<HashSet<u64>, BadRegion> {
        let mut named = HashSet::new();
        self.each_slot(self.array_word(index)?, |_, word| {
            named.insert(offset_of(word));
            Ok(())
        })?;
        Ok(named)
    }

    /// REPAIR(stripe). The stripe's lock is held and the commit was passed.
    pub(crate) fn repair(&self, index: u64) -> Result<(), BadRegion> {
        let base = self.geometry.stripe(index);
        let array = self.array_word(index)?;
        if array.0 == 0 {
            return Ok(());
        }
        let named = self.named(index)?;
        self.region.store(base + stripe::RETIRED_COUNT, 0, Relaxed)?;
        self.region.store(base + stripe::SWEEP_WANTED, 1, Relaxed)?;
        // Whether something expires here is looked up anew.
        self.region.store(base + stripe::DEADLINE, 1, Relaxed)?;
        self.forget_lists(index)?;
        let (mut spans, mut lost) = (Vec::new(), Vec::new());
        self.spans(
            index,
            |first, word| {
                spans.push((first, word));
                Ok(())
            },
            |block| {
                lost.push(block);
                Ok(())
            },
        )?;
        for block in lost {
            self.release_lost(block)?;
        }
        for (first, word) in spans {
            let stale = match word.class() {
                LIST => true,
                ARRAY => self.geometry.block(first) != array.at(),
                _ => !self.repair_span(index, first, word, &named)?,
            };
            if stale {
                self.free_span(first)?;
            }
        }
        self.region.store(base + stripe::COUNT, named.len() as u64, Relaxed)
    }

    /// Repairs one span of entries; `false` when nothing in it is occupied.
    fn repair_span(
        &self,
        index: u64,
        first: u64,
        word: BlockWord,
        named: &HashSet<u64>,
    ) -> Result<bool, BadRegion> {
        let cut = self.cut(first, word)?;
        let (occupied, retired) = (self.bitmap(first, &cut, false), self.bitmap(first, &cut, true));
        for at in (0..cut.bitmap_words()).map(|word| 8 * word) {
            let both = self.region.load(retired + at, Relaxed)?
                & self.region.load(occupied + at, Relaxed)?;
            self.region.store(retired + at, both, Release)?;
        }
        let mut used = false;
        for number in 0..cut.entries {
            let place = Place { block: first, cut, index: number };
            if !self.is_set(&place, false)? {
                continue;
            }
            let at = self.entry_at(first, &cut, number);
            if !named.contains(&at) && !self.is_set(&place, true)? {
                if self.region.load(at + entry::BORN, Acquire)? == 0 {
                    self.mark(&place, false, false)?;
                    continue;
                }
                self.mark(&place, true, true)?;
            }
            used = true;
            if self.is_set(&place, true)? {
                self.note_retired(index, at)?;
            }
        }
        self.region.store(
            self.geometry.block(first) + crate::region::layout::span::LISTED,
            0,
            Relaxed,
        )?;
        if used {
            self.enlist(first, word)?;
        }
        Ok(used)
    }
}
