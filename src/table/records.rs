//! The log records of a commit, made one by one from its plans.

use super::Core;
use super::plan::Plan;
use super::wish::{Action, Wish};
use crate::log::{NewRecord, RECORD_VALUE_MAX, RecordKind};
use crate::region::BadRegion;
use crate::word::offset_of;

/// How the records of a commit go into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logged {
    /// With values up to so many bytes.
    ValuesTo(u64),
    /// Not at all: they are larger than the ring. Watches are told what they missed.
    Skipped,
}

/// The record of one change. `kept` is the value of an entry that got another deadline.
#[inline]
pub(crate) fn record_of<'a>(
    wish: &'a Wish<'_>,
    plan: &'a Plan,
    kept: &'a [u8],
    value_max: u64,
) -> NewRecord<'a> {
    let (value, who) = match (plan.kind, wish.action) {
        (RecordKind::Set, Action::Set { value, note }) => (value, note.who),
        (RecordKind::Set, Action::Replace { value, who, .. }) => (value, who),
        (RecordKind::Set, Action::Add { who, .. }) => (&plan.number[..], who),
        (RecordKind::Set, Action::Deadline { who, .. }) => (kept, who),
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
    }
}

impl Core {
    /// How the records of these plans fit into the log.
    pub(crate) fn logged(&self, wishes: &[Wish<'_>], plans: &[Plan], kept: &[u8]) -> Logged {
        for value_max in [RECORD_VALUE_MAX, 0] {
            let sizes = plans.iter().filter_map(|plan| {
                Some(record_of(wishes.get(plan.wish as usize)?, plan, kept, value_max).size())
            });
            // Half the ring, so that a watch that is not asleep has a chance to read it.
            if sizes.sum::<u64>() <= self.geometry.log_size / 2 {
                return Logged::ValuesTo(value_max);
            }
        }
        Logged::Skipped
    }

    /// The value that a change of a deadline keeps, which no wish has. Such a change stands by itself.
    pub(crate) fn kept(&self, wishes: &[Wish<'_>], plans: &[Plan]) -> Result<Vec<u8>, BadRegion> {
        let mut kept = Vec::new();
        if let ([Wish { action: Action::Deadline { .. }, .. }], [plan]) = (wishes, plans) {
            let entry = self.entry(offset_of(plan.stored.new))?;
            entry.copy_value(&entry.header()?, &mut kept)?;
        }
        Ok(kept)
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
        for record in records {
            revision += 1;
            tail = self.log_write(tail, revision, &record)?;
        }
        Ok(tail)
    }

    /// Writes the records of plans; gives the new tail.
    pub(crate) fn write_plans(
        &self,
        head: u64,
        wishes: &[Wish<'_>],
        plans: &[Plan],
        kept: &[u8],
        logged: Logged,
    ) -> Result<u64, BadRegion> {
        match logged {
            Logged::Skipped => self.log_skip(head + plans.len() as u64),
            Logged::ValuesTo(value_max) => {
                let records = plans.iter().filter_map(|plan| {
                    Some(record_of(wishes.get(plan.wish as usize)?, plan, kept, value_max))
                });
                self.write_records(head, records)
            }
        }
    }
}
