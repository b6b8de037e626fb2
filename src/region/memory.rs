//! The bytes behind a region: a mapped file, or words on the heap for tests.
//!
//! 1. An access of `len` bytes at an offset takes place only when it is aligned, and ends inside of
//!    what this process was told by the kernel to be there; the size word of the region is never
//!    believed.
//! 2. All accesses by anyone are atomic, and those to the same bytes of one size.
//! 3. A reference into the bytes does not outlive what keeps them mapped.
#![cfg_attr(not(loom), expect(unsafe_code, reason = "turns checked offsets into atomic words"))]

pub(crate) use imp::Memory;

#[cfg(not(loom))]
mod imp {
    use super::super::{AtomicU32, AtomicU64, Extent, Ordering};

    /// The bytes behind a region.
    #[derive(Debug)]
    pub(crate) struct Memory {
        base: *mut u8,
        /// Bytes that are mapped and backed by the file, as far as this process has asked.
        known: AtomicU64,
        mapped: u64,
        writable: bool,
        extent: Option<Box<dyn Extent>>,
        keep: Keep,
    }

    /// What keeps the bytes alive.
    #[derive(Debug)]
    enum Keep {
        Map(crate::sys::map::Mapping),
        #[cfg(test)]
        Heap(#[expect(dead_code, reason = "held for its Drop")] std::sync::Arc<[AtomicU64]>),
    }

    // SAFETY: the bytes are only touched as atomics, and `Keep` lives as long as `base`.
    unsafe impl Send for Memory {}
    // SAFETY: as above.
    unsafe impl Sync for Memory {}

    impl Memory {
        pub(crate) fn map(
            map: crate::sys::map::Mapping,
            writable: bool,
            extent: Box<dyn Extent>,
        ) -> Self {
            let (base, mapped) = (map.as_ptr(), map.len() as u64);
            let known = AtomicU64::new(extent.size().min(mapped));
            Self { base, known, mapped, writable, extent: Some(extent), keep: Keep::Map(map) }
        }

        #[cfg(test)]
        pub(crate) fn heap(words: std::sync::Arc<[AtomicU64]>) -> Self {
            let size = words.len() as u64 * 8;
            let base = words.as_ptr().cast_mut().cast::<u8>();
            Self {
                base,
                known: AtomicU64::new(size),
                mapped: size,
                writable: true,
                extent: None,
                keep: Keep::Heap(words),
            }
        }

        /// The bytes as they stand, in words of their own. Nobody stores meanwhile.
        #[cfg(test)]
        pub(crate) fn copy(&self) -> std::sync::Arc<[AtomicU64]> {
            let mut words = std::sync::Arc::new_uninit_slice(self.mapped as usize / 8);
            let room: &mut [std::mem::MaybeUninit<AtomicU64>] =
                std::sync::Arc::get_mut(&mut words).unwrap();
            // SAFETY: `base` has that many bytes, to which nobody stores now; so has `room`, which is new, and may begin anywhere
            // that a word of eight bytes may.
            unsafe {
                room.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(self.base, 8 * room.len());
            }
            // SAFETY: each of its words was stored to, and any eight bytes are a word.
            unsafe { words.assume_init() }
        }

        /// Writes the first `len` bytes to the disk, where they have one.
        pub(crate) fn sync(&self, len: u64) -> std::io::Result<()> {
            match &self.keep {
                Keep::Map(map) => map.sync(len),
                #[cfg(test)]
                Keep::Heap(_) => Ok(()),
            }
        }

        pub(crate) fn writable(&self) -> bool {
            self.writable
        }

        pub(crate) fn confirmed(&self, size: u64) -> u64 {
            if size > self.known.load(Ordering::Relaxed) {
                self.grown(size);
            }
            size.min(self.known.load(Ordering::Relaxed))
        }

        /// Invariant: `at + 8 <= mapped` and the file reaches there, or `None`.
        #[inline]
        fn inside(&self, at: u64, align: u64, len: u64) -> bool {
            if !at.is_multiple_of(align) {
                return false;
            }
            match at.checked_add(len) {
                Some(end) if end <= self.known.load(Ordering::Relaxed) => true,
                Some(end) => self.grown(end),
                None => false,
            }
        }

        #[cold]
        fn grown(&self, end: u64) -> bool {
            let Some(extent) = &self.extent else { return false };
            if end > self.mapped {
                return false;
            }
            let size = extent.size().min(self.mapped);
            self.known.fetch_max(size, Ordering::Relaxed);
            end <= size
        }

