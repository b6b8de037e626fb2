//! The process that a tied command is before it becomes the command.
//!
//! It asks the kernel to be killed when its parent dies, and looks afterwards whether it has died
//! already. What is asked for outlives `exec`, but not a change of user by the command's file.

use crate::error::{Failure, Outcome};
use crate::tool::Tool;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Exit status when there is no such command.
const NONE: u8 = 127;
/// Exit status when it can't be run.
const NOT_RUN: u8 = 126;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Who started it
    parent: i32,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl Args {
    pub(crate) fn run(&self, _tool: &Tool, _out: &mut impl Write) -> Result<Outcome, Failure> {
        let asked = set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from);
        asked.map_err(Failure::io("tying the command to", Path::new("who started it")))?;
        if getppid().as_raw() != self.parent {
            return Ok(Outcome::Status(NOT_RUN, Some("who started it is gone".to_owned())));
        }
        let Some((program, arguments)) = self.command.split_first() else {
            return Ok(Outcome::Status(NOT_RUN, None));
        };
        let error = Command::new(program).args(arguments).exec();
        let code = if error.kind() == io::ErrorKind::NotFound { NONE } else { NOT_RUN };
        Ok(Outcome::Status(code, Some(format!("running {}: {error}", program.display()))))
    }
}
