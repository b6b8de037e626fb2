//! Batches, clears and records without a key: the commits of more or less than one change.

use super::Core;
use super::records::RecordList;
use super::write::{Action, Condition, Done, Plan, Wish, WriteFailure};
use crate::commit::Stored;
use crate::heap::class::LIST;
use crate::log::{NewRecord, RecordKind};
use crate::region::BadRegion;
use crate::region::layout::{CHANGE_SIZE, INLINE_CHANGES, entry, header, span, stripe};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::word::Hash;
use crate::word::offset_of;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

/// One record by itself.
#[derive(Debug, Clone, Copy)]
struct One<'a>(NewRecord<'a>);

impl RecordList for One<'_> {
    fn each(
        self,
        visit: &mut dyn FnMut(&NewRecord<'_>) -> Result<(), BadRegion>,
    ) -> Result<(), BadRegion> {
        visit(&self.0)
    }
}

impl Core {
    /// All wishes or none. The same key twice: the last one counts; conditions all count.
    pub(crate) fn write_batch(&self, me: u32, wishes: &[Wish<'_>]) -> Result<Done, WriteFailure> {
        let deadline = self.deadline();
        let mut stripes: BTreeMap<u64, u64> = BTreeMap::new();
        for wish in wishes {
            let stripe = Hash::of(wish.key, self.geometry.seed).stripe(self.geometry.stripes);
            *stripes.entry(stripe).or_default() += 1;
        }
        let Some(lowest) = stripes.keys().next().copied() else { return Ok(Done::default()) };
        let mut guards = Vec::with_capacity(stripes.len());
        for (stripe, count) in &stripes {
            guards.push(self.lock_stripe(*stripe, me, deadline)?);
            self.free_retired(*stripe, 1)?;
            self.double_when_full(*stripe, *count)?;
        }
        let mut plans = Vec::with_capacity(wishes.len());
        loop {
            let cleared = self.region.load(header::CLEARED_AT, Acquire)?;
            let end = self
                .plan_all(wishes, &mut plans)
                .and_then(|()| self.commit_all(me, deadline, wishes, &plans, cleared, lowest));
            match end {
                Ok(done) => return Ok(done),
                Err(WriteFailure::Again) => self.take_back(&mut plans)?,
                Err(WriteFailure::Double { stripe }) => {
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

    fn plan_all(&self, wishes: &[Wish<'_>], plans: &mut Vec<Plan>) -> Result<(), WriteFailure> {
        let mut last: HashMap<&[u8], usize> = HashMap::with_capacity(wishes.len());
        for (index, wish) in wishes.iter().enumerate() {
            if !matches!(wish.action, Action::Require) {
                last.insert(wish.key, index);
            }
        }
        let mut taken: HashSet<u64> = HashSet::new();
        for (index, wish) in wishes.iter().enumerate() {
            let mut wish = *wish;
            if last.get(wish.key).is_some_and(|last| *last != index) {
                if wish.condition == Condition::Any {
                    continue;
                }
                wish.action = Action::Require;
            }
            self.plan(index, &wish, &|slot| taken.contains(&slot), plans)?;
            taken.extend(plans.last().map(|plan| plan.stored.slot));
        }
        Ok(())
    }

    fn commit_all(
        &self,
        me: u32,
        deadline: Instant,
        wishes: &[Wish<'_>],
        plans: &[Plan],
        cleared: u64,
        lowest: u64,
    ) -> Result<Done, WriteFailure> {
        if plans.is_empty() {
            return Ok(Done::default());
        }
        if plans.len() as u64 <= INLINE_CHANGES {
            return self.commit_plans(me, deadline, wishes, plans, cleared, 0);
        }
        let bytes = span::BITMAPS + plans.len() as u64 * CHANGE_SIZE;
        let blocks = bytes.div_ceil(self.geometry.block_size());
        let first = self.make_span(lowest, LIST, blocks, span::BITMAPS)?;
        let list = self.geometry.block(first) + span::BITMAPS;
        let end = self.commit_plans(me, deadline, wishes, plans, cleared, list);
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
        let guard = self.lock_commit(me, self.deadline())?;
        let head = self.region.load(header::HEAD, Relaxed)?;
        let tail = self.write_records(head, One(record))?;
        let cleared = if clears { head + 1 } else { 0 };
        self.commit_record(&[Stored::default()], 0, head + 1, tail, cleared)?;
        self.finish()?;
        drop(guard);
        Ok(head + 1)
    }

    /// Makes every entry absent by one store, then sweeps the stripes.
    pub(crate) fn clear(&self, me: u32, time: u64, who: &[u8]) -> Result<u64, WriteFailure> {
        let record = NewRecord {
            kind: RecordKind::Clear,
            value_kind: 0,
            time,
            who,
            key: &[],
            value: &[],
            value_max: 0,
        };
        let revision = self.write_record(me, record, true)?;
        for index in 0..self.geometry.stripes {
            self.sweep_cleared(me, index)?;
        }
        Ok(revision)
    }

    /// Retires what the last clear made absent in one stripe.
    pub(crate) fn sweep_cleared(&self, me: u32, index: u64) -> Result<(), WriteFailure> {
        let base = self.geometry.stripe(index);
        let cleared = self.region.load(header::CLEARED_AT, Acquire)?;
        if self.region.load(base + stripe::SWEPT_TO, Relaxed)? >= cleared {
            return Ok(());
        }
        let guard = self.lock_stripe(index, me, self.deadline())?;
        let mut gone = Vec::new();
        self.each_slot(self.array_word(index)?, |slot, word| {
            if self.region.load(offset_of(word) + entry::BORN, Acquire)? < cleared {
                gone.push((slot, offset_of(word)));
            }
            Ok(())
        })?;
        for (slot, at) in gone {
            // ORDERING: [slot] Release; pairs with the Acquire loads of readers.
            self.region.store(slot, 0, Release)?;
            self.retire(index, at)?;
            let count = self.region.load(base + stripe::COUNT, Relaxed)?;
            self.region.store(base + stripe::COUNT, count.saturating_sub(1), Relaxed)?;
        }
        self.region.store(base + stripe::SWEPT_TO, cleared, Relaxed)?;
        self.sweep_retired(index)?;
        drop(guard);
        Ok(())
    }
}
