//! A line of a roll that is this process's.

use super::super::Inner;
use super::roll::{Next, change};
use super::{Address, Fence};
use crate::error::LockError;
use std::sync::Arc;

/// A share in something, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) inner: Arc<Inner>,
    pub(super) fence: Fence,
    pub(super) owner: u64,
    is_over: bool,
}

impl Share {
    pub(super) fn new(inner: &Arc<Inner>, address: &Address, (id, owner): (u64, u64)) -> Self {
        let fence = Fence { address: address.clone(), id };
        Self { inner: Arc::clone(inner), fence, owner, is_over: false }
    }

    /// Whether the roll still has it.
    pub(super) fn is_held(&self) -> Result<bool, LockError> {
        if self.is_over || !self.inner.is_own(self.owner) {
            return Ok(false);
        }
        let (mut roll, _) = super::roll::read(&self.inner, &self.fence.address)?;
        Ok(roll.find(self.fence.id).is_some())
    }

    /// Gives it back; whether it was there.
    pub(super) fn release(&mut self) -> Result<bool, LockError> {
        if std::mem::replace(&mut self.is_over, true) {
            return Ok(true);
        }
        if !self.inner.is_own(self.owner) {
            return Err(LockError::Forked);
        }
        let end = strike(&self.inner, &self.fence.address, self.fence.id);
        // After an error it is held still, and may be tried again.
        self.is_over = end.is_ok();
        end
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // What can't be given back now does not count any more when its member is gone.
        let _end = self.release();
    }
}

/// Takes a line off; whether it was there.
pub(super) fn strike(inner: &Inner, address: &Address, id: u64) -> Result<bool, LockError> {
    let (me, _) = inner.holding_as()?;
    let end = change(inner, address, me, false, |roll| {
        Ok(if roll.strike(id) { Next::Write(true) } else { Next::Keep(false) })
    });
    Ok(end?.0)
}
