//! The log records of a commit, made one by one from its plans.

use super::Core;
use super::plan::Plan;
use super::wish::{Action, Wish};
use crate::log::{NewRecord, OldValue, RECORD_VALUE_MAX, RecordKind};
use crate::region::BadRegion;
use crate::region::layout::header;
use crate::sync::Ordering::Acquire;
use crate::word::{Realm, offset_of};

/// How the records of a commit go into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logged {
    /// With values up to so many bytes.
    ValuesTo(u64),
    /// Not at all: they are larger than the ring. Watches are told what they missed.
    Skipped,
}

/// What records tell beyond what wishes and plans have.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// The value of an entry that got another deadline.
    kept: Vec<u8>,
    /// The old value of each plan: its kind, its size, its bytes when a record may carry them.
    /// Empty where old values are not told.
    olds: Vec<Option<(u8, u64, Vec<u8>)>>,
}

impl Beside {
    fn old(&self, index: usize) -> Option<OldValue<'_>> {
        let (kind, size, bytes) = self.olds.get(index)?.as_ref()?;
        Some(OldValue { kind: *kind, size: *size, bytes })
    }
}

/// The record of one change.
#[inline]
fn record_of<'a>(
    wish: &'a Wish<'_>,
    (index, plan): (usize, &'a Plan),
    beside: &'a Beside,
    value_max: u64,
) -> NewRecord<'a> {
    let (value, who) = match (plan.kind, wish.action) {
        (RecordKind::Set, Action::Set { value, note }) => (value, note.who),
        (RecordKind::Set, Action::Replace { value, who, .. }) => (value, who),
        (RecordKind::Set, Action::Add { who, .. }) => (&plan.number[..], who),
        (RecordKind::Set, Action::Deadline { who, .. }) => (&beside.kept[..], who),
        (_, Action::Delete { who, .. }) => (&[][..], who),
        _ => (&[][..], &[][..]),
    };
    NewRecord {
        kind: plan.kind,
        value_kind: plan.value_kind,
        time: wish.action.time(),
        who,
        key: wish.key,
        value,
        value_max,
        is_timed: plan.is_timed,
        old: beside.old(index),
    }
}

/// The records of plans, in their order.
fn records<'a>(
    wishes: &'a [Wish<'a>],
    plans: &'a [Plan],
    beside: &'a Beside,
    value_max: u64,
) -> impl Iterator<Item = NewRecord<'a>> + Clone {
    plans.iter().enumerate().filter_map(move |(index, plan)| {
        Some(record_of(wishes.get(plan.wish as usize)?, (index, plan), beside, value_max))
    })
}

impl Core {
    /// How the records of these plans fit into the log.
    pub(crate) fn logged(&self, wishes: &[Wish<'_>], plans: &[Plan], beside: &Beside) -> Logged {
        for value_max in [RECORD_VALUE_MAX, 0] {
            let records = records(wishes, plans, beside, value_max);
            // Half the ring, so that a watch that is not asleep has a chance to read it.
            if records.map(|record| record.size()).sum::<u64>() <= self.geometry.log_size / 2 {
                return Logged::ValuesTo(value_max);
            }
        }
        Logged::Skipped
    }

    /// What no wish has: the value that a change of a deadline keeps (such a change stands by
    /// itself), and old values where the bus tells them. The plans' stripes are locked.
    #[inline]
    pub(crate) fn beside(&self, wishes: &[Wish<'_>], plans: &[Plan]) -> Result<Beside, BadRegion> {
        let mut beside = Beside::default();
        if let ([Wish { action: Action::Deadline { .. }, .. }], [plan]) = (wishes, plans) {
            let entry = self.entry(offset_of(plan.stored.new))?;
            entry.copy_value(&entry.header()?, &mut beside.kept)?;
        }
        if self.geometry.tells_old_values() {
            beside.olds = plans.iter().map(|plan| self.old_of(plan)).collect::<Result<_, _>>()?;
        }
        Ok(beside)
    }

    /// What the entry that a plan ends has for a value.
    fn old_of(&self, plan: &Plan) -> Result<Option<(u8, u64, Vec<u8>)>, BadRegion> {
        if plan.stored.old == 0 || plan.realm == Realm::Locks {
            return Ok(None);
        }
        let (entry, mut bytes) = (self.entry(offset_of(plan.stored.old))?, Vec::new());
        let header = entry.header()?;
        // What was cleared is gone already.
        let floor = self.region.load_count(header::CLEARED_AT, Acquire)?;
        if header.is_cleared(entry.born(Acquire)?, floor) {
            return Ok(None);
        }
        let size = header.value_len as u64;
        if size <= RECORD_VALUE_MAX {
            entry.copy_value(&header, &mut bytes)?;
        }
        Ok(Some((header.kind, size, bytes)))
    }

    /// Writes log records for the revisions after `head`; gives the new tail. The commit lock is
    /// held.
    pub(crate) fn write_records<'a>(
        &self,
        head: u64,
        records: impl Iterator<Item = NewRecord<'a>> + Clone,
    ) -> Result<u64, BadRegion> {
        let first = self.log_begin(head + 1)?;
        let mut end = first;
        for record in records.clone() {
            let size = record.size();
            end = self.record_place(end, size) + size;
        }
        self.log_intend(end)?;
        let (mut tail, mut revision) = (first, head);
        let mut records = records.peekable();
        while let Some(record) = records.next() {
            revision += 1;
            tail = self.log_write(tail, revision, &record, records.peek().is_some())?;
        }
        Ok(tail)
    }

    /// Writes the records of plans; gives the new tail.
    pub(crate) fn write_plans(
        &self,
        head: u64,
        wishes: &[Wish<'_>],
        plans: &[Plan],
        beside: &Beside,
        logged: Logged,
    ) -> Result<u64, BadRegion> {
        match logged {
            Logged::Skipped => self.log_skip(head + plans.len() as u64),
            Logged::ValuesTo(value_max) => {
                self.write_records(head, records(wishes, plans, beside, value_max))
            }
        }
    }
}
