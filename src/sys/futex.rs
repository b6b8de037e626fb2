//! Futexes that processes share (`man 2 futex`).
//!
//! 1. Never `FUTEX_PRIVATE_FLAG`: the kernel then looks for the word by its address in this
//!    process, and a waker in another one finds nobody.
//! 2. A sleep may end early, for any reason. The caller looks at the word again.
//! 3. Waiting needs to read the word alone, so it works on a read-only mapping.
#![cfg_attr(not(loom), expect(unsafe_code, reason = "futex has no wrapper in libc or nix"))]

use crate::sync::AtomicU32;
use std::time::Duration;

/// Why a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Somebody woke it, or a signal did.
    Woken,
    /// The time ran out.
    TimedOut,
    /// The word was no longer what was expected: there was no sleep.
    Changed,
}

/// How long a refused sleep lasts.
#[cfg(not(loom))]
const REFUSED: Duration = Duration::from_millis(1);

/// Sleeps while the word is `expected`, until woken or for `timeout`; may return early.
#[cfg(not(loom))]
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Duration) -> Wake {
    use super::seam::{Call, gate};
    let time = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    let slept = gate(Call::FutexWait).and_then(|()| {
        // SAFETY: the word is a live, aligned `u32` as long as it is borrowed, and the kernel only
        // reads it; the time-out is a local that it only reads.
        let end = unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT,
                expected,
                &raw const time,
            )
        };
        if end == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    });
    match slept.map_err(|error| error.raw_os_error()) {
        Ok(()) | Err(Some(libc::EINTR)) => Wake::Woken,
        Err(Some(libc::ETIMEDOUT)) => Wake::TimedOut,
        Err(Some(libc::EAGAIN)) => Wake::Changed,
        // A filter that forbids the call, say: whoever looks again and again does so slowly.
        Err(_) => {
            std::thread::sleep(timeout.min(REFUSED));
            Wake::TimedOut
        }
    }
}

/// Wakes one sleeper. Gives how many woke.
#[cfg(not(loom))]
pub(crate) fn wake_one(word: &AtomicU32) -> u32 {
    wake(word, 1)
}

/// Wakes all sleepers. Gives how many woke.
#[cfg(not(loom))]
pub(crate) fn wake_all(word: &AtomicU32) -> u32 {
    wake(word, i32::MAX)
}

#[cfg(not(loom))]
fn wake(word: &AtomicU32, count: i32) -> u32 {
    use super::seam::{Call, gate};
    if gate(Call::FutexWake).is_err() {
        return 0;
    }
    // SAFETY: the kernel takes the address for the word's name and touches nothing.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    // A refusal is -1: nobody woke.
    woken.try_into().unwrap_or(0)
}

/// Under loom a sleep is a yield.
#[cfg(loom)]
pub(crate) fn wait(_: &AtomicU32, _: u32, _: Duration) -> Wake {
    loom::thread::yield_now();
    Wake::Woken
}

/// Under loom nobody sleeps.
#[cfg(loom)]
pub(crate) fn wake_one(_: &AtomicU32) -> u32 {
    0
}

/// Under loom nobody sleeps.
#[cfg(loom)]
pub(crate) fn wake_all(_: &AtomicU32) -> u32 {
    0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::map::Mapping;
    use super::super::seam::failing;
    use super::*;
    use crate::sync::Ordering;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(600);

    fn word(map: &Mapping) -> &AtomicU32 {
        // SAFETY: the mapping begins at a page, lives as long as it is borrowed, holds a page of
        // the file, and is touched through this alone.
        unsafe { AtomicU32::from_ptr(map.as_ptr().cast()) }
    }

    /// Two mappings of one word at two addresses, as two processes have it.
    fn two_views(writable: bool) -> (Mapping, Mapping) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        (Mapping::new(&file, 4096, writable).unwrap(), Mapping::new(&file, 4096, true).unwrap())
    }

    /// Plant: with `FUTEX_PRIVATE_FLAG` the waker finds nobody, and the sleepers stay.
    #[test]
    fn a_wake_reaches_sleepers_at_another_address_and_read_only_ones() {
        for writable in [true, false] {
            let (sleepers, waker) = two_views(writable);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| assert_eq!(wait(word(&sleepers), 0, LONG), Wake::Woken));
                }
                let mut woken = 0;
                while woken < 1 {
                    woken += wake_one(word(&waker));
                }
                assert_eq!(woken, 1, "one wake is for one sleeper");
                while woken < 3 {
                    woken += wake_all(word(&waker));
                }
                assert_eq!(woken, 3);
            });
        }
    }

    /// Plant: a wait that does not hand over `expected` sleeps on a changed word.
    #[test]
    fn a_changed_word_is_not_slept_on_and_time_runs_out() {
        let word = AtomicU32::new(7);
        assert_eq!(wait(&word, 8, LONG), Wake::Changed);
        let begun = Instant::now();
        let time = Duration::from_millis(3);
        assert_eq!(wait(&word, 7, time), Wake::TimedOut);
        assert!(begun.elapsed() >= time);
        assert_eq!(word.load(Ordering::Relaxed), 7);
        assert_eq!(wake_all(&word), 0);
    }

    /// Plant: "woken" for every error lets a loop over a refused wait spin.
    #[test]
    fn a_refused_wait_passes_some_time() {
        let word = AtomicU32::new(0);
        let begun = Instant::now();
        assert_eq!(failing(0, libc::ENOSYS, || wait(&word, 0, LONG)).0, Wake::TimedOut);
        assert!(begun.elapsed() >= REFUSED);
        assert_eq!(failing(0, libc::EINTR, || wait(&word, 0, LONG)).0, Wake::Woken);
    }
}
