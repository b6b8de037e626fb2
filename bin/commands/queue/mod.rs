//! `queue`: work queues, from the shell.

mod end;
mod list;
mod put;
mod take;

use crate::error::{Failure, Outcome};
use crate::tool::Tool;
use membus::QueueError;
use std::io::Write;

/// Work queues: put items, take them, say what became of them
///
/// Each item is one consumer's at a time; one that is not acknowledged goes to the next. A queue is there
/// as soon as something is put. Exit status 1: full, nothing there in time, or not one's own any more.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Put(put::Args),
    Take(take::Args),
    Ack(end::Ack),
    Release(end::Release),
    Extend(end::Extend),
    List(list::Args),
    Purge(end::Purge),
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        match &self.command {
            Command::Put(args) => args.run(tool, out),
            Command::Take(args) => args.run(tool, out),
            Command::Ack(args) => args.run(tool),
            Command::Release(args) => args.run(tool),
            Command::Extend(args) => args.run(tool, out),
            Command::List(args) => args.run(tool, out),
            Command::Purge(args) => args.run(tool, out),
        }
    }
}

/// A full queue, and an item that is somebody else's, are no failures.
fn refused_or(error: QueueError) -> Result<Outcome, Failure> {
    match error {
        QueueError::Full { .. } | QueueError::Lost { .. } => {
            Ok(Outcome::Refused(error.to_string()))
        }
        error => Err(error.into()),
    }
}
