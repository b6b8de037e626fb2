//! What several can hold: the roll of those who do, in one entry.
//!
//! ```text
//! value   | id of who has it alone, or 0 | limit 32, count 32 | holder … |
//! holder  | owner | id | deadline or 0 | since, by the wall clock | role 32, units 32 |
//! ```
//!
//! 1. Whoever changes it reads it, and writes it anew on the condition that it is still the revision that it
//!    read, or none. When somebody was faster, it begins again: somebody got on.
//! 2. Before it decides, it strikes off who is past its deadline and who has gone. So nothing that the
//!    dead have on the roll counts for anybody, and no burial has to look for it.
//! 3. An empty roll is no entry.
//!
//! The first word is for [`Fence`](super::Fence): what has it alone can be required by a batch.
//!
//! A death before the commit changes nothing, after it the roll names the dead until the next one looks.

use super::super::Inner;
use super::wait::Busy;
use super::{Address, Found};
use crate::error::{LockError, WriteError};
use crate::table::entry::Note;
use crate::table::wish::{Action, Condition, KIND_BYTES, Wish};
use crate::types::LockHolder;
use std::collections::HashMap;

/// Words before the holders.
const HEAD: usize = 2;
/// Words of a holder.
const HOLDER: usize = 5;

/// In what way somebody is on a roll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Reads = 1,
    Writes = 2,
    /// Waits to write; new readers hold back.
    WaitsToWrite = 3,
    /// Has so many permits.
    Permits = 4,
    /// Has arrived, and waits for the others.
    Arrived = 5,
    /// May pass, and does not know it yet.
    Passes = 6,
}

impl Role {
    fn of(number: u64) -> Option<Self> {
        let all = [
            Self::Reads,
            Self::Writes,
            Self::WaitsToWrite,
            Self::Permits,
            Self::Arrived,
            Self::Passes,
        ];
        all.into_iter().find(|role| *role as u64 == number)
    }
}

/// One line of a roll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) owner: u64,
    pub(super) id: u64,
    /// Boot time at which it does not count any more; 0: never.
    pub(super) deadline: u64,
    pub(super) since: u64,
    pub(super) role: Role,
    pub(super) units: u32,
}

/// Who is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Roll {
    /// Who has it alone, or 0.
    pub(super) alone: u64,
    pub(super) limit: u32,
    pub(super) lines: Vec<Line>,
}

impl Roll {
    fn encode(&self) -> Vec<u8> {
        let count = self.lines.len() as u64;
        let mut words = vec![self.alone, u64::from(self.limit) | count << 32];
        for line in &self.lines {
            let role = line.role as u64 | u64::from(line.units) << 32;
            words.extend([line.owner, line.id, line.deadline, line.since, role]);
        }
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let (words, rest) = value.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let (head, lines) = words.split_first_chunk::<HEAD>()?;
        let [alone, counts] = *head;
        if !rest.is_empty() || lines.len() as u64 != (counts >> 32) * HOLDER as u64 {
            return None;
        }
        let line = |words: &[u64; HOLDER]| {
            let [owner, id, deadline, since, role] = *words;
            let (role, units) = (Role::of(role & 0xffff_ffff)?, (role >> 32) as u32);
            Some(Line { owner, id, deadline, since, role, units })
        };
        let lines: Option<Vec<_>> = lines.as_chunks::<HOLDER>().0.iter().map(line).collect();
        Some(Self { alone, limit: counts as u32, lines: lines? })
    }

    pub(super) fn find(&mut self, id: u64) -> Option<&mut Line> {
        self.lines.iter_mut().find(|line| line.id == id)
    }
    /// Lines of a role.
    pub(super) fn of(&self, role: Role) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.role == role)
    }
    /// Whether anybody has this role.
    pub(super) fn has(&self, role: Role) -> bool {
        self.of(role).next().is_some()
    }
    /// Permits that are taken.
    pub(super) fn units(&self) -> u64 {
        self.lines.iter().map(|line| u64::from(line.units)).sum()
    }
    /// Takes a line off: whether it was there.
    pub(super) fn strike(&mut self, id: u64) -> bool {
        self.strike_unless(|line| line.id != id)
    }

    fn strike_unless(&mut self, stays: impl FnMut(&Line) -> bool) -> bool {
        let before = self.lines.len();
        self.lines.retain(stays);
        if !self.lines.iter().any(|line| line.id == self.alone) {
            self.alone = 0;
        }
        self.lines.len() < before
    }
}

/// What becomes of a roll.
#[derive(Debug)]
pub(super) enum Next<T> {
    /// It is written as it is now.
    Write(T),
    /// It stays.
    Keep(T),
}

