//! What a bus did between two looks, and how it is.

use crate::error::Failure;
use crate::output::{NOBODY, one_line, or_nobody};
use crate::units::{show_duration, show_measured, show_size, show_time};
use membus::{
    BusReader, Health, Info, Latencies, MemberInfo, MemberMetrics, Metrics, Status, Thresholds,
};
use serde_json::{Value as Json, json};
use std::time::{Duration, Instant};

/// The bus at a tick.
#[derive(Debug)]
pub(super) struct Look {
    at: Instant,
    metrics: Metrics,
    info: Info,
    health: Health,
    members: Vec<MemberInfo>,
}

/// What happened since the look before.
#[derive(Debug)]
pub(super) struct Tick<'a> {
    now: &'a Look,
    since: Metrics,
    over: Duration,
}

impl Look {
    /// Looks; what is counted is judged since the look before.
    pub(super) fn at(bus: &BusReader, before: Option<&Self>) -> Result<Self, Failure> {
        let thresholds = Thresholds::default();
        let health = match before {
            Some(before) => bus.health_since(&before.metrics, &thresholds),
            None => bus.health(&thresholds),
        };
        // Of a bus that is gone there is nothing to show but what was.
        let gone = health.issues.iter().find(|issue| issue.code == "gone");
        if let Some(gone) = gone {
            return Err(Failure::Input(format!("{}; {}", gone.what, gone.action)));
        }
        let (metrics, at) = (bus.metrics()?, Instant::now());
        Ok(Self { at, metrics, info: bus.info()?, health, members: bus.members()? })
    }

    pub(super) fn since<'a>(&'a self, before: &Self) -> Tick<'a> {
        let over = self.at.duration_since(before.at);
        Tick { now: self, since: self.metrics.since(&before.metrics), over }
    }
}

/// Times for people, of a tick in which something was timed.
fn times(of: &Latencies) -> String {
    if of.samples() == 0 {
        return NOBODY.to_owned();
    }
    let [p50, p99] = [0.5, 0.99].map(|part| show_measured(of.quantile(part)));
    format!("p50 {p50}, p99 {p99}")
}

fn times_object(of: &Latencies) -> Json {
    let part = |part| (of.samples() > 0).then(|| of.quantile(part).as_secs_f64());
    json!({ "samples": of.samples(), "p50": part(0.5), "p99": part(0.99) })
}

