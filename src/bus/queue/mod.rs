//! Work queues: each item is worked off by one live consumer, and handed on when that one dies.
//!
//! They are built on entries, batches with conditions, ephemeral keys and the log, and on nothing
//! else; `names` says which entries there are. So a queue is in snapshots, survives its users, and
//! can be looked at and deleted like anything else. Each operation is one commit.
//!
//! ```text
//! put    tail := tail + 1, item n               if the tail is still what it was
//! take   claim n (ephemeral), tries n + 1       if the item is there and nobody has it
//! ack    claim n, item n, tries n deleted, and  if the claim is still this delivery's
//!        what else is to be seen with it
//! ```
//!
//! 1. An item is made by the commit that moves the tail beyond its number. So an absent item below a
//!    tail that was seen before is gone for good (`known`).
//! 2. Numbers never come again, whatever becomes of the queue's entries, but by a restore (`put`).
//! 3. An item has one claim or none, and a claim's revision names one delivery (`take`, `taken`).
//! 4. The head is a hint: it only rises, to a number below which all items are gone.
//!
//! A death leaves whole commits: an item that was put or was not; a claim that goes with its member,
//! or at its end; an item that was acknowledged with all its results, or none of them.

pub(crate) mod ear;
pub(crate) mod known;
#[cfg(test)]
mod known_tests;
pub(crate) mod look;
pub(crate) mod names;
pub(crate) mod put;
pub(crate) mod room;
pub(crate) mod take;
#[cfg(test)]
mod take_tests;
pub(crate) mod taken;
pub(crate) mod walk;

use super::Bus;
use super::batch::Batch;
use super::put::Put;
use super::sleeper::Alarm;
use crate::error::{BatchError, QueueError, WriteError};
use crate::journal::Durability;
use ear::Ear;
use known::Known;
use look::QueueView;
use names::{Names, Place};
use std::sync::Arc;
use std::time::{Duration, Instant};
use walk::Numbers;

/// How often who uses a queue buries the dead, where nobody keeps the bus.
const TEND: Duration = Duration::from_millis(250);

/// How long a consumer has what it takes.
#[derive(Debug, Clone, Copy)]
enum Hold {
    /// Until its member dies.
    Member,
    /// Until it dies or this time is over.
    MemberOrTime(Duration),
    /// Until this time is over.
    Time(Duration),
}

impl Hold {
    fn time(self) -> Option<Duration> {
        match self {
            Self::Member => None,
            Self::MemberOrTime(time) | Self::Time(time) => Some(time),
        }
    }
    fn is_ephemeral(self) -> bool {
        !matches!(self, Self::Time(_))
    }
}

/// What handles and items of a queue share: the bus, the keys, and in whose name they write.
#[derive(Debug, Clone)]
struct Desk {
    bus: Bus,
    names: Names,
    who: Option<Arc<str>>,
}

impl Desk {
    fn place(&self) -> Place<'_> {
        Place { inner: &self.bus.inner, names: &self.names }
    }
    /// For what makes room in the end: a full bus has some left for it.
    fn batch_of_consumer(&self) -> Batch {
        let mut batch = self.batch();
        batch.reserve = true;
        batch
    }
    fn batch(&self) -> Batch {
        let mut batch = Batch::new();
        if let Some(who) = &self.who {
            batch.who(who);
        }
        batch
    }
    /// A change by which nothing comes or is done: of a claim, of the head, an empty tail. It waits for no disk. A power
    /// cut that takes it costs one more delivery; an error after it was made would leave it behind, nobody's.
    fn put<K: AsRef<[u8]>>(&self, key: K) -> Put<'_, K> {
        let put = self.bus.put(key).durability(Durability::Visible);
        match &self.who {
            Some(who) => put.who(who),
            None => put,
        }
    }
    /// Which member this process is; nothing in a forked child that did not write yet.
    fn member(&self) -> Option<u64> {
        self.bus.inner.seat().map(|seat| seat.owner())
    }
}

/// A handle of a work queue: any number of producers put items, any number of consumers, in threads
/// and processes, take them. Each item goes to one consumer at a time, in the order of the puts; when
/// that one dies before it has acknowledged the item, or gives it back, the next one gets it.
///
/// ```
/// # use membus::Bus;
/// # fn main() -> Result<(), membus::Error> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let options = Bus::options().directory(directory.path()).state(directory.path().join("state"));
/// # let bus = options.open("orders")?;
/// let mut jobs = bus.queue("jobs")?.limit(1000);
/// jobs.put("resize 7.png")?;
///
/// let taken = jobs.take()?;
/// assert_eq!(taken.decode::<String>()?, "resize 7.png");
/// taken.ack()?;
/// # Ok(())
/// # }
/// ```
///
/// A handle remembers where it is and keeps a watch slot for its waits, so each thread has one of its own:
/// a clone, which begins anew. In a forked child it goes on as a handle of the child.
///
/// The items are entries of the bus, below `queue/NAME/`; what one consumer group does not see of
/// another it gets by a queue of its own, see [`Bus::commit_with`]. What is promised when somebody
/// is killed, stopped or slow stands in `docs/coordination.md`.
#[derive(Debug)]
pub struct Queue {
    desk: Desk,
    limit: Option<u64>,
    hold: Hold,
    /// What consumers know, and what producers know.
    known: Known,
    room: Known,
    /// The tail as a consumer saw it last.
    tail: u64,
    /// Looks at items that others have, which are still to be had.
    credit: usize,
    /// For waits; made by the first one.
    ear: Option<Ear>,
    tended: Instant,
}

