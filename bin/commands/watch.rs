//! `watch`: entries and changes, as they come.

use crate::error::{Failure, Outcome};
use crate::follow::{LOOK, Until, attach, follow};
use crate::halt::Halt;
use crate::output::{
    Object, entry_object, key_fields, object_of, on_a_line, or_nobody, value_fields, write_json,
};
use crate::tool::Tool;
use crate::units::{parse_duration, show_time};
use crate::value::Shown;
use membus::{Change, ChangeValue, Cursor, Event, Kind, OldValue, Watch};
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Show what is there, then every change: revision, kind, key, who, value
///
/// Current entries come first, then a line `caught-up CURSOR`, then changes, until the end of time
/// or as --count and --timeout say. A watch that fell behind says `lagged MISSED CURSOR` and goes on.
/// On a bus that may only be read it looks every few milliseconds.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// Only keys that begin with this
    #[arg(default_value = "", hide_default_value = true)]
    prefix: OsString,
    /// Only changes after this revision or cursor, as far as the log holds them
    #[arg(long, value_name = "REVISION|CURSOR", conflicts_with = "now")]
    from: Option<Cursor>,
    /// Only changes from now on
    #[arg(long)]
    now: bool,
    /// End after so many changes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time, with exit status 1
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let halt = Halt::listen()?;
        let cursor = if self.now { Some(Cursor::NOW) } else { self.from };
        let mut watch = begin(&tool.path(&self.name)?, self.prefix.as_bytes(), cursor)?;
        let until = Until { count: self.count, timeout: self.timeout, look: LOOK };
        let counts = |event: &Event| matches!(event, Event::Change(_));
        follow(&mut watch, &halt, until, out, Watch::try_recv, counts, |out, event| {
            if tool.json {
                write_json(out, object(event))?;
            } else {
                writeln!(out, "{}", line(event))?;
            }
            Ok(())
        })
    }
}

/// A watch from a cursor, or with what is there.
pub(crate) fn begin(path: &Path, prefix: &[u8], cursor: Option<Cursor>) -> Result<Watch, Failure> {
    attach(
        path,
        None,
        |bus| match cursor {
            Some(cursor) => bus.watch_from(prefix, cursor),
            None => bus.watch(prefix),
        },
        |reader| match cursor {
            Some(cursor) => reader.watch_from(prefix, cursor),
            None => reader.watch(prefix),
        },
    )
}

/// A value as it came.
enum Came {
    Nothing,
    Here(Shown),
    TooLarge(u64),
}

fn came(change: &Change) -> Came {
    match &change.value {
        ChangeValue::Here(bytes) => Came::Here(Shown::of(change.value_kind, bytes)),
        ChangeValue::TooLarge { size } => Came::TooLarge(*size),
        _ => Came::Nothing,
    }
}

/// An event on a line.
fn line(event: &Event) -> String {
    let fields = |revision: u64, kind: &str, key: &[u8], who: Option<&str>, value: Came| {
        let value = match value {
            Came::Nothing => String::new(),
            Came::Here(shown) => on_a_line(&shown.into_bytes()),
            Came::TooLarge(size) => format!("(too large: {size} bytes)"),
        };
        format!("{revision}\t{kind}\t{}\t{}\t{value}", on_a_line(key), or_nobody(who))
    };
    match event {
        Event::Current(entry) => {
            let value = Came::Here(Shown::of(entry.stat.kind, &entry.value));
            let stat = &entry.stat;
            fields(stat.revision.get(), "current", &entry.key, stat.who.as_deref(), value)
        }
        Event::CaughtUp(cursor) => format!("caught-up {cursor}"),
        Event::Change(change) => {
            let kind = change.kind.to_string();
            let who = change.who.as_deref();
            fields(change.revision.get(), &kind, &change.key, who, came(change))
        }
        Event::Lagged { missed, resume } => format!("lagged {missed} {resume}"),
        other => on_a_line(format!("{other:?}").as_bytes()),
    }
}

/// An event as an object; `kind` is what happened, `value_kind` what the value is.
fn object(event: &Event) -> Object {
    match event {
        Event::Current(entry) => {
            let mut object = object_of(json!({"kind": "current"}));
            for (name, value) in entry_object(entry) {
                let name = if name == "kind" { "value_kind".to_owned() } else { name };
                object.insert(name, value);
            }
            object
        }
        Event::CaughtUp(cursor) => {
            object_of(json!({"kind": "caught-up", "cursor": cursor.to_string()}))
        }
        Event::Lagged { missed, resume } => {
            object_of(json!({"kind": "lagged", "missed": missed, "cursor": resume.to_string()}))
        }
        Event::Change(change) => change_fields(change),
        other => object_of(json!({"kind": "other", "text": format!("{other:?}")})),
    }
}

/// What a change replaced or took away.
fn old_object(old: &OldValue) -> Object {
    let mut object = object_of(json!({"kind": old.kind.to_string()}));
    match &old.value {
        ChangeValue::Here(bytes) => {
            object.insert("size".into(), bytes.len().into());
            value_fields(Shown::of(old.kind, bytes), &mut object);
        }
        ChangeValue::TooLarge { size } => drop(object.insert("size".into(), (*size).into())),
        _ => {}
    }
    object
}

fn change_fields(change: &Change) -> Object {
    let mut object = object_of(json!({"kind": change.kind.to_string()}));
    object.insert("revision".into(), change.revision.get().into());
    if !change.key.is_empty() {
        key_fields(&change.key, &mut object);
    }
    object.insert("who".into(), change.who.clone().into());
    object.insert("time".into(), show_time(change.time).into());
    let size = match &change.value {
        ChangeValue::Here(bytes) => Some(bytes.len() as u64),
        ChangeValue::TooLarge { size } => Some(*size),
        _ => None,
    };
    match came(change) {
        Came::Nothing => {}
        Came::Here(shown) => value_fields(shown, &mut object),
        Came::TooLarge(_) => drop(object.insert("value".into(), json!(null))),
    }
    if let Some(old) = &change.old {
        object.insert("old".into(), old_object(old).into());
    }
    if let Some(size) = size {
        let kind: Kind = change.value_kind;
        object.insert("value_kind".into(), kind.to_string().into());
        object.insert("size".into(), size.into());
    }
    object
}
