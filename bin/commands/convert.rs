//! `convert`: from one kind of backup to another.

use super::bar::with_bar;
use crate::error::{Failure, Outcome};
use crate::output::{NOBODY, object_of, say, write_fields, write_json};
use crate::place::{PLACES, Place};
use crate::tool::Tool;
use crate::units::show_size;
use membus::copy_snapshot;
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;

/// Copy the newest good snapshot of one place to another, of any kind
///
/// No bus has to be there. Nothing to copy is exit status 1.
#[derive(Debug, clap::Args)]
#[command(after_help = PLACES)]
pub(crate) struct Args {
    /// Where from
    #[arg(value_name = "PLACE")]
    from: OsString,
    /// Where to
    #[arg(value_name = "PLACE")]
    to: OsString,
    /// How many stay there, where a place can hold several
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    keep: usize,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let (from, to) = (Place::parse(&self.from, 1)?, Place::parse(&self.to, self.keep)?);
        let copied = with_bar(|told| {
            let copied = copy_snapshot(&*from.backend, &*to.backend, told);
            copied.map_err(membus::SnapshotError::from)
        })?;
        let Some((loaded, saved)) = copied else {
            return Ok(Outcome::Refused(format!("there is no snapshot in {}", from.name)));
        };
        for (at, reason) in &loaded.refused {
            say(&format!("a newer one was refused: {at}: {reason}"));
        }
        let path = saved.path.map(|path| path.display().to_string());
        if tool.json {
            let object = json!({
                "revision": loaded.head.revision,
                "entries": saved.entries,
                "size": saved.bytes,
                "path": path,
            });
            write_json(out, object_of(object))?;
        } else {
            let fields = [
                ("revision", loaded.head.revision.to_string()),
                ("entries", saved.entries.to_string()),
                ("size", show_size(saved.bytes)),
                ("path", path.unwrap_or_else(|| NOBODY.to_owned())),
            ];
            write_fields(out, &fields)?;
        }
        Ok(Outcome::Done)
    }
}
