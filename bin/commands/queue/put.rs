//! `queue put`: one more item.

use super::refused_or;
use crate::error::{Failure, Outcome};
use crate::output::{object_of, write_json};
use crate::tool::{Tool, argument_or_stdin};
use crate::units::parse_duration;
use crate::value::{Form, Given};
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;
use std::time::Duration;

/// Put an item into a queue; prints its number
///
/// The payload is text unless --as says otherwise; `-` reads it from standard input.
#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// The queue
    queue: String,
    /// The payload; `-` is standard input, and without one it is empty
    #[arg(value_name = "PAYLOAD|-")]
    payload: Option<OsString>,
    /// As what the payload is stored
    #[arg(long = "as", value_enum, default_value = "text", value_name = "FORM")]
    form: Form,
    /// The same as `--as raw`
    #[arg(long, conflicts_with = "form")]
    raw: bool,
    /// How long it may wait to be taken, such as 300ms, 5s or 2h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// Only while fewer items than this are there
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Wait so long for room [default: not at all]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "limit")]
    timeout: Option<Duration>,
    /// Who puts it [default: cli]
    #[arg(long, value_name = "LABEL")]
    who: Option<String>,
}

impl Args {
    pub(super) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let form = if self.raw { Form::Raw } else { self.form };
        let bytes = self.payload.as_ref().map(argument_or_stdin).transpose()?.unwrap_or_default();
        let payload = Given::parse(form, bytes).map_err(Failure::Input)?;
        let mut queue = tool.attach(&self.name, self.who.as_deref())?.queue(&self.queue)?;
        if let Some(limit) = self.limit {
            queue = queue.limit(limit);
        }
        let mut offer = queue.offer().timeout(self.timeout.unwrap_or_default());
        if let Some(ttl) = self.ttl {
            offer = offer.ttl(ttl);
        }
        let put = match &payload {
            Given::Structure(json) => offer.put(json),
            Given::Bytes(bytes) => offer.put_bytes(bytes),
            Given::Counter(number) => offer.put_counter(*number),
        };
        match put {
            Ok(number) if tool.json => {
                write_json(out, object_of(json!({"queue": self.queue, "number": number})))?;
            }
            Ok(number) => writeln!(out, "{number}")?,
            Err(error) => return refused_or(error),
        }
        Ok(Outcome::Done)
    }
}
