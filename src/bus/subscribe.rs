//! Subscriptions: the messages of some topics, by priority, and what the bus tells of its own changes.
//!
//! A subscriber reads the log on as a watch does. What it finds waits with it, the highest priority
//! first and in order among equals, up to as many bytes as the log has; the rest waits in the log.
//! Nothing of it is in the region but its watch slot.

use super::counters::Counter;
use super::event::{ChangeKind, ChangeValue};
use super::follow::{Follower, Next};
use super::reader::BusReader;
use super::sleeper::Sleeper;
use super::{Bus, Inner};
use crate::doorbell::Sort;
use crate::error::{ReadError, WatchError};
use crate::log::{Record, RecordKind};
use crate::message::{Envelope, Message, To};
use crate::topic::{self, Pattern};
use crate::types::{Cursor, Kind, time_of};
use crate::word::Realm;
use std::collections::BinaryHeap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// What a subscriber is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A message.
    Message(Message),
    /// The writers came round the log: so many changes and messages of the bus were missed, of whatever
    /// topic. It goes on after `resume`.
    Lagged {
        /// How many; as far as anybody can know, perhaps 0, for a cursor of another life of the bus.
        missed: u64,
        /// Where it goes on.
        resume: Cursor,
    },
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Begin {
    /// With the next message.
    #[default]
    Now,
    /// With those that the log still holds and that have not expired.
    Alive,
    /// After this cursor.
    After(Cursor),
}

/// A message that waits: the heap gives the highest priority, and the oldest of it.
#[derive(Debug, PartialEq, Eq)]
struct Waiting {
    priority: i32,
    revision: u64,
    deadline: u64,
    message: Message,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |waiting: &Self| (waiting.priority, std::cmp::Reverse(waiting.revision));
        key(self).cmp(&key(other))
    }
}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Reads messages. It may move between threads; dropped, it is forgotten. Its descriptor becomes
/// readable after [`try_recv`](Self::try_recv) gave nothing and something was published.
#[derive(Debug)]
pub struct Subscriber {
    sleeper: Sleeper,
    mailbox: Mailbox,
}

/// What a subscriber has read and not given yet.
#[derive(Debug)]
struct Mailbox {
    pattern: Pattern,
    wants_own: bool,
    log: Follower,
    waiting: BinaryHeap<Waiting>,
    bytes: u64,
    lagged: Option<(u64, u64)>,
}

impl Subscriber {
    fn new(inner: &Arc<Inner>, pattern: &str, begin: Begin) -> Result<Self, WatchError> {
        let wrong = |reason| WatchError::Pattern { pattern: pattern.to_owned(), reason };
        let made = Pattern::new(pattern).map_err(wrong)?;
        let (wants_own, prefix) = (made.wants_own(), made.prefix());
        let sort = if wants_own { Sort::All } else { Sort::Topics };
        let filter = if wants_own { &[][..] } else { prefix.as_bytes() };
        let sleeper = Sleeper::new(inner, sort, filter)?;
        let (log, lagged) = begin_at(inner, begin)?;
        sleeper.passes(log.passed());
        let waiting = BinaryHeap::new();
        let mailbox = Mailbox { pattern: made, wants_own, log, waiting, bytes: 0, lagged };
        Ok(Self { sleeper, mailbox })
    }

    /// The next message, if one waits. When there is none, the doorbell is armed.
    ///
    /// # Errors
    /// [`ReadError::Gone`] after the bus was destroyed; [`WatchError::Forked`] in a forked child.
    pub fn try_recv(&mut self) -> Result<Option<Notice>, WatchError> {
        let Self { sleeper, mailbox } = self;
        let end = sleeper.poll(|inner| mailbox.next(inner));
        self.tells(end)
    }

