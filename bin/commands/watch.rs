//! `watch`: entries and changes, as they come.

use crate::error::{Failure, Outcome};
use crate::halt::Halt;
use crate::output::{
    Object, entry_object, key_fields, object_of, on_a_line, or_nobody, value_fields, write_json,
};
use crate::tool::{Tool, options};
use crate::units::{parse_duration, show_time};
use crate::value::Shown;
use membus::{
    Bus, BusReader, Change, ChangeValue, Cursor, Event, Kind, OldValue, OpenError, Watch,
    WatchError,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use serde_json::json;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a watch trusts its descriptor before it looks by itself.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

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
        let end = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut changes = 0;
        loop {
            // Ended by a signal it leaves the bus as at any end: no dead member stays behind.
            halt.check()?;
            let left = end.map_or(LOOK, |end| end.saturating_duration_since(Instant::now()));
            let event = watch.try_recv()?;
            // What was there is told whole, however little time there is.
            if left.is_zero() && matches!(event, None | Some(Event::Change(_))) {
                return Ok(Outcome::Absent);
            }
            let Some(event) = event else {
                if pause(&watch, &halt, left.min(LOOK))? {
                    continue;
                }
                return Ok(Outcome::Done);
            };
            if tool.json {
                write_json(out, object(&event))?;
            } else {
                writeln!(out, "{}", line(&event))?;
            }
            out.flush()?;
            changes += u64::from(matches!(event, Event::Change(_)));
            if self.count.is_some_and(|count| changes >= count) {
                return Ok(Outcome::Done);
            }
        }
    }
}

/// A watch of a member, whom writers wake; of a reader, where the files may only be read.
pub(crate) fn begin(path: &Path, prefix: &[u8], cursor: Option<Cursor>) -> Result<Watch, Failure> {
    match options(None).attach_at(path) {
        Ok(bus) => Ok(member_watch(&bus, prefix, cursor)?),
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            let reader = BusReader::open_at(path)?;
            Ok(match cursor {
                Some(cursor) => reader.watch_from(prefix, cursor)?,
                None => reader.watch(prefix)?,
            })
        }
        Err(error) => Err(error.into()),
    }
}

fn member_watch(bus: &Bus, prefix: &[u8], cursor: Option<Cursor>) -> Result<Watch, WatchError> {
    match cursor {
        Some(cursor) => bus.watch_from(prefix, cursor),
        None => bus.watch(prefix),
    }
}

/// Waits for news, a signal, or this time; gives whether anybody still reads the output, as far as it
/// is a pipe or a socket.
pub(crate) fn pause(watch: &impl AsFd, halt: &Halt, time: Duration) -> Result<bool, Failure> {
    let out = io::stdout();
    let mut descriptors = [
        PollFd::new(watch.as_fd(), PollFlags::POLLIN),
        PollFd::new(halt.as_fd(), PollFlags::POLLIN),
        PollFd::new(out.as_fd(), PollFlags::empty()),
    ];
    let time = u16::try_from(time.as_millis()).unwrap_or(u16::MAX).max(1);
    match poll(&mut descriptors, time) {
        // A signal came: it is looked at next.
        Err(Errno::EINTR) | Ok(_) => {}
        Err(error) => {
            return Err(Failure::io("waiting for", Path::new("changes"))(error.into()));
        }
    }
    let closed = PollFlags::POLLERR | PollFlags::POLLHUP;
    let [.., out] = &descriptors;
    Ok(!out.revents().is_some_and(|seen| seen.intersects(closed)))
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
