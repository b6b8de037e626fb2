//! Other processes of a test: this binary, run anew with a part to play.
//!
//! An actor is killed and waited for when it is dropped, so a test that fails leaves none.

use super::{PATIENCE, Place, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// An actor that is not yet there.
pub(crate) struct Casting {
    part: &'static str,
    command: Command,
}

impl Casting {
    /// An argument of the part.
    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.command.env(format!("MEMBUS_IT_ARG_{name}"), value.to_string());
        self
    }

    #[track_caller]
    pub(crate) fn start(mut self) -> Actor {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Actor::new(self.part, self.command.spawn().unwrap())
    }
}

/// A process that plays a part.
pub(crate) struct Actor {
    part: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

/// Who plays `part` at `place`.
pub(crate) fn actor(part: &'static str, place: &Place) -> Casting {
    actor_under(&[], part, place)
}

/// The same, started by another program, such as `unshare`.
pub(crate) fn actor_under(starter: &[&str], part: &'static str, place: &Place) -> Casting {
    let own = std::env::current_exe().unwrap();
    let mut command = match starter {
        [] => Command::new(own),
        [program, words @ ..] => {
            let mut command = Command::new(program);
            command.args(words).arg(own);
            command
        }
    };
    command.args(["actor", "--exact", "--nocapture", "--test-threads=1"]);
    command.env("MEMBUS_IT_PART", part).env("MEMBUS_IT_PLACE", place.path());
    command.env("RUST_BACKTRACE", "0");
    Casting { part, command }
}

impl Actor {
    fn new(part: &'static str, mut child: Child) -> Self {
        let (sender, lines) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Some(line) = line.strip_prefix('@') else { continue };
                if sender.send(line.to_owned()).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Self { part, child, stdin, lines }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it said; nothing when it has ended.
    #[track_caller]
    pub(crate) fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{}: no line came in {PATIENCE:?}", self.part)
            }
        }
    }

    /// The next line, when it has said one.
    pub(crate) fn try_line(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// The next line, when it says one in this time.
    pub(crate) fn line_within(&self, time: Duration) -> Option<String> {
        self.lines.recv_timeout(time).ok()
    }

    /// All that it has still said; waits for its end.
    pub(crate) fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.line()).collect()
    }

    /// The next line, which must begin with `word`: what stands behind it.
    #[track_caller]
    pub(crate) fn expect(&self, word: &str) -> String {
        let line = self.line().unwrap_or_else(|| panic!("{}: the end, not `{word}`", self.part));
        let rest = line.strip_prefix(word).filter(|rest| rest.is_empty() || rest.starts_with(' '));
        match rest {
            Some(rest) => rest.trim_start().to_owned(),
            None => panic!("{}: `{line}`, not `{word}`", self.part),
        }
    }

    /// Says a line to it.
    #[track_caller]
    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Stops it; it stands still when this returns.
    #[track_caller]
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        eventually("a stopped process", || (state_of(self.pid())? == 'T').then_some(()));
    }

    /// Lets it go on.
    #[track_caller]
    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// SIGKILL, and its end.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let status = self.wait();
        assert_eq!(status.signal(), Some(9), "{} had ended before: {status}", self.part);
    }

    /// SIGKILL after so long: the method of a test, not a wait for anything.
    #[track_caller]
    pub(crate) fn kill_after(&mut self, delay: Duration) {
        std::thread::sleep(delay);
        self.kill();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the end of an actor", || child.try_wait().unwrap())
    }

    /// Ends its part, which must end well; gives what it had still said.
    #[track_caller]
    pub(crate) fn end(mut self) -> Vec<String> {
        drop(self.stdin.take());
        let rest = self.rest();
        let status = self.wait();
        assert!(status.success(), "{}: {status}, {rest:?}", self.part);
        rest
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Fails only for one that has ended.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// The state letter of a process in `/proc`; nothing when there is none.
pub(crate) fn state_of(pid: u32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}
