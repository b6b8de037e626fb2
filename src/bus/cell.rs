//! Cells: one key that is read again and again, at the price of a few loads while nothing changes.
//!
//! 1. What a cell gives is what a lookup would have given at some moment of the call; whether what it
//!    has still is that is decided by `table::cell` alone.
//! 2. A revision's bytes never change: what was copied or decoded of it is not copied or decoded again.
//!
//! Nobody knows of a cell: it holds no pin, no lock and no room, and a death leaves nothing of it.

use super::Inner;
use super::counters::Counter;
use crate::error::ReadError;
use crate::table::cell::Known;
use crate::types::{Key, Kind, Revision};
use crate::value::decode;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;

/// Reads of a cell that are counted together: the member's counter is not touched by each.
const COUNTED: u32 = 1024;

/// A cached read of one key, from [`ReadBus::cell`](crate::ReadBus::cell).
///
/// It keeps the value that it read last, decoded, and gives it again as long as it is the key's: to
/// see that takes a few loads, no lookup, no copy, no lock and no system call (of a key with a time to
/// live the clock is read, too). After a change the key is looked up like by
/// [`get`](crate::ReadBus::get), and decoded once.
///
/// What it gives is always what a `get` in its place could have given: never a value that was replaced,
/// deleted, cleared or had expired before the call, and never one that is not visible yet. So revisions
/// never go back, and a cell agrees with what the thread has learned from watches, batches and other
/// keys.
///
/// An absent key is cheap as well, but only as long as nothing changes in the whole bus: any change
/// makes the next read a lookup.
///
/// Writers do not know of cells, so any number of them cost the bus nothing, and whoever is killed
/// leaves nothing behind. A cell keeps one copy of the value, and its handle's member attached as long
/// as it lives. It may move between threads.
///
/// ```
/// use membus::{Bus, ReadBus};
///
/// # fn main() -> Result<(), membus::Error> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let options = Bus::options().directory(directory.path()).state(directory.path().join("state"));
/// # let bus = options.open("orders")?;
/// bus.set("limit", &100.0)?;
/// let mut limit = bus.cell::<f64>("limit")?;
/// let mut frame = bus.cell::<[u8]>("camera/frame")?;
/// for price in [99.0, 101.0] {
///     // As cheap as a variable, and always the bus's.
///     let is_too_high = limit.get()?.is_some_and(|limit| price > *limit);
///     assert_eq!(is_too_high, price > 100.0);
///     assert_eq!(frame.get()?, None);
/// }
/// bus.set_bytes("camera/frame", [7; 640])?;
/// assert!(frame.changed()?);
/// assert_eq!(frame.get()?, Some(&[7; 640][..]));
/// # Ok(())
/// # }
/// ```
pub struct Cell<T: ?Sized> {
    inner: Arc<Inner>,
    key: Key,
    known: Known,
    /// Revision of the bytes; 0: there are none.
    born: u64,
    kind: Kind,
    bytes: Vec<u8>,
    /// The bytes decoded, once somebody asked for that.
    value: Option<Box<T>>,
    /// Reads that are not counted yet.
    reads: u32,
}

impl<T: ?Sized> fmt::Debug for Cell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revision = self.revision();
        f.debug_struct("Cell")
            .field("key", &self.key)
            .field("revision", &revision)
            .finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> Cell<T> {
    /// The value of the key now, or `None` when it is absent.
    ///
    /// # Errors
    /// [`ReadError::NotThisKind`] for bytes and [`ReadError::Decode`] for another type, until the key
    /// changes; else as [`get`](crate::ReadBus::get). After an error of the lookup the cell holds
    /// nothing, and the next call looks the key up anew.
    #[inline]
    pub fn get(&mut self) -> Result<Option<&T>, ReadError> {
        self.follow()?;
        if self.value.is_none() {
            self.decode()?;
        }
        Ok(self.value.as_deref())
    }

    #[cold]
    fn decode(&mut self) -> Result<(), ReadError> {
        if self.born != 0 {
            self.value = Some(Box::new(decode(&self.key, self.kind, &self.bytes)?));
        }
        Ok(())
    }
}

