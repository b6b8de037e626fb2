//! What an entry says of itself beside its value.

use crate::region::BadRegion;
use crate::table::Clock;
use crate::table::read::Seen;
use crate::types::{Kind, Revision, time_of};
use crate::value::Stat;
use std::time::Duration;

/// The words of an entry that its [`Stat`] is made of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Marks {
    born: u64,
    kind: u8,
    size: u64,
    time: u64,
    deadline: u64,
    owner: u64,
}

impl Marks {
    #[inline]
    pub(crate) fn of(seen: &Seen<'_>) -> Result<Self, BadRegion> {
        Ok(Self {
            born: seen.born,
            kind: seen.header.kind,
            size: seen.header.value_len as u64,
            time: seen.entry.time()?,
            deadline: seen.deadline,
            owner: seen.entry.owner(&seen.header)?,
        })
    }

    #[inline]
    pub(crate) fn stat(&self, clock: &Clock, who: &[u8]) -> Option<Stat> {
        let left = |deadline: u64| Duration::from_nanos(deadline.saturating_sub(clock.boot()));
        Some(Stat {
            revision: Revision::new(self.born)?,
            kind: Kind::from_byte(self.kind),
            who: (!who.is_empty()).then(|| String::from_utf8_lossy(who).into_owned()),
            time: time_of(self.time),
            size: self.size,
            expires_in: (self.deadline != 0).then(|| left(self.deadline)),
            ephemeral: self.owner != 0,
        })
    }
}
