//! `subscribe`: messages, as they come.

use crate::error::{Failure, Outcome};
use crate::follow::{LOOK, Until, attach, follow};
use crate::halt::Halt;
use crate::output::{
    Object, key_fields, object_of, on_a_line, or_nobody, value_fields, write_json,
};
use crate::tool::Tool;
use crate::units::{parse_duration, show_deadline, show_time};
use crate::value::Shown;
use membus::{Begin, Cursor, Message, Notice, Subscriber, Target};
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;
use std::time::Duration;

/// Show messages as they come: revision, topic, source, priority, payload
///
/// In a pattern `*` stands for any characters, `?` for one, `\` takes the next one as it is; one that
/// ends with `/` stands for all topics below it. Of what waits, the highest priority comes first. The
/// bus tells its own changes under value_changed, value_deleted, cache_cleared and data_restored, to
/// patterns that do not begin with a wildcard. Who fell behind is told `lagged MISSED CURSOR`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// Which topics, such as `alerts/` or `*.disk`
    pattern: String,
    /// With messages that the log still holds and that have not expired
    #[arg(long, conflicts_with = "from")]
    alive: bool,
    /// After this revision or cursor, as far as the log holds it
    #[arg(long, value_name = "REVISION|CURSOR")]
    from: Option<Cursor>,
    /// What this subscriber is called: messages for this label reach it too [default: cli]
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time, with exit status 1
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let halt = Halt::listen()?;
        let begin = match self.from {
            Some(cursor) => Begin::After(cursor),
            None if self.alive => Begin::Alive,
            None => Begin::Now,
        };
        let mut subscriber = attach(
            &tool.path(&self.name)?,
            self.label.as_deref(),
            |bus| bus.subscribe_from(&self.pattern, begin),
            |reader| reader.subscribe_from(&self.pattern, begin),
        )?;
        let until = Until { count: self.count, timeout: self.timeout, look: LOOK };
        let counts = |notice: &Notice| matches!(notice, Notice::Message(_));
        follow(&mut subscriber, &halt, until, out, Subscriber::try_recv, counts, |out, notice| {
            if tool.json {
                write_json(out, object(notice))?;
            } else {
                writeln!(out, "{}", line(notice))?;
            }
            Ok(())
        })
    }
}

/// A notice on a line.
fn line(notice: &Notice) -> String {
    match notice {
        Notice::Message(message) => {
            let payload = Shown::of(message.kind, &message.payload).into_bytes();
            let key = message.key.as_ref().map(|key| format!("{}\t", on_a_line(key)));
            format!(
                "{}\t{}\t{}\t{}\t{}{}",
                message.cursor.revision,
                on_a_line(message.topic.as_bytes()),
                or_nobody(message.source.as_deref()),
                message.priority,
                key.unwrap_or_default(),
                on_a_line(&payload)
            )
        }
        Notice::Lagged { missed, resume } => format!("lagged {missed} {resume}"),
        other => on_a_line(format!("{other:?}").as_bytes()),
    }
}

/// A notice as an object.
fn object(notice: &Notice) -> Object {
    match notice {
        Notice::Message(message) => message_object(message),
        Notice::Lagged { missed, resume } => {
            object_of(json!({"kind": "lagged", "missed": missed, "cursor": resume.to_string()}))
        }
        other => object_of(json!({"kind": "other", "text": format!("{other:?}")})),
    }
}

fn message_object(message: &Message) -> Object {
    let mut object = object_of(json!({
        "kind": "message",
        "topic": message.topic,
        "id": message.id,
        "cursor": message.cursor.to_string(),
        "revision": message.cursor.revision,
        "who": message.source,
        "time": show_time(message.time),
        "priority": message.priority,
        "expires": message.expires_in.and_then(show_deadline),
        "target": message.target.as_ref().map(|target| match target {
            Target::Label(label) => label.clone(),
            Target::Member(member) => member.to_string(),
        }),
        "value_kind": message.kind.to_string(),
        "size": message.payload.len(),
    }));
    if let Some(key) = &message.key {
        key_fields(key, &mut object);
    }
    value_fields(Shown::of(message.kind, &message.payload), &mut object);
    object
}
