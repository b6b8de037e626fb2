//! Images in a directory: `snapshot-REVISION-INCARNATION.membus`.
//!
//! A save writes a temporary file beside them, syncs it, renames it, syncs the directory, and only
//! then deletes older ones. A failed sync is never tried again on the same file: what it had
//! promised may be lost already (Rebello et al., "Can Applications Recover from fsync Failures?",
//! ATC 2020). A load reads the whole file once before it hands out anything.

use super::{Backend, BackendError, Loaded, Saved, Sink, Source};
use crate::snapshot::format::{FormatError, Reader, SnapshotHead, Writer};
use crate::sys::file;
use crate::sys::{lock, process};
use nix::fcntl::OFlag;
use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};

const PREFIX: &str = "snapshot-";
const SUFFIX: &str = ".membus";
const TEMPORARY: &str = ".saving-";

/// A directory of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageDirectory {
    pub(crate) directory: PathBuf,
    /// How many images stay.
    pub(crate) keep: usize,
}

/// A file that is being written; removed unless it was finished.
struct Temporary {
    path: PathBuf,
    finished: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.finished {
            // One that stays is removed by the next save.
            let _removed = file::unlink(&self.path);
        }
    }
}

impl ImageDirectory {
    /// Images, the newest first, by incarnation's time of making and revision in the name.
    fn images(&self) -> io::Result<Vec<PathBuf>> {
        let names = match file::names(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names?,
        };
        let mut images: Vec<_> = names
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .filter(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
            .collect();
        images.sort_unstable_by(|one, two| two.cmp(one));
        Ok(images.into_iter().map(|name| self.directory.join(name)).collect())
    }

    fn failed<E>(&self, error: io::Error) -> BackendError<E> {
        BackendError::Io(self.directory.clone(), error)
    }

    /// Removes temporary files whose writers are gone: nobody holds their lock.
    fn sweep(&self) -> io::Result<()> {
        for name in file::names(&self.directory)? {
            if !name.to_string_lossy().starts_with(TEMPORARY) {
                continue;
            }
            let path = self.directory.join(name);
            let stale = file::open_file(&path, OFlag::O_RDWR, 0)?;
            if lock::try_lock_byte(&stale, 0)? {
                file::unlink(&path)?;
            }
        }
        Ok(())
    }

    fn write<E>(
        &self,
        to: &File,
        head: &SnapshotHead,
        source: Source<'_, E>,
    ) -> Result<Saved, BackendError<E>> {
        let fail = |error| self.failed(error);
        let buffer = BufWriter::with_capacity(1 << 20, Gated(to));
        let mut writer = Writer::new(buffer, head).map_err(fail)?;
        while let Some(entry) = source().map_err(BackendError::Stream)? {
            writer.push(&entry).map_err(fail)?;
        }
        let (_, summary) = writer.finish().map_err(fail)?;
        file::sync(to).map_err(fail)?;
        let name = format!("{PREFIX}{:020}-{:016x}{SUFFIX}", head.revision, head.incarnation);
        let path = self.directory.join(name);
        Ok(Saved { entries: summary.entries, bytes: summary.bytes, path })
    }

    /// Reads a whole image: its head, when all of it is good.
    fn verify(path: &Path) -> Result<SnapshotHead, FormatError> {
        let mut reader = Self::reader(path)?;
        while reader.next_entry()?.is_some() {}
        Ok(*reader.head())
    }

    fn reader(path: &Path) -> Result<Reader<BufReader<File>>, FormatError> {
        let open = file::open_file(path, OFlag::O_RDONLY, 0);
        let file = open.map_err(|source| FormatError::Io { at: 0, source })?;
        Reader::new(BufReader::with_capacity(1 << 20, file))
    }
}

/// Writes pass the seam.
struct Gated<'a>(&'a File);

