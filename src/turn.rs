//! Turns of the journal: who waits for it asks for one and sleeps until one has passed.
//!
//! 1. Whoever waits asks (`JOURNAL_ASK` := 1) after its change is visible; whoever takes the request looks at the
//!    head after that. So what was asked for is written.
//! 2. `JOURNALED` is stored before `JOURNAL_TURN` is raised, and who waits loads the turn first: it sleeps on a turn
//!    whose news it has seen, or on none.
//!
//! Who waits looks again by itself after a while: a death between the two stores of 2 costs time alone.

use crate::heap::Space;
use crate::region::BadRegion;
use crate::region::layout::header;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sys::futex;

/// What who waits has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// To sleep on.
    pub(crate) turn: u32,
    /// Revisions that are durable.
    pub(crate) journaled: u64,
}

impl Space {
    /// Asks for a turn of the journal.
    pub(crate) fn ask_journal(&self) -> Result<(), BadRegion> {
        let ask = self.region.half(header::JOURNAL_ASK)?;
        // ORDERING: [journal.ask] Release; pairs with the Acquire swap in `take_request`, whose look at the
        // head shows what is asked for.
        if ask.swap(1, Release) == 0 {
            futex::wake_all(ask);
        }
        Ok(())
    }

    /// Takes a request for a turn back: whether there was one.
    pub(crate) fn take_request(&self) -> Result<bool, BadRegion> {
        let ask = self.region.half(header::JOURNAL_ASK)?;
        // ORDERING: [journal.ask] Acquire; pairs with the Release swap in `ask_journal`.
        Ok(ask.swap(0, Acquire) != 0)
    }

    /// Says that all up to this revision is durable.
    pub(crate) fn note_journaled(&self, revision: u64) -> Result<(), BadRegion> {
        // ORDERING: [journaled] Release; pairs with the Acquire load in `journal_progress`. Relaxed would do: the
        // turn carries it, and nothing else is read on its word.
        self.region.store(header::JOURNALED, revision, Release)
    }

    /// Tells who waits that the journal has come further, or that nobody is to wait.
    pub(crate) fn note_turn(&self, limit: u64) -> Result<(), BadRegion> {
        self.region.store(header::JOURNAL_LIMIT, limit, Relaxed)?;
        let turn = self.region.half(header::JOURNAL_TURN)?;
        // ORDERING: [journal.turn] Release: `JOURNALED` comes first; pairs with the Acquire load in
        // `journal_progress`.
        turn.fetch_add(1, Release);
        futex::wake_all(turn);
        Ok(())
    }

    /// How far the journal is: the turn, and what it has brought at least.
    pub(crate) fn journal_progress(&self) -> Result<Progress, BadRegion> {
        // ORDERING: [journal.turn] Acquire; pairs with the Release addition in `note_turn`.
        let turn = self.region.half(header::JOURNAL_TURN)?.load(Acquire);
        // ORDERING: [journaled] Acquire; pairs with the Release store in `note_journaled`. Relaxed would do, as said
        // there.
        let journaled = self.region.load_count(header::JOURNALED, Acquire)?;
        Ok(Progress { turn, journaled })
    }
}
