//! Only the newest state of each key, for a receiver that is slower than the writers.
//!
//! 1. The log is read up to the head before anything is told; of each key the newest change is kept.
//!    What was kept is told in *rounds*, each in order of revision.
//! 2. A change whose key has a newer one by now is passed over, since that is told in the next round;
//!    but not in two rounds in a row, so that a key that never rests is told all the same.
//! 3. `told` is what the receiver knows. What is not newer is not told, nor the end of a key that the
//!    receiver does not know: so nothing is told twice, and revisions rise for each key.
//! 4. Once records are gone, what is left of the round is told as it is by now, looked up by key; then
//!    everything is listed, and what differs from `told` is the next round.
//!
//! It holds the keys under the prefix, and the changes of one round with the next: of each key one, with
//! its value. Nothing of it is in the region.

use super::Inner;
use super::event::{Change, Event};
use super::feed::Listing;
use super::follow::{Follower, Next, concerns};
use crate::error::{ReadError, WatchError};
use crate::log::{Record, RecordKind};
use crate::region::layout::header;
use crate::sync::Ordering::Acquire;
use crate::value::Entry;
use std::collections::{HashMap, HashSet, VecDeque};

/// How a key was found.
#[derive(Debug)]
enum State {
    /// By a record of the log.
    Record(Record),
    /// By a look at the key.
    Entry(Entry),
    /// Absent.
    Gone,
}

/// A change that was not told yet; of the empty key: one of all keys.
#[derive(Debug)]
struct Pending {
    key: Vec<u8>,
    revision: u64,
    state: State,
    /// The key's last change was passed over: this one is not.
    is_due: bool,
}

/// The revision of the last clear or restore.
pub(super) fn cleared(inner: &Inner) -> Result<u64, ReadError> {
    // ORDERING: [cleared] Acquire; pairs with the Release store in `finish`. Relaxed would do: an entry
    // that was seen shows every clear before it.
    Ok(inner.core.region.load_count(header::CLEARED_AT, Acquire)?)
}

/// Something between what the receiver knows and what is there, that no record tells: it has to be listed.
#[derive(Debug, Clone, Copy)]
struct Gap {
    /// The revision up to which the receiver knows all.
    after: u64,
    /// So many records are gone, up to this revision; nothing behind a restore, which tells of itself.
    lagged: Option<(u64, u64)>,
}

/// What a receiver knows, and what it is to be told.
#[derive(Debug, Default)]
pub(crate) struct Conflation {
    /// The keys that are there for the receiver, with the revisions that it was told.
    told: HashMap<Vec<u8>, u64>,
    /// Whether it knows no others; one that began at a cursor may.
    knows_all: bool,
    round: VecDeque<Pending>,
    coming: HashMap<Vec<u8>, Pending>,
    /// No change of `coming` is older: the first of them was not, and none of a listing.
    coming_from: u64,
    gap: Option<Gap>,
    /// As long as the round is what a listing found: the revision after which its gap began.
    listed_after: Option<u64>,
}

impl Conflation {
    /// For a receiver that was told these entries, and no others when `knows_all`.
    pub(crate) fn new(told: HashMap<Vec<u8>, u64>, knows_all: bool) -> Self {
        Self { told, knows_all, ..Self::default() }
    }

    /// Records are gone, so what is there has to be listed; that finds what was kept for the next round.
    pub(crate) fn has_missed(&mut self, missed: u64, resume: u64) {
        self.coming.clear();
        let after = resume.saturating_sub(missed);
        self.gap = Some(Gap { after, lagged: Some((missed, resume)) });
    }

    /// The same of a restore at this revision: what it brought has no records.
    pub(crate) fn has_restored(&mut self, revision: u64) {
        self.coming.clear();
        self.gap = Some(Gap { after: revision.saturating_sub(1), lagged: None });
    }

