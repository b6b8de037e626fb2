//! Images in a directory: `snapshot-SEQUENCE-REVISION-INCARNATION.membus`, compressed ones with `.gz`.
//!
//! What is read is told by its bytes, not by its name, and a directory may hold both.
//!
//! A save writes a temporary file beside them, syncs it, renames it, syncs the directory, and only
//! then deletes older ones. A failed sync is never tried again on the same file: what it had
//! promised may be lost already (Rebello et al., "Can Applications Recover from fsync Failures?",
//! ATC 2020). A load reads the whole file once before it hands out anything.
//!
//! The newest is the one that was saved last, which the sequence tells. The revision does not: a bus
//! that was rebuilt from an older image, since the newest was damaged, may come by a lower one.

use super::files::{Given, Newest, Temporary, is_passing, sweep};
use super::stream::{Input, Output};
use super::{Backend, BackendError, Loaded, Saved, Sink, Source};
use crate::snapshot::format::{FormatError, Reader, Writer};
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use crate::sys::file;
use nix::fcntl::OFlag;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

const PREFIX: &str = "snapshot-";
const SUFFIX: &str = ".membus";
const COMPRESSED: &str = ".membus.gz";
const TEMPORARY: &str = ".saving-";

/// A directory of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageDirectory {
    pub(crate) directory: PathBuf,
    /// Whether those that are saved are compressed.
    pub(crate) is_compressed: bool,
    /// How many images stay; one at least.
    pub(crate) keep: usize,
}

/// Where an image stands among the others, by its name: its sequence and revision. A name that somebody
/// else gave comes before all that were saved.
fn order(name: &str) -> (u64, u64) {
    let name = name.strip_prefix(PREFIX).unwrap_or_default();
    let mut parts = name.split('-').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

impl ImageDirectory {
    /// Names of images, the newest first.
    fn names(&self) -> io::Result<Vec<String>> {
        let names = match file::names(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names?,
        };
        let mut images: Vec<_> = names
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .filter(|name| name.starts_with(PREFIX))
            .filter(|name| name.ends_with(SUFFIX) || name.ends_with(COMPRESSED))
            .collect();
        images.sort_unstable_by(|one, two| (order(two), two).cmp(&(order(one), one)));
        Ok(images)
    }

    fn images(&self) -> io::Result<Vec<PathBuf>> {
        let names = self.names()?;
        Ok(names.into_iter().map(|name| self.directory.join(name)).collect())
    }

    fn failed(&self, error: io::Error) -> BackendError {
        BackendError::io(&self.directory)(error)
    }

    /// The name of the next image.
    fn next(&self, head: &SnapshotHead) -> io::Result<PathBuf> {
        let newest = self.names()?.first().map_or(0, |name| order(name).0);
        let (sequence, revision) = (newest.saturating_add(1), head.revision);
        let name = format!("{PREFIX}{sequence:012}-{revision:020}-{:016x}", head.incarnation);
        let suffix = if self.is_compressed { COMPRESSED } else { SUFFIX };
        Ok(self.directory.join(name + suffix))
    }

    fn write(
        &self,
        to: &File,
        head: &SnapshotHead,
        entries: &mut dyn Source,
    ) -> Result<Saved, BackendError> {
        let fail = |error| self.failed(error);
        let output = Output::new(to, self.is_compressed).map_err(fail)?;
        let mut writer = Writer::new(output, head).map_err(fail)?;
        let mut entry = SnapshotEntry::default();
        while entries.next_into(&mut entry)? {
            writer.push(&entry).map_err(fail)?;
        }
        let (output, summary) = writer.finish().map_err(fail)?;
        output.finish().map_err(fail)?;
        let bytes = file::stat(to).map_err(fail)?.size;
        Ok(Saved { entries: summary.entries, bytes, path: None })
    }

    /// Gives the image to `sink` when all of it is good: what was read twice was the same file, whatever
    /// became of its name.
    fn give(file: &File, path: &Path, sink: &mut dyn Sink) -> Given {
        let verify = || {
            let mut reader = reader(file)?;
            reader.verify()?;
            Ok((*reader.head(), reader.summary().entries))
        };
        let (head, count) = match verify() {
            Ok(found) => found,
            Err(FormatError::Io { source, .. }) if is_passing(&source) => {
                return Err(BackendError::io(path)(source));
            }
            Err(error) => return Ok(Err(FormatError::to_string(&error))),
        };
        let damaged = |error: FormatError| {
            let (at, reason) = (path.display().to_string(), error.to_string());
            BackendError::Damaged { at, reason }
        };
        sink.expect(count);
        sink.begin(&head)?;
        let mut reader = reader(file).map_err(damaged)?;
        let mut entry = SnapshotEntry::default();
        while reader.next_into(&mut entry).map_err(damaged)? {
            sink.entry(&entry)?;
        }
        let entries = reader.summary().entries;
        Ok(Ok(Some(Loaded { head, entries, refused: Vec::new() })))
    }
}

/// What an image is of, where its header is good; an error that says nothing of it is one.
fn head_of(path: &Path) -> Result<Option<SnapshotHead>, BackendError> {
    let file = file::open_file(path, OFlag::O_RDONLY, 0);
    let file = file.map_err(|source| FormatError::Io { at: 0, source });
    match file.and_then(|file| reader(&file).map(|reader| *reader.head())) {
        Err(FormatError::Io { source, .. }) if is_passing(&source) => {
            Err(BackendError::io(path)(source))
        }
        found => Ok(found.ok()),
    }
}

fn reader(file: &File) -> Result<Reader<Input<'_>>, FormatError> {
    Reader::new(Input::new(file).map_err(|source| FormatError::Io { at: 0, source })?)
}

