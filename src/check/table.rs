//! Stripes, their arrays, and the entries that slot words name.

use super::CheckReport;
use super::words::LABEL_MAX;
use crate::heap::class::is_timed;
use crate::region::BadRegion;
use crate::region::layout::{CLASSES_MAX, array, entry, header, stripe};
use crate::sync::Ordering::{Acquire, Relaxed};
use crate::table::Core;
use crate::table::wish::KIND_COUNTER;
use crate::word::{ArrayWord, Hash, Name, Realm, offset_of, tag_matches};
use std::collections::{HashMap, HashSet};

/// Entries that slot words name, each with its slot word's place.
pub(super) type Names = HashMap<u64, u64>;

impl Core {
    pub(super) fn check_stripes(&self, report: &mut CheckReport) -> Result<(), BadRegion> {
        for index in 0..self.geometry.stripes {
            if let Err(bad) = self.check_stripe(index, report) {
                report.say(format!("stripe {index}: {bad}"));
            }
        }
        Ok(())
    }

    fn check_stripe(&self, index: u64, report: &mut CheckReport) -> Result<(), BadRegion> {
        let lock = self.stripe_lock(index);
        let held = self.check_lock(lock, &format!("the lock of stripe {index}"), report)?;
        self.check_stripe_words(index, report)?;
        let array = self.array_word(index)?;
        let mut named = Names::new();
        let mut keys: HashMap<(Realm, Vec<u8>), u64> = HashMap::new();
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
        let cleared = self.region.load(header::CLEARED_AT, Acquire)?;
        let mut locks = 0;
        for at in named.keys() {
            let Ok(entry) = self.entry(*at) else { continue };
            let (Ok(born), Ok(header)) = (entry.born(Acquire), entry.header()) else { continue };
            let is_lock = header.realm() == Realm::Locks;
            locks += u64::from(is_lock);
            report.entries += u64::from(!is_lock && !header.is_cleared(born, cleared));
        }
        let counted = |at| self.region.load(self.geometry.stripe(index) + at, Relaxed);
        let (all, counted_locks) = (counted(stripe::COUNT)?, counted(stripe::LOCKS)?);
        if all != named.len() as u64 && !held {
            report.say(format!("stripe {index} counts {all} entries, {} are named", named.len()));
        }
        if counted_locks != locks && !held {
            report.say(format!("stripe {index} counts {counted_locks} locks, {locks} are named"));
        }
        self.check_array(index, array, report)?;
        self.check_reachable(index, array, keys.len(), report)?;
        self.check_heap(index, &named, held, report)
    }

    fn check_stripe_words(&self, index: u64, report: &mut CheckReport) -> Result<(), BadRegion> {
        let base = self.geometry.stripe(index);
        let (swept, done) = (
            self.region.load(base + stripe::SWEPT_TO, Acquire)?,
            self.region.load(base + stripe::SNAP_DONE, Acquire)?,
        );
        let (cleared, id) = (
            self.region.load(header::CLEARED_AT, Acquire)?,
            self.region.load(header::SNAP_ID, Acquire)?,
        );
        if swept > cleared {
            report.say(format!("stripe {index} was swept to {swept}, cleared_at is {cleared}"));
        }
        if done > id {
            report.say(format!("stripe {index} was read by snapshot {done}, the last one is {id}"));
        }
        for at in (stripe::TIMED + 8 * CLASSES_MAX..stripe::SIZE).step_by(8) {
            let word = self.region.load(base + at, Acquire)?;
            if word != 0 {
                report.say(format!("stripe {index}: the reserved word {at} is {word:#x}"));
            }
        }
        Ok(())
    }

    /// An array's first line, and the links between its buckets.
    fn check_array(
        &self,
        index: u64,
        array: ArrayWord,
        report: &mut CheckReport,
    ) -> Result<(), BadRegion> {
        let word = |at| self.region.load(array.at() + at, Acquire);
        let (buckets, used, lines) =
            (word(array::BUCKETS)?, word(array::USED)?, word(array::LINES)?);
        if buckets != 1 << array.log2() || used < buckets {
            report.say(format!(
                "stripe {index}: its array has {buckets} buckets and {used} of {lines} lines, its array word says 2^{}",
                array.log2()
            ));
        }
        let mut linked = HashSet::new();
        for line in 0..used.min(lines) {
            let link = self.region.load(self.link_at(array, line), Acquire)?;
            if link != 0 && !(buckets..used).contains(&link) {
                report.say(format!("stripe {index}: bucket {line} links to {link} of {used}"));
            }
            if link != 0 && !linked.insert(link) {
                report.say(format!("stripe {index}: two buckets link to {link}, one is {line}"));
            }
        }
        Ok(())
    }