    /// The revision up to which the receiver has the newest state, when the log was read up to `passed`. Who
    /// begins there meets a gap again whose listing was not told to its end.
    pub(crate) fn passed(&self, passed: u64) -> u64 {
        // For each event: not by all that wait. The round is in order.
        let told = self.round.front().map(|first| first.revision.saturating_sub(1));
        let coming = (!self.coming.is_empty()).then(|| self.coming_from.saturating_sub(1));
        let gap = self.gap.map(|gap| gap.after);
        [told, coming, gap, self.listed_after, Some(passed)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(passed)
    }

    /// Where the gap began whose listing the queue tells: what is in there is held back by who has it.
    pub(crate) fn hands_over(&mut self) -> Option<u64> {
        self.listed_after.take()
    }

    /// The next event; `queue` gets those that a new listing tells.
    pub(crate) fn next(
        &mut self,
        inner: &Inner,
        prefix: &[u8],
        log: &mut Follower,
        queue: &mut VecDeque<Event>,
    ) -> Result<Option<Event>, WatchError> {
        let head = inner.core.head().map_err(ReadError::from)?;
        let mut has_listed = false;
        loop {
            self.read(inner, prefix, log, head)?;
            while let Some(pending) = self.round.pop_front() {
                let told = self.tell(inner, pending)?;
                self.listed_after = self.listed_after.filter(|_| !self.round.is_empty());
                if let Some(change) = told {
                    return Ok(Some(Event::Change(change)));
                }
            }
            self.listed_after = None;
            if self.gap.is_some() {
                // One that is overtaken at each listing looks again when it is asked again: nothing was
                // found, and what changes after this listing rings.
                if has_listed {
                    return Ok(None);
                }
                has_listed = true;
                self.list(inner, prefix, log, queue)?;
                if let Some(event) = queue.pop_front() {
                    return Ok(Some(event));
                }
            } else if self.coming.is_empty() {
                return Ok(None);
            }
            self.begin_round();
        }
    }

    fn wait(&mut self, pending: Pending) {
        let from = if self.coming.is_empty() { u64::MAX } else { self.coming_from };
        self.coming_from = from.min(pending.revision);
        self.coming.insert(pending.key.clone(), pending);
    }

    fn begin_round(&mut self) {
        let mut round: Vec<_> = self.coming.drain().map(|(_, pending)| pending).collect();
        round.sort_unstable_by(|one, two| (one.revision, &one.key).cmp(&(two.revision, &two.key)));
        self.round = round.into();
    }

    /// Reads the log on to this head, unless records are gone already.
    fn read(
        &mut self,
        inner: &Inner,
        prefix: &[u8],
        log: &mut Follower,
        head: u64,
    ) -> Result<(), WatchError> {
        while self.gap.is_none() {
            match log.next(&inner.core, head).map_err(ReadError::from)? {
                None => break,
                Some(Next::Record(record)) if concerns(&record, prefix) => self.keep(record),
                Some(Next::Record(_)) => {}
                Some(Next::Lagged { missed, resume }) => self.has_missed(missed, resume),
            }
        }
        Ok(())
    }

    /// Keeps a record for the next round, in place of an older one of its key.
    fn keep(&mut self, record: Record) {
        let Record { revision, kind, .. } = record;
        if matches!(kind, RecordKind::Clear | RecordKind::Restore) {
            self.round.clear();
            self.coming.clear();
        }
        let key = record.key.clone();
        let known = self.coming.get(&key);
        if known.is_some_and(|known| known.revision >= revision) {
            return;
        }
        let is_due = known.is_some_and(|known| known.is_due);
        self.wait(Pending { key, revision, state: State::Record(record), is_due });
    }

    /// The change that the receiver is told of this, if any.
    fn tell(&mut self, inner: &Inner, pending: Pending) -> Result<Option<Change>, WatchError> {
        if !pending.is_due
            && let Some(newer) = self.coming.get_mut(&pending.key)
        {
            newer.is_due = true;
            return Ok(None);
        }
        let Some(pending) = self.refreshed(inner, pending)? else { return Ok(None) };
        let Pending { key, revision, state, .. } = pending;
        if self.told.get(&key).is_some_and(|told| *told >= revision) {
            return Ok(None);
        }
        let kind = match &state {
            State::Record(record) => record.kind,
            State::Entry(_) => RecordKind::Set,
            State::Gone => RecordKind::Delete,
        };
        match kind {
            RecordKind::Set => drop(self.told.insert(key.clone(), revision)),
            RecordKind::Clear => {
                self.told.clear();
                self.knows_all = true;
            }
            // What is there now is to be listed.
            RecordKind::Restore => self.has_restored(revision),
            _ => {
                if self.told.remove(&key).is_none() && self.knows_all {
                    return Ok(None);
                }
            }
        }
        Ok(match state {
            State::Record(record) => inner.change_of(record)?,
            State::Entry(entry) => Some(Change::of(entry)),
            State::Gone => Change::gone(key, revision, inner.core.clock.wall()),
        })
    }

    /// How the key is by now, when what is known may be old, or is known by its size alone; nothing when
    /// its end comes with a record that was not read yet.
    fn refreshed(&self, inner: &Inner, pending: Pending) -> Result<Option<Pending>, WatchError> {
        let is_large = matches!(&pending.state, State::Record(record) if record.too_large);
        if pending.key.is_empty() || self.gap.is_none() && !is_large {
            return Ok(Some(pending));
        }
        // Before the look: a key that is there again later is so by a change beyond it.
        let head = inner.core.head().map_err(ReadError::from)?;
        let (revision, state) = match inner.entry(&pending.key) {
            // A clear that was not read yet lies between: what came after it has a record of its own.
            Ok(Some(_)) if self.gap.is_none() && cleared(inner)? > pending.revision => {
                return Ok(None);
            }
            Ok(Some(entry)) => (entry.stat.revision.get(), State::Entry(entry)),
            Ok(None) if self.gap.is_none() => return Ok(None),
            Ok(None) if is_end(&pending.state) => return Ok(Some(pending)),
            Ok(None) => (head, State::Gone),
            // It changes faster than it can be copied: told as it was.
            Err(ReadError::Contended { .. }) => return Ok(Some(pending)),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Pending { revision, state, ..pending }))
    }

