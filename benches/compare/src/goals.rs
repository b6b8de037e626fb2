//! What membus is to reach, each as a ratio within the run, so that no machine's speed is in it.
//!
//! A goal is where it should be; a limit that is due is where it must be now. Both are given as the
//! ratio that a reader expects: of times (less is better) or of rates (more is better).

use std::io::{self, Write};

use crate::cell::CellReport;
use crate::engines::Name;
use crate::figure::{Pass, Setup};
use crate::owners::{Held, OwnersReport};
use crate::report::{Report, ValueReport};
use crate::snapshot::{Return, SnapshotReport};
use crate::wake::{Means, Pace, WakeReport};
use crate::watches::WatchesReport;

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sense {
    AtMost,
    AtLeast,
}

/// One goal, with what the run found.
#[derive(Debug, Clone)]
struct Goal {
    what: String,
    unit: &'static str,
    sense: Sense,
    found: Option<f64>,
    goal: f64,
    due: Option<f64>,
}

impl Goal {
    fn at_most(what: String, found: Option<f64>, goal: f64) -> Self {
        Self { what, unit: "×", sense: Sense::AtMost, found, goal, due: None }
    }

    fn at_least(what: String, found: Option<f64>, goal: f64) -> Self {
        Self { what, unit: "×", sense: Sense::AtLeast, found, goal, due: None }
    }

    fn due(self, limit: f64) -> Self {
        Self { due: Some(limit), ..self }
    }

    fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    fn holds(&self, limit: f64) -> Option<bool> {
        self.found.map(|found| match self.sense {
            Sense::AtMost => found <= limit,
            Sense::AtLeast => found >= limit,
        })
    }

    fn verdict(&self) -> &'static str {
        match (self.holds(self.goal), self.due.and_then(|limit| self.holds(limit))) {
            (None, _) => "not measured",
            (Some(true), _) => "reached",
            (Some(false), Some(true)) => "due limit held, goal missed",
            (Some(false), Some(false)) => "DUE LIMIT MISSED",
            (Some(false), None) => "goal missed",
        }
    }

    fn limit(&self, limit: f64) -> String {
        let sign = if self.sense == Sense::AtMost { "≤" } else { "≥" };
        format!("{sign} {limit} {}", self.unit)
    }
}

/// The time of membus over that of `other`.
fn against(value: &ValueReport, other: Name, pass: Pass) -> Option<f64> {
    Some(value.time(Name::Membus, pass)? / value.time(other, pass)?)
}

/// How many times faster than `other` membus is.
fn faster(value: &ValueReport, other: Name, pass: Pass) -> Option<f64> {
    against(value, other, pass).map(|ratio| 1.0 / ratio)
}

fn small_goals(value: &ValueReport, goals: &mut Vec<Goal>) {
    let size = value.value_size;
    for (pass, order) in [(Pass::GetUniform, "uniform"), (Pass::GetZipf, "zipf")] {
        let what = |other: &str| format!("get {size} B, {order}, {other}");
        let ratio = against(value, Name::Dashmap, pass);
        goals.push(Goal::at_most(what("time / dashmap's"), ratio, 0.8).due(1.5));
        goals.push(Goal::at_least(what("LMDB's time /"), faster(value, Name::Lmdb, pass), 4.0));
        goals.push(Goal::at_least(what("Redis's time /"), faster(value, Name::Redis, pass), 50.0));
    }
    let ratio = against(value, Name::Dashmap, Pass::GetMiss);
    goals.push(Goal::at_most("get absent key, time / dashmap's".to_owned(), ratio, 2.0));
    for (pass, order) in [(Pass::SetUniform, "uniform"), (Pass::SetZipf, "zipf")] {
        let what = |other: &str| format!("set {size} B, {order}, {other}");
        let ratio = against(value, Name::Dashmap, pass);
        goals.push(Goal::at_most(what("time / dashmap's"), ratio, 1.0).due(2.0));
        goals.push(Goal::at_least(what("LMDB's time /"), faster(value, Name::Lmdb, pass), 6.0));
    }
    let rate = value.time(Name::Membus, Pass::Add).map(|time| 1e3 / time);
    goals.push(Goal::at_least("counter add, one process".to_owned(), rate, 5.0).unit("M/s"));
    let beyond = value.overhead(Name::Membus);
    let what = format!("memory beyond key and value, {size} B");
    goals.push(Goal::at_most(what, beyond, 72.0).unit("B"));
}

fn large_goals(value: &ValueReport, goals: &mut Vec<Goal>) {
    for (pass, order) in [(Pass::GetUniform, "uniform"), (Pass::GetZipf, "zipf")] {
        let what = format!("get {} B, {order}, time / dashmap's", value.value_size);
        goals.push(Goal::at_most(what, against(value, Name::Dashmap, pass), 1.0));
    }
}

fn two_goals(value: &ValueReport, goals: &mut Vec<Goal>) {
    let rate = |engine, setup, reads| value.two.rate(engine, setup, reads);
    for (reads, goal) in [(100, 0.95), (95, 0.9), (50, 0.8)] {
        let shared = rate(Name::Membus, Setup::Shared, reads);
        let apart = rate(Name::Membus, Setup::Apart, reads);
        let ratio = shared.zip(apart).map(|(shared, apart)| shared / apart);
        let what = format!("two processes {reads}/{}, one bus / two buses", 100 - reads);
        goals.push(Goal::at_least(what, ratio, goal));
    }
    let lmdb = rate(Name::Lmdb, Setup::Shared, 50);
    let ratio = rate(Name::Membus, Setup::Shared, 50).zip(lmdb).map(|(own, other)| own / other);
    goals.push(Goal::at_least("two processes 50/50, rate / LMDB's".to_owned(), ratio, 20.0));
}

