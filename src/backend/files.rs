//! Files that a save writes beside the old ones, and that get their name when they are whole.
//!
//! 1. A temporary file's writer holds a lock on its first byte; the kernel drops it with the writer.
//! 2. Whoever sweeps takes that lock before it removes a file. One that was just made has no lock for a
//!    moment: so its maker looks, with the lock in its hand, whether the name is still this file's.

use super::{BackendError, Loaded, Sink};
use crate::sys::{file, lock, process};
use nix::fcntl::OFlag;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How often a file is made anew that a sweeper took for a dead one's.
const MAKES: u32 = 100;
/// How often a load lists files anew, when what it found was replaced meanwhile.
pub(super) const LISTINGS: u32 = 100;

/// A file that is being written; removed unless it was finished.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    pub(super) file: File,
    finished: bool,
}

impl Temporary {
    /// A new file in the directory, its name beginning with `prefix`.
    pub(super) fn new(directory: &Path, prefix: impl AsRef<OsStr>) -> io::Result<Self> {
        for _ in 0..MAKES {
            let mut name = prefix.as_ref().to_owned();
            name.push(format!("{}-{:x}", process::pid(), process::random()?));
            let path = directory.join(name);
            let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
            let file = file::open_file(&path, flags, 0o600)?;
            let this = Self { path, file, finished: false };
            if lock::try_lock_byte(&this.file, 0)? && this.has_its_name()? {
                return Ok(this);
            }
        }
        Err(io::Error::other("somebody removes each temporary file"))
    }

    fn has_its_name(&self) -> io::Result<bool> {
        match file::stat_path(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            there => Ok(there?.is_same(&file::stat(&self.file)?)),
        }
    }

    /// Syncs what was written, and gives it its name. The directory is to be synced after that.
    pub(super) fn finish(mut self, name: &Path) -> io::Result<()> {
        file::sync(&self.file)?;
        file::rename(&self.path, name)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.finished {
            // One that stays is removed by the next save.
            let _removed = file::unlink(&self.path);
        }
    }
}

/// Removes temporary files whose writers are gone: nobody holds their lock.
pub(super) fn sweep(directory: &Path, prefix: impl AsRef<OsStr>) -> io::Result<()> {
    for name in file::names(directory)? {
        if !name.as_bytes().starts_with(prefix.as_ref().as_bytes()) {
            continue;
        }
        let path = directory.join(name);
        let stale = match file::open_file(&path, OFlag::O_RDWR, 0) {
            // Removed meanwhile, another user's to remove, or nothing that a save has made.
            Err(error) if is_none_of_ours(&error) => continue,
            stale => stale?,
        };
        if lock::try_lock_byte(&stale, 0)? {
            file::unlink(&path)?;
        }
    }
    Ok(())
}

/// Whether an error says nothing about a file, but that this process or host lacks something for now.
pub(super) fn is_passing(error: &io::Error) -> bool {
    use libc::{EAGAIN, EINTR, EMFILE, ENFILE, ENOMEM};
    matches!(error.raw_os_error(), Some(EAGAIN | EINTR | EMFILE | ENFILE | ENOMEM))
}

fn is_none_of_ours(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | IsADirectory | PermissionDenied)
        || matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO))
}

/// Loads the newest good one of some files.
pub(super) struct Newest<'a> {
    /// The files, the newest first.
    pub(super) list: &'a dyn Fn() -> Result<Vec<PathBuf>, BackendError>,
    /// Gives a file to a sink when all of it is good.
    pub(super) give: &'a Give<'a>,
}

/// What was read twice is the same file, whatever becomes of its name.
type Give<'a> = dyn Fn(&File, &Path, &mut dyn Sink) -> Given + 'a;

/// What was given; nothing where it is not wanted; or what is wrong with it.
pub(super) type Given = Result<Result<Option<Loaded>, String>, BackendError>;

impl Newest<'_> {
    /// Loads it; a listing that is out of date is made anew.
    pub(super) fn load(&self, sink: &mut dyn Sink) -> Result<Option<Loaded>, BackendError> {
        let mut gone = PathBuf::new();
        for _ in 0..LISTINGS {
            match self.load_listed(sink)? {
                Ok(loaded) => return Ok(loaded),
                Err(path) => gone = path,
            }
        }
        Err(BackendError::io(&gone)(io::ErrorKind::NotFound.into()))
    }

    /// Of those that are there now; `Err` when one of them is gone already.
    fn load_listed(
        &self,
        sink: &mut dyn Sink,
    ) -> Result<Result<Option<Loaded>, PathBuf>, BackendError> {
        let mut refused = Vec::new();
        for path in (self.list)()? {
            let end = match file::open_file(&path, OFlag::O_RDONLY, 0) {
                Ok(file) => (self.give)(&file, &path, sink)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(path)),
                // It may be as good as any: an older one must not take its place.
                Err(error) if is_passing(&error) => return Err(BackendError::io(&path)(error)),
                Err(error) => Err(error.to_string()),
            };
            match end {
                Ok(Some(loaded)) => return Ok(Ok(Some(Loaded { refused, ..loaded }))),
                Ok(None) => {}
                Err(reason) => refused.push((path.display().to_string(), reason)),
            }
        }
        match refused.into_iter().next() {
            None => Ok(Ok(None)),
            Some((at, reason)) => Err(BackendError::Damaged { at, reason }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: a sweep removes what dead savers left, and nothing of a saver that lives, however new its
    /// file is.
    /// Plant: no look at the name once the lock is had: a file without a name is written.
    #[test]
    fn a_sweep_takes_no_living_savers_file() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path();
        std::fs::write(directory.join(".x-dead"), b"left").unwrap();
        std::fs::create_dir(directory.join(".x-directory")).unwrap();
        std::os::unix::fs::symlink("/nowhere", directory.join(".x-link")).unwrap();
        std::thread::scope(|scope| {
            let maker = scope.spawn(|| {
                for _ in 0..2000 {
                    let new = Temporary::new(directory, ".x-").unwrap();
                    sweep(directory, ".x-").unwrap();
                    assert!(new.has_its_name().unwrap());
                }
            });
            while !maker.is_finished() {
                sweep(directory, ".x-").unwrap();
            }
        });
        assert!(!directory.join(".x-dead").exists());
        assert_eq!(file::names(directory).unwrap().len(), 2, "what is no file stays");
    }
    /// Promise: what another user's saver left is no reason not to save.
    /// Plant: a file that can't be opened taken for an error.
    #[test]
    fn another_users_file_stays() {
        use std::os::unix::fs::{PermissionsExt, chown};
        let place = tempfile::tempdir().unwrap();
        let (theirs, ours) = (place.path().join(".x-1"), place.path().join(".x-2"));
        std::fs::write(&theirs, b"").unwrap();
        std::fs::set_permissions(&theirs, PermissionsExt::from_mode(0o000)).unwrap();
        std::fs::write(&ours, b"").unwrap();
        for path in [place.path(), &ours] {
            let _as_root = chown(path, Some(process::NOBODY), None);
        }
        process::as_nobody(|| sweep(place.path(), ".x-")).unwrap();
        assert!(theirs.exists() && !ours.exists());
    }
}
