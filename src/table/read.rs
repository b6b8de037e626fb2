//! READ: without a lock, and without a store that anybody waits for.
//!
//! Array word, slot word, block word, `born`; then the head, `died`, the floor of the last clear
//! and the deadline; then slot and array word again; then the copy, and `born` and the block word
//! again. The read takes place when the slot word was loaded. Nothing that it meets can be left
//! half-way by a dead writer, so it waits for nobody; it only begins again when what it looked at
//! was reused meanwhile. Copying validated by a second look follows Boehm, "Can seqlocks get along
//! with programming language memory models?" (MSPC 2012).

use super::Core;
use super::entry::Header;
use crate::heap::BlockWord;
use crate::region::BadRegion;
use crate::region::layout::{entry, header};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed};
use crate::sync::fence;
use crate::word::{ArrayWord, Hash, offset_of};

/// Attempts that one call of [`Core::read`] makes at the most; past it the caller says so.
pub(crate) const ATTEMPTS: u32 = 1 << 16;

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) header: Header,
    pub(crate) born: u64,
    pub(crate) deadline: u64,
    pub(crate) owner: u64,
    pub(crate) time: u64,
    /// Slot word, array word and block word through which it was found; not a predecessor's.
    pub(crate) word: u64,
    pub(crate) array: ArrayWord,
    pub(crate) block: BlockWord,
    pub(crate) slot: u64,
    pub(crate) predecessor: bool,
}

/// What one look at a slot word gave.
enum Look {
    Hit(Seen),
    Absent,
    /// Another key with the same tag.
    Mismatch,
    Again,
}

/// Whether an entry is to be seen.
enum Visible {
    Yes,
    Died,
    Again,
    /// Its offset, block, block word and `born`.
    Predecessor((u64, u64, BlockWord, u64)),
}

/// The read went on being overtaken by writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadFailure {
    Contended { attempts: u32 },
    Bad(BadRegion),
}

impl From<BadRegion> for ReadFailure {
    fn from(bad: BadRegion) -> Self {
        Self::Bad(bad)
    }
}

impl Core {
    /// The newest head, remembered for all threads of this process.
    #[inline]
    pub(crate) fn head(&self) -> Result<u64, BadRegion> {
        // ORDERING: [head] Acquire; pairs with the Release store in `finish`.
        let head = self.region.load(header::HEAD, Acquire)?;
        // ORDERING: [known] AcqRel; pairs with the Acquire load in `look`.
        self.known_head.fetch_max(head, AcqRel);
        Ok(head)
    }

    /// Looks `key` up and calls `take` with what is there while it may still change; what `take`
    /// copied is good when this returns. `take` may run several times.
    pub(crate) fn read(
        &self,
        key: &[u8],
        mut take: impl FnMut(&Seen) -> Result<(), BadRegion>,
    ) -> Result<Option<Seen>, ReadFailure> {
        let hash = Hash::of(key, self.geometry.seed);
        let stripe = hash.stripe(self.geometry.stripes);
        for _ in 0..ATTEMPTS {
            let array = self.array_word(stripe)?;
            match self.read_once(array, stripe, hash, key, &mut take) {
                Ok(Some(result)) => return Ok(result),
                Ok(None) => {}
                // Words of an array that is being used anew mean nothing; of a live one, harm.
                Err(bad) => {
                    fence(Acquire);
                    if self.array_word(stripe)? == array {
                        return Err(bad.into());
                    }
                }
            }
            std::hint::spin_loop();
        }
        Err(ReadFailure::Contended { attempts: ATTEMPTS })
    }

    /// One pass over the chain: `None` to begin again.
    fn read_once(
        &self,
        array: ArrayWord,
        stripe: u64,
        hash: Hash,
        key: &[u8],
        take: &mut impl FnMut(&Seen) -> Result<(), BadRegion>,
    ) -> Result<Option<Option<Seen>>, BadRegion> {
        let end = self.search(array, hash, |slot, word| {
            match self.look(array, stripe, slot, word, key, take) {
                Ok(Look::Mismatch) => Ok(None),
                Ok(look) => Ok(Some(look)),
                Err(bad) => {
                    fence(Acquire);
                    if self.slot(slot)? == word && self.array_word(stripe)? == array {
                        return Err(bad);
                    }
                    Ok(Some(Look::Again))
                }
            }
        })?;
        match end {
            Some(Look::Hit(seen)) => Ok(Some(Some(seen))),
            Some(Look::Absent) => Ok(Some(None)),
            Some(Look::Again | Look::Mismatch) => Ok(None),
            None => {
                // ORDERING: [array.reuse] Acquire fence: the slot words come before this look;
                // pairs with the Release fence in `double`.
                fence(Acquire);
                Ok((self.array_word(stripe)? == array).then_some(None))
            }
        }
    }

