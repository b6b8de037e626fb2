//! Cells: one key that is read again and again, at the price of a few loads while nothing changes.
//!
//! 1. What a cell gives is what a lookup would have given at some moment of the call; whether what it
//!    has still is that is decided by `table::cell` alone.
//! 2. A revision's bytes never change: what was copied or decoded of it is not copied or decoded again.
//!
//! Nobody knows of a cell: it holds no pin, no lock and no room, and a death leaves nothing of it.

use super::Inner;
use super::counters::Hot;
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
        // This read is of what is found now, those before it were of what was known.
        self.reads -= 1;
        self.count();
        self.reads = 1;
        let Self { inner, key, bytes, .. } = self;
        self.known = Known::Nothing;
        let before = std::mem::take(&mut self.born);
        let (mut born, mut kind, mut is_copied) = (0, 0, false);
        let known = inner.core.learn(|note| {
            inner.find(key, |seen| {
                note(seen);
                (born, kind) = (seen.born, seen.header.kind);
                // What an attempt copied may be torn, whatever revision it bore.
                if is_copied || born != before {
                    is_copied = true;
                    bytes.clear();
                    seen.entry.copy_value(&seen.header, bytes)?;
                }
                Ok(())
            })
        })?;
        if is_copied || !known.is_there() {
            self.value = None;
        }
        if known.is_there() {
            (self.born, self.kind) = (born, Kind::from_byte(kind));
        }
        self.known = known;
        Ok(())
    }

    /// Counts its reads as the member's.
    #[cold]
    fn count(&mut self) {
        let reads = u64::from(std::mem::take(&mut self.reads));
        if reads > 0 {
            self.inner.count_hot(Hot::Gets, reads);
            self.inner.count_hot(Hot::Misses, if self.born == 0 { reads } else { 0 });
        }
    }
}

impl<T: ?Sized> Drop for Cell<T> {
    fn drop(&mut self) {
        self.count();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Place;
    use super::*;
    use crate::types::limits::KEY_MAX;
    use crate::{Batch, Bus, BusReader, ReadBus};
    use serde::Deserialize;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::{Duration, Instant};

    fn bus() -> (Bus, Place) {
        let place = Place::new();
        (place.make(), place)
    }

    /// Promise (cells): a cell gives what a lookup gives, after each change of its key, by whichever
    /// handle; and its revision, kind and `changed` go with it.
    /// Plants: `changed` that compares with what the bus had at the cell's making; a value that stays
    /// when the key is absent.
    #[test]
    fn a_cell_gives_what_a_lookup_gives() {
        let (bus, place) = bus();
        let other = place.options().attach_at(place.bus()).unwrap();
        let mut cell = bus.cell::<i64>("k").unwrap();
        assert_eq!(cell.key().as_ref(), b"k");
        assert_eq!((cell.changed().unwrap(), cell.revision()), (false, None));
        assert_eq!(cell.get().unwrap(), None);
        let mut seen = Vec::new();
        for round in 0..40_i64 {
            match round % 5 {
                0 | 1 => drop(other.set("k", &round).unwrap()),
                2 => drop(bus.commit(Batch::new().set("k", &round).unwrap().set("j", &1).unwrap())),
                3 => drop(other.add("k2", 1).unwrap()),
                _ if round % 10 == 4 => drop(other.delete("k").unwrap()),
                _ => drop(other.clear().unwrap()),
            }
            let stat = bus.stat("k").unwrap();
            let revision = stat.as_ref().map(|stat| stat.revision);
            assert_eq!(cell.changed().unwrap(), cell.revision() != revision, "round {round}");
            assert_eq!(cell.get().unwrap().copied(), bus.get("k").unwrap(), "round {round}");
            assert_eq!((cell.revision(), cell.changed().unwrap()), (revision, false));
            assert_eq!(cell.kind(), stat.map(|stat| stat.kind));
            seen.push(cell.get().unwrap().is_some());
        }
        assert!(seen.contains(&true) && seen.contains(&false));
    }

    static DECODED: AtomicUsize = AtomicUsize::new(0);

    /// Counts how often it is decoded.
    #[derive(Debug)]
    struct Counted(u64);

    impl<'de> Deserialize<'de> for Counted {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            DECODED.fetch_add(1, Relaxed);
            u64::deserialize(from).map(Self)
        }
    }

    /// Promise (cells): a value is decoded once a change, whatever else is read or changed.
    /// Plant: the value is dropped at every lookup.
    #[test]
    fn a_value_is_decoded_once() {
        let (bus, _place) = bus();
        bus.set("k", &7).unwrap();
        let mut cell = bus.cell::<Counted>("k").unwrap();
        let first = std::ptr::from_ref(cell.get().unwrap().unwrap());
        for number in 0..3000 {
            bus.set("other", &number).unwrap();
            let value = cell.get().unwrap().unwrap();
            assert!(value.0 == 7 && std::ptr::eq(value, first));
        }
        assert_eq!(bus.inner.core.still_holds(&cell.known), Ok(true));
        // A lookup that finds the same revision.
        cell.known = Known::Nothing;
        assert_eq!(cell.get().unwrap().unwrap().0, 7);
        assert_eq!(DECODED.load(Relaxed), 1);
        bus.set("k", &8).unwrap();
        assert_eq!(cell.get().unwrap().unwrap().0, 8);
        assert_eq!(DECODED.load(Relaxed), 2);
    }

