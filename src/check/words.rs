//! The header's words, locks, members and watches.

use super::CheckReport;
use crate::doorbell::Sort;
use crate::lock::RobustLock;
use crate::region::BadRegion;
use crate::region::layout::{
    CHANGE_SIZE, PINS_MAX, WATCH_GROUPS, WATCH_PREFIX_MAX, header, member, watch,
};
use crate::sync::Ordering::Acquire;
use crate::table::Core;
use crate::word::offset_of;

/// Longest label of a member.
pub(super) const LABEL_MAX: u64 = member::STATE - member::LABEL;

impl Core {
    pub(super) fn check_words(&self, report: &mut CheckReport) -> Result<(), BadRegion> {
        let word = |at| self.region.load(at, Acquire);
        let (commit, grow) = (self.commit_lock(), self.grow_lock());
        let committing = self.check_lock(commit, "the commit lock", report)?;
        self.check_lock(grow, "the grow lock", report)?;
        self.check_commit(committing, report)?;
        let (size, block) = (word(header::SIZE)?, self.geometry.block_size());
        let least = self.geometry.heap();
        if !(least..=self.geometry.max_capacity).contains(&size)
            || !size.is_multiple_of(block)
            || self.region.confirmed(size) < size
        {
            report.say(format!("the size word says {size} bytes"));
        }
        report.blocks = self.blocks()?;
        report.free_blocks = self.free_blocks()?.0;
        let keeper = word(header::KEEPER)?;
        if keeper > self.geometry.members_max {
            report.say(format!("the keeper's word is {keeper}, and no slot has this number"));
        }
        let on = word(header::SNAP_ON)?;
        if on > 1 {
            report.say(format!("the word of a running snapshot is {on}"));
        }
        self.check_members(report)?;
        self.check_watches(report)
    }

    /// Whether a lock is held; whoever holds it must once have been a member.
    pub(super) fn check_lock(
        &self,
        lock: RobustLock<'_>,
        what: &str,
        report: &mut CheckReport,
    ) -> Result<bool, BadRegion> {
        let Some(owner) = lock.owner()? else { return Ok(false) };
        report.locks_held += 1;
        if u64::from(owner) >= self.region.load(header::MEMBERS_HIGH, Acquire)? {
            report.say(format!("{what} is held by slot {owner}, which nobody ever had"));
        }
        Ok(true)
    }

    fn check_commit(&self, held: bool, report: &mut CheckReport) -> Result<(), BadRegion> {
        let word = |at| self.region.load_count(at, Acquire);
        let (head, cleared, ready) =
            (word(header::HEAD)?, word(header::CLEARED_AT)?, word(header::READY)?);
        if cleared > head + 1 {
            report.say(format!("cleared_at {cleared} lies beyond the head {head}"));
        }
        if head < self.geometry.first_revision {
            report.say(format!("the head {head} lies before the region's first revision"));
        }
        if ready == 0 {
            return Ok(());
        }
        if !held {
            report.say("a commit is ready and nobody holds the commit lock".into());
        }
        let (count, list) = (word(header::COUNT)?, self.region.load(header::LIST, Acquire)?);
        let room = self.list_room(list)?;
        if count == 0 || count > room {
            report.say(format!("the commit record has {count} changes, and room for {room}"));
            return Ok(());
        }
        let revisions = if word(header::CLEARED)? == 0 { count } else { 1 };
        if ready != head && ready.checked_sub(revisions) != Some(head) {
            report.say(format!(
                "the commit record's {count} changes end at revision {ready}, the head is {head}"
            ));
        }
        let base = if list == 0 { header::INLINE } else { list };
        for at in (0..count).map(|index| base + CHANGE_SIZE * index) {
            let change = self.region.words(at, CHANGE_SIZE)?;
            let (slot, new, old) =
                (change.load(0, Acquire)?, change.load(1, Acquire)?, change.load(2, Acquire)?);
            if slot != 0 && (self.geometry.block_of(slot).is_err() || slot % 8 != 0) {
                report
                    .say(format!("the commit record names the slot word {slot:#x}, which is none"));
            }
            for entry in [new, old].map(offset_of) {
                if entry != 0 && self.place(entry).is_err() {
                    report
                        .say(format!("the commit record names {entry:#x}, where no entry stands"));
                }
            }
        }
        Ok(())
    }

