//! What a fork must not leave shared: descriptions of files whose locks say who lives.
//!
//! A forked child has the parent's descriptions, and with them the locks on the parent's bytes: the
//! parent would not seem dead as long as the child lives, and the two would probe through one
//! description, which sees its own locks as free. So in the child every [`Private`] descriptor is
//! pointed elsewhere, by a handler that runs inside `fork` (`man 3 pthread_atfork`). The number stays
//! taken, so that dropping the file there closes nothing of somebody else's.
//!
//! A child that was made past the C library (`clone`, a raw `fork`) has no handler run; it learns of
//! the fork by [`WipeOnFork`](super::map::WipeOnFork), and calls [`leave_all`] itself.
#![expect(unsafe_code, reason = "pthread_atfork and dup3 onto a number that others own")]

use super::map::WipeOnFork;
use super::seam::{Call, gate};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU32, AtomicU64};
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Held while descriptors are registered, and over every fork: so a child never finds the list, or a
/// registration, half-way.
static BUSY: AtomicU32 = AtomicU32::new(0);
/// Numbers of the descriptors that a child must not share.
static PRIVATE: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());
/// What they are pointed to: open for reading alone, so that no lock for writing can be had by it;
/// and what tells whether this process did that already.
static NOTHING: OnceLock<(File, WipeOnFork)> = OnceLock::new();

/// How many forks lie between the first process that used membus and this one.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// No fork by another thread of this process happens as long as this lives.
#[derive(Debug)]
pub(crate) struct NoFork(PhantomData<*const ()>);

impl NoFork {
    pub(crate) fn begin() -> Self {
        hold();
        // Before anything is opened. Who registers a descriptor is told what failed.
        let _prepared = prepare();
        Self(PhantomData)
    }
}

impl Drop for NoFork {
    fn drop(&mut self) {
        release();
    }
}

thread_local! {
    /// How often this thread holds [`BUSY`].
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

fn hold() {
    DEPTH.set(DEPTH.get() + 1);
    if DEPTH.get() > 1 {
        return;
    }
    // ORDERING: [fork.busy] Acquire; pairs with the Release store in `release`. Not for loom to show:
    // a word of the process, for `pthread_atfork`.
    let mut turns = 0_u32;
    while BUSY.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
        // It is held for long only while a forked child takes its seat.
        turns = turns.saturating_add(1);
        match turns {
            0..100 => std::thread::yield_now(),
            _ => std::thread::sleep(std::time::Duration::from_millis(1)),
        }
    }
}

fn release() {
    DEPTH.set(DEPTH.get() - 1);
    if DEPTH.get() > 0 {
        return;
    }
    // ORDERING: [fork.busy] Release; pairs with the Acquire exchange in `hold`. Not for loom to show,
    // as there.
    BUSY.store(0, Release);
}

/// The list; whoever asks holds [`BUSY`], so it is never waited for.
fn list() -> MutexGuard<'static, Vec<RawFd>> {
    PRIVATE.lock().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn before() {
    hold();
}

extern "C" fn in_parent() {
    release();
}

extern "C" fn in_child() {
    leave();
    release();
}

/// Which process this is, of those that were forked off one another: it differs from what a parent was told, and from what
/// this one was told before it was forked.
pub(crate) fn lineage() -> u64 {
    if NOTHING.get().is_some_and(|(_, mark)| mark.is_child()) {
        leave_all(&NoFork::begin());
    }
    FORKS.load(Relaxed)
}

/// In a child, once: points what it shares with its parent elsewhere.
fn leave() {
    let Some((nothing, mark)) = NOTHING.get().filter(|(_, mark)| mark.is_child()) else { return };
    FORKS.fetch_add(1, Relaxed);
    mark.set();
    for number in list().drain(..) {
        // SAFETY: both numbers are open descriptors: `NOTHING` lives for ever, and a registered one
        // until it is taken from the list. What the second one stood for is only given up, in this
        // process; its owner goes on holding an open descriptor.
        unsafe { libc::dup3(nothing.as_raw_fd(), number, libc::O_CLOEXEC) };
    }
}

/// In a child whose fork ran no handler: gives up what it shares with its parent.
pub(crate) fn leave_all(_held: &NoFork) {
    leave();
}

/// Registers the handlers, once. Who calls it holds [`BUSY`].
fn prepare() -> io::Result<()> {
    if NOTHING.get().is_some() {
        return Ok(());
    }
    let (nothing, mark) = (File::open("/dev/null")?, WipeOnFork::new()?);
    // SAFETY: the handlers are plain functions that live as long as the program.
    let refused = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    if refused != 0 {
        return Err(io::Error::from_raw_os_error(refused));
    }
    let _first = NOTHING.set((nothing, mark));
    Ok(())
}

/// A file whose description no forked child shares. Its locks end with it.
#[derive(Debug)]
pub(crate) struct Private {
    file: File,
    /// Behind the file, which is closed first: no fork finds it off the list and open.
    closing: Option<Closing>,
}

/// [`NoFork`] in a drop: that can't be kept where a value may go from thread to thread.
#[derive(Debug)]
struct Closing;

impl Drop for Closing {
    fn drop(&mut self) {
        release();
    }
}

impl Private {
    pub(crate) fn new(file: File, _held: &NoFork) -> io::Result<Self> {
        gate(Call::Open)?;
        prepare()?;
        list().push(file.as_raw_fd());
        Ok(Self { file, closing: None })
    }
}

#[cfg(test)]
impl Private {
    /// Gives the description up, as the death of its process would; also where a test beside this one starts a program at
    /// that moment, whose process has all descriptors until it executes it.
    pub(crate) fn die(&self) {
        super::lock::unlock_all(&self.file).unwrap();
        let nothing = NOTHING.get().map_or(-1, |(nothing, _)| nothing.as_raw_fd());
        // SAFETY: both are open; the owner goes on holding an open descriptor.
        unsafe { libc::dup3(nothing, self.file.as_raw_fd(), libc::O_CLOEXEC) };
    }
}

impl AsFd for Private {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        hold();
        self.closing = Some(Closing);
        // In a child whose fork ran no handler the locks are its parent's.
        leave();
        let number = self.file.as_raw_fd();
        list().retain(|other| *other != number);
        // A program that another thread is starting has a copy of the description until it executes.
        let _end = super::lock::unlock_all(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::lock::try_lock_byte;

    /// Seen to fail in a crash test, "members: 3", while a server was started beside it.
    /// Plant: a death that drops the descriptor alone.
    #[test]
    fn a_death_frees_what_a_program_that_starts_has_a_copy_of() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(path.path()).unwrap();
        let dying = Private::new(open(), &NoFork::begin()).unwrap();
        assert!(try_lock_byte(&dying, 7).unwrap());
        let starting = dying.file.try_clone().unwrap();
        assert!(!try_lock_byte(&open(), 7).unwrap(), "it lives");
        dying.die();
        assert!(try_lock_byte(&open(), 7).unwrap(), "it is dead");
        drop(starting);
    }
}
