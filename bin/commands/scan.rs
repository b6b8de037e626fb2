//! `scan`: lists entries.

use crate::error::{Failure, Outcome};
use crate::output::{entry_object, on_a_line, write_json};
use crate::tool::Tool;
use crate::value::Shown;
use membus::ReadBus;
use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;

/// List entries, sorted by key: key and value on a line, a tab between
///
/// What is there throughout comes exactly once; other entries may change or go meanwhile.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// Only keys that begin with this
    #[arg(default_value = "", hide_default_value = true)]
    prefix: OsString,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let reader = tool.reader(&self.name)?;
        let mut keys = reader.keys(self.prefix.as_bytes())?;
        keys.sort_unstable();
        let mut out = BufWriter::new(out);
        for key in keys {
            // One that went since the listing is not there any more.
            let Some(entry) = reader.get_entry(&key)? else { continue };
            if tool.json {
                write_json(&mut out, entry_object(&entry))?;
            } else {
                let value = Shown::of(entry.stat.kind, &entry.value).into_bytes();
                writeln!(out, "{}\t{}", on_a_line(&key), on_a_line(&value))?;
            }
        }
        out.flush()?;
        Ok(Outcome::Done)
    }
}
