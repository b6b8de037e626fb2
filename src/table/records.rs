//! The log records of a commit, made one by one from its plans.

use super::Core;
use super::write::{Action, Plan, Wish, WriteFailure};
use crate::log::{NewRecord, RECORD_VALUE_MAX, RecordKind};
use crate::region::BadRegion;
use crate::region::layout::header;
use crate::sync::Ordering::Relaxed;

impl Core {
    pub(crate) fn records<'a>(
        &self,
        wishes: &'a [Wish<'a>],
        plans: &'a [Plan],
    ) -> Result<(Records<'a>, u64), WriteFailure> {
        let limit = self.geometry.log_size / 2;
        let mut needed = 0;
        for value_max in [RECORD_VALUE_MAX, 0] {
            let records = Records { wishes, plans, value_max };
            needed = records.sizes();
            if needed <= limit {
                return Ok((records, needed));
            }
        }
        Err(WriteFailure::LogTooSmall { needed, limit })
    }

    /// Writes log records for the revisions after `head`; gives the new tail.
    pub(crate) fn write_records(
        &self,
        head: u64,
        records: impl RecordList,
    ) -> Result<u64, BadRegion> {
        let first = self.region.load(header::LOG_TAIL, Relaxed)?;
        let mut end = first;
        records.each(&mut |record| {
            let size = record.size();
            end = self.record_place(end, size) + size;
            Ok(())
        })?;
        self.log_intend(end)?;
        let (mut tail, mut revision) = (first, head);
        records.each(&mut |record| {
            revision += 1;
            tail = self.log_write(tail, revision, record)?;
            Ok(())
        })?;
        Ok(tail)
    }
}

/// Log records to be written, made one by one.
pub(crate) trait RecordList: Copy {
    fn each(
        self,
        visit: &mut dyn FnMut(&NewRecord<'_>) -> Result<(), BadRegion>,
    ) -> Result<(), BadRegion>;
    /// Bytes of them all.
    fn sizes(self) -> u64 {
        let mut sum = 0;
        let counted = self.each(&mut |record| {
            sum += record.size();
            Ok(())
        });
        if counted.is_ok() { sum } else { u64::MAX }
    }
}

/// The records of planned changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Records<'a> {
    wishes: &'a [Wish<'a>],
    plans: &'a [Plan],
    value_max: u64,
}

impl RecordList for Records<'_> {
    fn each(
        self,
        visit: &mut dyn FnMut(&NewRecord<'_>) -> Result<(), BadRegion>,
    ) -> Result<(), BadRegion> {
        for plan in self.plans {
            let Some(wish) = self.wishes.get(plan.wish) else { continue };
            let number = plan.number.to_le_bytes();
            let (value, who) = match (plan.kind, wish.action) {
                (RecordKind::Set, Action::Set { value, note }) => (value, note.who),
                (RecordKind::Set, Action::Replace { value, who, .. }) => (value, who),
                (RecordKind::Set, Action::Add { who, .. }) => (&number[..], who),
                (_, Action::Delete { who, .. } | Action::Deadline { who, .. }) => (&[][..], who),
                _ => (&[][..], &[][..]),
            };
            visit(&NewRecord {
                kind: plan.kind,
                value_kind: plan.value_kind,
                time: plan.time,
                who,
                key: wish.key,
                value,
                value_max: self.value_max,
            })?;
        }
        Ok(())
    }
}
