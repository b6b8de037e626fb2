//! JSON: one valid document, in which each entry is a line.
//!
//! ```text
//! {"membus":"snapshot","version":1,"bus_id":"…","incarnation":"…","revision":4711,"created":"…","entries":[
//! {"key":"price/ACME","value":101.5,"kind":"structure","revision":12,"time":"…","who":"feeder"},
//! {"key":"/w==","key_encoding":"base64","value":"AAE=","encoding":"base64","kind":"bytes",…}
//! ],"count":2,"checksum":"…"}
//! ```
//!
//! The checksum is of what the document says, not of its bytes: another tool may lay it out anew. Who edits it
//! writes `null` in place of the checksum, and it is believed as it is.
//!
//! A save writes a temporary file beside it, syncs it, gives the older ones their next names, renames it and
//! syncs the directory. The file that was there keeps its name until the new one takes it; where the file
//! system has no second names, it is `FILE.1` for a moment, and a load finds it there.

mod read;
mod write;

use super::files::{Given, LISTINGS, Newest, Temporary, is_passing, sweep};
use super::stream::{Input, Output};
use super::{Backend, BackendError, Loaded, Saved, Sink, Source};
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use crate::sys::file::{self, Kind};
use nix::fcntl::OFlag;
pub(crate) use read::entry_of;
use read::{ReadError, read};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use write::Writer;
pub(crate) use write::entry_line;

/// Version of the format.
const VERSION: u32 = 1;
/// End of the name of a compressed document.
const COMPRESSED: &str = ".gz";

/// A document, and older ones as `FILE.1`, `FILE.2`, … (`FILE.1.gz` of `FILE.gz`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JsonFile {
    pub(crate) path: PathBuf,
    /// How many documents stay; one at least.
    pub(crate) keep: usize,
}

impl JsonFile {
    fn is_compressed(&self) -> bool {
        self.path.as_os_str().as_encoded_bytes().ends_with(COMPRESSED.as_bytes())
    }

    fn failed(&self, error: io::Error) -> BackendError {
        BackendError::io(&self.path)(error)
    }

    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Its name, of any bytes.
    fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// The name without `.gz`, and that.
    fn parts(&self) -> (&OsStr, &'static str) {
        let name = self.name();
        match name.as_bytes().strip_suffix(COMPRESSED.as_bytes()) {
            Some(stem) => (OsStr::from_bytes(stem), COMPRESSED),
            None => (name, ""),
        }
    }

    /// The name of an older one; the newest is 0.
    fn numbered(&self, number: u64) -> PathBuf {
        let (stem, suffix) = self.parts();
        match number {
            0 => self.path.clone(),
            number => {
                let mut name = stem.to_owned();
                name.push(format!(".{number}{suffix}"));
                self.directory().join(name)
            }
        }
    }

