//! Blocks, spans, their bitmaps, and what a stripe notes of them.

use super::CheckReport;
use super::table::Names;
use crate::heap::class::{ARRAY, LIST, TIMED, classes, is_big};
use crate::heap::{BlockWord, Place, State};
use crate::region::BadRegion;
use crate::region::layout::{RETIRED_MAX, SPARE_MAX, span, stripe};
use crate::sync::Ordering::{Acquire, Relaxed};
use crate::table::Core;
use crate::word::offset_of;
use std::collections::{HashMap, HashSet};

impl Core {
    /// Every block word by itself.
    pub(super) fn check_blocks(&self, report: &mut CheckReport) -> Result<(), BadRegion> {
        let blocks = self.blocks()?;
        for block in 0..self.geometry.blocks_max() {
            let word = self.block_word(block)?;
            if word.0 & 15 > State::Tail as u64 {
                report.say(format!("block {block} is in state {}", word.0 & 15));
            }
            if word.state() == State::Free {
                continue;
            }
            if word.stripe() >= self.geometry.stripes {
                report.say(format!("block {block} belongs to stripe {}", word.stripe()));
            }
            if block >= blocks {
                report.say(format!("block {block} is in use, beyond the {blocks} of the file"));
            }
        }
        Ok(())
    }

    /// All that a stripe has in the heap.
    pub(super) fn check_heap(
        &self,
        index: u64,
        named: &Names,
        held: bool,
        report: &mut CheckReport,
    ) -> Result<(), BadRegion> {
        let (spans, lost) = self.spans_and_lost(index)?;
        if !held && !lost.is_empty() {
            report.say(format!("stripe {index}: blocks {lost:?} belong to no span"));
        }
        for (first, word) in &spans {
            if let Err(bad) = self.check_span(index, *first, *word, named, held, report) {
                report.say(format!("the span at block {first}: {bad}"));
            }
        }
        if held {
            return Ok(());
        }
        self.check_lists(index, &spans, report)?;
        self.check_hints(index, report)
    }

    fn check_span(
        &self,
        index: u64,
        first: u64,
        word: BlockWord,
        named: &Names,
        held: bool,
        report: &mut CheckReport,
    ) -> Result<(), BadRegion> {
        let count = self.span_blocks(first)?;
        for block in first + 1..first + count {
            let tail = self.block_word(block)?;
            if tail.state() != State::Tail
                || (tail.stripe(), tail.class()) != (index, word.class())
                || tail.distance() != (block - first).min(255)
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
            _ => {
                let cut = self.cut(first, word)?;
                if cut.blocks != count {
                    let (class, is) = (word.class(), cut.blocks);
                    report.say(format!(
                        "the span at block {first} has {count} blocks, one of class {class} has {is}"
                    ));
                }
                return self.check_bits(first, word, named, held, report);
            }
        }
        Ok(())
    }

    fn check_bits(
        &self,
        first: u64,
        word: BlockWord,
        named: &Names,
        held: bool,
        report: &mut CheckReport,
    ) -> Result<(), BadRegion> {
        let cut = self.cut(first, word)?;
        for number in cut.entries..cut.bitmap_words() * 64 {
            if self.is_occupied(&Place { block: first, cut, index: number })? {
                report.say(format!("block {first}: bit {number} is set beyond the last entry"));
            }
        }
        let (head, ready) = self.head_and_ready()?;
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
            if died != 0 && (died < born || died > head.max(ready)) {
                report.say(format!(
                    "entry {at:#x} was born at {born} and died at {died}, the head is {head}"
                ));
            }
        }
        Ok(())
    }

    /// The lists of spans with room. They are hints; but who gave the stripe's lock back left them
    /// whole.
    fn check_lists(
        &self,
        index: u64,
        spans: &[(u64, BlockWord)],
        report: &mut CheckReport,
    ) -> Result<(), BadRegion> {
        let most = classes(self.geometry.block_shift);
        let words: HashMap<u64, BlockWord> = spans.iter().copied().collect();
        let mut listed = HashSet::new();
        for class in (0..most).chain(TIMED..TIMED + most) {
            let (mut previous, mut link) =
                (0, self.region.load(self.list_head(index, class), Relaxed)?);
            while link != 0 {
                let first = link - 1;
                let is_like = |word: &BlockWord| {
                    word.state() == State::Head && (word.stripe(), word.class()) == (index, class)
                };
                let at = self.geometry.block(first.min(self.geometry.blocks_max()));
                if !words.get(&first).is_some_and(is_like)
                    || self.region.load(at + span::PREVIOUS, Relaxed)? != previous
                    || self.region.load(at + span::LISTED, Relaxed)? != 1
                    || !listed.insert(first)
                {
                    report.say(format!(
                        "stripe {index}: the list of class {class} is broken at link {link:#x}"
                    ));
                    break;
                }
                (previous, link) = (link, self.region.load(at + span::NEXT, Relaxed)?);
            }
        }
        for (first, word) in spans.iter().filter(|(_, word)| word.holds_entries()) {
            let says = self.region.load(self.geometry.block(*first) + span::LISTED, Relaxed)?;
            if !is_big(word.class()) && says != u64::from(listed.contains(first)) {
                report.say(format!("the span at block {first} says {says} of being in a list"));
            }
        }
        Ok(())
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
}
