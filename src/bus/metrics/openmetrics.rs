//! Metrics as text in the OpenMetrics format (`application/openmetrics-text; version=1.0.0`).
//!
//! A family is its type, unit and help, then its samples, all of it together; counters end with `_total`; a
//! unit is the end of its family's name; `# EOF` ends the text.

use super::latency::Latencies;
use super::{Metrics, WatchingMetrics};
use std::fmt::{Display, Write};
use std::time::UNIX_EPOCH;

/// A text in the making, and the labels that each of its samples has.
struct Text {
    text: String,
    bus: String,
}

/// A label's value or a help text, as the format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

impl Text {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _written = self.text.write_fmt(line);
        self.text.push('\n');
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# TYPE {name} {kind}"));
        let unit =
            ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(&format!("_{unit}")));
        if let Some(unit) = unit {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
        self.line(format_args!("# HELP {name} {}", escaped(help)));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let mut all = format!("bus=\"{}\"", self.bus);
        for (label, text) in labels {
            let _written = write!(all, ",{label}=\"{}\"", escaped(text));
        }
        self.line(format_args!("{name}{{{all}}} {value}"));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(&format!("{name}_total"), &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// A family of counters or gauges that differ by one label.
    fn each(
        &mut self,
        (name, kind): (&str, &str),
        help: &str,
        label: &str,
        values: &[(&str, u64)],
    ) {
        self.family(name, kind, help);
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        for (text, value) in values {
            self.sample(&name, &[(label, text)], value);
        }
    }

    fn histogram(&mut self, name: &str, help: &str, times: &Latencies) {
        self.family(name, "histogram", help);
        let mut below = 0_u64;
        for (end, count) in times.buckets() {
            below = below.saturating_add(count);
            let end = end.map_or_else(|| "+Inf".to_owned(), |end| end.as_secs_f64().to_string());
            self.sample(&format!("{name}_bucket"), &[("le", &end)], below);
        }
        self.sample(&format!("{name}_count"), &[], below);
        self.sample(&format!("{name}_sum"), &[], times.sum().as_secs_f64());
    }
}

impl Metrics {
    /// All of it in the OpenMetrics text format, for a scraper such as Prometheus; each sample has the bus's name
    /// as the label `bus`. Serve it as `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    #[must_use]
    pub fn to_openmetrics(&self) -> String {
        let mut text = Text { text: String::with_capacity(16 << 10), bus: escaped(&self.name) };
        self.tell_operations(&mut text);
        self.tell_messaging(&mut text);
        self.tell_recovery(&mut text);
        self.tell_persistence(&mut text);
        self.tell_memory(&mut text);
        let get = "How long gets took: one in 256 is timed.";
        text.histogram("membus_get_duration_seconds", get, &self.get_times);
        let set = "How long sets and additions took: one in 64 is timed.";
        text.histogram("membus_set_duration_seconds", set, &self.set_times);
        text.text.push_str("# EOF\n");
        text.text
    }

    fn tell_operations(&self, text: &mut Text) {
        let done = &self.operations;
        let created = self.created.duration_since(UNIX_EPOCH).unwrap_or_default();
        let help = "When the region was made: all counts began at 0 then.";
        text.gauge("membus_region_created_timestamp_seconds", help, created.as_secs_f64());
        text.gauge("membus_revision", "The newest revision.", self.revision);
        let operations = [
            ("get", done.gets),
            ("set", done.sets),
            ("add", done.adds),
            ("delete", done.deletes),
            ("batch", done.commits),
            ("clear", done.clears),
        ];
        let help = "Operations of members, failed ones too.";
        text.each(("membus_operations", "counter"), help, "operation", &operations);
        let results = [("hit", done.hits), ("miss", done.misses)];
        text.each(("membus_gets", "counter"), "Gets by what they found.", "result", &results);
        let keys = [
            ("created", done.created),
            ("updated", done.updated),
            ("deleted", done.deleted),
            ("expired", done.expired),
        ];
        text.each(("membus_key_changes", "counter"), "What became of keys.", "change", &keys);
        text.counter("membus_batch_changes", "Changes made by batches.", done.changes);
        text.counter("membus_scans", "Walks over keys.", done.scans);
        text.counter("membus_lock_changes", "Changes of locks and their kin.", done.lock_changes);
        text.counter("membus_conflicts", "Conditions that did not hold.", done.conflicts);
        let failed = &self.errors;
        let families = [
            ("read", failed.read),
            ("write", failed.write),
            ("watch", failed.watch),
            ("lock", failed.lock),
            ("snapshot", failed.snapshot),
            ("callback", failed.callback),
            ("growth", failed.growth),
        ];
        let help = "Operations that failed, by family.";
        text.each(("membus_errors", "counter"), help, "family", &families);
        text.counter("membus_full", "Writes for which there was no room.", failed.full);
        let help = "Writes that a lock's holder kept waiting until the deadline.";
        text.counter("membus_stalled", help, failed.stalled);
    }

    fn tell_messaging(&self, text: &mut Text) {
        let of = &self.messaging;
        text.counter("membus_messages", "Messages published.", of.messages);
        text.counter("membus_broadcasts", "Messages to no one in particular.", of.broadcasts);
        text.counter("membus_deliveries", "Messages that subscribers took.", of.delivered);
        let help = "Messages that had expired before it was their turn.";
        text.counter("membus_messages_expired", help, of.expired);
        text.counter("membus_watch_events", "Events that watches told.", of.events);
        let help = "How often a watch or a subscriber had fallen behind the log.";
        text.counter("membus_lagged", help, of.lagged);
        text.counter("membus_missed", "Changes and messages that these missed.", of.missed);
        text.counter("membus_callbacks", "Calls of callbacks.", of.callbacks);
        text.counter("membus_bells", "Datagrams sent to wake somebody.", of.bells);
        text.gauge("membus_watches", "Watches registered.", of.watches);
        text.gauge("membus_subscriptions", "Subscriptions registered.", of.subscriptions);
        let help = "Changes and messages that the slowest of them has not taken.";
        text.gauge("membus_backlog", help, of.backlog);
        let behind = |one: &&WatchingMetrics| one.behind > 0;
        let late = self.watching.iter().filter(behind).count();
        text.gauge("membus_watchers_behind", "Watches and subscriptions with a backlog.", late);
    }

    fn tell_recovery(&self, text: &mut Text) {
        let of = &self.recovery;
        text.counter("membus_burials", "Members that died and were buried.", of.burials);
        text.counter("membus_takeovers", "Locks taken over from the dead.", of.takeovers);
        let help = "Commits of the dead that others carried out.";
        text.counter("membus_finished_commits", help, of.finished);
        text.counter("membus_restores", "Restores.", of.restores);
        text.gauge("membus_members", "Members attached.", of.members);
        text.gauge("membus_kept", "Whether a keeper lives.", u8::from(of.keeper.is_some()));
        if let Some(seen) = of.keeper_seen {
            let help = "How long ago the keeper gave a sign.";
            text.gauge("membus_keeper_silence_seconds", help, seen.as_secs_f64());
        }
    }

    fn tell_persistence(&self, text: &mut Text) {
        let of = &self.persistence;
        text.counter("membus_snapshots", "Snapshots taken.", of.snapshots);
        text.counter("membus_snapshot_failures", "Snapshots that failed.", of.failures);
        let help = "Snapshots that failed since the last good one.";
        text.gauge("membus_snapshot_failures_in_a_row", help, of.failures_in_a_row);
        text.counter("membus_backups", "Backups made.", of.backups);
        let help = "Whether something changed since the last snapshot.";
        text.gauge("membus_unsaved", help, u8::from(of.unsaved));
        if let Some(time) = of.last_time {
            let time = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            let help = "When the last snapshot was taken.";
            text.gauge("membus_snapshot_timestamp_seconds", help, time);
            text.gauge("membus_snapshot_size_bytes", "Its size.", of.last_bytes);
            let took = of.last_took.as_secs_f64();
            text.gauge("membus_snapshot_duration_seconds", "How long it took.", took);
        }
        let Some(of) = &of.journal else { return };
        text.gauge("membus_journal_behind", "Changes that are not durable yet.", of.behind);
        text.counter("membus_journal_written_bytes", "Bytes of the journal.", of.bytes);
        let help = "Failures of the journal since its last good turn.";
        text.gauge("membus_journal_failures_in_a_row", help, of.failures_in_a_row);
        let help = "Whether it waits for a snapshot to build on.";
        text.gauge("membus_journal_rebuilding", help, u8::from(of.is_rebuilding));
        let took = of.last_took.as_secs_f64();
        text.gauge("membus_journal_duration_seconds", "How long its last turn took.", took);
    }

    fn tell_memory(&self, text: &mut Text) {
        let of = &self.memory;
        let bytes = [
            ("used", of.used),
            ("free", of.free),
            ("largest_free", of.largest_free),
            ("capacity", of.capacity),
            ("max_capacity", of.max_capacity),
            ("file", of.file),
            ("log", of.log),
            ("log_used", of.log_used),
        ];
        let help = "Memory of the region, as measured; some of these are parts of others.";
        text.each(("membus_memory_bytes", "gauge"), help, "of", &bytes);
        text.gauge("membus_entries", "Entries.", of.entries);
        text.counter("membus_growths", "How often the region grew.", of.growths);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::Place;
    use crate::ReadBus;
    use std::collections::BTreeMap;

    /// Promise (OpenMetrics): each family is told once, with all its samples behind it; counters end with
    /// `_total`, units are in the name, buckets rise, and the end is marked.
    /// Plants: buckets that are not added up; no `# EOF`; a family begun twice.
    #[test]
    fn the_text_keeps_the_rules() {
        let place = Place::new();
        let bus = place.make();
        for number in 0..1000 {
            bus.set("k", &number).unwrap();
            bus.contains("k").unwrap();
        }
        let mut metrics = bus.metrics().unwrap();
        metrics.name = "a\"b\\c\nd".into();
        let text = metrics.to_openmetrics();
        let body = text.strip_suffix("# EOF\n").unwrap();
        assert!(text.contains("bus=\"a\\\"b\\\\c\\nd\""));
        let mut kinds = BTreeMap::new();
        let (mut family, mut below) = (String::new(), 0.0);
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
                (family, below) = (name.to_owned(), 0.0);
                continue;
            }
            if let Some(rest) = line.strip_prefix("# UNIT ") {
                let (name, unit) = rest.split_once(' ').unwrap();
                assert!(name == family && name.ends_with(unit), "{line}");
                continue;
            }
            if line.starts_with("# HELP ") {
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let value: f64 = value.parse().unwrap();
            let ending = name.strip_prefix(family.as_str()).unwrap();
            match kinds[&family].as_str() {
                "counter" => assert_eq!(ending, "_total", "{line}"),
                "gauge" => assert_eq!(ending, "", "{line}"),
                _ if ending == "_sum" => {}
                _ => {
                    assert!(["_bucket", "_count"].contains(&ending) && value >= below, "{line}");
                    below = value;
                }
            }
        }
        assert!(kinds.len() > 30 && below >= 10.0, "{} families", kinds.len());
    }
}
