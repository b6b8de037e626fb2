//! Writing the document: its head, a line for each entry, its foot.

use crate::backend::content::Content;
use crate::backend::text;
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use serde::Serialize;
use std::io::{self, Write};

/// Writes a document as a stream.
#[derive(Debug)]
pub(super) struct Writer<W> {
    to: W,
    line: Vec<u8>,
    head: SnapshotHead,
    content: Content,
}

/// Adds a field to an object.
fn field(line: &mut Vec<u8>, name: &str, value: impl Serialize) -> io::Result<()> {
    line.push(if line.is_empty() { b'{' } else { b',' });
    write!(line, "\"{name}\":")?;
    Ok(serde_json::to_writer(line, &value)?)
}

/// Bytes as a text, or marked as base64.
fn text_or_base64(line: &mut Vec<u8>, name: &str, mark: &str, bytes: &[u8]) -> io::Result<()> {
    match std::str::from_utf8(bytes) {
        Ok(text) => field(line, name, text),
        Err(_) => packed(line, name, mark, bytes),
    }
}

fn packed(line: &mut Vec<u8>, name: &str, mark: &str, bytes: &[u8]) -> io::Result<()> {
    field(line, name, text::base64(bytes))?;
    field(line, mark, "base64")
}

fn value(line: &mut Vec<u8>, entry: &SnapshotEntry) -> io::Result<()> {
    let value = entry.value.as_slice();
    match (entry.kind, <[u8; 8]>::try_from(value)) {
        (0, _) => text_or_base64(line, "value", "encoding", value),
        (1, _) => match text::json_of(value) {
            Some(json) => {
                line.extend_from_slice(b",\"value\":");
                line.extend_from_slice(&json);
                Ok(())
            }
            None => packed(line, "value", "encoding", value),
        },
        (2, Ok(bytes)) => field(line, "value", i64::from_le_bytes(bytes)),
        _ => packed(line, "value", "encoding", value),
    }
}

/// Adds an entry as an object.
pub(crate) fn entry_line(line: &mut Vec<u8>, entry: &SnapshotEntry) -> io::Result<()> {
    text_or_base64(line, "key", "key_encoding", &entry.key)?;
    value(line, entry)?;
    field(line, "kind", text::kind(entry.kind))?;
    field(line, "revision", entry.revision)?;
    field(line, "time", text::time(entry.time))?;
    if !entry.who.is_empty() {
        text_or_base64(line, "who", "who_encoding", &entry.who)?;
    }
    if entry.expires != 0 {
        field(line, "expires", text::time(entry.expires))?;
    }
    line.push(b'}');
    Ok(())
}

impl<W: Write> Writer<W> {
    pub(super) fn new(mut to: W, head: &SnapshotHead) -> io::Result<Self> {
        let mut line = Vec::new();
        field(&mut line, "membus", "snapshot")?;
        field(&mut line, "version", super::VERSION)?;
        field(&mut line, "bus_id", format!("{:032x}", head.bus_id))?;
        field(&mut line, "incarnation", format!("{:016x}", head.incarnation))?;
        field(&mut line, "revision", head.revision)?;
        field(&mut line, "created", text::time(head.created))?;
        line.extend_from_slice(b",\"entries\":[\n");
        to.write_all(&line)?;
        Ok(Self { to, line, head: *head, content: Content::default() })
    }

    pub(super) fn push(&mut self, entry: &SnapshotEntry) -> io::Result<()> {
        if self.content.count > 0 {
            self.to.write_all(b",\n")?;
        }
        self.line.clear();
        entry_line(&mut self.line, entry)?;
        self.content.add(entry);
        self.to.write_all(&self.line)
    }

    /// Writes the foot: the document is whole from here on. Gives the count of entries.
    pub(super) fn finish(mut self) -> io::Result<(W, u64)> {
        let (count, seal) = (self.content.count, self.content.seal(&self.head));
        let end = if count > 0 { "\n" } else { "" };
        writeln!(self.to, "{end}],\"count\":{count},\"checksum\":\"{seal}\"}}")?;
        Ok((self.to, count))
    }
}
