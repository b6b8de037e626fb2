//! Redis: each snapshot a set of keys of its own, and a pointer to the newest, which moves last.
//!
//! ```text
//! PREFIXcurrent            ID of the newest whole snapshot
//! PREFIXversions           sorted set of all IDs that a save has begun, by sequence
//! PREFIXsequence           counter
//! PREFIXID:head            hash: what it is of, its counts and its seal; a snapshot without one is none
//! PREFIXID:chunks          how many parts of the index were begun
//! PREFIXID:index:N         list of keys, a part of the index
//! PREFIXID:entry:KEY       hash: the entry
//! PREFIXID:saving          there as long as its saver lives; :loading: somebody reads it
//! ```
//!
//! 1. An ID has a random part: no two saves ever have one, so commands of a dead saver that come late can't
//!    reach the keys of another. Each batch names the ID among the versions anew: what comes after a sweep is
//!    found by the next one.
//! 2. The claim `saving` is made once and only renewed after that. When it has run out, its saver can't move
//!    the pointer any more: the move looks at it, in one step of the server. So who finds no claim may sweep.
//! 3. The move counts the index, and refuses when the server has lost a part of it, or when a later save was
//!    faster.
//! 4. A load reads all entries and compares count and seal before it hands out any: whatever was evicted,
//!    has expired or was flushed makes that snapshot refused. With all of it gone there is none.

mod connect;
mod entry;
mod load;

pub(crate) use connect::{Password, Server};

use super::content::Content;
use super::{Backend, BackendError, Loaded, Saved, Sink, Source, text};
use crate::snapshot_entry::SnapshotHead;
use crate::sys::process;
use redis::{Connection, Pipeline, RedisResult, Value};
use std::time::Duration;

/// Version of the keys.
const VERSION: u32 = 1;
/// How long the server is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a claim lives that is not renewed: many times longer than a batch takes.
const CLAIM: Duration = Duration::from_secs(60);
/// Entries and bytes of a batch, which is a part of the index as well.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 1 << 20;

/// A set of keys in a server.
#[derive(Debug, Clone)]
pub(crate) struct RedisStore {
    pub(crate) server: Server,
    pub(crate) user: Option<String>,
    pub(crate) password: Password,
    pub(crate) database: u32,
    /// What each key begins with.
    pub(crate) prefix: String,
    /// How many snapshots stay; one at least.
    pub(crate) keep: usize,
    pub(crate) patience: Duration,
}

/// Moves the pointer, when the save is whole and its claim alive.
const MOVE: &str = "
local current, saving, head, versions = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, sequence, index = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local chunks, entries = tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('EXISTS', saving) == 0 then return 'its claim is gone' end
local other = redis.call('GET', current)
if other and tonumber(string.match(other, '^%d+')) > sequence then return 'a later save was faster' end
local count = 0
for n = 0, chunks - 1 do count = count + redis.call('LLEN', index .. n) end
if count ~= entries then return 'keys of it are gone' end
redis.call('HSET', head, unpack(ARGV, 6))
redis.call('ZADD', versions, sequence, id)
redis.call('SET', current, id)
redis.call('DEL', saving)
return 'moved'";

/// Takes the head away from a version that nobody needs, so that it is none any more.
const CONDEMN: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then return 0 end
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then return 0 end
redis.call('DEL', KEYS[4])
return 1";

/// A save that is going on.
struct Saving<'a> {
    store: &'a RedisStore,
    connection: Connection,
    id: String,
    sequence: u64,
    chunks: u64,
    bytes: u64,
}

impl RedisStore {
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
    fn key_of(&self, id: &str, name: &str) -> String {
        format!("{}{id}:{name}", self.prefix)
    }

    fn said<T>(&self, result: RedisResult<T>) -> Result<T, BackendError> {
        result.map_err(|error| self.explain(&error))
    }

    /// All versions, the newest first.
    fn versions(&self, of: &mut Connection) -> Result<Vec<String>, BackendError> {
        let mut list = redis::cmd("ZREVRANGE");
        self.said(list.arg(self.key("versions")).arg(0).arg(-1).query(of))
    }

    fn has_head(&self, of: &mut Connection, id: &str) -> Result<bool, BackendError> {
        self.said(redis::cmd("EXISTS").arg(self.key_of(id, "head")).query(of))
    }

