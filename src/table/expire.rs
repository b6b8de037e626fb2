//! Expiry, and keys that vanish with their member. What is past its deadline is absent to every
//! reader at once; the record follows.
//!
//! Entries with a deadline or an owner stand in spans of their own (`heap::class`), so that looking
//! for them costs what they are, not what the bus is. Each stripe keeps the earliest deadline of its
//! entries, as a hint that is never too late: it is lowered before an entry with a deadline is
//! committed, and raised only by a look at all of them under the stripe's lock.

use super::Core;
use super::entry::{Entry, Header};
use super::wish::{Action, Condition, Done, Wish, WriteFailure};
use crate::heap::{Space, State, class};
use crate::lock::Patience;
use crate::region::BadRegion;
use crate::region::layout::{INLINE_CHANGES, header, stripe};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::tally::Counter;
use crate::word::{Name, Realm};
use std::time::{Duration, Instant};

/// Keys that are taken away by one commit at the most.
const CHUNK: usize = 64;

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

    /// Calls `visit` with each entry of a stripe that lives and has a deadline or an owner. The
    /// stripe's lock is held.
    pub(crate) fn each_timed(
        &self,
        index: u64,
        mut visit: impl FnMut(&Entry<'_>, &Header) -> Result<(), BadRegion>,
    ) -> Result<(), BadRegion> {
        let cleared = self.region.load_count(header::CLEARED_AT, Acquire)?;
        for (first, word) in self.spans(index)? {
            if !class::is_timed(word.class()) {
                continue;
            }
            let cut = self.cut(first, word)?;
            for at in self.occupied_entries(first, &cut)? {
                let entry = self.entry(at)?;
                let (born, header) = (entry.born(Acquire)?, entry.header()?);
                let lives = born != 0 && entry.died(Acquire)? == 0;
                if lives && !header.is_cleared(born, cleared) {
                    visit(&entry, &header)?;
                }
            }
        }
        Ok(())
    }

    /// Stripes that have entries with a deadline or an owner.
    pub(crate) fn timed_stripes(&self) -> Result<Vec<u64>, BadRegion> {
        let mut has = vec![false; self.geometry.stripes as usize];
        for block in 0..self.blocks()? {
            let word = self.block_word(block)?;
            if word.state() == State::Head
                && class::is_timed(word.class())
                && let Some(has) = has.get_mut(word.stripe() as usize)
            {
                *has = true;
            }
        }
        Ok((0..self.geometry.stripes).filter(|index| has[*index as usize]).collect())
    }
}

