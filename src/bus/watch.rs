//! Watches: all entries under a prefix, then every later change, in order, with no gap.

use super::event::Event;
use super::follow::{Follower, Next, concerns};
use super::{Bus, Inner};
use crate::doorbell::{Sort, bell_name};
use crate::error::{ReadError, WatchError};
use crate::log::Record;
use crate::region::BadRegion;
use crate::region::layout::header;
use crate::sync::Ordering::Acquire;
use crate::sys::socket::{Doorbell, Timer};
use crate::types::Cursor;
use crate::types::limits::{KEY_MAX, WATCHES_MAX};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a watch spins before it sleeps, where there is more than one core.
const SPIN: Duration = Duration::from_micros(20);
/// How long a sleeper trusts its doorbell; then it looks by itself.
const SELF_LOOK: Duration = Duration::from_secs(1);

/// How often a listing begins anew since everything was cleared meanwhile.
const LISTINGS_MAX: u32 = 64;

/// What wakes a watch.
#[derive(Debug)]
enum Waker {
    /// Writers ring the watch in this slot, of this member.
    Bell { bell: Doorbell, index: u64, owner: u64 },
    /// Nobody rings for a read-only handle: it looks from time to time.
    Timer(Timer),
}

impl Waker {
    fn wait(&self, timeout: Duration) -> std::io::Result<bool> {
        match self {
            Self::Bell { bell, .. } => bell.wait(timeout),
            Self::Timer(timer) => timer.wait(timeout),
        }
    }
}