    /// Removes what no one needs: whole snapshots beyond those that stay, and what dead savers left.
    fn sweep(&self, of: &mut Connection) -> Result<(), BackendError> {
        let mut whole = 0;
        for id in self.versions(of)? {
            let is_whole = self.has_head(of, &id)?;
            whole += usize::from(is_whole);
            if is_whole && whole <= self.keep.max(1) {
                continue;
            }
            let mut condemn = redis::cmd("EVAL");
            condemn.arg(CONDEMN).arg(4).arg(self.key("current"));
            for name in ["saving", "loading", "head"] {
                condemn.arg(self.key_of(&id, name));
            }
            if self.said(condemn.arg(&id).query(of))? {
                self.discard(of, &id)?;
            }
        }
        Ok(())
    }

    /// Removes all keys of a version. It stays among the versions until the last of them is gone.
    fn discard(&self, of: &mut Connection, id: &str) -> Result<(), BackendError> {
        let chunks: Option<u64> =
            self.said(redis::cmd("GET").arg(self.key_of(id, "chunks")).query(of))?;
        for number in 0.. {
            let index = self.key_of(id, &format!("index:{number}"));
            let keys: Vec<Vec<u8>> =
                self.said(redis::cmd("LRANGE").arg(&index).arg(0).arg(-1).query(of))?;
            // When the number was lost, the first part that is not there is the end.
            if number >= chunks.unwrap_or(0) && keys.is_empty() {
                break;
            }
            let mut unlink = redis::pipe();
            for key in keys {
                let entry = [self.key_of(id, "entry:").into_bytes(), key].concat();
                unlink.cmd("UNLINK").arg(entry);
            }
            unlink.cmd("UNLINK").arg(index);
            self.exchange(of, &unlink)?;
        }
        let mut rest = redis::pipe();
        for name in ["head", "chunks", "saving", "loading"] {
            rest.cmd("UNLINK").arg(self.key_of(id, name));
        }
        rest.cmd("ZREM").arg(self.key("versions")).arg(id);
        self.exchange(of, &rest).map(drop)
    }
}

impl<'a> Saving<'a> {
    fn begin(store: &'a RedisStore) -> Result<Self, BackendError> {
        let mut connection = store.connect()?;
        let number = redis::cmd("INCR").arg(store.key("sequence")).query(&mut connection);
        let mut sequence: u64 = store.said(number)?;
        // The counter may have been lost alone.
        let newest = store
            .versions(&mut connection)?
            .into_iter()
            .next()
            .and_then(|id| id.split('-').next().and_then(|number| number.parse::<u64>().ok()));
        if let Some(newest) = newest.filter(|newest| *newest >= sequence) {
            sequence = newest + 1;
            let mut set = redis::cmd("SET");
            set.arg(store.key("sequence")).arg(sequence);
            store.said(set.query::<()>(&mut connection))?;
        }
        let random =
            process::random().map_err(|source| BackendError::Io { at: store.at(), source })?;
        let id = format!("{sequence:08}-{random:016x}");
        let mut claim = redis::cmd("SET");
        claim
            .arg(store.key_of(&id, "saving"))
            .arg(1)
            .arg("NX")
            .arg("PX")
            .arg(CLAIM.as_millis() as u64);
        store.said(claim.query::<()>(&mut connection))?;
        Ok(Self { store, connection, id, sequence, chunks: 0, bytes: 0 })
    }

    /// Sends entries and the part of the index that names them.
    fn send(&mut self, mut batch: Pipeline, keys: &[Vec<u8>]) -> Result<(), BackendError> {
        let (store, id) = (self.store, self.id.as_str());
        let index = store.key_of(id, &format!("index:{}", self.chunks));
        self.chunks += 1;
        batch.cmd("ZADD").arg(store.key("versions")).arg(self.sequence).arg(id);
        batch.cmd("SET").arg(store.key_of(id, "chunks")).arg(self.chunks);
        batch.cmd("RPUSH").arg(index).arg(keys);
        batch.cmd("PEXPIRE").arg(store.key_of(id, "saving")).arg(CLAIM.as_millis() as u64);
        let answers = store.exchange(&mut self.connection, &batch)?;
        let is =
            |answer: Option<&Value>, count| matches!(answer, Some(Value::Int(n)) if *n == count);
        let (listed, claimed) = (answers.iter().rev().nth(1), answers.last());
        if !is(listed, keys.len() as i64) || !is(claimed, 1) {
            return Err(self.lost("its claim is gone"));
        }
        Ok(())
    }

    fn lost(&self, what: &str) -> BackendError {
        self.store.refused(format!(
            "{what}: the server lost what was written (flushed, evicted, started anew) or this save was \
             thought dead; the snapshot before, where the server has it, stays"
        ))
    }

