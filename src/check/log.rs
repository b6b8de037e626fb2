//! The log: every record from the oldest to the head's, in one row, and what leads to them.

use super::CheckReport;
use crate::log::Read;
use crate::region::BadRegion;
use crate::region::layout::{INDEX_STRIDE, header};
use crate::sync::Ordering::Acquire;
use crate::table::Core;

impl Core {
    /// No record was found: the index must lead to a place that was overwritten since, by records too
    /// large for a stride of it to be there still, or to one where none was written yet, after a commit
    /// that the ring could not hold.
    fn check_no_log(
        &self,
        head: u64,
        tail: u64,
        report: &mut CheckReport,
    ) -> Result<(), BadRegion> {
        let noted = self.region.load(self.geometry.index(head), Acquire)?;
        let intent = self.region.load_count(header::LOG_INTENT, Acquire)?;
        let is_there = noted.saturating_add(self.geometry.log_size) >= intent;
        if head > self.geometry.first_revision && noted < tail && is_there {
            report.say(format!("the log leads to no record, and the head is {head}"));
        }
        Ok(())
    }

    pub(super) fn check_log(&self, report: &mut CheckReport) -> Result<(), BadRegion> {
        let word = |at| self.region.load_count(at, Acquire);
        let (tail, intent) = (word(header::LOG_TAIL)?, word(header::LOG_INTENT)?);
        if tail > intent {
            report.say(format!("the log's tail {tail} lies beyond its intent {intent}"));
        }
        let head = word(header::HEAD)?;
        let first = self.geometry.first_revision + 1;
        let (mut next, mut position) = match self.log_find(first)? {
            Ok(position) => (first, position),
            Err(oldest) => match self.log_find(oldest)? {
                Ok(position) => (oldest, position),
                Err(_) => return self.check_no_log(head, tail, report),
            },
        };
        while next <= head {
            let hint = next.is_multiple_of(INDEX_STRIDE).then(|| self.log_first(next));
            if let Some(hint) = hint.transpose()?
                && hint.is_none_or(|(revision, _)| revision != next)
            {
                report.say(format!("the log's index does not lead to revision {next}"));
            }
            match self.log_read(position, next)? {
                Read::Record(_, after) => position = after,
                Read::Overtaken => return Ok(()),
            }
            report.records += 1;
            next += 1;
        }
        let (now, ready) = self.head_and_ready()?;
        if position != tail && (now, ready) == (head, 0) {
            report.say(format!("the head's record ends at {position}, the log's tail is {tail}"));
        }
        Ok(())
    }
}
