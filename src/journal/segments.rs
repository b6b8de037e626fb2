//! The directory of a journal: `SEQUENCE.journal`, one file after the other.
//!
//! 1. A segment's name and header are on the disk before anything goes on after it.
//! 2. A segment is removed when a later one goes on from a snapshot that is kept, or from before it: so the older ones
//!    are needed by no snapshot.
//!
//! 3. Who writes, and who begins a life on what is there, holds a lock on the file `lock`: no group of an old life, whose
//!    files were removed under it, comes after what the new one has read.
//!
//! A death leaves a file without a header at most, which is passed over.

use super::Point;
use super::format::{HEADER, Header};
use crate::sys::file;
use crate::sys::fork::{NoFork, Private};
use crate::sys::lock::try_lock_byte;
use nix::fcntl::OFlag;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".journal";
/// Segments that stay open while a journal is read: the oldest, which may be removed meanwhile. There may be more of them
/// than a process may open, where snapshots fail for long.
const OPEN_MAX: usize = if cfg!(test) { 2 } else { 64 };

/// The file of the segment with this number.
fn name_of(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{sequence:016x}{SUFFIX}"))
}

/// Numbers of the segments that are there, in order.
pub(crate) fn sequences(directory: &Path) -> io::Result<Vec<u64>> {
    let names = match file::names(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let number = |name: &std::ffi::OsString| {
        let digits = name.to_str()?.strip_suffix(SUFFIX)?;
        u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16)
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// A segment that is there to be read.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// None: opened when it is read.
    file: Option<File>,
    pub(crate) size: u64,
    /// Or what is wrong with it.
    pub(crate) header: Result<Header, String>,
}

impl Found {
    /// Does something with its file.
    pub(crate) fn with_file<T>(&self, work: impl FnOnce(&File) -> T) -> io::Result<T> {
        match &self.file {
            Some(file) => Ok(work(file)),
            None => file::open_file(&self.path, OFlag::O_RDONLY, 0).map(|file| work(&file)),
        }
    }
}

/// Reads a file from a place on, whoever else reads it.
#[derive(Debug)]
pub(crate) struct FileFrom<'a> {
    pub(crate) file: &'a File,
    pub(crate) at: u64,
}

impl Read for FileFrom<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(to, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Opens a segment and reads its header; `None` when it was removed meanwhile.
fn find(directory: &Path, sequence: u64) -> io::Result<Option<Found>> {
    let path = name_of(directory, sequence);
    let mut file = match file::open_file(&path, OFlag::O_RDONLY, 0) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let size = file::stat(&file)?.size;
    let mut bytes = [0; HEADER];
    let header = match file.read_exact(&mut bytes) {
        Ok(()) => Header::decode(&bytes),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Err("it ends in its header".to_owned())
        }
        Err(error) => return Err(error),
    };
    Ok(Some(Found { path, file: Some(file), size, header }))
}

/// All segments that are there, in order. Those that are removed meanwhile are no longer needed.
pub(crate) fn all(directory: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for sequence in sequences(directory)? {
        let next = find(directory, sequence)?;
        let is_kept = found.len() < OPEN_MAX;
        found.extend(next.map(|next| Found { file: next.file.filter(|_| is_kept), ..next }));
    }
    Ok(found)
}

/// The right to write a journal, or to begin a life on what it has: one process has it. It goes with the process, and no
/// forked child has it.
#[derive(Debug)]
pub(crate) struct Claim {
    _lock: Private,
}

impl Claim {
    /// Claims a directory, which is made; `None` when another one has it.
    pub(crate) fn take(directory: &Path) -> io::Result<Option<Self>> {
        file::make_directories(directory)?;
        let held = NoFork::begin();
        let flags = OFlag::O_RDWR | OFlag::O_CREAT;
        let lock = Private::new(file::open_file(&directory.join("lock"), flags, 0o600)?, &held)?;
        drop(held);
        Ok(try_lock_byte(&lock, 0)?.then_some(Self { _lock: lock }))
    }
}

/// The segment that is being written.
#[derive(Debug)]
pub(crate) struct Segment {
    file: File,
    pub(crate) header: Header,
    /// Bytes of the file.
    pub(crate) size: u64,
    /// Whether all of it is on the disk.
    is_synced: bool,
}

impl Segment {
    /// Makes the next segment: on the disk, with its name, when this returns.
    pub(crate) fn create(directory: &Path, header: Header) -> io::Result<Self> {
        file::make_directories(directory)?;
        let sequence = sequences(directory)?.last().map_or(1, |last| last.saturating_add(1));
        let header = Header { sequence, ..header };
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        let path = name_of(directory, sequence);
        let file = file::open_file(&path, flags, 0o600)?;
        let written = file::write_all(&file, &header.encode())
            .and_then(|()| file::sync(&file))
            .and_then(|()| file::sync_directory(directory));
        if let Err(error) = written {
            // It is tried again and again, each time in a file of its own.
            let _removed = file::unlink(&path);
            return Err(error);
        }
        Ok(Self { file, header, size: HEADER as u64, is_synced: true })
    }

    /// Appends a group. After a failure the segment is not to be written to again.
    pub(crate) fn append(&mut self, group: &[u8]) -> io::Result<()> {
        self.is_synced = false;
        file::write_all(&self.file, group)?;
        self.size += group.len() as u64;
        Ok(())
    }

    /// Has all of it on the disk. After a failure the segment is not to be written to again.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if !self.is_synced {
            file::sync_data(&self.file)?;
            self.is_synced = true;
        }
        Ok(())
    }

    /// Whether all of it is on the disk.
    pub(crate) fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// Whether nothing was appended yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.size == HEADER as u64
    }
}

/// Has all segments on the disk.
pub(crate) fn sync_all(directory: &Path) -> io::Result<()> {
    all(directory)?.iter().try_for_each(|found| found.with_file(file::sync_data)?)
}

/// Removes the segments that nobody needs who has a snapshot of `oldest` or a later one.
pub(crate) fn remove_before(directory: &Path, oldest: Point) -> io::Result<()> {
    let found = all(directory)?;
    let goes_on = |found: &Found| match &found.header {
        Ok(header) => {
            header.at.incarnation == oldest.incarnation && header.at.revision <= oldest.revision
        }
        Err(_) => false,
    };
    let first_needed = found.iter().rposition(goes_on).unwrap_or(0);
    for found in found.get(..first_needed).unwrap_or_default() {
        file::unlink(&found.path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::seam::failing;

    /// Promise: a segment that can't be made leaves no file, as often as it is tried.
    /// Plant: nothing that is removed.
    #[test]
    fn a_segment_that_fails_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        for errno in [libc::ENOSPC, libc::EIO] {
            for n in 0.. {
                let directory = place.path().join(format!("{errno}-{n}"));
                let make = || Segment::create(&directory, Header::default());
                let (made, has_failed) = failing(n, errno, make);
                let left = sequences(&directory).unwrap().len();
                assert_eq!((made.is_ok(), left), (!has_failed, usize::from(!has_failed)), "{n}");
                if !has_failed {
                    assert!(n >= 4, "{n} calls");
                    break;
                }
            }
        }
    }
}
