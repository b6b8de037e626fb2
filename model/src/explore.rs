//! Breadth-first search over all states of a model.

use crate::fingerprint::{Mixed, fingerprint};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;

/// A protocol: its states, its steps, and what must hold.
pub trait Model {
    /// One state of all processes and of what they share.
    type State: Clone + Hash + fmt::Debug;
    /// Where it may begin.
    fn begin(&self) -> Vec<Self::State>;
    /// All steps that are possible next.
    fn next(&self, state: &Self::State, steps: &mut Steps<Self::State>);
    /// What must hold in every state.
    ///
    /// # Errors
    /// Says what does not hold.
    fn check(&self, state: &Self::State) -> Result<(), String>;
    /// What must hold besides where nothing can happen any more but deaths and the like.
    ///
    /// # Errors
    /// Says what does not hold.
    fn end(&self, state: &Self::State) -> Result<(), String>;
}

/// Who did what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// The process.
    pub who: &'static str,
    /// Its step.
    pub what: &'static str,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.who, self.what)
    }
}

#[derive(Debug)]
enum Kind {
    Progress,
    Aside,
    Wrong(&'static str),
}

/// The steps that are possible from one state.
#[derive(Debug)]
pub struct Steps<S> {
    found: Vec<(Label, S, Kind)>,
}

impl<S: Clone> Steps<S> {
    /// An ordinary step.
    pub fn go(&mut self, who: &'static str, what: &'static str, next: S) {
        self.found.push((Label { who, what }, next, Kind::Progress));
    }
    /// A death.
    pub fn dies(&mut self, who: &'static str, next: S) {
        self.aside(who, "dies", next);
    }
    /// A step that may happen but is no progress: nothing can be hoped of it.
    pub fn aside(&mut self, who: &'static str, what: &'static str, next: S) {
        self.found.push((Label { who, what }, next, Kind::Aside));
    }
    /// A step that must never happen; `state` is where it would.
    pub fn wrong(&mut self, who: &'static str, what: &'static str, why: &'static str, state: &S) {
        self.found.push((Label { who, what }, state.clone(), Kind::Wrong(why)));
    }
}

/// What was found to be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What does not hold.
    pub why: String,
    /// The steps from the beginning to it.
    pub trace: Vec<Label>,
    /// The last state.
    pub state: String,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// States that were visited.
    pub states: usize,
    /// Steps of the longest way that was looked at.
    pub depth: usize,
    /// Whether these are all states there are.
    pub complete: bool,
    /// The first violation.
    pub violation: Option<Violation>,
}

/// The states found so far, each with its parent's fingerprint; one to begin with has its own.
type Parents = HashMap<u64, u64, Mixed>;

/// A violation before its trace is told: where, what, and a last step that leads nowhere.
struct Found {
    at: u64,
    why: String,
    last: Option<Label>,
}

/// Visits all states of `model`, `bound` of them at the most.
pub fn explore<M: Model>(model: &M, bound: usize) -> Outcome {
    let mut parents = Parents::default();
    let mut found = None;
    let mut level = Vec::new();
    for state in model.begin() {
        let print = fingerprint(&state);
        parents.insert(print, print);
        found = found.or(checked(model, &state, print));
        level.push((print, state));
    }
    let (mut depth, mut complete) = (0, true);
    while found.is_none() && !level.is_empty() {
        if parents.len() >= bound {
            complete = false;
            break;
        }
        let mut next = Vec::new();
        found = expand(model, &level, &mut parents, &mut next).err();
        level = next;
        depth += 1;
    }
    let violation = found.map(|found| tell(model, &parents, found));
    Outcome { states: parents.len(), depth, complete, violation }
}

fn checked<M: Model>(model: &M, state: &M::State, at: u64) -> Option<Found> {
    model.check(state).err().map(|why| Found { at, why, last: None })
}

/// Goes one step on from each state of a level.
fn expand<M: Model>(
    model: &M,
    level: &[(u64, M::State)],
    parents: &mut Parents,
    next: &mut Vec<(u64, M::State)>,
) -> Result<(), Found> {
    let mut steps = Steps { found: Vec::new() };
    for (print, state) in level {
        steps.found.clear();
        model.next(state, &mut steps);
        if steps.found.iter().all(|(_, _, kind)| matches!(kind, Kind::Aside)) {
            model.end(state).map_err(|why| Found { at: *print, why, last: None })?;
        }
        for (label, after, kind) in steps.found.drain(..) {
            if let Kind::Wrong(why) = kind {
                return Err(Found { at: *print, why: why.to_owned(), last: Some(label) });
            }
            let reached = fingerprint(&after);
            if let Entry::Vacant(new) = parents.entry(reached) {
                new.insert(*print);
                if let Some(found) = checked(model, &after, reached) {
                    return Err(found);
                }
                next.push((reached, after));
            }
        }
    }
    Ok(())
}

/// Walks from a violation back to the beginning by fingerprints, and forward again by steps.
fn tell<M: Model>(model: &M, parents: &Parents, found: Found) -> Violation {
    let mut way = vec![found.at];
    let mut at = found.at;
    while let Some(parent) = parents.get(&at).filter(|parent| **parent != at) {
        way.push(*parent);
        at = *parent;
    }
    way.reverse();
    let mut trace = Vec::new();
    let mut state = model.begin().into_iter().find(|state| fingerprint(state) == at);
    for to in &way[1..] {
        let Some(from) = state else { break };
        let mut steps = Steps { found: Vec::new() };
        model.next(&from, &mut steps);
        let step = steps.found.into_iter().find(|(_, after, _)| fingerprint(after) == *to);
        state = step.map(|(label, after, _)| {
            trace.push(label);
            after
        });
    }
    trace.extend(found.last);
    Violation { why: found.why, trace, state: format!("{state:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two processes add 1 to a word, each by a load and a store.
    struct Adders;

    impl Model for Adders {
        type State = (u8, [Option<u8>; 2], [bool; 2]);
        fn begin(&self) -> Vec<Self::State> {
            vec![(0, [None; 2], [false; 2])]
        }
        fn next(&self, state: &Self::State, steps: &mut Steps<Self::State>) {
            for who in 0..2 {
                let name = ["A", "B"][who];
                let mut after = *state;
                match state.1[who] {
                    _ if state.2[who] => continue,
                    None => after.1[who] = Some(state.0),
                    Some(seen) => (after.0, after.2[who]) = (seen + 1, true),
                }
                steps.go(name, "goes on", after);
            }
        }
        fn check(&self, state: &Self::State) -> Result<(), String> {
            if state.0 > 2 { Err("too much".to_owned()) } else { Ok(()) }
        }
        fn end(&self, state: &Self::State) -> Result<(), String> {
            if state.0 == 2 { Ok(()) } else { Err("an addition was lost".to_owned()) }
        }
    }

    #[test]
    fn the_shortest_violation_is_told() {
        let outcome = explore(&Adders, 1000);
        let violation = outcome.violation.expect("a lost addition");
        assert_eq!(violation.why, "an addition was lost");
        assert_eq!(violation.trace.len(), 4);
        assert!(violation.trace[..2].iter().any(|label| label.who == "B"), "{violation:?}");
    }

    #[test]
    fn a_bound_is_no_proof() {
        let outcome = explore(&Adders, 3);
        assert!(!outcome.complete && outcome.violation.is_none(), "{outcome:?}");
    }
}
