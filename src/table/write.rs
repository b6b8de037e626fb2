//! WRITE: decide under the stripe's lock, fill new entries, commit, make visible, retire.
//!
//! A death before the commit's `READY` leaves new entries that nothing names: the stripe's repair
//! frees them. After it, whoever comes next finishes, and the repair retires what died.

use super::array::{LOAD_MAX, Room};
use super::entry::{Entry, Header, Note, size_of};
use super::guard::CommitGuard;
use super::plan::{Pair, Plan, Plans};
use super::wish::{Action, Condition, Done, KIND_COUNTER, Sorts, Wish, WriteFailure};
use super::{Core, free::FREE_BATCH};
use crate::commit::Stored;
use crate::heap::{self, HeapError};
use crate::lock::Patience;
use crate::log::RecordKind;
use crate::region::BadRegion;
use crate::region::layout::{entry, header, stripe};
use crate::sync::Ordering::{Acquire, Relaxed};
use crate::word::{Hash, Name, Realm, offset_of};
use std::cell::Cell;

/// The entry of a key as its stripe's lock holder sees it.
#[derive(Debug)]
pub(crate) struct Current<'r> {
    pub(crate) slot: u64,
    pub(crate) word: u64,
    pub(crate) entry: Entry<'r>,
    pub(crate) header: Header,
    pub(crate) born: u64,
    pub(crate) deadline: u64,
    pub(crate) owner: u64,
    pub(crate) expired: bool,
    /// Neither cleared nor expired.
    pub(crate) live: bool,
}

impl Current<'_> {
    /// Whether its value begins with this word.
    fn begins(&self, word: u64) -> Result<bool, BadRegion> {
        Ok(self.header.value_len >= 8 && self.entry.number(&self.header)?.cast_unsigned() == word)
    }
}

/// What decisions depend on beyond the stripes that are locked: it is looked at again under the commit
/// lock, and they are made anew when it does not hold any more.
#[derive(Debug)]
pub(crate) struct Basis {
    /// The floor of the last clear.
    cleared: u64,
    /// The earliest deadline of an entry that was taken for a live one, or 0.
    until: Cell<u64>,
}

impl Basis {
    /// An entry with this deadline counts as live.
    #[inline]
    fn rest_on(&self, deadline: u64) {
        if deadline != 0 && (self.until.get() == 0 || deadline < self.until.get()) {
            self.until.set(deadline);
        }
    }
}

/// Where a wish's key belongs, and what planning may do there.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) hash: Hash,
    pub(crate) stripe: u64,
    /// Whether a crowded array is doubled first.
    pub(crate) may_double: bool,
    /// Slot words that are taken by changes planned already.
    pub(crate) taken: &'a dyn Fn(u64) -> bool,
}

impl Core {
    /// As of now.
    #[inline]
    pub(crate) fn basis(&self) -> Result<Basis, BadRegion> {
        let cleared = self.region.load_count(header::CLEARED_AT, Acquire)?;
        Ok(Basis { cleared, until: Cell::new(0) })
    }

    /// Whether decisions stand. The commit lock is held.
    #[inline]
    fn stands(&self, basis: &Basis) -> Result<bool, BadRegion> {
        let cleared = self.region.load_count(header::CLEARED_AT, Acquire)?;
        Ok(cleared == basis.cleared && !self.is_past(basis.until.get()))
    }

    pub(crate) fn site<'a>(&self, name: Name<'_>, taken: &'a dyn Fn(u64) -> bool) -> Site<'a> {
        let hash = Hash::of(name, self.geometry.seed);
        Site { hash, stripe: hash.stripe(self.geometry.stripes), may_double: true, taken }
    }

