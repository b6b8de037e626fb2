//! `members`: who is attached.

use crate::error::{Failure, Outcome};
use crate::follow::{Until, attach, follow};
use crate::halt::Halt;
use crate::output::{Colour, NOBODY, object_of, or_nobody, paint, write_json, write_table};
use crate::tool::Tool;
use crate::units::{parse_duration, show_time};
use membus::{Bus, BusReader, MemberEvent, MemberEvents, MemberInfo};
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;
use std::time::Duration;

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
        write_table(out, &["SLOT:GENERATION", "PID", "LABEL", "JOINED", "KEEPER", "STATE"], &rows)?;
        Ok(Outcome::Done)
    }

    fn follow(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let halt = Halt::listen()?;
        // A member is rung by others and finds the dead itself.
        let path = tool.path(&self.name)?;
        let mut events = attach(&path, None, Bus::member_events, BusReader::member_events)?;
        let until = Until { count: self.count, timeout: self.timeout, look: LOOK };
        let tell = |out: &mut _, event: &_| show(tool, out, event);
        follow(&mut events, &halt, until, out, MemberEvents::try_recv, |_| true, tell)
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
        format!("{}:{}", member.slot, member.generation),
        member.pid.to_string(),
        or_nobody(member.label.as_deref()),
        show_time(member.joined).unwrap_or_else(|| NOBODY.to_owned()),
        if member.keeper { "keeper" } else { NOBODY }.to_owned(),
        state,
    ]
}