impl Clone for Queue {
    fn clone(&self) -> Self {
        Self::new(self.desk.clone(), self.limit, self.hold)
    }
}

impl Queue {
    fn new(desk: Desk, limit: Option<u64>, hold: Hold) -> Self {
        let (known, room) = (Known::default(), Known::default());
        let tended = Instant::now();
        Self { desk, limit, hold, known, room, tail: 0, credit: 0, ear: None, tended }
    }

    /// Puts of this handle wait, or fail, as long as so many items are there: those that wait to be
    /// taken and those that are being worked on. Without a limit the bus's capacity is the only one.
    /// It is the producer's own: others may have another one. Never is it passed.
    #[must_use]
    pub fn limit(mut self, items: u64) -> Self {
        self.limit = Some(items);
        self
    }
    /// What this handle takes from now on is its own for so long at the most; then the next consumer
    /// gets it, and an acknowledgement says `Lost`. For consumers that may hang, be stopped, or stay
    /// in a debugger: without it they keep what they have until their process ends.
    /// [`Taken::extend`](taken::Taken::extend) renews it.
    #[must_use]
    pub fn visibility(mut self, time: Duration) -> Self {
        self.hold = Hold::MemberOrTime(time);
        self
    }
    /// Like [`visibility`](Self::visibility), but the item stays taken when the member that took it
    /// is gone: for one who takes and acknowledges by different processes, with a
    /// [`Receipt`](taken::Receipt).
    #[must_use]
    pub fn detached(mut self, time: Duration) -> Self {
        self.hold = Hold::Time(time);
        self
    }
    /// In whose name this handle puts and takes; otherwise the label of the bus's handle.
    #[must_use]
    pub fn who(mut self, who: &str) -> Self {
        self.desk.who = Some(who.into());
        self
    }

    /// The queue's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.desk.names.queue()
    }
    /// A look at what is there.
    #[must_use]
    pub fn view(&self) -> QueueView<'_> {
        QueueView::of(&self.desk.bus.inner, &self.desk.names)
    }
    /// Items that are there, those that are being worked on too. Looks at each of them.
    ///
    /// # Errors
    /// [`QueueError::Read`] when the bus can't be read.
    pub fn len(&self) -> Result<u64, QueueError> {
        self.view().len()
    }
    /// Whether no item is there.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    pub fn is_empty(&self) -> Result<bool, QueueError> {
        self.view().is_empty()
    }

    /// Takes away all items that are there now, those that are being worked on too: their consumers
    /// are told `Lost` when they acknowledge. Gives how many. One after another; what is put
    /// meanwhile stays.
    ///
    /// # Errors
    /// As for any write; what was taken away by then is gone.
    pub fn purge(&mut self) -> Result<u64, QueueError> {
        let (names, place, mut purged) = (&self.desk.names, self.desk.place(), 0);
        let mut numbers = Numbers::of(self.view().numbers()?);
        while let Some(number) = numbers.next(&place)? {
            let item = place.item_stat(number)?;
            numbers.saw(item.is_some());
            let Some(item) = item else { continue };
            let mut batch = self.desk.batch_of_consumer();
            batch.put(names.item(number)).if_revision(item.revision).delete();
            batch.delete(names.claim(number)).delete(names.tries(number));
            match self.desk.bus.commit(&batch) {
                Ok(_) => purged += 1,
                // Its consumer was faster.
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(purged)
    }

    /// An ear of this process: the one from before, if there is one.
    fn take_ear(&mut self) -> Result<Ear, QueueError> {
        match self.ear.take().filter(Ear::is_ours) {
            Some(ear) => Ok(ear),
            None => Ok(Ear::new(&self.desk.bus.inner, &self.desk.names)?),
        }
    }

    /// Ends the waits of this handle.
    pub(crate) fn alarm(&mut self) -> Result<Alarm, QueueError> {
        let ear = self.take_ear()?;
        Ok(self.ear.insert(ear).alarm())
    }

    /// Where nobody keeps the bus, or who does gives no sign: buries the dead, so that what they had
    /// goes on to others.
    fn tend(&mut self) {
        self.tended = Instant::now();
        // What stands in its way stands in the way of the next operation, which tells.
        let _end = self.desk.bus.inner.tend_silent();
    }

    fn tend_in_time(&mut self) {
        if self.tended.elapsed() >= TEND {
            self.tend();
        }
    }
}

/// Whether a batch was committed, and is not durable yet.
fn is_made(error: &BatchError) -> bool {
    matches!(error.source, WriteError::NotDurable { .. })
}

/// Whether a condition of a batch did not hold.
fn is_conflict(error: &BatchError) -> bool {
    matches!(error.source, WriteError::Conflict { .. })
}

impl Bus {
    /// A handle of the work queue with this name, which follows the rules of a bus's name. The queue
    /// is there as soon as something is put.
    ///
    /// # Errors
    /// [`QueueError::Name`] for another name.
    pub fn queue(&self, name: &str) -> Result<Queue, QueueError> {
        let desk = Desk { bus: self.clone(), names: Names::new(name)?, who: None };
        Ok(Queue::new(desk, None, Hold::Member))
    }
}