        #[inline]
        pub(crate) fn word(&self, at: u64) -> Option<&AtomicU64> {
            if !self.inside(at, 8, 8) {
                return None;
            }
            // SAFETY: `inside` says that `at` lies in the mapping, which starts at `base`.
            let place = unsafe { self.base.add(at as usize) };
            // SAFETY: in bounds and aligned (invariant 1), alive as long as `self`, and all
            // accesses by anyone are atomic (invariant 2).
            Some(unsafe { AtomicU64::from_ptr(place.cast()) })
        }

        #[inline]
        pub(crate) fn half(&self, at: u64) -> Option<&AtomicU32> {
            if !self.inside(at, 8, 8) {
                return None;
            }
            // SAFETY: `inside` says that `at` lies in the mapping, which starts at `base`.
            let place = unsafe { self.base.add(at as usize) };
            // SAFETY: as in `word`; locks are only ever touched as 32-bit words.
            Some(unsafe { AtomicU32::from_ptr(place.cast()) })
        }

        /// The words of `len` bytes from `at`.
        #[inline]
        pub(crate) fn words(&self, at: u64, len: u64) -> Option<&[AtomicU64]> {
            let count = len.div_ceil(8);
            if !self.inside(at, 8, count.checked_mul(8)?) {
                return None;
            }
            // SAFETY: `inside` says that `at` lies in the mapping, which starts at `base`.
            let place = unsafe { self.base.add(at as usize) };
            // SAFETY: in bounds for all words and aligned (invariant 1), alive as long as `self`;
            // atomics may be shared.
            Some(unsafe { std::slice::from_raw_parts(place.cast::<AtomicU64>(), count as usize) })
        }

        /// Plain bytes, for a guard over a pinned entry.
        ///
        /// # Safety
        /// Nobody writes these bytes as long as the slice lives.
        pub(crate) unsafe fn bytes(&self, at: u64, len: u64) -> Option<&[u8]> {
            if !self.inside(at, 8, len) {
                return None;
            }
            // SAFETY: `inside` says that `at` lies in the mapping, which starts at `base`.
            let place = unsafe { self.base.add(at as usize) };
            // SAFETY: in bounds; the caller vouches that nobody writes them.
            Some(unsafe { std::slice::from_raw_parts(place, len as usize) })
        }

        /// Asks the kernel's prefetcher for the line at `at`; a hint, never an access.
        #[inline]
        pub(crate) fn prefetch(&self, at: u64) {
            #[cfg(target_arch = "x86_64")]
            if at < self.known.load(Ordering::Relaxed) {
                // SAFETY: in bounds of the mapping.
                let place = unsafe { self.base.add(at as usize) };
                // SAFETY: a prefetch has no effect on memory and needs no valid address.
                unsafe {
                    std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(
                        place.cast(),
                    );
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = at;
        }
    }
}

#[cfg(loom)]
mod imp {
    use super::super::{AtomicU32, AtomicU64};
    use std::sync::Arc;

    /// A few words at chosen offsets, each a loom atomic; clones are the same words, as when several
    /// processes map them.
    #[derive(Debug, Clone)]
    pub(crate) struct Memory {
        words: Arc<[(u64, AtomicU64)]>,
        halves: Arc<[(u64, AtomicU32)]>,
    }

    impl Memory {
        /// Words with their values, and lock words with theirs, both by rising offset.
        pub(crate) fn of(words: &[(u64, u64)], halves: &[(u64, u32)]) -> Self {
            Self {
                words: words.iter().map(|(at, value)| (*at, AtomicU64::new(*value))).collect(),
                halves: halves.iter().map(|(at, value)| (*at, AtomicU32::new(*value))).collect(),
            }
        }
        pub(crate) fn writable(&self) -> bool {
            true
        }
        pub(crate) fn confirmed(&self, size: u64) -> u64 {
            size
        }
        pub(crate) fn word(&self, at: u64) -> Option<&AtomicU64> {
            let index = self.words.binary_search_by_key(&at, |(at, _)| *at).ok()?;
            Some(&self.words[index].1)
        }
        pub(crate) fn half(&self, at: u64) -> Option<&AtomicU32> {
            let index = self.halves.binary_search_by_key(&at, |(at, _)| *at).ok()?;
            Some(&self.halves[index].1)
        }
        pub(crate) fn prefetch(&self, _: u64) {}
    }
}
