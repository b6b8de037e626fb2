//! READ: without a lock, and without a store that anybody waits for.
//!
//! Array word, slot word, block word, `born`; then the head, `died`, the floor of the last clear
//! and the deadline; then slot and array word again; then the copy, and `born` and the block word
//! again. The read takes place when the slot word was loaded. Nothing that it meets can be left
//! half-way by a dead writer, so it waits for nobody; it only begins again when what it looked at
//! was reused meanwhile. Copying validated by a second look follows Boehm, "Can seqlocks get along
//! with programming language memory models?" (MSPC 2012).

use super::Core;
use super::entry::{Entry, Header};
use crate::heap::BlockWord;
use crate::region::BadRegion;
use crate::region::layout::{LINE, entry, header};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed};
use crate::sync::fence;
use crate::word::{ArrayWord, Hash, offset_of};

/// Attempts after which a member pins what it reads, and a reader looks at its deadline.
pub(crate) const ATTEMPTS: u32 = 8;

/// An entry as a read found it: its words may still change under who looks at it.
#[derive(Debug)]
pub(crate) struct Seen<'r> {
    pub(crate) entry: Entry<'r>,
    pub(crate) header: Header,
    pub(crate) born: u64,
    /// Boot time at which it expires, or 0.
    pub(crate) deadline: u64,
    /// Through which it was found; `None` for a predecessor, which is about to be retired.
    pub(crate) trail: Option<Trail>,
}

/// The words through which an entry was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trail {
    stripe: u64,
    array: ArrayWord,
    slot: u64,
    word: u64,
    block_index: u64,
    block: BlockWord,
    born: u64,
}

impl Trail {
    pub(crate) fn born(&self) -> u64 {
        self.born
    }
}

/// What one look at a slot word gave.
enum Look<T> {
    Hit(T),
    Absent,
    /// Another key with the same tag.
    Mismatch,
    Again,
}

/// An entry that a look leads to, with what must still hold after the copy.
struct Candidate<'r> {
    entry: Entry<'r>,
    block_index: u64,
    block: BlockWord,
    born: u64,
}

/// Whether an entry is to be seen.
enum Visible<'r> {
    Yes,
    Died,
    Again,
    Predecessor(Candidate<'r>),
}

