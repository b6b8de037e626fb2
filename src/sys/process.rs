//! Who we are, and random numbers.

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

/// The state letter of a process, as `/proc` tells it; nothing when there is none that we may see.
pub(crate) fn state_of(pid: u32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

/// A random word from the kernel.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u64::from_le_bytes(bytes))
}

/// A user who may do nothing.
#[cfg(test)]
pub(crate) const NOBODY: u32 = 65_534;

/// Does it on a thread that has no rights beyond its own on files; also where the tests are root's, whose thread is then this
/// user's before the file system.
#[cfg(test)]
pub(crate) fn as_nobody<T: Send>(play: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if uid() == 0 {
                nix::unistd::setfsuid(NOBODY.into());
            }
            play()
        });
        thread.join().unwrap()
    })
}
