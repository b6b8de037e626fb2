//! PIN: an entry is announced in a hazard slot, and nobody uses it anew as long as it stands there.
//!
//! 1. A member sets its bit among those that may have pins before it announces its first one.
//! 2. The hazard slot names the entry before a SeqCst fence, and the entry is seen to be still in
//!    its slot after it; who frees fences between taking the entry out and reading hazard slots.
//!    So either the pin sees the entry gone, or the free sees the pin (Michael, "Hazard Pointers",
//!    2004).
//! 3. What a pin kept is read before the pin goes.
//!
//! A death leaves pins in the dead slot; its burial, or the slot's next user, clears them.

use super::Core;
use super::read::{ATTEMPTS, ReadFailure, Seen, Track};
use crate::region::BadRegion;
use crate::region::layout::member;
use crate::sync::Ordering::{Relaxed, Release, SeqCst};
use crate::sync::fence;
use crate::word::Name;

/// How a look at an entry with a pin ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pinned {
    Absent,
    /// What was taken stays as it is until the pin goes.
    Held,
    /// What was taken was good when it was taken.
    Passed,
}

impl Core {
    /// The `pin`-th hazard slot of the member in `slot`.
    pub(crate) fn pin_at(&self, slot: u64, pin: u64) -> u64 {
        self.geometry.member(slot) + member::PINS + 8 * pin
    }

    /// Says that the member in `slot` may have pins from now on.
    pub(crate) fn may_pin(&self, slot: u64) -> Result<(), BadRegion> {
        let (bitmap, bit) = (self.geometry.pinned(slot), 1 << (slot % 64));
        if self.region.load(bitmap, Relaxed)? & bit == 0 {
            // ORDERING: [pin] Release; pairs with the Acquire load of who frees. The fence in
            // `announce` suffices, also for a thread that saw the bit set by another one.
            self.region.set_bits(bitmap, bit, Release)?;
        }
        Ok(())
    }

    /// Takes a pin away.
    pub(crate) fn unpin(&self, place: u64) -> Result<(), BadRegion> {
        // ORDERING: [pin] Release: reads of the guard come before it; pairs with the Acquire
        // load of who frees. Not for loom to show: it lets no load wait for a later store.
        self.region.store(place, 0, Release)
    }

    /// PIN: announces an entry, and looks whether it is still there.
    fn announce(&self, place: u64, at: u64, track: &Track) -> Result<bool, BadRegion> {
        // ORDERING: [pin] Release; pairs with the Acquire load of who frees. The fence suffices.
        self.region.store(place, at, Release)?;
        // ORDERING: [pin.scan] SeqCst fence: the pin comes before the second look; pairs with the
        // SeqCst fence in `needed`.
        fence(SeqCst);
        self.leads_still(track)
    }

    /// Looks a key up and calls `take` with the entry pinned at `place`, so that nothing overtakes
    /// it. A predecessor is about to be retired and can't be pinned: it is taken as in any read.
    pub(crate) fn find_pinned(
        &self,
        name: Name<'_>,
        place: u64,
        take: &mut impl FnMut(&Seen<'_>) -> Result<(), BadRegion>,
    ) -> Result<Pinned, ReadFailure> {
        for _ in 0..ATTEMPTS {
            let (mut track, mut deadline) = (None, 0);
            let found = self.read(name, |seen| {
                track = seen.trail.map(|trail| trail.track());
                deadline = seen.deadline;
                Ok(())
            })?;
            if !found {
                return Ok(Pinned::Absent);
            }
            let Some(track) = track else {
                return Ok(if self.read(name, take)? { Pinned::Passed } else { Pinned::Absent });
            };
            let entry = &self.tracked(&track)?;
            if self.announce(place, entry.at(), &track)? {
                let (header, born) = (entry.header()?, track.born);
                take(&Seen { entry, header, born, deadline, trail: None })?;
                return Ok(Pinned::Held);
            }
        }
        Err(ReadFailure::Contended { attempts: ATTEMPTS })
    }
}
