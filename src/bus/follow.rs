//! Reading the log on: the next record after a cursor, up to a head, or how many are gone.
//!
//! 1. A follower only goes forward: by one for each record that it gives, by more over what is gone.
//! 2. Where its next record stands is a hint; the record that is read there confirms it.
//!
//! It writes nothing to the region, so a death leaves nothing behind. Which records concern whom is
//! not its business: watches and their kin choose from what it gives.

use super::Inner;
use super::event::{Change, ChangeValue, OldValue};
use crate::error::{ReadError, WatchError};
use crate::heap::Space;
use crate::log::{RECORD_FIXED, Read, Record, RecordKind};
use crate::region::BadRegion;
use crate::region::layout::header;
use crate::types::{Cursor, Key, Kind, Revision, time_of};
use crate::word::Realm;

/// What comes next in the log.
#[derive(Debug)]
pub(crate) enum Next {
    /// The record of the next revision.
    Record(Record),
    /// The writers came round: so many records are gone, and it goes on after the revision `resume`.
    Lagged { missed: u64, resume: u64 },
}

/// A place in the log from which it is read on.
#[derive(Debug)]
pub(crate) struct Follower {
    /// The next revision to read, and where its record stands, when that is known.
    next: u64,
    position: Option<u64>,
}

impl Follower {
    /// What follows is the record after this revision.
    pub(crate) fn after(revision: u64) -> Self {
        Self { next: revision.saturating_add(1), position: None }
    }

    /// The revision up to which records were given or are gone.
    pub(crate) fn passed(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// Where its next record stands, when that is known.
    pub(crate) fn position(&self) -> Option<u64> {
        self.position
    }

    /// What comes next, up to a head that the region has had; nothing beyond it.
    pub(crate) fn next(&mut self, space: &Space, head: u64) -> Result<Option<Next>, BadRegion> {
        if self.next > head {
            return Ok(None);
        }
        // Named bound: it is overtaken as often as the ring has room for records, twice over.
        for _ in 0..space.geometry.log_size / RECORD_FIXED * 2 {
            let position = match self.position {
                Some(position) => position,
                None => match space.log_find(self.next)? {
                    Ok(position) => position,
                    Err(oldest) if oldest > self.next => return Ok(Some(self.lagged(oldest))),
                    // The head was beyond it, and is no longer.
                    Err(_) => break,
                },
            };
            match space.log_read(position, self.next)? {
                Read::Overtaken => self.position = None,
                Read::Record(record, after) => {
                    self.position = Some(after);
                    self.next += 1;
                    return Ok(Some(Next::Record(record)));
                }
            }
        }
        Err(BadRegion::new(header::HEAD, head, "a revision to which the log leads"))
    }

    fn lagged(&mut self, oldest: u64) -> Next {
        let missed = oldest - self.next;
        self.next = oldest;
        self.position = None;
        Next::Lagged { missed, resume: oldest - 1 }
    }
}

/// Whether a record tells of a key that begins with `prefix`, or of all keys.
pub(crate) fn concerns(record: &Record, prefix: &[u8]) -> bool {
    match record.kind {
        RecordKind::Clear | RecordKind::Restore => true,
        RecordKind::Set | RecordKind::Delete | RecordKind::Expire => {
            record.realm == Realm::Keys && record.key.starts_with(prefix)
        }
        _ => false,
    }
}

impl Inner {
    /// A revision of this life of the bus.
    pub(crate) fn cursor(&self, revision: u64) -> Cursor {
        Cursor { incarnation: self.core.geometry.incarnation, revision }
    }

    /// The revision after which a cursor goes on; `Err` for a cursor of another life of the bus: the
    /// revision with which this one began.
    pub(crate) fn revision_of(
        &self,
        cursor: Cursor,
        head: u64,
    ) -> Result<Result<u64, u64>, WatchError> {
        let geometry = &self.core.geometry;
        if cursor == Cursor::NOW {
            return Ok(Ok(head));
        }
        if cursor.incarnation != 0 && cursor.incarnation != geometry.incarnation {
            return Ok(Err(geometry.first_revision));
        }
        if cursor.revision > head {
            return Err(WatchError::Future { cursor, head });
        }
        Ok(Ok(cursor.revision))
    }

    /// What a record tells.
    pub(crate) fn change_of(&self, record: Record) -> Result<Option<Change>, ReadError> {
        let Some(revision) = Revision::new(record.revision) else { return Ok(None) };
        let value = match record.kind {
            RecordKind::Set if record.too_large => self.fetch(&record)?,
            RecordKind::Restore if record.too_large => ChangeValue::None,
            RecordKind::Set | RecordKind::Restore => ChangeValue::Here(record.value),
            _ => ChangeValue::None,
        };
        let who =
            (!record.who.is_empty()).then(|| String::from_utf8_lossy(&record.who).into_owned());
        Ok(Some(Change {
            revision,
            kind: record.kind.into(),
            key: Key::from(record.key),
            who,
            time: time_of(record.time),
            value,
            value_kind: Kind::from_byte(record.value_kind),
            old: record.old.map(OldValue::from),
        }))
    }

    /// The value of a record that is too large for it, when it is still the newest. One that is replaced
    /// faster than it can be copied is not: its change is told, not an error in its place.
    fn fetch(&self, record: &Record) -> Result<ChangeValue, ReadError> {
        let mut value = Vec::new();
        match self.lookup(&record.key, Some(&mut value), false) {
            Ok(Some(stat)) if stat.revision.get() == record.revision => {
                Ok(ChangeValue::Here(value))
            }
            Ok(_) | Err(ReadError::Contended { .. }) => {
                Ok(ChangeValue::TooLarge { size: record.value_size })
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Place;
    use super::*;
    use crate::region::layout;
    use crate::sync::Ordering::Release;
    use crate::{Event, ReadBus};
    use std::time::Duration;

    /// Plant: nothing, not an error, where the log does not lead: a watch sleeps beside a damaged region.
    #[test]
    fn a_head_that_is_set_back_is_not_looked_for_for_ever() {
        let place = Place::new();
        let bus = place.make();
        for number in 0..10 {
            bus.set("k", &number).unwrap();
        }
        let (core, head) = (&bus.inner.core, bus.inner.core.head().unwrap());
        core.region.store(header::HEAD, head - 5, Release).unwrap();
        core.region.store(core.geometry.index(head), u64::MAX, Release).unwrap();
        assert!(Follower::after(head - 1).next(core, head).is_err());
        assert!(Follower::after(head).next(core, head).unwrap().is_none());
    }

    /// Plant: the error of a copy that was overtaken in place of the event.
    #[test]
    fn a_value_that_changes_too_fast_is_told_by_its_size() {
        let place = Place::new();
        let bus = place.options().deadline(Duration::ZERO).create_at(place.bus()).unwrap();
        bus.set_bytes("k", vec![7; 5000]).unwrap();
        let mut at = 0;
        bus.inner
            .find("k".as_bytes(), |seen| {
                at = seen.entry.at();
                Ok(())
            })
            .unwrap();
        // What a reader meets that is overtaken each time: an entry that is being filled anew.
        bus.inner.core.region.store(at + layout::entry::BORN, 0, Release).unwrap();
        assert!(matches!(bus.get_bytes("k"), Err(ReadError::Contended { .. })));
        let mut watch = bus.watch_from("k", Cursor { incarnation: 0, revision: 0 }).unwrap();
        let Some(Event::Change(change)) = watch.try_recv().unwrap() else { panic!("no change") };
        assert_eq!(change.value, ChangeValue::TooLarge { size: 5000 });
    }
}
