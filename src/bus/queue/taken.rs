//! An item that was taken: its acknowledgement, its way back.
//!
//! ```text
//! ACK  commit { claim n still has this consumer's revision; claim n, item n, tries n deleted;
//!               and whatever else is to become visible with it }
//! ```
//!
//! A claim's revision is drawn once: it names one delivery. So of all who ever held an item at most
//! one commits its end, and what that commit holds happens once for each item. It happens at least
//! once, since nothing else ends an item but its own time to live, [`Queue::purge`] and whoever
//! deletes its entry by hand; each other way in which a claim ends leaves the item.
//!
//! *A consumer that was stopped, or is slow*, whose claim ended by its time, finds that its claim is
//! absent or another one's, and nothing of its batch is committed. Whether a claim has ended is
//! decided under the commit lock, like every deadline.
//!
//! *A forked child* has a copy of what its parent took, and drops it: the claim stays the parent's.

use super::{Desk, Queue, is_made};
use crate::bus::batch::Batch;
use crate::error::{BatchError, QueueError, WriteError};
use crate::types::Revision;
use crate::value::Entry;
use serde::de::DeserializeOwned;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// Names one delivery of an item, in a form that other processes can be told: `NUMBER-REVISION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The item's number.
    pub number: u64,
    /// The revision of the claim.
    pub claim: Revision,
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.number, self.claim)
    }
}

/// A text that is no receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no item that was taken: expected NUMBER-REVISION, such as 57-1234")]
pub struct ReceiptError {
    /// What was given.
    pub text: String,
}

impl FromStr for Receipt {
    type Err = ReceiptError;
    fn from_str(text: &str) -> Result<Self, ReceiptError> {
        let parse = || {
            let (number, claim) = text.split_once('-')?;
            Some(Self { number: number.parse().ok()?, claim: claim.parse().ok()? })
        };
        parse().ok_or_else(|| ReceiptError { text: text.to_owned() })
    }
}

/// An item that is this consumer's. It is to be acknowledged when the work is done; dropped, it is
/// given back, as far as that can be done: it takes a write, which may wait for others until the
/// handle's deadline, and whose failure nobody is told of. It may move between threads.
#[derive(Debug)]
#[must_use = "an item that is dropped goes to the next consumer"]
pub struct Taken {
    desk: Desk,
    number: u64,
    attempt: u64,
    item: Entry,
    claim: Revision,
    /// Which member took it.
    owner: Option<u64>,
    /// Whether it is still to be given back.
    held: bool,
}

impl Taken {
    pub(super) fn new(
        desk: &Desk,
        number: u64,
        attempt: u64,
        item: Entry,
        claim: Revision,
    ) -> Self {
        let owner = desk.member();
        Self { desk: desk.clone(), number, attempt, item, claim, owner, held: true }
    }

