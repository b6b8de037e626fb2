//! Doorbells: Unix datagram sockets with a name in the bus's directory.
//!
//! Names go through `/proc/self/fd/N`, so that a path longer than the 108 bytes of a socket
//! address does no harm. What a datagram holds is never looked at.

use super::directory::Directory;
use super::seam::{Call, gate};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Which watch a doorbell is of: the number of its slot, and a random one, so that no later watch in
/// this slot has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BellName {
    pub(crate) index: u64,
    pub(crate) nonce: u64,
}

impl fmt::Display for BellName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.index, self.nonce)
    }
}

/// How long a sleeper trusts its doorbell; then it looks by itself.
pub(crate) const SELF_LOOK: Duration = Duration::from_secs(1);

/// The end that is rung.
#[derive(Debug)]
pub(crate) struct Doorbell {
    socket: UnixDatagram,
    name: BellName,
}

impl Doorbell {
    /// Binds `name` in a directory, for whoever may write by these permissions; what an earlier life left under it goes.
    pub(crate) fn bind(directory: &Directory, name: BellName, mode: u32) -> io::Result<Self> {
        gate(Call::Socket)?;
        let file = name.to_string();
        directory.unlink(&file)?;
        let socket = UnixDatagram::bind(directory.below(&file))?;
        // Who may not write to a socket can't ring it.
        let made = socket.set_read_timeout(Some(SELF_LOOK));
        let made = made.and_then(|()| directory.set_mode_of_socket(&file, mode));
        // Nobody would know of its name.
        made.inspect_err(|_| drop(directory.unlink(&file)))?;
        Ok(Self { socket, name })
    }

