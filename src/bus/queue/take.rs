//! Taking items: finding one that is free, making it one's own, and waiting for one.
//!
//! ```text
//! TAKE  for each number from the lowest that may be there, below the tail:
//!    1  a claim is there → somebody has it; no item → it is gone for good; else
//!    2  commit { item still has its revision; tries n := tries n + 1, if it is what was read;
//!                claim n := this delivery, if absent; ephemeral, or with an end, or both }
//!       a condition did not hold → 1
//! ```
//!
//! *One live consumer*: a claim is one entry, made only where none is, and step 2 makes it together
//! with the count of the delivery. An item that expired, or was acknowledged, between the look and
//! the commit fails the first condition.
//!
//! *Which numbers are looked at*: those that were there at the last look first, since they are the
//! older ones; then the new ones. Looking at the same items again and again, while many are being
//! worked on, would make each take as slow as they are many: so there is a credit of [`CREDIT`] such
//! looks for each take, and all are looked at when it suffices, and whenever nothing new is there.
//!
//! *Waiting*: the log tells what was put, and which claims went with their holders or were given
//! back (`ear`); what happened before one listens is seen by the look that follows. The end of a claim by its time is nobody's change where the bus has no keeper: the clock
//! tells it. There, too, the dead are buried by who waits for an item or takes one.
//!
//! A death after step 2 leaves a claim, which goes with its member, or at its end.

use super::ear::{Ear, News};
use super::names::{Extent, Held};
use super::taken::Taken;
use super::{Queue, TEND, is_conflict};
use crate::error::QueueError;
use crate::journal::Durability;
use crate::value::Entry;
use std::time::{Duration, Instant};

/// Looks at items that others had at the last look, for each take.
pub(super) const CREDIT: usize = 16;

/// What became of a look at one number.
enum Look {
    /// Gone for good.
    Gone,
    /// Somebody has it, until then if that is known.
    Held(Option<Instant>),
    Mine(Box<Taken>),
}

/// Where the deliveries stand in the batch of a claim.
const TRIES: usize = 1;

/// What became of a claim.
enum Claim {
    Made(Box<Taken>),
    /// The item was delivered another number of times.
    Delivered,
    /// Somebody was faster.
    Beaten,
}

impl Queue {
    /// Takes an item, waiting for one as long as it takes. See [`take_timeout`](Self::take_timeout).
    ///
    /// # Errors
    /// As there.
    pub fn take(&mut self) -> Result<Taken, QueueError> {
        loop {
            if let Some(taken) = self.take_timeout(Duration::from_secs(3600))? {
                return Ok(taken);
            }
        }
    }

    /// Takes the oldest item that nobody has, when there is one.
    ///
    /// # Errors
    /// As [`take_timeout`](Self::take_timeout).
    pub fn try_take(&mut self) -> Result<Option<Taken>, QueueError> {
        if let Some(ear) = &self.ear {
            ear.look_for_cancel()?;
        }
        self.tend_in_time();
        let taken = self.look_around()?;
        self.settle();
        Ok(taken)
    }

    /// Takes the oldest item that nobody has, waiting so long for one; `None` when none came. The
    /// item is this consumer's until it is acknowledged, given back or dropped, until this member
    /// dies or the time of [`visibility`](Self::visibility) is over; then the next one gets it.
    ///
    /// # Errors
    /// [`QueueError::Read`], [`QueueError::Batch`] and [`QueueError::Watch`] as for reading, writing
    /// and watching: [`ReadError::Gone`](crate::ReadError::Gone) after the bus was destroyed, and a
    /// bus that has used up what it keeps for claims is one too;
    /// [`WatchError::Cancelled`](crate::WatchError::Cancelled) by a [`canceller`](Self::canceller).
    /// Nothing was taken then.
    pub fn take_timeout(&mut self, timeout: Duration) -> Result<Option<Taken>, QueueError> {
        let end = Instant::now().checked_add(timeout);
        let taken = self.try_take()?;
        if taken.is_some() || timeout.is_zero() {
            return Ok(taken);
        }
        let mut ear = self.take_ear()?;
        let waited = self.wait_for_item(&mut ear, end);
        self.ear = Some(ear);
        let taken = waited?;
        self.settle();
        Ok(taken)
    }

