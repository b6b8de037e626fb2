//! `set`: stores a value.

use crate::error::{Failure, Outcome};
use crate::tool::{Tool, argument_or_stdin, refused_or};
use crate::units::parse_duration;
use crate::value::{Form, Given};
use membus::{Durability, Revision};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// Store a value; prints the revision
///
/// The value is text unless --as says otherwise. `-` reads it from standard input, every byte as it
/// is. A value that begins with a dash and is no number goes behind `--`.
#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// The key
    key: OsString,
    /// The value; `-` is standard input
    #[arg(value_name = "VALUE|-")]
    value: OsString,
    /// As what it is stored
    #[arg(long = "as", value_enum, default_value = "text", value_name = "FORM")]
    form: Form,
    /// The same as `--as raw`
    #[arg(long, conflicts_with = "form")]
    raw: bool,
    /// How long it is there, such as 300ms, 5s or 2h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// Only when there is no such key
    #[arg(long, conflicts_with = "if_revision")]
    if_absent: bool,
    /// Only when the entry has this revision
    #[arg(long, value_name = "N")]
    if_revision: Option<Revision>,
    /// Return when the journal has it on the disk
    #[arg(long)]
    sync: bool,
    /// Who makes the change [default: cli]
    #[arg(long, value_name = "LABEL")]
    who: Option<String>,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let form = if self.raw { Form::Raw } else { self.form };
        let bytes = argument_or_stdin(&self.value)?;
        let value = Given::parse(form, bytes).map_err(Failure::Input)?;
        let bus = tool.attach(&self.name, self.who.as_deref())?;
        let key = self.key.as_bytes();
        let mut put = bus.put(key);
        if let Some(ttl) = self.ttl {
            put = put.ttl(ttl);
        }
        if self.if_absent {
            put = put.if_absent();
        }
        if let Some(revision) = self.if_revision {
            put = put.if_revision(revision);
        }
        if self.sync {
            put = put.durability(Durability::Synced);
        }
        match value.put(put) {
            Ok(revision) => tool.tell_revision(out, key, revision),
            Err(error) => refused_or(error),
        }
    }
}
