//! The judgement: figures against thresholds.

use super::look::{Look, Sitting};
use super::{
    Health, Issue, MemoryHealth, MessagingHealth, PerformanceHealth, PersistenceHealth,
    ReliabilityHealth, Section, Status, Thresholds,
};
use crate::bus::metrics::Metrics;
use crate::bus::office::UNKNOWN;
use std::time::{Duration, SystemTime};

/// Above this part of the maximum capacity a bus is as good as full.
const FULL: f64 = 0.99;
/// After so many failures one after another there is no snapshot to rely on.
const FAILURES: u64 = 3;
/// A snapshot is overdue after so many of its intervals.
const INTERVALS: u32 = 3;
/// No snapshot is overdue before that.
const AGE_MIN: Duration = Duration::from_secs(5);

/// The issues that were found, and the bus's name, for `NAME` in what to do.
struct Issues<'a>(Vec<Issue>, &'a str);

/// One thing that is looked at: its figure, against its threshold.
struct Measured {
    code: &'static str,
    section: Section,
    figure: f64,
    threshold: f64,
    unit: &'static str,
}

impl Issues<'_> {
    /// Says what is wrong when a figure is above its threshold.
    fn say(
        &mut self,
        of: Measured,
        severity: Status,
        what: impl FnOnce() -> String,
        action: &'static str,
    ) {
        let Measured { code, section, figure, threshold, unit } = of;
        // What is no number is above nothing.
        if figure > threshold {
            self.0.push(Issue {
                code,
                section,
                severity,
                what: what(),
                figure,
                threshold,
                unit,
                action: action.replace("NAME", self.1),
            });
        }
    }

    fn worst(&self, section: Section) -> Status {
        let of_it = self.0.iter().filter(|issue| issue.section == section);
        of_it.map(|issue| issue.severity).max().unwrap_or_default()
    }
}

