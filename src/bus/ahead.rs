//! Entries on their way into a table.
//!
//! Where a key belongs is a line of memory that nobody has read lately. So each entry waits, while the processor fetches
//! its line, until some more have come.

use crate::snapshot_entry::SnapshotEntry;
use crate::table::Core;

/// How many wait.
const WAITING: usize = 16;
/// A longer value waits for nobody: its copy would take longer than the line.
const VALUE_MAX: usize = 4096;

/// Entries that wait, the oldest at `next` once all places are taken.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    waiting: Vec<SnapshotEntry>,
    next: usize,
}

impl Ahead {
    /// Lets an entry wait, and hands on the one that has waited longest.
    pub(super) fn pass<E>(
        &mut self,
        core: &Core,
        entry: &SnapshotEntry,
        mut on: impl FnMut(&SnapshotEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        if entry.value.len() > VALUE_MAX {
            return on(entry);
        }
        core.prefetch_place(&entry.key);
        if let Some(oldest) = self.waiting.get_mut(self.next) {
            self.next = (self.next + 1) % WAITING;
            let end = on(oldest);
            oldest.copy_from(entry);
            return end;
        }
        self.waiting.push(entry.clone());
        self.next = self.waiting.len() % WAITING;
        Ok(())
    }

    /// Hands on all that wait.
    pub(super) fn rest<E>(
        &mut self,
        mut on: impl FnMut(&SnapshotEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        let (newer, older) = self.waiting.split_at(self.next.min(self.waiting.len()));
        let end = older.iter().chain(newer).try_for_each(&mut on);
        (self.waiting, self.next) = (Vec::new(), 0);
        end
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Place;
    use super::*;

    fn tell(told: &mut Vec<SnapshotEntry>, entry: &SnapshotEntry) -> Result<(), ()> {
        told.push(entry.clone());
        Ok(())
    }

    /// Promise: each entry is handed on once, however many there are, and whether they wait or not.
    /// Plants: the rest without the newer ones; an entry that takes the place of one that was not handed on.
    #[test]
    fn each_is_handed_on_once() {
        let place = Place::new();
        let bus = place.options().keeper(false).create_at(place.bus()).unwrap();
        for count in [0, 1, WAITING - 1, WAITING, WAITING + 1, 3 * WAITING + 5] {
            let (mut ahead, mut told) = (Ahead::default(), Vec::new());
            for number in 0..count {
                let size = if number % 7 == 6 { VALUE_MAX + 1 } else { number };
                let (key, value) = (vec![number as u8 + 1], vec![number as u8; size]);
                let entry = SnapshotEntry { key, value, ..SnapshotEntry::default() };
                ahead.pass(&bus.inner.core, &entry, |entry| tell(&mut told, entry)).unwrap();
            }
            ahead.rest(|entry| tell(&mut told, entry)).unwrap();
            told.sort_by_key(|entry| entry.key.clone());
            assert_eq!(told.len(), count);
            for (number, entry) in told.iter().enumerate() {
                assert_eq!(entry.key, [number as u8 + 1]);
                assert!(entry.value.iter().all(|byte| *byte == number as u8));
            }
        }
    }
}
