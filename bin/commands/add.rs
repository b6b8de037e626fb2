//! `add`: adds to a counter.

use crate::error::{Failure, Outcome};
use crate::output::{Object, key_fields, write_json};
use crate::tool::Tool;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

/// Add to a counter, which is 0 when absent; prints its new value
#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// The key
    key: OsString,
    /// How much; may be negative
    #[arg(default_value_t = 1)]
    by: i64,
    /// Who makes the change [default: cli]
    #[arg(long, value_name = "LABEL")]
    who: Option<String>,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let bus = tool.attach(&self.name, self.who.as_deref())?;
        let value = bus.add(self.key.as_bytes(), self.by)?;
        if tool.json {
            let mut object = Object::new();
            key_fields(self.key.as_bytes(), &mut object);
            object.insert("value".into(), value.into());
            write_json(out, object)?;
        } else {
            writeln!(out, "{value}")?;
        }
        Ok(Outcome::Done)
    }
}
