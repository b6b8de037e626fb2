//! A queue as an operator sees it: without taking anything, by a handle that may only read, too.

use super::names::{Names, Place};
use super::walk::Numbers;
use crate::bus::Inner;
use crate::error::QueueError;
use crate::value::{Entry, Stat};
use std::ops::Range;

/// A look at a queue. It changes nothing; what it tells may have changed already.
#[derive(Debug, Clone)]
pub struct QueueView<'a> {
    inner: &'a Inner,
    names: Names,
}

/// An item as it stands in its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueItem {
    /// Its number: in the order in which items were put.
    pub number: u64,
    /// Payload, kind, who put it and when, how long it will wait.
    pub entry: Entry,
    /// Who has it, since when and for how long; nothing when it waits to be taken.
    pub claim: Option<Stat>,
    /// Deliveries so far.
    pub attempts: u64,
}

impl<'a> QueueView<'a> {
    pub(crate) fn over(inner: &'a Inner, queue: &str) -> Result<Self, QueueError> {
        Ok(Self { inner, names: Names::new(queue)? })
    }

    pub(super) fn of(inner: &'a Inner, names: &Names) -> Self {
        Self { inner, names: names.clone() }
    }

    pub(super) fn place(&self) -> Place<'_> {
        Place { inner: self.inner, names: &self.names }
    }

    /// The items that are there, the oldest first; those that are put meanwhile are left out.
    ///
    /// # Errors
    /// [`QueueError::Read`] when the bus can't be read, [`QueueError::NotAQueue`] when the queue's
    /// entries are not a queue's.
    pub fn items(&self) -> Result<QueueItems<'_>, QueueError> {
        Ok(QueueItems { view: self, numbers: Numbers::of(self.numbers()?) })
    }

    /// The numbers that items may have which are there now.
    pub(super) fn numbers(&self) -> Result<Range<u64>, QueueError> {
        match self.place().tail()? {
            None | Some((0, _)) => Ok(0..0),
            Some((tail, _)) => Ok(self.place().first(tail)?..tail),
        }
    }

    /// The oldest item that waits to be taken.
    ///
    /// # Errors
    /// As [`items`](Self::items).
    pub fn peek(&self) -> Result<Option<QueueItem>, QueueError> {
        self.items()?
            .find(|item| item.as_ref().map_or(true, |item| item.claim.is_none()))
            .transpose()
    }

    /// Items that are there, those that are being worked on too. Looks at each of them.
    ///
    /// # Errors
    /// As [`items`](Self::items).
    pub fn len(&self) -> Result<u64, QueueError> {
        self.count(|_| Ok(true))
    }

    /// Whether no item is there.
    ///
    /// # Errors
    /// As [`items`](Self::items).
    pub fn is_empty(&self) -> Result<bool, QueueError> {
        Ok(self.items()?.next().transpose()?.is_none())
    }

    /// Items that consumers have. Looks at each item.
    ///
    /// # Errors
    /// As [`items`](Self::items).
    pub fn in_flight(&self) -> Result<u64, QueueError> {
        self.count(|number| Ok(self.place().claim(number)?.is_some()))
    }

    fn count(
        &self,
        mut counts: impl FnMut(u64) -> Result<bool, QueueError>,
    ) -> Result<u64, QueueError> {
        let (mut count, mut numbers) = (0, Numbers::of(self.numbers()?));
        while let Some(number) = numbers.next(&self.place())? {
            let is_there = self.place().has_item(number)?;
            numbers.saw(is_there);
            count += u64::from(is_there && counts(number)?);
        }
        Ok(count)
    }
}

/// A walk over the items of a queue, the oldest first.
#[derive(Debug)]
pub struct QueueItems<'a> {
    view: &'a QueueView<'a>,
    numbers: Numbers,
}

impl QueueItems<'_> {
    fn step(&mut self) -> Result<Option<QueueItem>, QueueError> {
        while let Some(number) = self.numbers.next(&self.view.place())? {
            let item = self.look(number)?;
            self.numbers.saw(item.is_some());
            if item.is_some() {
                return Ok(item);
            }
        }
        Ok(None)
    }

    fn look(&self, number: u64) -> Result<Option<QueueItem>, QueueError> {
        let place = self.view.place();
        let Some(entry) = place.item(number)? else { return Ok(None) };
        let attempts = place.tries(number)?.map_or(0, |(tries, _)| tries);
        Ok(Some(QueueItem { number, entry, claim: place.claimant(number)?, attempts }))
    }
}

impl Iterator for QueueItems<'_> {
    type Item = Result<QueueItem, QueueError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.numbers = Numbers::default();
        }
        step.transpose()
    }
}
