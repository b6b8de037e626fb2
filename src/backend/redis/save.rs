//! Saving: what the server has of an entry is shared, what it lacks is written, and both are listed in the save's
//! own index by the step of the server that has looked.

use super::{RedisStore, VERSION, entry};
use crate::backend::content::Content;
use crate::backend::{BackendError, Source, text};
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use crate::sys::process;
use redis::{Cmd, Connection, Value};
use std::time::Instant;

/// Entries and bytes that go together.
pub(super) const BATCH: usize = 500;
pub(super) const BATCH_BYTES: usize = 1 << 20;
/// One in so many entries is written although it is there, others each time: so what somebody edited goes.
pub(super) const RENEWED: u64 = 64;
/// How often a claim is renewed while it lives: the pace of a save waits for an entry a third of that time at most.
const RENEWALS: u32 = 4;

/// A save's step: ends when its claim is gone, having written nothing. The first thing that it writes is what a server
/// without memory refuses, so that it never stops in the middle.
const STEP: &str = "
local saving, versions, index = KEYS[1], KEYS[2], KEYS[3]
local id, sequence, claim, prefix, first = ARGV[1], ARGV[2], ARGV[3], ARGV[4], 5
if redis.call('EXISTS', saving) == 0 then return 'its claim is gone' end
redis.call('ZADD', versions, sequence, id)
redis.call('PEXPIRE', saving, claim)
local names, listed = {}, {}
";

