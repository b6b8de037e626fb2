//! Members that come and go, told to who asks.
//!
//! The member table has, for each slot, which user of it is the last (its generation, which rises by one for
//! each), whether that one is there, and which one ended last, and how. Who watches compares it with what it
//! saw before. A slot that was used several times in between says how many came and went; who they were it
//! does not say, so they are counted.
//!
//! A death leaves the slot to its burial, which rings whoever watches members. Where nobody keeps the bus
//! who watches buries the dead by itself, every [`LOOK`].

use super::files::KEEPER_BYTE;
use super::members::MemberInfo;
use super::sleeper::{Alarm, Sleeper};
use super::{Bus, Inner, reader::BusReader};
use crate::doorbell::Sort;
use crate::error::{ReadError, WatchError};
use crate::lock::LockError;
use crate::region::layout::{header, member};
use crate::sync::Ordering::Acquire;
use crate::types::time_of;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often who watches looks by itself, and for the dead where nobody keeps the bus.
const LOOK: Duration = Duration::from_millis(250);
/// How often a slot is looked at that changes all the while.
const LOOKS_MAX: u32 = 1000;

/// A member that came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberEvent {
    /// It is there. Those who were there at the beginning come first.
    Joined(MemberInfo),
    /// It is gone, and what belonged to it.
    Left {
        /// Who it was, as it was seen last.
        member: MemberInfo,
        /// Whether it died, or detached. `None`: its slot was used again before anybody looked.
        died: Option<bool>,
    },
    /// Members came and went before anybody looked.
    Missed {
        /// How many such events there were; a member that died while it attached may be among them.
        count: u64,
    },
}

/// One slot as it was seen.
#[derive(Debug, Clone, Default)]
struct Seen {
    generation: u64,
    /// Who is there.
    member: Option<MemberInfo>,
}

/// One slot as it is.
struct Now {
    /// Who is there; of an empty one, who ended last. Who only begins to attach does not count yet.
    generation: u64,
    /// How the last one that ended did.
    ended: u64,
    member: Option<MemberInfo>,
}

/// What is compared.
#[derive(Debug, Default)]
struct Table {
    slots: Vec<Seen>,
    /// Not told yet.
    events: VecDeque<MemberEvent>,
    /// Whether the first look was taken: who came before it is not counted as missed.
    begun: bool,
}

/// The members of a bus, as they come and go. Every change of membership is told, or counted as missed.
///
/// A member that is killed is told of when it is buried: by the keeper within 250 ms, by whoever waits for
/// what it held, or, where the bus has no keeper, by who asks here. One that is stopped is there. Who is
/// slow to ask misses nothing but members that came and went in between, and learns how many. What
/// happened between two looks comes in the order of slots, not in that of time.
#[derive(Debug)]
pub struct MemberEvents {
    sleeper: Sleeper,
    table: Table,
    buried: Instant,
}

impl MemberEvents {
    fn new(inner: &Arc<Inner>) -> Result<Self, WatchError> {
        // Before the first look: what changes after it rings.
        let sleeper = Sleeper::new(inner, Sort::Members, b"")?;
        Ok(Self { sleeper, table: Table::default(), buried: Instant::now() })
    }

    /// The next event; waits for it.
    ///
    /// # Errors
    /// [`WatchError`]; [`WatchError::Cancelled`] when its canceller was used.
    pub fn recv(&mut self) -> Result<MemberEvent, WatchError> {
        loop {
            if let Some(event) = self.recv_timeout(Duration::MAX)? {
                return Ok(event);
            }
        }
    }

    /// The next event, if there is one. When it is `None`, the descriptor becomes readable at the next one.
    ///
    /// # Errors
    /// [`WatchError`].
    pub fn try_recv(&mut self) -> Result<Option<MemberEvent>, WatchError> {
        self.bury_unkept()?;
        let Self { sleeper, table, .. } = self;
        sleeper.poll(|inner| Ok(table.next(inner)?))
    }

