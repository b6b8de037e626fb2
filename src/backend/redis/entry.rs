//! Entries as Redis hashes, so that people read them with `HGETALL`.
//!
//! A value stands as it is; of a counter in decimal digits, of a structure as JSON, both only where that is
//! exact: else the bytes themselves, and the field `encoding` says `raw`.

use crate::backend::text;
use crate::snapshot_entry::SnapshotEntry;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::HashMap;

/// Letters of a hash in a name.
const HASH: usize = 22;

/// How an index lists an entry with this hash, and how its name goes on behind `entry:`: `KEY:HASH`.
pub(super) fn member(key: &[u8], hash: u128) -> Vec<u8> {
    let hash = URL_SAFE_NO_PAD.encode(hash.to_le_bytes());
    [key, b":", hash.as_bytes()].concat()
}

/// The key of it; nothing when it is none.
pub(super) fn key_of(member: &[u8]) -> Option<&[u8]> {
    let (key, hash) = member.split_at_checked(member.len().checked_sub(HASH + 1)?)?;
    hash.starts_with(b":").then_some(key)
}

/// What stands in the hash of an entry, names and values, and how many bytes that is.
pub(super) fn fields(entry: SnapshotEntry) -> (Vec<Vec<u8>>, usize) {
    let (value, is_raw) = value(entry.kind, entry.value);
    let mut fields = vec![b"value".to_vec(), value];
    let mut put = |name: &str, value: Vec<u8>| fields.extend([name.as_bytes().to_vec(), value]);
    if is_raw {
        put("encoding", b"raw".to_vec());
    }
    put("kind", text::kind(entry.kind).into_bytes());
    put("revision", entry.revision.to_string().into_bytes());
    put("time", text::time(entry.time).into_bytes());
    if !entry.who.is_empty() {
        put("who", entry.who);
    }
    if entry.expires != 0 {
        put("expires", text::time(entry.expires).into_bytes());
    }
    let size = fields.iter().map(Vec::len).sum();
    (fields, size)
}

fn value(kind: u8, bytes: Vec<u8>) -> (Vec<u8>, bool) {
    match (kind, <[u8; 8]>::try_from(bytes.as_slice())) {
        (0, _) => (bytes, false),
        (1, _) => match text::json_of(&bytes) {
            Some(json) => (json, false),
            None => (bytes, true),
        },
        (2, Ok(number)) => (i64::from_le_bytes(number).to_string().into_bytes(), false),
        _ => (bytes, true),
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
