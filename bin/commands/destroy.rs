//! `destroy`: removes a bus.

use crate::error::{Failure, Outcome};
use crate::tool::{Tool, options};
use std::ffi::OsString;
use std::io::Write;

/// Remove a bus and what is kept of it; snapshots that went where `--persist` said stay
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// Also while members are attached: they are told that it is gone
    #[arg(long)]
    force: bool,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, _out: &mut impl Write) -> Result<Outcome, Failure> {
        options(None).destroy_at(tool.path(&self.name)?, self.force)?;
        Ok(Outcome::Done)
    }
}
