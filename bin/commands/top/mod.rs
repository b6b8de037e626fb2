//! `top`: what goes on in a bus, live.

mod draw;
mod look;

use crate::error::{Failure, Outcome};
use crate::halt::Halt;
use crate::output::{object_of, write_json, write_table};
use crate::tool::Tool;
use crate::units::parse_duration;
use draw::{Screen, Wish};
use look::{Look, Tick};
use membus::BusReader;
use std::ffi::OsString;
use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

/// How soon a signal or a key is seen.
const TURN: Duration = Duration::from_millis(50);
/// Shorter intervals would measure the looks themselves.
const INTERVAL_MIN: Duration = Duration::from_millis(50);
/// Longer ones come to the same, and to no moment that a clock can tell.
const INTERVAL_MAX: Duration = Duration::from_secs(365 * 86_400);

/// Show what goes on in a bus, live; q or Ctrl-C ends it
///
/// Operations a second, how long they take, who does them, the busiest first; room, log, keeper, snapshots; what
/// is wrong. Only reads. Where standard output is no terminal one frame is written as text; with --json an
/// object a line for each tick, until a signal ends it. Readers are no members: what they do is in no figure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// Time between two looks
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
    /// One frame as text, or one object, and end
    #[arg(long)]
    once: bool,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let bus = tool.reader(&self.name)?;
        let halt = Halt::listen()?;
        let interval = self.interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        if tool.json || self.once || !stdout().is_terminal() {
            return self.write(tool, out, &bus, &halt, interval);
        }
        let mut screen = Screen::open(tool.colours)?;
        let end = watch(&mut screen, &bus, &halt, interval);
        drop(screen);
        end.map(|()| Outcome::Done)
    }

    fn write(
        &self,
        tool: &Tool,
        out: &mut impl Write,
        bus: &BusReader,
        halt: &Halt,
        interval: Duration,
    ) -> Result<Outcome, Failure> {
        let mut before = Look::at(bus, None)?;
        loop {
            let due = Instant::now() + interval;
            while Instant::now() < due {
                halt.check()?;
                std::thread::sleep(TURN.min(due.saturating_duration_since(Instant::now())));
            }
            let now = Look::at(bus, Some(&before))?;
            let tick = now.since(&before);
            if tool.json {
                write_json(out, object_of(tick.object()?))?;
                out.flush()?;
            } else {
                frame(out, &tick)?;
            }
            if self.once || !tool.json {
                return Ok(Outcome::Done);
            }
            before = now;
        }
    }
}

/// One frame as text.
fn frame(out: &mut impl Write, tick: &Tick<'_>) -> Result<(), Failure> {
    writeln!(out, "{}\n", tick.title())?;
    write_table(out, &["OPERATION", "PER SECOND", "TOTAL"], &tick.operations())?;
    writeln!(out)?;
    crate::output::write_fields(out, &tick.state())?;
    writeln!(out)?;
    write_table(out, &Tick::MEMBERS, &tick.members())?;
    writeln!(out)?;
    for issue in tick.issues() {
        writeln!(out, "{issue}")?;
    }
    Ok(())
}

fn watch(
    screen: &mut Screen,
    bus: &BusReader,
    halt: &Halt,
    interval: Duration,
) -> Result<(), Failure> {
    let mut before = Look::at(bus, None)?;
    let mut due = Instant::now();
    let mut now = Look::at(bus, Some(&before))?;
    loop {
        screen.draw(&now.since(&before))?;
        due += interval;
        // It was stopped, or the looks take longer than that.
        due = due.max(Instant::now());
        loop {
            halt.check()?;
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match screen.wish(left.min(TURN))? {
                Some(Wish::End) => return Ok(()),
                Some(Wish::Draw) => screen.draw(&now.since(&before))?,
                None => {}
            }
        }
        let next = Look::at(bus, Some(&now))?;
        before = std::mem::replace(&mut now, next);
    }
}