    fn wait_for_item(
        &mut self,
        ear: &mut Ear,
        end: Option<Instant>,
    ) -> Result<Option<Taken>, QueueError> {
        // What comes after this is told, what came before is seen.
        ear.listen()?;
        let mut taken = self.look_around()?;
        loop {
            if taken.is_none() {
                // By the clock, however much is heard meanwhile.
                taken = self.look_at_due()?;
            }
            if taken.is_some() {
                return Ok(taken);
            }
            let now = Instant::now();
            let mut pause = end.map_or(TEND, |end| end.saturating_duration_since(now));
            if pause.is_zero() {
                return Ok(None);
            }
            pause = pause.min(TEND.saturating_sub(self.tended.elapsed()));
            if let Some(first) = self.known.first_end() {
                pause = pause.min(first.saturating_duration_since(now));
            }
            taken = match ear.hear(&self.desk.names, pause)? {
                Some(News::Came) => self.look_on()?,
                // One that went, or got another end.
                Some(News::Claim(number)) => self.look_at(number)?,
                Some(News::Went(_)) | None => None,
                Some(News::All) => self.look_around()?,
            };
        }
    }

    /// Looks at all that may be free, as far as the credit goes: it is exact when it finds none.
    pub(super) fn look_around(&mut self) -> Result<Option<Taken>, QueueError> {
        self.credit += CREDIT;
        let left = self.known.left.len();
        let is_paid = left <= self.credit;
        if is_paid {
            self.credit = (self.credit - left).min(CREDIT);
            if let Some(taken) = self.look_back()? {
                return Ok(Some(taken));
            }
        }
        match self.look_on()? {
            None if !is_paid => self.look_back(),
            found => Ok(found),
        }
    }

    /// Looks at what was there at the last look.
    fn look_back(&mut self) -> Result<Option<Taken>, QueueError> {
        let mut from = Some(0);
        while let Some(number) = from.and_then(|from| self.known.next_left(from)) {
            if let Some(taken) = self.look_at(number)? {
                return Ok(Some(taken));
            }
            from = number.checked_add(1);
        }
        Ok(None)
    }

    /// Looks at what is new.
    fn look_on(&mut self) -> Result<Option<Taken>, QueueError> {
        loop {
            while let Some(number) = self.next_new()? {
                self.known.mark = number + 1;
                let taken = self.look_at(number)?;
                self.known.saw(number);
                if taken.is_some() {
                    return Ok(taken);
                }
            }
            let place = self.desk.place();
            let (_, extent) = place.extent()?;
            self.known.begin(&place, extent)?;
            let Extent { tail, .. } = extent;
            if self.known.is_far(tail)
                && let Some((head, _)) = place.head()?
            {
                self.known.raise(head, tail);
            }
            self.tail = tail;
            if self.known.mark >= tail {
                return Ok(None);
            }
        }
    }

    /// The next number below the tail as it was seen last; none either when what is known holds no more.
    fn next_new(&mut self) -> Result<Option<u64>, QueueError> {
        let place = self.desk.place();
        if self.known.mark >= self.tail || !self.known.is_on(place.floor()?) {
            return Ok(None);
        }
        self.known.next_new(&place, self.tail)
    }

