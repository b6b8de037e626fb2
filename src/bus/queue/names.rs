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
use crate::error::QueueError;
use crate::types::{Key, Kind, Revision};
use crate::value::{Entry, Stat};
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
    /// A number below which no item is there.
    pub(super) fn head(&self) -> Result<Option<Held>, QueueError> {
        self.number(&self.names.head())
    }
    /// Deliveries of an item so far.
    pub(super) fn tries(&self, number: u64) -> Result<Option<Held>, QueueError> {
        self.number(&self.names.tries(number))
    }
    pub(super) fn item(&self, number: u64) -> Result<Option<Entry>, QueueError> {
        Ok(self.inner.entry(&self.names.item(number))?)
    }
    pub(super) fn item_stat(&self, number: u64) -> Result<Option<Stat>, QueueError> {
        Ok(self.inner.lookup(&self.names.item(number), None, false)?)
    }
    pub(super) fn has_item(&self, number: u64) -> Result<bool, QueueError> {
        Ok(self.item_stat(number)?.is_some())
    }
    /// Whose an item is; nothing when it is free or gone.
    pub(super) fn claim(&self, number: u64) -> Result<Option<Stat>, QueueError> {
        Ok(self.inner.lookup(&self.names.claim(number), None, false)?)
    }
    /// The same, with who it is.
    pub(super) fn claimant(&self, number: u64) -> Result<Option<Stat>, QueueError> {
        Ok(self.inner.lookup(&self.names.claim(number), None, true)?)
    }

    fn number(&self, key: &[u8]) -> Result<Option<Held>, QueueError> {
        let mut value = Vec::new();
        let Some(stat) = self.inner.lookup(key, Some(&mut value), false)? else { return Ok(None) };
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
        let mut lowest = tail;
        for entry in super::super::scan::EntryScan::over(self.inner, &self.names.items()) {
            if let Some(About::Item(number)) = self.names.about(&entry?.key) {
                lowest = lowest.min(number);
            }
        }
        Ok(lowest)
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
