//! Files and directories.

use super::seam::{Call, gate};
#[cfg(test)]
use super::seam::{Deed, note};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, RenameFlags, fallocate, open, renameat2};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, lstat};
use nix::unistd::syncfs;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// What a path or a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// Bytes that the file system has given it.
    pub(crate) allocated: u64,
    pub(crate) uid: u32,
    pub(crate) mode: u32,
    pub(crate) links: u64,
    pub(crate) kind: Kind,
}

impl Stat {
    /// Whether both are the same file.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// Kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    Directory,
    Link,
    Fifo,
    Socket,
    Other,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Regular => "a regular file",
            Self::Directory => "a directory",
            Self::Link => "a symbolic link",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::Other => "a device",
        })
    }
}

impl From<FileStat> for Stat {
    fn from(stat: FileStat) -> Self {
        let kind = match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG => Kind::Regular,
            SFlag::S_IFDIR => Kind::Directory,
            SFlag::S_IFLNK => Kind::Link,
            SFlag::S_IFIFO => Kind::Fifo,
            SFlag::S_IFSOCK => Kind::Socket,
            _ => Kind::Other,
        };
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size.cast_unsigned(),
            allocated: stat.st_blocks.cast_unsigned().saturating_mul(512),
            uid: stat.st_uid,
            mode: stat.st_mode & 0o7777,
            links: stat.st_nlink,
            kind,
        }
    }
}

pub(super) fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            end => return Ok(end?),
        }
    }
}

/// Opens without following a link at the end, closed by `exec`. A FIFO is not waited for.
pub(crate) fn open_file(path: &Path, flags: OFlag, mode: u32) -> io::Result<File> {
    gate(Call::Open)?;
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = again(|| open(path, flags, Mode::from_bits_truncate(mode))).map(File::from)?;
    #[cfg(test)]
    if flags.contains(OFlag::O_RDWR) {
        let truncates = flags.contains(OFlag::O_TRUNC);
        note(|| Deed::Open { path: path.to_owned(), inode: inode(&file), truncates });
    }
    Ok(file)
}

/// What a descriptor is.
pub(crate) fn stat(file: &impl AsFd) -> io::Result<Stat> {
    gate(Call::Stat)?;
    Ok(fstat(file.as_fd())?.into())
}

/// What a path is, without following a link at its end.
pub(crate) fn stat_path(path: &Path) -> io::Result<Stat> {
    gate(Call::Stat)?;
    Ok(lstat(path)?.into())
}

/// Refuses what would end beyond this process's limit of a file's size, at which the kernel ends the
/// process (`man 2 setrlimit`, `SIGXFSZ`).
fn within_limit(end: u64) -> io::Result<()> {
    let (limit, _) = getrlimit(Resource::RLIMIT_FSIZE)?;
    if end > limit { Err(Errno::EFBIG.into()) } else { Ok(()) }
}

/// Bytes that are reserved by one call after a signal came: that undoes all of it, and one that comes again and again is to leave
/// something.
const PIECE: u64 = 64 << 20;

/// Reserves bytes, making the file longer where it must be. After an error some may be reserved, if signals came.
pub(crate) fn reserve(file: &impl AsFd, mut from: u64, mut len: u64) -> io::Result<()> {
    gate(Call::Allocate)?;
    within_limit(from.saturating_add(len))?;
    let reserve = |from: u64, len: u64| {
        let (at, bytes) = (from.cast_signed(), len.cast_signed());
        fallocate(file.as_fd(), FallocateFlags::empty(), at, bytes)
    };
    // At once, so that a failure leaves nothing reserved.
    match reserve(from, len) {
        Err(Errno::EINTR) => {}
        end => return Ok(end?),
    }
    while len > 0 {
        let piece = len.min(PIECE);
        again(|| reserve(from, piece))?;
        (from, len) = (from + piece, len - piece);
    }
    Ok(())
}

/// Sets permissions, whatever the umask says.
pub(crate) fn set_mode(file: &impl AsFd, mode: u32) -> io::Result<()> {
    gate(Call::Mode)?;
    again(|| fchmod(file.as_fd(), Mode::from_bits_truncate(mode)))
}

/// Makes a directory with these permissions; one that is there stays as it is.
pub(crate) fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    gate(Call::MakeDirectory)?;
    match std::fs::DirBuilder::new().mode(mode & 0o777).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        end => end?,
    }
    #[cfg(test)]
    note(|| Deed::MakeDirectory { path: path.to_owned() });
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    set_mode(&again(|| open(path, flags, Mode::empty()))?, mode)
}

/// Makes a directory and those above it, for this user alone. What is there stays as it is; its name is on the
/// disk, and those of all that is new. Of one that is there, too: whoever made it may have died before the sync, or
/// met an error, and none below it was made then. Not where the one above may be entered and not read: whoever made it there
/// had all of the file system written.
pub(crate) fn make_directories(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    gate(Call::MakeDirectory)?;
    let make = || std::fs::DirBuilder::new().mode(0o700).create(path);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut made = make();
    if let (Some(parent), Err(io::ErrorKind::NotFound)) =
        (parent, made.as_ref().map_err(io::Error::kind))
    {
        make_directories(parent)?;
        made = make();
    }
    let is_new = match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        made => {
            made?;
            #[cfg(test)]
            note(|| Deed::MakeDirectory { path: path.to_owned() });
            true
        }
    };
    match sync_directory(parent.unwrap_or(Path::new("."))) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            if is_new {
                // Who finds it takes it for one whose name is on the disk.
                sync_all(path).inspect_err(|_| drop(std::fs::remove_dir(path)))
            } else {
                Ok(())
            }
        }
        end => end,
    }
}

