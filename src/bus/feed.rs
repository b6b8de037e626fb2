//! What a watch reads for its prefix and has not told yet: the listing, and the log from there on.
//!
//! 1. The log is followed from the head that was there before the listing; so nothing is left out.
//! 2. Until the head at the listing's end is passed, a record that is not younger than the entry listed
//!    of its key is passed over; so nothing is told twice.
//! 3. What a listing amid the log tells, behind a restore or a gap, has no records: until it was told to its
//!    end the cursor stays before its cause.

use super::Inner;
use super::conflate::Conflation;
use super::event::Event;
use super::follow::{Follower, Next, concerns};
use super::scan::EntryScan;
use crate::error::{ReadError, WatchError};
use crate::log::{Record, RecordKind};
use crate::region::layout::header;
use crate::sync::Ordering::Acquire;
use crate::types::Cursor;
use crate::types::limits::KEY_MAX;
use crate::value::Entry;
use std::collections::{HashMap, VecDeque};

/// How often a listing begins anew since everything was cleared meanwhile.
const LISTINGS_MAX: u32 = 64;

/// What was there under a prefix at some time between two heads, with no clear between.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) entries: Vec<Entry>,
    pub(crate) before: u64,
    pub(crate) after: u64,
}

impl Listing {
    /// Lists what is there; once more when a clear came between, since its record would wipe out keys
    /// that were listed after it.
    pub(crate) fn read(inner: &Inner, prefix: &[u8]) -> Result<Self, ReadError> {
        let core = &inner.core;
        for _ in 0..LISTINGS_MAX {
            let before = core.head()?;
            let entries = EntryScan::over(inner, prefix).collect::<Result<Vec<_>, _>>()?;
            let after = core.head()?;
            // ORDERING: [cleared] Acquire; pairs with the Release store in `finish`. Relaxed would do:
            // the head, loaded before, shows every clear up to it; one that is met too early counts
            // as come between.
            if core.region.load_count(header::CLEARED_AT, Acquire)? <= before {
                return Ok(Self { entries, before, after });
            }
        }
        Err(ReadError::Contended { attempts: LISTINGS_MAX })
    }
}

/// What a watch has still to tell.
#[derive(Debug)]
pub(crate) struct Feed {
    prefix: Vec<u8>,
    /// Told before anything of the log.
    queue: VecDeque<Event>,
    /// Revisions of the listed keys, until the head at the listing's end is passed.
    listed: HashMap<Vec<u8>, u64>,
    listed_until: u64,
    /// The head from before the listing.
    listed_from: Option<u64>,
    log: Follower,
    /// A restore was told: what is there now is still to be.
    has_to_list: bool,
    /// As long as a listing amid the log is told, or still to be: the revision from which it is told again.
    listed_after: Option<u64>,
    conflation: Option<Box<Conflation>>,
}

impl Feed {
    pub(crate) fn new(
        inner: &Inner,
        prefix: &[u8],
        from: Option<Cursor>,
    ) -> Result<Self, WatchError> {
        let mut feed = Self {
            prefix: prefix.to_vec(),
            queue: VecDeque::new(),
            listed: HashMap::new(),
            listed_until: 0,
            listed_from: None,
            log: Follower::after(0),
            has_to_list: false,
            listed_after: None,
            conflation: None,
        };
        match from {
            None => feed.list(inner)?,
            Some(cursor) => feed.follow(inner, cursor)?,
        }
        Ok(feed)
    }

    /// Whether there can be such a prefix.
    pub(crate) fn check(prefix: &[u8]) -> Result<(), WatchError> {
        match prefix.len() {
            0..=KEY_MAX => Ok(()),
            size => Err(WatchError::Prefix { size, limit: KEY_MAX }),
        }
    }

    fn list(&mut self, inner: &Inner) -> Result<(), WatchError> {
        let Listing { entries, before, after } = Listing::read(inner, &self.prefix)?;
        for entry in entries {
            self.listed.insert(entry.key.to_vec(), entry.stat.revision.get());
            self.queue.push_back(Event::Current(entry));
        }
        self.queue.push_back(Event::CaughtUp(inner.cursor(before)));
        (self.listed_from, self.listed_until) = (Some(before), after);
        self.log = Follower::after(before);
        Ok(())
    }

    /// Begins to follow after a cursor.
    fn follow(&mut self, inner: &Inner, cursor: Cursor) -> Result<(), WatchError> {
        let head = inner.core.head().map_err(ReadError::from)?;
        match inner.revision_of(cursor, head)? {
            Ok(revision) => self.log = Follower::after(revision),
            Err(first) => {
                self.log = Follower::after(first);
                let missed = first.saturating_sub(cursor.revision);
                self.queue.push_back(Event::Lagged { missed, resume: inner.cursor(first) });
            }
        }
        if cursor == Cursor::NOW {
            self.queue.push_back(Event::CaughtUp(inner.cursor(head)));
        }
        Ok(())
    }

