//! `metrics`: what a bus has done, and how it is.

use crate::error::{Failure, Outcome};
use crate::output::{object_of, write_fields, write_json};
use crate::tool::Tool;
use crate::units::{show_measured, show_size, show_time};
use membus::{JournalMetrics, Latencies, Metrics};
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;

/// Show what a bus has done since its region was made, and how it is
///
/// Counts are sums over all members, the living and the dead. With --openmetrics the text that Prometheus and
/// its kin read.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// As text in the OpenMetrics format
    #[arg(long, conflicts_with = "json")]
    openmetrics: bool,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let metrics = tool.reader(&self.name)?.metrics()?;
        if self.openmetrics {
            out.write_all(metrics.to_openmetrics().as_bytes())?;
        } else if tool.json {
            write_json(out, object_of(object(&metrics)?))?;
        } else {
            write_fields(out, &fields(&metrics))?;
        }
        Ok(Outcome::Done)
    }
}

fn object(metrics: &Metrics) -> Result<serde_json::Value, Failure> {
    let mut object = serde_json::to_value(metrics).map_err(std::io::Error::from)?;
    object["time"] = show_time(metrics.time).into();
    object["created"] = show_time(metrics.created).into();
    object["persistence"]["last_time"] = metrics.persistence.last_time.and_then(show_time).into();
    if let Some(journal) = metrics.persistence.journal {
        let time = journal.last_time.and_then(show_time);
        object["persistence"]["journal"]["last_time"] = time.into();
    }
    object["hit_ratio"] = json!(metrics.operations.hit_ratio());
    object["average_response_time"] = json!(metrics.mean_time().as_secs_f64());
    object["memory_mb"] = json!(metrics.memory_mb());
    // This handle read nothing but these figures.
    if let Some(fields) = object.as_object_mut() {
        fields.remove("own");
    }
    Ok(object)
}

/// Latencies on a line.
pub(super) fn show_times(times: &Latencies) -> String {
    if times.samples() == 0 {
        return "none timed".to_owned();
    }
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| show_measured(times.quantile(part)));
    let (mean, longest) = (show_measured(times.mean()), show_measured(times.longest()));
    let samples = times.samples();
    format!("p50 {p50}, p99 {p99}, p99.9 {p999}, longest {longest}, mean {mean} of {samples} timed")
}

/// Those that are not 0, by name.
fn counted(counts: &[(&str, u64)]) -> String {
    let told = counts.iter().filter(|(_, count)| *count > 0);
    let told: Vec<_> = told.map(|(name, count)| format!("{name} {count}")).collect();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}

fn operations(metrics: &Metrics) -> Vec<(&'static str, String)> {
    let (done, failed) = (&metrics.operations, &metrics.errors);
    let operations = counted(&[
        ("gets", done.gets),
        ("sets", done.sets),
        ("adds", done.adds),
        ("deletes", done.deletes),
        ("batches", done.commits),
        ("clears", done.clears),
        ("scans", done.scans),
        ("locks", done.lock_changes),
    ]);
    let keys = counted(&[
        ("created", done.created),
        ("updated", done.updated),
        ("deleted", done.deleted),
        ("expired", done.expired),
        ("conflicts", done.conflicts),
    ]);
    let errors = counted(&[
        ("reading", failed.read),
        ("writing", failed.write),
        ("of these full", failed.full),
        ("of these stalled", failed.stalled),
        ("watching", failed.watch),
        ("locks", failed.lock),
        ("snapshots", failed.snapshot),
        ("callbacks", failed.callback),
        ("growth", failed.growth),
    ]);
    vec![
        ("operations", format!("{} ({operations})", done.total)),
        ("keys", keys),
        ("hit ratio", format!("{:.1} %", 100.0 * done.hit_ratio())),
        ("get times", show_times(&metrics.get_times)),
        ("set times", show_times(&metrics.set_times)),
        ("errors", format!("{} ({errors})", failed.total)),
    ]
}

fn messaging(metrics: &Metrics) -> Vec<(&'static str, String)> {
    let told = &metrics.messaging;
    let messages = counted(&[
        ("published", told.messages),
        ("broadcast", told.broadcasts),
        ("delivered", told.delivered),
        ("expired", told.expired),
    ]);
    let watching = counted(&[
        ("watches", told.watches),
        ("subscriptions", told.subscriptions),
        ("events", told.events),
        ("bells", told.bells),
        ("lagged", told.lagged),
        ("missed", told.missed),
        ("backlog", told.backlog),
    ]);
    vec![("messages", messages), ("watching", watching)]
}

fn fields(metrics: &Metrics) -> Vec<(&'static str, String)> {
    let (memory, recovery) = (&metrics.memory, &metrics.recovery);
    let dead = counted(&[
        ("burials", recovery.burials),
        ("locks taken over", recovery.takeovers),
        ("commits finished", recovery.finished),
        ("restores", recovery.restores),
    ]);
    let (used, most) = (show_size(memory.used), show_size(memory.max_capacity));
    let (size, file) = (show_size(memory.capacity), show_size(memory.file));
    let largest = show_size(memory.largest_free);
    let room = format!("{used} used of {most}; region {size}, file {file}, largest free {largest}");
    let mut fields = vec![
        ("name", metrics.name.clone()),
        ("since", show_time(metrics.created).unwrap_or_default()),
        ("revision", metrics.revision.to_string()),
        ("entries", memory.entries.to_string()),
    ];
    fields.extend(operations(metrics));
    fields.extend(messaging(metrics));
    fields.extend([
        ("members", recovery.members.to_string()),
        ("recovery", dead),
        ("memory", room),
        ("log", format!("{} of {}", show_size(memory.log_used), show_size(memory.log))),
        ("snapshots", snapshots(metrics)),
    ]);
    fields.extend(metrics.persistence.journal.as_ref().map(|of| ("journal", journal(of))));
    fields
}

fn journal(of: &JournalMetrics) -> String {
    let counts = counted(&[
        ("durable up to revision", of.journaled),
        ("behind", of.behind),
        ("failed in a row", of.failures_in_a_row),
    ]);
    let (size, took) = (show_size(of.bytes), show_measured(of.last_took));
    let waits = if of.is_rebuilding { "; waits for a snapshot" } else { "" };
    format!("{counts}; {size} written, the last turn took {took}{waits}")
}

fn snapshots(metrics: &Metrics) -> String {
    let saved = &metrics.persistence;
    let counts = counted(&[
        ("taken", saved.snapshots),
        ("failed", saved.failures),
        ("failed in a row", saved.failures_in_a_row),
        ("backups", saved.backups),
    ]);
    let Some(time) = saved.last_time.and_then(show_time) else { return counts };
    let (size, took) = (show_size(saved.last_bytes), show_measured(saved.last_took));
    format!("{counts}; the last at {time}, {size} in {took}")
}
