//! `members`: who is attached.

use super::watch::pause;
use crate::error::{Failure, Outcome};
use crate::halt::Halt;
use crate::output::{Colour, NOBODY, object_of, or_nobody, paint, write_json, write_table};
use crate::tool::{Tool, options};
use crate::units::{parse_duration, show_time};
use membus::{BusReader, MemberEvent, MemberEvents, MemberInfo, OpenError};
use serde_json::json;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often the dead are looked for where nobody keeps the bus.
const LOOK: Duration = Duration::from_millis(250);

/// List who is attached, and whether it lives
///
/// A member is a handle that writes. The dead stay in the list until they are buried. With --watch those
/// who are there are shown as joined, this command among them, then a line for each who joins, leaves or
/// dies; `missed N` stands for those who came and went too fast, `gone` for an end that was not seen.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// Show who comes and goes
    #[arg(long)]
    watch: bool,
    /// End after so many lines
    #[arg(long, value_name = "N", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time, with exit status 1
    #[arg(long, value_name = "DURATION", requires = "watch", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        if self.watch {
            return self.follow(tool, out);
        }
        let members = tool.reader(&self.name)?.members()?;
        if tool.json {
            for member in &members {
                write_json(out, object_of(object(member)))?;
            }
            return Ok(Outcome::Done);
        }
        let rows: Vec<_> = members.iter().map(|member| row(tool, member)).collect();
        write_table(out, &["SLOT", "PID", "LABEL", "JOINED", "KEEPER", "STATE"], &rows)?;
        Ok(Outcome::Done)
    }

    fn follow(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let halt = Halt::listen()?;
        let mut events = begin(&tool.path(&self.name)?)?;
        let end = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut shown = 0;
        loop {
            halt.check()?;
            let left = end.map_or(LOOK, |end| end.saturating_duration_since(Instant::now()));
            let Some(event) = events.try_recv()? else {
                if left.is_zero() {
                    return Ok(Outcome::Absent);
                }
                if pause(&events, &halt, left.min(LOOK))? {
                    continue;
                }
                return Ok(Outcome::Done);
            };
            show(tool, out, &event)?;
            out.flush()?;
            shown += 1;
            if self.count.is_some_and(|count| shown >= count) {
                return Ok(Outcome::Done);
            }
        }
    }
}

/// As a member, whom others ring and who finds the dead; as a reader, where the files may only be read.
fn begin(path: &Path) -> Result<MemberEvents, Failure> {
    match options(None).attach_at(path) {
        Ok(bus) => Ok(bus.member_events()?),
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            Ok(BusReader::open_at(path)?.member_events()?)
        }
        Err(error) => Err(error.into()),
    }
}

/// What happened to whom.
fn told(event: &MemberEvent) -> (&'static str, Option<&MemberInfo>, u64) {
    match event {
        MemberEvent::Joined(member) => ("joined", Some(member), 1),
        MemberEvent::Left { member, died: Some(true) } => ("died", Some(member), 1),
        MemberEvent::Left { member, died: Some(false) } => ("left", Some(member), 1),
        MemberEvent::Left { member, .. } => ("gone", Some(member), 1),
        MemberEvent::Missed { count } => ("missed", None, *count),
        _ => ("unknown", None, 1),
    }
}

fn show(tool: &Tool, out: &mut impl Write, event: &MemberEvent) -> Result<(), Failure> {
    let (what, member, count) = told(event);
    if tool.json {
        let mut line = object_of(json!({ "event": what }));
        match member {
            Some(member) => line.extend(object_of(object(member))),
            None => drop(line.insert("count".into(), count.into())),
        }
        // How it ended is the event.
        line.remove("alive");
        write_json(out, line)?;
    } else if let Some(member) = member {
        let (slot, generation, pid) = (member.slot, member.generation, member.pid);
        writeln!(out, "{what} {slot}:{generation} {pid} {}", or_nobody(member.label.as_deref()))?;
    } else {
        writeln!(out, "{what} {count}")?;
    }
    Ok(())
}

fn object(member: &MemberInfo) -> serde_json::Value {
    json!({
        "slot": member.slot,
        "generation": member.generation,
        "pid": member.pid,
        "label": member.label,
        "joined": show_time(member.joined),
        "alive": member.alive,
        "keeper": member.keeper,
    })
}

fn row(tool: &Tool, member: &MemberInfo) -> Vec<String> {
    let state = if member.alive {
        paint(tool.colours, Colour::Green, "alive")
    } else {
        paint(tool.colours, Colour::Red, "dead")
    };
    vec![
        member.slot.to_string(),
        member.pid.to_string(),
        or_nobody(member.label.as_deref()),
        show_time(member.joined).unwrap_or_else(|| NOBODY.to_owned()),
        if member.keeper { "keeper" } else { NOBODY }.to_owned(),
        state,
    ]
}