fn cell_goals(cell: &CellReport, goals: &mut Vec<Goal>) {
    let what = "unchanged value, cell / iceoryx2's held handle".to_owned();
    goals.push(Goal::at_most(what, cell.ratio(), 1.0));
}

fn wake_goals(wake: &WakeReport, goals: &mut Vec<Goal>) {
    for pace in Pace::ALL {
        let own = wake.time(Means::MembusPoll, pace);
        let against = |other: Option<f64>| Some(own? / other?);
        let what = |other: &str| format!("wake a sleeper, {}, time / {other}", pace.word());
        let ratio = against(wake.socket(pace));
        goals.push(Goal::at_most(what("raw socket's"), ratio, 1.15));
        let others = [
            (Means::Iceoryx2, "iceoryx2's"),
            (Means::ZeroMq, "ZeroMQ's"),
            (Means::Redis, "Redis's"),
        ];
        for (means, name) in others {
            goals.push(Goal::at_most(what(name), against(wake.time(means, pace)), 1.0));
        }
    }
    let awake = wake.time(Means::MembusAwake, Pace::Busy);
    goals.push(Goal::at_most("wake one that is awake".to_owned(), awake, 0.5).unit("µs"));
}

fn owners_goals(owners: &OwnersReport, goals: &mut Vec<Goal>) {
    let batch = owners.recovery(Held::Batch, 0.99);
    let what = "a writer got SIGKILL: next set, p99".to_owned();
    goals.push(Goal::at_most(what, batch, 20.0).unit("ms"));
    let key = owners.recovery(Held::Key, 1.0);
    let what = "an owner got SIGKILL: its ephemeral key".to_owned();
    goals.push(Goal::at_most(what, key, 250.0).unit("ms"));
}

fn watches_goals(watches: &WatchesReport, goals: &mut Vec<Goal>) {
    let what = format!("set beside {} watches of other keys / none", watches.most());
    goals.push(Goal::at_most(what, watches.ratio(), 1.1));
}

fn snapshot_goals(snapshot: &SnapshotReport, goals: &mut Vec<Goal>) {
    let what = "snapshot, image: rate / the disk's write + fsync".to_owned();
    goals.push(Goal::at_least(what, snapshot.of_raw(), 0.8));
    let what = "set during a snapshot, p99.9 / without".to_owned();
    goals.push(Goal::at_most(what, snapshot.waits(), 2.0));
    let what = "memory that a snapshot under load adds / all".to_owned();
    goals.push(Goal::at_most(what, snapshot.growth(), 0.25));
    let returns = [
        (Return::OpenImage, "open from an image, 1 M entries"),
        (Return::Restore, "restore of an image, 1 M entries"),
    ];
    for (by, what) in returns {
        let took = snapshot.return_of_a_million(by);
        goals.push(Goal::at_most(what.to_owned(), took, 1.0).unit("s"));
    }
}

/// Every goal of the report; the first size of values stands for small ones.
fn all(report: &Report) -> Vec<Goal> {
    let mut goals = Vec::new();
    for value in &report.values {
        if value.value_size <= 128 {
            small_goals(value, &mut goals);
        } else {
            large_goals(value, &mut goals);
        }
        if !value.two.figures.is_empty() {
            two_goals(value, &mut goals);
        }
    }
    report.cell.iter().for_each(|cell| cell_goals(cell, &mut goals));
    report.wake.iter().for_each(|wake| wake_goals(wake, &mut goals));
    report.watches.iter().for_each(|watches| watches_goals(watches, &mut goals));
    report.owners.iter().for_each(|owners| owners_goals(owners, &mut goals));
    report.snapshot.iter().for_each(|snapshot| snapshot_goals(snapshot, &mut goals));
    goals
}

/// Whether every limit that is due and was measured is held.
pub(crate) fn due_limits_hold(report: &Report) -> bool {
    let goals = all(report);
    goals.iter().all(|goal| goal.due.and_then(|limit| goal.holds(limit)).unwrap_or(true))
}

/// Sets the goals as a table; those that nothing was measured for are left out.
pub(crate) fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let goals: Vec<Goal> = all(report).into_iter().filter(|goal| goal.found.is_some()).collect();
    if goals.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{:48}{:>9}{:>12}{:>12}  verdict", "goals", "found", "goal", "due")?;
    for goal in goals {
        let found = goal.found.unwrap_or(f64::NAN);
        let due = goal.due.map_or_else(String::new, |limit| goal.limit(limit));
        let (limit, verdict) = (goal.limit(goal.goal), goal.verdict());
        writeln!(out, "{:48}{found:>9.2}{limit:>12}{due:>12}  {verdict}", goal.what)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_follows_goal_and_due_limit() {
        let goal = |found| Goal::at_most(String::new(), found, 0.8).due(1.5).verdict();
        assert_eq!(goal(Some(0.8)), "reached");
        assert_eq!(goal(Some(1.2)), "due limit held, goal missed");
        assert_eq!(goal(Some(1.6)), "DUE LIMIT MISSED");
        assert_eq!(goal(None), "not measured");
        assert_eq!(Goal::at_least(String::new(), Some(3.0), 4.0).verdict(), "goal missed");
    }
}