/// Reads, decides, and writes until nobody came between: what was decided, and the revision of the roll on
/// which it stands, 0 when there is none.
pub(super) fn change<T>(
    inner: &Inner,
    address: &Address,
    me: u32,
    probe: bool,
    mut decide: impl FnMut(&mut Roll) -> Result<Next<T>, LockError>,
) -> Result<(T, u64), LockError> {
    loop {
        let (mut roll, born) = read(inner, address)?;
        strike_gone(inner, &mut roll, me, probe)?;
        let value = match decide(&mut roll)? {
            Next::Keep(value) => return Ok((value, born)),
            Next::Write(value) => value,
        };
        match write(inner, address, &roll, born) {
            Ok(revision) => return Ok((value, revision)),
            Err(WriteError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// As [`change`] for who may have to wait: the dead are looked for when that is due, and when others seem to
/// use another number. A success comes with the roll's revision.
pub(super) fn attempt<T>(
    inner: &Inner,
    address: &Address,
    me: u32,
    due: bool,
    mut decide: impl FnMut(&mut Roll) -> Result<Next<Result<T, u64>>, LockError>,
) -> Result<Result<(T, u64), Busy>, LockError> {
    let first = change(inner, address, me, false, &mut decide);
    let end = match first {
        Ok((Err(_), _)) if due => change(inner, address, me, true, &mut decide)?,
        Err(LockError::Differs { .. }) => change(inner, address, me, true, &mut decide)?,
        first => first?,
    };
    Ok(match end {
        (Ok(value), revision) => Ok((value, revision)),
        (Err(until), seen) => Err(Busy { seen, until }),
    })
}

/// The roll at an address, and its revision.
pub(super) fn read(inner: &Inner, address: &Address) -> Result<(Roll, u64), LockError> {
    let Some(Found { value, born, .. }) = inner.find_lock(address)? else {
        return Ok((Roll::default(), 0));
    };
    match Roll::decode(&value) {
        Some(roll) => Ok((roll, born)),
        None => {
            let (what, name, size) = (address.what(), address.name(), value.len());
            Err(LockError::Damaged { what, name, size })
        }
    }
}

/// Takes off whoever does not count any more.
fn strike_gone(inner: &Inner, roll: &mut Roll, me: u32, probe: bool) -> Result<(), LockError> {
    let mut gone: HashMap<u64, bool> = HashMap::new();
    for line in &roll.lines {
        if let std::collections::hash_map::Entry::Vacant(entry) = gone.entry(line.owner) {
            entry.insert(inner.has_gone(line.owner, me, probe)?);
        }
    }
    roll.strike_unless(|line| {
        gone.get(&line.owner) != Some(&true) && !inner.core.is_past(line.deadline)
    });
    Ok(())
}

fn write(inner: &Inner, address: &Address, roll: &Roll, born: u64) -> Result<u64, WriteError> {
    let condition = if born == 0 { Condition::Absent } else { Condition::Revision(born) };
    let (time, who) = (inner.core.clock.wall(), inner.label().as_bytes());
    let value = roll.encode();
    let action = if roll.lines.is_empty() {
        Action::Delete { time, who }
    } else {
        let note = Note { kind: KIND_BYTES, time, deadline: 0, owner: 0, who, reserve: true };
        Action::Set { value: &value, note }
    };
    let done = inner.change(&Wish { key: address.in_realm(), action, condition })?;
    Ok(if roll.lines.is_empty() { 0 } else { done.revision })
}

/// The error of a wait that ran out of time: who is there, as far as `counts` says so.
pub(super) fn timed_out(
    inner: &Inner,
    address: &Address,
    waited: std::time::Duration,
    counts: impl Fn(&Line) -> bool,
) -> Result<LockError, LockError> {
    let (roll, _) = read(inner, address)?;
    let mut lines = roll.lines.iter().filter(|line| counts(line));
    let first = lines.next();
    let holder: Option<LockHolder> =
        first.and_then(|line| inner.holder(line.owner, line.since, line.deadline));
    let (what, name, others) = (address.what(), address.name(), lines.count());
    Ok(LockError::TimedOut { what, name, waited, holder: holder.map(Box::new), others })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plant: a count that is not compared with what is there lets half a line pass.
    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let line =
            |id, role| Line { owner: 1 << 16 | 1, id, deadline: id, since: 3, role, units: 2 };
        let lines = vec![line(7, Role::Writes), line(8, Role::WaitsToWrite)];
        let mut roll = Roll { alone: 7, limit: u32::MAX, lines };
        let value = roll.encode();
        assert_eq!(Roll::decode(&value).as_ref(), Some(&roll));
        for wrong in 0..value.len() {
            assert_eq!(Roll::decode(&value[..wrong]), None, "{wrong}");
        }
        let mut wrong = value.clone();
        wrong[8 * (HEAD + HOLDER) - 8] = 99;
        assert_eq!(Roll::decode(&wrong), None, "a role that there is not");
        assert!(roll.strike(7) && !roll.strike(7));
        assert_eq!((roll.alone, roll.units()), (0, 2));
    }
}
