//! Room for a write: what is retired is swept, and the file grows, never under a stripe's or the commit
//! lock.

use super::Inner;
use super::counters::Counter;
use crate::heap::Space;
use crate::lock::{LockError, Patience};
use crate::region::BadRegion;
use crate::region::layout::header;
use crate::sync::Ordering::{Acquire, Release};
use crate::table::guard::Round;
use crate::table::wish::WriteFailure;
use std::fs::File;
use std::io;

/// Bytes by which the file grows at a time, at the most.
const GROWTH_MAX: u64 = 16 << 20;

impl Inner {
    /// Frees what is retired, in every stripe.
    pub(crate) fn sweep(&self, me: u32) -> Result<Round, WriteFailure> {
        let core = &self.core;
        core.in_each_stripe((0, core.patience), &|| false, |stripe, most| {
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
        if core.region.load(header::SIZE, Acquire)? > before {
            return Ok(Ok(()));
        }
        let ungrown = match extend(core, &self.region, blocks)? {
            Ok(()) => {
                self.count(Counter::Growths);
                return Ok(Ok(()));
            }
            Err(ungrown) => ungrown,
        };
        // Not when it is as large as it may be: that is no failure of the file system.
        if matches!(ungrown, Ungrown::Refused { .. }) {
            self.count(Counter::GrowthFailures);
        }
        Ok(Err(ungrown.to_string()))
    }
}

/// Why a file did not grow.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ungrown {
    #[error("it has {size} of at most {max} bytes, and {needed} more are needed")]
    Max { size: u64, max: u64, needed: u64 },
    #[error("{source}")]
    Refused { asked: u64, source: io::Error },
}

/// Makes the file longer, so that a run of so many blocks ends in what is added; by more than that, where there is room for
/// it. Nobody else does meanwhile.
pub(super) fn extend(
    space: &Space,
    file: &File,
    blocks: u64,
) -> Result<Result<(), Ungrown>, BadRegion> {
    let size = space.region.load(header::SIZE, Acquire)?;
    let (max, block) = (space.geometry.max_capacity, space.geometry.block_size());
    // A run may begin in the free blocks before the end. One more at least: those may be a reserve, which is not for all.
    let needed = blocks.saturating_sub(space.free_at_end(blocks)?).max(1).saturating_mul(block);
    let left = max.saturating_sub(size);
    if left < needed {
        return Ok(Err(Ungrown::Max { size, max, needed }));
    }
    let ahead = (size / 4).clamp(block * 16, GROWTH_MAX).max(needed) / block * block;
    let mut step = ahead.min(left);
    let reserve = |step| crate::sys::file::reserve(file, size, step);
    let mut reserved = reserve(step);
    if reserved.is_err() && step > needed {
        step = needed;
        reserved = reserve(step);
    }
    if let Err(source) = reserved {
        return Ok(Err(Ungrown::Refused { asked: size + step, source }));
    }
    // ORDERING: [header.size] Release; pairs with the Acquire load in `blocks`. For the order of
    // a death alone: others ask the kernel.
    space.region.store(header::SIZE, size + step, Release)?;
    Ok(Ok(()))
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::read::ReadBus as _;
    use super::super::testing::Place;
    use crate::error::OpenError;
    use crate::sys::seam::failing;

    /// Promise: a bus is full when there is no room, be it in what is free already and what may be added together.
    /// Plant: the blocks before the end of the file do not count: the fifth is refused, with room for half as much again.
    #[test]
    fn a_run_may_begin_before_the_end() {
        let place = Place::new();
        let bus = place.options().max_capacity(64 << 20).create_at(place.bus()).unwrap();
        let value = vec![1; 23 << 19];
        for number in 0..5 {
            bus.set_bytes(format!("k{number}"), &value).unwrap();
        }
        let error = bus.set_bytes("k5", &value).unwrap_err().to_string();
        assert!(error.contains("of at most 67108864 bytes, and"), "{error}");
        assert!(bus.check().is_clean());
        bus.delete("k0").unwrap();
        bus.set_bytes("k5", &value).unwrap();
    }

    /// Promise: what had room before has it when the bus is built anew.
    /// Plant: no second, smaller try where the file system has not so much.
    #[test]
    fn a_rebuild_takes_what_there_is() {
        let place = Place::new();
        let options = place.options().capacity(1 << 20).max_capacity(16 << 20).log_size(4096);
        let bus = options.create_at(place.bus()).unwrap();
        for number in 0..1000 {
            bus.set_bytes(format!("k{number}"), [1; 3000]).unwrap();
        }
        bus.snapshot().unwrap();
        let capacity = bus.info().unwrap().capacity;
        drop(bus);
        let (mut refused, mut n) = (0, 0);
        loop {
            std::fs::remove_dir_all(place.bus()).unwrap();
            let (end, came) = failing(n, libc::ENOSPC, || options.open_at(place.bus()));
            match end {
                Ok(bus) => {
                    assert_eq!(bus.len().unwrap(), 1000);
                    assert!(bus.info().unwrap().capacity <= capacity + (1 << 20));
                }
                Err(OpenError::NoSpace { .. }) => refused += 1,
                Err(_) => {}
            }
            if !came {
                break;
            }
            std::fs::create_dir_all(place.bus()).unwrap();
            n += 1;
        }
        assert_eq!(refused, 1, "the room that it begins with");
    }
}
