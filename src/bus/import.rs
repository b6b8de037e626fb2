//! Entries from elsewhere, beside what is there.

use super::counters::{Counter, Hot};
use super::persist::check_lengths;
use super::restore::wrong;
use super::{Bus, Inner};
use crate::backend::Source;
use crate::error::SnapshotError;
use crate::snapshot_entry::SnapshotEntry;
use crate::table::entry::Note;
use crate::table::wish::{Action, Condition, Wish};
use crate::word::Name;

/// Entries that are committed together, and their bytes: more would keep all stripes locked for long.
const COUNT: usize = 1024;
const BYTES: usize = 1 << 20;

impl Inner {
    fn import(&self, entries: &[SnapshotEntry]) -> Result<u64, SnapshotError> {
        let now = self.core.clock.wall();
        let mut wishes = Vec::with_capacity(entries.len());
        for entry in entries {
            let note = check_lengths(entry).and_then(|()| self.core.note_of(entry));
            let Some(note) = note.map_err(|reason| wrong(entry, reason))? else { continue };
            let time = if note.time == 0 { now } else { note.time };
            let who = if note.who.is_empty() { self.label().as_bytes() } else { note.who };
            let action = Action::Set {
                value: &entry.value,
                note: Note { time, who, reserve: false, ..note },
            };
            let key = Name::from(entry.key.as_slice());
            let wish = Wish { key, action, condition: Condition::Any };
            self.check_wish(&wish)?;
            wishes.push(wish);
        }
        let me = self.writer()?;
        let begun = self.begin_change(Hot::Commits);
        let bytes = entries.iter().map(|entry| entry.key.len() + entry.value.len()).sum::<usize>();
        let write = || self.core.write_batch(me, &wishes);
        let done = self.with_room(me, || self.ring_for(&wishes), write);
        let done = done.map_err(|refused| self.explain(refused, b"", bytes as u64));
        match done.and_then(|done| {
            self.make_durable(done.revision, self.durability())?;
            Ok(done)
        }) {
            Ok(done) => {
                self.end_change(&begun, &done.sorts);
                self.count_many(Counter::Changes, done.count);
                Ok(wishes.len() as u64)
            }
            Err(error) => {
                self.failed_write(&error);
                Err(error.into())
            }
        }
    }
}

impl Bus {
    /// Sets each entry that `entries` gives, in place of what its key has; other keys stay. Kind, label, time and
    /// deadline are the entry's, its revision is not. Entries without a time or a label get those of now and of
    /// this member; expired ones are passed over. Gives how many were set.
    ///
    /// They are committed some hundred at a time: whoever reads meanwhile sees a part of them, and after an
    /// error those before it are there. [`restore`](Self::restore) is the one that replaces everything, at
    /// one moment.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] for an entry that no bus has, [`SnapshotError::Write`] otherwise;
    /// [`SnapshotError::Refused`] and the like when `entries` gives one.
    pub fn import(&self, entries: &mut dyn Source) -> Result<u64, SnapshotError> {
        let (mut set, mut is_over) = (0, false);
        while !is_over {
            let (mut part, mut bytes) = (Vec::new(), 0);
            while part.len() < COUNT && bytes < BYTES {
                let next = entries.next_entry()?;
                let Some(entry) = next else {
                    is_over = true;
                    break;
                };
                bytes += entry.key.len() + entry.value.len();
                part.push(entry);
            }
            set += self.inner.import(&part)?;
        }
        Ok(set)
    }
}