    /// The item's number: in the order in which items were put. Numbers never come again,
    /// but by a restore.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
    /// Which delivery of the item this is, from 1 on. A high one tells of an item that nobody can
    /// work off, whoever tries.
    #[must_use]
    pub fn attempt(&self) -> u64 {
        self.attempt
    }
    /// The item whole: payload, kind, who put it and when, how long it would have waited.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.item
    }
    /// The payload as a type.
    ///
    /// # Errors
    /// [`ReadError::NotThisKind`](crate::ReadError::NotThisKind) for bytes,
    /// [`ReadError::Decode`](crate::ReadError::Decode) when it is another type. The item stays
    /// taken.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, QueueError> {
        Ok(self.item.decode()?)
    }
    /// The payload's bytes, of any kind.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.item.value
    }
    /// Who put it, when they said.
    #[must_use]
    pub fn who(&self) -> Option<&str> {
        self.item.stat.who.as_deref()
    }
    /// When it was put.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        self.item.stat.time
    }
    /// Names this delivery for other processes. It changes with [`extend`](Self::extend).
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        Receipt { number: self.number, claim: self.claim }
    }
    /// Lets it be: it is not given back when this is dropped, but stays this member's until that one
    /// dies, or until its time is over. Whoever has the receipt may acknowledge it.
    #[must_use = "the receipt is what is left of it"]
    pub fn into_receipt(mut self) -> Receipt {
        self.held = false;
        self.receipt()
    }

    /// Whether the item is still this consumer's. It may be another's as soon as this returns, where
    /// claims have a time: only what is committed together with the acknowledgement is sure.
    ///
    /// # Errors
    /// [`QueueError::Read`] when the bus can't be read.
    pub fn is_mine(&self) -> Result<bool, QueueError> {
        let claim = self.desk.place().claim(self.number)?;
        Ok(self.is_own() && claim.is_some_and(|claim| claim.revision == self.claim))
    }

    /// Says that the work is done: the item is gone.
    ///
    /// # Errors
    /// [`QueueError::Lost`] when the item was not this consumer's any more: the next one has it, or
    /// had it. [`WriteError::NotDurable`] in a [`QueueError::Batch`]: it is done, and not on the disk yet.
    /// Any other error: it is given back.
    pub fn ack(self) -> Result<(), QueueError> {
        self.finish(|_| Ok(())).map(drop)
    }

    /// Says that the work is done, by the commit that makes its results visible: `build` puts them
    /// into the batch. All of it is committed, or nothing is: so whatever dies when, each item has
    /// its results once. `build` may run several times, as in [`Bus::commit_with`](crate::Bus::commit_with).
    ///
    /// ```
    /// # use membus::{Bus, ReadBus};
    /// # fn main() -> Result<(), membus::Error> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let options = Bus::options().directory(directory.path()).state(directory.path().join("state"));
    /// # let bus = options.open("orders")?;
    /// let (mut texts, mut counts) = (bus.queue("texts")?, bus.queue("counts")?);
    /// texts.put("to be or not to be")?;
    /// let taken = texts.take()?;
    /// let words = taken.decode::<String>()?.split(' ').count() as i64;
    /// taken.finish(|batch| {
    ///     batch.add("words/total", words);
    ///     counts.offer().put_in(batch, &words)?;
    ///     Ok(())
    /// })?;
    /// assert_eq!(bus.get::<i64>("words/total")?, Some(6));
    /// assert_eq!((texts.len()?, counts.len()?), (0, 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`QueueError::Lost`] when the item was not this consumer's any more; what `build` says, or
    /// [`QueueError::Batch`] for another change that was refused: then it is given back. In each
    /// case nothing of the batch was committed, but for [`WriteError::NotDurable`] in a
    /// [`QueueError::Batch`]: all of it is done, and not on the disk yet.
    pub fn finish(
        mut self,
        mut build: impl FnMut(&mut Batch) -> Result<(), QueueError>,
    ) -> Result<Option<Revision>, QueueError> {
        self.check_own()?;
        let done = self.desk.bus.commit_with(|batch| {
            if let Some(who) = &self.desk.who {
                batch.who(who);
            }
            self.ack_in(batch);
            build(batch)
        });
        match done {
            Ok(revision) => {
                self.held = false;
                Ok(revision)
            }
            // The condition on the claim comes first.
            Err(QueueError::Batch(BatchError {
                index: 0,
                source: WriteError::Conflict { .. },
            })) => {
                self.held = false;
                Err(self.desk.lost(self.number))
            }
            Err(error) => {
                // Done all the same.
                self.held &= !matches!(&error, QueueError::Batch(error) if is_made(error));
                Err(error)
            }
        }
    }

    /// Adds the acknowledgement to a batch: the condition that the item is this consumer's, and its
    /// end. For a batch that one commits by oneself; [`finish`](Self::finish) does it all. When
    /// [`Bus::commit`](crate::Bus::commit) says `Conflict`, [`is_mine`](Self::is_mine) tells whether it was this one.
    /// After the commit this may be dropped.
    pub fn ack_in(&self, batch: &mut Batch) {
        self.desk.ack_in(self.receipt(), batch);
    }

    /// Gives the item back: the next consumer gets it at once.
    ///
    /// # Errors
    /// [`QueueError::Lost`] when it was not this consumer's any more.
    pub fn release(mut self) -> Result<(), QueueError> {
        self.check_own()?;
        self.held = false;
        self.desk.release(self.receipt())
    }

    /// Gives the item back, but nobody gets it before this time is over: to try again later. It does
    /// not depend on this member any more.
    ///
    /// # Errors
    /// [`QueueError::Lost`] when it was not this consumer's any more.
    pub fn release_after(mut self, delay: Duration) -> Result<(), QueueError> {
        self.check_own()?;
        self.held = false;
        self.desk.release_after(self.receipt(), delay)
    }

    /// From now on the item is this consumer's for so long, whatever was left of the time before.
    /// One that was to stay until this member dies has an end then.
    ///
    /// # Errors
    /// [`QueueError::Lost`] when it was not this consumer's any more.
    pub fn extend(&mut self, time: Duration) -> Result<(), QueueError> {
        self.check_own()?;
        match self.desk.extend(self.receipt(), time) {
            Ok(receipt) => {
                self.claim = receipt.claim;
                Ok(())
            }
            Err(error) => {
                self.held &= !matches!(error, QueueError::Lost { .. });
                Err(error)
            }
        }
    }

    /// Whether this process is the member that took it, and no child of that one.
    fn is_own(&self) -> bool {
        self.desk.member() == self.owner
    }

    fn check_own(&self) -> Result<(), QueueError> {
        if self.is_own() { Ok(()) } else { Err(QueueError::Forked) }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.held && self.is_own() {
            // Who gets it next, gets it at the latest when this member dies or its time is over.
            let _end = self.desk.release(self.receipt());
        }
    }
}