/// A reader of the log with a prefix and a cursor. It may move between threads; dropped, it is
/// forgotten. Its descriptor becomes readable after [`try_recv`](Self::try_recv) gave nothing and
/// something happened.
#[derive(Debug)]
pub struct Watch {
    inner: Arc<Inner>,
    prefix: Vec<u8>,
    waker: Waker,
    queue: VecDeque<Event>,
    /// Revisions of the listed keys, until the head at the listing's end is passed.
    listed: HashMap<Vec<u8>, u64>,
    listed_until: u64,
    log: Follower,
    asleep: bool,
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
        if prefix.len() > KEY_MAX {
            return Err(WatchError::Prefix { size: prefix.len(), limit: KEY_MAX });
        }
        let waker = Self::register(inner, prefix)?;
        let mut watch = Self {
            inner: Arc::clone(inner),
            prefix: prefix.to_vec(),
            waker,
            queue: VecDeque::new(),
            listed: HashMap::new(),
            listed_until: 0,
            log: Follower::after(0),
            asleep: false,
        };
        match from {
            None => watch.list()?,
            Some(cursor) => watch.follow(cursor)?,
        }
        Ok(watch)
    }

    fn register(inner: &Arc<Inner>, prefix: &[u8]) -> Result<Waker, WatchError> {
        if inner.seats.is_none() {
            return Ok(Waker::Timer(Timer::new()?));
        }
        inner.writer()?;
        let Some(seat) = inner.seat() else { return Ok(Waker::Timer(Timer::new()?)) };
        let nonce = crate::sys::process::random()?;
        let owner = seat.owner();
        let taken =
            inner.core.watch_take(owner, nonce, (Sort::Keys, prefix)).map_err(ReadError::from)?;
        let index = taken.ok_or(WatchError::TooMany { limit: WATCHES_MAX })?;
        let bell = Doorbell::bind(&inner.bells, &bell_name(index, nonce), &inner.path.join("bell"));
        match bell {
            Ok(bell) => Ok(Waker::Bell { bell, index, owner }),
            Err(error) => {
                inner.core.watch_give(index).map_err(ReadError::from)?;
                Err(error.into())
            }
        }
    }

    fn head(&self) -> Result<u64, WatchError> {
        Ok(self.inner.core.head().map_err(ReadError::from)?)
    }

    /// Lists what is there, and begins to follow at the head from before; once more when a clear came
    /// between, since its record would wipe out keys that were listed after it.
    fn list(&mut self) -> Result<(), WatchError> {
        use super::scan::EntryScan;
        let clear = || {
            // ORDERING: [cleared] Acquire; pairs with the Release store in `finish`. Relaxed would do:
            // the head, loaded before, shows every clear up to it; one that is met too early counts
            // as come between.
            self.inner.core.region.load_count(header::CLEARED_AT, Acquire).map_err(ReadError::from)
        };
        for _ in 0..LISTINGS_MAX {
            let before = self.head()?;
            self.queue.clear();
            self.listed.clear();
            for entry in EntryScan::over(&self.inner, &self.prefix) {
                let entry = entry?;
                self.listed.insert(entry.key.to_vec(), entry.stat.revision.get());
                self.queue.push_back(Event::Current(entry));
            }
            let after = self.head()?;
            if clear()? <= before {
                self.log = Follower::after(before);
                self.listed_until = after;
                self.queue.push_back(Event::CaughtUp(self.inner.cursor(before)));
                return Ok(());
            }
        }
        Err(ReadError::Contended { attempts: LISTINGS_MAX }.into())
    }

    /// Begins to follow after a cursor.
    fn follow(&mut self, cursor: Cursor) -> Result<(), WatchError> {
        let head = self.head()?;
        let geometry = &self.inner.core.geometry;
        let (first, incarnation) = (geometry.first_revision, geometry.incarnation);
        if cursor == Cursor::NOW {
            self.log = Follower::after(head);
            self.queue.push_back(Event::CaughtUp(self.inner.cursor(head)));
        } else if cursor.incarnation != 0 && cursor.incarnation != incarnation {
            self.log = Follower::after(first);
            let missed = first.saturating_sub(cursor.revision);
            let resume = self.inner.cursor(first);
            self.queue.push_back(Event::Lagged { missed, resume });
        } else if cursor.revision > head {
            return Err(WatchError::Future { cursor, head });
        } else {
            self.log = Follower::after(cursor.revision);
        }
        Ok(())
    }

    /// The cursor after the last change that was told or passed by.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.inner.cursor(self.log.passed())
    }

    /// The next event, if there is one. When there is none, the doorbell is armed.
    ///
    /// # Errors
    /// [`ReadError::Gone`] after the bus was destroyed.
    pub fn try_recv(&mut self) -> Result<Option<Event>, WatchError> {
        if !self.is_ours() {
            return Err(WatchError::Forked);
        }
        self.awake()?;
        if let Some(event) = self.ready()? {
            return Ok(Some(event));
        }
        if let Waker::Bell { index, .. } = self.waker {
            self.inner.core.falls_asleep(index).map_err(ReadError::from)?;
            self.asleep = true;
            if let Some(event) = self.ready()? {
                return Ok(Some(event));
            }
        }
        if self.inner.is_gone() {
            return Err(ReadError::Gone { path: self.inner.path.clone() }.into());
        }
        Ok(None)
    }

    /// Whether this process registered it: a forked child's copy shares the doorbell.
    fn is_ours(&self) -> bool {
        match &self.waker {
            Waker::Bell { owner, .. } => {
                self.inner.seat().is_some_and(|seat| seat.owner() == *owner)
            }
            Waker::Timer(_) => true,
        }
    }

    fn awake(&mut self) -> Result<(), WatchError> {
        match &self.waker {
            Waker::Bell { bell, index, .. } if self.asleep => {
                self.asleep = false;
                // Whoever clears the mark: a ring may come that was meant for an earlier sleep.
                let _cleared = self.inner.core.wakes(*index).map_err(ReadError::from)?;
                bell.drain()?;
            }
            Waker::Bell { .. } => {}
            Waker::Timer(timer) => timer.drain()?,
        }
        Ok(())
    }

    /// The next event, waiting for it as long as it takes.
    ///
    /// # Errors
    /// [`ReadError::Gone`] after the bus was destroyed.
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
    /// [`ReadError::Gone`] after the bus was destroyed.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, WatchError> {
        let end = Instant::now().checked_add(timeout);
        if let Some(event) = self.spin(timeout)? {
            return Ok(Some(event));
        }
        loop {
            if let Some(event) = self.try_recv()? {
                return Ok(Some(event));
            }
            let left = end.map_or(SELF_LOOK, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            self.waker.wait(left.min(SELF_LOOK))?;
        }
    }

    /// Looks again and again for a few microseconds.
    fn spin(&mut self, timeout: Duration) -> Result<Option<Event>, WatchError> {
        if self.asleep {
            return Ok(None);
        }
        let begun = Instant::now();
        loop {
            if let Some(event) = self.ready()? {
                return Ok(Some(event));
            }
            if begun.elapsed() >= SPIN.min(timeout) || crate::sys::process::cores() < 2 {
                return Ok(None);
            }
            std::hint::spin_loop();
        }
    }

    /// The next event that is there already.
    fn ready(&mut self) -> Result<Option<Event>, WatchError> {
        if let Some(event) = self.queue.pop_front() {
            return Ok(Some(event));
        }
        let head = self.head()?;
        self.ready_to(head)
    }

    /// The next event up to a head.
    fn ready_to(&mut self, head: u64) -> Result<Option<Event>, WatchError> {
        while let Some(next) = self.log.next(&self.inner.core, head).map_err(ReadError::from)? {
            let event = match next {
                Next::Record(record) => self.told(record)?,
                Next::Lagged { missed, resume } => {
                    Some(Event::Lagged { missed, resume: self.inner.cursor(resume) })
                }
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Whether a record is for this watch, and as what.
    fn told(&mut self, record: Record) -> Result<Option<Event>, WatchError> {
        if !concerns(&record, &self.prefix) {
            return Ok(None);
        }
        if record.revision > self.listed_until {
            self.listed = HashMap::new();
        } else if self.listed.get(&record.key).is_some_and(|listed| record.revision <= *listed) {
            return Ok(None);
        }
        Ok(self.inner.change_of(record)?.map(Event::Change))
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.waker {
            Waker::Bell { bell, .. } => bell.as_fd(),
            Waker::Timer(timer) => timer.as_fd(),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Waker::Bell { bell, index, .. } = &self.waker
            && self.is_ours()
        {
            bell.remove();
            // A damaged table keeps the slot until the member is buried.
            let _given = self.inner.core.watch_give(*index);
        }
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
    use crate::sync::Ordering::Release;

    fn bus() -> (Bus, Place) {
        let place = Place::new();
        (place.make(), place)
    }

    /// Plant: a head that is not yet moved counts: the listing is begun again and again.
    #[test]
    fn a_clear_whose_maker_died_does_not_keep_a_watch_from_listing() {
        let (bus, _place) = bus();
        bus.set("k", &1).unwrap();
        let head = bus.inner.core.head().unwrap();
        bus.inner.core.region.store(header::CLEARED_AT, head + 1, Release).unwrap();
        let mut watch = bus.watch("").unwrap();
        assert!(matches!(watch.try_recv().unwrap(), Some(Event::CaughtUp(_))));
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

    /// Plant: what was listed is forgotten with the first record that is gone.
    #[test]
    fn what_was_listed_is_not_told_again_behind_a_gap() {
        let place = Place::new();
        let bus = place.options().log_size(4096).create_at(place.bus()).unwrap();
        for number in 0..100 {
            bus.set(format!("k{number}"), &number).unwrap();
        }
        // As if all had been written while it listed.
        let mut watch = bus.watch("").unwrap();
        watch.log = Follower::after(0);
        watch.queue.clear();
        assert!(matches!(watch.try_recv().unwrap(), Some(Event::Lagged { .. })));
        assert_eq!(watch.try_recv().unwrap(), None);
    }

    /// Plant: without `LISTINGS_MAX` it lists for ever.
    #[test]
    fn a_listing_that_is_cleared_again_and_again_ends() {
        let (bus, _place) = bus();
        for number in 0..2000 {
            bus.set(format!("k{number}"), &number).unwrap();
        }
        let (core, done) = (&bus.inner.core, std::sync::atomic::AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut cleared = core.head().unwrap();
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    cleared += 1;
                    core.region.store(header::CLEARED_AT, cleared, Release).unwrap();
                }
            });
            // One during which that thread did not run is as good as any.
            let end = loop {
                match bus.watch("k") {
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(matches!(end, WatchError::Read(ReadError::Contended { .. })), "{end}");
        });
    }

    /// Plant: a watch that drains its bell only when a writer cleared its mark is readable for ever.
    #[test]
    fn a_late_ring_is_taken_with_the_next_look() {
        let (bus, _place) = bus();
        let mut watch = bus.watch("k").unwrap();
        while watch.try_recv().unwrap().is_some() {}
        // A writer that cleared the mark of an earlier sleep rings only now.
        bus.inner.ring_all().unwrap();
        let Waker::Bell { index, .. } = watch.waker else { panic!("a member has a bell") };
        bus.inner.core.falls_asleep(index).unwrap();
        assert!(watch.waker.wait(Duration::from_secs(5)).unwrap());
        assert_eq!(watch.try_recv().unwrap(), None);
        assert!(!watch.waker.wait(Duration::ZERO).unwrap());
    }
}
