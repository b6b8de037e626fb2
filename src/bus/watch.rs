//! Watches: all entries under a prefix, then every later change, in order, with no gap.

use super::counters::Counter;
use super::event::Event;
use super::feed::Feed;
use super::sleeper::Sleeper;
use super::{Bus, Inner};
use crate::doorbell::Sort;
use crate::error::WatchError;
use crate::region::BadRegion;
use crate::sys::socket::BellName;
use crate::types::Cursor;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// A reader of the log with a prefix and a cursor. It may move between threads; dropped, it is
/// forgotten. Its descriptor becomes readable after [`try_recv`](Self::try_recv) gave nothing and
/// something happened.
#[derive(Debug)]
pub struct Watch {
    sleeper: Sleeper,
    feed: Feed,
}

impl Inner {
    pub(crate) fn ring(&self, name: BellName) {
        self.count(Counter::Bells);
        if let Some(bells) = &self.bells {
            self.ringer.ring(bells, name);
        }
    }

    /// After a commit: wakes the sleeping watches that a key concerns; `None`: all of this sort.
    #[inline]
    pub(crate) fn ring_watches(&self, sort: Sort, key: Option<&[u8]>) {
        // A damaged watch table is told by the next operation that reads it; this one is done.
        let _rung = self.core.each_sleeper(sort, key, &|name| self.ring(name));
    }

    /// Rings every watch: somebody died, perhaps before ringing.
    pub(crate) fn ring_all(&self) -> Result<(), BadRegion> {
        self.core.ring_all(&|name| self.ring(name))
    }
}

impl Watch {
    pub(crate) fn new(
        inner: &Arc<Inner>,
        prefix: &[u8],
        from: Option<Cursor>,
    ) -> Result<Self, WatchError> {
        Feed::check(prefix)?;
        // Before the first look: what changes after it rings.
        let sleeper = Sleeper::new(inner, Sort::Keys, prefix)?;
        let feed = Feed::new(inner, prefix, from)?;
        sleeper.passes(feed.passed());
        Ok(Self { sleeper, feed })
    }

    /// From now on only the newest state of each key is told: for a receiver that may be slower than the
    /// writers and wants to know how things are, not how they came to be.
    ///
    /// * Of the changes that came since the last event was taken, the newest one of each key is told, in
    ///   order of revision. For each key revisions rise, nothing is told twice, and the last state
    ///   always arrives. Batches are not kept together; the end of a key that was never told is not.
    /// * There is no [`Event::Lagged`]: when the writers come round the log, what is there is listed again,
    ///   and what differs from what was told comes as changes: a set with revision, author and time of the
    ///   entry; for a key that is gone a delete of nobody ([`Change::who`](crate::Change::who) is `None`),
    ///   with the revision and the time at which it was found gone.
    /// * It holds in memory the keys under the prefix, and one value of each key that changed and was not
    ///   told yet.
    ///
    /// Call it at once. A watch that has told changes already, or began at a cursor, does not know what its
    /// receiver knows: the first time that the writers come round it tells `Lagged`, then everything
    /// that is there as [`Event::Current`] and [`Event::CaughtUp`], as a new watch would.
    ///
    /// ```
    /// use membus::{Bus, Event};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let options = Bus::options().directory(directory.path()).state(directory.path().join("state"));
    /// # let bus = options.open("orders")?;
    /// let mut quotes = bus.watch("quote/")?.conflated();
    /// for price in 0..100_000 {
    ///     bus.set("quote/ACME", &price)?;
    /// }
    /// let mut told = Vec::new();
    /// for event in quotes.try_iter() {
    ///     if let Event::Change(change) = event? {
    ///         told.push(change.decode::<i32>()?);
    ///     }
    /// }
    /// assert_eq!(told, [Some(99_999)]);
    /// # Ok::<(), membus::Error>(())
    /// ```
    #[must_use]
    pub fn conflated(mut self) -> Self {
        self.feed.conflate();
        self
    }

