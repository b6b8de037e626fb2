//! The kinds of figures, and what one is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engines::{Memory, Name};

/// Reads in a hundred operations, for each of the mixes.
pub(crate) const MIXES: [u32; 3] = [100, 95, 50];

/// One kind of pass over an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Pass {
    /// Gets of stored keys, evenly.
    GetUniform,
    /// Gets of stored keys, few of them often.
    GetZipf,
    /// Gets of absent keys.
    GetMiss,
    /// Sets of stored keys, evenly.
    SetUniform,
    /// Sets of stored keys, few of them often.
    SetZipf,
    /// Additions to one counter.
    Add,
}

impl Pass {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 6] = [
        Self::GetUniform,
        Self::GetZipf,
        Self::GetMiss,
        Self::SetUniform,
        Self::SetZipf,
        Self::Add,
    ];

    /// The word for it, also in `--only`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::GetUniform => "get-uniform",
            Self::GetZipf => "get-zipf",
            Self::GetMiss => "get-miss",
            Self::SetUniform => "set-uniform",
            Self::SetZipf => "set-zipf",
            Self::Add => "add",
        }
    }

    /// The pass that `word` names.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|pass| pass.word() == word)
    }
}

/// How many processes there are, and what they share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Setup {
    /// One process.
    Alone,
    /// Two processes, each with a store of its own.
    Apart,
    /// Two processes with one store.
    Shared,
}

impl Setup {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Alone => "one process",
            Self::Apart => "two, nothing shared",
            Self::Shared => "two, one store",
        }
    }
}

/// A median and the rounds it is the median of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// The one in the middle, or the mean of the two there.
    pub(crate) median: f64,
    /// Every round's, in the order of running.
    pub(crate) rounds: Vec<f64>,
}

impl Figure {
    /// The figure of these rounds.
    pub(crate) fn of(rounds: Vec<f64>) -> Self {
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        let median =
            f64::midpoint(middle(sorted.len().saturating_sub(1) / 2), middle(sorted.len() / 2));
        Self { median, rounds }
    }
}

/// The value below which this share of the sorted ones lies.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// One store's figures of one thread.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Column {
    /// The store.
    pub(crate) engine: Name,
    /// What the load made it take.
    pub(crate) memory: Memory,
    /// Nanoseconds per operation.
    pub(crate) figures: BTreeMap<Pass, Figure>,
}

impl Column {
    /// A store without figures yet.
    pub(crate) fn new(engine: Name, memory: Memory) -> Self {
        Self { engine, memory, figures: BTreeMap::new() }
    }
}

/// Operations per second of a setup and a mix, all processes together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TwoFigure {
    /// The store.
    pub(crate) engine: Name,
    /// What the processes share.
    pub(crate) setup: Setup,
    /// Reads in a hundred operations.
    pub(crate) reads: u32,
    /// Operations per second.
    pub(crate) rate: Figure,
}

/// The figures of two processes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct TwoReport {
    /// Every one taken.
    pub(crate) figures: Vec<TwoFigure>,
}

impl TwoReport {
    /// Operations per second, when measured.
    pub(crate) fn rate(&self, engine: Name, setup: Setup, reads: u32) -> Option<f64> {
        let is_it = |f: &&TwoFigure| (f.engine, f.setup, f.reads) == (engine, setup, reads);
        self.figures.iter().find(is_it).map(|figure| figure.rate.median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(Figure::of(vec![3.0, 1.0, 9.0]).median, 3.0);
        assert_eq!(Figure::of(vec![3.0, 1.0, 9.0, 5.0]).median, 4.0);
    }

    /// Plant: the place before it.
    #[test]
    fn a_percentile_has_its_share_below() {
        let sorted: Vec<f64> = (0..200).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 0.5), 100.0);
        assert_eq!(percentile(&sorted, 0.99), 198.0);
        assert_eq!(percentile(&sorted, 1.0), 199.0);
        assert!(percentile(&[], 0.5).is_nan());
    }
}
