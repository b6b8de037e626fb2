//! Commands that are tied to this process: they are killed when it dies, and are told the signals that it
//! is sent.

use crate::error::Failure;
use crate::halt::not_ignored;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgrp, tcgetpgrp};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::io::{Write, stdin};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// From here on these signals are heard and kill no more; what is ignored stays ignored, by the command too.
pub(crate) fn listen() -> Result<Signals, Failure> {
    let ends = not_ignored(&[SIGINT, SIGTERM, SIGHUP]);
    let listened = Signals::new(ends.into_iter().chain([SIGCHLD]));
    listened.map_err(Failure::io("listening for", Path::new("signals")))
}

/// This program, the one that runs, also when another file has got its name since.
pub(crate) fn this_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("membus");
    command
}

/// A command that will be tied to this process: this program becomes it.
pub(crate) fn command(words: &[OsString]) -> Command {
    let mut command = this_program();
    command.args(["tied", &std::process::id().to_string(), "--"]).args(words);
    command
}

/// Runs it to its end, with these bytes on its standard input, or with this process's; gives its exit
/// status as a shell says it.
pub(crate) fn run(
    command: &mut Command,
    input: Option<Vec<u8>>,
    signals: &mut Signals,
) -> Result<u8, Failure> {
    let own = Path::new("the command");
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().map_err(Failure::io("starting", own))?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        // Beside the wait: who does not read its input may end all the same. Nobody waits for this
        // thread, since what the command started may keep the pipe.
        let feeds = std::thread::Builder::new().spawn(move || pipe.write_all(&input));
        if let Err(error) = feeds {
            // It has not got all of its input: it must not end as if it had.
            let _killed = child.kill().and_then(|()| child.wait());
            return Err(Failure::io("feeding", own)(error));
        }
    }
    loop {
        if let Some(status) = child.try_wait().map_err(Failure::io("waiting for", own))? {
            return Ok(exit_code(status));
        }
        for signal in signals.wait() {
            if signal != SIGCHLD {
                pass_on(&child, signal);
            }
        }
    }
}

/// Sends a signal to the command, unless the terminal did already.
fn pass_on(child: &Child, signal: i32) {
    let (Ok(signal), Ok(pid)) = (Signal::try_from(signal), i32::try_from(child.id())) else {
        return;
    };
    let is_foreground = tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp());
    if signal != Signal::SIGINT || !is_foreground {
        // It may have ended: then there is nobody to tell.
        let _sent = kill(Pid::from_raw(pid), signal);
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
