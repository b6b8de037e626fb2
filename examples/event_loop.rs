//! A watch, a subscriber and a pipe in one event loop of `mio` (epoll), in one thread.
//!
//! Another process sets jobs' states, publishes an alarm and writes its log to a pipe. A watch's descriptor is
//! armed by a look that finds nothing: so each turn looks until there is nothing, and only then
//! waits. The same order serves `poll` and `epoll`, by edge or by level.
//!
//!     cargo run --example event_loop

#![expect(clippy::print_stdout, reason = "it shows what it does")]

use membus::{Bus, Event, Notice, Subscriber, Watch};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const STATES: u32 = 2000;
const PATIENCE: Duration = Duration::from_secs(60);
const WATCH: Token = Token(0);
const CALLS: Token = Token(1);
const PIPE: Token = Token(2);

/// What came by each way.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    states: u32,
    alarms: u32,
    log: usize,
}

fn look_at_states(watch: &mut Watch, seen: &mut Seen) -> Result<(), Box<dyn Error>> {
    while let Some(event) = watch.try_recv()? {
        seen.states += u32::from(matches!(event, Event::Change(_)));
    }
    Ok(())
}

fn look_at_calls(calls: &mut Subscriber, seen: &mut Seen) -> Result<(), Box<dyn Error>> {
    while let Some(notice) = calls.try_recv()? {
        seen.alarms += u32::from(matches!(notice, Notice::Message(_)));
    }
    Ok(())
}

/// Whether there may come more.
fn look_at_pipe(pipe: &mut impl Read, seen: &mut Seen) -> std::io::Result<bool> {
    let mut bytes = [0; 4096];
    loop {
        match pipe.read(&mut bytes) {
            Ok(0) => return Ok(false),
            Ok(count) => seen.log += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The other process.
fn work(path: &Path) -> Result<(), Box<dyn Error>> {
    let bus = Bus::options().keeper(false).attach_at(path)?;
    let mut log = std::io::stdout().lock();
    for state in 1..=STATES {
        bus.set(format!("job/{}", state % 10), &state)?;
        if state % 100 == 0 {
            bus.publish("alarm", &state)?;
            log.write_all(b"a hundred more\n")?;
        }
    }
    Ok(bus.close()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(path) = std::env::args_os().nth(1) {
        return work(Path::new(&path));
    }
    let directory = tempfile::tempdir_in("/dev/shm")?;
    let path = directory.path().join("jobs");
    let bus = Bus::options().state(directory.path()).open_at(&path)?;
    let mut watch = bus.watch("job/")?;
    let mut calls = bus.subscribe("alarm")?;
    let mut worker =
        Command::new(std::env::current_exe()?).arg(&path).stdout(Stdio::piped()).spawn()?;
    let pipe = worker.stdout.take().ok_or("no pipe")?;
    let mut pipe = mio::unix::pipe::Receiver::from(pipe);
    pipe.set_nonblocking(true)?;

    let mut poll = Poll::new()?;
    for (source, token) in [(watch.as_fd(), WATCH), (calls.as_fd(), CALLS)] {
        let source = source.as_raw_fd();
        poll.registry().register(&mut SourceFd(&source), token, Interest::READABLE)?;
    }
    poll.registry().register(&mut pipe, PIPE, Interest::READABLE)?;

    let (mut events, mut seen) = (Events::with_capacity(8), Seen::default());
    let all = Seen { states: STATES, alarms: STATES / 100, log: STATES as usize / 100 * 15 };
    // The first look arms the bells.
    look_at_states(&mut watch, &mut seen)?;
    look_at_calls(&mut calls, &mut seen)?;
    while seen != all {
        poll.poll(&mut events, Some(PATIENCE))?;
        if events.is_empty() {
            return Err(format!("{seen:?} after {PATIENCE:?}, not {all:?}").into());
        }
        for event in &events {
            match event.token() {
                WATCH => look_at_states(&mut watch, &mut seen)?,
                CALLS => look_at_calls(&mut calls, &mut seen)?,
                _ if look_at_pipe(&mut pipe, &mut seen)? => {}
                _ => poll.registry().deregister(&mut pipe)?,
            }
        }
    }
    println!("one thread heard {} states, {} alarms, {} bytes", seen.states, seen.alarms, seen.log);
    if !worker.wait()?.success() {
        return Err("the worker failed".into());
    }
    Ok(bus.close()?)
}
