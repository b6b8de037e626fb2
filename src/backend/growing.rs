//! A new file that is written from its beginning to its end.
//!
//! 1. The disk begins with what was written while more comes. So the sync at the end has little left to wait for, and a
//!    snapshot that goes at a rate does so on the disk as well.
//! 2. A file that gets long is written by a thread of its own from there on, while its maker fetches what comes next. Where no
//!    thread is to be had, its maker goes on.

use crate::sys::{file, writeback};
use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes that are written at a time.
const BUFFER: usize = 1 << 20;
/// Bytes after which the disk is told to begin.
const BEGIN_AFTER: u64 = 4 << 20;
/// Bytes of a file that are written by its maker: a thread takes longer to begin than they do.
const SHORT: u64 = 8 << 20;
/// Writes that may wait for the thread.
const WAITING: usize = 2;

/// Writes, and tells the disk.
#[derive(Debug)]
struct Telling<'a> {
    file: &'a File,
    written: u64,
    /// What the disk was told of.
    told: u64,
}

impl Write for Telling<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = file::write(self.file, bytes)?;
        self.written += written as u64;
        if self.written - self.told >= BEGIN_AFTER {
            writeback::begin(self.file, self.told, self.written - self.told);
            self.told = self.written;
        }
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The file. What was written to it is there, or failed, once it was finished.
#[derive(Debug)]
pub(super) struct Growing<'a> {
    /// What was not written yet.
    buffer: Vec<u8>,
    here: Telling<'a>,
    behind: Option<Behind>,
    is_alone: bool,
}

impl<'a> Growing<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        let here = Telling { file, written: 0, told: 0 };
        Self { buffer: Vec::with_capacity(BUFFER), here, behind: None, is_alone: false }
    }

    /// Writes what is left, and waits until all is written.
    pub(super) fn finish(mut self) -> io::Result<()> {
        // Too late for a thread.
        self.is_alone = true;
        self.pass_on()?;
        self.behind.take().map_or(Ok(()), Behind::end)
    }

    /// Writes the buffer, or gives it to who does.
    fn pass_on(&mut self) -> io::Result<()> {
        if self.behind.is_none() && self.here.written >= SHORT && !self.is_alone {
            self.behind = Behind::begin(&self.here);
            self.is_alone = self.behind.is_none();
        }
        let Some(behind) = &mut self.behind else {
            self.here.write_all(&self.buffer)?;
            self.buffer.clear();
            return Ok(());
        };
        if behind.exchange(&mut self.buffer) {
            return Ok(());
        }
        // It ends early for one reason.
        self.is_alone = true;
        let end = self.behind.take().map_or(Ok(()), Behind::end);
        Err(end.err().unwrap_or_else(|| io::Error::other("the thread that writes ended")))
    }
}

impl Write for Growing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.chunks(BUFFER) {
            self.buffer.extend_from_slice(part);
            if self.buffer.len() >= BUFFER {
                self.pass_on()?;
            }
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread that writes, and the buffers that go to it and come back.
#[derive(Debug)]
struct Behind {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    thread: JoinHandle<io::Result<()>>,
}

impl Behind {
    /// Goes on where the file is. `None`: this process can have no thread, or no descriptor.
    fn begin(at: &Telling<'_>) -> Option<Self> {
        let (file, written, told) = (at.file.try_clone().ok()?, at.written, at.told);
        let (full, to_write) = sync_channel::<Vec<u8>>(WAITING);
        // As many as there are, so that none waits to come back.
        let (back, empty) = sync_channel(WAITING + 2);
        let write = move || {
            let mut to = Telling { file: &file, written, told };
            for bytes in to_write {
                to.write_all(&bytes)?;
                let _back = back.try_send(bytes);
            }
            Ok(())
        };
        let thread = std::thread::Builder::new().name("membus-write".into()).spawn(write).ok()?;
        Some(Self { full, empty, thread })
    }

    /// Takes a buffer to write, and leaves an empty one; whether it does.
    fn exchange(&mut self, buffer: &mut Vec<u8>) -> bool {
        let mut next = self.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(BUFFER));
        next.clear();
        self.full.send(std::mem::replace(buffer, next)).is_ok()
    }

    /// Waits for its end.
    fn end(self) -> io::Result<()> {
        drop(self.full);
        match self.thread.join() {
            Ok(end) => end,
            Err(_) => Err(io::Error::other("the thread that writes panicked")),
        }
    }
}

impl Drop for Growing<'_> {
    fn drop(&mut self) {
        // Given up: nothing is written once its maker has gone on.
        let _end = self.behind.take().map(Behind::end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A piece of a file that tells where it stands.
    fn piece(number: u64) -> Vec<u8> {
        number.to_le_bytes().repeat(16_384)
    }
    /// Far more than `SHORT`.
    const PIECES: u64 = 200;

    fn write(to: &File) -> io::Result<Growing<'_>> {
        let mut growing = Growing::new(to);
        (0..PIECES).try_for_each(|number| growing.write_all(&piece(number)))?;
        Ok(growing)
    }

    /// Promise: a long file has all its bytes, in order, once it is finished.
    /// Plants: a buffer that is not emptied before it is filled again; the last one is not written.
    #[test]
    fn a_long_file_is_whole_when_it_is_finished() {
        let to = tempfile::NamedTempFile::new().unwrap();
        let growing = write(to.as_file()).unwrap();
        assert!(growing.behind.is_some(), "it was to be written by a thread");
        growing.finish().unwrap();
        let found = std::fs::read(to.path()).unwrap();
        assert_eq!(found.len() as u64, PIECES * piece(0).len() as u64);
        let pieces = found.chunks(piece(0).len());
        assert!((0..).zip(pieces).all(|(number, found)| found == piece(number)));
    }

    /// Promise: a write that fails while nobody looks is told by a later write, or by the end.
    /// Plant: the thread's end is not asked for.
    #[test]
    fn a_write_that_fails_behind_is_told() {
        let to = tempfile::NamedTempFile::new().unwrap();
        let read_only = File::open(to.path()).unwrap();
        let mut growing = Growing::new(&read_only);
        growing.here.written = SHORT;
        let written = (0..PIECES).try_for_each(|number| growing.write_all(&piece(number)));
        let end = written.and_then(|()| growing.finish());
        assert_eq!(end.unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    /// Promise: a file that is given up is not written to any more once its maker is rid of it.
    /// Plants: no wait when it is dropped; no wait for the thread at its end.
    #[test]
    fn nothing_is_written_behind_who_gave_up() {
        let to = tempfile::NamedTempFile::new().unwrap();
        for _ in 0..10 {
            drop(write(to.as_file()).unwrap());
            let size = to.as_file().metadata().unwrap().len();
            std::thread::yield_now();
            assert_eq!(to.as_file().metadata().unwrap().len(), size);
        }
    }
}
