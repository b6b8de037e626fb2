//! Who waits for the journal against who keeps it.

use super::{Image, Mapped, commit, explore};
use crate::region::layout::header;
use loom::thread;

/// A bus with room for one entry, and the words of the journal's turns.
fn start(mut image: Image) -> Mapped {
    image.locks.extend([(header::JOURNAL_ASK, 0), (header::JOURNAL_TURN, 0)]);
    image.locks.sort_unstable();
    image.words([header::JOURNALED, header::JOURNAL_LIMIT], 0).start()
}

/// Promise: what was asked for is written: who takes a request sees the change that it is for.
/// Plants: Relaxed for either swap.
#[test]
fn a_request_is_of_what_is_visible() {
    explore("a_request_is_of_what_is_visible", 3, || {
        let bus = start(Image::with_entries(1));
        let keeper = bus.core();
        let keeper = thread::spawn(move || {
            !keeper.take_request().unwrap() || keeper.visible_head().unwrap() == 1
        });
        let writer = bus.core();
        commit(&writer, &[(b"k", Some(10))]);
        writer.ask_journal().unwrap();
        assert!(keeper.join().unwrap(), "a request for what can't be seen");
    });
}

/// Promise: nobody sleeps through the turn that brings what it waits for.
/// Plants: Relaxed for the addition to the turn, or for its load.
#[test]
fn a_turn_brings_what_was_journaled() {
    explore("a_turn_brings_what_was_journaled", 3, || {
        let bus = start(Image::with_entries(1));
        let waiter = bus.core();
        let waiter = thread::spawn(move || waiter.journal_progress().unwrap());
        let keeper = bus.core();
        keeper.note_journaled(1).unwrap();
        keeper.note_turn(9).unwrap();
        let seen = waiter.join().unwrap();
        assert!(seen.turn == 0 || seen.journaled == 1, "it sleeps, and its turn is over: {seen:?}");
    });
}
