//! The members file: who lives, and how a survivor finds out.
//!
//! 1. A member holds the open-file-description lock on its slot's byte of the `members` file for
//!    as long as it lives; the kernel drops it, however the process ends. PIDs are for people.
//! 2. Probing goes through a second description, under a mutex from acquire to release: through
//!    its own one every byte of one's own would look free, and two threads would both acquire.
//! 3. No forked child shares either description.
//! 4. A slot is used only after what still names it was mended.

use crate::lock::Probe;
use crate::sys::fork::Private;
use crate::sys::lock::{try_lock_byte, unlock_byte};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// Who may probe, and through which description.
#[derive(Debug)]
pub(crate) struct Prober {
    file: Mutex<Private>,
}

impl Prober {
    /// `file` is a description of its own of the `members` file.
    pub(crate) fn new(file: Private) -> Self {
        Self { file: Mutex::new(file) }
    }
    /// Begins to probe, after whoever of this process does.
    pub(crate) fn begin(&self) -> Probing<'_> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        Probing { file, held: Vec::new() }
    }
    /// Gives the description up, as the death of its process would.
    #[cfg(test)]
    pub(crate) fn die(&self) {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).die();
    }
    /// Begins to probe, unless somebody of this process does.
    pub(crate) fn try_begin(&self) -> Option<Probing<'_>> {
        let file = match self.file.try_lock() {
            Ok(file) => file,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Probing { file, held: Vec::new() })
    }
}

/// Bytes that are held; released on drop.
#[derive(Debug)]
pub(crate) struct Probing<'a> {
    file: MutexGuard<'a, Private>,
    held: Vec<u32>,
}

impl Probe for Probing<'_> {
    fn acquire(&mut self, slot: u32) -> bool {
        if self.held.contains(&slot) {
            return true;
        }
        // An error means: no telling, so it lives.
        let acquired = try_lock_byte(&*self.file, u64::from(slot)).unwrap_or(false);
        if acquired {
            self.held.push(slot);
        }
        acquired
    }
}

impl Drop for Probing<'_> {
    fn drop(&mut self) {
        for slot in &self.held {
            // What can't be unlocked stays locked until this process ends: others wait, and say so.
            drop(unlock_byte(&*self.file, u64::from(*slot)));
        }
    }
}
