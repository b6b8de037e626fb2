//! Putting items into a queue, alone or in a batch with other changes.
//!
//! ```text
//! PUT  1  no tail: tail := 0, if absent
//!      2  n := tail's value; 0: n := the revision of tail, which is new
//!      3  commit { tail still has that revision; tail := n + 1; item n := payload, if absent;
//!                  head := n, if tail was 0 }; another producer was faster: 2
//! ```
//!
//! *Numbers never come again*, whatever becomes of the queue's entries: the first number of a life is
//! the revision of its tail, and every number that an earlier life gave out is below the revision of
//! the commit that gave it out. A bus that is rebuilt from a snapshot goes on far above its old
//! revisions, in a life of its own that no handle has seen. So what a consumer holds of an item that
//! went with `clear` fits no later one.
//!
//! *A restore brings them back*, tail, head and items, under the handles that live: each handle begins anew
//! behind it (`known`). What somebody holds fits none of these either, their claims having the restore's
//! revision; and so has the tail, on which a put depends.
//!
//! A death leaves a tail of 0 at the most, which counts as none; step 3 is one commit.

use super::names::{Extent, Names, is_tail};
use super::{Queue, is_conflict};
use crate::bus::Bus;
use crate::bus::batch::Batch;
use crate::bus::write::encode;
use crate::error::{BatchError, QueueError, WriteError};
use crate::table::wish::{KIND_BYTES, KIND_COUNTER, KIND_STRUCTURE};
use crate::types::Revision;
use crate::value::Entry;
use serde::Serialize;
use std::time::{Duration, Instant};

/// What is put: its bytes, and their kind.
#[derive(Debug, Clone)]
struct Payload {
    bytes: Vec<u8>,
    kind: u8,
}

impl Payload {
    fn encode<T: Serialize + ?Sized>(names: &Names, value: &T) -> Result<Self, QueueError> {
        Ok(Self { bytes: encode(&names.items(), value)?, kind: KIND_STRUCTURE })
    }
    fn bytes(value: impl AsRef<[u8]>) -> Self {
        Self { bytes: value.as_ref().to_vec(), kind: KIND_BYTES }
    }
    fn counter(value: i64) -> Self {
        Self { bytes: value.to_le_bytes().to_vec(), kind: KIND_COUNTER }
    }
}

/// The tail as a put finds it.
#[derive(Debug, Clone, Copy)]
struct Tail {
    /// Below which number all were given out.
    extent: Extent,
    /// The number of the next item.
    next: u64,
    /// The revision that the tail must still have.
    revision: Option<Revision>,
    /// Whether this is the queue's first item.
    first: bool,
}

/// An item that is being put together.
#[derive(Debug)]
#[must_use = "nothing is put before `put`, `put_bytes`, `put_counter` or one of the `put_in`"]
pub struct Offer<'q> {
    queue: &'q mut Queue,
    who: Option<String>,
    ttl: Option<Duration>,
    timeout: Option<Duration>,
}

