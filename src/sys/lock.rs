//! Locks of single bytes, of the open file description (`F_OFD_SETLK`, `man 2 fcntl`).
//!
//! The kernel drops them with the description's last descriptor, however the process ends.

use super::seam::{Call, gate};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::io;
use std::os::fd::AsFd;

fn range(kind: i32, from: u64, len: u64) -> libc::flock {
    libc::flock {
        l_type: kind.try_into().unwrap_or_default(),
        l_whence: 0,
        l_start: from.cast_signed(),
        l_len: len.cast_signed(),
        l_pid: 0,
    }
}

/// Locks one byte for writing, without waiting: `false` when another description has it.
pub(crate) fn try_lock_byte(file: &impl AsFd, byte: u64) -> io::Result<bool> {
    try_lock_range(file, byte, byte + 1)
}

/// Locks the bytes `from..to` for writing, all of them or none, without waiting.
pub(crate) fn try_lock_range(file: &impl AsFd, from: u64, to: u64) -> io::Result<bool> {
    gate(Call::Lock)?;
    match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK, from, to - from))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Unlocks one byte.
pub(crate) fn unlock_byte(file: &impl AsFd, byte: u64) -> io::Result<()> {
    gate(Call::Lock)?;
    fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, byte, 1)))?;
    Ok(())
}

/// Unlocks every byte that this description holds, also where a copy of it lives on.
pub(crate) fn unlock_all(file: &impl AsFd) -> io::Result<()> {
    gate(Call::Lock)?;
    // A length of 0 goes to the end of all files.
    fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, 0, 0)))?;
    Ok(())
}

/// Bytes of `from..to` that one other description holds; of several, any.
pub(crate) fn locked_range(file: &impl AsFd, from: u64, to: u64) -> io::Result<Option<(u64, u64)>> {
    if from >= to {
        return Ok(None);
    }
    gate(Call::Lock)?;
    let mut found = range(libc::F_WRLCK, from, to - from);
    fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut found))?;
    if i32::from(found.l_type) == libc::F_UNLCK {
        return Ok(None);
    }
    let (start, len) = (found.l_start.cast_unsigned(), found.l_len.cast_unsigned());
    // A length of 0 goes to the end of all files.
    let end = if len == 0 { to } else { (start + len).min(to) };
    Ok(Some((start.max(from), end)))
}

/// Whether another description holds the byte.
pub(crate) fn byte_is_locked(file: &impl AsFd, byte: u64) -> io::Result<bool> {
    Ok(locked_range(file, byte, byte + 1)?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plant: a lock of the whole file instead of one byte makes the second byte refuse.
    #[test]
    fn bytes_are_locked_by_description() -> io::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let (one, two) = (file.reopen()?, file.reopen()?);
        assert!(try_lock_byte(&one, 3)?);
        assert!(!try_lock_byte(&two, 3)?);
        assert!(byte_is_locked(&two, 3)?);
        assert_eq!(locked_range(&two, 0, 9)?, Some((3, 4)));
        assert_eq!(locked_range(&two, 4, 9)?, None);
        assert!(!try_lock_range(&two, 1, 9)?);
        assert!(try_lock_range(&two, 4, 9)?);
        assert_eq!(locked_range(&one, 0, 6)?, Some((4, 6)));
        drop(one);
        assert!(try_lock_byte(&two, 3)?);
        unlock_byte(&two, 3)?;
        assert!(!byte_is_locked(&file.reopen()?, 3)?);
        Ok(())
    }
}
