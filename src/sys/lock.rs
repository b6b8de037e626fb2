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
    gate(Call::Lock)?;
    match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK, byte, 1))) {
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

/// The first byte of `from..to` that another description holds.
pub(crate) fn first_locked(file: &impl AsFd, from: u64, to: u64) -> io::Result<Option<u64>> {
    if from >= to {
        return Ok(None);
    }
    gate(Call::Lock)?;
    let mut found = range(libc::F_WRLCK, from, to - from);
    fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut found))?;
    let is_locked = i32::from(found.l_type) != libc::F_UNLCK;
    Ok(is_locked.then(|| found.l_start.cast_unsigned().max(from)))
}

/// Whether another description holds the byte.
pub(crate) fn byte_is_locked(file: &impl AsFd, byte: u64) -> io::Result<bool> {
    Ok(first_locked(file, byte, byte + 1)?.is_some())
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
        assert_eq!(first_locked(&two, 0, 9)?, Some(3));
        assert_eq!(first_locked(&two, 4, 9)?, None);
        assert!(try_lock_byte(&two, 4)?);
        drop(one);
        assert!(try_lock_byte(&two, 3)?);
        unlock_byte(&two, 3)?;
        assert!(!byte_is_locked(&file.reopen()?, 3)?);
        Ok(())
    }
}
