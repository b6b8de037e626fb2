//! What the demo found out.

use super::plan::Plan;
use super::watcher::Latency;
use crate::output::{object_of, write_fields, write_json};
use crate::tool::Tool;
use crate::units::{show_measured, show_size};
use membus::SnapshotInfo;
use serde_json::json;
use std::io::{self, Write};
use std::time::Duration;

/// The bus's counts beside the plain ones.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) words: u64,
    pub(super) distinct: u64,
    /// Words whose counts differ.
    pub(super) wrong: u64,
    /// One of them, with both counts.
    pub(super) example: Option<String>,
}

/// The state that was built anew.
#[derive(Debug, Clone)]
pub(super) struct Rebuilt {
    pub(super) took: Duration,
    /// Pieces that had their mark when the region was destroyed.
    pub(super) done_before: usize,
    /// Pieces that have it in the snapshot.
    pub(super) done_after: usize,
}

/// Everything that is told at the end.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) plan: &'a Plan,
    pub(super) comparison: Comparison,
    pub(super) findings: Vec<String>,
    pub(super) workers: usize,
    pub(super) kills: u32,
    pub(super) recovered: u64,
    pub(super) burials: u64,
    pub(super) operations: u64,
    pub(super) took: Duration,
    pub(super) plain_took: Duration,
    pub(super) latency: Latency,
    pub(super) snapshot: SnapshotInfo,
    pub(super) rebuilt: Rebuilt,
}

impl Report<'_> {
    /// Whether every count is right and the region whole.
    pub(super) fn is_right(&self) -> bool {
        self.comparison.wrong == 0 && self.findings.is_empty()
    }

    fn per_second(&self) -> u64 {
        (self.operations as f64 / self.took.as_secs_f64().max(1e-9)) as u64
    }

    pub(super) fn write(&self, tool: &Tool, out: &mut impl Write) -> io::Result<()> {
        if tool.json { write_json(out, object_of(self.json())) } else { self.write_text(out) }
    }

    fn json(&self) -> serde_json::Value {
        let (plan, words, rebuilt) = (self.plan, &self.comparison, &self.rebuilt);
        json!({
            "equal": words.wrong == 0,
            "wrong_words": words.wrong,
            "example": words.example,
            "files": plan.texts.len(),
            "bytes": plan.bytes,
            "pieces": plan.pieces.len(),
            "skipped_binary": plan.binary,
            "skipped_unreadable": plan.unreadable,
            "words": words.words,
            "distinct_words": words.distinct,
            "workers": self.workers,
            "kills": self.kills,
            "recoveries": self.recovered,
            "burials": self.burials,
            "operations": self.operations,
            "seconds": self.took.as_secs_f64(),
            "operations_per_second": self.per_second(),
            "plain_seconds": self.plain_took.as_secs_f64(),
            "latency": {
                "count": self.latency.count,
                "p50_ns": self.latency.p50_ns,
                "p99_ns": self.latency.p99_ns,
                "max_ns": self.latency.max_ns,
            },
            "snapshot": {
                "size": self.snapshot.bytes,
                "entries": self.snapshot.entries,
                "revision": self.snapshot.revision,
                "seconds": self.snapshot.took.as_secs_f64(),
            },
            "rebuild": {
                "seconds": rebuilt.took.as_secs_f64(),
                "pieces_before": rebuilt.done_before,
                "pieces_after": rebuilt.done_after,
            },
            "check": {"clean": self.findings.is_empty(), "findings": self.findings},
        })
    }

    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let (plan, words, rebuilt) = (self.plan, &self.comparison, &self.rebuilt);
        let equal = match &words.example {
            None => "equal, word by word".to_owned(),
            Some(example) => format!("NOT EQUAL: {} words differ, {example}", words.wrong),
        };
        let check = match self.findings.first() {
            None => "clean".to_owned(),
            Some(first) => format!("{} findings, the first: {first}", self.findings.len()),
        };
        let files = format!(
            "{} of {}, in {} pieces (skipped: {} not text, {} not readable)",
            plan.texts.len(),
            show_size(plan.bytes),
            plan.pieces.len(),
            plan.binary,
            plan.unreadable
        );
        let latency = |ns| show_measured(Duration::from_nanos(ns));
        let fields = [
            ("result", equal),
            ("files", files),
            ("words", format!("{}, {} distinct", words.words, words.distinct)),
            ("workers", format!("{} at a time, each a process", self.workers)),
            ("kills", format!("{} workers, by SIGKILL", self.kills)),
            (
                "recoveries",
                format!("{} pieces claimed again, {} dead buried", self.recovered, self.burials),
            ),
            (
                "operations",
                format!(
                    "{} changes in {}, {} a second",
                    self.operations,
                    show_measured(self.took),
                    self.per_second()
                ),
            ),
            (
                "notification",
                format!(
                    "p50 {}, p99 {} of {}",
                    latency(self.latency.p50_ns),
                    latency(self.latency.p99_ns),
                    self.latency.count
                ),
            ),
            (
                "snapshot",
                format!(
                    "{}, {} entries, in {} while they worked",
                    show_size(self.snapshot.bytes),
                    self.snapshot.entries,
                    show_measured(self.snapshot.took)
                ),
            ),
            (
                "rebuilt",
                format!(
                    "in {}, after the region was destroyed; {} of {} finished pieces were in the \
                     snapshot",
                    show_measured(rebuilt.took),
                    rebuilt.done_after,
                    rebuilt.done_before
                ),
            ),
            ("check", check),
            ("plain count", format!("{} in one process", show_measured(self.plain_took))),
        ];
        write_fields(out, &fields)
    }
}
