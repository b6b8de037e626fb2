//! What a reader of the bus sleeps by: a doorbell of its own, or a timer where nobody rings for it.
//!
//! 1. It looks, spins, looks again, says that it sleeps, looks once more, and only then blocks
//!    (`docs/design.md`, Watching).
//! 2. A canceller sets its flag before it rings: whoever is woken sees it.
//!
//! A death leaves its slot and socket to the burial of its member.

use super::Inner;
use super::counters::Counter;
use crate::doorbell::Sort;
use crate::error::{ReadError, WatchError};
use crate::sys::socket::{BellName, Doorbell, SELF_LOOK, Timer};
use crate::types::limits::WATCHES_MAX;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How long it spins before it sleeps, where there is more than one core.
const SPIN: Duration = Duration::from_micros(20);

/// What wakes it.
#[derive(Debug)]
enum Waker {
    /// Writers ring the watch in this slot, of this member.
    Bell { bell: Doorbell, index: u64, owner: u64 },
    /// Nobody rings for a read-only handle: it looks from time to time.
    Timer(Timer),
}

impl Waker {
    fn wait(&self, timeout: Duration) -> std::io::Result<bool> {
        match self {
            Self::Bell { bell, .. } => bell.wait(timeout),
            Self::Timer(timer) => timer.wait(timeout),
        }
    }
}

/// Somebody who waits for what the bus tells.
#[derive(Debug)]
pub(crate) struct Sleeper {
    inner: Arc<Inner>,
    waker: Waker,
    /// The last look found nothing and set the mark. Mark and ring stay where they are until a later look
    /// finds nothing either: what there is to tell comes before the taking away of rings.
    armed: bool,
    cancelled: Arc<AtomicBool>,
}

/// Ends the wait of a [`Sleeper`] from another thread.
#[derive(Debug, Clone)]
pub(crate) struct Alarm {
    inner: Weak<Inner>,
    name: Option<BellName>,
    cancelled: Arc<AtomicBool>,
}

impl Alarm {
    /// The present wait, or else the next, ends with [`WatchError::Cancelled`].
    pub(crate) fn cancel(&self) {
        // ORDERING: [cancel] Release; pairs with the Acquire swap in `look_for_cancel`. Not for loom to
        // show: a word of the process, and what comes after it is a system call.
        self.cancelled.store(true, Ordering::Release);
        if let (Some(inner), Some(name)) = (self.inner.upgrade(), self.name) {
            inner.ring(name);
        }
    }
}

impl Sleeper {
    /// One that is rung for changes of this sort that its filter, a prefix, lets pass.
    pub(crate) fn new(inner: &Arc<Inner>, sort: Sort, filter: &[u8]) -> Result<Self, WatchError> {
        let waker = Self::register(inner, sort, filter);
        let waker = waker.inspect_err(|_| inner.count(Counter::WatchErrors))?;
        let (inner, cancelled) = (Arc::clone(inner), Arc::default());
        Ok(Self { inner, waker, armed: false, cancelled })
    }

    fn register(inner: &Arc<Inner>, sort: Sort, filter: &[u8]) -> Result<Waker, WatchError> {
        let Some(bells) = &inner.bells else { return Ok(Waker::Timer(Timer::new()?)) };
        inner.writer()?;
        let Some(seat) = inner.seat() else { return Ok(Waker::Timer(Timer::new()?)) };
        let nonce = crate::sys::process::random()?;
        let owner = seat.owner();
        let taken = inner.core.watch_take(owner, nonce, (sort, filter)).map_err(ReadError::from)?;
        let index = taken.ok_or(WatchError::TooMany { limit: WATCHES_MAX })?;
        let mode = inner.core.geometry.mode as u32;
        let bell = Doorbell::bind(bells, BellName { index, nonce }, mode);
        match bell {
            Ok(bell) => Ok(Waker::Bell { bell, index, owner }),
            Err(error) => {
                inner.core.watch_give(index).map_err(ReadError::from)?;
                Err(error.into())
            }
        }
    }

    /// The handle that it waits for.
    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Ends its waits.
    pub(crate) fn alarm(&self) -> Alarm {
        let name = match &self.waker {
            Waker::Bell { bell, .. } => Some(bell.name()),
            Waker::Timer(_) => None,
        };
        let cancelled = Arc::clone(&self.cancelled);
        Alarm { inner: Arc::downgrade(&self.inner), name, cancelled }
    }

    /// Whether this process registered it: a forked child's copy shares the doorbell.
    pub(crate) fn is_ours(&self) -> bool {
        match &self.waker {
            Waker::Bell { owner, .. } => {
                self.inner.seat().is_some_and(|seat| seat.owner() == *owner)
            }
            Waker::Timer(_) => true,
        }
    }

    /// Empties the bell and sets the mark.
    fn arm(&mut self) -> Result<(), WatchError> {
        match &self.waker {
            Waker::Bell { bell, index, .. } => {
                // Before the mark: a ring that comes after it stays, and who took it away has rung.
                bell.drain()?;
                self.inner.core.falls_asleep(*index).map_err(ReadError::from)?;
            }
            Waker::Timer(timer) => timer.drain()?,
        }
        self.armed = true;
        Ok(())
    }

    /// What `look` finds, unless the wait was cancelled.
    fn look<T>(
        &mut self,
        look: &mut impl FnMut(&Arc<Inner>) -> Result<Option<T>, WatchError>,
    ) -> Result<Option<T>, WatchError> {
        self.look_for_cancel()?;
        let found = look(&self.inner)?;
        self.armed &= found.is_none();
        Ok(found)
    }

