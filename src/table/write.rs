//! WRITE: decide under the stripe's lock, fill new entries, commit, make visible, retire.
//!
//! A death before the commit's `READY` leaves new entries that nothing names: the stripe's repair
//! frees them. After it, whoever comes next finishes, and the repair retires what died.

use super::array::{LOAD_MAX, Room};
use super::entry::{Header, Note, size_of};

use super::{Core, free::FREE_BATCH};
use crate::commit::Stored;
use crate::heap::HeapError;
use crate::lock::LockError;
use crate::log::RecordKind;
use crate::region::BadRegion;
use crate::region::layout::{entry, header, stripe};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::word::{Hash, offset_of};
use std::time::Instant;

/// Kind of an entry: raw bytes.
pub(crate) const KIND_BYTES: u8 = 0;
/// Kind of an entry: MessagePack.
pub(crate) const KIND_STRUCTURE: u8 = 1;
/// Kind of an entry: an `i64`.
pub(crate) const KIND_COUNTER: u8 = 2;

/// What is to happen to a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action<'a> {
    Set {
        value: &'a [u8],
        note: Note<'a>,
    },
    /// Adds to a counter; an absent one counts as 0. Time to live and owner stay.
    Add {
        by: i64,
        time: u64,
        who: &'a [u8],
    },
    /// Sets the deadline of what is there (0: none).
    Deadline {
        deadline: u64,
        time: u64,
        who: &'a [u8],
    },
    /// Sets a value, and keeps time to live and owner of what is there.
    Replace {
        value: &'a [u8],
        kind: u8,
        time: u64,
        who: &'a [u8],
    },
    Delete {
        time: u64,
        who: &'a [u8],
    },
    /// Logs an expired entry and lets it go; one that has not expired stays.
    Expire {
        time: u64,
    },
    /// Deletes only what belongs to this dead owner.
    DeleteOwned {
        owner: u64,
        time: u64,
    },
    /// Only the condition counts.
    Require,
}

/// What must hold for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Any,
    Absent,
    Revision(u64),
}

/// One change that is wished for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) action: Action<'a>,
    pub(crate) condition: Condition,
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Done {
    /// Revision of the last change; 0 when nothing changed.
    pub(crate) revision: u64,
    /// Value of the last counter.
    pub(crate) value: i64,
    /// Changes made.
    pub(crate) count: u64,
}

/// Why nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteFailure {
    Conflict {
        index: usize,
        expected: Condition,
        found: Option<u64>,
    },
    NotCounter {
        index: usize,
        kind: u8,
    },
    Overflow {
        index: usize,
        value: i64,
        by: i64,
    },
    NoRoom {
        blocks: u64,
    },
    LogTooSmall {
        needed: u64,
        limit: u64,
    },
    Lock(LockError),
    Bad(BadRegion),
    /// A clear came between: the caller decides again.
    Again,
    /// This stripe's array is too small.
    Double {
        stripe: u64,
    },
}

impl From<BadRegion> for WriteFailure {
    fn from(bad: BadRegion) -> Self {
        Self::Bad(bad)
    }
}
impl From<LockError> for WriteFailure {
    fn from(error: LockError) -> Self {
        Self::Lock(error)
    }
}
impl From<HeapError> for WriteFailure {
    fn from(error: HeapError) -> Self {
        match error {
            HeapError::NoRoom(no) => Self::NoRoom { blocks: no.blocks },
            HeapError::Bad(bad) => Self::Bad(bad),
        }
    }
}

/// The entry of a key as its stripe's lock holder sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Current {
    pub(crate) slot: u64,
    pub(crate) word: u64,
    pub(crate) header: Header,
    pub(crate) born: u64,
    pub(crate) deadline: u64,
    pub(crate) owner: u64,
    pub(crate) expired: bool,
    /// Neither cleared nor expired.
    pub(crate) live: bool,
}

/// A change that is decided and filled, but not committed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) wish: usize,
    pub(crate) stripe: u64,
    pub(crate) stored: Stored,
    pub(crate) kind: RecordKind,
    pub(crate) value_kind: u8,
    pub(crate) time: u64,
    pub(crate) number: i64,
    /// +1 or -1 to the stripe's count of entries.
    pub(crate) grows: i64,
}

impl Core {
    /// Finds `key` under its stripe's lock.
    pub(crate) fn current(
        &self,
        key: &[u8],
        hash: Hash,
        stripe: u64,
    ) -> Result<Option<Current>, BadRegion> {
        let array = self.array_word(stripe)?;
        self.search(array, hash, |slot, word| {
            let at = offset_of(word);
            let room = self.place(at)?.cut.size;
            let header = self.header(at, room)?;
            if header.key_len != key.len() as u64 || !self.region.equals(header.key(), key)? {
                return Ok(None);
            }
            let born = self.region.load(at + entry::BORN, Acquire)?;
            let deadline = self.space.deadline(&header)?;
            let expired = deadline != 0 && deadline <= self.clock.boot();
            let cleared = born < self.region.load(header::CLEARED_AT, Acquire)?;
            let owner = self.entry_owner(&header)?;
            let live = !expired && !cleared;
            let expired = expired && !cleared;
            Ok(Some(Current { slot, word, header, born, deadline, owner, expired, live }))
        })
    }

