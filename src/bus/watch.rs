//! Watches: all entries under a prefix, then every later change, in order, with no gap.

use super::event::Event;
use super::feed::Feed;
use super::sleeper::Sleeper;
use super::{Bus, Inner};
use crate::doorbell::Sort;
use crate::error::WatchError;
use crate::region::BadRegion;
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
    pub(crate) fn ring(&self, name: &str) {
        self.ringer.ring(&self.bells, name);
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
        Ok(Self { sleeper, feed: Feed::new(inner, prefix, from)? })
    }

    /// The cursor after the last change that was told or passed by.
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
        sleeper.poll(|inner| feed.next(inner))
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
        sleeper.wait(timeout, Duration::MAX, |inner| feed.next(inner))
    }

    pub(crate) fn sleeper(&self) -> &Sleeper {
        &self.sleeper
    }
}

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
