//! What the log still holds of the past: read once, with nobody waiting.

use super::Inner;
use super::event::Event;
use super::feed::Feed;
use super::follow::{Follower, Next, concerns};
use crate::error::{ReadError, WatchError};
use crate::types::Cursor;
use std::iter::FusedIterator;
use std::sync::Arc;

/// The changes between a cursor and the newest one at the call, in order; made by
/// [`ReadBus::history`](crate::ReadBus::history). The first error is the last item.
///
/// It reads as it is asked: writers that come round the log before it has read on take records away
/// from it, and [`Event::Lagged`] stands in their place. Holds no lock, no pin and no watch slot.
#[derive(Debug)]
pub struct History {
    inner: Arc<Inner>,
    prefix: Vec<u8>,
    log: Follower,
    head: u64,
}

impl History {
    pub(crate) fn new(
        inner: &Arc<Inner>,
        prefix: &[u8],
        cursor: Cursor,
    ) -> Result<Self, WatchError> {
        Feed::check(prefix)?;
        if inner.is_gone() {
            return Err(ReadError::Gone { path: inner.path.clone() }.into());
        }
        let head = inner.core.head().map_err(ReadError::from)?;
        let Ok(revision) = inner.revision_of(cursor, head)? else {
            let incarnation = inner.core.geometry.incarnation;
            return Err(WatchError::OtherLife { cursor, incarnation });
        };
        let log = Follower::after(revision);
        Ok(Self { inner: Arc::clone(inner), prefix: prefix.to_vec(), log, head })
    }

    /// The cursor after the last change that was given or passed by; in the end, that of the newest change
    /// at the call. A watch or a history that begins at it goes on without a gap.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.inner.cursor(self.log.passed().min(self.head))
    }

    fn step(&mut self) -> Result<Option<Event>, WatchError> {
        while let Some(next) =
            self.log.next(&self.inner.core, self.head).map_err(ReadError::from)?
        {
            match next {
                Next::Record(record) if concerns(&record, &self.prefix) => {
                    if let Some(change) = self.inner.change_of(record)? {
                        return Ok(Some(Event::Change(change)));
                    }
                }
                Next::Record(_) => {}
                Next::Lagged { missed, resume } => {
                    // What is gone beyond the end is not missed here.
                    let end = resume.min(self.head);
                    let missed = missed - (resume - end);
                    return Ok(Some(Event::Lagged { missed, resume: self.inner.cursor(end) }));
                }
            }
        }
        Ok(None)
    }
}

impl Iterator for History {
    type Item = Result<Event, WatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.log = Follower::after(self.head);
        }
        step.transpose()
    }
}

impl FusedIterator for History {}