fn measured(
    (code, section): (&'static str, Section),
    figure: f64,
    threshold: f64,
    unit: &'static str,
) -> Measured {
    Measured { code, section, figure, threshold, unit }
}

fn degraded_unless(is_worse: bool) -> Status {
    if is_worse { Status::Unhealthy } else { Status::Degraded }
}

pub(super) fn judge(
    name: &str,
    look: &Look,
    before: Option<&Metrics>,
    thresholds: &Thresholds,
) -> Health {
    let mut issues = Issues(Vec::new(), name);
    let time = SystemTime::now();
    let mut health = Health {
        name: name.to_owned(),
        status: Status::Healthy,
        time,
        memory: MemoryHealth::default(),
        persistence: PersistenceHealth::default(),
        messaging: MessagingHealth::default(),
        reliability: ReliabilityHealth::default(),
        performance: PerformanceHealth::default(),
        issues: Vec::new(),
    };
    region(&mut issues, look);
    if let Ok(now) = &look.metrics {
        let counted = before.map_or_else(|| now.clone(), |before| now.since(before));
        if !look.is_gone {
            memory(&mut issues, &counted, thresholds);
            persistence(&mut issues, now, time, thresholds);
            journal(&mut issues, now, thresholds);
            keeper(&mut issues, now, look, thresholds);
        }
        messaging(&mut issues, &counted, thresholds);
        reliability(&mut issues, &counted, look, thresholds);
        performance(&mut issues, &counted, thresholds);
        fill(&mut health, &counted, look);
    }
    health.memory.status = issues.worst(Section::Memory);
    health.persistence.status = issues.worst(Section::Persistence);
    health.messaging.status = issues.worst(Section::Messaging);
    health.reliability.status = issues.worst(Section::Reliability);
    health.performance.status = issues.worst(Section::Performance);
    issues.0.sort_by_key(|issue| std::cmp::Reverse(issue.severity));
    health.status = issues.0.first().map_or(Status::Healthy, |issue| issue.severity);
    health.issues = issues.0;
    health
}

fn region(issues: &mut Issues<'_>, look: &Look) {
    let gone = measured(("gone", Section::Reliability), f64::from(look.is_gone), 0.0, "buses");
    let what = || "the bus was destroyed, or its files were removed".to_owned();
    issues.say(
        gone,
        Status::Unhealthy,
        what,
        "open it again: unless it was destroyed it is rebuilt from the last snapshot",
    );
    if let Err(error) = &look.metrics {
        let damaged = measured(("damaged", Section::Reliability), 1.0, 0.0, "regions");
        let action =
            "run `membus check NAME`; stop the members, remove its directory, open it again";
        issues.say(damaged, Status::Unhealthy, || error.to_string(), action);
    }
}

fn memory(issues: &mut Issues<'_>, now: &Metrics, thresholds: &Thresholds) {
    let fullness = now.memory.fullness();
    let full = measured(("nearly_full", Section::Memory), fullness, thresholds.fullness, "of 1");
    let what = || {
        let most = now.memory.max_capacity;
        format!("{:.0} % of the {most} bytes that it may have are in use", 100.0 * fullness)
    };
    let action = "delete, shorten times to live, or make it anew with a higher maximum capacity: \
         snapshot, stop the members, remove its directory, create";
    issues.say(full, degraded_unless(fullness >= FULL), what, action);
    let failed = now.errors.growth as f64;
    let growth = measured(("growth_failed", Section::Memory), failed, 0.0, "growths");
    let what = || format!("the file could not grow {failed} times");
    let action =
        "make room in the file system, or give it more: `membus doctor` says how much it has";
    issues.say(growth, Status::Degraded, what, action);
}

fn persistence(issues: &mut Issues<'_>, now: &Metrics, time: SystemTime, thresholds: &Thresholds) {
    let saved = &now.persistence;
    if saved.backend == "none" {
        return;
    }
    let failures = saved.failures_in_a_row;
    let failing = measured(
        ("snapshots_fail", Section::Persistence),
        failures as f64,
        thresholds.snapshot_failures as f64,
        "failures",
    );
    let what = || {
        let kept = saved.last_time.map_or_else(
            || "none was taken since the bus was made or rebuilt".to_owned(),
            |_| format!("the last good one is of revision {}", saved.last_revision),
        );
        format!("snapshots that failed one after another: {failures}; {kept}")
    };
    let action =
        "look at the keeper's log for the reason; `membus snapshot NAME` tries it now and says it";
    issues.say(failing, degraded_unless(failures > FAILURES), what, action);
    let since = saved.last_time.unwrap_or(now.created);
    let age = time.duration_since(since).unwrap_or_default();
    // Whoever does not know where the bus is saved does not know how often, either.
    let by_interval = match saved.backend.as_str() {
        UNKNOWN => Duration::MAX,
        _ => saved.every.saturating_mul(INTERVALS).max(AGE_MIN),
    };
    let most = thresholds.snapshot_age.unwrap_or(by_interval);
    let age_of_unsaved = if saved.unsaved { age.as_secs_f64() } else { 0.0 };
    let overdue = measured(
        ("snapshot_overdue", Section::Persistence),
        age_of_unsaved,
        most.as_secs_f64(),
        "seconds",
    );
    let what = || format!("what changed in the last {} s is in no snapshot", age.as_secs());
    let action = "see that a keeper runs (`membus keep NAME`), or take one: `membus snapshot NAME`";
    issues.say(overdue, Status::Degraded, what, action);
}

fn journal(issues: &mut Issues<'_>, now: &Metrics, thresholds: &Thresholds) {
    let Some(journal) = &now.persistence.journal else { return };
    let failures = journal.failures_in_a_row;
    let failing = measured(
        ("journal_fails", Section::Persistence),
        failures as f64,
        thresholds.snapshot_failures as f64,
        "failures",
    );
    let what = || {
        format!("the journal failed {failures} times; {} changes are not durable", journal.behind)
    };
    let action = "look at the keeper's log for the reason, and make room on its disk";
    issues.say(failing, Status::Unhealthy, what, action);
    let waits = if journal.is_rebuilding { journal.behind as f64 } else { 0.0 };
    let rebuilding = measured(("journal_rebuilding", Section::Persistence), waits, 0.0, "changes");
    let what = || {
        let behind = journal.behind;
        format!("the journal begins anew with the next snapshot; {behind} changes are not durable")
    };
    let action = "let the keeper save (`membus snapshot NAME` does it now); a larger log avoids it";
    issues.say(rebuilding, Status::Degraded, what, action);
}

fn keeper(issues: &mut Issues<'_>, now: &Metrics, look: &Look, thresholds: &Thresholds) {
    let kept = &now.recovery;
    let has_none = f64::from(u8::from(kept.keeper.is_none()));
    let none = measured(("no_keeper", Section::Reliability), has_none, 0.0, "buses");
    let journal = if look.has_journal { "nothing is journaled, " } else { "" };
    let what =
        || format!("nobody keeps the bus: {journal}no snapshots, and the dead are buried late");
    let action = "open it by a program that may keep it, or run `membus keep NAME`";
    issues.say(none, Status::Degraded, what, action);
    let silence = kept.keeper_seen.unwrap_or_default().as_secs_f64();
    let most = thresholds.keeper_silence.as_secs_f64();
    let silent = measured(("keeper_silent", Section::Reliability), silence, most, "seconds");
    let what = || {
        format!("the keeper, slot {}, gave no sign for {silence:.1} s", kept.keeper.unwrap_or(0))
    };
    let action = "continue its process or end it: another one takes over at once";
    issues.say(silent, Status::Unhealthy, what, action);
    let dead = if kept.keeper.is_none() { f64::from(look.dead) } else { 0.0 };
    let unburied = measured(("unburied", Section::Reliability), dead, 0.0, "members");
    let what = || format!("{dead} members are dead and not buried");
    let action = "attach to the bus, or run `membus keep NAME`: either buries them";
    issues.say(unburied, Status::Degraded, what, action);
}

fn messaging(issues: &mut Issues<'_>, now: &Metrics, thresholds: &Thresholds) {
    let queue = now.messaging.backlog;
    let slowest = now.watching.iter().max_by_key(|one| one.behind);
    let behind = measured(
        ("queue", Section::Messaging),
        queue as f64,
        thresholds.queue as f64,
        "changes and messages",
    );
    let what = || {
        let who = slowest.map_or_else(String::new, |one| format!(" of slot {}", one.slot));
        format!("a watch or subscriber{who} has not taken the last {queue}")
    };
    let action = "let it take events faster or `conflated`, or make the bus with a bigger log";
    issues.say(behind, Status::Degraded, what, action);
    let lagged = now.messaging.lagged;
    let fell =
        measured(("lagged", Section::Messaging), lagged as f64, thresholds.lagged as f64, "times");
    let what = || format!("watches fell behind {lagged} times and missed {}", now.messaging.missed);
    issues.say(fell, Status::Degraded, what, action);
}

fn reliability(issues: &mut Issues<'_>, now: &Metrics, look: &Look, thresholds: &Thresholds) {
    let errors = now.errors.total;
    let many = measured(
        ("errors", Section::Reliability),
        errors as f64,
        thresholds.errors as f64,
        "errors",
    );
    let what = || {
        let of = &now.errors;
        let sorts = [
            ("reading", of.read),
            ("writing", of.write),
            ("watching", of.watch),
            ("locks", of.lock),
            ("snapshots", of.snapshot),
            ("callbacks", of.callback),
            ("growth", of.growth),
        ];
        let told = sorts.iter().filter(|(_, count)| *count > 0);
        let told: Vec<_> = told.map(|(name, count)| format!("{name} {count}")).collect();
        format!("{errors} operations failed: {}", told.join(", "))
    };
    let action = "look at what the programs log; `membus metrics NAME` says of which sort they are";
    issues.say(many, Status::Degraded, what, action);
    let held = if look.sitting.is_some() { thresholds.lock_held.as_secs_f64() } else { 0.0 };
    let sits = measured(("lock_held", Section::Reliability), held, 0.0, "seconds");
    let what = || look.sitting.as_ref().map(sat).unwrap_or_default();
    let action = "continue its process or kill it: its death frees the lock";
    issues.say(sits, Status::Unhealthy, what, action);
}

fn sat(sitting: &Sitting) -> String {
    let Sitting { slot, label, pid, what, is_stopped } = sitting;
    let label = label.as_deref().unwrap_or("no label");
    let how = if *is_stopped { "is stopped and " } else { "" };
    format!("the member in slot {slot} ({label}, pid {pid}) {how}holds {what}")
}

fn performance(issues: &mut Issues<'_>, now: &Metrics, thresholds: &Thresholds) {
    let (mean, most) = (now.mean_time().as_secs_f64(), thresholds.mean.as_secs_f64());
    let slow = measured(("slow", Section::Performance), mean, most, "seconds");
    let what = || format!("a get or a set takes {mean:.6} s on average");
    let action = "look who waits for whom: stopped members, a full disk, too little memory or too few processors";
    issues.say(slow, Status::Degraded, what, action);
}

fn fill(health: &mut Health, now: &Metrics, look: &Look) {
    health.memory = MemoryHealth {
        usage_mb: now.memory_mb(),
        limit_mb: now.memory.max_capacity as f64 / f64::from(1 << 20),
        fullness: now.memory.fullness(),
        largest_free: now.memory.largest_free,
        entries: now.memory.entries,
        ..health.memory
    };
    let saved = &now.persistence;
    let age = |time| health.time.duration_since(time).unwrap_or_default();
    health.persistence = PersistenceHealth {
        status: Status::Healthy,
        backend: saved.backend.clone(),
        operations: saved.snapshots,
        backups: saved.backups,
        failures_in_a_row: saved.failures_in_a_row,
        unsaved: saved.unsaved,
        age: saved.last_time.map(age),
    };
    health.messaging = MessagingHealth {
        messages: now.messaging.messages,
        subscriptions: now.messaging.subscriptions,
        watches: now.messaging.watches,
        queue: now.messaging.backlog,
        lagged: now.messaging.lagged,
        ..health.messaging
    };
    health.reliability = ReliabilityHealth {
        errors: now.errors.total,
        burials: now.recovery.burials,
        takeovers: now.recovery.takeovers,
        restores: now.recovery.restores,
        members: now.recovery.members,
        dead: look.dead,
        keeper: now.recovery.keeper,
        ..health.reliability
    };
    health.performance = PerformanceHealth {
        operations: now.operations.total,
        average_response_time: now.mean_time(),
        get_p99: now.get_times.quantile(0.99),
        set_p99: now.set_times.quantile(0.99),
        hit_ratio: now.operations.hit_ratio(),
        ..health.performance
    };
}