    /// Promise (cells): bytes of any kind; another type is an error until the key changes, and harms
    /// nothing.
    /// Plant: what can't be decoded counts as absent the second time.
    #[test]
    fn kinds_and_wrong_types() {
        let (bus, _place) = bus();
        bus.set_bytes("k", b"bytes").unwrap();
        let (mut bytes, mut text) =
            (bus.cell::<[u8]>("k").unwrap(), bus.cell::<String>("k").unwrap());
        for _ in 0..3 {
            assert_eq!(bytes.get().unwrap(), Some(&b"bytes"[..]));
            assert!(matches!(text.get(), Err(ReadError::NotThisKind { .. })));
            assert_eq!((text.changed().unwrap(), text.kind()), (false, Some(Kind::Bytes)));
        }
        bus.set("k", &12).unwrap();
        for _ in 0..3 {
            assert!(matches!(text.get(), Err(ReadError::Decode { .. })));
            assert_eq!(bytes.get().unwrap(), Some(&[12][..]), "MessagePack");
        }
        bus.set("k", "text").unwrap();
        assert_eq!(text.get().unwrap().map(String::as_str), Some("text"));
        bus.delete("k").unwrap();
        bus.add("k", 5).unwrap();
        assert_eq!(bytes.get().unwrap(), Some(&5_i64.to_le_bytes()[..]));
        assert_eq!(bytes.kind(), Some(Kind::Counter));
        bus.set_bytes("k", b"").unwrap();
        assert_eq!(bytes.get().unwrap(), Some(&[][..]), "empty, not absent");
        for size in [0, KEY_MAX + 1] {
            assert!(matches!(bus.cell::<u8>(vec![1; size]), Err(ReadError::Key { .. })));
        }
        assert!(bus.cell::<u8>(vec![1; KEY_MAX]).unwrap().get().unwrap().is_none());
    }

    /// Promise (cells): past its deadline a key is absent, though nobody took it away.
    /// Plant: `still_holds` does not look at the clock: the wait ends in vain.
    #[test]
    fn a_cell_ends_with_the_time_to_live() {
        let (bus, _place) = bus();
        bus.put("k").ttl(Duration::from_millis(50)).set(&1).unwrap();
        let (mut cell, begun) = (bus.cell::<i32>("k").unwrap(), Instant::now());
        loop {
            let is_there = bus.contains("k").unwrap();
            let seen = cell.get().unwrap().is_some();
            assert!(is_there || !seen, "given after its end");
            if !is_there {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it never ended");
        }
        assert!(begun.elapsed() >= Duration::from_millis(40));
        assert_eq!(cell.get().unwrap(), None);
        assert_eq!(cell.revision(), None);
    }

    /// Promise (cells): a reader's cell; one that outlives its handle; one of a bus that was destroyed.
    /// Plant: no look at whether the bus is gone.
    #[test]
    fn cells_of_handles_that_end() {
        let (bus, place) = bus();
        bus.set("k", &1).unwrap();
        let reader = BusReader::open_at(place.bus()).unwrap();
        let mut cells = [reader.cell::<u64>("k").unwrap(), bus.cell("k").unwrap()];
        drop(reader);
        let other = place.options().attach_at(place.bus()).unwrap();
        drop(bus);
        assert_eq!(other.members().unwrap().len(), 2, "a cell keeps its member attached");
        for number in 1..3 {
            other.set("k", &number).unwrap();
            for cell in &mut cells {
                assert_eq!(cell.get().unwrap(), Some(&number));
            }
        }
        Bus::destroy_at(place.bus(), true).unwrap();
        for cell in &mut cells {
            assert!(matches!(cell.changed(), Err(ReadError::Gone { .. })));
            assert!(matches!(cell.get(), Err(ReadError::Gone { .. })));
            assert!(cell.revision().is_some(), "what it had is left alone");
        }
        assert!(matches!(other.cell::<u64>("k"), Err(ReadError::Gone { .. })));
    }

    /// Promise (metrics): the reads of cells count as the member's.
    /// Plants: no count when it is dropped; none while nothing changes.
    #[test]
    fn reads_of_cells_are_counted() {
        let (bus, _place) = bus();
        bus.set("k", &1).unwrap();
        let gets = || bus.info().unwrap().operations.gets;
        let (before, mut cell) = (gets(), bus.cell::<u64>("k").unwrap());
        for _ in 0..3 * COUNTED + 7 {
            cell.get().unwrap();
        }
        assert!(gets() >= before + 3 * u64::from(COUNTED));
        drop(cell);
        assert_eq!(gets(), before + 3 * u64::from(COUNTED) + 7);
    }

    /// Promise (cells) that what a thread has learned holds for its cells: beside a writer of batches,
    /// what one of them gives is never from before what another one gave; and an absence ends with it.
    /// Plants: no look at `died`; an absence that holds for good.
    #[test]
    fn cells_agree_with_each_other_beside_a_writer() {
        const ROUNDS: u64 = 20_000;
        let (bus, place) = bus();
        let reader = BusReader::open_at(place.bus()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    let mut batch = Batch::new();
                    batch.set("a", &round).unwrap().set("b", &round).unwrap();
                    match round % 3 {
                        0 => batch.delete("c"),
                        _ => batch.set("c", &round).unwrap(),
                    };
                    bus.commit(&batch).unwrap();
                }
            });
            let mut cells = ["a", "c", "b"].map(|key| reader.cell::<u64>(key).unwrap());
            let (mut last, begun) = (0, Instant::now());
            while last < ROUNDS {
                assert!(begun.elapsed() < Duration::from_secs(60), "nothing after {last}");
                for cell in &mut cells {
                    let seen = match cell.get().unwrap() {
                        Some(seen) => *seen,
                        // Of each third round, and of none.
                        None => last.next_multiple_of(3),
                    };
                    assert!(seen >= last, "{:?} gave {seen} after {last}", cell.key());
                    last = seen;
                }
            }
        });
    }
}