    /// Numbers of what is there, the newest first.
    fn numbers(&self) -> io::Result<Vec<u64>> {
        let names = match file::names(self.directory()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names?,
        };
        let (newest, (stem, suffix)) = (self.name(), self.parts());
        let number = |name: &OsString| {
            if name == newest {
                return Some(0);
            }
            let rest = name.as_bytes().strip_prefix(stem.as_bytes())?.strip_prefix(b".")?;
            let digits = std::str::from_utf8(rest.strip_suffix(suffix.as_bytes())?).ok()?;
            let number: u64 = digits.parse().ok().filter(|number| *number > 0)?;
            (number.to_string() == digits).then_some(number)
        };
        let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn documents(&self) -> io::Result<Vec<PathBuf>> {
        Ok(self.numbers()?.into_iter().map(|number| self.numbered(number)).collect())
    }

    /// Looks at what is there until no save has given other names meanwhile to what was looked at: it shifts the older
    /// ones before the newest gets its name. `look` says whether it needs no second look.
    fn look<T>(
        &self,
        mut look: impl FnMut() -> Result<(T, bool), BackendError>,
    ) -> Result<T, BackendError> {
        let stamp = || match (self.numbers(), file::stat_path(&self.path)) {
            (Ok(numbers), Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                Ok((numbers, None))
            }
            (Ok(numbers), Ok(newest)) => Ok((numbers, Some(newest))),
            (Err(error), _) | (_, Err(error)) => Err(self.failed(error)),
        };
        let mut before = stamp()?;
        for _ in 0..LISTINGS {
            let (found, is_certain) = look()?;
            let after = stamp()?;
            let is_newest = match (&before.1, &after.1) {
                (Some(before), Some(after)) => before.is_same(after),
                (before, after) => before.is_none() && after.is_none(),
            };
            if is_certain || is_newest && before.0 == after.0 {
                return Ok(found);
            }
            before = after;
        }
        Err(self.failed(io::Error::other("each document was replaced while it was read")))
    }

    fn temporary(&self) -> OsString {
        let mut name = OsString::from(".");
        name.push(self.name());
        name.push(".saving-");
        name
    }

    fn write(
        &self,
        to: &File,
        head: &SnapshotHead,
        entries: &mut dyn Source,
    ) -> Result<Saved, BackendError> {
        let fail = |error| self.failed(error);
        let output = Output::new(to, self.is_compressed()).map_err(fail)?;
        let mut writer = Writer::new(output, head).map_err(fail)?;
        let mut entry = SnapshotEntry::default();
        while entries.next_into(&mut entry)? {
            writer.push(&entry).map_err(fail)?;
        }
        let (output, entries) = writer.finish().map_err(fail)?;
        output.finish().map_err(fail)?;
        let bytes = file::stat(to).map_err(fail)?.size;
        Ok(Saved { entries, bytes, path: Some(self.path.clone()) })
    }

    /// Gives what is there the next number each, up to the first one that is free. The newest has its old
    /// name as well.
    fn make_room(&self) -> io::Result<()> {
        let there = match file::stat_path(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            there => there?,
        };
        if there.kind != Kind::Regular {
            return Err(io::Error::other(format!("{} has this name", there.kind)));
        }
        if self.keep < 2 {
            return Ok(());
        }
        let first = self.numbered(1);
        if file::stat_path(&first).is_ok_and(|older| older.is_same(&there)) {
            // Of a save that failed here.
            return Ok(());
        }
        let numbers = self.numbers()?;
        let free = (1..).find(|number| !numbers.contains(number)).unwrap_or(u64::MAX);
        for number in (1..free).rev() {
            file::rename(&self.numbered(number), &self.numbered(number + 1))?;
        }
        match file::link(&self.path, &first) {
            Err(error) if error.raw_os_error().is_some_and(has_no_links) => {
                file::rename(&self.path, &first)
            }
            end => end,
        }
    }

    /// What a document is of; `None` where its head is not good.
    fn head_of(file: &File, path: &Path) -> Result<Option<SnapshotHead>, BackendError> {
        let mut head = HeadOnly(None);
        let input = Input::new(file).map_err(ReadError::from);
        match input.and_then(|input| read(input, Some(&mut head))) {
            Err(ReadError::Passing(error)) => Err(BackendError::io(path)(error)),
            _ => Ok(head.0),
        }
    }

    fn oldest_of(&self) -> Result<Option<SnapshotHead>, BackendError> {
        for path in self.documents().map_err(|error| self.failed(error))?.iter().rev() {
            let head = match file::open_file(path, OFlag::O_RDONLY, 0) {
                Ok(file) => Self::head_of(&file, path)?,
                Err(error) if is_passing(&error) => return Err(BackendError::io(path)(error)),
                // It can't be loaded either, or has another name by now.
                Err(_) => None,
            };
            if head.is_some() {
                return Ok(head);
            }
        }
        Ok(None)
    }

    fn give(file: &File, path: &Path, sink: &mut dyn Sink) -> Given {
        let verified = Input::new(file).map_err(ReadError::from);
        match verified.and_then(|input| read(input, None)) {
            Err(ReadError::Sink(error)) => return Err(error),
            Err(ReadError::Passing(error)) => return Err(BackendError::io(path)(error)),
            Err(ReadError::Wrong(reason)) => return Ok(Err(reason)),
            Ok((_, count)) => sink.expect(count),
        }
        let input = Input::new(file).map_err(BackendError::io(path))?;
        match read(input, Some(sink)) {
            Ok((head, entries)) => Ok(Ok(Some(Loaded { head, entries, refused: Vec::new() }))),
            Err(ReadError::Sink(error)) => Err(error),
            Err(ReadError::Passing(error)) => Err(BackendError::io(path)(error)),
            Err(ReadError::Wrong(reason)) => {
                Err(BackendError::Damaged { at: path.display().to_string(), reason })
            }
        }
    }
}

/// Takes a document's head, and wants no more.
struct HeadOnly(Option<SnapshotHead>);

impl Sink for HeadOnly {
    fn begin(&mut self, head: &SnapshotHead) -> Result<(), BackendError> {
        self.0 = Some(*head);
        Err(BackendError::GivenUp)
    }
    fn entry(&mut self, _: &SnapshotEntry) -> Result<(), BackendError> {
        Err(BackendError::GivenUp)
    }
}

/// Whether a file system says so that has no second names.
fn has_no_links(errno: i32) -> bool {
    matches!(errno, libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS | libc::EMLINK)
}

impl Backend for JsonFile {
    fn save(&self, head: &SnapshotHead, entries: &mut dyn Source) -> Result<Saved, BackendError> {
        let fail = |error| self.failed(error);
        let (directory, temporary) = (self.directory(), self.temporary());
        file::make_directories(directory).map_err(fail)?;
        sweep(directory, &temporary).map_err(fail)?;
        let temporary = Temporary::new(directory, &temporary).map_err(fail)?;
        let saved = self.write(&temporary.file, head, entries)?;
        file::sync(&temporary.file).map_err(fail)?;
        self.make_room().map_err(fail)?;
        temporary.finish(&self.path).map_err(fail)?;
        file::sync_directory(directory).map_err(fail)?;
        for old in self.documents().map_err(fail)?.into_iter().skip(self.keep.max(1)) {
            file::unlink(&old).map_err(fail)?;
        }
        Ok(saved)
    }

