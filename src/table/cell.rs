//! CELL: whether what a read found is still so, by a few loads and without looking the key up.
//!
//! ```text
//! an entry   | died = 0 | born as it was | block word as it was | cleared_at <= born | deadline |
//! no entry   | head as it was                                                                  |
//! ```
//!
//! 1. Only what a read found through its slot word is kept: it was visible. Each of the five holds at
//!    first, and once it does not it never does again. So if the looks find them in turn, all held
//!    when the first of them was made: there, within the call, the entry was the key's.
//! 2. Whatever ends an entry for readers stores `died`, or `cleared_at`, before the head. So who knows
//!    of the end, by whatever way, sees it in that word, or what came after it in its place.
//! 3. The entry that is filled into the same room begins with `born` = 0, then `died` = 0. So `born`
//!    is looked at after `died`; a revision is born once, and never again.
//! 4. A block is cut anew after its word has changed. So that is looked at after `born`: else what two
//!    words of some value happen to be would count as a life.
//! 5. Slot word and array word say nothing more: who takes an entry's slot word lets it die, and a
//!    doubling moves no entry.
//! 6. A key that was absent is so as long as nothing at all has changed: as long as the visible head
//!    is the one that was loaded before the lookup.
//!
//! Nothing is announced and nothing is held: a death leaves nothing behind.

use super::Core;
use super::read::Seen;
use crate::heap::BlockWord;
use crate::region::BadRegion;
use crate::region::layout::{entry, header};
use crate::sync::Ordering::{Acquire, Relaxed};

/// Words of an entry that a cell looks at, from its beginning.
const BORN: usize = (entry::BORN / 8) as usize;
const DIED: usize = (entry::DIED / 8) as usize;
const LIFE: u64 = entry::DIED + 8;

/// What a read found of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Known {
    /// Nothing that can be told to be still so.
    #[default]
    Nothing,
    /// No entry, as of this head.
    Absent {
        head: u64,
    },
    Here(Kept),
}

/// An entry, by the words that tell whether it still is the key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    at: u64,
    born: u64,
    /// Boot time at which it expires, or 0.
    deadline: u64,
    /// Where its block's word stands, and what that was.
    block_at: u64,
    block: BlockWord,
}

impl Known {
    /// Whether the lookup found an entry.
    pub(crate) fn is_there(&self) -> bool {
        !matches!(self, Self::Absent { .. })
    }
}

