//! The members file: who lives, and how a survivor finds out.
//!
//! 1. A member holds the open-file-description lock on its slot's byte of the `members` file for
//!    as long as it lives; the kernel drops it, however the process ends. PIDs are for people.
//! 2. Probing goes through a second description, under a mutex from acquire to release: through
//!    its own one every byte of one's own would look free, and two threads would both acquire.
//! 3. No forked child shares either description.
//! 4. A slot is used only after what still names it was mended.

use crate::lock::Probe;
use crate::sync::{Mutex, MutexGuard};
#[cfg(not(loom))]
use crate::sys::{
    fork::Private,
    lock::{try_lock_byte, unlock_byte},
};
use std::io;
use std::sync::{PoisonError, TryLockError};

/// A description of the `members` file, as far as probing goes.
pub(crate) trait Bytes: std::fmt::Debug {
    /// Locks a byte, without waiting: `false` when another description has it.
    fn try_lock(&self, byte: u64) -> io::Result<bool>;
    /// Unlocks a byte.
    fn unlock(&self, byte: u64) -> io::Result<()>;
}

#[cfg(not(loom))]
impl Bytes for Private {
    fn try_lock(&self, byte: u64) -> io::Result<bool> {
        try_lock_byte(self, byte)
    }
    fn unlock(&self, byte: u64) -> io::Result<()> {
        unlock_byte(self, byte)
    }
}

/// Who may probe, and through which description.
#[derive(Debug)]
pub(crate) struct Prober<B: Bytes> {
    file: Mutex<B>,
}

impl<B: Bytes> Prober<B> {
    /// `file` is a description of its own of the `members` file.
    pub(crate) fn new(file: B) -> Self {
        Self { file: Mutex::new(file) }
    }
    /// Begins to probe, after whoever of this process does.
    pub(crate) fn begin(&self) -> Probing<'_, B> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        Probing { file, held: Vec::new() }
    }
    /// Begins to probe, unless somebody of this process does.
    pub(crate) fn try_begin(&self) -> Option<Probing<'_, B>> {
        let file = match self.file.try_lock() {
            Ok(file) => file,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Probing { file, held: Vec::new() })
    }
}

#[cfg(test)]
#[cfg(not(loom))]
impl Prober<Private> {
    /// Gives the description up, as the death of its process would.
    pub(crate) fn die(&self) {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).die();
    }
}

/// Bytes that are held; released on drop.
#[derive(Debug)]
pub(crate) struct Probing<'a, B: Bytes> {
    file: MutexGuard<'a, B>,
    held: Vec<u32>,
}

impl<B: Bytes> Probe for Probing<'_, B> {
    fn acquire(&mut self, slot: u32) -> bool {
        if self.held.contains(&slot) {
            return true;
        }
        // An error means: no telling, so it lives.
        let acquired = self.file.try_lock(u64::from(slot)).unwrap_or(false);
        if acquired {
            self.held.push(slot);
        }
        acquired
    }
}

impl<B: Bytes> Drop for Probing<'_, B> {
    fn drop(&mut self) {
        for slot in &self.held {
            // What can't be unlocked stays locked until this process ends: others wait, and say so.
            drop(self.file.unlock(u64::from(*slot)));
        }
    }
}
