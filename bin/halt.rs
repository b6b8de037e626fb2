//! Signals that say to end: heard, and looked at where there is something to tidy up. One that this process was started
//! to ignore, as by `nohup`, or by a script's `&`, stays ignored, and by what it starts as well.

use crate::error::Failure;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A signal that says to end, when one came. Its descriptor becomes readable then.
#[derive(Debug)]
pub(crate) struct Halt {
    signal: Arc<AtomicUsize>,
    bell: UnixStream,
}

impl Halt {
    /// From here on these signals are heard and kill no more.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let failed = || Failure::io("listening for", Path::new("signals"));
        let (halt, rope) = Self::deaf().map_err(failed())?;
        // One that comes between the kernel's note of a handler and what the handler is to do would be lost: it waits.
        let all: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        let ends = not_ignored(&[SIGINT, SIGTERM, SIGHUP]);
        let before = all.thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(io::Error::from);
        let before = before.map_err(failed())?;
        let heard = ends.iter().try_for_each(|signal| halt.hear(*signal, &rope));
        before.thread_set_mask().map_err(io::Error::from).map_err(failed())?;
        heard.map_err(failed())?;
        Ok(halt)
    }

    /// One that hears nothing yet, and what rings its bell.
    pub(crate) fn deaf() -> io::Result<(Self, UnixStream)> {
        let (bell, rope) = UnixStream::pair()?;
        Ok((Self { signal: Arc::default(), bell }, rope))
    }

    /// The number is there before the bell rings.
    fn hear(&self, signal: i32, rope: &UnixStream) -> io::Result<()> {
        let number = usize::try_from(signal).unwrap_or(usize::MAX);
        signal_hook::flag::register_usize(signal, Arc::clone(&self.signal), number)?;
        signal_hook::low_level::pipe::register(signal, rope.try_clone()?)?;
        Ok(())
    }

    /// The one that came.
    pub(crate) fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(i32::try_from(signal).unwrap_or(0)),
        }
    }

    /// Fails when a signal came.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.signal().map_or(Ok(()), |signal| Err(Failure::Interrupted(signal)))
    }

    /// Waits until one came, so long at most. The bell is not trusted to ring: look afterwards.
    pub(crate) fn wait(&self, most: Duration) {
        let time = u16::try_from(most.as_millis()).unwrap_or(u16::MAX);
        match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], time) {
            Ok(_) | Err(Errno::EINTR) => {}
            // The kernel lacks something for now.
            Err(_) => std::thread::sleep(most),
        }
    }
}

/// Those of some signals that this process does not ignore; all of them where there is no telling.
pub(crate) fn not_ignored(signals: &[i32]) -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let is_heard = |signal: &&i32| ignored >> (**signal - 1) & 1 == 0;
    signals.iter().filter(is_heard).copied().collect()
}

impl AsFd for Halt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