    /// Takes a cancellation that is there, as the error that tells of it.
    pub(crate) fn look_for_cancel(&self) -> Result<(), WatchError> {
        // ORDERING: [cancel] Acquire; pairs with the Release store in `cancel`. Not for loom to show: a
        // word of the process.
        if self.cancelled.load(Ordering::Relaxed) && self.cancelled.swap(false, Ordering::Acquire) {
            return Err(WatchError::Cancelled);
        }
        Ok(())
    }

    /// Notes up to which revision its reader of the log has come.
    pub(crate) fn passes(&self, revision: u64) {
        if let Waker::Bell { index, .. } = self.waker
            && self.is_ours()
        {
            // A figure for people: what is wrong with the table is told elsewhere.
            let _noted = self.inner.core.watch_passes(index, revision);
        }
    }

    /// Counts how a look ended, if it failed: a cancellation was asked for.
    pub(crate) fn note_error(&self, error: &WatchError) {
        if !matches!(error, WatchError::Cancelled) {
            self.inner.count(Counter::WatchErrors);
        }
    }

    /// What `look` finds; when that is nothing, the doorbell is armed.
    pub(crate) fn poll<T>(
        &mut self,
        mut look: impl FnMut(&Arc<Inner>) -> Result<Option<T>, WatchError>,
    ) -> Result<Option<T>, WatchError> {
        if !self.is_ours() {
            return Err(WatchError::Forked);
        }
        if let Some(found) = self.look(&mut look)? {
            return Ok(Some(found));
        }
        self.arm()?;
        // After the bell was emptied: what the ring told that went with it is seen, a cancellation too.
        if let Some(found) = self.look(&mut look)? {
            return Ok(Some(found));
        }
        if self.inner.is_gone() {
            return Err(ReadError::Gone { path: self.inner.path.clone() }.into());
        }
        Ok(None)
    }

    /// What `look` finds within this time; it looks at the latest whenever `every` has passed.
    pub(crate) fn wait<T>(
        &mut self,
        timeout: Duration,
        every: Duration,
        mut look: impl FnMut(&Arc<Inner>) -> Result<Option<T>, WatchError>,
    ) -> Result<Option<T>, WatchError> {
        // Also before the looks of the spin: a forked child's copy may have something to tell.
        if !self.is_ours() {
            return Err(WatchError::Forked);
        }
        let begun = Instant::now();
        let end = begun.checked_add(timeout);
        let spins = !self.armed && crate::sys::process::cores() > 1;
        while spins && begun.elapsed() < SPIN.min(timeout) {
            if let Some(found) = self.look(&mut look)? {
                return Ok(Some(found));
            }
            std::hint::spin_loop();
        }
        loop {
            if let Some(found) = self.poll(&mut look)? {
                return Ok(Some(found));
            }
            let left = end.map_or(SELF_LOOK, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            self.waker.wait(left.min(every).min(SELF_LOOK))?;
        }
    }
}

impl AsFd for Sleeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.waker {
            Waker::Bell { bell, .. } => bell.as_fd(),
            Waker::Timer(timer) => timer.as_fd(),
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        if let Waker::Bell { bell, index, .. } = &self.waker
            && self.is_ours()
        {
            self.inner.bells.iter().for_each(|bells| bell.remove(bells));
            // A damaged table keeps the slot until the member is buried.
            let _given = self.inner.core.watch_give(*index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Place;
    use super::*;
    use crate::sys::seam::{Call, meanwhile};

    /// A writer whose change was seen already takes the mark and rings, right before the bell is emptied.
    /// Plant: the mark set before the bell is emptied: it sleeps unmarked, and nobody rings it.
    #[test]
    fn who_sleeps_is_marked() {
        let place = Place::new();
        let bus = place.make();
        let mut sleeper = Sleeper::new(&bus.inner, Sort::Keys, b"k").unwrap();
        let writer = Arc::clone(&bus.inner);
        meanwhile(Call::Receive, move || writer.ring_all().unwrap());
        assert_eq!(sleeper.poll(|_| Ok(None::<()>)).unwrap(), None);
        let Waker::Bell { index, .. } = sleeper.waker else { panic!("a member has a bell") };
        assert!(bus.inner.core.wakes(index).unwrap());
    }

    /// Plant: a watch that drains its bell only when a writer cleared its mark is readable for ever.
    #[test]
    fn a_late_ring_is_taken_with_the_next_look() {
        let place = Place::new();
        let bus = place.make();
        let mut sleeper = Sleeper::new(&bus.inner, Sort::Keys, b"k").unwrap();
        let mut nothing = |_: &Arc<Inner>| Ok(None::<()>);
        assert_eq!(sleeper.poll(&mut nothing).unwrap(), None);
        // A writer that cleared the mark of an earlier sleep rings only now.
        bus.inner.ring_all().unwrap();
        let Waker::Bell { index, .. } = sleeper.waker else { panic!("a member has a bell") };
        bus.inner.core.falls_asleep(index).unwrap();
        assert!(sleeper.waker.wait(Duration::ZERO).unwrap());
        assert_eq!(sleeper.poll(&mut nothing).unwrap(), None);
        assert!(!sleeper.waker.wait(Duration::ZERO).unwrap());
    }
}
