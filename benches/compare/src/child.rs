//! The processes of the bench that are this binary again.
//!
//! A child says a line when it is ready, does what it is told line by line, and answers in lines.
//! When its input ends, it ends, and takes away what it made.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::engines::Fail;
use crate::role::Role;

/// A process that was started; dropped, it is killed and waited for.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    input: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Running {
    /// Starts this binary in `role`.
    pub(crate) fn start(role: &Role) -> Result<Self, Fail> {
        let mut child = Command::new(env::current_exe()?)
            .args(role.to_words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let answers = BufReader::new(child.stdout.take().ok_or("a process without output")?);
        let input = child.stdin.take();
        Ok(Self { child, input, answers })
    }

    /// Starts it, and waits until it is ready.
    pub(crate) fn ready(role: &Role) -> Result<Self, Fail> {
        let mut running = Self::start(role)?;
        running.answer()?;
        Ok(running)
    }

    /// The next line that it says.
    pub(crate) fn answer(&mut self) -> Result<String, Fail> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err("a process of the bench ended early".into());
        }
        Ok(line)
    }

    /// Tells it a line.
    pub(crate) fn tell(&mut self, line: &str) -> Result<(), Fail> {
        let input = self.input.as_mut().ok_or("a process without input")?;
        Ok(writeln!(input, "{line}")?)
    }

    /// Ends its input and waits until it has ended.
    pub(crate) fn finish(mut self) -> Result<(), Fail> {
        drop(self.input.take());
        let status = self.child.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(format!("a process of the bench failed ({status})").into())
    }

    /// Kills it with SIGKILL; when this returns the kernel has freed what it held.
    pub(crate) fn kill(mut self) -> Result<(), Fail> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Where it was waited for, the standard library signals nobody.
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }
}
