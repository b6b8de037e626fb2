//! Batches, clears and records without a key: the commits of more or less than one change.

use super::Core;
use super::plan::Plan;
use super::wish::{Action, Condition, Done, Wish, WriteFailure};
use super::write::{Basis, Site};
use crate::commit::Stored;
use crate::heap::HeapError;
use crate::heap::class::LIST;
use crate::lock::{GLANCE, Patience};
use crate::log::{NewRecord, RECORD_VALUE_MAX, RecordKind};
use crate::region::BadRegion;
use crate::region::layout::{CHANGE_SIZE, INLINE_CHANGES, header, span, stripe};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::word::{Hash, Name, Realm, offset_of};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

/// The record of a change of all keys.
pub(crate) fn record_of_all<'a>(
    kind: RecordKind,
    time: u64,
    who: &'a [u8],
    value: &'a [u8],
) -> NewRecord<'a> {
    let (key, value_max) = (Name::from(&[]), RECORD_VALUE_MAX);
    let (value_kind, is_timed, old) = (0, false, None);
    NewRecord { kind, value_kind, time, who, key, value, value_max, is_timed, old }
}

impl Core {
    /// All wishes or none. The same key twice: the last one counts; conditions all count.
    pub(crate) fn write_batch(&self, me: u32, wishes: &[Wish<'_>]) -> Result<Done, WriteFailure> {
        self.write_batch_within(me, wishes, self.patience())
    }

    /// The same, waiting no longer than this for locks.
    pub(crate) fn write_batch_within(
        &self,
        me: u32,
        wishes: &[Wish<'_>],
        patience: Patience,
    ) -> Result<Done, WriteFailure> {
        let stripes: BTreeSet<u64> = wishes
            .iter()
            .map(|wish| Hash::of(wish.key, self.geometry.seed).stripe(self.geometry.stripes))
            .collect();
        let Some(lowest) = stripes.first().copied() else { return Ok(Done::default()) };
        let mut guards = Vec::with_capacity(stripes.len());
        for stripe in &stripes {
            guards.push(self.lock_stripe(*stripe, me, &patience)?);
            self.free_retired(*stripe, 1)?;
        }
        let mut plans = Vec::with_capacity(wishes.len());
        let (mut may_double, mut is_widened) = (true, false);
        loop {
            let basis = self.basis()?;
            if let Err(error) = self.plan_all(wishes, may_double, &basis, &mut plans) {
                self.take_back(&plans)?;
                plans.clear();
                let WriteFailure::Double { stripe, full } = error else { return Err(error) };
                may_double &= self.double_if(stripe, full)?;
                // One by one, each would have the whole batch planned anew.
                if !std::mem::replace(&mut is_widened, true) {
                    may_double &= self.widen_for_batch(wishes)?;
                }
                continue;
            }
            match self.commit_all(me, &patience, wishes, &plans, &basis, lowest) {
                Err(WriteFailure::Again) => plans.clear(),
                end => return end,
            }
        }
    }

    /// Makes room in the arrays for the keys that a batch may add: whether there was some for all of them. Their stripes' locks
    /// are held.
    fn widen_for_batch(&self, wishes: &[Wish<'_>]) -> Result<bool, WriteFailure> {
        let mut new: BTreeMap<u64, HashSet<Name<'_>>> = BTreeMap::new();
        for wish in wishes.iter().filter(|wish| wish.action.may_create()) {
            let site = self.site(wish.key, &|_| false);
            if self.current(wish.key, site.hash, site.stripe)?.is_none() {
                new.entry(site.stripe).or_default().insert(wish.key);
            }
        }
        for (stripe, keys) in new {
            match self.widen(stripe, keys.len() as u64) {
                Ok(()) => {}
                Err(HeapError::NoRoom(_)) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn plan_all(
        &self,
        wishes: &[Wish<'_>],
        may_double: bool,
        basis: &Basis,
        plans: &mut Vec<Plan>,
    ) -> Result<(), WriteFailure> {
        let mut last: HashMap<Name<'_>, usize> = HashMap::with_capacity(wishes.len());
        for (index, wish) in wishes.iter().enumerate() {
            if !matches!(wish.action, Action::Require) {
                last.insert(wish.key, index);
            }
        }
        let taken: RefCell<HashSet<u64>> = RefCell::default();
        let is_taken = |slot| taken.borrow().contains(&slot);
        for (index, wish) in wishes.iter().enumerate() {
            let mut wish = *wish;
            if last.get(&wish.key).is_some_and(|last| *last != index) {
                if wish.condition == Condition::Any {
                    continue;
                }
                wish.action = Action::Require;
            }
            let site = Site { may_double, ..self.site(wish.key, &is_taken) };
            self.plan(index, &wish, &site, basis, plans)?;
            taken.borrow_mut().extend(plans.last().map(|plan| plan.stored.slot));
        }
        Ok(())
    }

    fn commit_all(
        &self,
        me: u32,
        patience: &Patience,
        wishes: &[Wish<'_>],
        plans: &[Plan],
        basis: &Basis,
        lowest: u64,
    ) -> Result<Done, WriteFailure> {
        if plans.is_empty() {
            return Ok(Done::default());
        }
        if plans.len() as u64 <= INLINE_CHANGES {
            return self.commit_plans(me, patience, wishes, plans, basis, 0);
        }
        let bytes = span::BITMAP + plans.len() as u64 * CHANGE_SIZE;
        let blocks = bytes.div_ceil(self.geometry.block_size());
        let first = match self.make_span(lowest, LIST, (blocks, true), span::BITMAP) {
            Ok(first) => first,
            Err(error) => {
                self.take_back(plans)?;
                return Err(error.into());
            }
        };
        let list = self.geometry.block(first) + span::BITMAP;
        let end = self.commit_plans(me, patience, wishes, plans, basis, list);
        self.free_span(first)?;
        end
    }

    /// Commits one record that changes no entry.
    pub(crate) fn write_record(
        &self,
        me: u32,
        record: NewRecord<'_>,
        clears: bool,
    ) -> Result<u64, WriteFailure> {
        let guard = self.lock_commit(me, &self.patience())?;
        let head = self.region.load_count(header::HEAD, Relaxed)?;
        let tail = self.write_records(head, std::iter::once(record))?;
        let cleared = if clears { head + 1 } else { 0 };
        self.commit_record(std::iter::once(Stored::default()), 0, head + 1, tail, cleared)?;
        self.finish()?;
        drop(guard);
        Ok(head + 1)
    }

    /// Makes every entry absent by one store, then sweeps the stripes as far as it goes: the rest is for the keeper, or for who
    /// needs the room, and damage is told by who meets it next.
    pub(crate) fn clear(&self, me: u32, time: u64, who: &[u8]) -> Result<u64, WriteFailure> {
        let record = record_of_all(RecordKind::Clear, time, who, &[]);
        let revision = self.write_record(me, record, true)?;
        let sweep = |index, most| self.sweep_cleared(me, index, most);
        let _swept = self.in_each_stripe((0, GLANCE), &|| false, sweep);
        Ok(revision)
    }

    /// Whether some stripe has something that the last clear made absent.
    pub(crate) fn is_sweep_due(&self) -> Result<bool, BadRegion> {
        let cleared = self.region.load_count(header::CLEARED_AT, Acquire)?;
        for index in 0..self.geometry.stripes {
            let swept = self.geometry.stripe(index) + stripe::SWEPT_TO;
            if self.region.load(swept, Relaxed)? < cleared {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Retires what the last clear made absent in one stripe; gives how many entries.
    pub(crate) fn sweep_cleared(
        &self,
        me: u32,
        index: u64,
        most: Duration,
    ) -> Result<u64, WriteFailure> {
        let base = self.geometry.stripe(index);
        let cleared = self.region.load_count(header::CLEARED_AT, Acquire)?;
        if self.region.load(base + stripe::SWEPT_TO, Relaxed)? >= cleared {
            return Ok(0);
        }
        let guard = self.lock_stripe(index, me, &Patience::new(most))?;
        let mut gone = Vec::new();
        self.each_slot(self.array_word(index)?, |slot, word| {
            let entry = self.entry(offset_of(word))?;
            if entry.header()?.is_cleared(entry.born(Acquire)?, cleared) {
                gone.push((slot, offset_of(word)));
            }
            Ok(())
        })?;
        let count = gone.len() as u64;
        for (slot, at) in gone {
            // The slot first: what has died is named by none. A death between leaves an entry
            // without a name, which the repair lets die.
            // ORDERING: [slot] Release; pairs with the Acquire loads of readers.
            self.region.store(slot, 0, Release)?;
            self.entry(at)?.set_died(cleared)?;
            self.retire(index, at)?;
            self.recount(index, Realm::Keys, -1)?;
        }
        self.region.store(base + stripe::SWEPT_TO, cleared, Relaxed)?;
        self.sweep_retired(index)?;
        drop(guard);
        Ok(count)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::entry::Note;
    use super::super::testing::{bus, small};
    use super::*;
    use crate::hook;
    use crate::region::geometry::{Geometry, Shape};

    /// Promise: what a batch costs grows with it, and not with the arrays that it makes longer: others wait for its locks.
    /// Plant: each array is doubled by itself, and all is planned anew after each.
    #[test]
    fn a_batch_is_planned_a_few_times_at_the_most() {
        let shape = Shape { stripes: 16, ..(*small(32 << 20)).clone() };
        let (core, _yard) = bus(Geometry::new(shape));
        let keys: Vec<_> = (0..40_000).map(|number| format!("k{number}").into_bytes()).collect();
        let action = Action::Set { value: b"v", note: Note::default() };
        let wish = |key| Wish { key, action, condition: Condition::Any };
        let wishes: Vec<_> = keys.iter().map(|key| wish(Name::from(key.as_slice()))).collect();
        // One that hardly fits into what there is, and one that adds a few to many.
        for batch in [&wishes[..36_000], &wishes[..]] {
            let (steps, end) = hook::count(|| core.write_batch(0, batch).unwrap());
            assert_eq!(end.count, batch.len() as u64);
            assert!(steps / end.count < 40, "{} steps a change", steps / end.count);
        }
        assert!(core.check().is_clean());
    }
}
