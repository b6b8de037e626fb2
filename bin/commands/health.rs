//! `health`: what is wrong with a bus, and what to do about it.

use crate::error::{Failure, Outcome};
use crate::output::{Colour, object_of, paint, write_json};
use crate::tool::Tool;
use crate::units::{parse_duration, show_time};
use membus::{Health, Status, Thresholds};
use std::ffi::OsString;
use std::io::Write;
use std::time::Duration;

/// Say what is wrong with a bus, and what to do about it
///
/// Exit status 0: healthy; 1: it is not; 2: an error, an absent bus too. Counts, as of errors, are those since
/// the region was made; with --over those of the time that this command watches.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// Above which figure something is an issue: errors=N, mean=DURATION, queue=N, lagged=N,
    /// fullness=PART (0 to 1), snapshot-failures=N, snapshot-age=DURATION, keeper-silence=DURATION,
    /// lock-held=DURATION; may be given several times
    #[arg(long = "threshold", value_name = "NAME=FIGURE", value_parser = Threshold::parse)]
    thresholds: Vec<Threshold>,
    /// Judge what is counted in this time from now on
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    over: Option<Duration>,
}

/// One threshold that was given.
#[derive(Debug, Clone, PartialEq)]
enum Threshold {
    Errors(u64),
    Mean(Duration),
    Queue(u64),
    Lagged(u64),
    Fullness(f64),
    SnapshotFailures(u64),
    SnapshotAge(Duration),
    KeeperSilence(Duration),
    LockHeld(Duration),
}

impl Threshold {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, figure) = text.split_once('=').ok_or("give NAME=FIGURE, such as errors=10")?;
        let count =
            || figure.parse::<u64>().map_err(|_| format!("`{figure}` is no count: give a number"));
        Ok(match name {
            "errors" => Self::Errors(count()?),
            "mean" => Self::Mean(parse_duration(figure)?),
            "queue" => Self::Queue(count()?),
            "lagged" => Self::Lagged(count()?),
            "fullness" => {
                let part = figure.parse().ok().filter(|part| (0.0..=1.0).contains(part));
                Self::Fullness(part.ok_or_else(|| format!("`{figure}` is no part from 0 to 1"))?)
            }
            "snapshot-failures" => Self::SnapshotFailures(count()?),
            "snapshot-age" => Self::SnapshotAge(parse_duration(figure)?),
            "keeper-silence" => Self::KeeperSilence(parse_duration(figure)?),
            "lock-held" => Self::LockHeld(parse_duration(figure)?),
            _ => return Err(format!("there is no threshold `{name}`; see `membus health --help`")),
        })
    }

    fn apply(&self, to: &mut Thresholds) {
        match *self {
            Self::Errors(count) => to.errors = count,
            Self::Mean(time) => to.mean = time,
            Self::Queue(count) => to.queue = count,
            Self::Lagged(count) => to.lagged = count,
            Self::Fullness(part) => to.fullness = part,
            Self::SnapshotFailures(count) => to.snapshot_failures = count,
            Self::SnapshotAge(time) => to.snapshot_age = Some(time),
            Self::KeeperSilence(time) => to.keeper_silence = time,
            Self::LockHeld(time) => to.lock_held = time,
        }
    }
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let mut thresholds = Thresholds::default();
        self.thresholds.iter().for_each(|one| one.apply(&mut thresholds));
        let reader = tool.reader(&self.name)?;
        let health = match self.over {
            Some(time) => {
                let before = reader.metrics()?;
                std::thread::sleep(time);
                reader.health_since(&before, &thresholds)
            }
            None => reader.health(&thresholds),
        };
        if tool.json {
            let mut object = serde_json::to_value(&health).map_err(std::io::Error::from)?;
            object["time"] = show_time(health.time).into();
            write_json(out, object_of(object))?;
        } else {
            tell(tool, out, &health)?;
        }
        Ok(if health.is_healthy() { Outcome::Done } else { Outcome::Absent })
    }
}

fn coloured(tool: &Tool, status: Status) -> String {
    let colour = if status == Status::Healthy { Colour::Green } else { Colour::Red };
    paint(tool.colours, colour, &status.to_string())
}

fn tell(tool: &Tool, out: &mut impl Write, health: &Health) -> Result<(), Failure> {
    writeln!(out, "status       {}", coloured(tool, health.status))?;
    let sections = [
        ("memory", health.memory.status),
        ("persistence", health.persistence.status),
        ("messaging", health.messaging.status),
        ("reliability", health.reliability.status),
        ("performance", health.performance.status),
    ];
    for (name, status) in sections {
        writeln!(out, "{name:11}  {}", coloured(tool, status))?;
    }
    for issue in &health.issues {
        let what = crate::output::one_line(&issue.what);
        writeln!(out, "{}: {}: {what}", issue.severity, issue.code)?;
        writeln!(out, "    {}", issue.action)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: each threshold of the library can be given, and what is none is refused.
    /// Plant: `lagged` that sets the queue.
    #[test]
    fn thresholds() {
        let mut all = Thresholds::default();
        for text in [
            "errors=1",
            "mean=2s",
            "queue=3",
            "lagged=4",
            "fullness=0.5",
            "snapshot-failures=6",
            "snapshot-age=7s",
            "keeper-silence=8s",
            "lock-held=9ms",
        ] {
            Threshold::parse(text).unwrap().apply(&mut all);
        }
        assert_eq!((all.errors, all.queue, all.lagged, all.snapshot_failures), (1, 3, 4, 6));
        let seconds = Duration::from_secs;
        assert_eq!((all.mean, all.snapshot_age), (seconds(2), Some(seconds(7))));
        assert_eq!((all.keeper_silence, all.lock_held), (seconds(8), Duration::from_millis(9)));
        assert!((all.fullness - 0.5).abs() < 1e-9);
        for wrong in
            ["errors", "errors=", "errors=-1", "mean=x", "fullness=2", "fullness=NaN", "x=1"]
        {
            assert!(Threshold::parse(wrong).is_err(), "{wrong}");
        }
    }
}
