//! What becomes of dead entries: noted, then spare or free, once nobody can be reading them.
//!
//! 1. A dead entry is occupied, has `born` and `died`, and no slot word names it. That alone says
//!    that it may be freed; the ring of a stripe's lately dead is a hint of where to look.
//! 2. FREE of an entry: after a SeqCst fence, not in a hazard slot, and not kept by a running
//!    snapshot; then `born` := 0, `died` := 0, occupied := 0, in this order.
//! 3. Who passed the test of 2 once passes it for ever: it can't be reached any more, so nobody pins
//!    it anew, and later snapshots are of later revisions. So it may wait among the spares.

#[cfg(test)]
#[cfg(not(loom))]
mod tests;

use crate::heap::class::is_big;
use crate::heap::{BlockWord, Pieces, Space};
use crate::lock::{LockError, Patience};
use crate::region::BadRegion;
use crate::region::layout::{PINS_MAX, RETIRED_MAX, entry, header, member, stripe};
use crate::sync::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::fence;
use crate::table::Core;
use std::collections::HashSet;
use std::time::Duration;

/// Dead entries in a stripe's ring from which on a writer looks which of them may be used anew.
pub(crate) const FREE_BATCH: u64 = 16;
/// Value of `sweep_wanted` while a sweep in pieces of member 0 goes on, and after one that did not come to its end; each member has
/// one: should two sweep, since one was thought to be dead, neither ends the other's.
const SWEEPING: u64 = 2;
/// Spans that are looked for at a time.
const SPANS: usize = 16;
/// Entries ahead of the one that is looked at, of which the processor is told.
const AHEAD: usize = 8;

/// What must not be freed yet.
#[derive(Debug)]
struct Needed {
    pinned: Vec<u64>,
    /// {revision, cleared} of a running snapshot that has not read this stripe.
    kept: Option<(u64, u64)>,
}

impl Core {
    /// Frees what [`Space::sweep_retired`] does, less the spares and what the ring names, and takes the stripe's lock only for
    /// spans in which something is dead, one by one: no writer waits for more. Gives the number freed.
    ///
    /// What dies meanwhile is for the next sweep, unless the ring names it. Who freed what is listed would have it freed twice.
    pub(crate) fn sweep_in_pieces(
        &self,
        me: u32,
        stripe: u64,
        most: Duration,
    ) -> Result<u64, LockError> {
        let (mut pieces, mut freed, mut kept) = (Pieces::of(stripe), 0, false);
        let wanted = self.geometry.stripe(stripe) + stripe::SWEEP_WANTED;
        let sweeping = SWEEPING + u64::from(me);
        let guard = self.lock_stripe(stripe, me, &Patience::new(most))?;
        // Still wanted, should it not come to its end.
        self.region.store(wanted, sweeping, Relaxed)?;
        drop(guard);
        while !pieces.is_over() {
            for span in pieces.next(self, SPANS)? {
                // One that has ended holds nothing.
                let Some(dead) = self.look_in(span, || self.dead_in(stripe, span))? else {
                    continue;
                };
                kept |= dead.kept;
                if dead.entries.is_empty() {
                    continue;
                }
                let guard = self.lock_stripe(stripe, me, &Patience::new(most))?;
                if self.block_word(span.0)? == span.1 {
                    let (needed, named) = (self.needed(stripe)?, self.named_dead(stripe)?);
                    freed += self.sweep_entries(stripe, span, &dead.entries, &needed, &named)?;
                }
                drop(guard);
            }
        }
        let guard = self.lock_stripe(stripe, me, &Patience::new(most))?;
        // Whoever wanted one more since it began gets it.
        if kept || self.region.load(wanted, Relaxed)? == sweeping {
            self.region.store(wanted, u64::from(kept), Relaxed)?;
        }
        drop(guard);
        Ok(freed)
    }
}

/// What was found dead in a span.
#[derive(Debug, Default)]
struct Dead {
    /// What no snapshot keeps.
    entries: Vec<u64>,
    /// Whether there is more, which a snapshot keeps.
    kept: bool,
}

impl Space {
    /// What in a span might be freed. Without the stripe's lock that is a guess.
    fn dead_in(&self, stripe: u64, (first, word): (u64, BlockWord)) -> Result<Dead, BadRegion> {
        let mut dead = Dead::default();
        if !word.holds_entries() {
            return Ok(dead);
        }
        let (cut, kept) = (self.cut(first, word)?, self.kept_in(stripe)?);
        let entries = self.occupied_entries(first, &cut)?;
        for (index, at) in entries.iter().copied().enumerate() {
            if let Some(ahead) = entries.get(index + AHEAD) {
                self.region.prefetch(*ahead);
            }
            if self.region.load(at + entry::DIED, Acquire)? == 0 {
                continue;
            }
            match self.is_kept(at, kept)? {
                true => dead.kept = true,
                false => dead.entries.push(at),
            }
        }
        Ok(dead)
    }