    /// Takes everything that waits.
    pub(crate) fn drain(&self) -> io::Result<()> {
        gate(Call::Receive)?;
        let mut byte = [0; 8];
        loop {
            match recv(self.socket.as_raw_fd(), &mut byte, MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Removes its name from its directory, when the process that bound it is done with it.
    pub(crate) fn remove(&self, directory: &Directory) {
        // The directory may be gone with the bus.
        drop(directory.unlink(&self.name.to_string()));
    }

    /// Under which name it is rung.
    pub(crate) fn name(&self) -> BellName {
        self.name
    }

    /// Waits for a ring, [`SELF_LOOK`] at the most: `false` when the time ran out. It may take a ring, and
    /// may leave some.
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        if timeout < SELF_LOOK {
            return readable(self.socket.as_fd(), timeout);
        }
        // One call instead of two for who waits for ever.
        gate(Call::Receive)?;
        let begun = Instant::now();
        match recv(self.socket.as_raw_fd(), &mut [0; 8], MsgFlags::empty()) {
            Ok(_) => Ok(true),
            // An event loop may have set the descriptor not to wait (`O_NONBLOCK`).
            Err(Errno::EAGAIN) if begun.elapsed() < SELF_LOOK / 2 => {
                readable(self.socket.as_fd(), SELF_LOOK)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
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
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
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
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Doorbells that one ringer is connected to at a time: each is a descriptor of the process.
const CONNECTED: usize = 64;
/// Rings for another watch in a row after which the place of a connected one is given to it.
const PATIENCE: u32 = 2;

/// A place for a connected doorbell.
#[derive(Debug, Default)]
struct Line {
    to: Option<(BellName, UnixDatagram)>,
    /// Rings for others since this one was rung.
    passed: u32,
}

/// The end that rings. It stays connected to those it rang last: finding a socket by its name costs
/// more than the ring.
#[derive(Debug)]
pub(crate) struct Ringer {
    /// For whom it is not connected to.
    socket: UnixDatagram,
    /// By the number of the watch's slot. Nobody waits for a place that another thread uses.
    lines: Box<[Mutex<Line>]>,
}

fn unbound() -> io::Result<UnixDatagram> {
    gate(Call::Socket)?;
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Ringer {
    pub(crate) fn new() -> io::Result<Self> {
        let lines = std::iter::repeat_with(Mutex::default).take(CONNECTED).collect();
        Ok(Self { socket: unbound()?, lines })
    }

    /// Rings once. A full queue has been rung already, a dead socket needs no ring: both are
    /// success, as is everything else, since the watch's flag is the truth.
    pub(crate) fn ring(&self, directory: &Directory, name: BellName) {
        let line = self.lines.get(name.index as usize % CONNECTED);
        let line = line.and_then(|line| line.try_lock().ok());
        if line.is_some_and(|mut line| line.ring(directory, name)) {
            return;
        }
        let to = directory.below(&name.to_string());
        // Rings that nobody took yet count against their sender, some hundred of them: those of a
        // stopped process would keep it from ringing anybody else. A new sender has none.
        if let Err(error) = send_to(&self.socket, &to)
            && error.kind() == io::ErrorKind::WouldBlock
        {
            drop(unbound().and_then(|socket| send_to(&socket, &to)));
        }
    }
}

impl Line {
    /// Rings if this line leads there, or is made to: whether it did.
    fn ring(&mut self, directory: &Directory, name: BellName) -> bool {
        if self.to.as_ref().is_none_or(|(to, _)| *to != name) {
            self.passed += 1;
            if self.to.is_some() && self.passed < PATIENCE {
                return false;
            }
            self.to = connected(directory, name).ok().map(|socket| (name, socket));
        }
        self.passed = 0;
        let is_rung = self.to.as_ref().is_some_and(|(_, socket)| was_rung(send(socket)));
        if !is_rung {
            self.to = None;
        }
        is_rung
    }
}

/// What a connected socket says: its queue is of this bell alone, and a full one was rung.
fn was_rung(sent: io::Result<usize>) -> bool {
    sent.map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |_| true)
}

fn connected(directory: &Directory, name: BellName) -> io::Result<UnixDatagram> {
    let socket = unbound()?;
    socket.connect(directory.below(&name.to_string()))?;
    Ok(socket)
}

fn send(socket: &UnixDatagram) -> io::Result<usize> {
    gate(Call::Send)?;
    socket.send(&[1])
}

fn send_to(socket: &UnixDatagram, to: &Path) -> io::Result<usize> {
    gate(Call::Send)?;
    socket.send_to(&[1], to)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Door {
        directory: tempfile::TempDir,
        opened: Directory,
    }

    impl Door {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let opened = Directory::open(directory.path()).unwrap();
            Self { directory, opened }
        }

        fn bell(&self, index: u64, nonce: u64) -> Doorbell {
            let name = BellName { index, nonce };
            Doorbell::bind(&self.opened, name, 0o600).unwrap()
        }

        /// Rings it: whether the bell shows it.
        fn rings(&self, ringer: &Ringer, bell: &Doorbell) -> bool {
            ringer.ring(&self.opened, bell.name());
            let rung = bell.wait(Duration::ZERO).unwrap();
            bell.drain().unwrap();
            rung
        }
    }

    fn descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    /// Plants: a line that is taken for another's whose slot has the same number, or the same remainder.
    #[test]
    fn each_bell_is_rung_and_no_other() {
        let (door, ringer) = (Door::new(), Ringer::new().unwrap());
        let lines = CONNECTED as u64;
        let mut bells: Vec<_> = (0..3 * lines).map(|index| door.bell(index, 1)).collect();
        for round in 0..3 {
            for bell in &bells {
                assert!(door.rings(&ringer, bell), "{round}: {}", bell.name());
                assert!(bells.iter().all(|bell| !bell.wait(Duration::ZERO).unwrap()), "{round}");
            }
        }
        // Slots have other watches later; those of a process that was stopped may be there still.
        for nonce in 2..5 {
            for index in [0, 1, lines, 2 * lines] {
                let bell = door.bell(index, nonce);
                for _ in 0..=PATIENCE {
                    assert!(door.rings(&ringer, &bell), "{}", bell.name());
                    assert!(bells.iter().all(|bell| !bell.wait(Duration::ZERO).unwrap()));
                }
                bells.push(bell);
            }
        }
    }

    /// Plant: a line for each bell that was ever rung.
    #[test]
    fn a_ringer_keeps_few_descriptors() {
        let (door, ringer) = (Door::new(), Ringer::new().unwrap());
        let bells: Vec<_> = (0..1000).map(|index| door.bell(index, 7)).collect();
        let before = descriptors();
        for bell in bells.iter().chain(&bells).chain(&bells) {
            assert!(door.rings(&ringer, bell));
        }
        // Other tests open some meanwhile.
        assert!(descriptors() < before + 4 * CONNECTED, "{before} before");
    }

    /// Plant: a full queue that counts as a line that leads nowhere: each ring connects again.
    #[test]
    fn a_full_queue_was_rung() {
        let (door, ringer) = (Door::new(), Ringer::new().unwrap());
        let bell = door.bell(3, 1);
        for _ in 0..1000 {
            ringer.ring(&door.opened, bell.name());
            assert!(ringer.lines[3].lock().unwrap().to.is_some());
        }
        assert!(bell.wait(Duration::ZERO).unwrap());
        bell.drain().unwrap();
        assert!(!bell.wait(Duration::ZERO).unwrap());
        assert!(door.rings(&ringer, &bell));
    }

    /// Plant: a wait without the time that a receiver may block.
    #[test]
    fn a_wait_ends_by_itself_or_with_a_ring() {
        let (door, ringer) = (Door::new(), Ringer::new().unwrap());
        let bell = door.bell(0, 1);
        assert!(!bell.wait(Duration::from_millis(1)).unwrap());
        assert!(!bell.wait(Duration::MAX).unwrap());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| (0..100).all(|_| bell.wait(Duration::MAX).unwrap()));
            while !waiter.is_finished() {
                ringer.ring(&door.opened, bell.name());
            }
            assert!(waiter.join().unwrap());
        });
    }

    /// Promise: who waits on a doorbell sleeps, also when an event loop has set its descriptor not to wait.
    /// Plant: no second way to wait: it is back at once, and again, and again.
    #[test]
    fn a_descriptor_that_does_not_wait_is_waited_for() {
        let door = Door::new();
        let bell = door.bell(1, 1);
        bell.socket.set_nonblocking(true).unwrap();
        let begun = Instant::now();
        assert!(!bell.wait(SELF_LOOK).unwrap());
        assert!(begun.elapsed() >= SELF_LOOK);
    }

    /// Promise: whoever may write to the bus may ring its watches. With a usual umask (0o022).
    /// Plants: the mode that the umask leaves; the mode of what somebody put in the socket's place.
    #[test]
    fn a_bell_has_the_mode_of_the_bus() {
        use std::os::unix::fs::MetadataExt;
        let door = Door::new();
        let mode = |name: &str| door.directory.path().join(name).metadata().unwrap().mode() & 0o777;
        for (index, wanted) in [(1, 0o600), (2, 0o660), (3, 0o666), (4, 0o640)] {
            let name = BellName { index, nonce: 1 };
            let bell = Doorbell::bind(&door.opened, name, wanted).unwrap();
            assert_eq!(mode(&bell.name().to_string()), wanted);
        }
        let ours = door.directory.path().join("ours");
        std::fs::write(&ours, b"").unwrap();
        let before = mode("ours");
        std::os::unix::fs::symlink(&ours, door.directory.path().join("link")).unwrap();
        for name in ["ours", "link"] {
            door.opened.set_mode_of_socket(name, 0o666).unwrap();
        }
        std::fs::hard_link(
            door.directory.path().join(door.bell(5, 1).name().to_string()),
            door.directory.path().join("second"),
        )
        .unwrap();
        door.opened.set_mode_of_socket("second", 0o666).unwrap();
        assert_eq!((mode("ours"), mode("second")), (before, 0o600));
    }
}
