//! The keys of a queue, and what they hold.
//!
//! ```text
//! queue/NAME/tail                         counter: the number of the next item; 0: none yet
//! queue/NAME/head                         counter, a hint: no item below it is there
//! queue/NAME/item/00000000000000000057    what was put
//! queue/NAME/claim/00000000000000000057   counter: which delivery of the item this is
//! queue/NAME/tries/00000000000000000057   counter: deliveries so far
//! ```

use super::super::Inner;
use super::super::conflate::cleared;
use super::super::counters::Counter;
use crate::error::{QueueError, ReadError};
use crate::types::{Key, Kind, Revision};
use crate::value::{Entry, Stat};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// What the keys of all queues begin with.
const ROOT: &str = "queue/";
const TAIL: &str = "tail";
const HEAD: &str = "head";
const ITEM: &str = "item/";
const CLAIM: &str = "claim/";
const TRIES: &str = "tries/";
/// Digits of an item's number in a key: as many as a 64-bit number has, so that keys sort by it.
const DIGITS: usize = 20;

/// A number, and the revision of the entry that holds it.
pub(super) type Held = (u64, Revision);

/// Below which number all were given out, and since which clear or restore that counts: behind another one
/// nothing that was known of the queue holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) tail: u64,
    pub(super) floor: u64,
}

/// What a key of a queue is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    Item(u64),
    Claim(u64),
}

/// The keys of one queue. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// `queue/NAME/`.
    prefix: Arc<str>,
}

impl Names {
    pub(super) fn new(queue: &str) -> Result<Self, QueueError> {
        if !crate::name::is_name(queue) {
            return Err(QueueError::Name { name: queue.to_owned() });
        }
        Ok(Self { prefix: format!("{ROOT}{queue}/").into() })
    }

    /// The queue's name.
    pub(super) fn queue(&self) -> &str {
        self.prefix.strip_prefix(ROOT).and_then(|rest| rest.strip_suffix('/')).unwrap_or_default()
    }
    /// What all of its keys begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }
    pub(super) fn tail(&self) -> Vec<u8> {
        self.key(TAIL)
    }
    pub(super) fn head(&self) -> Vec<u8> {
        self.key(HEAD)
    }
    pub(super) fn items(&self) -> Vec<u8> {
        self.key(ITEM)
    }
    pub(super) fn item(&self, number: u64) -> Vec<u8> {
        self.numbered(ITEM, number)
    }
    pub(super) fn claim(&self, number: u64) -> Vec<u8> {
        self.numbered(CLAIM, number)
    }
    pub(super) fn tries(&self, number: u64) -> Vec<u8> {
        self.numbered(TRIES, number)
    }

    fn key(&self, what: &str) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.prefix.len() + what.len() + DIGITS);
        key.extend_from_slice(self.prefix.as_bytes());
        key.extend_from_slice(what.as_bytes());
        key
    }

    fn numbered(&self, what: &str, number: u64) -> Vec<u8> {
        let (mut digits, mut left) = ([b'0'; DIGITS], number);
        for digit in digits.iter_mut().rev() {
            if left == 0 {
                break;
            }
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        let mut key = self.key(what);
        key.extend_from_slice(&digits);
        key
    }

    /// What a key of this queue is about, when it is about one item.
    pub(super) fn about(&self, key: &[u8]) -> Option<About> {
        let rest = key.strip_prefix(self.prefix.as_bytes())?;
        let number = |digits| std::str::from_utf8(digits).ok()?.parse().ok();
        match rest.strip_prefix(ITEM.as_bytes()) {
            Some(digits) => number(digits).map(About::Item),
            None => number(rest.strip_prefix(CLAIM.as_bytes())?).map(About::Claim),
        }
    }
}

/// Whether this key is the tail of some queue.
pub(super) fn is_tail(key: &[u8]) -> bool {
    let name = key.strip_prefix(ROOT.as_bytes()).and_then(|rest| rest.strip_suffix(b"/tail"));
    name.is_some_and(|name| std::str::from_utf8(name).is_ok_and(crate::name::is_name))
}

/// A queue as it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) inner: &'a Inner,
    pub(super) names: &'a Names,
}

