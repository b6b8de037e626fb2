//! `keys`: lists keys.

use crate::error::{Failure, Outcome};
use crate::output::{Object, key_fields, on_a_line, write_json};
use crate::tool::Tool;
use membus::ReadBus;
use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;

/// List keys, sorted, a line each
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// Only keys that begin with this
    #[arg(default_value = "", hide_default_value = true)]
    prefix: OsString,
    /// Keys as they are, each ended by a NUL
    #[arg(short = '0', long = "null")]
    null: bool,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let mut keys = tool.reader(&self.name)?.keys(self.prefix.as_bytes())?;
        keys.sort_unstable();
        let mut out = BufWriter::new(out);
        for key in keys {
            if self.null {
                out.write_all(&key)?;
                out.write_all(b"\0")?;
            } else if tool.json {
                let mut object = Object::new();
                key_fields(&key, &mut object);
                write_json(&mut out, object)?;
            } else {
                writeln!(out, "{}", on_a_line(&key))?;
            }
        }
        out.flush()?;
        Ok(Outcome::Done)
    }
}
