//! `delete`: takes entries away.

use crate::error::{Failure, Outcome};
use crate::output::{object_of, write_json};
use crate::tool::{Tool, refused_or};
use membus::{Bus, Revision};
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

/// Delete keys; prints how many there were
///
/// Keys go one by one; for all or none see `batch`. Exit status 1 when there was none.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// Which keys
    #[arg(value_name = "KEY", required_unless_present = "prefix")]
    keys: Vec<OsString>,
    /// Only when the entry has this revision (one KEY)
    #[arg(long, value_name = "N", conflicts_with = "prefix")]
    if_revision: Option<Revision>,
    /// Every key that begins with P
    #[arg(long, value_name = "P", conflicts_with = "keys")]
    prefix: Option<OsString>,
    /// Who makes the change [default: cli]
    #[arg(long, value_name = "LABEL")]
    who: Option<String>,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        if self.if_revision.is_some() && self.keys.len() != 1 {
            return Err(Failure::Input("--if-revision is for one key".to_owned()));
        }
        let bus = tool.attach(&self.name, self.who.as_deref())?;
        if let Some(revision) = self.if_revision {
            let key = self.keys.first().map(|key| key.as_bytes()).unwrap_or_default();
            return match bus.put(key).if_revision(revision).delete() {
                Ok(deleted) => tell(tool, out, u64::from(deleted.is_some())),
                Err(error) => refused_or(error),
            };
        }
        let deleted = match &self.prefix {
            Some(prefix) => bus.delete_prefix(prefix.as_bytes())?,
            None => delete_all(&bus, &self.keys)?,
        };
        tell(tool, out, deleted)
    }
}

fn delete_all(bus: &Bus, keys: &[OsString]) -> Result<u64, Failure> {
    let mut deleted = 0;
    for key in keys {
        deleted += u64::from(bus.delete(key.as_bytes())?.is_some());
    }
    Ok(deleted)
}

fn tell(tool: &Tool, out: &mut impl Write, deleted: u64) -> Result<Outcome, Failure> {
    if tool.json {
        write_json(out, object_of(json!({"deleted": deleted})))?;
    } else {
        writeln!(out, "{deleted}")?;
    }
    Ok(if deleted == 0 { Outcome::Absent } else { Outcome::Done })
}