    fn check_members(&self, report: &mut CheckReport) -> Result<(), BadRegion> {
        let (high, most) =
            (self.region.load(header::MEMBERS_HIGH, Acquire)?, self.geometry.members_max);
        if high > most {
            report.say(format!("members_high is {high} of {most}"));
        }
        for slot in 0..most {
            let state = self.region.load(self.geometry.member(slot) + member::STATE, Acquire)?;
            if slot < high {
                self.check_member(slot, report)?;
            } else if state != 0 {
                report.say(format!("member slot {slot} is in use, beyond members_high {high}"));
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
        if state != 0 && word(member::GENERATION)? == 0 {
            report.say(format!("member slot {slot} is in use without a generation"));
        }
        let ended = word(member::ENDED)?;
        let (ender, how) = (ended >> 8, ended & 0xff);
        if how > member::ENDED_DIED || ender > word(member::GENERATION)? {
            report.say(format!("user {ender} of member slot {slot} ended by {how}"));
        }
        if label > LABEL_MAX {
            report.say(format!("member slot {slot} has a label of {label} bytes"));
        }
        let marked = self.region.load(self.geometry.pinned(slot), Acquire)? & 1 << (slot % 64) != 0;
        for pin in 0..PINS_MAX {
            let at = word(member::PINS + 8 * pin)?;
            if at == 0 {
                continue;
            }
            if self.place(at).is_err() {
                report.say(format!("member slot {slot} pins {at:#x}, where no entry stands"));
            }
            if !marked {
                report.say(format!("member slot {slot} pins {at:#x}, and no bit says so"));
            }
            if state == 0 {
                report.say(format!("member slot {slot} is free and pins {at:#x}"));
            }
        }
        Ok(())
    }

    fn check_watches(&self, report: &mut CheckReport) -> Result<(), BadRegion> {
        let word = |at| self.region.load(at, Acquire);
        let (high, most) = (word(header::WATCHES_HIGH)?, self.geometry.watches_max);
        if high > most {
            report.say(format!("watches_high is {high} of {most}"));
        }
        for index in 0..most {
            let at = self.geometry.watch(index);
            let (state, filter) = (word(at + watch::STATE)?, word(at + watch::FILTER)?);
            if state == 0 {
                continue;
            }
            let (len, sort, group) = (filter & 0xffff_ffff, filter >> 32, word(at + watch::GROUP)?);
            if sort > Sort::Members as u64 && sort != Sort::All as u64 {
                report.say(format!("watch {index} has a filter of sort {sort}"));
            } else if word(header::BELL_LENGTHS + 8 * sort)? << (63 - len.min(63)) == 0 {
                report.say(format!("watch {index} may never be rung: its length is not noted"));
            }
            if group >= WATCH_GROUPS {
                report.say(format!("watch {index} is in group {group} of {WATCH_GROUPS}"));
            }
            let owner = (state & 0xffff).wrapping_sub(1);
            if owner >= self.geometry.members_max || len > WATCH_PREFIX_MAX {
                report.say(format!("watch {index} has owner {state:#x} and a prefix of {len}"));
                continue;
            }
            let member = self.geometry.member(owner);
            let (generation, there) =
                (word(member + member::GENERATION)?, word(member + member::STATE)? != 0);
            if !there || generation << 16 >> 16 != state >> 16 {
                report.say(format!("watch {index} belongs to slot {owner}, whose member is gone"));
            }
            if index >= high {
                report.say(format!("watch {index} is in use, beyond watches_high {high}"));
            }
        }
        self.check_sleepers(report)
    }

    /// The bits of those that sleep.
    fn check_sleepers(&self, report: &mut CheckReport) -> Result<(), BadRegion> {
        let word = |at| self.region.load(at, Acquire);
        for group in 0..WATCH_GROUPS {
            for first in (0..self.geometry.watches_max).step_by(64) {
                let mut bits = word(self.geometry.asleep(group, first))?;
                while bits != 0 {
                    let index = first + u64::from(bits.trailing_zeros());
                    bits &= bits - 1;
                    let at = self.geometry.watch(index);
                    let own = word(at + watch::GROUP)? % WATCH_GROUPS;
                    if word(at + watch::STATE)? == 0 {
                        report.say(format!("watch {index} sleeps, but nobody has it"));
                    } else if own != group {
                        report.say(format!("watch {index} sleeps in group {group}, not in {own}"));
                    }
                }
            }
        }
        Ok(())
    }
}