    /// The next message, waiting for it as long as it takes.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn recv(&mut self) -> Result<Notice, WatchError> {
        loop {
            if let Some(notice) = self.recv_timeout(Duration::from_secs(3600))? {
                return Ok(notice);
            }
        }
    }

    /// The next message, or `None` when none came in this time.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Notice>, WatchError> {
        let Self { sleeper, mailbox } = self;
        let end = sleeper.wait(timeout, Duration::MAX, |inner| mailbox.next(inner));
        self.tells(end)
    }

    /// Counts what is told, and notes how far it has come.
    fn tells(&self, end: Result<Option<Notice>, WatchError>) -> Result<Option<Notice>, WatchError> {
        let inner = self.sleeper.inner();
        let Mailbox { log, waiting, .. } = &self.mailbox;
        self.sleeper.passes(log.passed().saturating_sub(waiting.len() as u64));
        match &end {
            Ok(None) => {}
            Ok(Some(Notice::Message(_))) => inner.count(Counter::Delivered),
            Ok(Some(Notice::Lagged { missed, .. })) => {
                inner.count(Counter::Lagged);
                inner.count_many(Counter::Missed, *missed);
            }
            Err(error) => self.sleeper.note_error(error),
        }
        end
    }

    /// A subscription that begins after this cursor misses nothing that this one has not given yet; it
    /// may get again what came here before its turn, by priority.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        let waiting = self.mailbox.waiting.iter().map(|waiting| waiting.revision - 1).min();
        self.sleeper.inner().cursor(waiting.unwrap_or_else(|| self.mailbox.log.passed()))
    }

    /// Messages that were read and wait by priority; those that still stand in the log do not count.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.mailbox.waiting.len()
    }

    pub(crate) fn sleeper(&self) -> &Sleeper {
        &self.sleeper
    }
}

/// As of a [`Watch`](crate::Watch).
impl AsFd for Subscriber {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sleeper.as_fd()
    }
}

/// A follower for a beginning, and what was missed before it.
fn begin_at(inner: &Inner, begin: Begin) -> Result<(Follower, Option<(u64, u64)>), WatchError> {
    let core = &inner.core;
    let head = core.head().map_err(ReadError::from)?;
    let cursor = match begin {
        Begin::Now => Cursor::NOW,
        Begin::After(cursor) => cursor,
        Begin::Alive => {
            let first = core.geometry.first_revision;
            let found = core.log_find(first + 1).map_err(ReadError::from)?;
            return Ok((Follower::after(found.map_or_else(|oldest| oldest - 1, |_| first)), None));
        }
    };
    Ok(match inner.revision_of(cursor, head)? {
        Ok(revision) => (Follower::after(revision), None),
        Err(first) => {
            let missed = first.saturating_sub(cursor.revision);
            // Also when none is known to be missed: the numbers of another life say little.
            (Follower::after(first), Some((missed, first)))
        }
    })
}

impl Mailbox {
    /// The next that is to be told: reads what the log has first, since a higher priority may be there.
    fn next(&mut self, inner: &Arc<Inner>) -> Result<Option<Notice>, WatchError> {
        self.fill(inner)?;
        if let Some((missed, resume)) = self.lagged.take() {
            return Ok(Some(Notice::Lagged { missed, resume: inner.cursor(resume) }));
        }
        while let Some(Waiting { deadline, mut message, .. }) = self.waiting.pop() {
            self.bytes -= weight(&message);
            if inner.core.is_past(deadline) {
                inner.count(Counter::MessagesExpired);
                continue;
            }
            let left = deadline.saturating_sub(inner.core.clock.boot());
            message.expires_in = (deadline != 0).then(|| Duration::from_nanos(left));
            return Ok(Some(Notice::Message(message)));
        }
        Ok(None)
    }

    /// Reads the log on, as far as there is room for what it has.
    fn fill(&mut self, inner: &Arc<Inner>) -> Result<(), WatchError> {
        let head = inner.core.head().map_err(ReadError::from)?;
        while self.bytes < inner.core.geometry.log_size && self.lagged.is_none() {
            match self.log.next(&inner.core, head).map_err(ReadError::from)? {
                None => break,
                Some(Next::Lagged { missed, resume }) => self.lagged = Some((missed, resume)),
                Some(Next::Record(record)) => {
                    if let Some(waiting) = self.read(inner, record)? {
                        self.bytes += weight(&waiting.message);
                        self.waiting.push(waiting);
                    }
                }
            }
        }
        Ok(())
    }

    /// What a record is for this subscriber.
    fn read(&self, inner: &Inner, record: Record) -> Result<Option<Waiting>, WatchError> {
        if record.kind != RecordKind::Message {
            return Ok(self.own(inner, record)?);
        }
        let Ok(topic) = String::from_utf8(record.key) else { return Ok(None) };
        if !self.pattern.matches(&topic) {
            return Ok(None);
        }
        let Some((envelope, payload)) = Envelope::open(&record.value) else { return Ok(None) };
        let is_ours = match envelope.target {
            None => true,
            Some(To::Label(label)) => !label.is_empty() && label == inner.label().as_bytes(),
            Some(To::Member(member)) => inner.member_id() == Some(member),
        };
        if !is_ours {
            return Ok(None);
        }
        if inner.core.is_past(envelope.deadline) {
            inner.count(Counter::MessagesExpired);
            return Ok(None);
        }
        let cursor = inner.cursor(record.revision);
        let id = match envelope.id {
            [] => cursor.to_string(),
            id => String::from_utf8_lossy(id).into_owned(),
        };
        let message = Message {
            cursor,
            id,
            topic,
            source: text(&record.who),
            time: time_of(record.time),
            priority: envelope.priority,
            target: envelope.target.map(To::to_target),
            expires_in: None,
            kind: Kind::from_byte(record.value_kind),
            payload: payload.to_vec(),
            key: None,
        };
        let (priority, deadline) = (envelope.priority, envelope.deadline);
        Ok(Some(Waiting { priority, revision: record.revision, deadline, message }))
    }