/// A whole text file.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    gate(Call::Open)?;
    std::fs::read_to_string(path)
}

/// Writes some of the bytes.
pub(crate) fn write(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    use std::io::Write;
    gate(Call::Write)?;
    let at = std::io::Seek::stream_position(&mut file)?;
    within_limit(at.saturating_add(bytes.len() as u64))?;
    let written = file.write(bytes)?;
    #[cfg(test)]
    note(|| Deed::Write { inode: inode(file), at, bytes: bytes[..written].to_owned() });
    Ok(written)
}

/// Writes all of the bytes.
pub(crate) fn write_all(file: &File, bytes: &[u8]) -> io::Result<()> {
    let mut left = bytes;
    while !left.is_empty() {
        match write(file, left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => left = &left[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Renames, replacing what is there.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    gate(Call::Rename)?;
    std::fs::rename(from, to)?;
    #[cfg(test)]
    note(|| Deed::Rename { from: from.to_owned(), to: to.to_owned() });
    Ok(())
}

/// Renames, unless something is there.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    gate(Call::Rename)?;
    let here = nix::fcntl::AT_FDCWD;
    again(|| renameat2(here, from, here, to, RenameFlags::RENAME_NOREPLACE))
}

/// Gives a file a second name, unless something is there.
pub(crate) fn link(from: &Path, to: &Path) -> io::Result<()> {
    gate(Call::Rename)?;
    std::fs::hard_link(from, to)?;
    #[cfg(test)]
    note(|| Deed::Link { from: from.to_owned(), to: to.to_owned() });
    Ok(())
}

/// Removes a file; one that is not there is gone as well.
pub(crate) fn unlink(path: &Path) -> io::Result<()> {
    gate(Call::Unlink)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        end => end?,
    }
    #[cfg(test)]
    note(|| Deed::Unlink { path: path.to_owned() });
    Ok(())
}

/// Removes a directory that is empty.
pub(crate) fn remove_directory(path: &Path) -> io::Result<()> {
    gate(Call::Unlink)?;
    std::fs::remove_dir(path)?;
    #[cfg(test)]
    note(|| Deed::Unlink { path: path.to_owned() });
    Ok(())
}

/// Removes a directory with all that is in it; one that is not there is gone as well.
pub(crate) fn remove_all(path: &Path) -> io::Result<()> {
    gate(Call::Unlink)?;
    #[cfg(test)]
    for name in std::fs::read_dir(path).into_iter().flatten() {
        note(|| Deed::Unlink { path: name.map(|name| name.path()).unwrap_or_default() });
    }
    #[cfg(test)]
    note(|| Deed::Unlink { path: path.to_owned() });
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        end => end,
    }
}

/// Names in a directory.
pub(crate) fn names(path: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    gate(Call::ReadDirectory)?;
    std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// Writes a file's bytes to the disk.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    gate(Call::Sync)?;
    file.sync_all()?;
    #[cfg(test)]
    note(|| Deed::Sync { inode: inode(file) });
    Ok(())
}

/// Writes a file's bytes, and its size, to the disk; not its times.
pub(crate) fn sync_data(file: &File) -> io::Result<()> {
    gate(Call::Sync)?;
    file.sync_data()?;
    #[cfg(test)]
    note(|| Deed::Sync { inode: inode(file) });
    Ok(())
}

/// Writes what `sync` does of a file that is mapped to the disk, and the file's size.
pub(crate) fn sync_mapped(file: &File, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    gate(Call::Sync)?;
    sync()?;
    #[cfg(test)]
    note(|| Deed::Sync { inode: inode(file) });
    #[cfg(not(test))]
    let _ = file;
    Ok(())
}

/// Writes a directory's names to the disk.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    gate(Call::Sync)?;
    File::open(path)?.sync_all()?;
    #[cfg(test)]
    note(|| Deed::SyncDirectory { path: path.to_owned() });
    Ok(())
}

/// Writes all of a directory's file system to the disk.
fn sync_all(path: &Path) -> io::Result<()> {
    gate(Call::Sync)?;
    Ok(syncfs(File::open(path)?)?)
}

#[cfg(test)]
fn inode(file: &File) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{NOBODY, as_nobody};
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};

    /// Promise: where the directory above may be entered and not read, as `/home` often is, one that is there is good, and
    /// one is made.
    /// Plant: what the sync of the one above says taken for all cases.
    #[test]
    fn below_what_can_not_be_read() {
        let place = tempfile::tempdir().unwrap();
        let (above, mode) = (place.path(), |mode| Permissions::from_mode(mode));
        let there = above.join("there");
        std::fs::create_dir(&there).unwrap();
        for path in [above, &there] {
            let _as_root = chown(path, Some(NOBODY), None);
        }
        std::fs::set_permissions(above, mode(0o311)).unwrap();
        let (is_there, is_made) = as_nobody(|| {
            let unread = names(above).unwrap_err().kind();
            assert_eq!(unread, io::ErrorKind::PermissionDenied, "of {}", above.display());
            (make_directories(&there), make_directories(&above.join("new/below")))
        });
        std::fs::set_permissions(above, mode(0o700)).unwrap();
        is_there.unwrap();
        is_made.unwrap();
        assert!(above.join("new/below").is_dir());
    }
}
