//! Futexes that processes share (`man 2 futex`).
#![cfg_attr(not(loom), expect(unsafe_code, reason = "futex has no wrapper in libc or nix"))]

use crate::sync::AtomicU32;
use std::time::Duration;

/// Sleeps while the word is `expected`, until woken or for `timeout`; may return early.
#[cfg(not(loom))]
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Duration) {
    if crate::hook::give_way() {
        return;
    }
    let time = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: the word lives as long as the call, the time-out is a local; any outcome means:
    // look again.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &raw const time);
    }
}

/// Wakes one sleeper.
#[cfg(not(loom))]
pub(crate) fn wake_one(word: &AtomicU32) {
    // SAFETY: the kernel reads nothing but the address.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1);
    }
}

/// Wakes all sleepers.
#[cfg(not(loom))]
pub(crate) fn wake_all(word: &AtomicU32) {
    // SAFETY: the kernel reads nothing but the address.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX);
    }
}

/// Under loom a sleep is a yield.
#[cfg(loom)]
pub(crate) fn wait(_: &AtomicU32, _: u32, _: Duration) {
    loom::thread::yield_now();
}

/// Under loom nobody sleeps.
#[cfg(loom)]
pub(crate) fn wake_one(_: &AtomicU32) {}

/// Under loom nobody sleeps.
#[cfg(loom)]
pub(crate) fn wake_all(_: &AtomicU32) {}