    /// How many bytes an entry at `at` may have, by its block's word alone.
    #[inline]
    fn room_at(&self, at: u64, block: u64, word: BlockWord) -> Result<u64, BadRegion> {
        use crate::heap::class;
        if !word.holds_entries() {
            return Err(BadRegion { offset: at, found: word.0, expected: "a block of entries" });
        }
        if word.class() == class::BIG {
            let end = self.geometry.block(block)
                + (self.span_blocks(block)? << self.geometry.block_shift);
            return Ok(end - at);
        }
        Ok(class::size_of_class(word.class() % crate::region::layout::CLASSES_MAX))
    }

    /// Whether the entry at `at`, born at `born`, is to be seen: iff `born` ≤ head and not `died` ≤
    /// head. In place of one that is too young stands its predecessor.
    #[inline]
    fn visible(&self, at: u64, born: u64) -> Result<Visible, BadRegion> {
        // ORDERING: [known] Acquire; pairs with the AcqRel `fetch_max` in `head`.
        let mut head = self.known_head.load(Acquire);
        if born > head {
            head = self.head()?;
        }
        if born <= head {
            // ORDERING: [entry.died] Acquire; pairs with the Release stores in `finish`.
            let died = self.region.load(at + entry::DIED, Acquire)?;
            if died > head {
                head = self.head()?;
            }
            return Ok(if died != 0 && died <= head { Visible::Died } else { Visible::Yes });
        }
        let pred = self.region.load(at + entry::PRED, Relaxed)?;
        if pred == entry::NONE {
            return Ok(Visible::Died);
        }
        let pred = offset_of(pred);
        let index = self.geometry.block_of(pred)?;
        let word = self.block_word(index)?;
        let pred_born = self.region.load(pred + entry::BORN, Acquire)?;
        if pred_born == 0 || pred_born >= born || self.head()? >= born {
            return Ok(Visible::Again);
        }
        Ok(Visible::Predecessor((pred, index, word, pred_born)))
    }

    #[inline]
    fn look(
        &self,
        array: ArrayWord,
        stripe: u64,
        slot: u64,
        word: u64,
        key: &[u8],
        take: &mut impl FnMut(&Seen) -> Result<(), BadRegion>,
    ) -> Result<Look, BadRegion> {
        let mut at = offset_of(word);
        let block_index = self.geometry.block_of(at)?;
        let block = self.block_word(block_index)?;
        // ORDERING: [entry.born] Acquire; pairs with the Release stores in `finish`.
        let born = self.region.load(at + entry::BORN, Acquire)?;
        if born == 0 {
            return Ok(Look::Again);
        }
        let mut gone = false;
        let mut before = None;
        match self.visible(at, born)? {
            Visible::Yes => {}
            Visible::Died => gone = true,
            Visible::Again => return Ok(Look::Again),
            Visible::Predecessor(pred) => {
                at = pred.0;
                before = Some(pred);
            }
        }
        let (index, room_word, shown) = match before {
            Some((_, index, word, born)) => (index, word, born),
            None => (block_index, block, born),
        };
        let head_of = self.header(at, self.room_at(at, index, room_word)?)?;
        // A mismatch must not look like the absence of the key: it is told first.
        let other =
            head_of.key_len != key.len() as u64 || !self.region.equals(head_of.key(), key)?;
        let deadline = self.space.deadline(&head_of)?;
        // ORDERING: [cleared] Acquire; pairs with the Release store in `finish`.
        gone |= shown < self.region.load(header::CLEARED_AT, Acquire)?;
        gone |= deadline != 0 && deadline <= self.clock.boot();
        if self.slot(slot)? != word || self.array_word(stripe)? != array {
            return Ok(Look::Again);
        }
        let seen = Seen {
            header: head_of,
            born: shown,
            deadline,
            owner: self.space.entry_owner(&head_of)?,
            time: self.space.time(&head_of)?,
            word,
            array,
            block,
            slot,
            predecessor: before.is_some(),
        };
        if !gone && !other {
            take(&seen)?;
        }
        // ORDERING: [entry.refill] [block.cut] Acquire fence: the copy comes before the second look; pairs
        // with the Release fences in `occupy` and `make_span`.
        fence(Acquire);
        let same = self.region.load(offset_of(word) + entry::BORN, Relaxed)? == born
            && self.region.load(self.geometry.block_word(block_index), Relaxed)? == block.0;
        let same_before = match before {
            None => true,
            Some((pred, index, word, pred_born)) => {
                self.region.load(pred + entry::BORN, Relaxed)? == pred_born
                    && self.region.load(self.geometry.block_word(index), Relaxed)? == word.0
            }
        };
        Ok(match (same && same_before, other, gone) {
            (false, ..) => Look::Again,
            (_, true, _) => Look::Mismatch,
            (_, _, true) => Look::Absent,
            _ => Look::Hit(seen),
        })
    }
}