/// The read was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadFailure {
    /// Writers overtook it every time.
    Contended {
        attempts: u32,
    },
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
        // ORDERING: [known] AcqRel; pairs with the Acquire load in `visible`.
        self.known_head.fetch_max(head, AcqRel);
        Ok(head)
    }

    /// Looks `key` up and calls `take` with what is there while it may still change; what `take`
    /// answered is good when this returns it. `take` may run several times.
    #[inline]
    pub(crate) fn read<T>(
        &self,
        key: &[u8],
        mut take: impl FnMut(&Seen<'_>) -> Result<T, BadRegion>,
    ) -> Result<Option<T>, ReadFailure> {
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
    #[inline]
    fn read_once<T>(
        &self,
        array: ArrayWord,
        stripe: u64,
        hash: Hash,
        key: &[u8],
        take: &mut impl FnMut(&Seen<'_>) -> Result<T, BadRegion>,
    ) -> Result<Option<Option<T>>, BadRegion> {
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
            Some(Look::Hit(taken)) => Ok(Some(Some(taken))),
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

    /// The entry at `at`, and the words that tell whether it was reused meanwhile.
    #[inline]
    fn candidate(&self, at: u64) -> Result<Candidate<'_>, BadRegion> {
        let block_index = self.geometry.block_of(at)?;
        // The entry's second line is needed as soon as its first one is.
        self.region.prefetch(at + LINE);
        let block = self.block_word(block_index)?;
        let entry = self.entry_of(at, block_index, block)?;
        // ORDERING: [entry.born] Acquire; pairs with the Release stores in `finish`.
        let born = entry.born(Acquire)?;
        Ok(Candidate { entry, block_index, block, born })
    }

    /// Whether a candidate's words are still what they were, after an Acquire fence.
    #[inline]
    fn is_same(&self, candidate: &Candidate<'_>) -> Result<bool, BadRegion> {
        let block = self.region.load(self.geometry.block_word(candidate.block_index), Relaxed)?;
        Ok(candidate.entry.born(Relaxed)? == candidate.born && block == candidate.block.0)
    }

    /// Whether an entry is to be seen: iff `born` ≤ head and not `died` ≤ head. In place of one that
    /// is too young stands its predecessor.
    #[inline]
    fn visible(&self, candidate: &Candidate<'_>) -> Result<Visible<'_>, BadRegion> {
        let born = candidate.born;
        // ORDERING: [known] Acquire; pairs with the AcqRel `fetch_max` in `head`.
        let mut head = self.known_head.load(Acquire);
        if born > head {
            head = self.head()?;
        }
        if born > head {
            return self.predecessor(candidate);
        }
        // ORDERING: [entry.died] Acquire; pairs with the Release stores in `finish`.
        let died = candidate.entry.died(Acquire)?;
        if died > head {
            head = self.head()?;
        }
        Ok(if died != 0 && died <= head { Visible::Died } else { Visible::Yes })
    }

    /// What is there in place of an entry whose change is not visible yet.
    #[cold]
    fn predecessor(&self, candidate: &Candidate<'_>) -> Result<Visible<'_>, BadRegion> {
        let at = candidate.entry.pred()?;
        if at == entry::NONE {
            return Ok(Visible::Died);
        }
        let before = self.candidate(at)?;
        let reused = before.born == 0 || before.born >= candidate.born;
        if reused || self.head()? >= candidate.born {
            return Ok(Visible::Again);
        }
        Ok(Visible::Predecessor(before))
    }

    #[inline]
    fn look<T>(
        &self,
        array: ArrayWord,
        stripe: u64,
        slot: u64,
        word: u64,
        key: &[u8],
        take: &mut impl FnMut(&Seen<'_>) -> Result<T, BadRegion>,
    ) -> Result<Look<T>, BadRegion> {
        let named = self.candidate(offset_of(word))?;
        if named.born == 0 {
            return Ok(Look::Again);
        }
        let (mut gone, mut before) = (false, None);
        match self.visible(&named)? {
            Visible::Yes => {}
            Visible::Died => gone = true,
            Visible::Again => return Ok(Look::Again),
            Visible::Predecessor(entry) => before = Some(entry),
        }
        let shown = before.as_ref().unwrap_or(&named);
        let head_of = shown.entry.header()?;
        // A mismatch must not look like the absence of the key: it is told first.
        let other = !shown.entry.has_key(&head_of, key)?;
        let deadline = shown.entry.deadline(&head_of)?;
        // ORDERING: [cleared] Acquire; pairs with the Release store in `finish`.
        gone |= shown.born < self.region.load(header::CLEARED_AT, Acquire)?;
        gone |= deadline != 0 && deadline <= self.clock.boot();
        if self.slot(slot)? != word || self.array_word(stripe)? != array {
            return Ok(Look::Again);
        }
        let trail = Trail {
            stripe,
            array,
            slot,
            word,
            block_index: named.block_index,
            block: named.block,
            born: named.born,
        };
        let taken = if gone || other {
            None
        } else {
            Some(take(&Seen {
                entry: shown.entry.clone(),
                header: head_of,
                born: shown.born,
                deadline,
                trail: before.is_none().then_some(trail),
            })?)
        };
        // ORDERING: [entry.refill] [block.cut] Acquire fence: the copy comes before the second look;
        // pairs with the Release fences in `occupy`, `take_spare` and `make_span`.
        fence(Acquire);
        let same = self.is_same(&named)?
            && match &before {
                None => true,
                Some(before) => self.is_same(before)?,
            };
        Ok(match taken {
            _ if !same => Look::Again,
            _ if other => Look::Mismatch,
            None => Look::Absent,
            Some(taken) => Look::Hit(taken),
        })
    }

    /// Whether everything through which an entry was found is still as it was. Who has announced
    /// its pin since then, with a SeqCst fence between, may keep the entry.
    pub(crate) fn leads_still(&self, trail: &Trail) -> Result<bool, BadRegion> {
        let entry = self.trailed(trail)?;
        Ok(self.slot(trail.slot)? == trail.word
            && self.array_word(trail.stripe)? == trail.array
            && entry.born(Acquire)? == trail.born
            && self.block_word(trail.block_index)? == trail.block)
    }
    /// The entry to which a trail led.
    pub(crate) fn trailed(&self, trail: &Trail) -> Result<Entry<'_>, BadRegion> {
        self.entry_of(offset_of(trail.word), trail.block_index, trail.block)
    }
}
