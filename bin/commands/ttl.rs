//! `ttl`: how long an entry is there.

use crate::error::{Failure, Outcome};
use crate::output::{Object, key_fields, write_json};
use crate::tool::Tool;
use crate::units::{parse_duration, show_deadline, show_duration};
use membus::ReadBus;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;
use std::time::Duration;

/// Show how long an entry will be there, or set it
///
/// Prints `none` for an entry that stays; after a change, its revision.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// The key
    key: OsString,
    /// From now on so long (such as 5s), or without end (none)
    #[arg(value_name = "DURATION|none")]
    ttl: Option<Ttl>,
    /// Who makes the change [default: cli]
    #[arg(long, value_name = "LABEL", requires = "ttl")]
    who: Option<String>,
}

/// A time to live, or none.
#[derive(Debug, Clone, Copy)]
struct Ttl(Option<Duration>);

impl FromStr for Ttl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        parse_duration(text).map(|ttl| Self(Some(ttl)))
    }
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let key = self.key.as_bytes();
        if let Some(Ttl(ttl)) = self.ttl {
            let bus = tool.attach(&self.name, self.who.as_deref())?;
            return match bus.expire(key, ttl)? {
                Some(revision) => tool.tell_revision(out, key, revision),
                None => Ok(Outcome::Absent),
            };
        }
        let Some(stat) = tool.reader(&self.name)?.stat(key)? else { return Ok(Outcome::Absent) };
        if tool.json {
            let mut object = Object::new();
            key_fields(key, &mut object);
            object.insert("expires".into(), stat.expires_in.and_then(show_deadline).into());
            object.insert("ttl".into(), stat.expires_in.map(show_duration).into());
            write_json(out, object)?;
        } else {
            let shown = stat.expires_in.map_or_else(|| "none".to_owned(), show_duration);
            writeln!(out, "{shown}")?;
        }
        Ok(Outcome::Done)
    }
}
