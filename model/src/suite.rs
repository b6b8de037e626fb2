//! Runs the right protocol and the broken ones, and says what came of it.
#![expect(clippy::print_stdout, reason = "a suite's lines are the result of the program")]

use crate::explore::{Model, Outcome, explore};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// States at which a search stops that is allowed everything: what 12 GB hold.
const FULL_BOUND: usize = 150_000_000;
/// States within which a broken rule must show.
const PLANT_BOUND: usize = 20_000_000;

/// How much is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// As much as a check of every change may take.
    Quick,
    /// Every state, where memory allows.
    Full,
}

/// What is expected of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Holds,
    Caught,
}

struct Case<'a> {
    name: &'static str,
    expected: Expected,
    search: Box<dyn Fn() -> Outcome + Send + Sync + 'a>,
}

/// The cases of one protocol.
pub struct Suite<'a> {
    title: &'static str,
    effort: Effort,
    trace: bool,
    unknown: Option<String>,
    cases: Vec<Case<'a>>,
}

impl std::fmt::Debug for Suite<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suite").field("title", &self.title).finish_non_exhaustive()
    }
}

impl<'a> Suite<'a> {
    /// A suite as the program's arguments ask for it: `quick` (the default) or `full`; `trace` tells
    /// the way to each violation.
    #[must_use]
    pub fn from_arguments(title: &'static str) -> Self {
        let mut suite = Self::new(title, Effort::Quick);
        for argument in std::env::args().skip(1) {
            match argument.as_str() {
                "quick" => suite.effort = Effort::Quick,
                "full" => suite.effort = Effort::Full,
                "trace" => suite.trace = true,
                _ => suite.unknown = Some(argument),
            }
        }
        suite
    }

    fn new(title: &'static str, effort: Effort) -> Self {
        Self { title, effort, trace: false, unknown: None, cases: Vec::new() }
    }

    /// How much is to be looked at.
    #[must_use]
    pub fn effort(&self) -> Effort {
        self.effort
    }

    /// The right protocol: it must hold. A quick search stops at `quick` states.
    pub fn holds<M: Model + Send + Sync + 'a>(
        &mut self,
        name: &'static str,
        quick: usize,
        model: M,
    ) {
        let bound = if self.effort == Effort::Quick { quick } else { FULL_BOUND };
        self.add(name, Expected::Holds, bound, model);
    }

    /// The right protocol, in a configuration that is too large for a quick search.
    pub fn holds_in_full<M: Model + Send + Sync + 'a>(&mut self, name: &'static str, model: M) {
        if self.effort == Effort::Full {
            self.add(name, Expected::Holds, FULL_BOUND, model);
        }
    }

    /// A protocol with one rule broken: the search must find a violation.
    pub fn plant<M: Model + Send + Sync + 'a>(&mut self, name: &'static str, model: M) {
        self.add(name, Expected::Caught, PLANT_BOUND, model);
    }

    fn add<M: Model + Send + Sync + 'a>(
        &mut self,
        name: &'static str,
        expected: Expected,
        bound: usize,
        model: M,
    ) {
        let search = Box::new(move || explore(&model, bound));
        self.cases.push(Case { name, expected, search });
    }

    /// Runs every case and prints a line for each.
    #[must_use]
    pub fn run(self) -> ExitCode {
        if let Some(unknown) = self.unknown {
            println!("unknown argument `{unknown}`: there are quick, full and trace");
            return ExitCode::from(2);
        }
        println!("== {}", self.title);
        let (title, count) = (self.title, self.cases.len());
        match self.unexpected() {
            0 => ExitCode::SUCCESS,
            bad => {
                println!("== {title}: {bad} of {count} not as expected");
                ExitCode::FAILURE
            }
        }
    }

    /// Runs every case: how many did not end as expected. Quick searches run two at a time; a full
    /// one has the memory for itself.
    fn unexpected(self) -> usize {
        let workers = if self.effort == Effort::Quick { 2 } else { 1 };
        let (turn, printed) = (AtomicUsize::new(0), Mutex::new(Printed::default()));
        let work = || {
            while let Some((index, case)) = self.take(&turn) {
                let begun = Instant::now();
                let outcome = (case.search)();
                let line = line(case, &outcome, begun.elapsed(), self.trace);
                let good = outcome.violation.is_none() == (case.expected == Expected::Holds);
                printed.lock().unwrap_or_else(PoisonError::into_inner).add(index, line, good);
            }
        };
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(work);
            }
        });
        printed.into_inner().unwrap_or_else(PoisonError::into_inner).bad
    }
}

impl Suite<'_> {
    /// The next case that nobody has taken.
    fn take(&self, turn: &AtomicUsize) -> Option<(usize, &Case<'_>)> {
        let index = turn.fetch_add(1, Ordering::Relaxed);
        self.cases.get(index).map(|case| (index, case))
    }
}

/// Lines in the order of their cases, whichever ends first.
#[derive(Default)]
struct Printed {
    lines: Vec<Option<String>>,
    next: usize,
    bad: usize,
}

impl Printed {
    fn add(&mut self, index: usize, line: String, good: bool) {
        self.lines.resize(self.lines.len().max(index + 1), None);
        self.lines[index] = Some(line);
        self.bad += usize::from(!good);
        while let Some(Some(line)) = self.lines.get(self.next) {
            println!("{line}");
            self.next += 1;
        }
    }
}

fn line(case: &Case<'_>, outcome: &Outcome, took: Duration, trace: bool) -> String {
    let extent = if outcome.complete { "complete" } else { "bound" };
    let (verdict, unexpected) = match (&outcome.violation, case.expected) {
        (None, Expected::Holds) => (format!("holds, {extent}"), false),
        (None, Expected::Caught) => (format!("NOT CAUGHT, {extent}"), true),
        (Some(found), Expected::Holds) => (format!("VIOLATED: {}", found.why), true),
        (Some(found), Expected::Caught) => (format!("caught: {}", found.why), false),
    };
    let kind = if case.expected == Expected::Holds { "right" } else { "plant" };
    let mut line = format!(
        "{kind} {:<66} {:>11} states, depth {:>3}, {:>6.1} s  {verdict}",
        case.name,
        outcome.states,
        outcome.depth,
        took.as_secs_f64(),
    );
    if let Some(found) = outcome.violation.as_ref().filter(|_| trace || unexpected) {
        for label in &found.trace {
            line.push_str(&format!("\n        {label}"));
        }
        line.push_str(&format!("\n        {}", found.state));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::Steps;

    /// Counts to its number, which must stay below 3.
    struct Counter(u8);

    impl Model for Counter {
        type State = u8;
        fn begin(&self) -> Vec<u8> {
            vec![0]
        }
        fn next(&self, state: &u8, steps: &mut Steps<u8>) {
            if *state < self.0 {
                steps.go("counter", "counts", state + 1);
            }
        }
        fn check(&self, state: &u8) -> Result<(), String> {
            if *state < 3 { Ok(()) } else { Err("too far".to_owned()) }
        }
        fn end(&self, _: &u8) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn what_is_not_as_expected_counts() {
        let unexpected = |right, plant| {
            let mut suite = Suite::new("counters", Effort::Quick);
            suite.holds("right", 100, Counter(right));
            suite.plant("plant", Counter(plant));
            suite.unexpected()
        };
        assert_eq!(unexpected(2, 3), 0);
        assert_eq!(unexpected(3, 3), 1);
        assert_eq!(unexpected(2, 2), 1);
        assert_eq!(unexpected(3, 2), 2);
    }
}