impl io::Write for Gated<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        file::write(self.0, bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<E> Backend<E> for ImageDirectory {
    fn save(&self, head: &SnapshotHead, source: Source<'_, E>) -> Result<Saved, BackendError<E>> {
        let fail = |error| self.failed(error);
        file::make_directories(&self.directory).map_err(fail)?;
        self.sweep().map_err(fail)?;
        let name = format!("{TEMPORARY}{}-{:x}", process::pid(), process::random().map_err(fail)?);
        let mut temporary = Temporary { path: self.directory.join(name), finished: false };
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        let to = file::open_file(&temporary.path, flags, 0o600).map_err(fail)?;
        lock::try_lock_byte(&to, 0).map_err(fail)?;
        let saved = self.write(&to, head, source)?;
        file::rename(&temporary.path, &saved.path).map_err(fail)?;
        temporary.finished = true;
        file::sync_directory(&self.directory).map_err(fail)?;
        for old in self.images().map_err(fail)?.into_iter().skip(self.keep.max(1)) {
            file::unlink(&old).map_err(fail)?;
        }
        Ok(saved)
    }

    fn load(
        &self,
        begin: &mut dyn FnMut(&SnapshotHead) -> Result<(), E>,
        sink: Sink<'_, E>,
    ) -> Result<Option<Loaded>, BackendError<E>> {
        let mut refused = Vec::new();
        for path in self.images().map_err(|error| self.failed(error))? {
            let damaged =
                |error: FormatError| BackendError::Damaged(path.clone(), error.to_string());
            let head = match Self::verify(&path) {
                Ok(head) => head,
                Err(error) => {
                    refused.push((path.clone(), error.to_string()));
                    continue;
                }
            };
            begin(&head).map_err(BackendError::Stream)?;
            let mut reader = Self::reader(&path).map_err(damaged)?;
            while let Some(entry) = reader.next_entry().map_err(damaged)? {
                sink(entry).map_err(BackendError::Stream)?;
            }
            return Ok(Some(Loaded { head, entries: reader.summary().entries, refused }));
        }
        match refused.into_iter().next() {
            None => Ok(None),
            Some((path, reason)) => Err(BackendError::Damaged(path, reason)),
        }
    }

    fn newest(&self) -> Result<Option<PathBuf>, BackendError<E>> {
        Ok(self.images().map_err(|error| self.failed(error))?.into_iter().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::format::SnapshotEntry;
    use crate::sys::seam::failing;
    use std::convert::Infallible;

    fn head(revision: u64) -> SnapshotHead {
        SnapshotHead { bus_id: 1, incarnation: 2, revision, created: 3 }
    }

    fn save(to: &ImageDirectory, revision: u64) -> Result<Saved, BackendError<Infallible>> {
        let mut left = 3;
        to.save(&head(revision), &mut || {
            left -= 1;
            let key = format!("k{left}").into_bytes();
            Ok((left > 0).then(|| SnapshotEntry { key, revision, ..SnapshotEntry::default() }))
        })
    }

    fn load(from: &ImageDirectory) -> Result<Option<(Loaded, Vec<u64>)>, BackendError<Infallible>> {
        let mut revisions = Vec::new();
        let loaded = from.load(&mut |_| Ok(()), &mut |entry| {
            revisions.push(entry.revision);
            Ok(())
        })?;
        Ok(loaded.map(|loaded| (loaded, revisions)))
    }

    fn place(keep: usize) -> (tempfile::TempDir, ImageDirectory) {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("deep/snapshots");
        (place, ImageDirectory { directory, keep })
    }

    #[test]
    fn the_newest_good_image_is_loaded_and_a_damaged_one_is_told() {
        let (_place, images) = place(3);
        assert!(load(&images).unwrap().is_none());
        for revision in [5, 40, 300] {
            save(&images, revision).unwrap();
        }
        let saved = save(&images, 7000).unwrap();
        assert_eq!(images.images().unwrap().len(), 3);
        assert_eq!(load(&images).unwrap().unwrap().1, [7000, 7000]);
        let mut bytes = std::fs::read(&saved.path).unwrap();
        bytes[70] ^= 1;
        std::fs::write(&saved.path, &bytes).unwrap();
        let (loaded, revisions) = load(&images).unwrap().unwrap();
        assert_eq!((revisions, loaded.refused.len()), (vec![300, 300], 1));
        for image in images.images().unwrap() {
            std::fs::write(image, b"MEMBUSIM").unwrap();
        }
        assert!(matches!(load(&images), Err(BackendError::Damaged(..))));
    }

    /// Plant: deleting the older images before the rename leaves none when the rename fails.
    #[test]
    fn whatever_call_fails_one_whole_image_stays() {
        for errno in [libc::ENOSPC, libc::EIO, libc::EMFILE] {
            for n in 0.. {
                let (_place, images) = place(1);
                save(&images, 1).unwrap();
                let (end, failed) = failing(n, errno, || save(&images, 2));
                let (_, revisions) = load(&images).unwrap().unwrap();
                assert!(revisions == [1, 1] || revisions == [2, 2], "call {n}");
                assert!(end.is_err() || revisions == [2, 2], "call {n}");
                if !failed {
                    assert!(n > 5, "the calls of a save pass the seam");
                    break;
                }
            }
        }
    }

    #[test]
    fn an_abandoned_save_changes_nothing() {
        let (_place, images) = place(1);
        let end = images.save(&head(9), &mut || Err("given up"));
        assert!(matches!(end, Err(BackendError::Stream("given up"))));
        assert_eq!(file::names(&images.directory).unwrap().len(), 0);
    }
}