    /// Finds a key under its stripe's lock.
    #[inline]
    pub(crate) fn current(
        &self,
        name: Name<'_>,
        hash: Hash,
        stripe: u64,
    ) -> Result<Option<Current<'_>>, BadRegion> {
        let array = self.array_word(stripe)?;
        self.search(array, hash, |line, index, word| {
            let slot = line.at() + 8 * index as u64;
            let entry = self.entry(offset_of(word))?;
            let header = entry.header()?;
            if !entry.has_key(&header, name)? {
                return Ok(None);
            }
            let born = entry.born(Acquire)?;
            let deadline = entry.deadline(&header)?;
            let expired = self.is_past(deadline);
            let floor = self.region.load_count(header::CLEARED_AT, Acquire)?;
            let cleared = header.is_cleared(born, floor);
            let owner = entry.owner(&header)?;
            let live = !expired && !cleared;
            let expired = expired && !cleared;
            Ok(Some(Current { slot, word, entry, header, born, deadline, owner, expired, live }))
        })
    }

    /// Decides one wish and fills its entry.
    #[inline]
    pub(crate) fn plan(
        &self,
        index: usize,
        wish: &Wish<'_>,
        site: &Site<'_>,
        basis: &Basis,
        plans: &mut impl Plans,
    ) -> Result<(), WriteFailure> {
        let current = self.current(wish.key, site.hash, site.stripe)?;
        let live = current.as_ref().filter(|current| current.live);
        if let Some(live) = live {
            basis.rest_on(live.deadline);
        }
        let found = live.map(|live| live.born);
        let holds = match wish.condition {
            Condition::Any => true,
            Condition::Absent => found.is_none(),
            Condition::Revision(revision) => found == Some(revision),
            Condition::Begins(word) => match live {
                Some(live) => live.begins(word)?,
                None => false,
            },
        };
        if !holds {
            return Err(WriteFailure::Conflict { index, expected: wish.condition, found });
        }
        let mut set = |value: &[u8], note: &Note<'_>, number: [u8; 8]| {
            self.plan_set((index, wish.key), value, note, number, current.as_ref(), site, plans)
        };
        match (wish.action, live) {
            (Action::Set { value, note }, _) => set(value, &note, [0; 8]),
            (Action::Add { by, time, who }, live) => {
                let number = added(index, live, by)?.to_le_bytes();
                set(&number, &inherit(live, KIND_COUNTER, time, who), number)
            }
            (Action::Replace { value, kind, time, who }, live) => {
                set(value, &inherit(live, kind, time, who), [0; 8])
            }
            (Action::Deadline { deadline, time, who }, Some(live)) => {
                let mut bytes = Vec::new();
                live.entry.copy_value(&live.header, &mut bytes)?;
                let note = inherit(Some(live), live.header.kind, time, who);
                // A shorter time makes room in the end.
                set(&bytes, &Note { deadline, reserve: true, ..note }, [0; 8])
            }
            (Action::Delete { .. }, Some(live)) => {
                plans.push(end_of(index, live, RecordKind::Delete, site));
                Ok(())
            }
            (Action::DeleteOwned { owner, .. }, Some(live)) if live.owner == owner => {
                plans.push(end_of(index, live, RecordKind::Delete, site));
                Ok(())
            }
            (Action::Expire { .. }, _) => {
                if let Some(gone) = current.as_ref().filter(|current| current.expired) {
                    plans.push(end_of(index, gone, RecordKind::Expire, site));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one step of `plan`, which owns all of these")]
    #[inline]
    fn plan_set(
        &self,
        (index, name): (usize, Name<'_>),
        value: &[u8],
        note: &Note<'_>,
        number: [u8; 8],
        current: Option<&Current<'_>>,
        site: &Site<'_>,
        plans: &mut impl Plans,
    ) -> Result<(), WriteFailure> {
        let slot = match current {
            Some(current) => current.slot,
            None => self.slot_for(site)?,
        };
        let room = match self.allocate_or_sweep(site.stripe, name, value, note) {
            Ok(room) => room,
            Err(HeapError::NoRoom(no)) => {
                return Err(WriteFailure::NoRoom { blocks: no.blocks, index });
            }
            Err(HeapError::Bad(bad)) => return Err(bad.into()),
        };
        let entry = self.entry_in(room)?;
        let pred = current.map_or(entry::NONE, |current| offset_of(current.word));
        entry.fill(pred, name, value, note)?;
        if note.deadline != 0 {
            self.note_deadline(site.stripe, note.deadline)?;
        }
        let mut old = current.map_or(0, |current| current.word);
        if let Some(gone) = current.filter(|current| current.expired) {
            // The end of what expired is a change of its own; the slot word goes to its successor.
            let expired = end_of(index, gone, RecordKind::Expire, site);
            plans.push(Plan { stored: Stored { slot: 0, new: 0, old }, grows: 0, ..expired });
            old = 0;
        }
        plans.push(Plan {
            wish: index as u32,
            stripe: site.stripe as u32,
            stored: Stored { slot, new: site.hash.word(entry.at()), old },
            number,
            kind: RecordKind::Set,
            value_kind: note.kind,
            grows: i8::from(current.is_none()),
            is_new: current.is_none_or(|current| !current.live),
            is_timed: note.is_timed(),
            realm: name.realm,
        });
        Ok(())
    }

    /// An empty slot word for a new key.
    pub(crate) fn slot_for(&self, site: &Site<'_>) -> Result<u64, WriteFailure> {
        let array = self.array_word(site.stripe)?;
        let count = self.region.load(self.geometry.stripe(site.stripe) + stripe::COUNT, Relaxed)?;
        if site.may_double && count >= LOAD_MAX << array.log2() {
            return Err(WriteFailure::Double { stripe: site.stripe, full: false });
        }
        match self.room(array, site.hash, site.taken)? {
            Room::Slot(at) => Ok(at),
            Room::Double => Err(WriteFailure::Double { stripe: site.stripe, full: true }),
        }
    }

    #[inline]
    pub(crate) fn allocate_or_sweep(
        &self,
        stripe: u64,
        name: Name<'_>,
        value: &[u8],
        note: &Note<'_>,
    ) -> Result<heap::Room, HeapError> {
        let size = size_of(name, value, note);
        let of = (note.is_timed(), note.reserve || name.realm == Realm::Locks);
        match self.allocate(stripe, size, of) {
            Err(HeapError::NoRoom(_)) => {
                self.sweep_retired(stripe)?;
                self.allocate(stripe, size, of)
            }
            end => end,
        }
    }

    /// Gives back what plans filled, when they will not be committed.
    pub(crate) fn take_back(&self, plans: &[Plan]) -> Result<(), BadRegion> {
        for plan in plans {
            if plan.stored.new != 0 {
                self.vacate(&self.place(offset_of(plan.stored.new))?)?;
            }
        }
        Ok(())
    }

    /// Commits plans whose stripes are locked, and retires what died; on an error before the commit
    /// gives back what they filled. `list` is the span for many changes, or 0.
    #[inline]
    pub(crate) fn commit_plans(
        &self,
        me: u32,
        patience: &Patience,
        wishes: &[Wish<'_>],
        plans: &[Plan],
        basis: &Basis,
        list: u64,
    ) -> Result<Done, WriteFailure> {
        let committed = self.commit_until_ready(me, patience, wishes, plans, basis, list);
        let (guard, last) = match committed {
            Ok(committed) => committed,
            Err(error) => {
                self.take_back(plans)?;
                return Err(error);
            }
        };
        self.finish()?;
        drop(guard);
        let mut sorts = Sorts::default();
        for plan in plans {
            self.settle(plan)?;
            sorts.note(plan);
        }
        let value = plans.last().map_or(0, |plan| i64::from_le_bytes(plan.number));
        Ok(Done { revision: last, value, count: plans.len() as u64, sorts })
    }

    /// Locks the commit and makes the plans final: the guard, and the last revision. What fails here
    /// has not happened.
    #[inline]
    fn commit_until_ready(
        &self,
        me: u32,
        patience: &Patience,
        wishes: &[Wish<'_>],
        plans: &[Plan],
        basis: &Basis,
        list: u64,
    ) -> Result<(CommitGuard<'_>, u64), WriteFailure> {
        let beside = self.beside(wishes, plans)?;
        let logged = self.logged(wishes, plans, &beside);
        let guard = self.lock_commit(me, patience)?;
        if !self.stands(basis)? {
            return Err(WriteFailure::Again);
        }
        let head = self.region.load_count(header::HEAD, Relaxed)?;
        let last = head + plans.len() as u64;
        let tail = self.write_plans(head, wishes, plans, &beside, logged)?;
        self.commit_record(plans.iter().map(|plan| plan.stored), list, last, tail, 0)?;
        Ok((guard, last))
    }

    /// After the commit: retires what died, and counts.
    #[inline]
    fn settle(&self, plan: &Plan) -> Result<(), BadRegion> {
        if plan.stored.old != 0 {
            self.retire(plan.stripe.into(), offset_of(plan.stored.old))?;
        }
        if plan.grows != 0 {
            self.recount(plan.stripe.into(), plan.realm, plan.grows.into())?;
        }
        Ok(())
    }

    /// One change by itself.
    pub(crate) fn write_one(&self, me: u32, wish: &Wish<'_>) -> Result<Done, WriteFailure> {
        let patience = self.patience();
        let mut site = self.site(wish.key, &|_| false);
        self.prefetch_bucket(self.array_word(site.stripe)?, site.hash);
        self.prefetch_spare(site.stripe);
        self.log_prefetch();
        let guard = self.lock_stripe(site.stripe, me, &patience)?;
        self.free_retired(site.stripe, FREE_BATCH)?;
        loop {
            match self.try_one(me, &patience, wish, &site) {
                Err(WriteFailure::Again) => {}
                Err(WriteFailure::Double { full, .. }) => {
                    site.may_double = self.double_if(site.stripe, full)?;
                }
                end => {
                    drop(guard);
                    return end;
                }
            }
        }
    }

    #[inline]
    fn try_one(
        &self,
        me: u32,
        patience: &Patience,
        wish: &Wish<'_>,
        site: &Site<'_>,
    ) -> Result<Done, WriteFailure> {
        let (basis, mut plans) = (self.basis()?, Pair::new());
        self.plan(0, wish, site, &basis, &mut plans)?;
        match plans.as_slice() {
            [] => Ok(Done::default()),
            plans => self.commit_plans(me, patience, std::slice::from_ref(wish), plans, &basis, 0),
        }
    }

    /// Doubles a stripe's array: whether that may be asked for again. Without room an array that is
    /// only crowded stays as it is, as long as its chains have room.
    pub(crate) fn double_if(&self, stripe: u64, full: bool) -> Result<bool, WriteFailure> {
        match self.double(stripe) {
            Ok(()) => Ok(true),
            Err(HeapError::NoRoom(_)) if !full => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Sorts {
    #[inline]
    fn note(&mut self, plan: &Plan) {
        if plan.realm != Realm::Keys {
            return;
        }
        match plan.kind {
            RecordKind::Set if plan.is_new => self.created += 1,
            RecordKind::Set => self.updated += 1,
            RecordKind::Expire => self.expired += 1,
            _ => self.deleted += 1,
        }
    }
}

/// The end of an entry, by deletion or expiry.
fn end_of(index: usize, gone: &Current<'_>, kind: RecordKind, site: &Site<'_>) -> Plan {
    Plan {
        wish: index as u32,
        stripe: site.stripe as u32,
        stored: Stored { slot: gone.slot, new: 0, old: gone.word },
        number: [0; 8],
        kind,
        value_kind: 0,
        grows: -1,
        is_new: false,
        is_timed: false,
        realm: gone.header.realm(),
    }
}

fn added(index: usize, live: Option<&Current<'_>>, by: i64) -> Result<i64, WriteFailure> {
    let Some(live) = live else { return Ok(by) };
    if live.header.kind != KIND_COUNTER || live.header.value_len != 8 {
        return Err(WriteFailure::NotCounter { index, kind: live.header.kind });
    }
    let value = live.entry.number(&live.header)?;
    value.checked_add(by).ok_or(WriteFailure::Overflow { index, value, by })
}

fn inherit<'a>(live: Option<&Current<'_>>, kind: u8, time: u64, who: &'a [u8]) -> Note<'a> {
    let (deadline, owner) = live.map_or((0, 0), |live| (live.deadline, live.owner));
    Note { kind, time, deadline, owner, who, reserve: false }
}
