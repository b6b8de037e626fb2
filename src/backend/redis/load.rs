//! Loading: the newest whole snapshot, of which nothing is handed out before all of it was seen.

use super::save::{BATCH, BATCH_BYTES};
use super::{CLAIM, RedisStore, VERSION, entry, old};
use crate::backend::content::Content;
use crate::backend::{BackendError, Loaded, Sink, text};
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use redis::Connection;
use std::collections::HashMap;

/// A value that is not longer may be read with [`BATCH`] others.
const MEDIUM: u64 = 32 << 10;
/// How often a load begins anew when the newest was replaced meanwhile.
const TRIES: u32 = 100;

/// What stands in a head.
struct Head {
    head: SnapshotHead,
    version: u64,
    entries: u64,
    /// Parts of the index of version 1.
    chunks: u64,
    checksum: String,
    /// Bytes of the longest value, where the saver said so.
    longest: Option<u64>,
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

/// Where in an index its next part begins.
#[derive(Default)]
struct Place {
    /// Entries before it.
    count: u64,
    /// The last member before it.
    member: Option<Vec<u8>>,
    /// Of version 1: its number.
    number: u64,
}

/// Lengths of runs of at most [`BATCH_BYTES`], or of one.
fn shares(sizes: impl Iterator<Item = usize>) -> Vec<usize> {
    let (mut shares, mut bytes) = (Vec::new(), 0);
    for size in sizes {
        match shares.last_mut() {
            Some(count) if bytes + size <= BATCH_BYTES => {
                *count += 1;
                bytes += size;
            }
            _ => {
                shares.push(1);
                bytes = size;
            }
        }
    }
    shares
}

/// A key, and the name of its entry.
type Named = (Vec<u8>, Vec<u8>);

struct Loading<'a> {
    store: &'a RedisStore,
    connection: Connection,
    /// Whether it says that it reads, so that no saver sweeps what it reads. A server that allows no writes
    /// refuses that.
    claims: bool,
}