impl Queue {
    /// [`Taken::ack`] by receipt, in whatever process.
    ///
    /// # Errors
    /// [`QueueError::Lost`] when the item is not the receipt's any more; [`WriteError::NotDurable`] when it is
    /// done, and not on the disk yet.
    pub fn ack(&self, receipt: Receipt) -> Result<(), QueueError> {
        let mut batch = self.desk.batch_of_consumer();
        self.desk.ack_in(receipt, &mut batch);
        match self.desk.bus.commit(&batch) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.desk.told(receipt.number, error.source)),
        }
    }
    /// [`Taken::release`] by receipt, in whatever process.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn release(&self, receipt: Receipt) -> Result<(), QueueError> {
        self.desk.release(receipt)
    }
    /// [`Taken::release_after`] by receipt, in whatever process.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn release_after(&self, receipt: Receipt, delay: Duration) -> Result<(), QueueError> {
        self.desk.release_after(receipt, delay)
    }
    /// [`Taken::extend`] by receipt, in whatever process: the receipt from then on.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn extend(&self, receipt: Receipt, time: Duration) -> Result<Receipt, QueueError> {
        self.desk.extend(receipt, time)
    }
}

impl Desk {
    /// The condition on the claim, which comes first, and what is deleted.
    fn ack_in(&self, receipt: Receipt, batch: &mut Batch) {
        let (names, number) = (&self.names, receipt.number);
        batch.put(names.claim(number)).if_revision(receipt.claim).delete();
        batch.delete(names.item(number)).delete(names.tries(number));
    }

    fn release(&self, receipt: Receipt) -> Result<(), QueueError> {
        let put = self.put(self.names.claim(receipt.number)).if_revision(receipt.claim);
        put.delete().map(drop).map_err(|error| self.told(receipt.number, error))
    }

    fn release_after(&self, receipt: Receipt, delay: Duration) -> Result<(), QueueError> {
        let tries = self.place().tries(receipt.number)?.map_or(0, |(tries, _)| tries);
        let delivery = i64::try_from(tries).unwrap_or(i64::MAX);
        let mut put = self.put(self.names.claim(receipt.number));
        put.reserve = true;
        let put = put.if_revision(receipt.claim).ttl(delay);
        put.set_counter(delivery).map(drop).map_err(|error| self.told(receipt.number, error))
    }

    fn extend(&self, receipt: Receipt, time: Duration) -> Result<Receipt, QueueError> {
        let put = self.put(self.names.claim(receipt.number)).if_revision(receipt.claim);
        match put.expire(Some(time)) {
            Ok(Some(claim)) => Ok(Receipt { claim, ..receipt }),
            Ok(None) => Err(self.lost(receipt.number)),
            Err(error) => Err(self.told(receipt.number, error)),
        }
    }

    /// A conflict about a claim means that it is lost.
    fn told(&self, number: u64, error: WriteError) -> QueueError {
        match error {
            WriteError::Conflict { .. } => self.lost(number),
            error => error.into(),
        }
    }

