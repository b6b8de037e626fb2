//! The seam: a test lets the n-th system call of a thread fail, and records what is done to files.

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
    use std::cell::{Cell, RefCell};
    use std::io;
    use std::path::PathBuf;

    /// What was done to files, and to the names in directories.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) enum Deed {
        /// Opened for writing; made, when the name is new.
        Open {
            path: PathBuf,
            inode: u64,
            truncates: bool,
        },
        Write {
            inode: u64,
            at: u64,
            bytes: Vec<u8>,
        },
        Sync {
            inode: u64,
        },
        MakeDirectory {
            path: PathBuf,
        },
        Rename {
            from: PathBuf,
            to: PathBuf,
        },
        Link {
            from: PathBuf,
            to: PathBuf,
        },
        Unlink {
            path: PathBuf,
        },
        SyncDirectory {
            path: PathBuf,
        },
        /// The test has come to its next part.
        Mark,
    }

    /// What others do before a call.
    type Meanwhile = Box<dyn FnOnce()>;

    thread_local! {
        static PLAN: Cell<Option<(u64, i32)>> = const { Cell::new(None) };
        static SEEN: Cell<u64> = const { Cell::new(0) };
        static DEEDS: RefCell<Option<Vec<Deed>>> = const { RefCell::new(None) };
        static MEANWHILE: RefCell<Option<(Call, Meanwhile)>> = const { RefCell::new(None) };
    }

    /// Records what was done, where somebody wants to know.
    pub(crate) fn note(deed: impl FnOnce() -> Deed) {
        DEEDS.with_borrow_mut(|deeds| deeds.as_mut().map(|deeds| deeds.push(deed())));
    }

    /// What `operation` does to files.
    pub(crate) fn recorded<T>(operation: impl FnOnce() -> T) -> (Vec<Deed>, T) {
        DEEDS.set(Some(Vec::new()));
        let value = operation();
        (DEEDS.take().unwrap_or_default(), value)
    }

    /// Lets the call through, or fails it as planned.
    pub(crate) fn gate(call: Call) -> io::Result<()> {
        if let Some((_, others)) =
            MEANWHILE.with_borrow_mut(|plan| plan.take_if(|plan| plan.0 == call))
        {
            others();
        }
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

    /// Lets others do something right before this thread's next call of this sort.
    pub(crate) fn meanwhile(call: Call, others: impl FnOnce() + 'static) {
        MEANWHILE.set(Some((call, Box::new(others))));
    }

    /// Runs `operation` with its `n`-th call failing with `errno`; whether it came that far.
    pub(crate) fn failing<T>(n: u64, errno: i32, operation: impl FnOnce() -> T) -> (T, bool) {
        PLAN.set(Some((n, errno)));
        let value = operation();
        (value, PLAN.take().is_none())
    }
}
