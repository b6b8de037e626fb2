//! Who we are, random numbers, and forks.
#![expect(unsafe_code, reason = "pthread_atfork has no wrapper")]

use std::io;
use std::sync::OnceLock;

/// This process's id.
pub(crate) fn pid() -> u32 {
    std::process::id()
}

/// The effective user id.
pub(crate) fn uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Processors that this process may use.
pub(crate) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// A random word from the kernel.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u64::from_le_bytes(bytes))
}

static CHILD: OnceLock<fn()> = OnceLock::new();

extern "C" fn in_child() {
    if let Some(run) = CHILD.get() {
        run();
    }
}

/// Runs `child` in every child that this process forks from now on. The first one named counts.
pub(crate) fn at_fork(child: fn()) {
    CHILD.get_or_init(|| {
        // SAFETY: the handler is a plain function that lives as long as the program; a refusal
        // (ENOMEM) leaves the wipe-on-fork word, which tells children all the same.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        child
    });
}
