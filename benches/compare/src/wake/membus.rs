//! membus: a set in one process, its event from a watch in the other.

use std::path::Path;
use std::time::{Duration, Instant};

use membus::{Bus, Change, ChangeValue, Cursor, Event, ReadBus, Watch};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

use super::Side;
use super::end::End;
use crate::engines::{self, Fail};

/// How long the one that looks lets the other one begin to spin.
const HEAD_START: Duration = Duration::from_micros(2);

/// The key that a side sets.
fn key(means: &str, side: Side) -> String {
    format!("wake/{means}/{}", side.word())
}

/// A side that sets its key and watches the other's.
#[derive(Debug)]
pub(super) struct Watching {
    bus: Bus,
    watch: Watch,
    own: String,
    is_polled: bool,
}

impl Watching {
    /// Joins the bus under `directory`; polled, the watch sleeps without spinning first.
    pub(super) fn join(
        directory: &Path,
        side: Side,
        means: &str,
        is_polled: bool,
    ) -> Result<Self, Fail> {
        let bus = engines::join_bus(directory)?;
        let mut watch = bus.watch_from(key(means, side.other()), Cursor::NOW)?;
        // membus counts its cores once, at the first spin: before this process is kept on one.
        while watch.recv_timeout(Duration::from_millis(1))?.is_some() {}
        Ok(Self { bus, watch, own: key(means, side), is_polled })
    }

    fn next(&mut self) -> Result<Event, Fail> {
        if !self.is_polled {
            return Ok(self.watch.recv()?);
        }
        loop {
            if let Some(event) = self.watch.try_recv()? {
                return Ok(event);
            }
            let mut ready = [PollFd::new(self.watch.as_fd(), PollFlags::POLLIN)];
            poll(&mut ready, PollTimeout::NONE)?;
        }
    }
}

impl End for Watching {
    fn ring(&mut self, number: u64) -> Result<(), Fail> {
        self.bus.set_bytes(&self.own, number.to_le_bytes())?;
        Ok(())
    }

    fn wait(&mut self, number: u64) -> Result<(), Fail> {
        loop {
            match self.next()? {
                Event::CaughtUp(_) => {}
                Event::Change(Change { value: ChangeValue::Here(value), .. })
                    if value == number.to_le_bytes() =>
                {
                    return Ok(());
                }
                other => return Err(format!("instead of ring {number}: {other:?}").into()),
            }
        }
    }
}

/// The near side of one that is awake: it looks at the other's key instead of sleeping, and gives
/// the other time to begin its spin, so that no ring finds it asleep.
#[derive(Debug)]
pub(super) struct Looking {
    bus: Bus,
    own: String,
    others: String,
    value: Vec<u8>,
}

impl Looking {
    /// Joins the bus under `directory`.
    pub(super) fn join(directory: &Path, means: &str) -> Result<Self, Fail> {
        let (bus, value) = (engines::join_bus(directory)?, Vec::new());
        Ok(Self { bus, own: key(means, Side::Near), others: key(means, Side::Far), value })
    }
}

impl End for Looking {
    fn ring(&mut self, number: u64) -> Result<(), Fail> {
        self.bus.set_bytes(&self.own, number.to_le_bytes())?;
        Ok(())
    }

    fn wait(&mut self, number: u64) -> Result<(), Fail> {
        while self.bus.get_into(&self.others, &mut self.value)?.is_none()
            || self.value != number.to_le_bytes()
        {
            std::hint::spin_loop();
        }
        let seen = Instant::now();
        while seen.elapsed() < HEAD_START {
            std::hint::spin_loop();
        }
        Ok(())
    }
}
