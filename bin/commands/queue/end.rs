//! What becomes of an item that was taken: `queue ack`, `queue release`, `queue extend`; and of all:
//! `queue purge`.

use super::refused_or;
use crate::error::{Failure, Outcome};
use crate::output::{object_of, write_json};
use crate::tool::Tool;
use crate::units::parse_duration;
use membus::{Queue, Receipt};
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;
use std::time::Duration;

/// A queue of a bus.
#[derive(Debug, clap::Args)]
struct Place {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// The queue
    queue: String,
}

impl Place {
    fn queue(&self, tool: &Tool) -> Result<Queue, Failure> {
        Ok(tool.attach(&self.name, None)?.queue(&self.queue)?)
    }
}

/// Say that an item is done: it is gone
///
/// Exit status 1 when it is not one's own any more: then what was done about it may be done again.
#[derive(Debug, clap::Args)]
pub(super) struct Ack {
    #[command(flatten)]
    place: Place,
    /// The item, as `take` printed it
    id: Receipt,
}

impl Ack {
    pub(super) fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        match self.place.queue(tool)?.ack(self.id) {
            Ok(()) => Ok(Outcome::Done),
            Err(error) => refused_or(error),
        }
    }
}

/// Give an item back: the next consumer gets it
#[derive(Debug, clap::Args)]
pub(super) struct Release {
    #[command(flatten)]
    place: Place,
    /// The item, as `take` printed it
    id: Receipt,
    /// Nobody gets it before this time is over
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    after: Option<Duration>,
}

impl Release {
    pub(super) fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let queue = self.place.queue(tool)?;
        let end = match self.after {
            Some(delay) => queue.release_after(self.id, delay),
            None => queue.release(self.id),
        };
        match end {
            Ok(()) => Ok(Outcome::Done),
            Err(error) => refused_or(error),
        }
    }
}

/// Keep an item for longer; prints what it is called from then on
#[derive(Debug, clap::Args)]
pub(super) struct Extend {
    #[command(flatten)]
    place: Place,
    /// The item, as `take` printed it
    id: Receipt,
    /// For how long, from now on
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    time: Duration,
}

impl Extend {
    pub(super) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        match self.place.queue(tool)?.extend(self.id, self.time) {
            Ok(id) if tool.json => write_json(out, object_of(json!({"id": id.to_string()})))?,
            Ok(id) => writeln!(out, "{id}")?,
            Err(error) => return refused_or(error),
        }
        Ok(Outcome::Done)
    }
}

/// Take away all items of a queue, also those that consumers have; prints how many
#[derive(Debug, clap::Args)]
pub(super) struct Purge {
    #[command(flatten)]
    place: Place,
}

impl Purge {
    pub(super) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let purged = self.place.queue(tool)?.purge()?;
        if tool.json {
            write_json(out, object_of(json!({"purged": purged})))?;
        } else {
            writeln!(out, "{purged}")?;
        }
        Ok(if purged == 0 { Outcome::Absent } else { Outcome::Done })
    }
}