impl Core {
    /// Logs and lets go what has expired in one stripe, until it is over, a few at least. Adds to `gone` how many, those before a
    /// failure too.
    pub(crate) fn expire_stripe(
        &self,
        me: u32,
        index: u64,
        most: Duration,
        is_over: &dyn Fn() -> bool,
        gone: &mut u64,
    ) -> Result<(), WriteFailure> {
        let at = self.geometry.stripe(index) + stripe::DEADLINE;
        let now = self.clock.boot();
        let earliest = self.region.load(at, Relaxed)?;
        if earliest == 0 || earliest > now {
            return Ok(());
        }
        let guard = self.lock_stripe(index, me, &Patience::new(most))?;
        let (begun, mut due, mut next) = (Instant::now(), Vec::new(), 0);
        self.each_timed(index, |entry, header| {
            let deadline = entry.deadline(header)?;
            if deadline != 0 && deadline <= now {
                due.push(entry.key(header)?);
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
        // A look that takes longer than all there is time for pays by as long a work at least.
        let (looked, found) = (begun.elapsed(), Instant::now());
        let is_over = || is_over() && found.elapsed() > looked;
        let action = Action::Expire { time: self.clock.wall() };
        self.write_chunks(me, &due, action, (most, &is_over), gone)
    }

    /// Deletes the keys of one owner, and its locks after them: who gets a lock of the dead finds nothing
    /// else of theirs. Adds to `gone` as [`expire_stripe`](Self::expire_stripe) does.
    pub(crate) fn delete_owned(
        &self,
        me: u32,
        owner: u64,
        most: Duration,
        gone: &mut u64,
    ) -> Result<(), WriteFailure> {
        let mut owned = Vec::new();
        for index in self.timed_stripes()? {
            let guard = self.lock_stripe(index, me, &Patience::new(most))?;
            self.each_timed(index, |entry, header| {
                if entry.owner(header)? == owner {
                    owned.push(entry.key(header)?);
                }
                Ok(())
            })?;
            drop(guard);
        }
        owned.sort_by_key(|(realm, _)| *realm == Realm::Locks);
        let action = Action::DeleteOwned { owner, time: self.clock.wall() };
        self.write_chunks(me, &owned, action, (most, &|| false), gone)
    }

    /// A sign of the keeper's life, where this member is it: in each turn, and amid one, since what it deletes may be much.
    pub(crate) fn beat(&self, me: u32) -> Result<(), BadRegion> {
        if self.region.load(header::KEEPER, Relaxed)? == u64::from(me) + 1 {
            self.region.store(header::HEARTBEAT, self.clock.boot(), Release)?;
        }
        Ok(())
    }

    fn write_chunks(
        &self,
        me: u32,
        keys: &[(Realm, Vec<u8>)],
        action: Action<'_>,
        (most, is_over): (Duration, &dyn Fn() -> bool),
        gone: &mut u64,
    ) -> Result<(), WriteFailure> {
        for (index, chunk) in keys.chunks(CHUNK).enumerate() {
            if index > 0 && is_over() {
                break;
            }
            self.beat(me)?;
            let names = chunk.iter().map(|(realm, key)| Name { realm: *realm, bytes: key });
            let wish = |key| Wish { key, action, condition: Condition::Any };
            let wishes: Vec<_> = names.map(wish).collect();
            let write = |wishes| self.write_batch_within(me, wishes, Patience::new(most));
            let mut tell = |done: Done| {
                self.tally(me, Counter::Expired, done.sorts.expired.into());
                self.tally(me, Counter::Deleted, done.sorts.deleted.into());
                *gone += done.count;
            };
            match write(&wishes) {
                // So many need a list, and a bus that is full has no room for it: fewer need none.
                Err(WriteFailure::NoRoom { .. }) => {
                    for some in wishes.chunks(INLINE_CHANGES as usize) {
                        tell(write(some)?);
                    }
                }
                end => tell(end?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::Clock;
    use super::super::testing::{bus, small};
    use super::*;
    use crate::lock::{CONTENDED, LockError};
    use crate::table::entry::Note;
    use crate::table::wish::KIND_COUNTER;
    use crate::word::Hash;

    /// Plant: decisions that are not made anew when the deadline passed while the commit lock was
    /// waited for: the conditions hold, and the counter goes on from 7.
    #[test]
    fn what_expires_while_a_lock_is_waited_for_does_not_count() {
        let (mut core, _graves) = bus(small(1 << 20));
        core.clock = Clock::fixed(1);
        let note = |deadline, kind| Note { deadline, kind, ..Note::default() };
        let (value, lease) = (7_i64.to_le_bytes(), note(1000, KIND_COUNTER));
        let action = Action::Set { value: &value, note: lease };
        let done = core.write_one(0, &Wish { key: b"k".into(), action, condition: Condition::Any });
        let born = done.unwrap().revision;
        let add = Action::Add { by: 1, time: 0, who: b"" };
        let takes = Action::Set { value: b"mine", note: note(0, 0) };
        let wish =
            |key: &'static [u8], action, condition| Wish { key: key.into(), action, condition };
        let renewal = wish(&b"k"[..], takes, Condition::Revision(born));
        let guarded = [
            wish(b"k", Action::Require, Condition::Revision(born)),
            wish(b"other", takes, Condition::Any),
        ];
        let commit = core.lock_commit(1, &core.patience()).unwrap();
        std::thread::scope(|scope| {
            let renews = scope.spawn(|| core.write_one(2, &renewal));
            // It has decided, and waits for the commit lock.
            let word = || core.region.half(header::COMMIT_LOCK).unwrap().load(Acquire);
            while word() & CONTENDED == 0 {
                std::thread::yield_now();
            }
            core.clock.advance(1000);
            drop(commit);
            let end = renews.join().unwrap();
            assert!(matches!(end, Err(WriteFailure::Conflict { found: None, .. })), "{end:?}");
        });
        let end = core.write_batch(0, &guarded);
        assert!(matches!(end, Err(WriteFailure::Conflict { index: 0, .. })), "{end:?}");
        let done = core.write_one(0, &wish(b"k", add, Condition::Any)).unwrap();
        assert_eq!((done.value, done.count), (1, 2), "from nothing, after the end of the old one");
    }

    /// Promise: what expires goes, however full the bus is.
    /// Plant: no second try with fewer: more keys than stand in the commit record need a list, and that a block.
    #[test]
    fn what_expires_in_a_full_bus_goes() {
        let (mut core, _graves) = bus(small(1 << 20));
        core.clock = Clock::fixed(1000);
        let note = Note { deadline: 2000, kind: KIND_COUNTER, ..Note::default() };
        for number in 0..200 {
            let key = format!("k{number}");
            let (value, condition) = (&[0; 8][..], Condition::Any);
            let key = key.as_bytes().into();
            let wish = Wish { key, action: Action::Set { value, note }, condition };
            core.write_one(0, &wish).unwrap();
        }
        while core.make_span(0, class::LIST, (1, true), 64).is_ok() {}
        core.clock.advance(3000);
        let mut gone = 0;
        for stripe in 0..core.geometry.stripes {
            core.expire_stripe(0, stripe, core.patience, &|| false, &mut gone).unwrap();
        }
        assert_eq!(gone, 200);
    }

    /// Promise: what was committed counts, and so is told, whatever holds up the rest.
    /// Plant: what is gone is given with the end alone.
    #[test]
    fn what_is_gone_counts_before_a_stall() {
        let (core, _graves) = bus(small(1 << 20));
        let stripe = |key: &[u8]| {
            Hash::of(Name::from(key), core.geometry.seed).stripe(core.geometry.stripes)
        };
        let of = |wanted| {
            let keys = (0..).map(|number| format!("k{number}").into_bytes());
            keys.filter(move |key| stripe(key) == wanted)
        };
        let keys: Vec<_> = of(0).take(CHUNK).chain(of(1).take(1)).collect();
        let note = Note { deadline: 1, kind: KIND_COUNTER, ..Note::default() };
        for key in &keys {
            let (value, condition) = (&[0; 8][..], Condition::Any);
            let key = key.as_slice().into();
            core.write_one(0, &Wish { key, action: Action::Set { value, note }, condition })
                .unwrap();
        }
        let due: Vec<_> = keys.into_iter().map(|key| (Realm::Keys, key)).collect();
        let guard = core.lock_stripe(1, 1, &core.patience()).unwrap();
        let (most, mut gone) = (Duration::from_millis(1), 0);
        let end =
            core.write_chunks(0, &due, Action::Expire { time: 1 }, (most, &|| false), &mut gone);
        assert!(matches!(end, Err(WriteFailure::Lock(LockError::Stalled { .. }))), "{end:?}");
        assert_eq!(gone, CHUNK as u64);
        drop(guard);
    }
}
