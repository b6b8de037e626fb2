//! Going over a queue's numbers, rising: one by one, and over many in a row that are gone at one stride.
//!
//! One item that stays long holds the head, and behind it stand all the numbers that came and went since. Who
//! met as many of these in a row as the bus has entries, and [`RUN`] at least, lists the keys once: that costs no more
//! than what it has looked at by then, and tells all that is there.
//!
//! 1. The tail was read before. So an item that the list lacks was gone by then, and for good (`known`).
//! 2. What is listed was there, and is looked at like any other.
//! 3. It is the lowest [`LISTED`] at the most, up to where these are all: a long queue costs no memory.

use super::names::Place;
use crate::error::{QueueError, ReadError};
use std::collections::VecDeque;
use std::ops::Range;

/// Numbers in a row that are looked at, each being gone, before the keys are listed.
pub(super) const RUN: u64 = 4096;
/// Numbers that are kept of a list.
const LISTED: usize = 4096;

/// How a walk gets on.
#[derive(Debug, Clone, Default)]
pub(super) struct Walk {
    /// Numbers in a row that were gone.
    gone: u64,
    /// What was there below `end`, rising.
    there: VecDeque<u64>,
    end: u64,
}

impl Walk {
    /// The first number from `from` on that may be there; when none is below `tail`, that one.
    pub(super) fn next(
        &mut self,
        place: &Place<'_>,
        from: u64,
        tail: u64,
    ) -> Result<u64, QueueError> {
        if from >= self.end && from < tail && self.is_due(place)? {
            let (there, end) = place.list(from..tail, LISTED)?;
            *self = Self { gone: 0, there: there.into(), end };
        }
        if from >= self.end {
            return Ok(from);
        }
        while self.there.front().is_some_and(|number| *number < from) {
            self.there.pop_front();
        }
        Ok(self.there.front().copied().unwrap_or(self.end).min(tail.max(from)))
    }

    /// What a look at the number told.
    pub(super) fn saw(&mut self, is_there: bool) {
        self.gone = if is_there { 0 } else { self.gone + 1 };
    }

    fn is_due(&self, place: &Place<'_>) -> Result<bool, QueueError> {
        // Entries are not counted each time.
        if self.gone < RUN || !self.gone.is_multiple_of(RUN) {
            return Ok(false);
        }
        Ok(self.gone >= place.inner.core.count_entries().map_err(ReadError::from)?)
    }
}

/// The numbers of a range that may be there.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers {
    range: Range<u64>,
    walk: Walk,
}

impl Numbers {
    pub(super) fn of(range: Range<u64>) -> Self {
        Self { range, walk: Walk::default() }
    }

    /// The next one; what a look at it tells, the walk is to be [told](Self::saw).
    pub(super) fn next(&mut self, place: &Place<'_>) -> Result<Option<u64>, QueueError> {
        let number = self.walk.next(place, self.range.start, self.range.end)?;
        if number >= self.range.end {
            return Ok(None);
        }
        self.range.start = number + 1;
        Ok(Some(number))
    }

    pub(super) fn saw(&mut self, is_there: bool) {
        self.walk.saw(is_there);
    }
}
