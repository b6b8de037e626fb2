//! Entries as Redis hashes, so that people read them with `HGETALL`.
//!
//! A value stands as it is; of a counter in decimal digits, of a structure as JSON, both only where that is
//! exact: else the bytes themselves, and the field `encoding` says `raw`.

use crate::backend::text;
use crate::snapshot_entry::SnapshotEntry;
use redis::Cmd;
use std::collections::HashMap;

/// The command that stores an entry under this name, and how many bytes it has, about.
pub(super) fn store(name: &str, entry: &SnapshotEntry) -> (Cmd, usize) {
    let (value, is_raw) = value(entry);
    let mut key = name.as_bytes().to_vec();
    key.extend_from_slice(&entry.key);
    let mut store = redis::cmd("HSET");
    let size = key.len() + value.len();
    store.arg(key).arg("value").arg(value);
    if is_raw {
        store.arg("encoding").arg("raw");
    }
    store.arg("kind").arg(text::kind(entry.kind)).arg("revision").arg(entry.revision);
    store.arg("time").arg(text::time(entry.time));
    if !entry.who.is_empty() {
        store.arg("who").arg(entry.who.as_slice());
    }
    if entry.expires != 0 {
        store.arg("expires").arg(text::time(entry.expires));
    }
    (store, size)
}

fn value(entry: &SnapshotEntry) -> (Vec<u8>, bool) {
    let bytes = entry.value.as_slice();
    match (entry.kind, <[u8; 8]>::try_from(bytes)) {
        (0, _) => (bytes.to_vec(), false),
        (1, _) => text::json_of(bytes).map_or_else(|| (bytes.to_vec(), true), |json| (json, false)),
        (2, Ok(number)) => (i64::from_le_bytes(number).to_string().into_bytes(), false),
        _ => (bytes.to_vec(), true),
    }
}

/// The entry that was stored so; what is wrong with it, when it is none.
pub(super) fn read(
    key: &[u8],
    mut fields: HashMap<String, Vec<u8>>,
) -> Result<SnapshotEntry, String> {
    let name = key.escape_ascii();
    if fields.is_empty() {
        return Err(format!("`{name}` is gone: the server has evicted, expired or flushed it"));
    }
    let wrong = |field: &str| format!("`{field}` of `{name}` makes no sense");
    let mut take = |field: &str| fields.remove(field);
    let text = |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let moment = |bytes| text(bytes).and_then(|text| text::parse_time(&text));
    let kind = text(take("kind")).and_then(|kind| text::parse_kind(&kind));
    let kind = kind.ok_or_else(|| wrong("kind"))?;
    let value = take("value").ok_or_else(|| wrong("value"))?;
    let value = match (take("encoding").as_deref(), kind) {
        (Some(b"raw"), _) | (None, 0) => value,
        (None, 1) => text::structure_of(&value).map_err(|_| wrong("value"))?,
        (None, 2) => {
            let number = text(Some(value)).and_then(|digits| digits.parse::<i64>().ok());
            number.ok_or_else(|| wrong("value"))?.to_le_bytes().to_vec()
        }
        _ => return Err(wrong("encoding")),
    };
    let revision = text(take("revision")).and_then(|digits| digits.parse().ok());
    let expires = match take("expires") {
        None => 0,
        expires => moment(expires).ok_or_else(|| wrong("expires"))?,
    };
    Ok(SnapshotEntry {
        key: key.to_vec(),
        value,
        kind,
        revision: revision.ok_or_else(|| wrong("revision"))?,
        time: moment(take("time")).ok_or_else(|| wrong("time"))?,
        who: take("who").unwrap_or_default(),
        expires,
    })
}
