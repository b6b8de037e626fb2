//! Room for a write: what is retired is swept, and the file grows, never under a stripe's or the commit
//! lock.

use super::Inner;
use super::counters::Counter;
use crate::lock::{LockError, Patience};
use crate::region::layout::header;
use crate::sync::Ordering::{Acquire, Release};
use crate::table::guard::Round;
use crate::table::wish::WriteFailure;

/// Bytes by which the file grows at a time, at the most.
const GROWTH_MAX: u64 = 16 << 20;

impl Inner {
    /// Frees what is retired, in every stripe.
    pub(crate) fn sweep(&self, me: u32) -> Result<Round, WriteFailure> {
        let core = &self.core;
        core.in_each_stripe(core.patience, &|| false, |stripe, most| {
            core.sweep_cleared(me, stripe, most)?;
            let guard = core.lock_stripe(stripe, me, &Patience::new(most))?;
            let freed = core.sweep_retired(stripe)?;
            drop(guard);
            Ok(freed)
        })
    }

    /// Makes the file longer by at least so many blocks. No stripe and no commit lock is held.
    /// `Err`: why it did not grow.
    pub(crate) fn grow(&self, me: u32, blocks: u64) -> Result<Result<(), String>, WriteFailure> {
        let core = &self.core;
        let lock = core.grow_lock();
        let before = core.region.load(header::SIZE, Acquire)?;
        let outcome = lock.lock(me, &core.patience(), |owner| {
            let Some(mut probe) = core.liveness.probe() else { return Ok(false) };
            Ok::<_, LockError>(probe.acquire(owner) && lock.take_over(owner, me)?)
        });
        // A dead grower leaves a longer file at most; the size word counts.
        if outcome? == crate::lock::LockOutcome::OwnerDied {
            core.tally(me, Counter::Takeovers, 1);
        }
        let end = self.grow_locked(before, blocks);
        lock.unlock();
        end
    }

    fn grow_locked(&self, before: u64, blocks: u64) -> Result<Result<(), String>, WriteFailure> {
        let core = &self.core;
        let size = core.region.load(header::SIZE, Acquire)?;
        let max = core.geometry.max_capacity;
        if size > before {
            return Ok(Ok(()));
        }
        let block = core.geometry.block_size();
        let needed = blocks.saturating_mul(block);
        let step = (size / 4).clamp(block * 16, GROWTH_MAX).max(needed) / block * block;
        let mut step = step.min(max - size.min(max));
        if step < needed {
            return Ok(Err(format!("it is as large as it may be: {size} of {max} bytes")));
        }
        let reserve = |step| crate::sys::file::reserve(&self.region, size, step);
        let mut reserved = reserve(step);
        if reserved.is_err() && step > needed {
            step = needed;
            reserved = reserve(step);
        }
        if let Err(error) = reserved {
            // Not when it is as large as it may be: that is no failure of the file system.
            self.count(Counter::GrowthFailures);
            return Ok(Err(error.to_string()));
        }
        // ORDERING: [header.size] Release; pairs with the Acquire load in `blocks`. For the order of
        // a death alone: others ask the kernel.
        core.region.store(header::SIZE, size + step, Release)?;
        self.count(Counter::Growths);
        Ok(Ok(()))
    }
}
