//! Who is attached, and what happens to what the dead leave.

use super::counters::Counter;
use super::files::KEEPER_BYTE;
use super::seat::owner_word;
use super::{Bus, Inner};
use crate::doorbell::Sort;
use crate::error::ReadError;
use crate::lock::{GLANCE, LockError, Patience, Probe};
use crate::region::BadRegion;
use crate::region::layout::{header, member};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::table::wish::WriteFailure;
use std::time::{Duration, Instant, SystemTime};

/// How long a handle that is not the keeper does the keeper's work at a time.
const TEND_MAX: Duration = Duration::from_millis(5);
/// How long a keeper that goes on gives no sign at the most, many of its turns: then others do its work, and name it.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(1);

/// One attached member.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberInfo {
    /// Its slot.
    pub slot: u32,
    /// Which user of the slot it is.
    pub generation: u64,
    /// Its process, in its own PID namespace.
    pub pid: u32,
    /// What it is called.
    pub label: Option<String>,
    /// When it attached.
    pub joined: SystemTime,
    /// Whether it lives. A dead one seems to as long as it is being buried.
    pub alive: bool,
    /// Whether it is the keeper.
    pub keeper: bool,
}

impl Inner {
    /// BURIAL of a dead slot by the member in slot `me`; `dead == me` for the newcomer, who holds
    /// the byte itself. Pins, locks, watches, the keys that vanish with it; then every watch is
    /// rung, since the dead may have committed and not rung, and once also when a lock holds that up.
    /// `ended` says how it ended, for those who watch members. No lock is waited for longer than `most`.
    /// Gives whether there was a burial.
    pub(crate) fn bury(
        &self,
        dead: u32,
        me: u32,
        ended: u64,
        most: Duration,
    ) -> Result<bool, LockError> {
        let core = &self.core;
        let Some(seat) = self.newest_seat() else { return Ok(false) };
        let mut probe = seat.undertaker.begin();
        if dead != me && !probe.acquire(dead) {
            return Ok(false);
        }
        core.clear_pins(dead)?;
        let at = self.member_at(u64::from(dead));
        let generation = core.region.load(at + member::GENERATION, Acquire)?;
        let was_there = core.region.load(at + member::STATE, Acquire)? != 0;
        let (mut mended, mut gone) = (0, 0);
        let end = core.mend_slot(dead, me, &Patience::new(most), &mut probe).and_then(|count| {
            mended = count;
            self.take_away(owner_word(dead, generation), dead, (me, most), &mut gone)
        });
        // What was committed has happened, whatever holds up the rest: that rings at once, and does so again
        // only for what is new, since those who are woken may come to bury too.
        let is_told = end.is_err() && !seat.begins_to_stall(dead, generation);
        // While the slot still counts as used: whoever dies here leaves a burial to do.
        if was_there && !is_told || mended + gone > 0 {
            self.ring_all()?;
        }
        end?;
        if was_there {
            core.region.store(at + member::ENDED, generation << 8 | ended, Release)?;
        }
        core.region.store(at + member::STATE, 0, Release)?;
        if was_there {
            self.ring_watches(Sort::Members, Some(b""));
        }
        if was_there && dead != me {
            self.count(Counter::Burials);
        }
        Ok(was_there)
    }

    /// Of a burial: what the dead had begun, what it was rung by, and what it owned, `gone` of these so far.
    fn take_away(
        &self,
        owner: u64,
        dead: u32,
        (me, most): (u32, Duration),
        gone: &mut u64,
    ) -> Result<(), LockError> {
        let core = &self.core;
        core.abort_snapshot_of(me, owner, most)?;
        core.watches_of(owner, &mut |name| {
            // A socket that stays is bound over by the slot's next watch.
            let _gone = self.bells.as_ref().map(|bells| bells.unlink(&name.to_string()));
        })?;
        let ephemeral = self.member_at(u64::from(dead)) + member::EPHEMERAL;
        if core.region.load(ephemeral, Acquire)? != 0 {
            core.delete_owned(me, owner, most, gone).map_err(|failure| match failure {
                WriteFailure::Lock(error) => error,
                WriteFailure::Bad(bad) => bad.into(),
                // Deleting needs no room and has no condition.
                _ => LockError::Stalled { owner: dead, what: "what its keys are kept by" },
            })?;
            core.region.store(ephemeral, 0, Release)?;
        }
        Ok(())
    }

