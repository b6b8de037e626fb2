//! `sync`: waits until what is there is durable.

use crate::error::{Failure, Outcome};
use crate::output::{object_of, write_json};
use crate::tool::Tool;
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;

/// Wait until the journal has everything that is there now on the disk; prints the revision
///
/// The bus has to have a journal (`create --journal`), and somebody has to keep it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let synced = tool.attach(&self.name, None)?.sync()?;
        let revision = synced.map_or(0, membus::Revision::get);
        if tool.json {
            write_json(out, object_of(json!({"revision": revision})))?;
        } else {
            writeln!(out, "{revision}")?;
        }
        Ok(Outcome::Done)
    }
}
