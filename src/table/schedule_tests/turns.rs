//! Who goes on in a schedule: chosen at random at each turn, or by priorities that change at random turns.
//!
//! The latter is PCT (Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010): the
//! thread of the highest priority goes on until it ends, waits, or runs at a change, which makes it the lowest. Between two changes
//! nothing is to be decided, so shuttle isn't asked.
//!
//! A schedule is a function of three numbers, which a failure prints.

use crate::hook;
use crate::rng::Rng;
use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

/// What a schedule is made of. As text, three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Changes of priority; 0: a choice at each turn.
    pub(super) changes: u64,
    pub(super) seed: u64,
    /// The changes come within so many turns.
    pub(super) length: u64,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.changes, self.seed, self.length)
    }
}

impl FromStr for Plan {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<u64>, _> = text.split(' ').map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[changes, seed, length]) => Ok(Self { changes, seed, length }),
            _ => Err(format!("{text:?} is not three numbers: changes, seed, length")),
        }
    }
}

/// Far more turns than a thread takes without another one's.
const ENDLESS: u64 = 1 << 24;

/// So many schedules, one after the other.
pub(super) struct Turns {
    left: u64,
    plan: Plan,
    seeds: Rng,
    next_seed: u64,
    rng: Rng,
    /// Turns of this schedule that were taken beside others.
    turns: u64,
    /// Those to be taken unasked, as it was said last, and whether others are there meanwhile.
    unasked: u64,
    is_beside: bool,
    /// Turns at which the priorities change, in order.
    changes: VecDeque<u64>,
    /// By thread.
    priorities: Vec<i64>,
    lowest: i64,
}

impl Turns {
    /// The plan, then others of its kind: each with a new seed, and for as many turns as the schedule before took.
    pub(super) fn new(plan: Plan, schedules: u64) -> Self {
        Self {
            left: schedules,
            plan,
            seeds: Rng::new(plan.seed),
            next_seed: plan.seed,
            rng: Rng::new(plan.seed),
            turns: plan.length,
            unasked: 0,
            is_beside: false,
            changes: VecDeque::new(),
            priorities: Vec::new(),
            lowest: 0,
        }
    }
}

impl Scheduler for Turns {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.left = self.left.checked_sub(1)?;
        self.plan = Plan { seed: self.next_seed, length: self.turns.max(1), ..self.plan };
        self.next_seed = self.seeds.next();
        self.rng = Rng::new(self.plan.seed);
        let mut changes: Vec<_> =
            (0..self.plan.changes).map(|_| self.rng.below(self.plan.length)).collect();
        changes.sort_unstable();
        self.changes = changes.into();
        (self.turns, self.unasked, self.lowest) = (0, 0, 0);
        self.is_beside = false;
        self.priorities.clear();
        Some(Schedule::new(self.plan.seed))
    }

    fn next_task(
        &mut self,
        ready: &[&Task],
        current: Option<TaskId>,
        yields: bool,
    ) -> Option<TaskId> {
        let left = hook::left_unasked();
        assert!(left > 0 || self.unasked < ENDLESS, "{ENDLESS} turns of one thread, and no end");
        if self.is_beside {
            self.turns += self.unasked - left;
        }
        self.is_beside = ready.len() > 1;
        if !self.is_beside || self.plan.changes == 0 {
            // Who is alone need not be asked.
            self.unasked = if self.is_beside { 0 } else { ENDLESS };
            hook::unasked(self.unasked);
            return Some(ready[self.rng.below(ready.len() as u64) as usize].id());
        }
        let newest = ready.iter().map(|task| usize::from(task.id())).max()?;
        while self.priorities.len() <= newest {
            self.priorities.push((self.rng.next() >> 2) as i64);
        }
        let mut is_lowered = yields;
        while self.changes.pop_front_if(|at| *at <= self.turns).is_some() {
            is_lowered = true;
        }
        if let Some(current) = current.filter(|_| is_lowered) {
            self.lowest -= 1;
            self.priorities[usize::from(current)] = self.lowest;
        }
        self.unasked = self.changes.front().map_or(ENDLESS, |at| at - self.turns);
        hook::unasked(self.unasked);
        let highest = ready.iter().max_by_key(|task| self.priorities[usize::from(task.id())])?;
        Some(highest.id())
    }

    fn next_u64(&mut self) -> u64 {
        self.rng.next()
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("this schedule alone: MEMBUS_PLAN={:?}", self.plan.to_string());
        }
    }
}