    /// Where nobody is keeper, whoever attaches or detaches does a part of its work: burials and what
    /// expired, for a few milliseconds. Nothing depends on it for being right.
    pub(crate) fn tend_unkept(&self) -> Result<(), WriteFailure> {
        if self.is_locked(KEEPER_BYTE) { Ok(()) } else { self.tend() }
    }

    /// The same for who waits for what the dead have: also where a keeper lives that gives no sign, since
    /// it is stopped.
    pub(crate) fn tend_silent(&self) -> Result<(), WriteFailure> {
        let is_kept = self.is_locked(KEEPER_BYTE) && self.keeper_silence()? <= SILENCE_MAX;
        if is_kept { Ok(()) } else { self.tend() }
    }

    /// For how long the keeper has given no sign.
    pub(crate) fn keeper_silence(&self) -> Result<Duration, BadRegion> {
        let seen = self.core.region.load(header::HEARTBEAT, Acquire)?;
        Ok(Duration::from_nanos(self.core.clock.boot().saturating_sub(seen)))
    }

    fn tend(&self) -> Result<(), WriteFailure> {
        let Some(seat) = self.seat() else { return Ok(()) };
        let me = seat.slot;
        if self.is_gone() {
            return Ok(());
        }
        // One that has to wait is no reason to leave what expired.
        let buried = self.bury_all(me);
        let (core, begun) = (&self.core, Instant::now());
        // One stripe at least, however slow all else was, and each time another one first: somebody may stand still in it.
        let (mut gone, is_over) = (0, || begun.elapsed() > TEND_MAX);
        let from = seat.tended.fetch_add(1, Relaxed);
        let round = core.in_each_stripe((from, GLANCE), &is_over, |index, most| {
            core.sweep_cleared(me, index, most)?;
            core.expire_stripe(me, index, most, &is_over, &mut gone)
        });
        self.ring_expired(gone);
        round?;
        Ok(buried.map(drop)?)
    }

    /// Wakes whom it concerns that so many keys or locks expired, whatever held up the rest.
    pub(crate) fn ring_expired(&self, count: u64) {
        if count > 0 {
            self.ring_watches(Sort::Keys, None);
            self.ring_watches(Sort::Locks, None);
        }
    }

    /// Buries everybody who died. Gives how many. One whose burial would have to wait is passed over, and the first of these
    /// is told of in the end: whoever buries comes again.
    pub(crate) fn bury_all(&self, me: u32) -> Result<u64, LockError> {
        let core = &self.core;
        let high = core.region.load(header::MEMBERS_HIGH, Acquire)?.min(core.geometry.members_max);
        let (mut buried, mut stalled) = (0, None);
        for slot in (0..high as u32).filter(|slot| *slot != me) {
            let at = self.member_at(u64::from(slot));
            if core.region.load(at + member::STATE, Acquire)? == 0 {
                continue;
            }
            match self.bury(slot, me, member::ENDED_DIED, GLANCE) {
                Err(stall @ LockError::Stalled { .. }) => drop(stalled.get_or_insert(stall)),
                end => buried += u64::from(end?),
            }
        }
        stalled.map_or(Ok(buried), Err)
    }
}

impl Inner {
    pub(crate) fn members(&self) -> Result<Vec<MemberInfo>, ReadError> {
        let core = &self.core;
        let high = core.region.load(header::MEMBERS_HIGH, Acquire)?.min(core.geometry.members_max);
        let mut members = Vec::new();
        let keeper = self.keeper_slot()?;
        for slot in 0..high as u32 {
            let at = self.member_at(u64::from(slot));
            if core.region.load(at + member::STATE, Acquire)? == 0 {
                continue;
            }
            let (label, pid) = self.describe(slot);
            members.push(MemberInfo {
                slot,
                generation: core.region.load(at + member::GENERATION, Acquire)?,
                pid,
                label,
                joined: crate::types::time_of(core.region.load(at + member::JOINED, Acquire)?),
                keeper: keeper == Some(slot),
                alive: self.is_locked(u64::from(slot)),
            });
        }
        Ok(members)
    }
}

impl Bus {
    /// Who is attached: one line for each slot in use, the dead that are not buried yet too.
    ///
    /// # Errors
    /// When the region is damaged.
    pub fn members(&self) -> Result<Vec<MemberInfo>, ReadError> {
        self.inner.members()
    }
}

impl super::reader::BusReader {
    /// Who is attached: one line for each slot in use, the dead that are not buried yet too.
    ///
    /// # Errors
    /// When the region is damaged.
    pub fn members(&self) -> Result<Vec<MemberInfo>, ReadError> {
        self.inner.members()
    }
}
