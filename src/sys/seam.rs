//! The seam: a test lets the n-th system call of a thread fail, and records calls on files.
//!
//! 1. Each call passes [`gate`] right before it is made, again each time it is made again: an
//!    `EINTR` that a test plans is met as one from the kernel is.
//! 2. What has changed a file or a directory is told to the recorder after it succeeded, so that a
//!    recording is what the kernel has taken on. What of it a disk would hold after a power cut is
//!    for the test to decide.
//! 3. Plan and recording belong to the thread. Outside tests there is neither, and no code.

use std::io;

/// What is asked of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Stat,
    Truncate,
    Allocate,
    Map,
    Lock,
    Read,
    Write,
    Sync,
    Rename,
    Unlink,
    MakeDirectory,
    RemoveDirectory,
    ReadDirectory,
    Mode,
    Space,
    Socket,
    Bind,
    Send,
    Receive,
    Poll,
    Timer,
    FutexWait,
    FutexWake,
    Random,
}

/// Makes a call, again as often as a signal interrupts it.
pub(crate) fn retried<T, E: Into<io::Error>>(
    call: Call,
    mut run: impl FnMut() -> Result<T, E>,
) -> io::Result<T> {
    loop {
        match gate(call).and_then(|()| run().map_err(Into::into)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            end => return end,
        }
    }
}

#[cfg(not(test))]
mod unarmed {
    use super::Call;
    use std::io;
    use std::os::fd::AsFd;
    use std::path::Path;

    #[inline(always)]
    pub(crate) fn gate(_: Call) -> io::Result<()> {
        Ok(())
    }
    #[inline(always)]
    pub(crate) fn created(_: &impl AsFd) {}
    #[inline(always)]
    pub(crate) fn written(_: &impl AsFd, _: u64, _: &[u8]) {}
    #[inline(always)]
    pub(crate) fn truncated(_: &impl AsFd, _: u64) {}
    #[inline(always)]
    pub(crate) fn synced(_: &impl AsFd) {}
    #[inline(always)]
    pub(crate) fn renamed(_: &Path, _: &Path) {}
    #[inline(always)]
    pub(crate) fn unlinked(_: &Path) {}
    #[inline(always)]
    pub(crate) fn directory_made(_: &Path) {}
    #[inline(always)]
    pub(crate) fn directory_removed(_: &Path) {}
}

#[cfg(test)]
mod armed {
    use super::Call;
    use std::cell::{Cell, RefCell};
    use std::io;
    use std::os::fd::{AsFd, AsRawFd};
    use std::path::{Path, PathBuf};

