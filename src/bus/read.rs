//! Reading, for both handles.

use super::guard::Pinned;
use super::info::Counter;
use super::reader::BusReader;
use super::{Bus, Inner};
use crate::error::ReadError;
use crate::region::BadRegion;
use crate::table::Clock;
use crate::table::read::{ReadFailure, Seen};
use crate::types::limits::KEY_MAX;
use crate::types::{Key, Kind, Revision, time_of};
use crate::value::{Entry, Stat, decode};
use serde::de::DeserializeOwned;
use std::time::Duration;

mod sealed {
    /// Only membus's own handles read.
    pub trait Sealed {
        #[expect(private_interfaces, reason = "sealed: nobody outside can name it")]
        fn inner(&self) -> &super::Inner;
    }
}
use sealed::Sealed;

impl Sealed for Bus {
    #[expect(private_interfaces, reason = "sealed: nobody outside can name it")]
    fn inner(&self) -> &Inner {
        &self.inner
    }
}

impl Sealed for BusReader {
    #[expect(private_interfaces, reason = "sealed: nobody outside can name it")]
    fn inner(&self) -> &Inner {
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

    /// Looks a key up; `value` gets its bytes when it is asked for.
    #[inline]
    pub(crate) fn lookup(
        &self,
        key: &[u8],
        mut value: Option<&mut Vec<u8>>,
        with_who: bool,
    ) -> Result<Option<Stat>, ReadError> {
        self.check_read(key)?;
        self.count(Counter::Gets);
        let (mut who, mut marks) = (Vec::new(), Marks::default());
        let found = self.find(key, |seen| {
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
        })?;
        Ok(if found { marks.stat(&self.core.clock, &who) } else { None })
    }
}

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

/// Reading a bus. No method takes a lock or waits for a writer; each is a lookup by hash, and a
/// copy of the value.
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
        let stat = self.inner().lookup(key.as_ref(), Some(&mut value), false)?;
        stat.map(|stat| decode(key.as_ref(), stat.kind, &value)).transpose()
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
        let stat = self.inner().lookup(key.as_ref(), Some(&mut value), false)?;
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
        self.inner().lookup(key.as_ref(), Some(buffer), false)
    }

    /// Key, value and all that is known beside them, of one revision.
    ///
    /// # Errors
    /// As [`get_bytes`](Self::get_bytes).
    fn get_entry(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>, ReadError>
    where
        Self: Sized,
    {
        let mut value = Vec::new();
        let stat = self.inner().lookup(key.as_ref(), Some(&mut value), true)?;
        Ok(stat.map(|stat| Entry { key: Key::from(key.as_ref()), value, stat }))
    }

    /// What is known of an entry beside its value.
    ///
    /// # Errors
    /// As [`get_bytes`](Self::get_bytes).
    fn stat(&self, key: impl AsRef<[u8]>) -> Result<Option<Stat>, ReadError>
    where
        Self: Sized,
    {
        self.inner().lookup(key.as_ref(), None, true)
    }

    /// Whether there is an entry.
    ///
    /// # Errors
    /// As [`get_bytes`](Self::get_bytes).
    fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool, ReadError>
    where
        Self: Sized,
    {
        Ok(self.inner().lookup(key.as_ref(), None, false)?.is_some())
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

/// A walk over entries.
#[derive(Debug)]
pub struct EntryScan<'a> {
    inner: &'a Inner,
    prefix: Vec<u8>,
    stripe: u64,
    keys: Vec<Vec<u8>>,
}

impl<'a> EntryScan<'a> {
    pub(crate) fn over(inner: &'a Inner, prefix: &[u8]) -> Self {
        Self { inner, prefix: prefix.to_vec(), stripe: 0, keys: Vec::new() }
    }
}

impl Iterator for EntryScan<'_> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some(key) = self.keys.pop() {
                let mut value = Vec::new();
                match self.inner.lookup(&key, Some(&mut value), true) {
                    Ok(Some(stat)) => return Some(Ok(Entry { key: Key::from(key), value, stat })),
                    Ok(None) => {}
                    Err(error) => return Some(Err(error)),
                }
            }
            if self.stripe == self.inner.core.geometry.stripes {
                return None;
            }
            match self.inner.core.stripe_keys(self.stripe, &self.prefix) {
                Ok(keys) => self.keys = keys,
                Err(error) => {
                    self.stripe = self.inner.core.geometry.stripes;
                    return Some(Err(error.into()));
                }
            }
            self.stripe += 1;
        }
    }
}

/// A walk over values of a type.
#[derive(Debug)]
pub struct Scan<'a, T> {
    entries: EntryScan<'a>,
    kind: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Iterator for Scan<'_, T> {
    type Item = Result<(Key, T), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.entries.next()?;
        Some(entry.and_then(|entry| Ok((entry.key.clone(), entry.decode()?))))
    }
}