    fn ring_slot(&self, stripe: u64, index: u64) -> u64 {
        self.geometry.stripe(stripe) + stripe::RETIRED + 8 * index
    }

    /// Notes that an entry died. A full ring asks for a sweep. The stripe's lock is held.
    #[inline]
    pub(crate) fn retire(&self, stripe: u64, at: u64) -> Result<(), BadRegion> {
        let base = self.geometry.stripe(stripe);
        let count = self.region.load(base + stripe::RETIRED_COUNT, Relaxed)?;
        if count >= RETIRED_MAX {
            return self.region.store(base + stripe::SWEEP_WANTED, 1, Relaxed);
        }
        self.region.store(self.ring_slot(stripe, count), at, Relaxed)?;
        self.region.store(base + stripe::RETIRED_COUNT, count + 1, Relaxed)
    }

    /// What hazard slots and a running snapshot hold back. The stripe's lock is held.
    fn needed(&self, stripe: u64) -> Result<Needed, BadRegion> {
        // ORDERING: [pin.scan] SeqCst fence: the slot words left these entries before the hazard
        // slots are read; pairs with the SeqCst fence between a pin and its look at the slot word.
        fence(SeqCst);
        let mut pinned = Vec::new();
        for first in (0..self.geometry.members_max).step_by(64) {
            // ORDERING: [pin] Acquire; pairs with the Release stores of pins. The fence suffices: of
            // a pin whose fence came before it, the bit is seen here.
            let mut slots = self.region.load(self.geometry.pinned(first), Acquire)?;
            while slots != 0 {
                let slot = first + u64::from(slots.trailing_zeros());
                slots &= slots - 1;
                self.pins_of(slot, &mut pinned)?;
            }
        }
        Ok(Needed { pinned, kept: self.kept_in(stripe)? })
    }

    /// What a running snapshot keeps of a stripe: {revision, cleared}.
    fn kept_in(&self, stripe: u64) -> Result<Option<(u64, u64)>, BadRegion> {
        let word = |at| self.region.load(at, Acquire);
        let done = self.geometry.stripe(stripe) + stripe::SNAP_DONE;
        let on = word(header::SNAP_ON)? != 0 && word(done)? != word(header::SNAP_ID)?;
        Ok(match on {
            true => Some((word(header::SNAP_REVISION)?, word(header::SNAP_CLEARED)?)),
            false => None,
        })
    }

    fn pins_of(&self, slot: u64, pinned: &mut Vec<u64>) -> Result<(), BadRegion> {
        if slot >= self.geometry.members_max {
            return Ok(());
        }
        for pin in 0..PINS_MAX {
            let at = self.geometry.member(slot) + member::PINS + 8 * pin;
            // ORDERING: [pin] Acquire; pairs with the Release store that unpins. Not for loom to
            // show: it would have to let a guard's load wait for the store that unpins.
            let entry = self.region.load(at, Acquire)?;
            if entry != 0 {
                pinned.push(entry);
            }
        }
        Ok(())
    }

    /// Whether somebody may still need a dead entry.
    fn is_needed(&self, at: u64, needed: &Needed) -> Result<bool, BadRegion> {
        Ok(needed.pinned.contains(&at) || self.is_kept(at, needed.kept)?)
    }

    /// Whether a running snapshot keeps it.
    fn is_kept(&self, at: u64, kept: Option<(u64, u64)>) -> Result<bool, BadRegion> {
        let Some((revision, cleared)) = kept else { return Ok(false) };
        let born = self.region.load(at + entry::BORN, Acquire)?;
        let died = self.region.load(at + entry::DIED, Acquire)?;
        let died = if died == 0 { u64::MAX } else { died };
        Ok(cleared <= born && born <= revision && revision < died)
    }

    /// Looks at what the ring of a stripe names, when that are `at_least` so many: what nobody
    /// needs becomes spare or free. The stripe's lock is held.
    #[inline]
    pub(crate) fn free_retired(&self, stripe: u64, at_least: u64) -> Result<(), BadRegion> {
        let counter = self.geometry.stripe(stripe) + stripe::RETIRED_COUNT;
        let count = self.region.load(counter, Relaxed)?.min(RETIRED_MAX);
        if count < at_least.max(1) { Ok(()) } else { self.free_ring(stripe, count) }
    }

