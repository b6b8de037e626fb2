//! `wait`: until a key is there, has a value, or is gone.

use super::watch::begin;
use crate::error::{Failure, Outcome};
use crate::follow::{LOOK, pause};
use crate::halt::Halt;
use crate::output::{entry_object, write_json};
use crate::tool::Tool;
use crate::units::parse_duration;
use crate::value::Shown;
use membus::{Cursor, Entry, ReadBus};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

/// Wait until a key is there, has a value, or is gone
///
/// Shows the value that was waited for. Exit status 1 when the time ran out. What did not last until it
/// was looked at may be missed; `watch` shows every change.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// The key
    key: OsString,
    /// The value to wait for, as `get` shows it; any, if it is not given
    #[arg(allow_negative_numbers = true)]
    value: Option<OsString>,
    /// Wait until the key is absent
    #[arg(long, conflicts_with = "value")]
    absent: bool,
    /// End after this time, with exit status 1
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let halt = Halt::listen()?;
        let reader = tool.reader(&self.name)?;
        let key = self.key.as_bytes();
        let end = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        // Before the first look: what changes after it is told.
        let mut watch = begin(&tool.path(&self.name)?, key, Some(Cursor::NOW))?;
        loop {
            halt.check()?;
            // One event a look: writers may be faster than who takes all that there are.
            let is_drained = watch.try_recv()?.is_none();
            let entry = reader.get_entry(key)?;
            if self.holds(entry.as_ref()) {
                return show(tool, out, entry);
            }
            let left = end.map_or(LOOK, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(Outcome::Absent);
            }
            // Where nobody keeps the bus, no record tells of an expiry.
            let expiry = entry.and_then(|entry| entry.stat.expires_in).unwrap_or(LOOK);
            if is_drained && !pause(&watch, &halt, left.min(LOOK).min(expiry))? {
                return Ok(Outcome::Done);
            }
        }
    }

    fn holds(&self, entry: Option<&Entry>) -> bool {
        match (entry, &self.value) {
            (None, _) => self.absent,
            (Some(_), None) => !self.absent,
            (Some(entry), Some(value)) => {
                Shown::of(entry.stat.kind, &entry.value).into_bytes() == value.as_bytes()
            }
        }
    }
}

fn show(tool: &Tool, out: &mut impl Write, entry: Option<Entry>) -> Result<Outcome, Failure> {
    if let Some(entry) = entry {
        if tool.json {
            write_json(out, entry_object(&entry))?;
        } else {
            out.write_all(&Shown::of(entry.stat.kind, &entry.value).into_bytes())?;
            writeln!(out)?;
        }
    }
    Ok(Outcome::Done)
}
