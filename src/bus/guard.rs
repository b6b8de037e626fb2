//! Zero-copy reads: an entry that is pinned by a hazard slot, and its bytes in place.
//!
//! 1. The hazard slot names the entry before a SeqCst fence, and the entry is seen to be still in
//!    its slot after it; who frees fences between taking the entry out and reading hazard slots.
//!    So either the pin sees the entry gone, or the free sees the pin (Michael, "Hazard Pointers",
//!    2004).
//! 2. A pinned entry is not written: its bytes are those of a finished change, and its room is not
//!    used anew before the pin is gone.
//! 3. Bytes are only handed out in place on a bus that no other user may write; others get a copy.
//!
//! A death leaves pins in the dead slot; its burial, or the slot's next user, clears them.
#![expect(unsafe_code, reason = "hands out the bytes of a pinned entry without copying them")]

use super::{Bus, Inner};
use crate::error::ReadError;
use crate::region::BadRegion;
use crate::region::layout::{PINS_MAX, entry, member};
use crate::sync::Ordering::{AcqRel, Acquire, Release, SeqCst};
use crate::sync::fence;
use crate::table::read::Seen;
use crate::types::Kind;
use crate::types::Revision;
use crate::value::Stat;
use std::fmt;

/// Where a guard's bytes are.
enum Held<'a> {
    Pinned { bytes: &'a [u8], pin: u64 },
    Copied(Vec<u8>),
}

/// A value that is read in place. As long as the guard lives, its entry is not used anew, whoever
/// replaces the key; so hold it shortly. A handle pins up to 8 entries at a time; beyond that a
/// guard holds a copy.
pub struct ValueGuard<'a> {
    inner: &'a Inner,
    held: Held<'a>,
    stat: Stat,
}

impl fmt::Debug for ValueGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValueGuard").field("stat", &self.stat).finish_non_exhaustive()
    }
}

impl ValueGuard<'_> {
    /// What is known of the entry beside its value.
    #[must_use]
    pub fn stat(&self) -> &Stat {
        &self.stat
    }
    /// Its revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.stat.revision
    }
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.stat.kind
    }
    /// Whether the bytes are the bus's own and no copy.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        matches!(self.held, Held::Pinned { .. })
    }
}

impl std::ops::Deref for ValueGuard<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.held {
            Held::Pinned { bytes, .. } => bytes,
            Held::Copied(bytes) => bytes,
        }
    }
}

impl Drop for ValueGuard<'_> {
    fn drop(&mut self) {
        if let Held::Pinned { pin, .. } = self.held {
            self.inner.unpin(pin);
        }
    }
}

impl Inner {
    fn pin_at(&self, pin: u64) -> Option<u64> {
        let slot = u64::from(self.seat.as_ref()?.slot);
        Some(self.member_at(slot) + member::PINS + 8 * pin)
    }

    /// A hazard slot that no thread of this handle uses.
    fn take_pin(&self) -> Option<u64> {
        self.seat.as_ref()?;
        let all = (1 << PINS_MAX) - 1;
        let mut used = self.pins.load(Acquire);
        loop {
            let pin = u64::from((!used & all).checked_ilog2()?);
            match self.pins.compare_exchange(used, used | 1 << pin, AcqRel, Acquire) {
                Ok(_) => return Some(pin),
                Err(now) => used = now,
            }
        }
    }

    fn unpin(&self, pin: u64) {
        // A forked child's copy of a guard leaves the parent's pin alone.
        if let Some(at) = self.pin_at(pin).filter(|_| !self.fork.is_child()) {
            // ORDERING: [pin] Release: reads of the guard come before it; pairs with the Acquire
            // load of who frees.
            let _unpinned = self.core.region.store(at, 0, Release);
        }
        self.pins.fetch_and(!(1 << pin), AcqRel);
    }

    /// PIN: announces the entry, and looks whether it is still there.
    fn announce(&self, at: u64, seen: &Seen) -> Result<bool, BadRegion> {
        let core = &self.core;
        let entry = seen.header.at;
        // ORDERING: [pin] Release; pairs with the Acquire load of who frees.
        core.region.store(at, entry, Release)?;
        // ORDERING: [pin.scan] SeqCst fence: the pin comes before the second look; pairs with the
        // SeqCst fence in `free_retired`.
        fence(SeqCst);
        let block = core.geometry.block_of(entry)?;
        let stripe = seen.block.stripe();
        Ok(core.slot(seen.slot)? == seen.word
            && core.array_word(stripe)? == seen.array
            && core.region.load(at_born(entry), Acquire)? == seen.born
            && core.block_word(block)? == seen.block)
    }

    /// Whether no other user may write the bus.
    fn is_private(&self) -> bool {
        self.core.geometry.mode & 0o022 == 0
    }

    fn copied(&self, key: &[u8]) -> Result<Option<ValueGuard<'_>>, ReadError> {
        let mut value = Vec::new();
        let stat = self.lookup(key, Some(&mut value), true)?;
        Ok(stat.map(|stat| ValueGuard { inner: self, held: Held::Copied(value), stat }))
    }

    fn pinned(&self, key: &[u8], pin: u64) -> Result<Option<ValueGuard<'_>>, ReadError> {
        let Some(at) = self.pin_at(pin) else { return Ok(None) };
        loop {
            let Some(seen) = self.seen(key)? else { return Ok(None) };
            // A predecessor is about to be retired: a copy is as good.
            if seen.predecessor {
                return Ok(None);
            }
            if !self.announce(at, &seen)? {
                continue;
            }
            let (value, len) = (seen.header.value(), seen.header.value_len);
            // SAFETY: the entry is pinned (invariants 1 and 2) until the guard is dropped, and the
            // bus is private (invariant 3), so that nobody writes these bytes meanwhile.
            let bytes = unsafe { self.core.region.bytes(value, len) }?;
            let who = self.core.who(&seen.header)?;
            let Some(stat) = self.stat_of(&seen, &who) else { return Ok(None) };
            return Ok(Some(ValueGuard { inner: self, held: Held::Pinned { bytes, pin }, stat }));
        }
    }
}

/// Where the birth revision of an entry stands.
const fn at_born(at: u64) -> u64 {
    at + entry::BORN
}

impl Bus {
    /// The value of `key` in place, without a copy.
    ///
    /// # Errors
    /// When the region is damaged or gone.
    pub fn read(&self, key: impl AsRef<[u8]>) -> Result<Option<ValueGuard<'_>>, ReadError> {
        let (inner, key) = (&*self.inner, key.as_ref());
        if !inner.is_private() || inner.fork.is_child() {
            return inner.copied(key);
        }
        let Some(pin) = inner.take_pin() else { return inner.copied(key) };
        match inner.pinned(key, pin) {
            Ok(Some(guard)) => Ok(Some(guard)),
            other => {
                inner.unpin(pin);
                other.map(drop)?;
                inner.copied(key)
            }
        }
    }
}
