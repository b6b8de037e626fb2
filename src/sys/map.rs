//! Mappings of a region's file.
#![expect(unsafe_code, reason = "mmap and madvise")]

use super::seam::{Call, gate};
use crate::sync::{AtomicU64, Ordering};
use memmap2::{MmapOptions, MmapRaw};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// Address space for a whole file, which may still be shorter.
#[derive(Debug)]
pub(crate) struct Mapping {
    map: MmapRaw,
}

impl Mapping {
    /// Maps `len` bytes; pages beyond the file's end must not be touched.
    pub(crate) fn new(file: &impl AsFd, len: u64, writable: bool) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        gate(Call::Map)?;
        let mut options = MmapOptions::new();
        options.len(len.try_into().map_err(io::Error::other)?);
        let file = file.as_fd().as_raw_fd();
        let map =
            if writable { options.map_raw(file)? } else { options.map_raw_read_only(file)? };
        Ok(Self { map })
    }

    /// Writes the first `len` bytes to the disk, and the file's size (`man 2 msync`).
    pub(crate) fn sync(&self, len: u64) -> io::Result<()> {
        self.map.flush_range(0, len.try_into().map_err(io::Error::other)?)
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }
}

/// A word that a forked child reads as 0 (`MADV_WIPEONFORK`, Linux 4.14).
#[derive(Debug)]
pub(crate) struct WipeOnFork {
    page: NonNull<libc::c_void>,
}

// SAFETY: the page is only touched as an atomic word.
unsafe impl Send for WipeOnFork {}
// SAFETY: as above.
unsafe impl Sync for WipeOnFork {}

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

impl WipeOnFork {
    pub(crate) fn new() -> io::Result<Self> {
        use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous};
        gate(Call::Map)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new private mapping, at an address that the kernel picks.
        let page = unsafe { mmap_anonymous(None, PAGE, protection, MapFlags::MAP_PRIVATE)? };
        let this = Self { page };
        // SAFETY: the page is ours, and wiping it in children is the point.
        unsafe { madvise(page, PAGE.get(), MmapAdvise::MADV_WIPEONFORK)? };
        this.set();
        Ok(this)
    }

    /// Says that this process is the one, until it forks.
    pub(crate) fn set(&self) {
        self.word().store(1, Ordering::Relaxed);
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: the page is mapped as long as `self`, aligned, and only touched through here.
        unsafe { AtomicU64::from_ptr(self.page.as_ptr().cast()) }
    }

    /// What a fork does to a child's copy.
    #[cfg(test)]
    pub(crate) fn wipe(&self) {
        self.word().store(0, Ordering::Relaxed);
    }

    /// Whether this process was forked from the one that made it.
    #[inline]
    pub(crate) fn is_child(&self) -> bool {
        self.word().load(Ordering::Relaxed) == 0
    }
}

impl Drop for WipeOnFork {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and nobody has it after us.
        let _unmapped = unsafe { nix::sys::mman::munmap(self.page, PAGE.get()) };
    }
}
