//! Reading, for both handles.

use super::cell::Cell;
use super::counters::Begun;
use super::history::History;
use super::marks::Marks;
use super::queue::look::QueueView;
use super::reader::BusReader;
use super::scan::{EntryScan, Scan};
use super::wait::{Waited, wait_for};
use super::{Bus, Inner};
use crate::error::{QueueError, ReadError, WatchError};
use crate::region::BadRegion;
use crate::table::pin::Pinned;
use crate::table::read::{ReadFailure, Seen};
use crate::types::limits::KEY_MAX;
use crate::types::{Cursor, Key};
use crate::value::{Entry, Stat, decode};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

mod sealed {
    /// Only membus's own handles read.
    pub trait Sealed {
        #[expect(private_interfaces, reason = "sealed: nobody outside can name it")]
        fn inner(&self) -> &std::sync::Arc<super::Inner>;
    }
}
use sealed::Sealed;

impl Sealed for Bus {
    #[expect(private_interfaces, reason = "sealed: nobody outside can name it")]
    fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

impl Sealed for BusReader {
    #[expect(private_interfaces, reason = "sealed: nobody outside can name it")]
    fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

impl From<ReadFailure> for ReadError {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Contended { attempts } => Self::Contended { attempts },
            ReadFailure::Bad(bad) => Self::Bad(bad),
        }
    }
}

impl Inner {
    #[inline]
    pub(crate) fn check_read(&self, key: &[u8]) -> Result<(), ReadError> {
        if key.is_empty() || key.len() > KEY_MAX {
            return Err(ReadError::Key { size: key.len(), limit: KEY_MAX });
        }
        if self.is_gone() {
            return Err(ReadError::Gone { path: self.path.clone() });
        }
        Ok(())
    }

