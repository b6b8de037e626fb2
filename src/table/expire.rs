//! Expiry: what is past its deadline is absent to every reader at once; the record follows.
//!
//! Each stripe keeps the earliest deadline of its entries, as a hint that is never too late: it is
//! lowered before an entry with a deadline is committed, and raised only by a look at all of them
//! under the stripe's lock.

use super::Core;
use super::write::{Action, Condition, Wish, WriteFailure};
use crate::heap::Space;
use crate::region::BadRegion;
use crate::region::layout::stripe;
use crate::sync::Ordering::Relaxed;
use crate::word::offset_of;

impl Space {
    /// Lowers the stripe's earliest deadline. The stripe's lock is held.
    pub(crate) fn note_deadline(&self, index: u64, deadline: u64) -> Result<(), BadRegion> {
        let at = self.geometry.stripe(index) + stripe::DEADLINE;
        let earliest = self.region.load(at, Relaxed)?;
        if earliest == 0 || deadline < earliest {
            self.region.store(at, deadline, Relaxed)?;
        }
        Ok(())
    }
}

impl Core {
    /// Logs and lets go what has expired in one stripe. Gives how many.
    pub(crate) fn expire_stripe(&self, me: u32, index: u64) -> Result<u64, WriteFailure> {
        let at = self.geometry.stripe(index) + stripe::DEADLINE;
        let now = self.clock.boot();
        let earliest = self.region.load(at, Relaxed)?;
        if earliest == 0 || earliest > now {
            return Ok(0);
        }
        let guard = self.lock_stripe(index, me, self.deadline())?;
        let (mut due, mut next) = (Vec::new(), 0);
        self.each_slot(self.array_word(index)?, |_, word| {
            let at = offset_of(word);
            let header = self.header(at, self.place(at)?.cut.size)?;
            let deadline = self.space.deadline(&header)?;
            if deadline != 0 && deadline <= now {
                let mut key = Vec::new();
                self.region.read_into(header.key(), header.key_len, &mut key)?;
                due.push(key);
            } else if deadline != 0 && (next == 0 || deadline < next) {
                next = deadline;
            }
            Ok(())
        })?;
        // What is due stays noted until it is gone: a death between costs nothing.
        if due.is_empty() {
            self.region.store(at, next, Relaxed)?;
        }
        drop(guard);
        for key in &due {
            let action = Action::Expire { time: self.clock.wall() };
            self.write_one(me, &Wish { key, action, condition: Condition::Any })?;
        }
        Ok(due.len() as u64)
    }
}