impl Core {
    /// Looks a key up by `find`, which shows what it finds to the given function: what is known of the
    /// key from then on.
    pub(crate) fn learn<E: From<BadRegion>>(
        &self,
        find: impl FnOnce(&mut dyn FnMut(&Seen<'_>)) -> Result<bool, E>,
    ) -> Result<Known, E> {
        // Before the lookup (invariant 6).
        let head = self.head()?;
        let mut kept = None;
        let found = find(&mut |seen| kept = self.kept(seen))?;
        Ok(match (found, kept) {
            (false, _) => Known::Absent { head },
            (true, Some(kept)) => Known::Here(kept),
            (true, None) => Known::Nothing,
        })
    }

    /// What can be kept of an entry; not of a predecessor, which is about to die.
    fn kept(&self, seen: &Seen<'_>) -> Option<Kept> {
        let track = seen.trail?.track();
        Some(Kept {
            at: seen.entry.at(),
            born: seen.born,
            deadline: seen.deadline,
            block_at: self.geometry.block_word(track.block_index),
            block: track.block,
        })
    }

    /// Whether what was found of a key is what a lookup would find now.
    #[inline]
    pub(crate) fn still_holds(&self, known: &Known) -> Result<bool, BadRegion> {
        match known {
            Known::Here(kept) => self.still_lives(kept),
            Known::Absent { head } => Ok(self.visible_head()? == *head),
            Known::Nothing => Ok(false),
        }
    }

    #[inline]
    fn still_lives(&self, kept: &Kept) -> Result<bool, BadRegion> {
        let life = self.region.words(kept.at, LIFE)?;
        // ORDERING: [entry.reuse] Acquire: a 0 of what came to stand here leads to its `born`; pairs
        // with the Release stores of `died` in `occupy`, `take_spare` and `vacate`.
        let died = life.load(DIED, Acquire)?;
        // ORDERING: [block.cut] Acquire: bytes that are no entry lead to their block's word; pairs
        // with the Release fence in `make_span`.
        let born = life.load(BORN, Acquire)?;
        let block = self.region.load(kept.block_at, Relaxed)?;
        let cleared = self.region.load(header::CLEARED_AT, Relaxed)?;
        Ok(died == 0
            && born == kept.born
            && block == kept.block.0
            && cleared <= kept.born
            && !self.is_past(kept.deadline))
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::testing::{Memo, Sight, bus, delete, set, small};
    use super::super::wish::{Action, KIND_BYTES, Wish};
    use super::super::{Clock, entry::Note};
    use super::*;
    use crate::hook;

    fn sight(revision: u64, value: &[u8]) -> Option<Sight> {
        Some((revision, value.to_vec()))
    }

    /// A cell of `k` that was filled.
    fn filled(core: &Core) -> Memo {
        let mut cell = Memo::default();
        cell.get(core, "k").unwrap();
        cell
    }

    /// Promise (cells): what others do leaves a cell as it is: changes of other keys, sweeps, a
    /// doubling that takes its slot word elsewhere.
    /// Plant: a cell that holds as long as the head is the same.
    #[test]
    fn what_others_do_is_nothing_to_a_cell() {
        let (core, _yard) = bus(small(1 << 20));
        core.write_one(0, &set("k", b"value")).unwrap();
        let mut cell = filled(&core);
        let stripe = core.site(b"k".into(), &|_| false).stripe;
        let array = core.array_word(stripe).unwrap();
        core.double(stripe).unwrap();
        assert_ne!(core.array_word(stripe).unwrap(), array);
        for number in 0..2000_u32 {
            let key = format!("other{}", number % 400);
            core.write_one(0, &set(&key, &number.to_le_bytes())).unwrap();
        }
        for stripe in 0..core.geometry.stripes {
            core.sweep_retired(stripe).unwrap();
        }
        assert_eq!(core.still_holds(&cell.known), Ok(true));
        assert_eq!(cell.get(&core, "k").unwrap(), sight(1, b"value"));
    }

    /// Promise (cells): the value ends with its entry, whatever comes to stand in the same room.
    /// Plants: no look at `died`, none at `born`, none at the block word.
    #[test]
    fn a_cell_ends_with_its_entry() {
        let (core, _yard) = bus(small(1 << 20));
        core.write_one(0, &set("k", b"value")).unwrap();
        let stripe = core.site(b"k".into(), &|_| false).stripe;
        let (mut cell, first) = (filled(&core), filled(&core));
        let Known::Here(Kept { at, .. }) = first.known else { panic!("{first:?}") };
        core.write_one(0, &set("k", b"again")).unwrap();
        core.free_retired(stripe, 1).unwrap();
        assert_eq!(core.still_holds(&first.known), Ok(false), "a spare");
        assert_eq!(cell.get(&core, "k").unwrap(), sight(2, b"again"));
        // The key comes back into the room, and the slot word is what it was.
        core.write_one(0, &set("k", b"third")).unwrap();
        let back = filled(&core);
        assert!(matches!(back.known, Known::Here(kept) if kept.at == at), "the room was used anew");
        assert_eq!(core.still_holds(&first.known), Ok(false));
        assert_eq!(cell.get(&core, "k").unwrap(), sight(3, b"third"));
        // Its block is cut anew, and what a value holds looks like its life.
        core.write_one(0, &delete("k")).unwrap();
        core.sweep_retired(stripe).unwrap();
        assert_eq!(core.still_holds(&back.known), Ok(false), "a free room");
        assert_eq!(cell.get(&core, "k").unwrap(), None);
        let forged: Vec<u8> = [3_u64, 0].into_iter().flat_map(u64::to_le_bytes).collect();
        let Known::Here(kept) = back.known else { panic!("{back:?}") };
        core.region.write(at, &forged).unwrap();
        let word = core.region.load(kept.block_at, Relaxed).unwrap();
        core.region.store(kept.block_at, kept.block.0, Relaxed).unwrap();
        assert_eq!(core.still_holds(&back.known), Ok(true), "but for the block word it would hold");
        core.region.store(kept.block_at, word, Relaxed).unwrap();
        assert_eq!(core.still_holds(&back.known), Ok(false));
    }

    /// Promises (cells) that a value is not given before it is visible, nor after its end; and that a
    /// writer who stands still in a commit delays nobody.
    /// Plant: no look at `died`.
    #[test]
    fn a_cell_in_the_middle_of_a_commit() {
        let (steps, _) = hook::count(|| {
            let (core, _yard) = bus(small(1 << 20));
            core.write_one(0, &set("k", b"old")).unwrap();
            hook::count(|| core.write_one(0, &set("k", b"new")).unwrap()).0
        });
        let (mut before, mut after) = (0, 0);
        for step in 0..=steps {
            let (core, _yard) = bus(small(1 << 20));
            core.write_one(0, &set("k", b"old")).unwrap();
            let mut cell = filled(&core);
            let done = hook::dying_after(step, || core.write_one(0, &set("k", b"new")).unwrap());
            let is_visible = core.head().unwrap() == 2;
            let expected = if is_visible { sight(2, b"new") } else { sight(1, b"old") };
            assert_eq!(cell.get(&core, "k").unwrap(), expected, "after step {step}");
            assert_eq!(filled(&core).get(&core, "k").unwrap(), expected, "after step {step}");
            (before, after) = (before + u32::from(!is_visible), after + u32::from(is_visible));
            if done.is_some() {
                break;
            }
        }
        assert!(before > 10 && after > 2, "{before} {after}");
    }

    /// Promise (cells): past its deadline a value is not given, whether anybody took it away or not;
    /// a renewal in time counts.
    /// Plant: no look at the clock.
    #[test]
    fn a_cell_ends_at_the_deadline() {
        let (mut core, _yard) = bus(small(1 << 20));
        core.clock = Clock::fixed(1000);
        let lease = |deadline| {
            let note = Note { deadline, kind: KIND_BYTES, ..Note::default() };
            let action = Action::Set { value: b"value", note };
            core.write_one(0, &Wish { action, ..set("k", b"") }).unwrap().revision
        };
        let first = lease(1100);
        let mut cell = filled(&core);
        core.clock.advance(99);
        assert_eq!(core.still_holds(&cell.known), Ok(true));
        let second = lease(1200);
        assert_eq!(cell.get(&core, "k").unwrap(), sight(second, b"value"));
        assert!(second > first);
        core.clock.advance(100);
        assert_eq!(core.still_holds(&cell.known), Ok(true));
        core.clock.advance(1);
        assert_eq!(cell.get(&core, "k").unwrap(), None);
        assert_eq!(core.still_holds(&cell.known), Ok(true), "absent as long as nothing changes");
    }

    /// Promise (cells): a clear ends all values at once; what is absent is so until it is set.
    /// Plants: no look at the last clear; an absence that holds whatever the head.
    #[test]
    fn a_cell_of_what_was_cleared() {
        let (core, _yard) = bus(small(1 << 20));
        core.write_one(0, &set("k", b"value")).unwrap();
        let mut cell = filled(&core);
        let (clear, _) = hook::count(|| core.clear(0, 0, b"").unwrap());
        for step in 0..=clear {
            let (core, _yard) = bus(small(1 << 20));
            core.write_one(0, &set("k", b"value")).unwrap();
            let mut cell = filled(&core);
            let _end = hook::dying_after(step, || core.clear(0, 0, b""));
            let is_visible = core.head().unwrap() == 2;
            let expected = if is_visible { None } else { sight(1, b"value") };
            assert_eq!(cell.get(&core, "k").unwrap(), expected, "after step {step}");
        }
        assert_eq!(cell.get(&core, "k").unwrap(), None);
        assert_eq!(core.still_holds(&cell.known), Ok(true), "absent as long as nothing changes");
        core.write_one(0, &set("other", b"value")).unwrap();
        assert_eq!(core.still_holds(&cell.known), Ok(false), "anything may have come");
        assert_eq!(cell.get(&core, "k").unwrap(), None);
        let born = core.write_one(0, &set("k", b"new")).unwrap().revision;
        assert_eq!(cell.get(&core, "k").unwrap(), sight(born, b"new"));
    }
}