    fn free_ring(&self, stripe: u64, count: u64) -> Result<(), BadRegion> {
        let base = self.geometry.stripe(stripe);
        let needed = self.needed(stripe)?;
        let mut dead = [0; RETIRED_MAX as usize];
        for (index, at) in (0..count).zip(&mut dead) {
            *at = self.region.load(self.ring_slot(stripe, index), Relaxed)?;
        }
        // Before any of them is released: none is ever released twice.
        self.region.store(base + stripe::RETIRED_COUNT, 0, Release)?;
        for at in dead.into_iter().take(count as usize) {
            if self.is_needed(at, &needed)? {
                self.retire(stripe, at)?;
            } else {
                self.release_dead(stripe, at)?;
            }
        }
        if self.region.load(base + stripe::RETIRED_COUNT, Relaxed)? >= RETIRED_MAX / 2 {
            // Whoever holds them back would have every write look at them again.
            self.region.store(base + stripe::SWEEP_WANTED, 1, Relaxed)?;
            self.region.store(base + stripe::RETIRED_COUNT, 0, Relaxed)?;
        }
        Ok(())
    }

    /// Makes a dead entry that nobody needs a spare one, or free.
    fn release_dead(&self, stripe: u64, at: u64) -> Result<(), BadRegion> {
        let word = self.block_word(self.geometry.block_of(at)?)?;
        if word.stripe() != stripe || self.region.load(at + entry::DIED, Relaxed)? == 0 {
            let expected = "a dead entry of this stripe";
            return Err(BadRegion::new(at, word.0, expected));
        }
        let size = self.room_at(at, self.geometry.block_of(at)?, word)?;
        let displaced = match is_big(word.class()) || size > self.spare_size_max() {
            true => Some(at),
            false => self.put_spare(stripe, at, word.class())?,
        };
        match displaced {
            Some(at) => self.vacate(&self.place(at)?),
            None => Ok(()),
        }
    }

    /// Frees every dead entry of a stripe that may go, spares included, and its empty spans. The
    /// stripe's lock is held. Gives the number freed.
    pub(crate) fn sweep_retired(&self, stripe: u64) -> Result<u64, BadRegion> {
        let base = self.geometry.stripe(stripe);
        self.region.store(base + stripe::SWEEP_WANTED, 0, Relaxed)?;
        self.region.store(base + stripe::RETIRED_COUNT, 0, Relaxed)?;
        self.region.store(base + stripe::SPARE_COUNT, 0, Relaxed)?;
        let needed = self.needed(stripe)?;
        let mut freed = 0;
        for (first, word) in self.spans(stripe)? {
            if word.holds_entries() {
                let entries = self.occupied_entries(first, &self.cut(first, word)?)?;
                freed += self.sweep_entries(stripe, (first, word), &entries, &needed, &[])?;
            }
        }
        Ok(freed)
    }

    /// Frees those entries of a span that are dead and may go, less what is named, and the span if it is empty then. The
    /// stripe's lock is held. Gives the number freed.
    fn sweep_entries(
        &self,
        stripe: u64,
        (first, word): (u64, BlockWord),
        entries: &[u64],
        needed: &Needed,
        named: &[u64],
    ) -> Result<u64, BadRegion> {
        let mut freed = 0;
        for at in entries.iter().copied() {
            if self.entry(at)?.died(Acquire)? == 0 || named.contains(&at) {
                continue;
            }
            let place = self.place(at)?;
            if !self.is_occupied(&place)? {
                continue;
            }
            if self.is_needed(at, needed)? {
                self.retire(stripe, at)?;
                continue;
            }
            self.vacate(&place)?;
            freed += 1;
            if self.block_word(first)? != word {
                // It was the last one.
                return Ok(freed);
            }
        }
        if self.is_empty(first, &self.cut(first, word)?)? {
            self.end_span(first, word)?;
        }
        Ok(freed)
    }

    /// Entries that the ring or the spares of a stripe name. Its lock is held.
    fn named_dead(&self, stripe: u64) -> Result<Vec<u64>, BadRegion> {
        let counter = self.geometry.stripe(stripe) + stripe::RETIRED_COUNT;
        let count = self.region.load(counter, Relaxed)?.min(RETIRED_MAX);
        let mut named = self.spares(stripe)?;
        for index in 0..count {
            named.push(self.region.load(self.ring_slot(stripe, index), Relaxed)?);
        }
        Ok(named)
    }

    /// Offsets of a span's occupied entries.
    pub(crate) fn occupied_entries(
        &self,
        first: u64,
        cut: &crate::heap::class::Cut,
    ) -> Result<Vec<u64>, BadRegion> {
        let mut entries = Vec::new();
        for index in 0..cut.bitmap_words() {
            let mut bits = self.occupied(first, index)?;
            while bits != 0 {
                let number = 64 * index + u64::from(bits.trailing_zeros());
                bits &= bits - 1;
                if number < cut.entries {
                    entries.push(self.entry_at(first, cut, number));
                }
            }
        }
        Ok(entries)
    }

    /// Offsets of the entries that a stripe's slot words name.
    pub(crate) fn named(&self, index: u64) -> Result<HashSet<u64>, BadRegion> {
        let mut named = HashSet::new();
        self.each_slot(self.array_word(index)?, |_, word| {
            named.insert(crate::word::offset_of(word));
            Ok(())
        })?;
        Ok(named)
    }
}
