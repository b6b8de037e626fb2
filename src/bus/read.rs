//! Reading, for both handles.

use super::counters::Counter;
use super::marks::Marks;
use super::reader::BusReader;
use super::scan::{EntryScan, Scan};
use super::{Bus, Inner};
use crate::error::ReadError;
use crate::region::BadRegion;
use crate::table::pin::Pinned;
use crate::table::read::{ReadFailure, Seen};
use crate::types::Key;
use crate::types::limits::KEY_MAX;
use crate::value::{Entry, Stat, decode};
use serde::de::DeserializeOwned;

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