    /// Every named entry must be where a reader looks for it.
    fn check_reachable(
        &self,
        index: u64,
        array: ArrayWord,
        keys: usize,
        report: &mut CheckReport,
    ) -> Result<(), BadRegion> {
        let (mut reached, mut key) = (0, Vec::new());
        self.each_slot(array, |slot, word| {
            let Ok(hash) = self.hash_of_entry(offset_of(word), &mut key) else { return Ok(()) };
            let found = self.search(array, hash, |line, index, _| {
                let at = line.at() + 8 * index as u64;
                Ok((at == slot).then_some(()))
            })?;
            reached += usize::from(found.is_some());
            Ok(())
        })?;
        if reached < keys {
            let log2 = array.log2();
            report.say(format!(
                "stripe {index}: {reached} of {keys} entries can be reached (2^{log2} buckets)"
            ));
        }
        Ok(())
    }

    /// The key of a named entry, or what is wrong with it.
    fn check_entry(&self, index: u64, word: u64) -> Result<(Realm, Vec<u8>), String> {
        let at = offset_of(word);
        let fail = |bad: BadRegion| bad.to_string();
        let place = self.place(at).map_err(fail)?;
        let block = self.block_word(place.block).map_err(fail)?;
        if block.stripe() != index {
            let owner = block.stripe();
            return Err(format!("its entry {at:#x} lies in a block of stripe {owner}"));
        }
        if !self.is_occupied(&place).map_err(fail)? {
            return Err(format!("its entry {at:#x} is not occupied"));
        }
        let entry = self.entry(at).map_err(fail)?;
        let (born, died) = (entry.born(Acquire).map_err(fail)?, entry.died(Acquire).map_err(fail)?);
        let (head, ready) = self.head_and_ready().map_err(fail)?;
        if born == 0 || born > head.max(ready) {
            return Err(format!("its entry {at:#x} was born at {born}, the head is {head}"));
        }
        if died != 0 && ready == 0 {
            return Err(format!("its entry {at:#x} died at {died}"));
        }
        self.check_marks(at, is_timed(block.class()))?;
        let (realm, key) = entry.header().and_then(|header| entry.key(&header)).map_err(fail)?;
        let hash = Hash::of(Name { realm, bytes: &key }, self.geometry.seed);
        if hash.stripe(self.geometry.stripes) != index || !tag_matches(word, hash.tag()) {
            return Err(format!("its entry {at:#x} has a key of another hash"));
        }
        Ok((realm, key))
    }

    /// What an entry says of itself, and whether it stands among its like.
    fn check_marks(&self, at: u64, among_timed: bool) -> Result<(), String> {
        let fail = |bad: BadRegion| bad.to_string();
        let entry = self.entry(at).map_err(fail)?;
        let header = entry.header().map_err(fail)?;
        let (pred, owner) =
            (entry.pred().map_err(fail)?, entry.owner(&header).map_err(fail)? & 0xffff);
        if header.key_len == 0 {
            return Err(format!("its entry {at:#x} has an empty key"));
        }
        if header.who_len as u64 > LABEL_MAX {
            return Err(format!("its entry {at:#x} has a who of {} bytes", header.who_len));
        }
        let is_number = header.kind != KIND_COUNTER || header.value_len == 8;
        if header.kind > KIND_COUNTER || !is_number {
            let (kind, len) = (header.kind, header.value_len);
            return Err(format!("its entry {at:#x} is of kind {kind} with {len} bytes"));
        }
        let timed = entry::FLAG_DEADLINE | entry::FLAG_OWNER;
        let known = timed | entry::FLAG_LOCK;
        if header.flags & !known != 0 {
            return Err(format!("its entry {at:#x} has the flags {:#x}", header.flags));
        }
        if (header.flags & timed != 0) != among_timed {
            return Err(format!("its entry {at:#x} stands in a span of the other sort of entries"));
        }
        if header.flags & entry::FLAG_OWNER != 0
            && !(1..=self.geometry.members_max).contains(&owner)
        {
            return Err(format!(
                "its entry {at:#x} vanishes with slot word {owner}, which is none"
            ));
        }
        if pred != entry::NONE && (pred % 8 != 0 || self.geometry.block_of(pred).is_err()) {
            return Err(format!("its entry {at:#x} replaces one at {pred:#x}, which is no place"));
        }
        Ok(())
    }

    /// The head, and the last revision of a commit that is not finished, or 0.
    pub(super) fn head_and_ready(&self) -> Result<(u64, u64), BadRegion> {
        let word = |at| self.region.load_count(at, Acquire);
        Ok((word(header::HEAD)?, word(header::READY)?))
    }
}