    /// A change that the bus tells under a topic of its own.
    fn own(&self, inner: &Inner, record: Record) -> Result<Option<Waiting>, ReadError> {
        if !self.wants_own || record.realm != Realm::Keys {
            return Ok(None);
        }
        let topic = match record.kind {
            RecordKind::Set => topic::VALUE_CHANGED,
            RecordKind::Delete | RecordKind::Expire => topic::VALUE_DELETED,
            RecordKind::Clear => topic::CACHE_CLEARED,
            RecordKind::Restore => topic::DATA_RESTORED,
            RecordKind::Message | RecordKind::Snapshot => return Ok(None),
        };
        if !self.pattern.matches_own(topic) {
            return Ok(None);
        }
        let revision = record.revision;
        let Some(change) = inner.change_of(record)? else { return Ok(None) };
        let cursor = inner.cursor(revision);
        let is_keyed = !matches!(change.kind, ChangeKind::Clear | ChangeKind::Restore);
        let message = Message {
            cursor,
            id: cursor.to_string(),
            topic: topic.to_owned(),
            source: change.who,
            time: change.time,
            priority: 0,
            target: None,
            expires_in: None,
            kind: change.value_kind,
            payload: match change.value {
                ChangeValue::Here(value) => value,
                _ => Vec::new(),
            },
            key: is_keyed.then_some(change.key),
        };
        Ok(Some(Waiting { priority: 0, revision, deadline: 0, message }))
    }
}

/// Bytes that a message counts for.
fn weight(message: &Message) -> u64 {
    (std::mem::size_of::<Waiting>() + message.topic.len() + message.payload.len()) as u64
}

fn text(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
}

impl Bus {
    /// The messages whose topics match a pattern, from the next one on.
    ///
    /// In a pattern `*` stands for any characters, `?` for one, `\` takes the next one as it is; one
    /// that ends with `/` stands for all topics below it. The bus tells its own changes under
    /// `value_changed`, `value_deleted`, `cache_cleared` and `data_restored`: to patterns that do not
    /// begin with a wildcard.
    ///
    /// ```
    /// # use membus::{Bus, Notice};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let options = Bus::options().directory(directory.path()).state(directory.path().join("state"));
    /// # let bus = options.open("orders")?;
    /// let mut alerts = bus.subscribe("alerts/")?;
    /// bus.publish("alerts/disk", &"/var is at 91 %")?;
    /// bus.message("alerts/fire").priority(10).send(&"in the server room")?;
    /// let Notice::Message(first) = alerts.recv()? else { unreachable!() };
    /// assert_eq!((first.topic.as_str(), first.priority), ("alerts/fire", 10));
    /// # Ok::<(), membus::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`WatchError::Pattern`]; [`WatchError::TooMany`] when all watch slots are taken.
    pub fn subscribe(&self, pattern: &str) -> Result<Subscriber, WatchError> {
        Subscriber::new(&self.inner, pattern, Begin::Now)
    }

    /// Like [`subscribe`](Self::subscribe), with those that are alive still, or after a cursor.
    ///
    /// # Errors
    /// As there; [`WatchError::Future`] for a cursor beyond the newest change.
    pub fn subscribe_from(&self, pattern: &str, begin: Begin) -> Result<Subscriber, WatchError> {
        Subscriber::new(&self.inner, pattern, begin)
    }
}

impl BusReader {
    /// The messages whose topics match a pattern, by polling. A reader has neither label nor slot: what is
    /// meant for one is not for it.
    ///
    /// # Errors
    /// As [`Bus::subscribe`].
    pub fn subscribe(&self, pattern: &str) -> Result<Subscriber, WatchError> {
        Subscriber::new(&self.inner, pattern, Begin::Now)
    }

    /// Like [`subscribe`](Self::subscribe), with those that are alive still, or after a cursor.
    ///
    /// # Errors
    /// As [`Bus::subscribe_from`].
    pub fn subscribe_from(&self, pattern: &str, begin: Begin) -> Result<Subscriber, WatchError> {
        Subscriber::new(&self.inner, pattern, begin)
    }
}
