//! Loading: the newest whole snapshot, of which nothing is handed out before all of it was seen.

use super::{CLAIM, RedisStore, VERSION, entry};
use crate::backend::content::Content;
use crate::backend::{BackendError, Loaded, Sink, text};
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use redis::Connection;
use std::collections::HashMap;

/// How often a load begins anew when the newest was replaced meanwhile.
const TRIES: u32 = 100;

/// What stands in a head.
struct Head {
    head: SnapshotHead,
    entries: u64,
    chunks: u64,
    checksum: String,
}

/// Why a version was not read to its end.
enum Failure {
    Refused(String),
    Backend(BackendError),
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}

struct Loading<'a> {
    store: &'a RedisStore,
    connection: Connection,
    /// Whether it says that it reads, so that no saver sweeps what it reads. A server that allows no writes
    /// refuses that.
    claims: bool,
}

pub(super) fn load(
    store: &RedisStore,
    sink: &mut dyn Sink,
) -> Result<Option<Loaded>, BackendError> {
    let mut loading = Loading { store, connection: store.connect()?, claims: true };
    for _ in 0..TRIES {
        let current = loading.current()?;
        let mut refused = Vec::new();
        let others = store.versions(&mut loading.connection)?;
        let others = others.into_iter().filter(|id| Some(id) != current.as_ref());
        let mut is_stale = false;
        for id in current.clone().into_iter().chain(others) {
            let is_current = Some(&id) == current.as_ref();
            match loading.give(&id, is_current, sink) {
                Ok(Some(loaded)) => return Ok(Some(Loaded { refused, ..loaded })),
                Ok(None) => {}
                Err(Failure::Backend(error)) => return Err(error),
                Err(Failure::Refused(reason)) => {
                    // A saver was faster: what it replaced it may have removed.
                    is_stale = loading.current()? != current;
                    if is_stale {
                        break;
                    }
                    refused.push((format!("{}{id}", store.prefix), reason));
                }
            }
        }
        if !is_stale {
            let newest = refused.into_iter().next();
            return newest.map_or(Ok(None), |(at, reason)| {
                Err(BackendError::Damaged { at: format!("{}, {at}", store.at()), reason })
            });
        }
    }
    Err(store.refused("each snapshot was replaced by a newer one while it was read"))
}

impl Loading<'_> {
    fn current(&mut self) -> Result<Option<String>, BackendError> {
        let current = redis::cmd("GET").arg(self.store.key("current")).query(&mut self.connection);
        self.store.said(current)
    }

    fn claim(&mut self, id: &str) {
        if self.claims {
            let mut claim = redis::cmd("SET");
            claim.arg(self.store.key_of(id, "loading")).arg(1);
            claim.arg("PX").arg(CLAIM.as_millis() as u64);
            self.claims = claim.query::<()>(&mut self.connection).is_ok();
        }
    }

    /// Gives a version to `sink` when all of it is good; nothing when it is no whole snapshot.
    fn give(
        &mut self,
        id: &str,
        is_current: bool,
        sink: &mut dyn Sink,
    ) -> Result<Option<Loaded>, Failure> {
        // What has no head is left by a saver, and not to be held.
        if !is_current && !self.store.has_head(&mut self.connection, id)? {
            return Ok(None);
        }
        self.claim(id);
        let mut get = redis::cmd("HGETALL");
        let fields = get.arg(self.store.key_of(id, "head")).query(&mut self.connection);
        let fields: HashMap<String, String> = self.store.said(fields)?;
        if fields.is_empty() {
            let gone = "its head is gone: the server has evicted or flushed it";
            return if is_current { Err(Failure::Refused(gone.to_owned())) } else { Ok(None) };
        }
        let head = read_head(&fields).map_err(Failure::Refused)?;
        let mut content = Content::default();
        self.each(id, &head, &mut |entry| {
            content.add(&entry);
            Ok(())
        })?;
        if let Some(reason) = content.refusal(&head.head, head.entries, &head.checksum) {
            return Err(Failure::Refused(reason));
        }
        sink.begin(&head.head)?;
        let again = self.each(id, &head, &mut |entry| sink.entry(&entry));
        again.map_err(|failure| match failure {
            // Too late for another one.
            Failure::Refused(reason) => {
                let at = format!("{}, {}{id}", self.store.at(), self.store.prefix);
                Failure::Backend(BackendError::Damaged { at, reason })
            }
            failure => failure,
        })?;
        Ok(Some(Loaded { head: head.head, entries: content.count, refused: Vec::new() }))
    }

    /// Reads all entries, one part of the index at a time.
    fn each(
        &mut self,
        id: &str,
        head: &Head,
        each: &mut dyn FnMut(SnapshotEntry) -> Result<(), BackendError>,
    ) -> Result<(), Failure> {
        let store = self.store;
        for number in 0..head.chunks {
            self.claim(id);
            let mut list = redis::cmd("LRANGE");
            list.arg(store.key_of(id, &format!("index:{number}"))).arg(0).arg(-1);
            let keys: Vec<Vec<u8>> = store.said(list.query(&mut self.connection))?;
            if keys.is_empty() {
                let what = "a part of its index is gone: the server has evicted or flushed it";
                return Err(Failure::Refused(what.to_owned()));
            }
            let mut get = redis::pipe();
            for key in &keys {
                let name = [store.key_of(id, "entry:").into_bytes(), key.clone()].concat();
                get.cmd("HGETALL").arg(name);
            }
            let found = store.exchange(&mut self.connection, &get)?;
            for (key, fields) in keys.iter().zip(found) {
                let fields = redis::from_redis_value::<HashMap<String, Vec<u8>>>(fields);
                let fields = fields.map_err(|error| Failure::Refused(error.to_string()))?;
                each(entry::read(key, fields).map_err(Failure::Refused)?)?;
            }
        }
        Ok(())
    }
}

fn read_head(fields: &HashMap<String, String>) -> Result<Head, String> {
    let get = |name: &str| fields.get(name).map(String::as_str);
    let wrong = |name: &str| format!("`{name}` of its head makes no sense");
    let number = |name: &str| {
        get(name).and_then(|digits| digits.parse::<u64>().ok()).ok_or_else(|| wrong(name))
    };
    let version = number("version")?;
    if version != u64::from(VERSION) {
        return Err(format!("it has version {version}, this membus reads {VERSION}"));
    }
    let hexadecimal = |name: &str| {
        get(name)
            .and_then(|digits| u128::from_str_radix(digits, 16).ok())
            .ok_or_else(|| wrong(name))
    };
    let incarnation = u64::try_from(hexadecimal("incarnation")?);
    let head = SnapshotHead {
        bus_id: hexadecimal("bus_id")?,
        incarnation: incarnation.map_err(|_| wrong("incarnation"))?,
        revision: number("revision")?,
        created: get("created").and_then(text::parse_time).ok_or_else(|| wrong("created"))?,
    };
    let checksum = get("checksum").ok_or_else(|| wrong("checksum"))?.to_owned();
    Ok(Head { head, entries: number("entries")?, chunks: number("chunks")?, checksum })
}
