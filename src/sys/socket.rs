//! Doorbells: Unix datagram sockets with a name in the bus's directory.
//!
//! Names go through `/proc/self/fd/N`, so that a path longer than the 108 bytes of a socket
//! address does no harm. What a datagram holds is never looked at.

use super::seam::{Call, gate};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn below(directory: &OwnedFd, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))
}

/// The end that is rung.
#[derive(Debug)]
pub(crate) struct Doorbell {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Doorbell {
    /// Binds `name` in a directory; what an earlier life left under it goes.
    pub(crate) fn bind(directory: &OwnedFd, name: &str, path: &Path) -> io::Result<Self> {
        gate(Call::Socket)?;
        let at = below(directory, name);
        super::file::unlink(&at)?;
        let socket = UnixDatagram::bind(&at)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.join(name) })
    }

    /// Takes everything that waits.
    pub(crate) fn drain(&self) -> io::Result<()> {
        gate(Call::Receive)?;
        let mut byte = [0; 8];
        loop {
            match self.socket.recv(&mut byte) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes its name, when the process that bound it is done with it.
    pub(crate) fn remove(&self) {
        // The directory may be gone with the bus.
        drop(super::file::unlink(&self.path));
    }

    /// Under which name it is rung.
    pub(crate) fn name(&self) -> Option<String> {
        Some(self.path.file_name()?.to_str()?.to_owned())
    }

    /// Waits for a ring: `false` when the time ran out.
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        readable(self.socket.as_fd(), timeout)
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A clock that becomes readable from time to time, for who has nobody to ring.
#[derive(Debug)]
pub(crate) struct Timer {
    timer: TimerFd,
}

/// How often a watch without a doorbell looks.
const POLL: Duration = Duration::from_millis(5);

impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        gate(Call::Socket)?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        timer.set(Expiration::Interval(POLL.into()), TimerSetTimeFlags::empty())?;
        Ok(Self { timer })
    }

    /// Takes what has passed.
    pub(crate) fn drain(&self) -> io::Result<()> {
        let mut ticks = [0; 8];
        match nix::unistd::read(&self.timer, &mut ticks) {
            Ok(_) | Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits for the next tick.
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        readable(self.timer.as_fd(), timeout)
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

/// Waits until a descriptor is readable: `false` when the time ran out.
fn readable(descriptor: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    gate(Call::Receive)?;
    let millis = timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128);
    let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], timeout) {
        Ok(count) => Ok(count > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The end that rings.
#[derive(Debug)]
pub(crate) struct Ringer {
    socket: UnixDatagram,
}

fn unbound() -> io::Result<UnixDatagram> {
    gate(Call::Socket)?;
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Ringer {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { socket: unbound()? })
    }

    /// Rings once. A full queue has been rung already, a dead socket needs no ring: both are
    /// success, as is everything else, since the watch's flag is the truth.
    pub(crate) fn ring(&self, directory: &OwnedFd, name: &str) {
        let to = below(directory, name);
        // Rings that nobody took yet count against their sender, some hundred of them: those of a
        // stopped process would keep it from ringing anybody else. A new sender has none.
        if let Err(error) = send(&self.socket, &to)
            && error.kind() == io::ErrorKind::WouldBlock
        {
            drop(unbound().and_then(|socket| send(&socket, &to)));
        }
    }
}

fn send(socket: &UnixDatagram, to: &Path) -> io::Result<usize> {
    gate(Call::Send)?;
    socket.send_to(&[1], to)
}