/// Lists those entries that are there, of those that the snapshot before has; tells the places of the others.
const SHARE: &str = "
local members, places, missing = {}, {}, {}
for n = first, #ARGV do members[#members + 1] = ARGV[n] end
local known = redis.call('ZMSCORE', KEYS[4], unpack(members))
for n, member in ipairs(members) do
  if known[n] then
    names[#names + 1] = prefix .. member
    places[#places + 1] = n
  else
    missing[#missing + 1] = n - 1
  end
end
local all = #names > 0 and redis.call('EXISTS', unpack(names)) == #names
for i, n in ipairs(places) do
  if all or redis.call('EXISTS', names[i]) == 1 then
    listed[#listed + 1] = 0
    listed[#listed + 1] = members[n]
  else
    missing[#missing + 1] = n - 1
  end
end
if #listed > 0 then redis.call('ZADD', index, unpack(listed)) end
return missing";

/// Writes entries and lists them.
const WRITE: &str = "
local n = first
while n <= #ARGV do
  names[#names + 1] = prefix .. ARGV[n]
  listed[#listed + 1] = 0
  listed[#listed + 1] = ARGV[n]
  n = n + 2 + ARGV[n + 1]
end
redis.call('UNLINK', unpack(names))
n = first
for i = 1, #names do
  local last = n + 1 + ARGV[n + 1]
  redis.call('HSET', names[i], unpack(ARGV, n + 2, last))
  n = last + 1
end
redis.call('ZADD', index, unpack(listed))
return {}";

/// Moves the pointer, when the save is whole and its claim alive.
const MOVE: &str = "
local current, saving, head, versions, index, doubt = unpack(KEYS)
local id, sequence, entries, doubted = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
if redis.call('EXISTS', saving) == 0 then return 'its claim is gone' end
local other = redis.call('GET', current)
if other and tonumber(string.match(other, '^%d+')) > sequence then return 'a later save was faster' end
if redis.call('ZCARD', index) ~= entries then return 'keys of it are gone' end
redis.call('HSET', head, unpack(ARGV, 5))
redis.call('ZADD', versions, sequence, id)
redis.call('SET', current, id)
redis.call('DEL', saving)
if redis.call('GET', doubt) == doubted then redis.call('DEL', doubt) end
return 'moved'";

/// Some entries on their way, each with what the index has of it.
#[derive(Default)]
struct Batch {
    entries: Vec<(Vec<u8>, SnapshotEntry)>,
    size: usize,
}

impl Batch {
    fn push(&mut self, member: Vec<u8>, entry: SnapshotEntry) {
        self.size += member.len() + entry.value.len() + entry.who.len();
        self.entries.push((member, entry));
    }
    fn is_full(&self) -> bool {
        self.entries.len() >= BATCH || self.size >= BATCH_BYTES
    }
}

/// A save that is going on.
pub(super) struct Saving<'a> {
    pub(super) store: &'a RedisStore,
    pub(super) connection: Connection,
    pub(super) id: String,
    sequence: u64,
    /// What may have most of its entries; none when all are to be written.
    base: Option<String>,
    /// The snapshot that a load has refused, if any.
    doubt: Option<String>,
    /// Bytes of the longest value.
    longest: usize,
    pub(super) bytes: u64,
    /// When its claim was made or renewed last.
    renewed: Instant,
}

impl<'a> Saving<'a> {
    pub(super) fn begin(store: &'a RedisStore) -> Result<Self, BackendError> {
        let mut connection = store.connect()?;
        let number = redis::cmd("INCR").arg(store.key("sequence")).query(&mut connection);
        let mut sequence: u64 = store.said(number)?;
        let current = store.current(&mut connection)?;
        // The versions may have been lost alone, and so may the counter.
        if let Some(id) = &current {
            let mut add = redis::cmd("ZADD");
            add.arg(store.key("versions")).arg(sequence_of(id)).arg(id);
            store.said(add.query::<()>(&mut connection))?;
        }
        let newest = store.versions(&mut connection)?.first().map_or(0, |id| sequence_of(id));
        if newest >= sequence {
            sequence = newest + 1;
            let mut set = redis::cmd("SET");
            set.arg(store.key("sequence")).arg(sequence);
            store.said(set.query::<()>(&mut connection))?;
        }
        let doubt: Option<String> =
            store.said(redis::cmd("GET").arg(store.key("doubt")).query(&mut connection))?;
        let random =
            process::random().map_err(|source| BackendError::Io { at: store.at(), source })?;
        let id = format!("{sequence:08}-{random:016x}");
        let mut claim = redis::cmd("SET");
        claim.arg(store.key_of(&id, "saving")).arg(1);
        claim.arg("NX").arg("PX").arg(store.claim.as_millis() as u64);
        store.said(claim.query::<()>(&mut connection))?;
        let base = current.filter(|_| doubt.is_none());
        let (longest, bytes, renewed) = (0, 0, Instant::now());
        Ok(Self { store, connection, id, sequence, base, doubt, longest, bytes, renewed })
    }

    /// A script that is a step of this save.
    fn step(&self, script: &str, base: Option<&str>) -> Cmd {
        let (store, id) = (self.store, self.id.as_str());
        let mut step = redis::cmd("EVAL");
        step.arg([STEP, script].concat()).arg(3 + usize::from(base.is_some()));
        step.arg(store.key_of(id, "saving")).arg(store.key("versions"));
        step.arg(store.key_of(id, "index")).arg(base.map(|id| store.key_of(id, "index")));
        step.arg(id)
            .arg(self.sequence)
            .arg(store.claim.as_millis() as u64)
            .arg(store.key("entry:"));
        step
    }

    /// Sends a step; gives the places that it tells.
    fn take(&mut self, step: &Cmd) -> Result<Vec<usize>, BackendError> {
        match self.store.said(step.query(&mut self.connection))? {
            Value::Array(places) => {
                self.renewed = Instant::now();
                let places = places.into_iter().map(redis::from_redis_value::<usize>);
                let places: Result<_, _> = places.collect();
                places.map_err(|error| self.store.refused(error.to_string()))
            }
            _ => Err(self.lost("its claim is gone")),
        }
    }

    fn lost(&self, what: &str) -> BackendError {
        self.store.refused(format!(
            "{what}: the server lost what was written (flushed, evicted, started anew) or this save was \
             thought dead; the snapshot before, where the server has it, stays"
        ))
    }

    /// Says that it lives, where its entries come so slowly that no batch has for a while.
    fn renew(&mut self) -> Result<(), BackendError> {
        if self.renewed.elapsed() < self.store.claim / RENEWALS {
            return Ok(());
        }
        let step = self.step("return {}", None);
        self.take(&step).map(drop)
    }

    /// Lists what the server has of a batch; what it lacks is to be written.
    fn share(
        &mut self,
        base: &str,
        known: &mut Batch,
        new: &mut Batch,
    ) -> Result<(), BackendError> {
        let Batch { entries, .. } = std::mem::take(known);
        if entries.is_empty() {
            return Ok(());
        }
        let mut step = self.step(SHARE, Some(base));
        for (member, _) in &entries {
            step.arg(member);
            self.bytes += member.len() as u64;
        }
        let mut missing = self.take(&step)?;
        missing.sort_unstable();
        let mut missing = missing.into_iter().peekable();
        for (place, (member, entry)) in entries.into_iter().enumerate() {
            if missing.next_if_eq(&place).is_some() {
                self.add(new, member, entry)?;
            }
        }
        Ok(())
    }

    /// Adds to what is to be written, which is sent when it is enough.
    fn add(
        &mut self,
        to: &mut Batch,
        member: Vec<u8>,
        entry: SnapshotEntry,
    ) -> Result<(), BackendError> {
        to.push(member, entry);
        if to.is_full() { self.flush(to) } else { Ok(()) }
    }

    fn flush(&mut self, new: &mut Batch) -> Result<(), BackendError> {
        let Batch { entries, .. } = std::mem::take(new);
        if entries.is_empty() {
            return Ok(());
        }
        let mut step = self.step(WRITE, None);
        for (member, entry) in entries {
            let (fields, size) = entry::fields(entry);
            self.bytes += (member.len() + size) as u64;
            step.arg(member).arg(fields.len()).arg(fields);
        }
        self.take(&step).map(drop)
    }

    pub(super) fn write(&mut self, entries: &mut dyn Source) -> Result<Content, BackendError> {
        let (mut content, base) = (Content::default(), self.base.clone());
        // What may be there, and what is not.
        let (mut known, mut new) = (Batch::default(), Batch::default());
        while let Some(entry) = entries.next_entry()? {
            self.renew()?;
            let hash = content.add(&entry);
            self.longest = self.longest.max(entry.value.len());
            let member = entry::member(&entry.key, hash);
            let is_renewed = (hash as u64).wrapping_add(self.sequence).is_multiple_of(RENEWED);
            match &base {
                Some(base) if !is_renewed => {
                    known.push(member, entry);
                    if known.is_full() {
                        self.share(base, &mut known, &mut new)?;
                    }
                }
                _ => self.add(&mut new, member, entry)?,
            }
        }
        if let Some(base) = base {
            self.share(&base, &mut known, &mut new)?;
        }
        self.flush(&mut new)?;
        Ok(content)
    }

    pub(super) fn finish(
        &mut self,
        head: &SnapshotHead,
        content: &Content,
    ) -> Result<(), BackendError> {
        let (store, id) = (self.store, self.id.as_str());
        let mut finish = redis::cmd("EVAL");
        finish.arg(MOVE).arg(6).arg(store.key("current")).arg(store.key_of(id, "saving"));
        finish.arg(store.key_of(id, "head")).arg(store.key("versions"));
        finish.arg(store.key_of(id, "index")).arg(store.key("doubt"));
        finish.arg(id).arg(self.sequence).arg(content.count);
        finish.arg(self.doubt.as_deref().unwrap_or_default());
        for (name, value) in [
            ("version", VERSION.to_string()),
            ("bus_id", format!("{:032x}", head.bus_id)),
            ("incarnation", format!("{:016x}", head.incarnation)),
            ("revision", head.revision.to_string()),
            ("created", text::time(head.created)),
            ("entries", content.count.to_string()),
            ("checksum", content.seal(head).to_string()),
            ("longest", self.longest.to_string()),
        ] {
            finish.arg(name).arg(value);
        }
        let end: String = store.said(finish.query(&mut self.connection))?;
        if end == "moved" { Ok(()) } else { Err(self.lost(&end)) }
    }
}

/// The sequence that an ID begins with.
fn sequence_of(id: &str) -> u64 {
    id.split('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
