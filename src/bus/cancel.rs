//! Ending a wait from another thread (`sleeper` says why none is lost).

use super::queue::Queue;
use super::sleeper::Alarm;
use super::subscribe::Subscriber;
use super::watch::Watch;

/// Ends the waits of one [`Watch`], [`Subscriber`] or [`Queue`], from any thread; made by their
/// `canceller`. Clones end the same one. It keeps neither the watch nor the bus open: of a watch that is gone it ends nothing.
#[derive(Debug, Clone)]
pub struct Canceller(Alarm);

impl Canceller {
    /// Lets the call that waits for an event now, or else the next one that asks for one, return
    /// [`WatchError::Cancelled`](crate::WatchError::Cancelled): once, however often this was called meanwhile. No event is lost by it,
    /// and the watch may be asked again. A watch that is waited for by its descriptor becomes readable.
    ///
    /// Never blocks. A [`BusReader`](crate::BusReader)'s watch notices it with its next look, within
    /// milliseconds. In a forked child the watches of its parent are out of reach: nothing is cancelled.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

impl Watch {
    /// A handle by which any thread ends a wait of this watch.
    ///
    /// ```
    /// use membus::{Bus, Event, WatchError};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let options = Bus::options().directory(directory.path()).state(directory.path().join("state"));
    /// # let bus = options.open("orders")?;
    /// let mut watch = bus.watch("order/")?;
    /// let canceller = watch.canceller();
    /// let follower = std::thread::spawn(move || {
    ///     let mut changes = 0;
    ///     loop {
    ///         match watch.recv() {
    ///             Ok(Event::Change(_)) => changes += 1,
    ///             Ok(_) => {}
    ///             Err(WatchError::Cancelled) => return Ok(changes),
    ///             Err(error) => return Err(error),
    ///         }
    ///     }
    /// });
    /// canceller.cancel();
    /// assert_eq!(follower.join().unwrap()?, 0);
    /// # Ok::<(), membus::Error>(())
    /// ```
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller(self.sleeper().alarm())
    }
}

impl Subscriber {
    /// A handle by which any thread ends a wait of this subscriber, as [`Watch::canceller`].
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller(self.sleeper().alarm())
    }
}

impl Queue {
    /// A handle by which any thread ends a wait of this one, as [`Watch::canceller`]: the take or the put
    /// that waits now, or else the next take.
    ///
    /// ```
    /// use membus::{Bus, QueueError, WatchError};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let options = Bus::options().directory(directory.path()).state(directory.path().join("state"));
    /// # let bus = options.open("orders")?;
    /// let mut jobs = bus.queue("jobs")?;
    /// let canceller = jobs.canceller()?;
    /// let worker = std::thread::spawn(move || {
    ///     loop {
    ///         match jobs.take() {
    ///             Ok(taken) => taken.ack()?,
    ///             Err(QueueError::Watch(WatchError::Cancelled)) => return Ok(()),
    ///             Err(error) => return Err(error),
    ///         }
    ///     }
    /// });
    /// canceller.cancel();
    /// worker.join().unwrap()?;
    /// # Ok::<(), membus::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`QueueError::Watch`](crate::QueueError::Watch) when all watch slots of the bus are taken.
    pub fn canceller(&mut self) -> Result<Canceller, crate::error::QueueError> {
        Ok(Canceller(self.alarm()?))
    }
}