    /// The next event; waits so long. `None`: there was none.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<MemberEvent>, WatchError> {
        let begun = Instant::now();
        loop {
            self.bury_unkept()?;
            let left = timeout.saturating_sub(begun.elapsed());
            let Self { sleeper, table, .. } = self;
            let found = sleeper.wait(left.min(LOOK), LOOK, |inner| Ok(table.next(inner)?))?;
            if found.is_some() || left <= LOOK {
                return Ok(found);
            }
        }
    }

    /// What ends a wait from another thread.
    #[must_use]
    pub fn canceller(&self) -> MemberCanceller {
        MemberCanceller { alarm: self.sleeper.alarm() }
    }

    /// Where nobody keeps the bus the dead are found here.
    fn bury_unkept(&mut self) -> Result<(), WatchError> {
        if self.buried.elapsed() < LOOK {
            return Ok(());
        }
        self.buried = Instant::now();
        let inner = self.sleeper.inner();
        let Some(me) = inner.seat().map(|seat| seat.slot) else { return Ok(()) };
        if inner.is_gone() || inner.is_locked(KEEPER_BYTE) {
            return Ok(());
        }
        match inner.bury_all(me) {
            // What a dead member holds is waited for by those who need it.
            Ok(_) | Err(LockError::Stalled { .. }) => Ok(()),
            Err(LockError::Bad(bad)) => Err(ReadError::from(bad).into()),
        }
    }
}

impl AsFd for MemberEvents {
    /// Becomes readable when there may be an event, after [`try_recv`](Self::try_recv) gave none. A reader's
    /// does so every few milliseconds.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sleeper.as_fd()
    }
}

impl Iterator for MemberEvents {
    type Item = Result<MemberEvent, WatchError>;

    /// Waits for the next event; the iterator has no end but that of the bus.
    fn next(&mut self) -> Option<Self::Item> {
        match self.recv() {
            Err(WatchError::Read(ReadError::Gone { .. }) | WatchError::Cancelled) => None,
            end => Some(end),
        }
    }
}

/// Ends a wait for members from another thread; cheap to clone.
#[derive(Debug, Clone)]
pub struct MemberCanceller {
    alarm: Alarm,
}

impl MemberCanceller {
    /// The present wait, or else the next, ends with [`WatchError::Cancelled`].
    pub fn cancel(&self) {
        self.alarm.cancel();
    }
}

impl Table {
    fn next(&mut self, inner: &Inner) -> Result<Option<MemberEvent>, ReadError> {
        if self.events.is_empty() {
            self.look(inner)?;
        }
        Ok(self.events.pop_front())
    }

    fn look(&mut self, inner: &Inner) -> Result<(), ReadError> {
        let core = &inner.core;
        let high = core.region.load(header::MEMBERS_HIGH, Acquire)?.min(core.geometry.members_max);
        let (high, known) = (high as usize, self.slots.len());
        if high > known {
            self.slots.resize(high, Seen::default());
        }
        for slot in 0..self.slots.len() as u32 {
            let now = inner.look_at_slot(slot)?;
            let Some(seen) = self.slots.get_mut(slot as usize) else { continue };
            let is_first = !self.begun;
            compare(seen, now, is_first, &mut self.events);
        }
        self.begun = true;
        Ok(())
    }
}

/// What happened to a slot between two looks.
fn compare(seen: &mut Seen, now: Now, is_first: bool, events: &mut VecDeque<MemberEvent>) {
    let users = now.generation.saturating_sub(seen.generation);
    let (was_there, is_there) = (seen.member.is_some(), now.member.is_some());
    if users == 0 && was_there == is_there {
        return;
    }
    if let Some(member) = seen.member.take() {
        // How the last one ended is this one's end, unless there were others behind it.
        let is_last = users == u64::from(is_there);
        let died = is_last.then_some(now.ended == member::ENDED_DIED);
        events.push_back(MemberEvent::Left { member, died });
    }
    // Each came and went but the last, who may be there.
    let unseen = users.saturating_sub(u64::from(is_there));
    if unseen > 0 && !is_first {
        events.push_back(MemberEvent::Missed { count: 2 * unseen });
    }
    if let Some(member) = &now.member {
        events.push_back(MemberEvent::Joined(member.clone()));
    }
    *seen = Seen { generation: now.generation, member: now.member };
}