impl Backend for ImageDirectory {
    fn save(&self, head: &SnapshotHead, entries: &mut dyn Source) -> Result<Saved, BackendError> {
        let fail = |error| self.failed(error);
        file::make_directories(&self.directory).map_err(fail)?;
        sweep(&self.directory, TEMPORARY).map_err(fail)?;
        let temporary = Temporary::new(&self.directory, TEMPORARY).map_err(fail)?;
        let saved = self.write(&temporary.file, head, entries)?;
        let path = self.next(head).map_err(fail)?;
        temporary.finish(&path).map_err(fail)?;
        file::sync_directory(&self.directory).map_err(fail)?;
        for old in self.images().map_err(fail)?.into_iter().skip(self.keep.max(1)) {
            file::unlink(&old).map_err(fail)?;
        }
        Ok(Saved { path: Some(path), ..saved })
    }

    fn load(&self, sink: &mut dyn Sink) -> Result<Option<Loaded>, BackendError> {
        let list = || self.images().map_err(|error| self.failed(error));
        Newest { list: &list, give: &Self::give }.load(sink)
    }

    fn load_where(
        &self,
        is_wanted: &dyn Fn(&SnapshotHead) -> bool,
        sink: &mut dyn Sink,
    ) -> Result<Option<Loaded>, BackendError> {
        let list = || {
            let mut wanted = Vec::new();
            for image in self.images().map_err(|error| self.failed(error))? {
                // One without a good header is refused when it is read.
                if head_of(&image)?.is_none_or(|head| is_wanted(&head)) {
                    wanted.push(image);
                }
            }
            Ok(wanted)
        };
        Newest { list: &list, give: &Self::give }.load(sink)
    }

