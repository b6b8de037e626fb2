//! What who waits at a queue hears: which items came and went, whose claims went or got another end.
//!
//! It reads the log on from where it was set, by itself and not by a watch, which would copy the
//! payloads. Nothing that it misses is lost: it says so, and the queue is looked at anew.

use super::names::{About, Names};
use crate::bus::Inner;
use crate::bus::follow::{Follower, Next};
use crate::bus::sleeper::{Alarm, Sleeper};
use crate::doorbell::Sort;
use crate::error::{ReadError, WatchError};
use crate::log::{Record, RecordKind};
use crate::word::Realm;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened at a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// An item was put.
    Came,
    /// This item went.
    Went(u64),
    /// Something became of the claim on this item.
    Claim(u64),
    /// Everything may be different: it was cleared, or too much happened.
    All,
}

/// Hears what happens at one queue.
#[derive(Debug)]
pub(super) struct Ear {
    sleeper: Sleeper,
    log: Follower,
}

impl Ear {
    pub(super) fn new(inner: &Arc<Inner>, names: &Names) -> Result<Self, WatchError> {
        let sleeper = Sleeper::new(inner, Sort::Keys, names.prefix().as_bytes())?;
        Ok(Self { sleeper, log: Follower::after(0) })
    }

    /// Whether it is this process's: a forked child's copy is its parent's.
    pub(super) fn is_ours(&self) -> bool {
        self.sleeper.is_ours()
    }

    /// Ends its waits.
    pub(super) fn alarm(&self) -> Alarm {
        self.sleeper.alarm()
    }

    /// Takes a cancellation that is there, as the error that tells of it.
    pub(super) fn look_for_cancel(&self) -> Result<(), WatchError> {
        self.sleeper.look_for_cancel()
    }

    /// What happens from now on is heard.
    pub(super) fn listen(&mut self) -> Result<(), WatchError> {
        let head = self.sleeper.inner().core.head().map_err(ReadError::from)?;
        self.log = Follower::after(head);
        Ok(())
    }

    /// The next that happened, waiting so long for it.
    pub(super) fn hear(
        &mut self,
        names: &Names,
        timeout: Duration,
    ) -> Result<Option<News>, WatchError> {
        let log = &mut self.log;
        self.sleeper.wait(timeout, Duration::MAX, |inner| {
            let head = inner.core.head().map_err(ReadError::from)?;
            while let Some(next) = log.next(&inner.core, head).map_err(ReadError::from)? {
                let news = match next {
                    Next::Record(record) => news(&record, names),
                    Next::Lagged { .. } => Some(News::All),
                };
                if news.is_some() {
                    return Ok(news);
                }
            }
            Ok(None)
        })
    }
}

fn news(record: &Record, names: &Names) -> Option<News> {
    let is_set = match record.kind {
        RecordKind::Clear | RecordKind::Restore => return Some(News::All),
        RecordKind::Set => true,
        RecordKind::Delete | RecordKind::Expire => false,
        _ => return None,
    };
    if record.realm != Realm::Keys {
        return None;
    }
    Some(match names.about(&record.key)? {
        About::Item(_) if is_set => News::Came,
        About::Item(number) => News::Went(number),
        About::Claim(number) => News::Claim(number),
    })
}
