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
use crate::region::layout::{LINE, entry, header};
use crate::region::{BadRegion, Words};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed};
use crate::sync::fence;
use crate::word::{ArrayWord, Hash, Name, offset_of};

/// Attempts after which a member pins what it reads, and a reader looks at its deadline. In a model
/// of one change: as many as that may cost.
pub(crate) const ATTEMPTS: u32 = if cfg!(loom) { 3 } else { 8 };

/// An entry as a read found it: its words may still change under who looks at it.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) entry: &'a Entry<'a>,
    pub(crate) header: Header,
    pub(crate) born: u64,
    /// Boot time at which it expires, or 0.
    pub(crate) deadline: u64,
    /// Through which it was found; `None` for a predecessor, which is about to be retired.
    pub(crate) trail: Option<Trail<'a>>,
}

/// Where a slot word was found.
#[derive(Debug)]
pub(crate) struct Spot<'a> {
    /// The word of the array, as it stands in the stripe.
    lane: &'a Words<'a>,
    array: ArrayWord,
    /// The bucket, and the slot word's number in it.
    line: &'a Words<'a>,
    index: usize,
    word: u64,
}

impl Spot<'_> {
    /// Whether the slot word and the array in which it was found are still the same.
    #[inline]
    fn is_same(&self) -> Result<bool, BadRegion> {
        // ORDERING: [slot] [array] Acquire; pairs with the Release stores in `finish` and
        // `publish_array`. Relaxed would do: a fence follows before the last look at `born`.
        Ok(self.line.load(self.index, Acquire)? == self.word
            && self.lane.load(0, Acquire)? == self.array.0)
    }
}

/// The words through which an entry was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trail<'a> {
    spot: &'a Spot<'a>,
    found: &'a Candidate<'a>,
}

/// What is left of a [`Trail`] when the read is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Track {
    lane: u64,
    array: ArrayWord,
    slot: u64,
    word: u64,
    pub(super) block_index: u64,
    pub(super) block: BlockWord,
    pub(crate) born: u64,
}

impl Trail<'_> {
    pub(crate) fn track(&self) -> Track {
        let Candidate { block_index, block, born, .. } = *self.found;
        let Spot { lane, array, line, index, word } = *self.spot;
        let (lane, slot) = (lane.at(), line.at() + 8 * index as u64);
        Track { lane, array, slot, word, block_index, block, born }
    }
}

/// What one look at a slot word gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Hit,
    Absent,
    /// Another key with the same tag.
    Mismatch,
    Again,
}

/// An entry that a look leads to, with what must still hold after the copy.
#[derive(Debug)]
pub(super) struct Candidate<'r> {
    pub(super) entry: Entry<'r>,
    block_index: u64,
    block: BlockWord,
    pub(super) born: u64,
}

