//! The seam: a test lets the n-th system call of a thread fail, and records calls on files.

/// What is asked of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Stat,
    Truncate,
    Allocate,
    Map,
    Lock,
    Write,
    Sync,
    Rename,
    Unlink,
    MakeDirectory,
    ReadDirectory,
    Mode,
    Socket,
    Send,
    Receive,
}

#[cfg(not(test))]
#[inline(always)]
pub(crate) fn gate(_: Call) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) use armed::*;

#[cfg(test)]
mod armed {
    use super::Call;
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static PLAN: Cell<Option<(u64, i32)>> = const { Cell::new(None) };
        static SEEN: Cell<u64> = const { Cell::new(0) };
    }

    /// Lets the call through, or fails it as planned.
    pub(crate) fn gate(_: Call) -> io::Result<()> {
        if !crate::hook::step() {
            return Err(io::Error::other("this thread is dead"));
        }
        SEEN.set(SEEN.get() + 1);
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

    /// Runs `operation` with its `n`-th call failing with `errno`; whether it came that far.
    pub(crate) fn failing<T>(n: u64, errno: i32, operation: impl FnOnce() -> T) -> (T, bool) {
        PLAN.set(Some((n, errno)));
        let value = operation();
        (value, PLAN.take().is_none())
    }
}
