//! Atomics and mutexes from `std`, or from loom when the protocols are explored under `cfg(loom)`.
//!
//! Everything shared between processes goes through these names, so that a model check runs the
//! real code. They are aliases and not re-exports, so that clippy can forbid the originals.

#[cfg(not(loom))]
mod primitive {
    #![expect(clippy::disallowed_types, reason = "the one facade over the originals")]

    /// A 64-bit word.
    pub(crate) type AtomicU64 = std::sync::atomic::AtomicU64;
    /// A 32-bit word, for locks: the kernel's futexes are 32 bits wide.
    pub(crate) type AtomicU32 = std::sync::atomic::AtomicU32;
    pub(crate) use std::sync::atomic::fence;
    pub(crate) use std::sync::{Mutex, MutexGuard};
}

#[cfg(loom)]
mod primitive {
    /// A 64-bit word.
    pub(crate) type AtomicU64 = loom::sync::atomic::AtomicU64;
    /// A 32-bit word, for locks: the kernel's futexes are 32 bits wide.
    pub(crate) type AtomicU32 = loom::sync::atomic::AtomicU32;
    pub(crate) use loom::sync::atomic::fence;
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

pub(crate) use primitive::{AtomicU32, AtomicU64, Mutex, MutexGuard, fence};
pub(crate) use std::sync::atomic::Ordering;