    fn load(&self, sink: &mut dyn Sink) -> Result<Option<Loaded>, BackendError> {
        let list = || self.documents().map_err(|error| self.failed(error));
        Newest { list: &list, give: &Self::give }.load(sink)
    }

    fn load_where(
        &self,
        is_wanted: &dyn Fn(&SnapshotHead) -> bool,
        sink: &mut dyn Sink,
    ) -> Result<Option<Loaded>, BackendError> {
        let list = || self.documents().map_err(|error| self.failed(error));
        // Whether it is wanted is asked of the file that is read: its name may be another one's by now.
        let give = |file: &File, path: &Path, sink: &mut dyn Sink| {
            let is_unwanted = Self::head_of(file, path)?.is_some_and(|head| !is_wanted(&head));
            if is_unwanted { Ok(Ok(None)) } else { Self::give(file, path, sink) }
        };
        self.look(|| {
            let loaded = Newest { list: &list, give: &give }.load(sink)?;
            let is_there = loaded.is_some();
            Ok((loaded, is_there))
        })
    }

    fn oldest(&self) -> Result<Option<SnapshotHead>, BackendError> {
        self.look(|| Ok((self.oldest_of()?, false)))
    }

    fn exists(&self) -> Result<bool, BackendError> {
        Ok(!self.documents().map_err(|error| self.failed(error))?.is_empty())
    }

    /// The newest goes last: whoever loads meanwhile finds it, and never an older one.
    fn delete(&self) -> Result<(), BackendError> {
        let fail = |error| self.failed(error);
        for document in self.documents().map_err(fail)?.iter().rev() {
            file::unlink(document).map_err(fail)?;
        }
        match file::sync_directory(self.directory()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            end => end.map_err(fail),
        }
    }
}

#[cfg(test)]
mod tests;
