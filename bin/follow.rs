//! Following what a bus tells: by a handle whom others wake, until a signal, a count, a time, or nobody
//! reads on.

use crate::error::{Failure, Outcome};
use crate::halt::Halt;
use crate::tool::options;
use membus::{Bus, BusReader, OpenError, WatchError};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a descriptor is trusted before one looks by oneself.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// When following ends by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until {
    /// After so many events that count.
    pub(crate) count: Option<u64>,
    /// After this time, with exit status 1.
    pub(crate) timeout: Option<Duration>,
    /// How often it looks by itself.
    pub(crate) look: Duration,
}

/// Follows as a member, whom writers wake; as a reader, where the files may only be read.
pub(crate) fn attach<T>(
    path: &Path,
    label: Option<&str>,
    as_member: impl FnOnce(&Bus) -> Result<T, WatchError>,
    as_reader: impl FnOnce(&BusReader) -> Result<T, WatchError>,
) -> Result<T, Failure> {
    match options(label).attach_at(path) {
        Ok(bus) => Ok(as_member(&bus)?),
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            Ok(as_reader(&BusReader::open_at(path)?)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Tells what `next` gives, one after another. What `counts` ends it when there were enough, and is not
/// told any more once the time is over; all else is told whole, however little time there is.
pub(crate) fn follow<S: AsFd, E, W: Write>(
    source: &mut S,
    halt: &Halt,
    until: Until,
    out: &mut W,
    mut next: impl FnMut(&mut S) -> Result<Option<E>, WatchError>,
    counts: impl Fn(&E) -> bool,
    mut tell: impl FnMut(&mut W, &E) -> Result<(), Failure>,
) -> Result<Outcome, Failure> {
    let end = until.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut counted = 0;
    loop {
        // Ended by a signal it leaves the bus as at any end: no dead member stays behind.
        halt.check()?;
        let left = end.map_or(until.look, |end| end.saturating_duration_since(Instant::now()));
        let event = next(source)?;
        if left.is_zero() && event.as_ref().is_none_or(&counts) {
            return Ok(Outcome::Absent);
        }
        let Some(event) = event else {
            if pause(source, halt, left.min(until.look))? {
                continue;
            }
            return Ok(Outcome::Done);
        };
        tell(out, &event)?;
        out.flush()?;
        counted += u64::from(counts(&event));
        if until.count.is_some_and(|count| counted >= count) {
            return Ok(Outcome::Done);
        }
    }
}

/// Waits for news, a signal, or this time; gives whether anybody still reads the output, as far as it
/// is a pipe or a socket.
pub(crate) fn pause(source: &impl AsFd, halt: &Halt, time: Duration) -> Result<bool, Failure> {
    let out = io::stdout();
    let mut descriptors = [
        PollFd::new(source.as_fd(), PollFlags::POLLIN),
        PollFd::new(halt.as_fd(), PollFlags::POLLIN),
        PollFd::new(out.as_fd(), PollFlags::empty()),
    ];
    let time = u16::try_from(time.as_millis()).unwrap_or(u16::MAX).max(1);
    match poll(&mut descriptors, time) {
        // A signal came: it is looked at next.
        Err(Errno::EINTR) | Ok(_) => {}
        Err(error) => {
            return Err(Failure::io("waiting for", Path::new("changes"))(error.into()));
        }
    }
    let closed = PollFlags::POLLERR | PollFlags::POLLHUP;
    let [.., out] = &descriptors;
    Ok(!out.revents().is_some_and(|seen| seen.intersects(closed)))
}
