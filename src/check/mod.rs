//! `check`: every structure of a region against every other, read-only.
//!
//! It is REPAIR's computation without the repair: what is occupied must be named or retired, what
//! is named must be occupied, born and of its stripe, every block must belong to a span or be
//! free. On a bus in use it looks again before it calls something wrong.

mod heap;
mod log;
mod table;
mod words;

use crate::table::Core;

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
        let parts = [Self::check_words, Self::check_blocks, Self::check_stripes, Self::check_log];
        for part in parts {
            if let Err(bad) = part(self, &mut report) {
                report.say(bad.to_string());
            }
        }
        report
    }
}
