//! Redis: each snapshot an index of entries, which snapshots share, and a pointer to the newest, which moves last.
//!
//! ```text
//! PREFIXcurrent            ID of the newest whole snapshot
//! PREFIXversions           sorted set of all IDs that a save has begun, by sequence
//! PREFIXsequence           counter
//! PREFIXdoubt              ID of a snapshot that was refused: the next save shares nothing
//! PREFIXentry:KEY:HASH     hash: an entry; HASH is of all that is in it
//! PREFIXID:head            hash: what it is of, its count and its seal; a snapshot without one is none
//! PREFIXID:index           sorted set of KEY:HASH, each with the score 0
//! PREFIXID:saving          there as long as its saver lives; :loading: somebody reads it
//! ```
//!
//! 1. An ID has a random part: no two saves ever have one. Each step of a save is a script that looks at its claim
//!    first. So commands of a dead saver that come late write nothing.
//! 2. The claim `saving` is made once and only renewed after that. When it has run out, its saver can't write or move
//!    the pointer any more, in one step of the server each. So who finds no claim may sweep.
//! 3. An entry is never changed, as its name says what is in it: it is there or not. The step that finds or writes it
//!    lists it, in an index whose ID stands among the versions; the step that removes it has looked at the
//!    indexes of all versions. So what an index lists no sweep removes, whoever saves or dies meanwhile.
//! 4. The move counts the index, and refuses when the server has lost it, or when a later save was faster.
//! 5. A load reads all entries and compares count and seal before it hands out any: whatever was evicted, edited,
//!    has expired or was flushed makes that snapshot refused. With all of it gone there is none.
//! 6. What is gone is seen by the next save, which writes it anew, also for the snapshots that share it. What was edited is
//!    not: so a 64th of the entries is written each time although it is there, and all of them after a refusal.
//!
//! `old` has the keys of version 1.

mod connect;
mod entry;
mod load;
mod old;
mod save;
mod sweep;

pub(crate) use connect::{Password, Server};

use super::{Backend, BackendError, Loaded, Saved, Sink, Source};
use crate::snapshot_entry::SnapshotHead;
use redis::{Connection, RedisResult};
use save::Saving;
use std::time::Duration;

/// Version of the keys.
const VERSION: u64 = 2;
/// How long the server is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a claim lives that is not renewed: many times longer than a batch takes, and some times what a save's rate waits for
/// an entry.
pub(crate) const CLAIM: Duration = Duration::from_secs(60);

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
    /// How long a save's claim lives that is not renewed.
    pub(crate) claim: Duration,
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

    fn current(&self, of: &mut Connection) -> Result<Option<String>, BackendError> {
        self.said(redis::cmd("GET").arg(self.key("current")).query(of))
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
        load::load(self, &|_| true, sink)
    }

    fn load_where(
        &self,
        is_wanted: &dyn Fn(&SnapshotHead) -> bool,
        sink: &mut dyn Sink,
    ) -> Result<Option<Loaded>, BackendError> {
        load::load(self, is_wanted, sink)
    }

    fn oldest(&self) -> Result<Option<SnapshotHead>, BackendError> {
        load::oldest(self)
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
        let current = self.current(&mut connection)?;
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
mod cut_tests;
#[cfg(test)]
mod order_tests;
#[cfg(test)]
pub(in crate::backend) mod tests;
