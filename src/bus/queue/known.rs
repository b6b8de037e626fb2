//! What a handle remembers of a queue's items, so that no number is looked at for ever.
//!
//! 1. Every number below `mark` is gone for good, but for those in `left`. Numbers never come again
//!    (`put`), so what was known once stays known, whatever others do meanwhile. A restore alone brings
//!    them back, head, tail and items: behind another clear or restore than before nothing is known.
//! 2. `left` holds numbers that were there when they were looked at last: as many as items are being
//!    worked on, or as the limit lets be there.
//!
//! It is memory of one handle and nothing more: another one begins at the queue's head.

use super::names::{Extent, Place};
use super::walk::Walk;
use crate::error::QueueError;
use std::collections::BTreeMap;
use std::time::Instant;

/// Numbers by which the head may lie behind what a handle knows, before it is moved.
const HEAD_LAG: u64 = 64;

/// Which numbers are gone, and which are left.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    begun: bool,
    /// The last clear or restore before it.
    floor: u64,
    pub(super) mark: u64,
    /// With the end of its claim, where that is known to have one.
    pub(super) left: BTreeMap<u64, Option<Instant>>,
    /// The head, as it was seen or set last.
    head: u64,
    walk: Walk,
}

impl Known {
    /// Before a look at the items below the tail. Begins at the head; anew, when all was cleared or
    /// restored meanwhile, or the tail set back behind what is known, by somebody who writes such entries by hand.
    pub(super) fn begin(&mut self, place: &Place<'_>, extent: Extent) -> Result<(), QueueError> {
        let Extent { tail, floor } = extent;
        if !self.is_on(floor) || tail < self.mark {
            *self = Self { floor, ..Self::default() };
        }
        if tail > 0 && !self.begun {
            let head = place.first(tail)?.min(tail);
            *self = Self { begun: true, floor, mark: head, head, ..Self::default() };
        }
        Ok(())
    }

    /// Whether this is the last clear or restore before what is known.
    pub(super) fn is_on(&self, floor: u64) -> bool {
        self.floor == floor
    }

    /// Whether so much is new that the head may be beyond most of it. It is, when the queue was deleted:
    /// the next first number is far above all before it.
    pub(super) fn is_far(&self, tail: u64) -> bool {
        tail.saturating_sub(self.mark) > HEAD_LAG
    }

    /// The first number from the mark on that may be there; the mark is moved there, and stays until the
    /// number was looked at.
    pub(super) fn next_new(
        &mut self,
        place: &Place<'_>,
        tail: u64,
    ) -> Result<Option<u64>, QueueError> {
        self.mark = self.walk.next(place, self.mark, tail)?;
        Ok((self.mark < tail).then_some(self.mark))
    }

    /// This number was looked at.
    pub(super) fn saw(&mut self, number: u64) {
        self.walk.saw(self.left.contains_key(&number));
    }

    /// The lowest number that may be there.
    pub(super) fn lowest(&self) -> u64 {
        self.left.first_key_value().map_or(self.mark, |(number, _)| *number)
    }

    /// Items that can be there at the most, below `tail`.
    pub(super) fn most(&self, tail: u64) -> u64 {
        self.left.len() as u64 + tail.saturating_sub(self.mark)
    }

    /// The first number of `left` that is not below `from`.
    pub(super) fn next_left(&self, from: u64) -> Option<u64> {
        self.left.range(from..).next().map(|(number, _)| *number)
    }

    /// Numbers whose claims have ended by now.
    pub(super) fn due(&self, now: Instant) -> Vec<u64> {
        let is_due = |end: &Option<Instant>| end.is_some_and(|end| end <= now);
        self.left.iter().filter(|(_, end)| is_due(end)).map(|(number, _)| *number).collect()
    }

    /// When the first of the claims ends that have an end.
    pub(super) fn first_end(&self) -> Option<Instant> {
        self.left.values().flatten().min().copied()
    }

    /// Nothing below `head` is there, somebody says.
    pub(super) fn raise(&mut self, head: u64, tail: u64) {
        let head = head.min(tail);
        self.told(head);
        self.left = self.left.split_off(&head);
        self.mark = self.mark.max(head);
    }

    /// A head that is worth telling the others.
    pub(super) fn news(&self) -> Option<u64> {
        let lowest = self.lowest();
        (self.begun && lowest >= self.head + HEAD_LAG).then_some(lowest)
    }

    /// The head was set, by this handle or another one.
    pub(super) fn told(&mut self, head: u64) {
        self.head = self.head.max(head);
    }
}