/// A rate for people.
fn show_rate(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

impl Tick<'_> {
    fn rate(&self, count: u64) -> f64 {
        count as f64 / self.over.as_secs_f64().max(1e-9)
    }

    pub(super) fn status(&self) -> Status {
        self.now.health.status
    }

    /// What it is, in a line.
    pub(super) fn title(&self) -> String {
        let Info { name, revision, entries, members, watches, .. } = &self.now.info;
        let counts = format!("{entries} entries, {members} members, {watches} watches");
        format!("{}  revision {revision}, {counts}", one_line(name))
    }

    /// Operations that were done in this tick and since the region was made, the busiest first.
    fn counts(&self) -> Vec<(&'static str, u64, u64)> {
        let pick = |of: &Metrics| {
            let (done, told) = (&of.operations, &of.messaging);
            [
                ("gets", done.gets),
                ("sets", done.sets),
                ("adds", done.adds),
                ("deletes", done.deletes),
                ("batches", done.commits),
                ("locks", done.lock_changes),
                ("messages", told.messages),
                ("events", told.events),
                ("conflicts", done.conflicts),
                ("errors", of.errors.total),
            ]
        };
        let (now, all) = (pick(&self.since), pick(&self.now.metrics));
        let both = now.into_iter().zip(all);
        let mut counts: Vec<_> =
            both.map(|((name, since), (_, total))| (name, since, total)).collect();
        counts.sort_by_key(|(_, since, total)| std::cmp::Reverse((*since, *total)));
        counts
    }

    /// Rows of operations: name, per second, in all.
    pub(super) fn operations(&self) -> Vec<Vec<String>> {
        let row = |(name, since, total): (&str, u64, u64)| {
            vec![name.to_owned(), show_rate(self.rate(since)), total.to_string()]
        };
        self.counts().into_iter().map(row).collect()
    }

    /// How it is: names and what there is to say.
    pub(super) fn state(&self) -> Vec<(&'static str, String)> {
        let (info, memory) = (&self.now.info, &self.now.metrics.memory);
        let keeper = match (info.keeper, info.keeper_seen) {
            (Some(slot), Some(seen)) => format!("slot {slot}, seen {} ago", show_duration(seen)),
            _ => "none".to_owned(),
        };
        let (part, most) = (100.0 * memory.fullness(), show_size(memory.max_capacity));
        let size = show_size(memory.capacity);
        vec![
            ("get times", times(&self.since.get_times)),
            ("set times", times(&self.since.set_times)),
            ("memory", format!("{part:.1} % of {most}, region {size}")),
            ("log", format!("{} of {}", show_size(memory.log_used), show_size(memory.log))),
            ("backlog", self.now.metrics.messaging.backlog.to_string()),
            ("keeper", keeper),
            ("snapshots", self.snapshots()),
        ]
    }

    fn snapshots(&self) -> String {
        let saved = &self.now.metrics.persistence;
        if saved.backend == "none" {
            return saved.backend.clone();
        }
        let behind = self.now.info.revision.saturating_sub(saved.last_revision);
        let Some(age) = saved.last_time.map(|time| time.elapsed().unwrap_or_default()) else {
            return "none in this life".to_owned();
        };
        let age = show_duration(Duration::from_secs(age.as_secs()));
        let mut shown = if saved.unsaved {
            format!("{age} ago, {behind} changes since")
        } else {
            format!("{age} ago, nothing since")
        };
        if saved.failures_in_a_row > 0 {
            shown += &format!(", {} failed", saved.failures_in_a_row);
        }
        shown
    }

    /// Members with what they did, the busiest first.
    fn busiest(&self) -> Vec<(&MemberInfo, MemberMetrics)> {
        let done = |member: &&MemberMetrics, of: &MemberInfo| {
            (member.slot, member.generation) == (of.slot, of.generation)
        };
        let mut all: Vec<_> = self
            .now
            .members
            .iter()
            .filter_map(|of| Some((of, self.since.members.iter().find(|m| done(m, of))?.clone())))
            .collect();
        let sum = |of: &MemberMetrics| of.gets + of.sets + of.adds + of.deletes + of.commits;
        all.sort_by_key(|(of, member)| (std::cmp::Reverse(sum(member)), of.slot));
        all
    }

    /// Headings of the rows of members.
    pub(super) const MEMBERS: [&'static str; 9] =
        ["SLOT", "PID", "LABEL", "GETS/S", "SETS/S", "ADDS/S", "DELETES/S", "BATCHES/S", "STATE"];

    pub(super) fn members(&self) -> Vec<Vec<String>> {
        let row = |(of, done): (&MemberInfo, MemberMetrics)| {
            let state = match (of.alive, of.keeper) {
                (false, _) => "dead",
                (true, true) => "keeper",
                (true, false) => "alive",
            };
            let mut row =
                vec![of.slot.to_string(), of.pid.to_string(), or_nobody(of.label.as_deref())];
            let counts = [done.gets, done.sets, done.adds, done.deletes, done.commits];
            row.extend(counts.map(|count| show_rate(self.rate(count))));
            row.push(state.to_owned());
            row
        };
        self.busiest().into_iter().map(row).collect()
    }

    /// What is wrong, a line each.
    pub(super) fn issues(&self) -> Vec<String> {
        let issues = self.now.health.issues.iter();
        issues
            .map(|one| format!("{}: {}: {}", one.severity, one.code, one_line(&one.what)))
            .collect()
    }

    pub(super) fn object(&self) -> Result<Json, Failure> {
        let (metrics, info) = (&self.now.metrics, &self.now.info);
        let rates: serde_json::Map<_, _> = self
            .counts()
            .into_iter()
            .map(|(name, since, _)| (name.to_owned(), self.rate(since).into()))
            .collect();
        let member = |(of, done): (&MemberInfo, MemberMetrics)| {
            json!({
                "slot": of.slot, "generation": of.generation, "pid": of.pid, "label": of.label,
                "alive": of.alive, "keeper": of.keeper,
                "gets": self.rate(done.gets), "sets": self.rate(done.sets),
                "adds": self.rate(done.adds), "deletes": self.rate(done.deletes),
                "batches": self.rate(done.commits),
            })
        };
        let members: Vec<_> = self.busiest().into_iter().map(member).collect();
        let mut object = json!({
            "time": show_time(metrics.time),
            "name": info.name,
            "seconds": self.over.as_secs_f64(),
            "revision": info.revision,
            "entries": info.entries,
            "rates": rates,
            "get_times": times_object(&self.since.get_times),
            "set_times": times_object(&self.since.set_times),
            "members": members,
            "status": self.now.health.status,
        });
        let error = std::io::Error::from;
        object["memory"] = serde_json::to_value(metrics.memory).map_err(error)?;
        object["messaging"] = serde_json::to_value(metrics.messaging).map_err(error)?;
        object["persistence"] = serde_json::to_value(&metrics.persistence).map_err(error)?;
        object["persistence"]["last_time"] =
            metrics.persistence.last_time.and_then(show_time).into();
        object["issues"] = serde_json::to_value(&self.now.health.issues).map_err(error)?;
        Ok(object)
    }
}
