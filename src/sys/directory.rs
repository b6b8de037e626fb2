//! A directory by its descriptor, and what stands in it: the same one whatever becomes of paths, by `chdir`, `chroot` or
//! another name (`man 2 openat`).

use super::file::{Kind, Stat, again};
use super::seam::{Call, gate};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// An open directory.
#[derive(Debug)]
pub(crate) struct Directory {
    file: OwnedFd,
    path: PathBuf,
    view: View,
}

/// What paths mean to a process: its root directory and its mount namespace, by device and inode.
#[derive(Debug, PartialEq, Eq)]
struct View([Option<(u64, u64)>; 2]);

impl View {
    fn now() -> Self {
        let number = |path| nix::sys::stat::stat(path).ok().map(|stat| (stat.st_dev, stat.st_ino));
        Self(["/", "/proc/self/ns/mnt"].map(number))
    }
}

impl Directory {
    /// `path` is absolute.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        gate(Call::Open)?;
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        let file = again(|| open(path, flags, Mode::empty()))?;
        Ok(Self { file, path: path.to_owned(), view: View::now() })
    }

    /// Whether it is still called as it was. What another root directory, or another mount namespace, makes of the path says
    /// nothing.
    pub(crate) fn has_its_name(&self) -> bool {
        match (super::file::stat(&self.file), super::file::stat_path(&self.path)) {
            (Ok(here), Ok(there)) if here.is_same(&there) => true,
            (Ok(_), Ok(_)) => !self.is_seen_as_before(),
            (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => !self.is_seen_as_before(),
            _ => true,
        }
    }

    /// Whether paths mean to this process what they meant when it was opened.
    pub(crate) fn is_seen_as_before(&self) -> bool {
        self.view == View::now()
    }

    /// A path by which a call that takes no directory's descriptor finds a name in it, however long the directory's own is.
    pub(crate) fn below(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.file.as_raw_fd()))
    }

    /// Opens a file as [`open_file`](super::file::open_file) does.
    pub(crate) fn open_file(&self, name: &str, flags: OFlag) -> io::Result<File> {
        gate(Call::Open)?;
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        again(|| openat(&self.file, name, flags, Mode::empty())).map(File::from)
    }

    /// What a name is, without following a link.
    pub(crate) fn stat(&self, name: &str) -> io::Result<Stat> {
        gate(Call::Stat)?;
        Ok(fstatat(&self.file, name, AtFlags::AT_SYMLINK_NOFOLLOW)?.into())
    }

    /// Sets the permissions of a socket of this user that was just bound, whatever the umask says. Others who may write to
    /// the directory may have put something else in its place: that stays as it is, and so does what has another name.
    pub(crate) fn set_mode_of_socket(&self, name: &str, mode: u32) -> io::Result<()> {
        let file = self.open_file(name, OFlag::O_PATH)?;
        let stat = super::file::stat(&file)?;
        if stat.kind != Kind::Socket || stat.uid != super::process::uid() || stat.links != 1 {
            return Ok(());
        }
        gate(Call::Mode)?;
        // A descriptor by which nothing is read is followed to the file itself (`man 2 open`, O_PATH).
        let at = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let mode = Mode::from_bits_truncate(mode & 0o777);
        again(|| fchmodat(AT_FDCWD, &at, mode, FchmodatFlags::FollowSymlink))
    }

    /// Removes a file; one that is not there is gone as well.
    pub(crate) fn unlink(&self, name: &str) -> io::Result<()> {
        gate(Call::Unlink)?;
        match unlinkat(&self.file, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}
