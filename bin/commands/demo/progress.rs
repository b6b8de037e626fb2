//! How far the work is, from notifications: what is done, what is claimed, what a death set free.

use super::job::{CLAIM, DONE, behind};
use crate::value::Shown;
use membus::{Change, ChangeKind, ChangeValue, Event};
use std::collections::{HashMap, HashSet};

/// The state of the pieces in one life of the bus.
#[derive(Debug, Default)]
pub(super) struct Progress {
    done: HashSet<String>,
    /// Who holds which piece.
    claims: HashMap<String, String>,
    /// Pieces whose claim ended without a mark: their workers died.
    freed: HashSet<String>,
    /// Pieces that were claimed again after that.
    pub(super) recovered: u64,
}

impl Progress {
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::Current(entry) => {
                if let Some(id) = behind(DONE, &entry.key) {
                    self.done.insert(id.to_owned());
                } else if let (Some(id), Ok(who)) = (behind(CLAIM, &entry.key), entry.decode()) {
                    self.claims.insert(id.to_owned(), who);
                }
            }
            Event::Change(change) => self.note_change(change),
            _ => {}
        }
    }

    /// Before another listing.
    pub(super) fn forget_claims(&mut self) {
        self.claims.clear();
    }

    /// Within a batch the mark comes before the end of the claim.
    fn note_change(&mut self, change: &Change) {
        if let Some(id) = behind(DONE, &change.key) {
            if change.kind == ChangeKind::Set {
                self.done.insert(id.to_owned());
            }
        } else if let Some(id) = behind(CLAIM, &change.key) {
            match &change.value {
                ChangeValue::Here(bytes) => {
                    let who = Shown::of(change.value_kind, bytes).into_bytes();
                    let who = String::from_utf8_lossy(&who).into_owned();
                    self.claims.insert(id.to_owned(), who);
                    self.recovered += u64::from(self.freed.remove(id));
                }
                _ => {
                    self.claims.remove(id);
                    if !self.done.contains(id) {
                        self.freed.insert(id.to_owned());
                    }
                }
            }
        }
    }

    /// Pieces that have their mark.
    pub(super) fn done(&self) -> usize {
        self.done.len()
    }

    /// Who is at work.
    pub(super) fn at_work(&self) -> HashSet<String> {
        self.claims.values().cloned().collect()
    }
}