    /// Decides one wish and fills its entry. Pushes one plan, or two when an expired entry goes.
    pub(crate) fn plan(
        &self,
        index: usize,
        wish: &Wish<'_>,
        taken: &dyn Fn(u64) -> bool,
        plans: &mut Vec<Plan>,
    ) -> Result<(), WriteFailure> {
        let hash = Hash::of(wish.key, self.geometry.seed);
        let stripe = hash.stripe(self.geometry.stripes);
        let current = self.current(wish.key, hash, stripe)?;
        let live = current.filter(|current| current.live);
        let found = live.map(|live| live.born);
        let holds = match wish.condition {
            Condition::Any => true,
            Condition::Absent => found.is_none(),
            Condition::Revision(revision) => found == Some(revision),
        };
        if !holds {
            return Err(WriteFailure::Conflict { index, expected: wish.condition, found });
        }
        let ends = |kind, time, gone: Current| Plan {
            wish: index,
            stripe,
            stored: Stored { slot: gone.slot, new: 0, old: gone.word },
            kind,
            value_kind: 0,
            time,
            number: 0,
            grows: -1,
        };
        let mut number = [0; 8];
        let (value, note) = match (wish.action, live) {
            (Action::Delete { time, .. }, Some(live)) => {
                plans.push(ends(RecordKind::Delete, time, live));
                return Ok(());
            }
            (Action::DeleteOwned { owner, time }, Some(live)) if live.owner == owner => {
                plans.push(ends(RecordKind::Delete, time, live));
                return Ok(());
            }
            (Action::Expire { time }, _) => {
                if let Some(gone) = current.filter(|current| current.expired) {
                    plans.push(ends(RecordKind::Expire, time, gone));
                }
                return Ok(());
            }
            (Action::Delete { .. } | Action::DeleteOwned { .. } | Action::Require, _)
            | (Action::Deadline { .. }, None) => return Ok(()),
            (Action::Set { value, note }, _) => (value, note),
            (Action::Add { by, time, who }, live) => {
                number = self.added(index, live, by)?.to_le_bytes();
                (&number[..], inherit(live, KIND_COUNTER, time, who))
            }
            (Action::Replace { value, kind, time, who }, live) => {
                (value, inherit(live, kind, time, who))
            }
            (Action::Deadline { deadline, time, who }, Some(live)) => {
                let mut bytes = Vec::new();
                self.region.read_into(live.header.value(), live.header.value_len, &mut bytes)?;
                let note = Note { deadline, ..inherit(Some(live), live.header.kind, time, who) };
                self.plan_set(index, wish.key, hash, &bytes, &note, current, taken, plans)?;
                return Ok(());
            }
        };
        self.plan_set(index, wish.key, hash, value, &note, current, taken, plans)?;
        if let (Action::Add { .. }, Some(plan)) = (wish.action, plans.last_mut()) {
            plan.number = i64::from_le_bytes(number);
        }
        Ok(())
    }

    fn added(&self, index: usize, live: Option<Current>, by: i64) -> Result<i64, WriteFailure> {
        let Some(live) = live else { return Ok(by) };
        if live.header.kind != KIND_COUNTER || live.header.value_len != 8 {
            return Err(WriteFailure::NotCounter { index, kind: live.header.kind });
        }
        let value = self.region.load(live.header.value(), Relaxed)?.cast_signed();
        value.checked_add(by).ok_or(WriteFailure::Overflow { index, value, by })
    }

    #[expect(clippy::too_many_arguments, reason = "one step of `plan`, which owns all of these")]
    fn plan_set(
        &self,
        index: usize,
        key: &[u8],
        hash: Hash,
        value: &[u8],
        note: &Note<'_>,
        current: Option<Current>,
        taken: &dyn Fn(u64) -> bool,
        plans: &mut Vec<Plan>,
    ) -> Result<(), WriteFailure> {
        let stripe = hash.stripe(self.geometry.stripes);
        let slot = match current {
            Some(current) => current.slot,
            None => match self.room(self.array_word(stripe)?, hash, taken)? {
                Room::Slot(at) => at,
                Room::Double => return Err(WriteFailure::Double { stripe }),
            },
        };
        let size = size_of(key, value, note);
        let at = match self.allocate(stripe, size) {
            Err(HeapError::NoRoom(_)) => {
                self.sweep_retired(stripe)?;
                self.allocate(stripe, size)?
            }
            other => other?,
        };
        let pred = current.map_or(entry::NONE, |current| offset_of(current.word));
        self.fill(at, pred, key, value, note)?;
        if note.deadline != 0 {
            self.note_deadline(stripe, note.deadline)?;
        }
        let old = current.map_or(0, |current| current.word);
        let expired = current.is_some_and(|current| current.expired);
        let plan = Plan {
            wish: index,
            stripe,
            stored: Stored { slot, new: hash.word(at), old: if expired { 0 } else { old } },
            kind: RecordKind::Set,
            value_kind: note.kind,
            time: note.time,
            number: 0,
            grows: i64::from(current.is_none()),
        };
        if expired {
            let stored = Stored { slot: 0, new: 0, old };
            plans.push(Plan { stored, kind: RecordKind::Expire, value_kind: 0, grows: 0, ..plan });
        }
        plans.push(plan);
        Ok(())
    }