/// The read was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        let head = self.visible_head()?;
        // ORDERING: [known] AcqRel; pairs with the Acquire load in `look`.
        self.known_head.fetch_max(head, AcqRel);
        Ok(head)
    }

    /// Looks `key` up and calls `take` with what is there while it may still change: whether there is
    /// an entry. What `take` was shown last is good when this returns; it may run several times.
    #[inline]
    pub(crate) fn read<'k>(
        &self,
        name: impl Into<Name<'k>>,
        mut take: impl FnMut(&Seen<'_>) -> Result<(), BadRegion>,
    ) -> Result<bool, ReadFailure> {
        let name = name.into();
        let hash = Hash::of(name, self.geometry.seed);
        let lane = self.lane(hash.stripe(self.geometry.stripes))?;
        let mut end = Err(ReadFailure::Contended { attempts: ATTEMPTS });
        for _ in 0..ATTEMPTS {
            // ORDERING: [array] Acquire; pairs with the Release store in `publish_array`.
            let array = ArrayWord(lane.load(0, Acquire)?);
            match self.read_once(&lane, array, hash, name, &mut take) {
                Ok(Look::Hit) => return Ok(true),
                Ok(Look::Absent) => return Ok(false),
                Ok(Look::Again | Look::Mismatch) => {
                    end = Err(ReadFailure::Contended { attempts: ATTEMPTS });
                }
                // Words of an array that is being used anew mean nothing; of a live one, harm, when
                // that is what is found in the end.
                Err(bad) => {
                    fence(Acquire);
                    if lane.load(0, Acquire)? == array.0 {
                        end = Err(bad.into());
                    }
                }
            }
            std::hint::spin_loop();
        }
        end
    }

    /// One pass over the chain.
    #[inline(always)]
    fn read_once(
        &self,
        lane: &Words<'_>,
        array: ArrayWord,
        hash: Hash,
        name: Name<'_>,
        take: &mut impl FnMut(&Seen<'_>) -> Result<(), BadRegion>,
    ) -> Result<Look, BadRegion> {
        let end = self.search(array, hash, |line, index, word| {
            let spot = Spot { lane, array, line, index, word };
            match self.look(name, &spot, take) {
                Ok(Look::Mismatch) => Ok(None),
                Ok(look) => Ok(Some(look)),
                Err(bad) => {
                    // For the size of a big entry, which stands in its span.
                    fence(Acquire);
                    if spot.is_same()? { Err(bad) } else { Ok(Some(Look::Again)) }
                }
            }
        })?;
        if let Some(look) = end {
            return Ok(look);
        }
        // ORDERING: [array.reuse] Acquire fence: the slot words come before this look; pairs with
        // the Release fence in `double`.
        fence(Acquire);
        // ORDERING: [array] Acquire; pairs with the Release store in `publish_array`. Relaxed would
        // do: nothing is read through this word.
        let same = lane.load(0, Acquire)? == array.0;
        Ok(if same { Look::Absent } else { Look::Again })
    }

    /// The entry at `at`, and the words that tell whether it was reused meanwhile.
    #[inline(always)]
    pub(super) fn candidate(&self, at: u64) -> Result<Candidate<'_>, BadRegion> {
        let block_index = self.geometry.block_of(at)?;
        // The entry's second line is needed as soon as its first one is.
        self.region.prefetch(at + LINE);
        let block = self.block_word(block_index)?;
        let entry = self.entry_of(at, block_index, block)?;
        // ORDERING: [entry.born] Acquire; pairs with the Release stores in `finish`.
        let born = entry.born(Acquire)?;
        Ok(Candidate { entry, block_index, block, born })
    }

    /// Whether a candidate's words are still what they were.
    #[inline]
    pub(super) fn is_same(&self, candidate: &Candidate<'_>) -> Result<bool, BadRegion> {
        // ORDERING: [entry.refill] [block.cut] Acquire fence: the copy comes before the second look;
        // pairs with the Release fences in `occupy`, `take_spare` and `make_span`.
        fence(Acquire);
        let block = self.region.load(self.geometry.block_word(candidate.block_index), Relaxed)?;
        Ok(candidate.entry.born(Relaxed)? == candidate.born && block == candidate.block.0)
    }

    /// An entry is to be seen iff `born` ≤ head and not `died` ≤ head.
    #[inline(always)]
    fn look(
        &self,
        name: Name<'_>,
        spot: &Spot<'_>,
        take: &mut impl FnMut(&Seen<'_>) -> Result<(), BadRegion>,
    ) -> Result<Look, BadRegion> {
        let found = self.candidate(offset_of(spot.word))?;
        // ORDERING: [known] Acquire; pairs with the AcqRel `fetch_max` in `head`.
        let known = self.known_head.load(Acquire);
        if found.born == 0 {
            return Ok(Look::Again);
        }
        if found.born > known && found.born > self.head()? {
            return self.look_before(name, spot, &found, take);
        }
        // ORDERING: [entry.died] Acquire; pairs with the Release stores in `finish`. Relaxed would
        // do: the head, loaded after it, decides.
        let died = found.entry.died(Acquire)?;
        let gone = died != 0 && (died <= known || died <= self.head()?);
        let trail = Some(Trail { spot, found: &found });
        let look = self.take(name, spot, &found, gone, trail, take);
        // Neither what was found nor damage counts in an entry that was reused meanwhile.
        if self.is_same(&found)? { look } else { Ok(Look::Again) }
    }

    /// The change that made `young` is not visible yet: its predecessor is what is there.
    #[cold]
    fn look_before(
        &self,
        name: Name<'_>,
        spot: &Spot<'_>,
        young: &Candidate<'_>,
        take: &mut impl FnMut(&Seen<'_>) -> Result<(), BadRegion>,
    ) -> Result<Look, BadRegion> {
        let at = young.entry.pred()?;
        if at == entry::NONE {
            let header = young.entry.header();
            let has_key = header.and_then(|header| young.entry.has_key(&header, name));
            return match spot.is_same()? && self.is_same(young)? {
                false => Ok(Look::Again),
                true => Ok(if has_key? { Look::Absent } else { Look::Mismatch }),
            };
        }
        let found = self.candidate(at);
        if found.as_ref().is_ok_and(|found| found.born == 0 || found.born >= young.born) {
            return Ok(Look::Again);
        }
        // Not `died`: that is the birth of the one that is too young.
        let look = match &found {
            Ok(found) => self.take(name, spot, found, false, None, take),
            Err(bad) => Err(bad.clone()),
        };
        let is_same =
            self.is_same(young)? && found.as_ref().map_or(Ok(true), |f| self.is_same(f))?;
        // After the predecessor's deadline was compared with the clock: its successor may have come
        // into view before it passed.
        if is_same && self.head()? < young.born { look } else { Ok(Look::Again) }
    }

    /// What an entry comes to, as long as it is the same afterwards.
    #[inline(always)]
    fn take(
        &self,
        name: Name<'_>,
        spot: &Spot<'_>,
        found: &Candidate<'_>,
        gone: bool,
        trail: Option<Trail<'_>>,
        take: &mut impl FnMut(&Seen<'_>) -> Result<(), BadRegion>,
    ) -> Result<Look, BadRegion> {
        let entry = &found.entry;
        let header = entry.header()?;
        // A mismatch must not look like the absence of the key: it is told first.
        let other = !entry.has_key(&header, name)?;
        let deadline = entry.deadline(&header)?;
        // ORDERING: [cleared] Acquire; pairs with the Release store in `finish`. Relaxed would do:
        // nothing else is read on its word, and it comes before the head.
        let cleared = self.region.load_count(header::CLEARED_AT, Acquire)?;
        let gone = gone || header.is_cleared(found.born, cleared) || self.is_past(deadline);
        // Before the copy: who trusted a hit or a mismatch without this look would tell of an entry
        // that came to stand here later.
        if !spot.is_same()? {
            return Ok(Look::Again);
        }
        if other {
            return Ok(Look::Mismatch);
        }
        if gone {
            return Ok(Look::Absent);
        }
        take(&Seen { entry, header, born: found.born, deadline, trail })?;
        Ok(Look::Hit)
    }

    /// Whether a deadline has passed; 0 never does.
    #[inline]
    pub(crate) fn is_past(&self, deadline: u64) -> bool {
        deadline != 0 && deadline <= self.clock.boot()
    }

    /// Whether everything through which an entry was found is still as it was. Who has announced
    /// its pin since then, with a SeqCst fence between, may keep the entry.
    pub(crate) fn leads_still(&self, track: &Track) -> Result<bool, BadRegion> {
        let entry = self.tracked(track)?;
        Ok(self.slot(track.slot)? == track.word
            // ORDERING: [array] Acquire; pairs with the Release store in `publish_array`. Relaxed
            // would do: the fence shows what left the entry before it was looked for in the pins.
            && self.region.load(track.lane, Acquire)? == track.array.0
            && entry.born(Acquire)? == track.born
            && self.block_word(track.block_index)? == track.block)
    }

    /// The entry to which a track leads.
    pub(crate) fn tracked(&self, track: &Track) -> Result<Entry<'_>, BadRegion> {
        self.entry_of(offset_of(track.word), track.block_index, track.block)
    }
}
