//! Watch slots, the bits that say who sleeps, and ringing.
//!
//! 1. A watch's filter stands before its bit is set and does not change while it is in use.
//! 2. The bit is the level, the socket its edge: who clears a bit that was set sends one message.
//! 3. A watch sets its bit, fences, looks at the head again, and only then blocks.
//!
//! A writer may die between clearing and sending: therefore a burial rings every watch
//! (`docs/design.md`, WATCH; model E).

use crate::heap::Space;
use crate::region::BadRegion;
use crate::region::layout::{WATCH_PREFIX_MAX, header, watch};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::sync::fence;

/// Name of a watch's socket.
pub(crate) fn bell_name(index: u64, nonce: u64) -> String {
    format!("{index}-{nonce:016x}")
}

impl Space {
    fn watches(&self) -> Result<u64, BadRegion> {
        Ok(self.region.load(header::WATCHES_HIGH, Acquire)?.min(self.geometry.watches_max))
    }

    /// Takes a free watch slot for `owner` and stores its filter: `None` when all are taken.
    pub(crate) fn watch_take(
        &self,
        owner: u64,
        nonce: u64,
        prefix: &[u8],
    ) -> Result<Option<u64>, BadRegion> {
        for index in 0..self.geometry.watches_max {
            let at = self.geometry.watch(index);
            if self.region.load(at + watch::STATE, Relaxed)? != 0 {
                continue;
            }
            self.reach_watch(index)?;
            if self.region.exchange(at + watch::STATE, 0, owner, AcqRel)?.is_err() {
                continue;
            }
            let known = prefix.len().min(WATCH_PREFIX_MAX as usize);
            self.region.store(at + watch::NONCE, nonce, Relaxed)?;
            self.region.store(at + watch::PREFIX_LEN, known as u64, Relaxed)?;
            if known > 0 {
                self.region.write(at + watch::PREFIX, &prefix[..known])?;
            }
            // ORDERING: [watch.filter] SeqCst fence: the filter comes before any bit; pairs with
            // the Acquire load of the bits in `each_sleeper`. So does the bit's own AcqRel.
            fence(SeqCst);
            return Ok(Some(index));
        }
        Ok(None)
    }

    /// Lets whoever looks at the watches look at this one too. Before it is taken: a death between leaves
    /// a slot that is looked at in vain, and never one that no burial finds.
    fn reach_watch(&self, index: u64) -> Result<(), BadRegion> {
        let mut high = self.region.load(header::WATCHES_HIGH, Acquire)?;
        while high <= index {
            match self.region.exchange(header::WATCHES_HIGH, high, index + 1, AcqRel)? {
                Ok(_) => break,
                Err(now) => high = now,
            }
        }
        Ok(())
    }

    /// Gives a watch slot back.
    pub(crate) fn watch_give(&self, index: u64) -> Result<(), BadRegion> {
        self.wakes(index)?;
        self.region.store(self.geometry.watch(index) + watch::STATE, 0, Release)
    }

    /// Says that a watch is about to block. The caller looks at the head again after it.
    pub(crate) fn falls_asleep(&self, index: u64) -> Result<(), BadRegion> {
        self.region.set_bits(self.geometry.asleep(index), 1 << (index % 64), AcqRel)?;
        // ORDERING: [asleep] SeqCst fence: the bit comes before the look at the head; pairs with
        // the SeqCst fence in `each_sleeper`.
        fence(SeqCst);
        Ok(())
    }

    /// Clears a watch's bit: whether it was set.
    pub(crate) fn wakes(&self, index: u64) -> Result<bool, BadRegion> {
        let bit = 1 << (index % 64);
        let at = self.geometry.asleep(index);
        if self.region.load(at, Relaxed)? & bit == 0 {
            return Ok(false);
        }
        Ok(self.region.clear_bits(at, bit, AcqRel)? & bit != 0)
    }

    /// Whether the filter of a watch lets a key pass, as far as writers compare it.
    pub(crate) fn watch_matches(&self, index: u64, key: &[u8]) -> Result<bool, BadRegion> {
        let at = self.geometry.watch(index);
        let len = self.region.load(at + watch::PREFIX_LEN, Relaxed)?.min(WATCH_PREFIX_MAX) as usize;
        Ok(key.len() >= len && self.region.equals(at + watch::PREFIX, &key[..len])?)
    }

    /// After a commit: wakes each sleeping watch that `matches`, by `ring` with its socket's name.
    #[inline]
    pub(crate) fn each_sleeper(
        &self,
        matches: &dyn Fn(u64) -> Result<bool, BadRegion>,
        ring: &dyn Fn(&str),
    ) -> Result<(), BadRegion> {
        // ORDERING: [asleep] SeqCst fence: the head comes before the look at the bits; pairs with
        // the SeqCst fence in `falls_asleep`.
        fence(SeqCst);
        for first in (0..self.watches()?).step_by(64) {
            // ORDERING: [watch.filter] Acquire; pairs with the SeqCst fence in `watch_take`. `wakes`
            // acquires it before the door's name is read; a filter that is not seen yet belongs to
            // a watch that sees the head.
            let mut bits = self.region.load(self.geometry.asleep(first), Acquire)?;
            while bits != 0 {
                let index = first + u64::from(bits.trailing_zeros());
                bits &= bits - 1;
                if matches(index)? && self.wakes(index)? {
                    self.send(index, ring)?;
                }
            }
        }
        Ok(())
    }

    fn send(&self, index: u64, ring: &dyn Fn(&str)) -> Result<(), BadRegion> {
        let nonce = self.region.load(self.geometry.watch(index) + watch::NONCE, Acquire)?;
        ring(&bell_name(index, nonce));
        Ok(())
    }

    /// Rings every watch, whether its bit is set or not: what a burial does.
    pub(crate) fn ring_all(&self, ring: &dyn Fn(&str)) -> Result<(), BadRegion> {
        for index in 0..self.watches()? {
            if self.region.load(self.geometry.watch(index) + watch::STATE, Acquire)? != 0 {
                self.wakes(index)?;
                self.send(index, ring)?;
            }
        }
        Ok(())
    }

    /// Gives back the watches of a dead owner; `ring` names their sockets, to be removed.
    pub(crate) fn watches_of(
        &self,
        owner: u64,
        gone: &mut dyn FnMut(&str),
    ) -> Result<(), BadRegion> {
        for index in 0..self.watches()? {
            let at = self.geometry.watch(index);
            if self.region.load(at + watch::STATE, Acquire)? == owner {
                gone(&bell_name(index, self.region.load(at + watch::NONCE, Acquire)?));
                self.watch_give(index)?;
            }
        }
        Ok(())
    }

    /// Watches that are registered.
    pub(crate) fn watch_count(&self) -> Result<u64, BadRegion> {
        let mut count = 0;
        for index in 0..self.watches()? {
            let state = self.region.load(self.geometry.watch(index) + watch::STATE, Acquire)?;
            count += u64::from(state != 0);
        }
        Ok(count)
    }
}