    /// Gives back what plans filled, when they will not be committed.
    pub(crate) fn take_back(&self, plans: &mut Vec<Plan>) -> Result<(), BadRegion> {
        for plan in plans.drain(..) {
            if plan.stored.new != 0 {
                let place = self.place(offset_of(plan.stored.new))?;
                self.vacate(&place, false)?;
            }
        }
        Ok(())
    }

    /// Commits plans whose stripes are locked, and retires what died. `cleared` is the floor of
    /// the last clear that the decisions were made by; `list` the span for many changes, or 0.
    pub(crate) fn commit_plans(
        &self,
        me: u32,
        deadline: Instant,
        wishes: &[Wish<'_>],
        plans: &[Plan],
        cleared: u64,
        list: u64,
    ) -> Result<Done, WriteFailure> {
        let (records, size) = self.records(wishes, plans)?;
        self.log_prefetch(size.min(4096));
        let guard = self.lock_commit(me, deadline)?;
        if self.region.load(header::CLEARED_AT, Acquire)? != cleared {
            return Err(WriteFailure::Again);
        }
        let head = self.region.load(header::HEAD, Relaxed)?;
        let last = head + plans.len() as u64;
        let tail = self.write_records(head, records)?;
        let one;
        let many: Vec<Stored>;
        let stored = if let [plan] = plans {
            one = [plan.stored];
            &one[..]
        } else {
            many = plans.iter().map(|plan| plan.stored).collect();
            &many[..]
        };
        self.commit_record(stored, list, last, tail, 0)?;
        self.finish()?;
        drop(guard);
        for plan in plans {
            self.settle(plan)?;
        }
        let value = plans.last().map_or(0, |plan| plan.number);
        Ok(Done { revision: last, value, count: plans.len() as u64 })
    }

    /// After the commit: retires what died, and counts.
    fn settle(&self, plan: &Plan) -> Result<(), BadRegion> {
        if plan.stored.old != 0 {
            self.retire(plan.stripe, offset_of(plan.stored.old))?;
        }
        if plan.grows != 0 {
            let at = self.geometry.stripe(plan.stripe) + stripe::COUNT;
            let count = self.region.load(at, Relaxed)?;
            self.region.store(at, count.wrapping_add_signed(plan.grows), Release)?;
        }
        Ok(())
    }

    /// One change by itself.
    pub(crate) fn write_one(&self, me: u32, wish: &Wish<'_>) -> Result<Done, WriteFailure> {
        let deadline = self.deadline();
        let hash = Hash::of(wish.key, self.geometry.seed);
        let stripe = hash.stripe(self.geometry.stripes);
        let mut plans = Vec::with_capacity(2);
        let guard = self.lock_stripe(stripe, me, deadline)?;
        self.free_retired(stripe, FREE_BATCH)?;
        self.double_when_full(stripe, 1)?;
        loop {
            let cleared = self.region.load(header::CLEARED_AT, Acquire)?;
            let decided = self.plan(0, wish, &|_| false, &mut plans);
            let end = match decided {
                Ok(()) if plans.is_empty() => Ok(Done::default()),
                Ok(()) => {
                    let wishes = std::slice::from_ref(wish);
                    self.commit_plans(me, deadline, wishes, &plans, cleared, 0)
                }
                Err(error) => Err(error),
            };
            match end {
                Ok(done) => {
                    drop(guard);
                    return Ok(done);
                }
                Err(WriteFailure::Again) => self.take_back(&mut plans)?,
                Err(WriteFailure::Double { .. }) => {
                    self.take_back(&mut plans)?;
                    self.double(stripe)?;
                }
                Err(error) => {
                    self.take_back(&mut plans)?;
                    return Err(error);
                }
            }
        }
    }

    /// Doubles a stripe's array until `more` entries fit in well.
    pub(crate) fn double_when_full(&self, stripe: u64, more: u64) -> Result<(), WriteFailure> {
        let at = self.geometry.stripe(stripe) + stripe::COUNT;
        loop {
            let count = self.region.load(at, Relaxed)?;
            let buckets = 1u64 << self.array_word(stripe)?.log2();
            if count.saturating_add(more) <= buckets * LOAD_MAX {
                return Ok(());
            }
            match self.double(stripe) {
                Ok(()) => {}
                // It still fits as long as chains have room; growth comes with the next need.
                Err(HeapError::NoRoom(_)) => return Ok(()),
                Err(HeapError::Bad(bad)) => return Err(bad.into()),
            }
        }
    }
}

fn inherit<'a>(live: Option<Current>, kind: u8, time: u64, who: &'a [u8]) -> Note<'a> {
    let (deadline, owner) = live.map_or((0, 0), |live| (live.deadline, live.owner));
    Note { kind, time, deadline, owner, who }
}