    /// Looks a key up, and calls `take` with what is there: whether there is an entry. What `take` was
    /// shown last is good. A read that is overtaken again and again pins the entry; a handle that
    /// can't goes on until its deadline.
    #[inline]
    pub(crate) fn find(
        &self,
        key: &[u8],
        mut take: impl FnMut(&Seen<'_>) -> Result<(), BadRegion>,
    ) -> Result<bool, ReadError> {
        match self.core.read(key, &mut take) {
            Ok(found) => Ok(found),
            Err(ReadFailure::Contended { attempts }) => self.find_patiently(key, attempts, take),
            Err(failure) => Err(failure.into()),
        }
    }

    #[cold]
    fn find_patiently(
        &self,
        key: &[u8],
        mut attempts: u32,
        mut take: impl FnMut(&Seen<'_>) -> Result<(), BadRegion>,
    ) -> Result<bool, ReadError> {
        let patience = self.core.patience();
        while !patience.left().is_zero() {
            let end = match self.take_pin() {
                Some(pin) => {
                    let end = self.find_pinned(key, pin, &mut take);
                    self.unpin(pin.0, pin.1);
                    end.map(|pinned| pinned != Pinned::Absent)
                }
                None => self.core.read(key, &mut take),
            };
            match end {
                Err(ReadFailure::Contended { attempts: more }) => attempts += more,
                end => return Ok(end?),
            }
        }
        Err(ReadError::Contended { attempts })
    }

    /// A lookup that somebody asked for, and that counts as one; `value` gets the bytes when it is asked for.
    #[inline]
    pub(crate) fn get(
        &self,
        key: &[u8],
        value: Option<&mut Vec<u8>>,
        with_who: bool,
    ) -> Result<Option<Stat>, ReadError> {
        self.look_up(key, value, with_who, self.begin_get())
    }

    /// The same for what the library itself wants to know.
    #[inline]
    pub(crate) fn lookup(
        &self,
        key: &[u8],
        value: Option<&mut Vec<u8>>,
        with_who: bool,
    ) -> Result<Option<Stat>, ReadError> {
        self.look_up(key, value, with_who, Begun::uncounted())
    }

    #[inline]
    fn look_up(
        &self,
        key: &[u8],
        mut value: Option<&mut Vec<u8>>,
        with_who: bool,
        begun: Begun<'_>,
    ) -> Result<Option<Stat>, ReadError> {
        let (mut who, mut marks) = (Vec::new(), Marks::default());
        let found = self.check_read(key).and_then(|()| {
            self.find(key, |seen| {
                if let Some(value) = value.as_deref_mut() {
                    value.clear();
                    seen.entry.copy_value(&seen.header, value)?;
                }
                if with_who {
                    who.clear();
                    seen.entry.copy_who(&seen.header, &mut who)?;
                }
                marks = Marks::of(seen)?;
                Ok(())
            })
        });
        let found = match found {
            Ok(found) => found,
            Err(error) => return Err(self.failed_get(&begun, error)),
        };
        self.end_get(&begun, found);
        Ok(if found { marks.stat(&self.core.clock, &who) } else { None })
    }

    /// The whole entry of a key.
    pub(crate) fn entry(&self, key: &[u8]) -> Result<Option<Entry>, ReadError> {
        let mut value = Vec::new();
        let stat = self.lookup(key, Some(&mut value), true)?;
        Ok(stat.map(|stat| Entry { key: Key::from(key), value, stat }))
    }
}

/// Reading a bus. No method takes a lock or waits for a writer; each is a lookup by hash, and a
/// copy of the value. [`wait_for`](Self::wait_for) alone waits: for what it is asked to.
pub trait ReadBus: Sealed {
    /// The value of `key` as a type.
    ///
    /// # Errors
    /// [`ReadError::NotThisKind`] for bytes, [`ReadError::Decode`] when it is another type.
    fn get<T: DeserializeOwned>(&self, key: impl AsRef<[u8]>) -> Result<Option<T>, ReadError>
    where
        Self: Sized,
    {
        let mut value = Vec::new();
        let stat = self.inner().get(key.as_ref(), Some(&mut value), false)?;
        let decoded = stat.map(|stat| decode(key.as_ref(), stat.kind, &value)).transpose();
        decoded.inspect_err(|error| self.inner().failed_read(error))
    }

    /// The value's bytes, of any kind.
    ///
    /// # Errors
    /// When the region is damaged or gone.
    fn get_bytes(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, ReadError>
    where
        Self: Sized,
    {
        let mut value = Vec::new();
        let stat = self.inner().get(key.as_ref(), Some(&mut value), false)?;
        Ok(stat.map(|_| value))
    }

    /// The value's bytes into a buffer that is used again, and all that is known beside it but who.
    ///
    /// # Errors
    /// As [`get_bytes`](Self::get_bytes).
    fn get_into(
        &self,
        key: impl AsRef<[u8]>,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Stat>, ReadError>
    where
        Self: Sized,
    {
        buffer.clear();
        self.inner().get(key.as_ref(), Some(buffer), false)
    }

    /// Key, value and all that is known beside them, of one revision.
    ///
    /// # Errors
    /// As [`get_bytes`](Self::get_bytes).
    fn get_entry(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>, ReadError>
    where
        Self: Sized,
    {
        let (key, mut value) = (key.as_ref(), Vec::new());
        let stat = self.inner().get(key, Some(&mut value), true)?;
        Ok(stat.map(|stat| Entry { key: Key::from(key), value, stat }))
    }

    /// What is known of an entry beside its value.
    ///
    /// # Errors
    /// As [`get_bytes`](Self::get_bytes).
    fn stat(&self, key: impl AsRef<[u8]>) -> Result<Option<Stat>, ReadError>
    where
        Self: Sized,
    {
        self.inner().get(key.as_ref(), None, true)
    }

    /// Whether there is an entry.
    ///
    /// # Errors
    /// As [`get_bytes`](Self::get_bytes).
    fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool, ReadError>
    where
        Self: Sized,
    {
        Ok(self.inner().get(key.as_ref(), None, false)?.is_some())
    }

    /// A cached read of `key`: for what is read again and again and seldom changes. `T` is the value's
    /// type, or `[u8]` for its bytes. Nothing is read yet.
    ///
    /// # Errors
    /// [`ReadError::Key`] when the key's length is not possible; when the bus is gone.
    fn cell<T: ?Sized>(&self, key: impl AsRef<[u8]>) -> Result<Cell<T>, ReadError>
    where
        Self: Sized,
    {
        Cell::of(self.inner(), key.as_ref())
    }

    /// All keys that begin with `prefix`, in no order. What was present throughout is among them.
    ///
    /// # Errors
    /// As [`get_bytes`](Self::get_bytes).
    fn keys(&self, prefix: impl AsRef<[u8]>) -> Result<Vec<Key>, ReadError>
    where
        Self: Sized,
    {
        self.scan_entries(prefix).map(|entry| entry.map(|entry| entry.key)).collect()
    }

    /// Walks over the entries whose keys begin with `prefix`: unordered and weakly consistent; one
    /// that is present throughout comes exactly once. Holds no lock and no pin.
    fn scan_entries(&self, prefix: impl AsRef<[u8]>) -> EntryScan<'_>
    where
        Self: Sized,
    {
        EntryScan::over(self.inner(), prefix.as_ref())
    }

    /// Like [`scan_entries`](Self::scan_entries), with the values as a type.
    fn scan<T: DeserializeOwned>(&self, prefix: impl AsRef<[u8]>) -> Scan<'_, T>
    where
        Self: Sized,
    {
        Scan { entries: self.scan_entries(prefix), kind: std::marker::PhantomData }
    }

    /// Waits until `holds` says yes to the entry of `key` (`None`: there is none), for `timeout` at
    /// most. It is asked at once, and again after each change of the key and at its expiry, under no
    /// lock: it may call the bus. What did not last until it was looked at may be missed; a
    /// watch sees every change. Sleeps in
    /// between; a reader, of whom writers do not know, looks every few milliseconds.
    ///
    /// ```no_run
    /// use membus::{Bus, ReadBus, Waited};
    /// use std::time::Duration;
    ///
    /// let bus = Bus::open("orders")?;
    /// // Until somebody says that the feed is up.
    /// let up = bus.wait_for("feed", Duration::from_secs(5), |entry| {
    ///     entry.is_some_and(|entry| entry.decode::<String>().is_ok_and(|state| state == "up"))
    /// })?;
    /// assert!(matches!(up, Waited::Holds(_)));
    /// # Ok::<(), membus::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`WatchError`]; [`ReadError::Gone`](crate::ReadError::Gone) after the bus was destroyed.
    fn wait_for(
        &self,
        key: impl AsRef<[u8]>,
        timeout: Duration,
        holds: impl FnMut(Option<&Entry>) -> bool,
    ) -> Result<Waited, WatchError>
    where
        Self: Sized,
    {
        wait_for(self.inner(), key.as_ref(), timeout, holds)
    }

    /// A look at a work queue: what is in it, and who has what. For an operator; items are taken by
    /// [`Bus::queue`].
    ///
    /// # Errors
    /// [`QueueError::Name`] for a name that breaks the rules.
    fn queue_view(&self, name: &str) -> Result<QueueView<'_>, QueueError>
    where
        Self: Sized,
    {
        QueueView::over(self.inner(), name)
    }

    /// The changes of keys that begin with `prefix` after a cursor, as far as the log still holds them, up
    /// to the newest one now; a clear is one of all keys. When the oldest are gone, [`Event::Lagged`](crate::Event::Lagged)
    /// comes first and says how many changes of the bus that were. Waits for nothing, and takes no watch slot.
    ///
    /// ```
    /// use membus::{Bus, Cursor, Event, ReadBus};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let options = Bus::options().directory(directory.path()).state(directory.path().join("state"));
    /// # let bus = options.open("orders")?;
    /// bus.put("limit/EURUSD").who("ann").set(&1_000_000)?;
    /// bus.put("limit/EURUSD").who("bob").set(&2_000_000)?;
    /// // Who has changed it? Cursor 0 lies before every change.
    /// let mut authors = Vec::new();
    /// for event in bus.history("limit/", Cursor { incarnation: 0, revision: 0 })? {
    ///     match event? {
    ///         Event::Change(change) => authors.extend(change.who),
    ///         Event::Lagged { missed, .. } => println!("{missed} changes are no longer known"),
    ///         _ => {}
    ///     }
    /// }
    /// assert_eq!(authors, ["ann", "bob"]);
    /// # Ok::<(), membus::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`WatchError::OtherLife`] for a cursor of another incarnation, [`WatchError::Future`] for one beyond
    /// the newest change; [`ReadError::Gone`] after the bus was destroyed.
    fn history(&self, prefix: impl AsRef<[u8]>, cursor: Cursor) -> Result<History, WatchError>
    where
        Self: Sized,
    {
        History::new(self.inner(), prefix.as_ref(), cursor)
    }

    /// Entries that are there; expired ones count until they are taken away. Takes a few loads per
    /// stripe.
    ///
    /// # Errors
    /// When the region is damaged.
    fn len(&self) -> Result<u64, ReadError> {
        Ok(self.inner().core.count_entries()?)
    }

    /// Whether there is no entry.
    ///
    /// # Errors
    /// When the region is damaged.
    fn is_empty(&self) -> Result<bool, ReadError> {
        Ok(self.len()? == 0)
    }
}

impl ReadBus for Bus {}
impl ReadBus for BusReader {}