impl Cell<[u8]> {
    /// The bytes of the key's value now, of any kind, or `None` when it is absent.
    ///
    /// # Errors
    /// As [`get_bytes`](crate::ReadBus::get_bytes). After one the cell holds nothing, and the next call
    /// looks the key up anew.
    #[inline]
    pub fn get(&mut self) -> Result<Option<&[u8]>, ReadError> {
        self.follow()?;
        Ok((self.born != 0).then_some(&self.bytes))
    }
}

impl<T: ?Sized> Cell<T> {
    pub(crate) fn of(inner: &Arc<Inner>, key: &[u8]) -> Result<Self, ReadError> {
        inner.check_read(key)?;
        Ok(Self {
            inner: Arc::clone(inner),
            key: Key::from(key),
            known: Known::Nothing,
            born: 0,
            kind: Kind::Bytes,
            bytes: Vec::new(),
            value: None,
            reads: 0,
        })
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The revision that `get` gave last; `None` when it gave none. Does not look at the bus.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        Revision::new(self.born)
    }

    /// The kind of the value that `get` gave last. Does not look at the bus.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        (self.born != 0).then_some(self.kind)
    }

    /// Whether `get` would now give another revision than it gave last; a new cell counts as one that
    /// gave none. It takes nothing: what changed is still to be got.
    ///
    /// # Errors
    /// As those of a lookup: when the region is damaged or gone.
    #[inline]
    pub fn changed(&self) -> Result<bool, ReadError> {
        Ok(!self.is_current()? && self.newest()? != self.born)
    }

    /// Whether what it has is what a lookup would find.
    #[inline]
    fn is_current(&self) -> Result<bool, ReadError> {
        if self.inner.is_gone() {
            return Err(self.gone());
        }
        // Of damage the lookup tells.
        Ok(self.inner.core.still_holds(&self.known).unwrap_or(false))
    }

    #[cold]
    fn gone(&self) -> ReadError {
        ReadError::Gone { path: self.inner.path.clone() }
    }

    /// Revision of what a lookup finds; 0: nothing.
    #[cold]
    fn newest(&self) -> Result<u64, ReadError> {
        let mut born = 0;
        let found = self.inner.find(&self.key, |seen| {
            born = seen.born;
            Ok(())
        })?;
        Ok(if found { born } else { 0 })
    }

    /// Sees to it that what it has is what is there.
    #[inline]
    fn follow(&mut self) -> Result<(), ReadError> {
        self.reads += 1;
        if !self.is_current()? {
            return self.look_up();
        }
        if self.reads == COUNTED {
            self.count();
        }
        Ok(())
    }

    #[cold]
    fn look_up(&mut self) -> Result<(), ReadError> {
        self.count();
        let Self { inner, key, bytes, .. } = self;
        let core = &inner.core;
        // Before the lookup: what is absent is so as of this head.
        let head = core.head()?;
        let before = std::mem::take(&mut self.born);
        self.known = Known::Nothing;
        let (mut born, mut kind, mut kept, mut is_copied) = (0, 0, None, false);
        let found = inner.find(key, |seen| {
            (born, kind, kept) = (seen.born, seen.header.kind, core.kept(seen));
            // What an attempt copied may be torn, whatever revision it bore.
            if is_copied || born != before {
                is_copied = true;
                bytes.clear();
                seen.entry.copy_value(&seen.header, bytes)?;
            }
            Ok(())
        })?;
        if is_copied || !found {
            self.value = None;
        }
        if found {
            (self.born, self.kind) = (born, Kind::from_byte(kind));
        }
        self.known = Known::after(found, kept, head);
        Ok(())
    }

    /// Counts its reads as the member's.
    #[cold]
    fn count(&mut self) {
        self.inner.count_many(Counter::Gets, std::mem::take(&mut self.reads).into());
    }
}

impl<T: ?Sized> Drop for Cell<T> {
    fn drop(&mut self) {
        self.count();
    }
}
