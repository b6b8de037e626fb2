//! Locks of single bytes, of the open file description (`F_OFD_SETLK`, `man 2 fcntl`).
//!
//! 1. The kernel drops them with the description's last descriptor, however the process ends.
//! 2. A forked child holds the same description: the lock falls only when it, too, has closed it.
//! 3. Through the description that holds a byte the byte looks free, to [`try_lock_byte`] and to
//!    [`byte_is_locked`] alike. Who wants to know asks through a second one.

use super::seam::{Call, retried};
use nix::fcntl::{FcntlArg, fcntl};
use std::io;
use std::os::fd::AsFd;

/// One byte. An offset beyond `i64` comes out negative, which the kernel refuses.
fn range(kind: i32, byte: u64) -> libc::flock {
    libc::flock {
        l_type: kind.try_into().unwrap_or_default(),
        l_whence: 0,
        l_start: byte.cast_signed(),
        l_len: 1,
        l_pid: 0,
    }
}

/// Locks one byte for writing, without waiting: `false` when another description has it.
pub(crate) fn try_lock_byte(file: &impl AsFd, byte: u64) -> io::Result<bool> {
    let lock = range(libc::F_WRLCK, byte);
    match retried(Call::Lock, || fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&lock))) {
        Ok(_) => Ok(true),
        // Linux says EAGAIN; POSIX leaves the choice between the two.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Unlocks one byte.
pub(crate) fn unlock_byte(file: &impl AsFd, byte: u64) -> io::Result<()> {
    let lock = range(libc::F_UNLCK, byte);
    retried(Call::Lock, || fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&lock)))?;
    Ok(())
}

/// Whether another description holds the byte.
pub(crate) fn byte_is_locked(file: &impl AsFd, byte: u64) -> io::Result<bool> {
    let mut found = range(libc::F_WRLCK, byte);
    retried(Call::Lock, || fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut found)))?;
    Ok(i32::from(found.l_type) != libc::F_UNLCK)
}

#[cfg(test)]
mod tests {
    use super::super::seam::failing;
    use super::*;

    /// Plant: a lock of the whole file instead of one byte makes the second byte refuse.
    #[test]
    fn bytes_are_locked_by_description() -> io::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let (one, two) = (file.reopen()?, file.reopen()?);
        assert!(try_lock_byte(&one, 3)?);
        assert!(!try_lock_byte(&two, 3)?);
        assert!(byte_is_locked(&two, 3)?);
        assert!(try_lock_byte(&two, 4)?);
        drop(one);
        assert!(try_lock_byte(&two, 3)?);
        unlock_byte(&two, 3)?;
        assert!(!byte_is_locked(&file.reopen()?, 3)?);
        Ok(())
    }

    /// Plant: POSIX record locks (`F_SETLK`) fall with the first descriptor that is closed.
    #[test]
    fn closing_another_descriptor_of_the_file_drops_nothing() -> io::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let (one, two) = (file.reopen()?, file.reopen()?);
        assert!(try_lock_byte(&one, 0)?);
        drop(file.reopen()?);
        assert!(byte_is_locked(&two, 0)?);
        assert!(!byte_is_locked(&one, 0)?, "through its own description a byte looks free");
        let inherited = one.try_clone()?;
        drop(one);
        assert!(byte_is_locked(&two, 0)?, "a second descriptor of the description keeps it");
        drop(inherited);
        assert!(!byte_is_locked(&two, 0)?);
        Ok(())
    }

    /// Plant: taking every error for "held" tells a full lock table as a living owner.
    #[test]
    fn held_is_an_answer_and_a_refusal_is_an_error() -> io::Result<()> {
        let file = tempfile::tempfile()?;
        for errno in [libc::EAGAIN, libc::EACCES] {
            assert!(!failing(0, errno, || try_lock_byte(&file, 0)).0?);
        }
        assert!(failing(0, libc::EINTR, || try_lock_byte(&file, 0)).0?);
        for errno in [libc::ENOLCK, libc::EBADF] {
            let end = failing(0, errno, || try_lock_byte(&file, 1)).0;
            assert_eq!(end.unwrap_err().raw_os_error(), Some(errno));
        }
        assert!(try_lock_byte(&file, u64::MAX).is_err());
        Ok(())
    }
}