    /// Looks at claims whose time is over; and after the dead, should nobody else do it.
    fn look_at_due(&mut self) -> Result<Option<Taken>, QueueError> {
        self.tend_in_time();
        for number in self.known.due(Instant::now()) {
            if let Some(taken) = self.look_at(number)? {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    /// Looks at one number below the mark, and takes the item if it is free.
    fn look_at(&mut self, number: u64) -> Result<Option<Taken>, QueueError> {
        // One that others have put since the last look: its turn comes.
        if number >= self.known.mark {
            return Ok(None);
        }
        // Until it is known to be gone it counts as there, whatever fails here.
        self.known.left.entry(number).or_default();
        match self.look(number)? {
            Look::Gone => {
                self.known.left.remove(&number);
                Ok(None)
            }
            Look::Held(end) => {
                self.known.left.insert(number, end);
                Ok(None)
            }
            Look::Mine(taken) => {
                self.known.left.insert(number, self.end_of_claim());
                Ok(Some(*taken))
            }
        }
    }

    fn look(&self, number: u64) -> Result<Look, QueueError> {
        let (place, patience) = (self.desk.place(), self.desk.bus.inner.core.patience());
        // Most are delivered once: it is tried as the first time, and found out if it is not.
        let mut tries = None;
        loop {
            if let Some(claim) = place.claim(number)? {
                let end = claim.expires_in.and_then(|left| Instant::now().checked_add(left));
                return Ok(Look::Held(end));
            }
            let Some(item) = place.item(number)? else { return Ok(Look::Gone) };
            match self.claim(number, item, tries)? {
                Claim::Made(taken) => return Ok(Look::Mine(taken)),
                Claim::Delivered => tries = place.tries(number)?,
                Claim::Beaten => {}
            }
            // Each time somebody else got further, or had; it is looked at again.
            if patience.left().is_zero() {
                return Ok(Look::Held(Some(Instant::now())));
            }
        }
    }

    /// Step 2, for an item that was delivered so often.
    fn claim(&self, number: u64, item: Entry, tries: Option<Held>) -> Result<Claim, QueueError> {
        let attempt = tries.map_or(0, |(tries, _)| tries).saturating_add(1);
        let delivery = i64::try_from(attempt).unwrap_or(i64::MAX);
        let inner = &self.desk.bus.inner;
        // What could not be acknowledged is not taken. The claim itself waits for no disk, like all that `Desk::put` writes.
        inner.check_durability(inner.durability())?;
        let mut batch = self.desk.batch_of_consumer();
        batch.durability(Durability::Visible);
        batch.require_revision(&item.key, item.stat.revision);
        let put = batch.put(self.desk.names.tries(number));
        let mut put = match tries {
            Some((_, revision)) => put.if_revision(revision),
            None => put.if_absent(),
        };
        if let Some(left) = item.stat.expires_in {
            // With its item it goes.
            put = put.ttl(left);
        }
        put.set_counter(delivery);
        let mut put = batch.put(self.desk.names.claim(number)).if_absent();
        if let Some(time) = self.hold.time() {
            put = put.ttl(time);
        }
        if self.hold.is_ephemeral() {
            put = put.ephemeral();
        }
        put.set_counter(delivery);
        match self.desk.bus.commit(&batch) {
            // The claim is the last change.
            Ok(Some(claim)) => {
                let taken = Taken::new(&self.desk, number, attempt, item, claim);
                Ok(Claim::Made(Box::new(taken)))
            }
            Ok(None) => Ok(Claim::Beaten),
            Err(error) if is_conflict(&error) && error.index == TRIES => Ok(Claim::Delivered),
            Err(error) if is_conflict(&error) => Ok(Claim::Beaten),
            Err(error) => Err(error.into()),
        }
    }

    /// When a claim that is made now ends by itself.
    fn end_of_claim(&self) -> Option<Instant> {
        self.hold.time().and_then(|time| Instant::now().checked_add(time))
    }

    /// Tells others where to begin, when it is worth it. It is a hint: whoever fails to give it has
    /// done no harm.
    pub(super) fn settle(&mut self) {
        if self.known.news().is_none() {
            return;
        }
        let Ok(Some((head, revision))) = self.desk.place().head() else { return };
        // What is known may be of before a restore, which brought the head back. A later one gives it another
        // revision.
        if !self.desk.place().floor().is_ok_and(|floor| self.known.is_on(floor)) {
            return;
        }
        self.known.told(head);
        let Some(lowest) = self.known.news() else { return };
        let Ok(value) = i64::try_from(lowest) else { return };
        // Only in place of the lower one: it never goes back.
        let put = self.desk.put(self.desk.names.head()).if_revision(revision);
        if put.set_counter(value).is_ok() {
            self.known.told(lowest);
        }
    }
}
