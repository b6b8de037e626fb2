//! Early write-back (`man 2 sync_file_range`).
#![expect(unsafe_code, reason = "sync_file_range has no wrapper in nix")]

use std::fs::File;
use std::os::fd::AsRawFd;

/// Lets the disk begin to write what was written to a file from byte `from` on. A hint: nothing is durable by it, and an error
/// is told by the sync that follows. It waits only where the disk's queue is full.
pub(crate) fn begin(file: &File, from: u64, len: u64) {
    let (from, len) = (from.cast_signed(), len.cast_signed());
    // SAFETY: the descriptor is open as long as `file` is borrowed; no memory is touched.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), from, len, libc::SYNC_FILE_RANGE_WRITE);
    }
}
