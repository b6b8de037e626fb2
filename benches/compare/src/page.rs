//! A page that processes share by `shared_memory`, with what `raw_sync` makes of one: events and a
//! mutex; and two words for futexes.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0, 64 | a futex word for each side |
//! | 256, 512 | an event for each side |
//! | 1024 | the mutex |
//! | 2048 | the value that the mutex guards, 64 bytes |
#![expect(unsafe_code, reason = "neither crate has a safe way to place something in a page")]

use std::path::Path;
use std::ptr;
#[expect(clippy::disallowed_types, reason = "the bench is not under loom")]
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use raw_sync::Timeout;
use raw_sync::events::{Event, EventImpl, EventInit, EventState};
use raw_sync::locks::{LockGuard, LockImpl, LockInit, Mutex};
use shared_memory::{Shmem, ShmemConf};

use crate::engines::Fail;
use crate::wake::Side;

/// Bytes of the page.
const SIZE: usize = 4096;
/// Bytes of the value that the mutex guards.
pub(crate) const VALUE_SIZE: usize = 64;
const MUTEX_AT: usize = 1024;
const VALUE_AT: usize = 2048;

/// The file that leads to the page, whose own name is in the system's common place.
const LINK: &str = "page";

const fn word_at(side: Side) -> usize {
    match side {
        Side::Near => 0,
        Side::Far => 64,
    }
}

const fn event_at(side: Side) -> usize {
    match side {
        Side::Near => 256,
        Side::Far => 512,
    }
}

/// The errors of `raw_sync` stay in their thread.
fn told(error: Box<dyn std::error::Error>) -> Fail {
    error.to_string().into()
}

/// The page's owner: dropped, the page's name is gone.
pub(crate) struct Page(Shmem);

impl Page {
    /// Makes the page that `directory` leads to, with everything in it.
    pub(crate) fn create(directory: &Path) -> Result<Self, Fail> {
        let page = Self(ShmemConf::new().size(SIZE).flink(directory.join(LINK)).create()?);
        for side in [Side::Near, Side::Far] {
            // SAFETY: the event has these bytes for itself, in a page that is zero and that nobody
            // else has opened yet.
            drop(unsafe { Event::new(page.at(event_at(side)), true) }.map_err(told)?);
        }
        // SAFETY: as above; the value that it guards lies in the page too.
        drop(unsafe { Mutex::new(page.at(MUTEX_AT), page.at(VALUE_AT)) }.map_err(told)?);
        Ok(page)
    }

    fn open(directory: &Path) -> Result<Self, Fail> {
        Ok(Self(ShmemConf::new().flink(directory.join(LINK)).open()?))
    }

    /// The address of a byte of the page, which is whole: `at` is one of the constants.
    fn at(&self, at: usize) -> *mut u8 {
        self.0.as_ptr().wrapping_add(at)
    }

    #[expect(clippy::disallowed_types, reason = "the bench is not under loom")]
    fn word(&self, side: Side) -> &AtomicU32 {
        // SAFETY: the word is aligned, lives as long as the page, and is only used as an atomic.
        unsafe { AtomicU32::from_ptr(self.at(word_at(side)).cast()) }
    }
}

/// Two words with futexes, one for each side's sleep.
pub(crate) struct Futexes {
    page: Page,
    side: Side,
}

impl Futexes {
    /// Joins the page that `directory` leads to.
    pub(crate) fn join(directory: &Path, side: Side) -> Result<Self, Fail> {
        Ok(Self { page: Page::open(directory)?, side })
    }

    /// Stores a number in the other side's word and wakes it.
    pub(crate) fn ring(&self, number: u32) {
        let word = self.page.word(self.side.other());
        word.store(number, Release);
        // SAFETY: the kernel reads nothing but the address.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
    }

    /// Sleeps until the own word is `number`.
    pub(crate) fn wait(&self, number: u32) {
        let word = self.page.word(self.side);
        loop {
            let seen = word.load(Acquire);
            if seen == number {
                return;
            }
            let forever = ptr::null::<libc::timespec>();
            // SAFETY: the word lives as long as the call, without a time-out; any outcome means:
            // look again.
            unsafe {
                libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, seen, forever);
            }
        }
    }
}

/// The two events, each cleared by the wait that it ends.
pub(crate) struct Events {
    own: Box<dyn EventImpl>,
    others: Box<dyn EventImpl>,
    _page: Page,
}

impl Events {
    /// Joins the page that `directory` leads to.
    pub(crate) fn join(directory: &Path, side: Side) -> Result<Self, Fail> {
        let page = Page::open(directory)?;
        let event = |side| {
            // SAFETY: `create` placed it there, and the page lives as long as the event.
            let joined = unsafe { Event::from_existing(page.at(event_at(side))) };
            joined.map(|(event, _)| event).map_err(told)
        };
        Ok(Self { own: event(side)?, others: event(side.other())?, _page: page })
    }

    /// Wakes the other side.
    pub(crate) fn ring(&self) -> Result<(), Fail> {
        self.others.set(EventState::Signaled).map_err(told)
    }

    /// Sleeps until the other side rings.
    pub(crate) fn wait(&self) -> Result<(), Fail> {
        self.own.wait(Timeout::Infinite).map_err(told)
    }
}

/// A value under the mutex.
pub(crate) struct Guarded {
    mutex: Box<dyn LockImpl>,
    _page: Page,
}

impl Guarded {
    /// Joins the page that `directory` leads to.
    pub(crate) fn join(directory: &Path) -> Result<Self, Fail> {
        let page = Page::open(directory)?;
        // SAFETY: `create` placed it there, and the page lives as long as the mutex.
        let joined = unsafe { Mutex::from_existing(page.at(MUTEX_AT), page.at(VALUE_AT)) };
        let (mutex, _) = joined.map_err(told)?;
        Ok(Self { mutex, _page: page })
    }

    /// Locks and unlocks.
    pub(crate) fn pass(&self) -> Result<(), Fail> {
        self.mutex.lock().map(drop).map_err(told)
    }

    /// Copies the value out under the mutex.
    pub(crate) fn read(&self, value: &mut [u8; VALUE_SIZE]) -> Result<(), Fail> {
        let guard = self.mutex.lock().map_err(told)?;
        // SAFETY: the guard leads to the value in the page, which nobody writes meanwhile.
        unsafe { ptr::copy_nonoverlapping((*guard).cast_const(), value.as_mut_ptr(), VALUE_SIZE) };
        Ok(())
    }

    /// Copies the value in under the mutex.
    pub(crate) fn write(&self, value: &[u8; VALUE_SIZE]) -> Result<(), Fail> {
        let guard = self.mutex.lock().map_err(told)?;
        // SAFETY: the guard leads to the value in the page, which nobody reads meanwhile.
        unsafe { ptr::copy_nonoverlapping(value.as_ptr(), *guard, VALUE_SIZE) };
        Ok(())
    }

    /// Locks, waiting no longer than whole seconds: with others the crate makes an invalid time.
    pub(crate) fn lock_within(&self, seconds: u64) -> Result<LockGuard<'_>, Fail> {
        self.mutex.try_lock(Timeout::Val(Duration::from_secs(seconds))).map_err(told)
    }
}
