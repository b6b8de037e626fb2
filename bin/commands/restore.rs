//! `restore`: what a backup has takes the place of what a bus has.

use super::snapshot::spinning;
use crate::error::{Failure, Outcome};
use crate::output::{object_of, say, write_fields, write_json};
use crate::place::{PLACES, Place};
use crate::tool::{Tool, options};
use crate::units::show_measured;
use membus::{Bus, RestoreInfo};
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;

/// Replace all keys of a bus by those of a backup, at one moment
///
/// Readers never wait; watches are told. What is replaced is saved first: the place is printed, and restoring
/// from there undoes it. A bus that is not there is made.
#[derive(Debug, clap::Args)]
#[command(after_help = PLACES)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// Where from
    #[arg(value_name = "PLACE")]
    from: OsString,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let from = Place::parse(&self.from, 1)?;
        let path = tool.path(&self.name)?;
        let is_new = !path.join("region").exists();
        let bus = options(None).open_at(&path)?;
        match spinning("restoring", || bus.restore(&*from.backend, &from.name)) {
            Ok(restored) => tell(tool, out, &restored),
            Err(error) => {
                if is_new && bus.info()?.entries == 0 {
                    drop(bus);
                    // Somebody else uses it by now: then it stays.
                    let _gone = Bus::destroy_at(&path, false);
                }
                Err(error.into())
            }
        }
    }
}

fn tell(tool: &Tool, out: &mut impl Write, restored: &RestoreInfo) -> Result<Outcome, Failure> {
    for (at, reason) in &restored.refused {
        say(&format!("a newer one was refused: {at}: {reason}"));
    }
    let before = restored.before.path.as_deref().and_then(|path| path.parent());
    let before = before.map(|path| path.display().to_string()).unwrap_or_default();
    let revision = restored.revision.get();
    if tool.json {
        let object = json!({
            "revision": revision,
            "entries": restored.entries,
            "from_revision": restored.from.revision,
            "before": before,
            "seconds": restored.took.as_secs_f64(),
        });
        write_json(out, object_of(object))?;
    } else {
        let fields = [
            ("revision", revision.to_string()),
            ("entries", restored.entries.to_string()),
            ("of revision", restored.from.revision.to_string()),
            ("took", show_measured(restored.took)),
            ("before", before),
        ];
        write_fields(out, &fields)?;
    }
    Ok(Outcome::Done)
}
