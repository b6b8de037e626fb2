//! `check`: every structure of a region against every other, read-only.
//!
//! It is REPAIR's computation without the repair: what is occupied must be named or retired, what
//! is named must be occupied, born and of its stripe, every block must belong to a span or be
//! free. On a bus in use it looks again before it calls something wrong.

use crate::heap::class::{ARRAY, LIST};
use crate::heap::{BlockWord, Place, State};
use crate::log::Read;
use crate::region::BadRegion;
use crate::region::layout::{
    PINS_MAX, RETIRED_MAX, SPARE_MAX, WATCH_PREFIX_MAX, header, member, stripe, watch,
};
use crate::sync::Ordering::{Acquire, Relaxed};
use crate::table::Core;
use crate::word::{Hash, offset_of, tag_matches};
use std::collections::HashMap;

/// Longest label of a member.
const LABEL_MAX: u64 = member::STATE - member::LABEL;
/// Findings of one kind that are listed at the most.
const FINDINGS_MAX: usize = 1000;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// What is wrong, a line each; empty when all is well.
    pub findings: Vec<String>,
    /// Entries that are there.
    pub entries: u64,
    /// Retired entries whose room is not free yet.
    pub retired: u64,
    /// Blocks of the file.
    pub blocks: u64,
    /// Blocks that are free.
    pub free_blocks: u64,
    /// Records of the log that were read.
    pub records: u64,
    /// Locks that were held, by whoever lives or died.
    pub locks_held: u64,
}

