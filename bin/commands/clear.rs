//! `clear`: makes a bus empty.

use crate::error::{Failure, Outcome};
use crate::output::{object_of, write_json};
use crate::tool::Tool;
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;

/// Make a bus empty by one change; prints its revision
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// Who makes the change [default: cli]
    #[arg(long, value_name = "LABEL")]
    who: Option<String>,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let revision = tool.attach(&self.name, self.who.as_deref())?.clear()?;
        if tool.json {
            write_json(out, object_of(json!({"revision": revision.get()})))?;
        } else {
            writeln!(out, "{revision}")?;
        }
        Ok(Outcome::Done)
    }
}
