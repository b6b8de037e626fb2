//! Zero-copy reads: an entry that is pinned by a hazard slot, and its bytes in place.
//!
//! 1. The room of a pinned entry is not used anew before the pin is gone (`table::pin`).
//! 2. A pinned entry is not written: its bytes are those of a finished change.
//! 3. Bytes are only handed out in place on a bus that no other user may write; others get a copy.
//!
//! 4. Only the process that pinned it reads it: a forked child's copy has no pin of its own.
//!
//! A death leaves pins in the dead slot; its burial, or the slot's next user, clears them.
//!
//! The one unsafe block spares the copy: beside `get_into` in the same run a read in place took 1.12
//! times as long for values of 64 B, 0.40 for 1 KiB, 0.08 for 16 KiB and 0.01 for 128 KiB
//! (`cargo bench --bench get_set -- 20000 16384`).
#![expect(unsafe_code, reason = "hands out the bytes of a pinned entry without copying them")]

use super::counters::Hot;
use super::marks::Marks;
use super::seat::Seat;
use super::{Bus, Inner};
use crate::error::ReadError;
use crate::region::BadRegion;
use crate::region::layout::PINS_MAX;
use crate::sync::Ordering::{AcqRel, Acquire};
use crate::table::pin::Pinned;
use crate::table::read::{ReadFailure, Seen};
use crate::types::Kind;
use crate::types::Revision;
use crate::value::Stat;
use std::fmt;

/// Where a guard's bytes are.
enum Held<'a> {
    Pinned { bytes: &'a [u8], pin: (&'a Seat, u64) },
    Copied(Vec<u8>),
}

/// A value that is read in place. As long as the guard lives, its entry is not used anew, whoever
/// replaces the key; so hold it shortly. A handle pins up to 8 entries at a time; beyond that a
/// guard holds a copy.
///
/// # Panics
/// A guard that was made before a fork is the parent's: in the child its bytes may be anybody's by now, and to read them
/// panics. The child reads the key itself.
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
            Held::Pinned { bytes, pin: (seat, _) } => {
                assert!(
                    !seat.is_forked(),
                    "a guard over a value in place is of the process that forked; read the key here"
                );
                bytes
            }
            Held::Copied(bytes) => bytes,
        }
    }
}

impl Drop for ValueGuard<'_> {
    fn drop(&mut self) {
        if let Held::Pinned { pin, .. } = self.held {
            self.inner.unpin(pin.0, pin.1);
        }
    }
}

impl Inner {
    /// A hazard slot that no thread of this handle uses; a reader has none.
    pub(crate) fn take_pin(&self) -> Option<(&Seat, u64)> {
        let seat = self.seat()?;
        let all = (1 << PINS_MAX) - 1;
        let mut used = seat.pins.load(Acquire);
        let pin = loop {
            let pin = u64::from((!used & all).checked_ilog2()?);
            match seat.pins.compare_exchange(used, used | 1 << pin, AcqRel, Acquire) {
                Ok(_) => break pin,
                Err(now) => used = now,
            }
        };
        if self.core.may_pin(u64::from(seat.slot)).is_ok() {
            return Some((seat, pin));
        }
        seat.pins.fetch_and(!(1 << pin), AcqRel);
        None
    }

    pub(crate) fn unpin(&self, seat: &Seat, pin: u64) {
        // A forked child's copy of a guard leaves the parent's pin alone.
        if !seat.is_forked() {
            let _unpinned = self.core.unpin(self.core.pin_at(u64::from(seat.slot), pin));
        }
        seat.pins.fetch_and(!(1 << pin), AcqRel);
    }

    /// Looks a key up and calls `take` with the entry pinned, so that nothing overtakes it.
    pub(crate) fn find_pinned(
        &self,
        key: &[u8],
        (seat, pin): (&Seat, u64),
        take: &mut impl FnMut(&Seen<'_>) -> Result<(), BadRegion>,
    ) -> Result<Pinned, ReadFailure> {
        self.core.find_pinned(key.into(), self.core.pin_at(u64::from(seat.slot), pin), take)
    }

    /// Whether no other user may write the bus.
    fn is_private(&self) -> bool {
        self.core.geometry.mode & 0o022 == 0
    }

    fn copied(&self, key: &[u8]) -> Result<Option<ValueGuard<'_>>, ReadError> {
        let mut value = Vec::new();
        let stat = self.get(key, Some(&mut value), true)?;
        Ok(stat.map(|stat| ValueGuard { inner: self, held: Held::Copied(value), stat }))
    }

    /// A guard that holds the pin; `None` when there is no entry, or none that can be pinned.
    fn pinned<'a>(
        &'a self,
        key: &[u8],
        pin: (&'a Seat, u64),
    ) -> Result<Option<ValueGuard<'a>>, ReadError> {
        let (mut who, mut marks, mut value) = (Vec::new(), Marks::default(), (0, 0));
        let found = self.find_pinned(key, pin, &mut |seen: &Seen<'_>| {
            who.clear();
            seen.entry.copy_who(&seen.header, &mut who)?;
            value = (seen.entry.value_at(&seen.header), seen.header.value_len as u64);
            marks = Marks::of(seen)?;
            Ok(())
        });
        match found {
            Ok(Pinned::Held) => {}
            Ok(_) | Err(ReadFailure::Contended { .. }) => return Ok(None),
            Err(failure) => return Err(failure.into()),
        }
        let Some(stat) = marks.stat(&self.core.clock, &who) else { return Ok(None) };
        // SAFETY: the entry is pinned (invariants 1 and 2) until the guard is dropped, and the bus
        // is private (invariant 3), so that nobody writes these bytes meanwhile. They are not handed out where the pin is
        // another process's (invariant 4).
        let bytes = unsafe { self.core.region.bytes(value.0, value.1) }?;
        Ok(Some(ValueGuard { inner: self, held: Held::Pinned { bytes, pin }, stat }))
    }
}

impl Bus {
    /// The value of `key` in place, without a copy: for values from some hundred bytes on. Of smaller
    /// ones a copy ([`ReadBus::get_into`](crate::ReadBus::get_into)) costs less than the pin.
    ///
    /// # Errors
    /// When the region is damaged or gone.
    pub fn read(&self, key: impl AsRef<[u8]>) -> Result<Option<ValueGuard<'_>>, ReadError> {
        let (inner, key) = (&*self.inner, key.as_ref());
        inner.check_read(key)?;
        if !inner.is_private() {
            return inner.copied(key);
        }
        let Some(pin) = inner.take_pin() else { return inner.copied(key) };
        match inner.pinned(key, pin) {
            Ok(Some(guard)) => {
                inner.count_hot(Hot::Gets, 1);
                Ok(Some(guard))
            }
            other => {
                inner.unpin(pin.0, pin.1);
                other.map(drop)?;
                inner.copied(key)
            }
        }
    }
}