    fn oldest(&self) -> Result<Option<SnapshotHead>, BackendError> {
        let images = self.images().map_err(|error| self.failed(error))?;
        for image in images.iter().rev() {
            if let Some(head) = head_of(image)? {
                return Ok(Some(head));
            }
        }
        Ok(None)
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

    /// The revision of what was loaded.
    struct Head(u64);
    impl Sink for Head {
        fn begin(&mut self, head: &SnapshotHead) -> Result<(), BackendError> {
            self.0 = head.revision;
            Ok(())
        }
        fn entry(&mut self, _: &SnapshotEntry) -> Result<(), BackendError> {
            Ok(())
        }
    }

    /// Images of the revisions 1 and 2.
    fn two() -> (tempfile::TempDir, ImageDirectory) {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().to_owned();
        let images = ImageDirectory { directory, is_compressed: false, keep: 3 };
        for revision in [1, 2] {
            let head = SnapshotHead { revision, ..SnapshotHead::default() };
            images.save(&head, &mut FromFn(|| Ok(None))).unwrap();
        }
        (place, images)
    }

    /// Promise: the newest is the one that was saved last, also where somebody put files of his own beside them.
    /// Plant: the order by name alone, in which `x` comes after all numbers.
    #[test]
    fn images_are_ordered_by_their_sequence() {
        let place = tempfile::tempdir().unwrap();
        let images =
            ImageDirectory { directory: place.path().to_owned(), is_compressed: false, keep: 1 };
        let names = [
            "snapshot-000000000010-00000000000000000001-00000000000000ff.membus",
            "snapshot-000000000009-00000000000000000099-0000000000000001.membus.gz",
            "snapshot-x.membus",
        ];
        for name in names.into_iter().chain(["snapshot-1.txt", ".saving-1", "other.membus"]) {
            std::fs::write(place.path().join(name), b"").unwrap();
        }
        assert_eq!(images.names().unwrap(), names);
        let head = SnapshotHead { revision: 7, incarnation: 1, ..SnapshotHead::default() };
        let next = images.next(&head).unwrap();
        let sequence = order(next.file_name().unwrap().to_str().unwrap());
        assert_eq!(sequence, (11, 7));
    }

    /// Promise: what can't be read for now is no reason to take an older state: a load fails, or gives the newest.
    /// Plant: no look at why the file could not be opened.
    #[test]
    fn what_is_lacking_for_now_brings_no_older_state() {
        let (_place, images) = two();
        let mut refused = 0;
        for n in 0.. {
            let mut newest = Head(0);
            let (end, is_refused) =
                crate::sys::seam::failing(n, libc::EMFILE, || images.load(&mut newest));
            match end {
                Ok(loaded) => assert_eq!((newest.0, loaded.is_some()), (2, true), "call {n}"),
                Err(error) => assert!(matches!(error, BackendError::Io { .. }), "{n}: {error}"),
            }
            refused += u64::from(is_refused);
            if !is_refused {
                break;
            }
        }
        assert!(refused >= 2, "a directory is read, and a file opened");
    }

    /// Promise: nor to take one that is newer than what was asked for, or to say that the oldest is another one.
    /// Plant: an image whose head can't be read for now taken for one to be tried, and passed over as the oldest.
    #[test]
    fn what_is_lacking_for_now_brings_no_newer_state() {
        let (_place, images) = two();
        let mut refused = 0;
        for n in 0.. {
            let mut found = Head(0);
            let load =
                || (images.load_where(&|head| head.revision < 2, &mut found), images.oldest());
            let ((loaded, oldest), is_refused) = crate::sys::seam::failing(n, libc::EMFILE, load);
            match loaded {
                Ok(loaded) => assert_eq!((found.0, loaded.is_some()), (1, true), "call {n}"),
                Err(error) => assert!(is_refused, "call {n}: {error}"),
            }
            match oldest {
                Ok(head) => assert_eq!(head.map(|head| head.revision), Some(1), "call {n}"),
                Err(error) => assert!(is_refused, "call {n}: {error}"),
            }
            refused += u64::from(is_refused);
            if !is_refused {
                break;
            }
        }
        assert!(refused >= 6, "two directories are read, and four times an image");
    }

    /// Promise: a directory holds compressed images beside plain ones, each told by its bytes, whatever its
    /// name; all of them count among those that stay.
    /// Plant: told by the name.
    #[cfg(feature = "gzip")]
    #[test]
    fn plain_and_compressed_ones_in_one_directory() {
        let place = tempfile::tempdir().unwrap();
        let of = |is_compressed| ImageDirectory {
            directory: place.path().to_owned(),
            is_compressed,
            keep: 3,
        };
        for revision in 1..7 {
            let head = SnapshotHead { revision, ..SnapshotHead::default() };
            let images = of(revision % 2 == 0);
            let saved = images.save(&head, &mut FromFn(|| Ok(None))).unwrap();
            let bytes = std::fs::read(saved.path.unwrap()).unwrap();
            assert_eq!(bytes.starts_with(b"MEMBUSIM"), revision % 2 == 1);
            let mut newest = Head(0);
            of(revision % 3 == 0).load(&mut newest).unwrap().unwrap();
            assert_eq!(newest.0, revision);
        }
        let there = of(false).images().unwrap();
        assert_eq!(there.len(), 3);
        // Under each other's names.
        std::fs::rename(&there[0], place.path().join("snapshot-9-1-1.membus")).unwrap();
        std::fs::rename(&there[1], place.path().join("snapshot-8-1-1.membus.gz")).unwrap();
        let mut newest = Head(0);
        let loaded = of(false).load(&mut newest).unwrap().unwrap();
        assert_eq!((newest.0, loaded.refused), (6, Vec::new()));
        std::fs::remove_file(place.path().join("snapshot-9-1-1.membus")).unwrap();
        of(true).load(&mut newest).unwrap().unwrap();
        assert_eq!(newest.0, 5);
    }
}