    fn write(&mut self, entries: &mut dyn Source) -> Result<Content, BackendError> {
        let name = self.store.key_of(&self.id, "entry:");
        let mut content = Content::default();
        let (mut batch, mut keys, mut size) = (redis::pipe(), Vec::new(), 0);
        loop {
            let next = entries.next_entry()?;
            let is_full = keys.len() >= BATCH || size >= BATCH_BYTES;
            if !keys.is_empty() && (is_full || next.is_none()) {
                self.send(std::mem::take(&mut batch), &keys)?;
                self.bytes += size as u64;
                keys.clear();
                size = 0;
            }
            let Some(entry) = next else { return Ok(content) };
            content.add(&entry);
            let (store, bytes) = entry::store(&name, &entry);
            batch.add_command(store);
            size += bytes;
            keys.push(entry.key);
        }
    }

    fn finish(&mut self, head: &SnapshotHead, content: &Content) -> Result<(), BackendError> {
        let (store, id) = (self.store, self.id.as_str());
        let mut finish = redis::cmd("EVAL");
        finish.arg(MOVE).arg(4).arg(store.key("current")).arg(store.key_of(id, "saving"));
        finish.arg(store.key_of(id, "head")).arg(store.key("versions"));
        finish.arg(id).arg(self.sequence).arg(store.key_of(id, "index:"));
        finish.arg(self.chunks).arg(content.count);
        for (name, value) in [
            ("version", VERSION.to_string()),
            ("bus_id", format!("{:032x}", head.bus_id)),
            ("incarnation", format!("{:016x}", head.incarnation)),
            ("revision", head.revision.to_string()),
            ("created", text::time(head.created)),
            ("entries", content.count.to_string()),
            ("chunks", self.chunks.to_string()),
            ("checksum", content.seal(head).to_string()),
        ] {
            finish.arg(name).arg(value);
        }
        let end: String = store.said(finish.query(&mut self.connection))?;
        if end == "moved" { Ok(()) } else { Err(self.lost(&end)) }
    }
}

impl Backend for RedisStore {
    fn save(&self, head: &SnapshotHead, entries: &mut dyn Source) -> Result<Saved, BackendError> {
        let mut saving = Saving::begin(self)?;
        let end = self.sweep(&mut saving.connection).and_then(|()| saving.write(entries));
        let end = end.and_then(|content| saving.finish(head, &content).map(|()| content.count));
        match end {
            Ok(entries) => {
                // What can't be removed now is by the next save.
                let _swept = self.sweep(&mut saving.connection);
                Ok(Saved { entries, bytes: saving.bytes, path: None })
            }
            Err(error) => {
                // The next save does it otherwise. A server that did not answer is not asked again.
                if !matches!(error, BackendError::Io { .. }) {
                    let _swept = self.discard(&mut saving.connection, &saving.id);
                }
                Err(error)
            }
        }
    }

    fn load(&self, sink: &mut dyn Sink) -> Result<Option<Loaded>, BackendError> {
        load::load(self, sink)
    }

    fn exists(&self) -> Result<bool, BackendError> {
        let mut connection = self.connect()?;
        if self.said(redis::cmd("EXISTS").arg(self.key("current")).query(&mut connection))? {
            return Ok(true);
        }
        for id in self.versions(&mut connection)? {
            if self.has_head(&mut connection, &id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The newest goes last: whoever loads meanwhile finds it, and never an older one. A save that is going
    /// on is not hindered.
    fn delete(&self) -> Result<(), BackendError> {
        let mut connection = self.connect()?;
        let current: Option<String> =
            self.said(redis::cmd("GET").arg(self.key("current")).query(&mut connection))?;
        let versions = self.versions(&mut connection)?;
        let (mut heads, mut newest) = (redis::pipe(), redis::cmd("DEL"));
        for id in versions.iter().filter(|id| Some(*id) != current.as_ref()) {
            heads.cmd("UNLINK").arg(self.key_of(id, "head"));
        }
        newest.arg(self.key("current"));
        if let Some(id) = &current {
            newest.arg(self.key_of(id, "head"));
        }
        self.exchange(&mut connection, &heads)?;
        self.said(newest.query::<()>(&mut connection))?;
        for id in versions {
            let claim = redis::cmd("EXISTS").arg(self.key_of(&id, "saving")).query(&mut connection);
            if !self.said::<bool>(claim)? {
                self.discard(&mut connection, &id)?;
            }
        }
        Ok(())
    }
}

/// What the environment calls a wait that ended without an answer.
#[cfg(test)]
fn is_time_out(error: &BackendError) -> bool {
    matches!(error, BackendError::Io { source, .. } if source.kind() == std::io::ErrorKind::TimedOut)
}

#[cfg(test)]
pub(in crate::backend) mod tests;
