//! Entries as rows, so that people read them: text where it is text, numbers where it is numbers.
//!
//! The kind and the type of a value say together what it is: of a structure, text is JSON and a blob is
//! MessagePack; of bytes, text is UTF-8. Text with a zero byte is kept as a blob, since SQL functions and
//! tools take it to end there.

use crate::backend::text;
use crate::snapshot_entry::SnapshotEntry;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Row, params_from_iter};
use std::borrow::Cow;

/// What the columns of [`Columns`] are called, in their order.
pub(super) const COLUMNS: &str = "key, value, kind, revision, updated_at, who, expires_at";

/// An entry as it stands in the columns.
pub(super) struct Columns<'a>([Cell<'a>; 7]);

/// One value.
#[derive(Debug, PartialEq)]
enum Cell<'a> {
    Null,
    Integer(i64),
    Text(Cow<'a, str>),
    Blob(&'a [u8]),
}

impl Cell<'_> {
    fn view(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }
    }
}

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.view()))
    }
}

fn text_or_blob(bytes: &[u8]) -> Cell<'_> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.contains(&0) => Cell::Text(Cow::Borrowed(text)),
        _ => Cell::Blob(bytes),
    }
}

fn value(entry: &SnapshotEntry) -> Cell<'_> {
    let value = entry.value.as_slice();
    match (entry.kind, <[u8; 8]>::try_from(value)) {
        (0, _) => text_or_blob(value),
        (1, _) => match text::json_of(value).and_then(|json| String::from_utf8(json).ok()) {
            Some(json) => Cell::Text(Cow::Owned(json)),
            None => Cell::Blob(value),
        },
        (2, Ok(bytes)) => Cell::Integer(i64::from_le_bytes(bytes)),
        _ => Cell::Blob(value),
    }
}

impl<'a> Columns<'a> {
    pub(super) fn of(entry: &'a SnapshotEntry) -> Self {
        let moment = |nanos| Cell::Text(Cow::Owned(text::time(nanos)));
        Self([
            text_or_blob(&entry.key),
            value(entry),
            Cell::Text(Cow::Owned(text::kind(entry.kind))),
            Cell::Integer(entry.revision.cast_signed()),
            moment(entry.time),
            if entry.who.is_empty() { Cell::Null } else { text_or_blob(&entry.who) },
            if entry.expires == 0 { Cell::Null } else { moment(entry.expires) },
        ])
    }

    pub(super) fn key(&self) -> impl ToSql {
        &self.0[0]
    }

    /// The values in their order.
    pub(super) fn values(&self) -> impl rusqlite::Params {
        params_from_iter(self.0.iter())
    }

    /// Whether a row has them already, its columns beginning with this one.
    pub(super) fn are_in(&self, row: &Row<'_>, from: usize) -> rusqlite::Result<bool> {
        for (number, cell) in self.0.iter().enumerate() {
            if row.get_ref(from + number)? != cell.view() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn bytes(value: ValueRef<'_>) -> Option<Vec<u8>> {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes.to_vec()),
        _ => None,
    }
}

fn moment(value: ValueRef<'_>) -> Option<u64> {
    text::parse_time(value.as_str().ok()?)
}

/// The entry of a row with [`COLUMNS`], or which column of it makes no sense.
pub(super) fn entry(row: &Row<'_>) -> rusqlite::Result<Result<SnapshotEntry, &'static str>> {
    let [key, value, kind, revision, time, who, expires] =
        [0, 1, 2, 3, 4, 5, 6].map(|number| row.get_ref(number));
    Ok(decode([key?, value?, kind?, revision?, time?, who?, expires?]))
}

fn decode(cells: [ValueRef<'_>; 7]) -> Result<SnapshotEntry, &'static str> {
    let [key, value, kind, revision, time, who, expires] = cells;
    let kind = kind.as_str().ok().and_then(text::parse_kind).ok_or("kind")?;
    let value = match (kind, value) {
        (1, ValueRef::Text(json)) => text::structure_of(json).map_err(|_| "value")?,
        (2, ValueRef::Integer(number)) => number.to_le_bytes().to_vec(),
        (0, value @ ValueRef::Text(_)) | (_, value @ ValueRef::Blob(_)) => {
            bytes(value).ok_or("value")?
        }
        _ => return Err("value"),
    };
    Ok(SnapshotEntry {
        key: bytes(key).ok_or("key")?,
        value,
        kind,
        revision: revision.as_i64().map_err(|_| "revision")?.cast_unsigned(),
        time: moment(time).ok_or("updated_at")?,
        who: match who {
            ValueRef::Null => Vec::new(),
            who => bytes(who).ok_or("who")?,
        },
        expires: match expires {
            ValueRef::Null => 0,
            expires => moment(expires).ok_or("expires_at")?,
        },
    })
}
