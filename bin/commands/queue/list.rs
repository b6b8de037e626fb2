//! `queue list`: what is in a queue and who has what; or which queues there are.

use crate::error::{Failure, Outcome};
use crate::output::{
    NOBODY, Object, entry_object, object_of, on_a_line, or_nobody, write_json, write_table,
};
use crate::tool::Tool;
use crate::units::{show_deadline, show_duration, show_time};
use crate::value::Shown;
use membus::{BusReader, QueueItem, ReadBus, Stat};
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;
use std::time::Duration;

/// Letters of a payload in a row.
const PREVIEW: usize = 40;
/// What the keys of queues begin with, and how that of its numbers ends.
const QUEUES: &str = "queue/";
const TAIL: &str = "/tail";

/// List the items of a queue, the oldest first, and who has them; or all queues
///
/// It takes nothing. In a row the payload is cut; `membus scan NAME queue/QUEUE/` shows everything as it
/// is stored.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// The queue; without one: which queues there are, and how many items are in them
    queue: Option<String>,
}

impl Args {
    pub(super) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let reader = tool.reader(&self.name)?;
        match &self.queue {
            Some(queue) => items(tool, &reader, queue, out),
            None => queues(tool, &reader, out),
        }
    }
}

fn queues(tool: &Tool, reader: &BusReader, out: &mut impl Write) -> Result<Outcome, Failure> {
    let mut names = Vec::new();
    for key in reader.keys(QUEUES)? {
        let name = std::str::from_utf8(&key).ok().and_then(|key| key.strip_prefix(QUEUES));
        names.extend(name.and_then(|name| name.strip_suffix(TAIL)).map(str::to_owned));
    }
    names.sort_unstable();
    let mut rows = Vec::new();
    for name in names {
        // One that nobody could use is no queue.
        let Ok(view) = reader.queue_view(&name) else { continue };
        let (items, taken) = (view.len()?, view.in_flight()?);
        if tool.json {
            write_json(out, object_of(json!({"queue": name, "items": items, "taken": taken})))?;
        } else {
            rows.push(vec![name, items.to_string(), taken.to_string()]);
        }
    }
    if !tool.json {
        write_table(out, &["QUEUE", "ITEMS", "TAKEN"], &rows)?;
    }
    Ok(Outcome::Done)
}

fn items(
    tool: &Tool,
    reader: &BusReader,
    queue: &str,
    out: &mut impl Write,
) -> Result<Outcome, Failure> {
    let view = reader.queue_view(queue)?;
    let mut rows = Vec::new();
    for item in view.items()? {
        let item = item?;
        if tool.json {
            write_json(out, object(&item))?;
        } else {
            rows.push(row(&item));
        }
    }
    if !tool.json {
        let headings = ["NUMBER", "PUT BY", "TAKEN BY", "FOR", "TRIES", "SIZE", "PAYLOAD"];
        write_table(out, &headings, &rows)?;
    }
    Ok(Outcome::Done)
}

fn row(item: &QueueItem) -> Vec<String> {
    let (claim, entry) = (item.claim.as_ref(), &item.entry);
    let taken_by = claim.map_or_else(|| NOBODY.to_owned(), |claim| or_nobody(claim.who.as_deref()));
    let time = claim.and_then(|claim| claim.expires_in).map_or_else(|| NOBODY.to_owned(), rounded);
    let payload = on_a_line(&Shown::of(entry.stat.kind, &entry.value).into_bytes());
    let mut shown: String = payload.chars().take(PREVIEW).collect();
    if shown.len() < payload.len() {
        shown.push('…');
    }
    vec![
        item.number.to_string(),
        or_nobody(entry.stat.who.as_deref()),
        taken_by,
        time,
        item.attempts.to_string(),
        entry.stat.size.to_string(),
        shown,
    ]
}

/// To the millisecond.
fn rounded(time: Duration) -> String {
    show_duration(Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
}

fn object(item: &QueueItem) -> Object {
    let mut object = object_of(json!({"number": item.number, "tries": item.attempts}));
    object.extend(entry_object(&item.entry));
    let claim = item.claim.as_ref().map(|claim: &Stat| {
        json!({
            "id": format!("{}-{}", item.number, claim.revision),
            "who": claim.who,
            "time": show_time(claim.time),
            "expires": claim.expires_in.and_then(show_deadline),
            "ephemeral": claim.ephemeral,
        })
    });
    object.insert("claim".into(), claim.into());
    object
}