    /// The cursor after the last change that was told or passed by. A
    /// [`conflated`](Self::conflated) watch that begins at it tells every state that this one has not told
    /// yet, and perhaps some again.
    ///
    /// It is good once all was told with which the watch began, up to [`Event::CaughtUp`], or
    /// [`Event::Lagged`] for a cursor of another life: a watch that goes on there does not list that anew.
    /// A listing that comes later, behind a restore or a gap, holds it back: whoever goes on there before the
    /// listing was told to its end is told of that restore, or gap, again.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.sleeper.inner().cursor(self.feed.passed())
    }

    /// The next event, if there is one. When there is none, the doorbell is armed.
    ///
    /// # Errors
    /// [`ReadError::Gone`](crate::ReadError::Gone) after the bus was destroyed;
    /// [`WatchError::Cancelled`], once, after a [`canceller`](Self::canceller) was used;
    /// [`WatchError::Forked`] in a forked child.
    pub fn try_recv(&mut self) -> Result<Option<Event>, WatchError> {
        let Self { sleeper, feed } = self;
        let end = sleeper.poll(|inner| feed.next(inner));
        self.tells(end)
    }

    /// The next event, waiting for it as long as it takes.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn recv(&mut self) -> Result<Event, WatchError> {
        loop {
            if let Some(event) = self.recv_timeout(Duration::from_secs(3600))? {
                return Ok(event);
            }
        }
    }

    /// The next event, or `None` when none came in this time.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, WatchError> {
        let Self { sleeper, feed } = self;
        let end = sleeper.wait(timeout, Duration::MAX, |inner| feed.next(inner));
        self.tells(end)
    }

    /// Passes by all that there is to tell so far: the next event is of what comes after this.
    pub(crate) fn skip(&mut self) -> Result<(), WatchError> {
        self.feed.skip(self.sleeper.inner())?;
        self.sleeper.passes(self.feed.passed());
        Ok(())
    }

    /// Counts what is told, and notes how far it has come.
    fn tells(&self, end: Result<Option<Event>, WatchError>) -> Result<Option<Event>, WatchError> {
        let inner = self.sleeper.inner();
        self.sleeper.passes(self.feed.passed());
        match &end {
            Ok(None) => {}
            Ok(Some(event)) => {
                inner.count(Counter::Events);
                if let Event::Lagged { missed, .. } = event {
                    inner.count(Counter::Lagged);
                    inner.count_many(Counter::Missed, *missed);
                }
            }
            Err(error) => self.sleeper.note_error(error),
        }
        end
    }

    pub(crate) fn sleeper(&self) -> &Sleeper {
        &self.sleeper
    }
}

/// For `poll`, `epoll` and `mio`, by level or by edge. It becomes readable when something may have come since
/// [`try_recv`](Watch::try_recv) gave nothing: call that until it does, and only then wait. Who waits so
/// should look by itself now and then (a blocking wait does each second): where nobody keeps the bus, or
/// its keeper is stopped, a writer that is killed between its commit and the ring wakes nobody; nor, with a
/// keeper either, does one that is stopped there, until it goes on.
impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sleeper.as_fd()
    }
}

impl Bus {
    /// All entries whose keys begin with `prefix`, then every later change to such keys: no gap,
    /// no repeat. The listing is held in memory until it was told.
    ///
    /// # Errors
    /// [`WatchError::TooMany`] when all watch slots are taken.
    pub fn watch(&self, prefix: impl AsRef<[u8]>) -> Result<Watch, WatchError> {
        Watch::new(&self.inner, prefix.as_ref(), None)
    }

    /// Every change after `cursor`, as far as the log still holds them; otherwise
    /// [`Event::Lagged`] comes first. [`Cursor::NOW`] begins with the next change.
    ///
    /// A cursor may be kept as text and resumed by any process. When the bus was rebuilt meanwhile, the
    /// cursor is of another life of it: then `Lagged` comes first too, and the watch goes on with the
    /// changes of this life; what was there when it began is in no record, so list it by a new watch
    /// ([`ReadBus::history`](crate::ReadBus::history) refuses such a cursor).
    ///
    /// # Errors
    /// [`WatchError::Future`] for a cursor beyond the newest change.
    pub fn watch_from(
        &self,
        prefix: impl AsRef<[u8]>,
        cursor: Cursor,
    ) -> Result<Watch, WatchError> {
        Watch::new(&self.inner, prefix.as_ref(), Some(cursor))
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::ChangeValue;
    use super::super::testing::Place;
    use super::*;

    fn bus() -> (Bus, Place) {
        let place = Place::new();
        (place.make(), place)
    }

    /// Plant: a record of a new deadline without the value, which watches take for an empty one.
    #[test]
    fn a_new_deadline_is_told_with_the_value_that_stays() {
        let (bus, _place) = bus();
        bus.set("k", &"text").unwrap();
        bus.put("big").set_bytes([7; 2000]).unwrap();
        let mut watch = bus.watch_from("", Cursor::NOW).unwrap();
        assert!(matches!(watch.try_recv().unwrap(), Some(Event::CaughtUp(_))));
        for key in ["k", "big"] {
            bus.expire(key, Some(Duration::from_secs(600))).unwrap();
        }
        let mut told = || match watch.try_recv().unwrap() {
            Some(Event::Change(change)) => change,
            other => panic!("{other:?}"),
        };
        assert_eq!(told().decode::<String>().unwrap().as_deref(), Some("text"));
        assert_eq!(told().value, ChangeValue::Here(vec![7; 2000]));
    }
}
