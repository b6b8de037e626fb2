//! `snapshot`: takes a snapshot.

use crate::error::{Failure, Outcome};
use crate::output::{NOBODY, object_of, write_fields, write_json};
use crate::tool::Tool;
use crate::units::{show_measured, show_size};
use indicatif::ProgressBar;
use membus::SnapshotInfo;
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;
use std::time::Duration;

/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(100);

/// Take a snapshot now, while others go on writing
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let bus = tool.attach(&self.name, None)?;
        let taken = spinning("taking a snapshot", || bus.snapshot())?;
        tell(tool, out, &taken)
    }
}

/// Runs something that takes its time, with a spinner beside it.
pub(super) fn spinning<T>(what: &'static str, run: impl FnOnce() -> T) -> T {
    // Draws on standard error, and only where that is a terminal.
    let spinner = ProgressBar::new_spinner().with_message(what);
    spinner.enable_steady_tick(TURN);
    let end = run();
    spinner.finish_and_clear();
    end
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
