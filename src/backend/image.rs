//! Images in a directory: `snapshot-REVISION-INCARNATION.membus`.
//!
//! A save writes a temporary file beside them, syncs it, renames it, syncs the directory, and only
//! then deletes older ones. A failed sync is never tried again on the same file: what it had
//! promised may be lost already (Rebello et al., "Can Applications Recover from fsync Failures?",
//! ATC 2020). A load reads the whole file once before it hands out anything.

use super::{Backend, BackendError, Loaded, Saved, Sink, Source};
use crate::snapshot::format::{FormatError, Reader, Writer};
use crate::snapshot_entry::SnapshotHead;
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

    fn failed(&self, error: io::Error) -> BackendError {
        BackendError::io(&self.directory)(error)
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

    fn write(
        &self,
        to: &File,
        head: &SnapshotHead,
        entries: &mut dyn Source,
    ) -> Result<(Saved, PathBuf), BackendError> {
        let fail = |error| self.failed(error);
        let buffer = BufWriter::with_capacity(1 << 20, Gated(to));
        let mut writer = Writer::new(buffer, head).map_err(fail)?;
        while let Some(entry) = entries.next_entry()? {
            writer.push(&entry).map_err(fail)?;
        }
        let (_, summary) = writer.finish().map_err(fail)?;
        file::sync(to).map_err(fail)?;
        let name = format!("{PREFIX}{:020}-{:016x}{SUFFIX}", head.revision, head.incarnation);
        let path = self.directory.join(name);
        let (entries, bytes) = (summary.entries, summary.bytes);
        Ok((Saved { entries, bytes, path: Some(path.clone()) }, path))
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

impl Backend for ImageDirectory {
    fn save(&self, head: &SnapshotHead, entries: &mut dyn Source) -> Result<Saved, BackendError> {
        let fail = |error| self.failed(error);
        file::make_directories(&self.directory).map_err(fail)?;
        self.sweep().map_err(fail)?;
        let name = format!("{TEMPORARY}{}-{:x}", process::pid(), process::random().map_err(fail)?);
        let mut temporary = Temporary { path: self.directory.join(name), finished: false };
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        let to = file::open_file(&temporary.path, flags, 0o600).map_err(fail)?;
        lock::try_lock_byte(&to, 0).map_err(fail)?;
        let (saved, path) = self.write(&to, head, entries)?;
        file::rename(&temporary.path, &path).map_err(fail)?;
        temporary.finished = true;
        file::sync_directory(&self.directory).map_err(fail)?;
        for old in self.images().map_err(fail)?.into_iter().skip(self.keep.max(1)) {
            file::unlink(&old).map_err(fail)?;
        }
        Ok(saved)
    }

    fn load(&self, sink: &mut dyn Sink) -> Result<Option<Loaded>, BackendError> {
        let mut refused = Vec::new();
        for path in self.images().map_err(|error| self.failed(error))? {
            let at = path.display().to_string();
            let damaged = |error: FormatError| {
                let (at, reason) = (path.display().to_string(), error.to_string());
                BackendError::Damaged { at, reason }
            };
            let head = match Self::verify(&path) {
                Ok(head) => head,
                Err(error) => {
                    refused.push((at, error.to_string()));
                    continue;
                }
            };
            sink.begin(&head)?;
            let mut reader = Self::reader(&path).map_err(damaged)?;
            while let Some(entry) = reader.next_entry().map_err(damaged)? {
                sink.entry(entry)?;
            }
            return Ok(Some(Loaded { head, entries: reader.summary().entries, refused }));
        }
        match refused.into_iter().next() {
            None => Ok(None),
            Some((at, reason)) => Err(BackendError::Damaged { at, reason }),
        }
    }

    fn exists(&self) -> Result<bool, BackendError> {
        Ok(!self.images().map_err(|error| self.failed(error))?.is_empty())
    }

    /// The newest goes last: whoever loads meanwhile finds it, and never an older one.
    fn delete(&self) -> Result<(), BackendError> {
        let fail = |error| self.failed(error);
        for image in self.images().map_err(fail)?.iter().rev() {
            file::unlink(image).map_err(fail)?;
        }
        if self.directory.exists() {
            file::sync_directory(&self.directory).map_err(fail)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::FromFn;
    use super::*;
    use crate::snapshot_entry::SnapshotEntry;
    use crate::sys::seam::failing;

    fn head(revision: u64) -> SnapshotHead {
        SnapshotHead { bus_id: 1, incarnation: 2, revision, created: 3 }
    }

    fn save(to: &ImageDirectory, revision: u64) -> Result<Saved, BackendError> {
        let mut left = 3;
        let entries = FromFn(|| {
            left -= 1;
            let key = format!("k{left}").into_bytes();
            Ok((left > 0).then(|| SnapshotEntry { key, revision, ..SnapshotEntry::default() }))
        });
        to.save(&head(revision), &mut { entries })
    }

    #[derive(Default)]
    struct Revisions(Vec<u64>);

    impl Sink for Revisions {
        fn begin(&mut self, _: &SnapshotHead) -> Result<(), BackendError> {
            Ok(())
        }
        fn entry(&mut self, entry: SnapshotEntry) -> Result<(), BackendError> {
            self.0.push(entry.revision);
            Ok(())
        }
    }

    fn load(from: &ImageDirectory) -> Result<Option<(Loaded, Vec<u64>)>, BackendError> {
        let mut revisions = Revisions::default();
        let loaded = from.load(&mut revisions)?;
        Ok(loaded.map(|loaded| (loaded, revisions.0)))
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
        let mut bytes = std::fs::read(saved.path.as_ref().unwrap()).unwrap();
        bytes[70] ^= 1;
        std::fs::write(saved.path.as_ref().unwrap(), &bytes).unwrap();
        let (loaded, revisions) = load(&images).unwrap().unwrap();
        assert_eq!((revisions, loaded.refused.len()), (vec![300, 300], 1));
        for image in images.images().unwrap() {
            std::fs::write(image, b"MEMBUSIM").unwrap();
        }
        assert!(matches!(load(&images), Err(BackendError::Damaged { .. })));
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
        let end = images.save(&head(9), &mut FromFn(|| Err(BackendError::GivenUp)));
        assert!(matches!(end, Err(BackendError::GivenUp)));
        assert_eq!(file::names(&images.directory).unwrap().len(), 0);
    }
}