impl CheckReport {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn say(&mut self, finding: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

impl Core {
    /// Checks the whole region. Exact when nobody writes meanwhile.
    pub(crate) fn check(&self) -> CheckReport {
        let mut report = CheckReport::default();
        for part in [Self::check_words, Self::check_stripes, Self::check_log] {
            if let Err(bad) = part(self, &mut report) {
                report.say(bad.to_string());
            }
        }
        report
    }

    fn check_words(&self, report: &mut CheckReport) -> Result<(), BadRegion> {
        let word = |at| self.region.load(at, Acquire);
        let (head, cleared) = (word(header::HEAD)?, word(header::CLEARED_AT)?);
        if cleared > head.saturating_add(1) {
            report.say(format!("cleared_at {cleared} lies beyond the head {head}"));
        }
        if word(header::READY)? != 0 && self.commit_lock().owner()?.is_none() {
            report.say("a commit is ready and nobody holds the commit lock".into());
        }
        report.locks_held += u64::from(self.commit_lock().owner()?.is_some());
        report.locks_held += u64::from(self.grow_lock().owner()?.is_some());
        let size = word(header::SIZE)?;
        if size > self.geometry.max_capacity || size < self.geometry.heap() {
            report.say(format!("the size word says {size} bytes"));
        }
        report.blocks = self.blocks()?;
        report.free_blocks = self.free_blocks()?.0;
        let high = word(header::MEMBERS_HIGH)?;
        if high > self.geometry.members_max {
            report.say(format!("members_high is {high} of {}", self.geometry.members_max));
        }
        for slot in 0..high.min(self.geometry.members_max) {
            self.check_member(slot, report)?;
        }
        let watches = word(header::WATCHES_HIGH)?;
        if watches > self.geometry.watches_max {
            report.say(format!("watches_high is {watches} of {}", self.geometry.watches_max));
        }
        for index in 0..watches.min(self.geometry.watches_max) {
            let at = self.geometry.watch(index);
            let (state, len) = (word(at + watch::STATE)?, word(at + watch::PREFIX_LEN)?);
            let asleep = word(self.geometry.asleep(index))? & 1 << (index % 64) != 0;
            let owner = (state & 0xffff).wrapping_sub(1);
            if state != 0 && (owner >= self.geometry.members_max || len > WATCH_PREFIX_MAX) {
                report.say(format!("watch {index} has owner {state:#x} and a prefix of {len}"));
            }
            if state == 0 && asleep {
                report.say(format!("watch {index} sleeps, but nobody has it"));
            }
        }
        Ok(())
    }

    fn check_member(&self, slot: u64, report: &mut CheckReport) -> Result<(), BadRegion> {
        let base = self.geometry.member(slot);
        let word = |at| self.region.load(base + at, Acquire);
        let (state, label) = (word(member::STATE)?, word(member::LABEL_LEN)?);
        if state > member::STATE_MAY_KEEP {
            report.say(format!("member slot {slot} is in state {state}"));
        }
        if label > LABEL_MAX {
            report.say(format!("member slot {slot} has a label of {label} bytes"));
        }
        let marked = self.region.load(self.geometry.pinned(slot), Acquire)? & 1 << (slot % 64) != 0;
        for pin in 0..PINS_MAX {
            let at = word(member::PINS + 8 * pin)?;
            if at != 0 && self.place(at).is_err() {
                report.say(format!("member slot {slot} pins {at:#x}, where no entry stands"));
            }
            if at != 0 && !marked {
                report.say(format!("member slot {slot} pins {at:#x}, and no bit says so"));
            }
        }
        Ok(())
    }

    fn check_stripes(&self, report: &mut CheckReport) -> Result<(), BadRegion> {
        for block in 0..self.blocks()? {
            let word = self.block_word(block)?;
            if word.state() != State::Free && word.stripe() >= self.geometry.stripes {
                report.say(format!("block {block} belongs to stripe {}", word.stripe()));
            }
        }
        for index in 0..self.geometry.stripes {
            if let Err(bad) = self.check_stripe(index, report) {
                report.say(format!("stripe {index}: {bad}"));
            }
        }
        Ok(())
    }

    fn check_stripe(&self, index: u64, report: &mut CheckReport) -> Result<(), BadRegion> {
        let held = self.stripe_lock(index).owner()?.is_some();
        report.locks_held += u64::from(held);
        let array = self.array_word(index)?;
        let mut named: HashMap<u64, u64> = HashMap::new();
        let mut keys: HashMap<Vec<u8>, u64> = HashMap::new();
        self.each_slot(array, |slot, word| {
            if let Some(other) = named.insert(offset_of(word), slot) {
                report.say(format!("slot words {slot:#x} and {other:#x} name the same entry"));
            }
            match self.check_entry(index, word) {
                Ok(key) => {
                    if let Some(other) = keys.insert(key, slot) {
                        report.say(format!("the key at {slot:#x} stands at {other:#x} too"));
                    }
                }
                Err(wrong) => report.say(format!("stripe {index}, slot word {slot:#x}: {wrong}")),
            }
            Ok(())
        })?;
        let cleared = self.region.load_count(header::CLEARED_AT, Acquire)?;
        for at in named.keys() {
            report.entries += u64::from(self.entry(*at)?.born(Acquire)? >= cleared);
        }
        let count = self.region.load(self.geometry.stripe(index) + stripe::COUNT, Relaxed)?;
        if count != named.len() as u64 && !held {
            report.say(format!("stripe {index} counts {count} entries, {} are named", named.len()));
        }
        self.check_reachable(index, keys.len(), array.log2(), report)?;
        let (mut spans, mut lost) = (Vec::new(), Vec::new());
        self.each_span(
            index,
            |first, word| {
                spans.push((first, word));
                Ok(())
            },
            |block| {
                lost.push(block);
                Ok(())
            },
        )?;
        if !held && !lost.is_empty() {
            report.say(format!("stripe {index}: blocks {lost:?} belong to no span"));
        }
        for (first, word) in spans {
            self.check_span(index, first, word, &named, held, report)?;
        }
        if held { Ok(()) } else { self.check_hints(index, report) }
    }

    /// Hints may be behind, but what they name must be what they say.
    fn check_hints(&self, index: u64, report: &mut CheckReport) -> Result<(), BadRegion> {
        let base = self.geometry.stripe(index);
        let word = |at| self.region.load(base + at, Relaxed);
        let (retired, spare) = (word(stripe::RETIRED_COUNT)?, word(stripe::SPARE_COUNT)?);
        if retired > RETIRED_MAX || spare > SPARE_MAX {
            report.say(format!("stripe {index} notes {retired} dead and {spare} spare entries"));
        }
        let mut seen = HashMap::new();
        let ring = (0..retired.min(RETIRED_MAX)).map(|n| (stripe::RETIRED + 8 * n, false));
        let spares = (0..spare.min(SPARE_MAX)).map(|n| (stripe::SPARE + 8 * n, true));
        for (at, is_spare) in ring.chain(spares) {
            let noted = word(at)?;
            let entry = offset_of(noted);
            let what = if is_spare { "spare" } else { "dead" };
            if let Some(other) = seen.insert(entry, at) {
                report.say(format!("stripe {index}: {at} and {other} note the entry {entry:#x}"));
            }
            let place = match self.place(entry) {
                Ok(place) => place,
                Err(bad) => {
                    report.say(format!("stripe {index} notes {what} entry {entry:#x}: {bad}"));
                    continue;
                }
            };
            let block = self.block_word(place.block)?;
            let fits = !is_spare || noted >> 48 == block.class() + 1;
            let is_dead = self.is_occupied(&place)? && self.entry(entry)?.died(Acquire)? != 0;
            if block.stripe() != index || !fits || !is_dead {
                report.say(format!("stripe {index} notes {entry:#x} as {what}, which it is not"));
            }
        }
        let earliest = word(stripe::DEADLINE)?;
        self.each_timed(index, |entry, header| {
            let deadline = entry.deadline(header)?;
            if deadline != 0 && (earliest == 0 || deadline < earliest) {
                let at = entry.at();
                report.say(format!("stripe {index}: {at:#x} expires before the noted {earliest}"));
            }
            Ok(())
        })
    }

    /// Every named entry must be where a reader looks for it.
    fn check_reachable(
        &self,
        index: u64,
        keys: usize,
        log2: u64,
        report: &mut CheckReport,
    ) -> Result<(), BadRegion> {
        let array = self.array_word(index)?;
        let mut reached = 0;
        self.each_slot(array, |slot, word| {
            let hash = self.hash_of_entry(offset_of(word))?;
            let found = self.search(array, hash, |line, index, _| {
                let at = line.at() + 8 * index as u64;
                Ok((at == slot).then_some(()))
            })?;
            reached += usize::from(found.is_some());
            Ok(())
        })?;
        if reached != keys {
            report.say(format!(
                "stripe {index}: {reached} of {keys} entries can be reached (2^{log2} buckets)"
            ));
        }
        Ok(())
    }

    fn check_entry(&self, index: u64, word: u64) -> Result<Vec<u8>, String> {
        let at = offset_of(word);
        let fail = |bad: BadRegion| bad.to_string();
        let place = self.place(at).map_err(fail)?;
        let owner = self.block_word(place.block).map_err(fail)?.stripe();
        if owner != index {
            return Err(format!("its entry {at:#x} lies in a block of stripe {owner}"));
        }
        if !self.is_occupied(&place).map_err(fail)? {
            return Err(format!("its entry {at:#x} is not occupied"));
        }
        let entry = self.entry(at).map_err(fail)?;
        let (born, died) = (entry.born(Acquire).map_err(fail)?, entry.died(Acquire).map_err(fail)?);
        let head = self.region.load_count(header::HEAD, Acquire).map_err(fail)?;
        let ready = self.region.load_count(header::READY, Acquire).map_err(fail)?;
        if born == 0 || born > head.max(ready) {
            return Err(format!("its entry {at:#x} was born at {born}, the head is {head}"));
        }
        if died != 0 && ready == 0 {
            return Err(format!("its entry {at:#x} died at {died}"));
        }
        let mut key = Vec::new();
        let header = entry.header().map_err(fail)?;
        entry.copy_key(&header, &mut key).map_err(fail)?;
        let hash = Hash::of(&key, self.geometry.seed);
        if hash.stripe(self.geometry.stripes) != index || !tag_matches(word, hash.tag()) {
            return Err(format!("its entry {at:#x} has a key of another hash"));
        }
        if key.is_empty() {
            return Err(format!("its entry {at:#x} has an empty key"));
        }
        Ok(key)
    }

    fn check_span(
        &self,
        index: u64,
        first: u64,
        word: BlockWord,
        named: &HashMap<u64, u64>,
        held: bool,
        report: &mut CheckReport,
    ) -> Result<(), BadRegion> {
        let count = self.span_blocks(first)?;
        for block in first + 1..first + count {
            let tail = self.block_word(block)?;
            if tail.state() != State::Tail || tail.stripe() != index || tail.class() != word.class()
            {
                report.say(format!("block {block} is not a part of the span at block {first}"));
            }
        }
        match word.class() {
            LIST if !held => report.say(format!("the change list at block {first} is left over")),
            ARRAY if !held && self.geometry.block(first) != self.array_word(index)?.at() => {
                report.say(format!("the array at block {first} is named by nothing"));
            }
            ARRAY | LIST => {}
            _ => return self.check_bits(first, word, named, held, report),
        }
        Ok(())
    }

    fn check_bits(
        &self,
        first: u64,
        word: BlockWord,
        named: &HashMap<u64, u64>,
        held: bool,
        report: &mut CheckReport,
    ) -> Result<(), BadRegion> {
        let cut = self.cut(first, word)?;
        for number in cut.entries..cut.bitmap_words() * 64 {
            if self.is_occupied(&Place { block: first, cut, index: number })? {
                report.say(format!("block {first}: bit {number} is set beyond the last entry"));
            }
        }
        for at in self.occupied_entries(first, &cut)? {
            let entry = self.entry(at)?;
            let (born, died) = (entry.born(Acquire)?, entry.died(Acquire)?);
            if named.contains_key(&at) {
                continue;
            }
            report.retired += u64::from(died != 0);
            if !held && (born == 0 || died == 0) {
                report.say(format!(
                    "entry {at:#x} (born at {born}, died at {died}) is occupied and named by nothing: lost"
                ));
            }
        }
        Ok(())
    }

    fn check_log(&self, report: &mut CheckReport) -> Result<(), BadRegion> {
        let head = self.region.load_count(header::HEAD, Acquire)?;
        let mut next = self.geometry.first_revision + 1;
        let mut position = match self.log_find(next)? {
            Ok(position) => position,
            Err(oldest) => {
                next = oldest;
                match self.log_find(next)? {
                    Ok(position) => position,
                    Err(_) => return Ok(()),
                }
            }
        };
        while next <= head {
            match self.log_read(position, next)? {
                Read::Record(_, after) => position = after,
                Read::Overtaken => return Ok(()),
            }
            report.records += 1;
            next += 1;
        }
        let (tail, intent) = (
            self.region.load_count(header::LOG_TAIL, Acquire)?,
            self.region.load_count(header::LOG_INTENT, Acquire)?,
        );
        if tail > intent {
            report.say(format!("the log's tail {tail} lies beyond its intent {intent}"));
        }
        Ok(())
    }
}