    fn lost(&self, number: u64) -> QueueError {
        let claim = self.place().claimant(number).ok().flatten();
        let holder = claim.map(|claim| claim.who.unwrap_or_else(|| "somebody".to_owned()));
        QueueError::Lost { queue: self.names.queue().to_owned(), number, holder }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::Place as Room;
    use crate::{Bus, ReadBus};
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(60);

    fn queue() -> (Bus, Queue, Room) {
        let room = Room::new();
        let bus = room.make();
        let mut queue = bus.queue("q").unwrap().who("me");
        queue.put("item").unwrap();
        (bus, queue, room)
    }

    /// Waits out a claim: until the item is free.
    fn outlive(queue: &Queue) {
        let begun = Instant::now();
        while queue.view().in_flight().unwrap() > 0 {
            assert!(begun.elapsed() < LONG, "the claim does not end");
        }
    }

    /// Plant: an acknowledgement without the condition on the claim: the slow one's results count too.
    #[test]
    fn of_all_who_held_an_item_one_finishes_it() {
        let (bus, queue, _room) = queue();
        let mut slow = queue.clone().who("slow").visibility(Duration::from_millis(10));
        let mut quick = queue.clone().who("quick");
        let late = slow.try_take().unwrap().unwrap();
        outlive(&queue);
        assert!(!late.is_mine().unwrap());
        let again = quick.try_take().unwrap().unwrap();
        assert_eq!((late.attempt(), again.attempt(), again.is_mine().unwrap()), (1, 2, true));
        let end = late.finish(|batch| {
            batch.add("done", 1);
            Ok(())
        });
        let Err(QueueError::Lost { number, holder, queue: name }) = end else { panic!("{end:?}") };
        assert_eq!((number, holder.as_deref(), &*name), (again.number(), Some("quick"), "q"));
        assert_eq!(bus.get::<i64>("done").unwrap(), None);
        let mut batch = Batch::new();
        again.ack_in(&mut batch);
        batch.add("done", 1);
        bus.commit(&batch).unwrap();
        assert!(bus.commit(&batch).is_err(), "and not twice");
        assert!(matches!(again.ack(), Err(QueueError::Lost { holder: None, .. })));
        assert_eq!((bus.get::<i64>("done").unwrap(), queue.len().unwrap()), (Some(1), 0));
    }

    /// Plant: a batch that fails lets the item be: it stays taken.
    #[test]
    fn what_could_not_be_finished_is_given_back() {
        let (bus, mut queue, _room) = queue();
        bus.set("other", &1).unwrap();
        let end = queue.try_take().unwrap().unwrap().finish(|batch| {
            batch.require_absent("other");
            Ok(())
        });
        assert!(matches!(end, Err(QueueError::Batch(_))), "{end:?}");
        let end = queue.try_take().unwrap().unwrap().finish(|_| Err(QueueError::Forked));
        assert!(matches!(end, Err(QueueError::Forked)));
        let taken = queue.try_take().unwrap().unwrap();
        assert_eq!(taken.attempt(), 3);
        // Nobody can work it off: it goes aside.
        let mut aside = bus.queue("aside").unwrap();
        let item = taken.entry().clone();
        let end = taken.finish(|batch| aside.offer().put_entry_in(batch, &item).map(drop));
        assert!(end.is_ok() && queue.is_empty().unwrap());
        let moved = aside.take().unwrap();
        assert_eq!((moved.bytes(), moved.entry().stat.kind), (&*item.value, item.stat.kind));
    }

    /// Plants: an extension that draws no new claim; a time that is not passed on.
    #[test]
    fn times_are_extended_and_put_off() {
        let (bus, queue, _room) = queue();
        let mut short = queue.clone().visibility(LONG);
        let mut taken = short.try_take().unwrap().unwrap();
        let before = taken.receipt();
        let left = || {
            let item = queue.view().items().unwrap().next().unwrap().unwrap();
            let claim = item.claim.unwrap();
            (claim.expires_in.unwrap(), claim.ephemeral, claim.who.unwrap())
        };
        assert!(left().0 > LONG / 2);
        taken.extend(LONG * 10).unwrap();
        let (time, ephemeral, who) = left();
        assert!(time > LONG * 5 && ephemeral && who == "me", "{time:?} {who}");
        assert!(
            taken.receipt() != before && matches!(queue.ack(before), Err(QueueError::Lost { .. }))
        );
        taken.extend(Duration::from_millis(5)).unwrap();
        outlive(&queue);
        assert!(matches!(taken.extend(LONG), Err(QueueError::Lost { .. })));
        drop(taken);
        let again = queue.clone().try_take().unwrap().unwrap();
        again.release_after(Duration::from_millis(30)).unwrap();
        assert_eq!((queue.view().in_flight().unwrap(), left().1), (1, false));
        outlive(&queue);
        assert_eq!(queue.clone().try_take().unwrap().unwrap().attempt(), 3);
        drop(bus);
    }

    /// Plants: a claim that is ephemeral all the same; a receipt that is given back when it is dropped.
    #[test]
    fn a_detached_item_outlives_who_took_it() {
        let (bus, queue, room) = queue();
        let other = room.options().attach_at(room.bus()).unwrap();
        let taken = other.queue("q").unwrap().detached(LONG).take().unwrap();
        let receipt: Receipt = taken.into_receipt().to_string().parse().unwrap();
        drop(other);
        assert!(queue.clone().try_take().unwrap().is_none());
        let receipt = queue.extend(receipt, LONG * 2).unwrap();
        queue.release(receipt).unwrap();
        assert!(matches!(queue.release(receipt), Err(QueueError::Lost { .. })));
        let receipt = queue.clone().take().unwrap().into_receipt();
        queue.release_after(receipt, Duration::ZERO).unwrap();
        outlive(&queue);
        let receipt = queue.clone().take().unwrap().into_receipt();
        assert_eq!(queue.view().in_flight().unwrap(), 1);
        queue.ack(receipt).unwrap();
        assert!(queue.is_empty().unwrap() && bus.keys("queue/q/claim").unwrap().is_empty());
        for wrong in ["", "1", "1-", "-1", "1-0", "1-2-3", "a-1"] {
            assert!(wrong.parse::<Receipt>().is_err(), "{wrong}");
        }
    }
}
