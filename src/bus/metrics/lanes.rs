//! Which lane of a handle a thread counts in.
//!
//! 1. A lane but the last has one thread at a time: it counts there by plain loads and stores. The last
//!    one is for all who found none free: they add atomically.
//! 2. A thread keeps its lane until it ends, or the handle does.
//! 3. Lanes belong to a handle of this process: a forked child gets a slot, and with it lanes of its own.
//!
//! What a thread knows of its lanes is its own; nothing of it is in the region.

use crate::region::layout::LANES_MAX;
use crate::sync::AtomicU64;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use std::cell::{Cell, RefCell};
use std::io;
use std::sync::{Arc, Weak};

/// The lane of all who have none of their own.
pub(crate) const SHARED: usize = LANES_MAX as usize - 1;
/// Handles that a thread remembers without a search.
const KNOWN: usize = 4;

thread_local! {
    /// Ids of handles, and the lanes there.
    static LATELY: [Cell<(u64, usize)>; KNOWN] = const { [const { Cell::new((0, SHARED)) }; KNOWN] };
    static HELD: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
}

/// A lane that a thread has.
#[derive(Debug)]
struct Held {
    id: u64,
    lane: usize,
    taken: Weak<AtomicU64>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // What still runs in this thread counts with all the others.
        LATELY.with(|lately| {
            let place = &lately[place_of(self.id)];
            if place.get().0 == self.id {
                place.set((self.id, SHARED));
            }
        });
        if let Some(taken) = self.taken.upgrade() {
            // ORDERING: [lane] Release: what was counted comes before; pairs with the Acquire exchange in
            // `claim`. Not for loom to show: a word of the process.
            taken.fetch_and(!(1 << self.lane), Release);
        }
    }
}

fn place_of(id: u64) -> usize {
    (id % KNOWN as u64) as usize
}

/// The lanes of a handle.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// Random, so that no handle is taken for one that was there before it.
    id: u64,
    /// A bit for each lane that a thread has.
    taken: Arc<AtomicU64>,
}

impl Lanes {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { id: crate::sys::process::random()?.max(1), taken: Arc::default() })
    }

    /// The lane of this thread.
    #[inline]
    pub(crate) fn mine(&self) -> usize {
        LATELY.with(|lately| {
            let (id, lane) = lately[place_of(self.id)].get();
            if id == self.id { lane } else { self.learn() }
        })
    }

    #[cold]
    fn learn(&self) -> usize {
        // A thread that is ending has none of its own any more.
        let lane = HELD.try_with(|held| self.find(&mut held.borrow_mut())).unwrap_or(SHARED);
        LATELY.with(|lately| lately[place_of(self.id)].set((self.id, lane)));
        lane
    }

    fn find(&self, held: &mut Vec<Held>) -> usize {
        if let Some(found) = held.iter().find(|held| held.id == self.id) {
            return found.lane;
        }
        held.retain(|held| held.taken.strong_count() > 0);
        let Some(lane) = self.claim() else { return SHARED };
        held.push(Held { id: self.id, lane, taken: Arc::downgrade(&self.taken) });
        lane
    }

    fn claim(&self) -> Option<usize> {
        let mut taken = self.taken.load(Relaxed);
        loop {
            let lane = taken.trailing_ones() as usize;
            if lane >= SHARED {
                return None;
            }
            // ORDERING: [lane] Acquire; pairs with the Release in `drop`: the thread that had it has counted.
            // Not for loom to show: a word of the process.
            match self.taken.compare_exchange(taken, taken | 1 << lane, Acquire, Relaxed) {
                Ok(_) => return Some(lane),
                Err(now) => taken = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    /// Plants: a lane that is not given back when its thread ends; a claim that takes a lane which is taken.
    #[test]
    fn each_thread_has_a_lane_of_its_own_as_long_as_it_lives() {
        let lanes = Lanes::new().unwrap();
        assert_eq!((lanes.mine(), lanes.mine()), (0, 0));
        for _ in 0..3 {
            let together = Barrier::new(SHARED + 1);
            let mut seen: Vec<_> = std::thread::scope(|scope| {
                let run = || {
                    let mine = lanes.mine();
                    together.wait();
                    assert_eq!(lanes.mine(), mine);
                    mine
                };
                let threads: Vec<_> = (0..=SHARED).map(|_| scope.spawn(run)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            seen.sort_unstable();
            // The scope ends with the closures, not with the threads: a lane may come back a moment later.
            assert!(seen.windows(2).all(|pair| pair[0] < pair[1] || pair[1] == SHARED), "{seen:?}");
            while lanes.taken.load(Relaxed) != 1 {
                std::thread::yield_now();
            }
        }
    }

    /// Plant: a search that forgets what the thread has: with five handles in turn it takes a new lane each
    /// time.
    #[test]
    fn a_thread_with_many_handles_keeps_its_lanes() {
        let many: Vec<_> = (0..20).map(|_| Lanes::new().unwrap()).collect();
        for _ in 0..3 {
            assert!(many.iter().all(|lanes| lanes.mine() == 0));
        }
        assert!(many.iter().all(|lanes| lanes.taken.load(Relaxed) == 1));
        drop(many);
        let next = Lanes::new().unwrap();
        assert_eq!(next.mine(), 0);
        HELD.with(|held| assert_eq!(held.borrow().len(), 1, "those of handles that are gone go"));
    }
}