impl Offer<'_> {
    /// How long the item may wait to be taken, from the commit on. Past it nobody is given it; whoever
    /// was given it before may finish it.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
    /// Who puts it; otherwise who the queue's handle says. In a batch the batch says it.
    pub fn who(mut self, who: &str) -> Self {
        self.who = Some(who.to_owned());
        self
    }
    /// How long to wait for room, should the queue be full; otherwise for the deadline of the bus's
    /// handle (5 s unless it was opened with another). In a batch it is not waited for.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Puts any `serde` value, as MessagePack with field names; gives the item's number.
    ///
    /// # Errors
    /// [`QueueError::Full`] when no room came in time; [`QueueError::Write`] and
    /// [`QueueError::Batch`] as for any write, a full bus too. Then nothing was put, but for
    /// [`WriteError::NotDurable`]: the item is there for everybody, and not on the disk yet.
    pub fn put<T: Serialize + ?Sized>(self, value: &T) -> Result<u64, QueueError> {
        let payload = Payload::encode(&self.queue.desk.names, value)?;
        self.commit(&payload)
    }
    /// Puts bytes as they are; gives the item's number.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_bytes(self, value: impl AsRef<[u8]>) -> Result<u64, QueueError> {
        self.commit(&Payload::bytes(value))
    }
    /// Puts a counter; gives the item's number.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_counter(self, value: i64) -> Result<u64, QueueError> {
        self.commit(&Payload::counter(value))
    }
    /// Adds the put of any `serde` value to a batch, which must be committed by
    /// [`Bus::commit_with`] or [`Taken::finish`](super::taken::Taken::finish): when another producer is faster, it has to be
    /// built anew. Gives the item's number.
    ///
    /// # Errors
    /// [`QueueError::Full`] when there is no room now; the batch stays as it was.
    pub fn put_in<T: Serialize + ?Sized>(
        self,
        batch: &mut Batch,
        value: &T,
    ) -> Result<u64, QueueError> {
        let payload = Payload::encode(&self.queue.desk.names, value)?;
        self.join(batch, &payload)
    }
    /// The same with bytes as they are.
    ///
    /// # Errors
    /// As [`put_in`](Self::put_in).
    pub fn put_bytes_in(
        self,
        batch: &mut Batch,
        value: impl AsRef<[u8]>,
    ) -> Result<u64, QueueError> {
        self.join(batch, &Payload::bytes(value))
    }
    /// The same with a counter.
    ///
    /// # Errors
    /// As [`put_in`](Self::put_in).
    pub fn put_counter_in(self, batch: &mut Batch, value: i64) -> Result<u64, QueueError> {
        self.join(batch, &Payload::counter(value))
    }
    /// The same with the payload of an entry as it is, such as [`Taken::entry`](super::taken::Taken::entry):
    /// to pass an item on, or to set one aside that nobody can work off.
    ///
    /// # Errors
    /// As [`put_in`](Self::put_in).
    pub fn put_entry_in(self, batch: &mut Batch, entry: &Entry) -> Result<u64, QueueError> {
        let payload = Payload { bytes: entry.value.clone(), kind: entry.stat.kind.byte() };
        self.join(batch, &payload)
    }

    fn commit(self, payload: &Payload) -> Result<u64, QueueError> {
        let Self { queue, who, ttl, timeout } = self;
        let core = &queue.desk.bus.inner.core;
        let (waits, mut patience) = (timeout.unwrap_or(core.patience), core.patience());
        let end = Instant::now().checked_add(waits);
        let mut skipped = 0;
        loop {
            let tail = queue.tail()?;
            if let Err(full) = queue.room(tail.extent, 0, true) {
                queue.wait_for_room(end, full)?;
                patience = queue.desk.bus.inner.core.patience();
                continue;
            }
            let (number, mut batch) = (tail.next + skipped, queue.desk.batch());
            if let Some(who) = &who {
                batch.who(who);
            }
            queue.plan(&mut batch, &tail, number, payload, ttl);
            match queue.desk.bus.commit(&batch) {
                Ok(_) => return Ok(number),
                // An item that no queue has put there. It is passed by, not overwritten.
                Err(error) if is_conflict(&error) && error.index == 1 => skipped += 1,
                Err(error) if is_conflict(&error) && !patience.left().is_zero() => skipped = 0,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn join(self, batch: &mut Batch, payload: &Payload) -> Result<u64, QueueError> {
        let Self { queue, ttl, .. } = self;
        let mut tail = queue.tail()?;
        let mut planned = 0;
        // What this batch has put into this queue already.
        if let Some(word) =
            batch.planned(&queue.desk.names.tail()).and_then(|word| word.try_into().ok())
        {
            let next = u64::try_from(i64::from_le_bytes(word)).unwrap_or_default();
            planned = next.saturating_sub(tail.next);
            tail = Tail { next, revision: None, first: false, ..tail };
        }
        queue.room(tail.extent, planned, true)?;
        let mut number = tail.next;
        while queue.desk.place().has_item(number)? {
            number += 1;
        }
        queue.plan(batch, &tail, number, payload, ttl);
        Ok(number)
    }
}

impl Queue {
    /// Puts any `serde` value, as MessagePack with field names; gives the item's number. When the
    /// queue is full it waits for room, for as long as the bus's handle waits for anything (5 s
    /// unless it was opened with another deadline).
    ///
    /// # Errors
    /// [`QueueError::Full`] when no room came in time; [`QueueError::Write`] and
    /// [`QueueError::Batch`] as for any write, a full bus too. Then nothing was put, but for
    /// [`WriteError::NotDurable`]: the item is there for everybody, and not on the disk yet.
    pub fn put<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<u64, QueueError> {
        self.offer().put(value)
    }
    /// Like [`put`](Self::put), with bytes as they are.
    ///
    /// # Errors
    /// As there.
    pub fn put_bytes(&mut self, value: impl AsRef<[u8]>) -> Result<u64, QueueError> {
        self.offer().put_bytes(value)
    }
    /// Like [`put`](Self::put), but a full queue is an error at once.
    ///
    /// # Errors
    /// As there.
    pub fn try_put<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<u64, QueueError> {
        self.offer().timeout(Duration::ZERO).put(value)
    }
    /// Like [`put`](Self::put), but waits so long for room in a full queue.
    ///
    /// # Errors
    /// As there.
    pub fn put_timeout<T: Serialize + ?Sized>(
        &mut self,
        value: &T,
        timeout: Duration,
    ) -> Result<u64, QueueError> {
        self.offer().timeout(timeout).put(value)
    }
    /// An item that is put together: time to live, who, how long to wait for room; and the one way
    /// to put counters, and to put in a batch.
    pub fn offer(&mut self) -> Offer<'_> {
        Offer { queue: self, who: None, ttl: None, timeout: None }
    }

    /// The tail, which is made if it is not there.
    fn tail(&self) -> Result<Tail, QueueError> {
        loop {
            if let (Some((end, revision)), extent) = self.desk.place().extent()? {
                let next = if end == 0 { revision.get() } else { end };
                return Ok(Tail { extent, next, revision: Some(revision), first: end == 0 });
            }
            match self.desk.put(self.desk.names.tail()).if_absent().set_counter(0) {
                Ok(_) | Err(WriteError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Step 3.
    fn plan(
        &self,
        batch: &mut Batch,
        tail: &Tail,
        number: u64,
        payload: &Payload,
        ttl: Option<Duration>,
    ) {
        let counter = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let mut put = batch.put(self.desk.names.tail());
        if let Some(revision) = tail.revision {
            put = put.if_revision(revision);
        }
        put.set_counter(counter(number + 1));
        let mut put = batch.put(self.desk.names.item(number)).if_absent();
        if let Some(ttl) = ttl {
            put = put.ttl(ttl);
        }
        put.value(payload.bytes.clone(), payload.kind);
        if tail.first {
            batch.set_counter(self.desk.names.head(), counter(number));
        }
    }
}

impl Bus {
    /// Commits the batch that `build` puts together, and lets it build another one when a producer
    /// of a queue that it puts into was faster, until the handle's deadline. What `build` reads of
    /// the bus it may use for conditions; it runs under no lock, and perhaps several times.
    ///
    /// Several queues get an item each, or none does: so each of several groups is fed.
    ///
    /// ```
    /// # use membus::Bus;
    /// # fn main() -> Result<(), membus::Error> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let options = Bus::options().directory(directory.path()).state(directory.path().join("state"));
    /// # let bus = options.open("orders")?;
    /// let (mut risk, mut archive) = (bus.queue("risk")?, bus.queue("archive")?);
    /// bus.commit_with(|batch| {
    ///     risk.offer().put_in(batch, "order 7")?;
    ///     archive.offer().put_in(batch, "order 7")?;
    ///     batch.add("orders/count", 1);
    ///     Ok(())
    /// })?;
    /// assert_eq!((risk.len()?, archive.len()?), (1, 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `build` says; [`QueueError::Batch`] for a change that was refused. Nothing of it was
    /// committed then, but for [`WriteError::NotDurable`]: all of it was, and is not on the disk yet.
    pub fn commit_with(
        &self,
        mut build: impl FnMut(&mut Batch) -> Result<(), QueueError>,
    ) -> Result<Option<Revision>, QueueError> {
        let patience = self.inner.core.patience();
        loop {
            let mut batch = Batch::new();
            build(&mut batch)?;
            match self.commit(&batch) {
                Err(error) if was_overtaken(&batch, &error) && !patience.left().is_zero() => {}
                end => return Ok(end?),
            }
        }
    }
}

/// Whether a batch failed since another producer was faster.
fn was_overtaken(batch: &Batch, error: &BatchError) -> bool {
    is_conflict(error) && batch.key_at(error.index).is_some_and(|key| is_tail(key))
}

#[cfg(test)]
mod tests {
    use crate::bus::testing::Place;
    use crate::{Batch, Bus, Kind, Queue, QueueError, ReadBus};
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(60);

    fn bus() -> (Bus, Place) {
        let place = Place::new();
        (place.make(), place)
    }

    /// Plants: the second put of a batch takes the first one's number; a batch that is not built anew.
    #[test]
    fn a_batch_puts_into_several_queues_or_none() {
        let (bus, _place) = bus();
        let [mut one, mut two, mut rival] = ["one", "two", "one"].map(|q| bus.queue(q).unwrap());
        let mut builds = 0;
        bus.commit_with(|batch| {
            builds += 1;
            for number in 0..5 {
                one.offer().put_counter_in(batch, number)?;
                two.offer().put_bytes_in(batch, [number as u8])?;
            }
            batch.add("sum", 1);
            if builds < 3 {
                rival.put("rival")?;
            }
            Ok(())
        })
        .unwrap();
        assert_eq!((builds, bus.get::<i64>("sum").unwrap()), (3, Some(1)));
        let kinds: Vec<_> =
            one.view().items().unwrap().map(|item| item.unwrap().entry.stat.kind).collect();
        assert_eq!(kinds[..3], [Kind::Structure, Kind::Structure, Kind::Counter]);
        assert_eq!((kinds.len(), two.len().unwrap()), (7, 5));
        // A condition of one's own that does not hold is told at once.
        let end = bus.commit_with(|batch| {
            one.offer().put_in(batch, "item")?;
            batch.require_absent("sum");
            Ok(())
        });
        assert!(matches!(end, Err(QueueError::Batch(error)) if error.index == 2));
        let end = bus.commit_with(|_| Err(QueueError::Forked));
        assert!(matches!(end, Err(QueueError::Forked)));
        assert_eq!(one.len().unwrap(), 7);
    }

    /// Plant: no condition on the item: what is there is overwritten.
    #[test]
    fn what_others_wrote_in_the_way_is_passed_by() {
        let (bus, _place) = bus();
        let mut queue = bus.queue("q").unwrap();
        let first = queue.put("item").unwrap();
        for strange in [first + 1, first + 2, first + 4] {
            bus.set(format!("queue/q/item/{strange:020}"), "strange").unwrap();
        }
        assert_eq!(queue.put("item").unwrap(), first + 3);
        let mut batch = Batch::new();
        assert_eq!(queue.offer().put_in(&mut batch, "item").unwrap(), first + 5);
        bus.commit(&batch).unwrap();
        let items: Vec<String> =
            std::iter::from_fn(|| Some(queue.try_take().unwrap()?.ack_and_decode())).collect();
        assert_eq!(items, ["item", "strange", "strange", "item", "strange", "item"]);
    }

    impl crate::Taken {
        fn ack_and_decode(self) -> String {
            let text = self.decode().unwrap();
            self.ack().unwrap();
            text
        }
    }

    /// Plant: `who` of the offer is not passed on.
    #[test]
    fn an_item_says_who_put_it_and_when() {
        let (bus, place) = bus();
        let labelled = place.options().label("bus").attach_at(place.bus()).unwrap();
        let before = std::time::SystemTime::now();
        let mut queue = labelled.queue("q").unwrap();
        queue.put("item").unwrap();
        queue.offer().who("offer").put("item").unwrap();
        let mut queue: Queue = queue.who("handle");
        queue.offer().ttl(LONG).put("item").unwrap();
        for who in ["bus", "offer", "handle"] {
            let taken = queue.take().unwrap();
            assert_eq!(taken.who(), Some(who));
            assert!(taken.time() >= before && taken.time() <= std::time::SystemTime::now());
            assert_eq!(taken.entry().stat.expires_in.is_some(), who == "handle");
            let view = bus.queue_view("q").unwrap();
            let claim = view.items().unwrap().next().unwrap().unwrap().claim.unwrap();
            assert_eq!((claim.who.as_deref(), claim.ephemeral), (Some("handle"), true));
            taken.ack().unwrap();
        }
        assert!(matches!(bus.queue("a/b"), Err(QueueError::Name { name }) if name == "a/b"));
        assert!(matches!(bus.queue_view(""), Err(QueueError::Name { .. })));
    }
}