    /// One change of a file or a directory, by absolute paths without links.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) enum FileCall {
        /// Opened with `O_CREAT`: there from now on, if it was not before.
        Create { path: PathBuf },
        Write { path: PathBuf, offset: u64, bytes: Vec<u8> },
        Truncate { path: PathBuf, size: u64 },
        /// Of a file or of a directory.
        Sync { path: PathBuf },
        Rename { from: PathBuf, to: PathBuf },
        Unlink { path: PathBuf },
        MakeDirectory { path: PathBuf },
        RemoveDirectory { path: PathBuf },
    }

    thread_local! {
        static PLAN: Cell<Option<(u64, i32)>> = const { Cell::new(None) };
        static CALLS: RefCell<Option<Vec<Call>>> = const { RefCell::new(None) };
        static FILES: RefCell<Option<Vec<FileCall>>> = const { RefCell::new(None) };
    }

    /// Lets the call through, or fails it as planned.
    pub(crate) fn gate(call: Call) -> io::Result<()> {
        CALLS.with_borrow_mut(|calls| calls.as_mut().map(|calls| calls.push(call)));
        match PLAN.get() {
            Some((0, errno)) => {
                PLAN.set(None);
                Err(io::Error::from_raw_os_error(errno))
            }
            Some((left, errno)) => {
                PLAN.set(Some((left - 1, errno)));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Runs `operation` with its `n`-th call, from 0, failing with `errno`; whether it came that
    /// far.
    pub(crate) fn failing<T>(n: u64, errno: i32, operation: impl FnOnce() -> T) -> (T, bool) {
        PLAN.set(Some((n, errno)));
        let value = operation();
        (value, PLAN.take().is_none())
    }

    /// Runs `operation`; the calls that it made in this thread, the failed ones too.
    pub(crate) fn counting<T>(operation: impl FnOnce() -> T) -> (T, Vec<Call>) {
        CALLS.set(Some(Vec::new()));
        let value = operation();
        (value, CALLS.take().unwrap_or_default())
    }

    /// Runs `operation`; what it changed of files and directories in this thread, in order.
    pub(crate) fn recording<T>(operation: impl FnOnce() -> T) -> (T, Vec<FileCall>) {
        FILES.set(Some(Vec::new()));
        let value = operation();
        (value, FILES.take().unwrap_or_default())
    }

    fn record(call: impl FnOnce() -> FileCall) {
        FILES.with_borrow_mut(|files| files.as_mut().map(|files| files.push(call())));
    }

    fn path_of(file: &impl AsFd) -> PathBuf {
        std::fs::read_link(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())).unwrap()
    }

    /// The path with the links of its directory followed; its last part may be gone.
    fn resolved(path: &Path) -> PathBuf {
        let path = std::path::absolute(path).unwrap();
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => parent.canonicalize().unwrap().join(name),
            _ => path,
        }
    }

    pub(crate) fn created(file: &impl AsFd) {
        record(|| FileCall::Create { path: path_of(file) });
    }
    pub(crate) fn written(file: &impl AsFd, offset: u64, bytes: &[u8]) {
        record(|| FileCall::Write { path: path_of(file), offset, bytes: bytes.to_vec() });
    }
    pub(crate) fn truncated(file: &impl AsFd, size: u64) {
        record(|| FileCall::Truncate { path: path_of(file), size });
    }
    pub(crate) fn synced(file: &impl AsFd) {
        record(|| FileCall::Sync { path: path_of(file) });
    }
    pub(crate) fn renamed(from: &Path, to: &Path) {
        record(|| FileCall::Rename { from: resolved(from), to: resolved(to) });
    }
    pub(crate) fn unlinked(path: &Path) {
        record(|| FileCall::Unlink { path: resolved(path) });
    }
    pub(crate) fn directory_made(path: &Path) {
        record(|| FileCall::MakeDirectory { path: resolved(path) });
    }
    pub(crate) fn directory_removed(path: &Path) {
        record(|| FileCall::RemoveDirectory { path: resolved(path) });
    }
}

#[cfg(test)]
pub(crate) use armed::*;
#[cfg(not(test))]
pub(crate) use unarmed::*;

#[cfg(test)]
mod tests {
    use super::*;

    fn errno(end: &io::Result<()>) -> Option<i32> {
        end.as_ref().err().and_then(io::Error::raw_os_error)
    }

    /// Plant: a plan that is not taken back after it struck fails the third call too.
    #[test]
    fn the_call_of_the_plan_fails_and_no_other() {
        let three = || [Call::Open, Call::Write, Call::Sync].map(|call| errno(&gate(call)));
        assert_eq!(failing(1, libc::EIO, three), ([None, Some(libc::EIO), None], true));
        assert_eq!(failing(3, libc::EIO, three), ([None; 3], false));
        assert_eq!(three(), [None; 3], "a plan that did not strike is over with its operation");
        let (_, calls) = counting(three);
        assert_eq!(calls, [Call::Open, Call::Write, Call::Sync]);
    }

    /// Plant: a gate outside of the loop gives the interruption to the caller.
    #[test]
    fn what_is_interrupted_is_made_again_and_what_fails_is_not() {
        let once = |n, errno| {
            let mut made = 0;
            let (end, struck) = failing(n, errno, || {
                retried(Call::Read, || {
                    made += 1;
                    Ok::<_, io::Error>(())
                })
            });
            assert!(struck);
            (end.map_err(|error| error.raw_os_error()), made)
        };
        assert_eq!(once(0, libc::EINTR), (Ok(()), 1));
        assert_eq!(once(0, libc::EIO), (Err(Some(libc::EIO)), 0));
        let mut interruptions = 3;
        let end = retried(Call::Read, || {
            interruptions -= 1;
            if interruptions > 0 { Err(nix::errno::Errno::EINTR) } else { Ok(interruptions) }
        });
        assert_eq!(end.unwrap(), 0);
    }
}