impl Inner {
    /// A slot as it is at one moment.
    fn look_at_slot(&self, slot: u32) -> Result<Now, ReadError> {
        let at = self.member_at(u64::from(slot));
        let word = |offset| self.core.region.load(at + offset, Acquire);
        let mut looks = 0;
        loop {
            looks += 1;
            let (generation, state) = (word(member::GENERATION)?, word(member::STATE)?);
            let ended = word(member::ENDED)?;
            let member = match state {
                0 => None,
                _ => {
                    let (label, pid) = self.describe(slot);
                    let joined = time_of(word(member::JOINED)?);
                    let keeper = self.core.region.load(header::KEEPER, Acquire)?;
                    let keeper = keeper == u64::from(slot) + 1;
                    Some(MemberInfo { slot, generation, pid, label, joined, alive: true, keeper })
                }
            };
            // Each of these is written once for each user, unless somebody gone mad writes there.
            let is_same = word(member::GENERATION)? == generation && word(member::STATE)? == state;
            if is_same || looks == LOOKS_MAX {
                let generation = if state == 0 { ended >> 8 } else { generation };
                return Ok(Now { generation, ended: ended & 0xff, member });
            }
            std::hint::spin_loop();
        }
    }
}

impl Bus {
    /// Members that come and go, this one among them; those who are there come first.
    ///
    /// ```no_run
    /// use membus::{Bus, MemberEvent};
    ///
    /// let bus = Bus::open("orders")?;
    /// for event in bus.member_events()? {
    ///     match event? {
    ///         MemberEvent::Left { member, died: Some(true) } => println!("{member:?} was killed"),
    ///         other => println!("{other:?}"),
    ///     }
    /// }
    /// # Ok::<(), membus::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`WatchError`].
    pub fn member_events(&self) -> Result<MemberEvents, WatchError> {
        MemberEvents::new(&self.inner)
    }
}

impl BusReader {
    /// As [`Bus::member_events`]; it looks every few milliseconds, and buries nobody.
    ///
    /// # Errors
    /// [`WatchError`].
    pub fn member_events(&self) -> Result<MemberEvents, WatchError> {
        MemberEvents::new(&self.inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(generation: u64) -> MemberInfo {
        MemberInfo {
            slot: 3,
            generation,
            pid: 7,
            label: None,
            joined: time_of(1),
            alive: true,
            keeper: false,
        }
    }

    /// Says what a slot's way from one state to another is told as: `+g`, `-g` with `!` for a death and `?`
    /// for an end that nobody knows, `~n` for so many missed.
    fn told(seen: (u64, bool), now: (u64, bool), ended: u64) -> String {
        let there = |(generation, is_there): (u64, bool)| is_there.then(|| info(generation));
        let mut before = Seen { generation: seen.0, member: there(seen) };
        let now = Now { generation: now.0, ended, member: there(now) };
        let mut events = VecDeque::new();
        compare(&mut before, now, false, &mut events);
        let word = |event: &MemberEvent| match event {
            MemberEvent::Joined(member) => format!("+{}", member.generation),
            MemberEvent::Left { member, died } => {
                let how = died.map_or("?", |died| if died { "!" } else { "" });
                format!("-{}{how}", member.generation)
            }
            MemberEvent::Missed { count } => format!("~{count}"),
        };
        events.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    /// Promise: every change of membership is told or counted.
    /// Plant: generations that are not compared: whoever left and was replaced between two looks is not told.
    #[test]
    fn every_change_of_a_slot_is_told_or_counted() {
        let (left, died) = (member::ENDED_LEFT, member::ENDED_DIED);
        assert_eq!(told((1, true), (1, true), 0), "");
        assert_eq!(told((1, false), (1, false), left), "");
        assert_eq!(told((0, false), (1, true), 0), "+1");
        assert_eq!(told((1, true), (1, false), left), "-1");
        assert_eq!(told((1, true), (1, false), died), "-1!");
        assert_eq!(told((1, true), (2, true), died), "-1! +2");
        assert_eq!(told((1, true), (3, true), died), "-1? ~2 +3");
        assert_eq!(told((1, true), (2, false), died), "-1? ~2");
        assert_eq!(told((1, false), (2, false), left), "~2");
        assert_eq!(told((1, false), (4, true), left), "~4 +4");
    }
}