impl Place<'_> {
    /// The next item's number; 0 when none was put yet, and nothing where no queue is.
    pub(super) fn tail(&self) -> Result<Option<Held>, QueueError> {
        self.number(&self.names.tail())
    }
    /// The revision of the last clear or restore.
    pub(super) fn floor(&self) -> Result<u64, QueueError> {
        Ok(cleared(self.inner)?)
    }
    /// The tail, and what it stands on: the floor is the same before it was read and after it.
    pub(super) fn extent(&self) -> Result<(Option<Held>, Extent), QueueError> {
        loop {
            let floor = self.floor()?;
            let held = self.tail()?;
            // Else somebody cleared or restored meanwhile, and got on.
            if self.floor()? == floor {
                let tail = held.map_or(0, |(tail, _)| tail);
                return Ok((held, Extent { tail, floor }));
            }
        }
    }
    /// A number below which no item is there.
    pub(super) fn head(&self) -> Result<Option<Held>, QueueError> {
        self.number(&self.names.head())
    }
    /// Deliveries of an item so far.
    pub(super) fn tries(&self, number: u64) -> Result<Option<Held>, QueueError> {
        self.number(&self.names.tries(number))
    }
    pub(super) fn item(&self, number: u64) -> Result<Option<Entry>, QueueError> {
        let mut value = Vec::new();
        let key = self.names.item(number);
        let stat = self.lookup(&key, Some(&mut value), true)?;
        Ok(stat.map(|stat| Entry { key: key.into(), value, stat }))
    }
    pub(super) fn item_stat(&self, number: u64) -> Result<Option<Stat>, QueueError> {
        self.lookup(&self.names.item(number), None, false)
    }
    pub(super) fn has_item(&self, number: u64) -> Result<bool, QueueError> {
        Ok(self.item_stat(number)?.is_some())
    }
    /// Whose an item is; nothing when it is free or gone.
    pub(super) fn claim(&self, number: u64) -> Result<Option<Stat>, QueueError> {
        self.lookup(&self.names.claim(number), None, false)
    }
    /// The same, with who it is.
    pub(super) fn claimant(&self, number: u64) -> Result<Option<Stat>, QueueError> {
        self.lookup(&self.names.claim(number), None, true)
    }

    fn lookup(
        &self,
        key: &[u8],
        value: Option<&mut Vec<u8>>,
        with_who: bool,
    ) -> Result<Option<Stat>, QueueError> {
        #[cfg(test)]
        looks::add();
        Ok(self.inner.lookup(key, value, with_who)?)
    }

    fn number(&self, key: &[u8]) -> Result<Option<Held>, QueueError> {
        let mut value = Vec::new();
        let Some(stat) = self.lookup(key, Some(&mut value), false)? else { return Ok(None) };
        let wrong = |value| QueueError::NotAQueue { key: Key::from(key), kind: stat.kind, value };
        let word = value.as_slice().try_into().ok().filter(|_| stat.kind == Kind::Counter);
        let value = i64::from_le_bytes(word.ok_or_else(|| wrong(None))?);
        let number = u64::try_from(value).map_err(|_| wrong(Some(value)))?;
        Ok(Some((number, stat.revision)))
    }

    /// Where to begin to look for items, when so many numbers were given out: at the head. Without
    /// it, somebody having deleted that entry, the bus is searched for the lowest item.
    pub(super) fn first(&self, tail: u64) -> Result<u64, QueueError> {
        if let Some((head, _)) = self.head()? {
            return Ok(head);
        }
        let (there, end) = self.list(0..tail, 1)?;
        Ok(there.first().copied().unwrap_or(end))
    }

    /// The lowest numbers of a range whose items are there, `most` of them, rising; and below which number
    /// these are all. What was there throughout is among them.
    pub(super) fn list(
        &self,
        numbers: Range<u64>,
        most: usize,
    ) -> Result<(Vec<u64>, u64), QueueError> {
        let (mut found, mut end) = (BTreeSet::new(), numbers.end);
        let (core, prefix) = (&self.inner.core, self.names.items());
        self.inner.count(Counter::Scans);
        for stripe in 0..core.geometry.stripes {
            for key in core.stripe_keys(stripe, &prefix).map_err(ReadError::from)? {
                let Some(About::Item(number)) = self.names.about(&key) else { continue };
                if number < numbers.start || number >= end {
                    continue;
                }
                found.insert(number);
                if found.len() > most {
                    end = found.pop_last().unwrap_or(end);
                }
            }
        }
        Ok((found.into_iter().collect(), end))
    }
}

/// Lookups of this thread: what the library does for itself no metric counts.
#[cfg(test)]
pub(super) mod looks {
    use std::cell::Cell;

    std::thread_local!(static LOOKS: Cell<u64> = const { Cell::new(0) });

    pub(in super::super) fn add() {
        LOOKS.with(|looks| looks.set(looks.get() + 1));
    }
    pub(in super::super) fn so_far() -> u64 {
        LOOKS.with(Cell::get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plants: 19 digits; a name with a `/`, whose keys are another queue's.
    #[test]
    fn keys_sort_by_number_and_are_understood() {
        let names = Names::new("jobs").unwrap();
        let numbers = [0, 1, 9, 10, 12_345, u64::MAX];
        let keys = numbers.map(|number| names.item(number));
        assert_eq!(keys[1], b"queue/jobs/item/00000000000000000001");
        assert!(keys.is_sorted() && keys.iter().all(|key| key.len() == keys[0].len()));
        for number in numbers {
            assert_eq!(names.about(&names.item(number)), Some(About::Item(number)));
            assert_eq!(names.about(&names.claim(number)), Some(About::Claim(number)));
            assert_eq!(names.about(&names.tries(number)), None);
        }
        for other in [names.tail(), names.head(), names.items(), b"queue/job/item/1".to_vec()] {
            assert_eq!(names.about(&other), None);
        }
        assert_eq!((names.queue(), names.prefix()), ("jobs", "queue/jobs/"));
        for wrong in ["", "a/b", ".", "-a", "a b", &"x".repeat(65)] {
            assert!(matches!(Names::new(wrong), Err(QueueError::Name { .. })), "{wrong}");
        }
        assert!(Names::new(&"x".repeat(64)).is_ok());
    }

    /// Plant: any key that ends like a tail.
    #[test]
    fn tails_are_known() {
        assert!(is_tail(&Names::new("jobs").unwrap().tail()));
        for other in ["queue/jobs/head", "queue//tail", "queue/a/b/tail", "x/jobs/tail", "tail"] {
            assert!(!is_tail(other.as_bytes()), "{other}");
        }
    }
}
