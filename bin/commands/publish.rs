//! `publish`: tells a message.

use crate::error::{Failure, Outcome};
use crate::output::{Object, write_json};
use crate::tool::{Tool, argument_or_stdin};
use crate::units::parse_duration;
use crate::value::{Form, Given};
use membus::{MemberId, Target};
use std::ffi::OsString;
use std::io::Write;
use std::time::Duration;

/// Publish a message under a topic; prints the revision
///
/// It reaches everybody who subscribes to a pattern that matches the topic, as long as the log holds it
/// and --ttl has not run out. The payload is text unless --as says otherwise; `-` reads it from
/// standard input.
#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// The topic, such as `alerts/disk`
    topic: String,
    /// The payload; `-` is standard input, and without one it is empty
    #[arg(value_name = "PAYLOAD|-")]
    payload: Option<OsString>,
    /// As what the payload is sent
    #[arg(long = "as", value_enum, default_value = "text", value_name = "FORM")]
    form: Form,
    /// The same as `--as raw`
    #[arg(long, conflicts_with = "form")]
    raw: bool,
    /// How long it may be delivered, such as 300ms, 5s or 2h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// Only for members with this label
    #[arg(long, value_name = "LABEL", conflicts_with = "member")]
    target: Option<String>,
    /// Only for this member, as `members` shows it
    #[arg(long, value_name = "SLOT:GENERATION")]
    member: Option<MemberId>,
    /// Of what waits, the highest comes first
    #[arg(long, value_name = "N", default_value_t = 0)]
    priority: i32,
    /// What it is called [default: its cursor]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Who publishes it [default: cli]
    #[arg(long, value_name = "LABEL")]
    who: Option<String>,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let form = if self.raw { Form::Raw } else { self.form };
        let bytes = self.payload.as_ref().map(argument_or_stdin).transpose()?.unwrap_or_default();
        let payload = Given::parse(form, bytes).map_err(Failure::Input)?;
        let bus = tool.attach(&self.name, self.who.as_deref())?;
        let mut message = bus.message(&self.topic).priority(self.priority);
        if let Some(ttl) = self.ttl {
            message = message.ttl(ttl);
        }
        if let Some(id) = &self.id {
            message = message.id(id);
        }
        let label = self.target.clone().map(Target::Label);
        if let Some(target) = label.or(self.member.map(Target::Member)) {
            message = message.target(target);
        }
        let revision = match payload {
            Given::Structure(json) => message.send(&json)?,
            Given::Counter(number) => message.send(&number)?,
            Given::Bytes(bytes) => message.send_bytes(bytes)?,
        };
        if tool.json {
            let mut object = Object::new();
            object.insert("topic".into(), self.topic.clone().into());
            object.insert("revision".into(), revision.get().into());
            write_json(out, object)?;
        } else {
            writeln!(out, "{revision}")?;
        }
        Ok(Outcome::Done)
    }
}
