//! One of two processes that ring each other.

use std::io::{Write, stdin, stdout};
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::alarm;

use super::{Means, Side, iceoryx, membus, redis, sockets, zeromq};
use crate::engines::Fail;
use crate::machine;
use crate::page::{Events, Futexes};

/// Seconds after which a round has lost a ring; the process is killed then, and the bench ends.
const ROUND_MAX: u32 = 60;

/// One end of a means of waking.
pub(super) trait End {
    /// Wakes the other end with this number, one more than the last.
    fn ring(&mut self, number: u64) -> Result<(), Fail>;

    /// Sleeps until the other end rings with this number.
    fn wait(&mut self, number: u64) -> Result<(), Fail>;
}

impl End for Futexes {
    fn ring(&mut self, number: u64) -> Result<(), Fail> {
        Self::ring(self, number as u32);
        Ok(())
    }

    fn wait(&mut self, number: u64) -> Result<(), Fail> {
        Self::wait(self, number as u32);
        Ok(())
    }
}

impl End for Events {
    fn ring(&mut self, _: u64) -> Result<(), Fail> {
        Self::ring(self)
    }

    fn wait(&mut self, _: u64) -> Result<(), Fail> {
        Self::wait(self)
    }
}

fn open(means: Means, side: Side, directory: &Path) -> Result<Box<dyn End>, Fail> {
    Ok(match means {
        Means::MembusPoll => Box::new(membus::Watching::join(directory, side, "poll", true)?),
        Means::MembusRecv => Box::new(membus::Watching::join(directory, side, "recv", false)?),
        Means::MembusAwake if side == Side::Near => {
            Box::new(membus::Looking::join(directory, "awake")?)
        }
        Means::MembusAwake => Box::new(membus::Watching::join(directory, side, "awake", false)?),
        Means::Datagram => Box::new(sockets::Datagram::join(directory, side)?),
        Means::Stream => Box::new(sockets::Stream::join(directory, side)?),
        Means::Futex => Box::new(Futexes::join(directory, side)?),
        Means::RawSync => Box::new(Events::join(directory, side)?),
        Means::Iceoryx2 => Box::new(iceoryx::Events::join(directory, side)?),
        Means::ZeroMq => Box::new(zeromq::Pair::join(directory, side)?),
        Means::Redis => Box::new(redis::Channels::join(directory, side)?),
    })
}

/// Nanoseconds of the clock that all processes share.
fn now() -> Result<u64, Fail> {
    Ok(u64::try_from(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos())?)
}

/// Is one of the two, round after round, each a line with the rings and the pause in microseconds.
pub(crate) fn work(means: Means, side: Side, directory: &Path, core: usize) -> Result<(), Fail> {
    let mut end = open(means, side, directory)?;
    // Only now, so that what threads a library has are not kept on this core.
    machine::pin(&[core])?;
    writeln!(stdout(), "ready")?;
    let (mut number, mut line) = (0, String::new());
    while stdin().read_line(&mut line)? > 0 {
        let (rings, pause) = line.trim().split_once(' ').ok_or("an odd order")?;
        let (rings, pause) = (rings.parse::<u64>()?, Duration::from_micros(pause.parse()?));
        alarm::set(ROUND_MAX);
        let stamps = round(&mut *end, side, number..number + rings, pause)?;
        alarm::cancel();
        number += rings;
        let stamps: Vec<String> = stamps.iter().map(u64::to_string).collect();
        writeln!(stdout(), "{}", stamps.join(" "))?;
        line.clear();
    }
    Ok(())
}

/// One round: when the near end rang, or when the far end woke.
fn round(
    end: &mut dyn End,
    side: Side,
    numbers: std::ops::Range<u64>,
    pause: Duration,
) -> Result<Vec<u64>, Fail> {
    let mut stamps = Vec::with_capacity((numbers.end - numbers.start) as usize);
    for number in numbers.map(|number| number + 1) {
        if side == Side::Near {
            if !pause.is_zero() {
                thread::sleep(pause);
            }
            stamps.push(now()?);
            end.ring(number)?;
            end.wait(number)?;
        } else {
            end.wait(number)?;
            stamps.push(now()?);
            end.ring(number)?;
        }
    }
    Ok(stamps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::{self, Name};
    use crate::page::Page;
    use std::sync::Barrier;

    /// Every means rings both ways, as often as it is rung.
    /// Plant: an iceoryx2 notifier of the own service: its far end is never rung.
    #[test]
    fn every_means_rings_both_ways() {
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        let directory = place.path();
        let bus = engines::open(Name::Membus, directory, 1, 8).unwrap().unwrap();
        let redis = engines::open(Name::Redis, directory, 1, 8).unwrap();
        let _page = Page::create(directory).unwrap();
        let _sweep = crate::iceoryx::Sweep(directory.to_owned());
        for means in Means::ALL {
            if means == Means::Redis && redis.is_none() {
                continue;
            }
            let mut near = open(means, Side::Near, directory).unwrap();
            let play = |end: &mut dyn End, side| {
                let rounds = [(0..100, Duration::ZERO), (100..110, Duration::from_millis(1))];
                let rounds = rounds.map(|(numbers, pause)| round(end, side, numbers, pause));
                rounds.map(Result::unwrap).concat()
            };
            let both = Barrier::new(2);
            let (sent, woken) = thread::scope(|scope| {
                let far = scope.spawn(|| {
                    let mut far = open(means, Side::Far, directory).unwrap();
                    both.wait();
                    play(&mut *far, Side::Far)
                });
                both.wait();
                (play(&mut *near, Side::Near), far.join().unwrap())
            });
            assert_eq!((sent.len(), woken.len()), (110, 110), "{means:?}");
            assert!(sent.iter().zip(&woken).all(|(sent, woken)| sent <= woken), "{means:?}");
        }
        redis.into_iter().chain([bus]).try_for_each(|engine| engine.close()).unwrap();
    }
}