    /// Passes by all that there is to tell so far.
    pub(crate) fn skip(&mut self, inner: &Inner) -> Result<(), WatchError> {
        self.log = Follower::after(inner.core.head().map_err(ReadError::from)?);
        self.queue.clear();
        self.has_to_list = false;
        Ok(())
    }

    /// From now on only the newest state of each key is told.
    pub(crate) fn conflate(&mut self) {
        if self.conflation.is_some() {
            return;
        }
        let has_read_nothing = self.listed_from == Some(self.log.passed());
        let mut conflation = Conflation::new(std::mem::take(&mut self.listed), has_read_nothing);
        if let Some(Event::Lagged { missed, resume }) = self.queue.front() {
            conflation.has_missed(*missed, resume.revision);
            self.queue.pop_front();
        }
        if std::mem::take(&mut self.has_to_list) {
            conflation.has_restored(self.log.passed());
        }
        self.conflation = Some(Box::new(conflation));
    }

    /// The revision up to which all was told or passed by. What a listing amid the log tells has no records:
    /// until it was told to its end, who begins here is told anew why there is one.
    pub(crate) fn passed(&self) -> u64 {
        let passed = self.log.passed();
        let passed = self.conflation.as_ref().map_or(passed, |one| one.passed(passed));
        let is_listing = self.has_to_list || !self.queue.is_empty();
        self.listed_after.filter(|_| is_listing).map_or(passed, |after| after.min(passed))
    }

    /// The next event that is there already.
    pub(crate) fn next(&mut self, inner: &Inner) -> Result<Option<Event>, WatchError> {
        if self.queue.is_empty() && self.has_to_list {
            self.list(inner)?;
            self.has_to_list = false;
        }
        if let Some(event) = self.queue.pop_front() {
            return Ok(Some(event));
        }
        if let Some(conflation) = &mut self.conflation {
            let event = conflation.next(inner, &self.prefix, &mut self.log, &mut self.queue)?;
            if !self.queue.is_empty() {
                self.listed_after = conflation.hands_over();
            }
            return Ok(event);
        }
        let head = inner.core.head().map_err(ReadError::from)?;
        while let Some(next) = self.log.next(&inner.core, head).map_err(ReadError::from)? {
            let event = match next {
                Next::Record(record) => self.told(inner, record)?,
                Next::Lagged { missed, resume } => {
                    Some(Event::Lagged { missed, resume: inner.cursor(resume) })
                }
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Whether a record is for this watch, and as what.
    fn told(&mut self, inner: &Inner, record: Record) -> Result<Option<Event>, WatchError> {
        if record.revision > self.listed_until && !self.listed.is_empty() {
            self.listed = HashMap::new();
        }
        if !concerns(&record, &self.prefix) {
            return Ok(None);
        }
        if self.listed.get(&record.key).is_some_and(|listed| record.revision <= *listed) {
            return Ok(None);
        }
        if record.kind == RecordKind::Restore {
            (self.has_to_list, self.listed_after) = (true, Some(record.revision.saturating_sub(1)));
        }
        Ok(inner.change_of(record)?.map(Event::Change))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Bus;
    use super::super::testing::Place;
    use super::*;
    use crate::sync::Ordering::Release;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

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

    /// Plant: what was listed is forgotten with the first record that is gone.
    #[test]
    fn what_was_listed_is_not_told_again_behind_a_gap() {
        let place = Place::new();
        let bus = place.options().log_size(4096).create_at(place.bus()).unwrap();
        for number in 0..100 {
            bus.set(format!("k{number}"), &number).unwrap();
        }
        // As if all had been written while it listed.
        let mut feed = Feed::new(&bus.inner, b"", None).unwrap();
        feed.log = Follower::after(0);
        feed.queue.clear();
        assert!(matches!(feed.next(&bus.inner).unwrap(), Some(Event::Lagged { .. })));
        assert_eq!(feed.next(&bus.inner).unwrap(), None);
    }

    /// Plant: only a record of the prefix lets what was listed go.
    #[test]
    fn what_was_listed_is_kept_only_until_the_log_has_passed_it() {
        let (bus, _place) = bus();
        bus.set("k", &1).unwrap();
        let mut feed = Feed::new(&bus.inner, b"k", None).unwrap();
        bus.set("other", &1).unwrap();
        assert!(!feed.listed.is_empty());
        while feed.next(&bus.inner).unwrap().is_some() {}
        assert!(feed.listed.is_empty());
    }

    /// Plant: without `LISTINGS_MAX` it lists for ever.
    #[test]
    fn a_listing_that_is_cleared_again_and_again_ends() {
        let (bus, _place) = bus();
        for number in 0..2000 {
            bus.set(format!("k{number}"), &number).unwrap();
        }
        let (core, done) = (&bus.inner.core, AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut cleared = core.head().unwrap();
                while !done.load(Relaxed) {
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
            done.store(true, Relaxed);
            assert!(matches!(end, WatchError::Read(ReadError::Contended { .. })), "{end}");
        });
    }
}
