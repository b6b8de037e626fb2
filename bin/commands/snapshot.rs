//! `snapshot`: takes a snapshot.

use super::bar::with_bar;
use crate::error::{Failure, Outcome};
use crate::output::{NOBODY, object_of, write_fields, write_json};
use crate::tool::Tool;
use crate::units::{parse_size, show_measured, show_size};
use membus::{SnapshotInfo, SnapshotOptions};
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;

/// Take a snapshot now, while others go on writing
///
/// SIGINT ends it; the last good one stays.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    #[command(flatten)]
    speed: Speed,
}

/// How fast it may go.
#[derive(Debug, clap::Args)]
pub(super) struct Speed {
    /// Bytes a second that it may take, such as 20M [default: full speed]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    rate: Option<u64>,
}

impl Speed {
    pub(super) fn options<'a>(&self) -> SnapshotOptions<'a> {
        SnapshotOptions::new().rate(self.rate.unwrap_or(0))
    }
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let bus = tool.attach(&self.name, None)?;
        let taken = with_bar(|told| bus.snapshot_with(self.speed.options().progress(told)))?;
        tell(tool, out, &taken)
    }
}

/// What was saved.
pub(super) fn tell(
    tool: &Tool,
    out: &mut impl Write,
    taken: &SnapshotInfo,
) -> Result<Outcome, Failure> {
    let path = taken.path.as_ref().map(|path| path.display().to_string());
    if tool.json {
        let object = json!({
            "revision": taken.revision,
            "entries": taken.entries,
            "size": taken.bytes,
            "seconds": taken.took.as_secs_f64(),
            "path": path,
        });
        write_json(out, object_of(object))?;
    } else {
        let fields = [
            ("revision", taken.revision.to_string()),
            ("entries", taken.entries.to_string()),
            ("size", show_size(taken.bytes)),
            ("took", show_measured(taken.took)),
            ("path", path.unwrap_or_else(|| NOBODY.to_owned())),
        ];
        write_fields(out, &fields)?;
    }
    Ok(Outcome::Done)
}
