//! `check`: verifies every structure of a region.

use crate::error::{Failure, Outcome};
use crate::output::{Colour, object_of, one_line, paint, write_json};
use crate::tool::Tool;
use membus::CheckReport;
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// How often a bus is looked at before a finding counts.
const LOOKS: u32 = 4;
/// How long a change in progress gets to come to its end.
const BETWEEN: Duration = Duration::from_millis(50);

/// Verify every structure of a bus, read-only; exit status 2 and a list when anything is wrong
///
/// Beside living members a change in progress looks like a fault: what is wrong must be wrong at
/// each of several looks.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let path = tool.path(&self.name)?;
        let report = check(&path)?;
        tell(tool, out, &report)?;
        if report.is_clean() {
            return Ok(Outcome::Done);
        }
        Err(Failure::Findings { count: report.findings.len(), path })
    }
}

/// Checks the bus at `path`, again when something was found; what is wrong each time is wrong.
pub(crate) fn check(path: &Path) -> Result<CheckReport, Failure> {
    let mut report = membus::check(path)?;
    for _ in 1..LOOKS {
        if report.is_clean() {
            break;
        }
        sleep(BETWEEN);
        let mut again = membus::check(path)?;
        again.findings.retain(|finding| report.findings.contains(finding));
        report = again;
    }
    Ok(report)
}

fn tell(tool: &Tool, out: &mut impl Write, report: &CheckReport) -> Result<(), Failure> {
    if tool.json {
        let object = json!({
            "clean": report.is_clean(),
            "findings": report.findings,
            "entries": report.entries,
            "retired": report.retired,
            "blocks": report.blocks,
            "free_blocks": report.free_blocks,
            "records": report.records,
            "locks_held": report.locks_held,
        });
        return Ok(write_json(out, object_of(object))?);
    }
    for finding in &report.findings {
        writeln!(out, "{}", one_line(finding))?;
    }
    if report.is_clean() {
        let CheckReport { entries, blocks, free_blocks, records, .. } = report;
        let clean = paint(tool.colours, Colour::Green, "clean");
        writeln!(
            out,
            "{clean}: {entries} entries, {blocks} blocks ({free_blocks} free), {records} log records"
        )?;
    }
    Ok(())
}