    /// Lists what is there behind a gap: what differs from what the receiver knows is the next round. One
    /// that may know of other keys is told of the gap, and everything.
    fn list(
        &mut self,
        inner: &Inner,
        prefix: &[u8],
        log: &mut Follower,
        queue: &mut VecDeque<Event>,
    ) -> Result<(), WatchError> {
        let Listing { entries, before, .. } = Listing::read(inner, prefix)?;
        let gap = self.gap.take();
        self.listed_after = gap.map(|gap| gap.after);
        *log = Follower::after(before);
        if !self.knows_all {
            self.knows_all = true;
            self.told.clear();
            if let Some((missed, resume)) = gap.and_then(|gap| gap.lagged) {
                queue.push_back(Event::Lagged { missed, resume: inner.cursor(resume) });
            }
            for entry in entries {
                self.told.insert(entry.key.to_vec(), entry.stat.revision.get());
                queue.push_back(Event::Current(entry));
            }
            queue.push_back(Event::CaughtUp(inner.cursor(before)));
            return Ok(());
        }
        let there: HashSet<&[u8]> = entries.iter().map(|entry| &*entry.key).collect();
        let gone = self.told.keys().filter(|key| !there.contains(key.as_slice()));
        let gone: Vec<_> = gone.map(|key| (key.clone(), before, State::Gone)).collect();
        let found = entries.into_iter().filter_map(|entry| {
            let (key, revision) = (entry.key.to_vec(), entry.stat.revision.get());
            let is_news = self.told.get(&key).is_none_or(|told| *told < revision);
            is_news.then_some((key, revision, State::Entry(entry)))
        });
        // Not passed over: whether its last change was is no longer known.
        let pending = |(key, revision, state)| Pending { key, revision, state, is_due: true };
        let news: Vec<_> = found.chain(gone).map(pending).collect();
        news.into_iter().for_each(|pending| self.wait(pending));
        Ok(())
    }
}

/// Whether a key ends with this.
fn is_end(state: &State) -> bool {
    match state {
        State::Record(record) => matches!(record.kind, RecordKind::Delete | RecordKind::Expire),
        State::Entry(_) => false,
        State::Gone => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: a cursor leads back before all that was not told, whatever of it is replaced, and in whatever order it was found.
    /// Plants: the last that came in place of the first; what came in the round before.
    #[test]
    fn a_cursor_is_before_all_that_waits() {
        let mut waiting = Conflation::default();
        let pending = |key: u8, revision| Pending {
            key: vec![key],
            revision,
            state: State::Gone,
            is_due: false,
        };
        assert_eq!(waiting.passed(100), 100);
        for (key, at) in [(1, 30), (2, 20), (3, 40), (2, 50)] {
            waiting.wait(pending(key, at));
        }
        assert_eq!(waiting.passed(100), 19, "20 was replaced: no harm, and no search");
        waiting.begin_round();
        for after in [29, 39, 49, 100] {
            assert_eq!(waiting.passed(100), after);
            waiting.round.pop_front();
        }
        waiting.wait(pending(1, 60));
        assert_eq!((waiting.passed(100), waiting.passed(7)), (59, 7));
    }
}
