//! `members`: who is attached.

use crate::error::{Failure, Outcome};
use crate::output::{Colour, NOBODY, object_of, or_nobody, paint, write_json, write_table};
use crate::tool::Tool;
use crate::units::show_time;
use membus::MemberInfo;
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;

/// List who is attached, and whether it lives
///
/// A member is a handle that writes. The dead stay in the list until they are buried.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let members = tool.reader(&self.name)?.members()?;
        if tool.json {
            for member in &members {
                write_json(out, object_of(object(member)))?;
            }
            return Ok(Outcome::Done);
        }
        let rows: Vec<_> = members.iter().map(|member| row(tool, member)).collect();
        write_table(out, &["SLOT", "PID", "LABEL", "JOINED", "KEEPER", "STATE"], &rows)?;
        Ok(Outcome::Done)
    }
}

fn object(member: &MemberInfo) -> serde_json::Value {
    json!({
        "slot": member.slot,
        "generation": member.generation,
        "pid": member.pid,
        "label": member.label,
        "joined": show_time(member.joined),
        "alive": member.alive,
        "keeper": member.keeper,
    })
}

fn row(tool: &Tool, member: &MemberInfo) -> Vec<String> {
    let state = if member.alive {
        paint(tool.colours, Colour::Green, "alive")
    } else {
        paint(tool.colours, Colour::Red, "dead")
    };
    vec![
        member.slot.to_string(),
        member.pid.to_string(),
        or_nobody(member.label.as_deref()),
        show_time(member.joined).unwrap_or_else(|| NOBODY.to_owned()),
        if member.keeper { "keeper" } else { NOBODY }.to_owned(),
        state,
    ]
}