pub(super) fn load(
    store: &RedisStore,
    is_wanted: &dyn Fn(&SnapshotHead) -> bool,
    sink: &mut dyn Sink,
) -> Result<Option<Loaded>, BackendError> {
    let mut loading = Loading { store, connection: store.connect()?, claims: true };
    for _ in 0..TRIES {
        let current = store.current(&mut loading.connection)?;
        let mut refused = Vec::new();
        let others = store.versions(&mut loading.connection)?;
        let others = others.into_iter().filter(|id| Some(id) != current.as_ref());
        let mut is_stale = false;
        for id in current.clone().into_iter().chain(others) {
            let is_current = Some(&id) == current.as_ref();
            match loading.give(&id, is_current, is_wanted, sink) {
                Ok(Some(loaded)) => return Ok(Some(Loaded { refused, ..loaded })),
                Ok(None) => {}
                Err(Failure::Backend(error)) => return Err(error),
                Err(Failure::Refused(reason)) => {
                    // A saver was faster: what it replaced it may have removed.
                    is_stale = store.current(&mut loading.connection)? != current;
                    if is_stale {
                        break;
                    }
                    loading.doubt(&id);
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

/// What the oldest whole snapshot is of.
pub(super) fn oldest(store: &RedisStore) -> Result<Option<SnapshotHead>, BackendError> {
    let mut connection = store.connect()?;
    for id in store.versions(&mut connection)?.iter().rev() {
        let fields = head_fields(store, &mut connection, id)?;
        if let Ok(head) = read_head(&fields) {
            return Ok(Some(head.head));
        }
    }
    Ok(None)
}

type Fields = HashMap<String, Vec<u8>>;

fn head_fields(
    store: &RedisStore,
    of: &mut Connection,
    id: &str,
) -> Result<HashMap<String, String>, BackendError> {
    store.said(redis::cmd("HGETALL").arg(store.key_of(id, "head")).query(of))
}

impl Loading<'_> {
    fn claim(&mut self, id: &str) {
        if self.claims {
            let mut claim = redis::cmd("SET");
            claim.arg(self.store.key_of(id, "loading")).arg(1);
            claim.arg("PX").arg(CLAIM.as_millis() as u64);
            self.claims = claim.query::<()>(&mut self.connection).is_ok();
        }
    }

    /// Says that a snapshot was refused. Where nothing may be written the next saves find out by and by.
    fn doubt(&mut self, id: &str) {
        let mut doubt = redis::cmd("SET");
        doubt.arg(self.store.key("doubt")).arg(id);
        let _said = doubt.query::<()>(&mut self.connection);
    }

    /// Gives a version to `sink` when all of it is good; nothing when it is no whole snapshot, or not wanted.
    fn give(
        &mut self,
        id: &str,
        is_current: bool,
        is_wanted: &dyn Fn(&SnapshotHead) -> bool,
        sink: &mut dyn Sink,
    ) -> Result<Option<Loaded>, Failure> {
        // What has no head is left by a saver, and not to be held.
        if !is_current && !self.store.has_head(&mut self.connection, id)? {
            return Ok(None);
        }
        self.claim(id);
        let fields = head_fields(self.store, &mut self.connection, id)?;
        if fields.is_empty() {
            let gone = "its head is gone: the server has evicted or flushed it";
            return if is_current { Err(Failure::Refused(gone.to_owned())) } else { Ok(None) };
        }
        let head = read_head(&fields).map_err(Failure::Refused)?;
        if !is_wanted(&head.head) {
            return Ok(None);
        }
        self.each(id, &head, &mut |_| Ok(()))?;
        sink.expect(head.entries);
        sink.begin(&head.head)?;
        let again = self.each(id, &head, &mut |entry| sink.entry(entry));
        again.map_err(|failure| match failure {
            // Too late for another one.
            Failure::Refused(reason) => {
                let at = format!("{}, {}{id}", self.store.at(), self.store.prefix);
                Failure::Backend(BackendError::Damaged { at, reason })
            }
            failure => failure,
        })?;
        Ok(Some(Loaded { head: head.head, entries: head.entries, refused: Vec::new() }))
    }

    /// Reads all entries, one part of the index at a time; refuses when they are not what was sealed.
    fn each(
        &mut self,
        id: &str,
        head: &Head,
        each: &mut dyn FnMut(&SnapshotEntry) -> Result<(), BackendError>,
    ) -> Result<(), Failure> {
        let (mut place, mut content) = (Place::default(), Content::default());
        loop {
            self.claim(id);
            let part = self.part(id, head, &mut place)?;
            if part.is_empty() {
                let refusal = content.refusal(&head.head, head.entries, &head.checksum);
                return refusal.map_or(Ok(()), |reason| Err(Failure::Refused(reason)));
            }
            let mut rest = &part[..];
            for count in self.shares(head, &part)? {
                let (now, later) = rest.split_at(count);
                for entry in self.entries(now)? {
                    content.add(&entry);
                    each(&entry)?;
                }
                rest = later;
            }
        }
    }

    /// Reads these entries at once.
    fn entries(&mut self, named: &[Named]) -> Result<Vec<SnapshotEntry>, Failure> {
        let mut get = redis::pipe();
        for (_, name) in named {
            get.cmd("HGETALL").arg(name);
        }
        let found = self.store.exchange(&mut self.connection, &get)?;
        let entries = named.iter().zip(found).map(|((key, _), fields)| {
            let fields = redis::from_redis_value::<Fields>(fields);
            entry::read(key, fields.map_err(|error| error.to_string())?)
        });
        entries.collect::<Result<_, _>>().map_err(Failure::Refused)
    }

    /// How many of these go together: values may be long, and not many of them are held at a time.
    fn shares(&mut self, head: &Head, named: &[Named]) -> Result<Vec<usize>, Failure> {
        // A part of version 1 is of one batch.
        if head.version == old::VERSION || head.longest.is_some_and(|longest| longest <= MEDIUM) {
            return Ok(vec![named.len()]);
        }
        let mut ask = redis::pipe();
        for (_, name) in named {
            ask.cmd("HSTRLEN").arg(name).arg("value");
        }
        let sizes = self.store.exchange(&mut self.connection, &ask)?.into_iter();
        let sizes = sizes.map(|size| redis::from_redis_value(size).unwrap_or(0));
        Ok(shares(sizes))
    }

    /// The keys of the next part, each with the name of its entry; none at the end.
    fn part(&mut self, id: &str, head: &Head, place: &mut Place) -> Result<Vec<Named>, Failure> {
        let store = self.store;
        let part: Vec<_> = if head.version == old::VERSION {
            if place.number == head.chunks {
                return Ok(Vec::new());
            }
            let keys = store.said(old::part(store, &mut self.connection, id, place.number))?;
            place.number += 1;
            let named = keys.into_iter().map(|key| (key.clone(), old::name(store, id, &key)));
            named.collect()
        } else {
            // Behind the last one, not by a number: nothing is passed over, whatever else is removed.
            let from = place.member.take().map(|last| [b"(".as_slice(), &last].concat());
            let mut range = redis::cmd("ZRANGE");
            range.arg(store.key_of(id, "index")).arg(from.unwrap_or_else(|| b"-".to_vec()));
            range.arg("+").arg("BYLEX").arg("LIMIT").arg(0).arg(BATCH);
            let members: Vec<Vec<u8>> = store.said(range.query(&mut self.connection))?;
            place.member = members.last().cloned();
            let named = members.into_iter().map(|member| {
                let key = entry::key_of(&member).ok_or("a name in its index makes no sense")?;
                Ok((key.to_vec(), [store.key("entry:").as_bytes(), &member].concat()))
            });
            named.collect::<Result<_, &str>>().map_err(|why| Failure::Refused(why.to_owned()))?
        };
        if part.is_empty() && place.count < head.entries {
            let what = "its index, or a part of it, is gone: the server has evicted or flushed it";
            return Err(Failure::Refused(what.to_owned()));
        }
        place.count += part.len() as u64;
        Ok(part)
    }
}

fn read_head(fields: &HashMap<String, String>) -> Result<Head, String> {
    let get = |name: &str| fields.get(name).map(String::as_str);
    let wrong = |name: &str| format!("`{name}` of its head makes no sense");
    let number = |name: &str| {
        get(name).and_then(|digits| digits.parse::<u64>().ok()).ok_or_else(|| wrong(name))
    };
    let version = number("version")?;
    if ![old::VERSION, VERSION].contains(&version) {
        return Err(format!("it has version {version}, this membus reads up to {VERSION}"));
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
    let chunks = if version == old::VERSION { number("chunks")? } else { 0 };
    let longest = get("longest").and_then(|digits| digits.parse().ok());
    Ok(Head { head, version, entries: number("entries")?, chunks, checksum, longest })
}
