//! `get`: shows a value.

use crate::error::{Failure, Outcome};
use crate::output::{NOBODY, entry_object, or_nobody, write_fields, write_json};
use crate::tool::Tool;
use crate::units::{show_duration, show_size, show_time};
use crate::value::Shown;
use membus::{ReadBus, Stat};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

/// Show a value: text and bytes as they are, structures as JSON
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// The key
    key: OsString,
    /// No newline after the value
    #[arg(long, conflicts_with = "stat")]
    raw: bool,
    /// Revision, who, when, size and expiry too
    #[arg(long)]
    stat: bool,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let reader = tool.reader(&self.name)?;
        let Some(entry) = reader.get_entry(self.key.as_bytes())? else {
            return Ok(Outcome::Absent);
        };
        if tool.json {
            write_json(out, entry_object(&entry))?;
            return Ok(Outcome::Done);
        }
        out.write_all(&Shown::of(entry.stat.kind, &entry.value).into_bytes())?;
        if !self.raw {
            writeln!(out)?;
        }
        if self.stat {
            write_fields(out, &fields(&entry.stat))?;
        }
        Ok(Outcome::Done)
    }
}

fn fields(stat: &Stat) -> Vec<(&'static str, String)> {
    let expires = stat
        .expires_in
        .map_or_else(|| "never".to_owned(), |left| format!("in {}", show_duration(left)));
    let mut fields = vec![
        ("revision", stat.revision.to_string()),
        ("kind", stat.kind.to_string()),
        ("who", or_nobody(stat.who.as_deref())),
        ("time", show_time(stat.time).unwrap_or_else(|| NOBODY.to_owned())),
        ("size", show_size(stat.size)),
        ("expires", expires),
    ];
    if stat.ephemeral {
        fields.push(("ephemeral", "yes".to_owned()));
    }
    fields
}
