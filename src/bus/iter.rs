//! The events of a watch as iterators.

use super::event::Event;
use super::watch::Watch;
use crate::error::WatchError;
use std::borrow::BorrowMut;
use std::iter::FusedIterator;
use std::time::Duration;

/// The events of a [`Watch`], one after another; made by `for event in &mut watch`, by
/// [`Watch::iter_timeout`] or [`Watch::try_iter`]. **The first error is the last item**: a loop that
/// passes errors over ends all the same when the bus is gone. A watch that was only borrowed can be
/// iterated over again, and goes on where it was.
#[derive(Debug)]
pub struct Events<W> {
    watch: W,
    /// For how long each event is waited for; `None`: as long as it takes.
    timeout: Option<Duration>,
    over: bool,
}

impl<W: BorrowMut<Watch>> Iterator for Events<W> {
    type Item = Result<Event, WatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let watch = self.watch.borrow_mut();
        let event = match self.timeout {
            Some(timeout) => watch.recv_timeout(timeout).transpose(),
            None => Some(watch.recv()),
        };
        self.over = !matches!(event, Some(Ok(_)));
        event
    }
}

impl<W: BorrowMut<Watch>> FusedIterator for Events<W> {}

/// Blocks for each event as [`Watch::recv`] does.
impl IntoIterator for Watch {
    type Item = Result<Event, WatchError>;
    type IntoIter = Events<Self>;

    fn into_iter(self) -> Self::IntoIter {
        Events { watch: self, timeout: None, over: false }
    }
}

/// Blocks for each event as [`Watch::recv`] does.
impl IntoIterator for &mut Watch {
    type Item = Result<Event, WatchError>;
    type IntoIter = Events<Self>;

    fn into_iter(self) -> Self::IntoIter {
        Events { watch: self, timeout: None, over: false }
    }
}

impl Watch {
    /// The events from now on, each waited for so long at the most: ends when none came in this time.
    ///
    /// ```
    /// use membus::{Bus, Event};
    /// use std::time::Duration;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let options = Bus::options().directory(directory.path()).state(directory.path().join("state"));
    /// # let bus = options.open("orders")?;
    /// bus.set("order/1", &"new")?;
    /// let mut watch = bus.watch("order/")?;
    /// bus.set("order/1", &"filled")?;
    /// let mut changes = 0;
    /// for event in watch.iter_timeout(Duration::from_millis(10)) {
    ///     changes += usize::from(matches!(event?, Event::Change(_)));
    /// }
    /// assert_eq!(changes, 1);
    /// # Ok::<(), membus::Error>(())
    /// ```
    pub fn iter_timeout(&mut self, timeout: Duration) -> Events<&mut Self> {
        Events { watch: self, timeout: Some(timeout), over: false }
    }

    /// The events that are there: ends when there is none, and then the doorbell is armed, as after
    /// [`try_recv`](Self::try_recv). Beside writers that are faster it does not end.
    pub fn try_iter(&mut self) -> Events<&mut Self> {
        self.iter_timeout(Duration::ZERO)
    }
}
