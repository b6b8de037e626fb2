//! The image format: a header, frames of entries with a CRC each, and a footer over all.
//!
//! ```text
//! header  | "MEMBUSIM" | version 4, byte order 4 | bus id 16 | incarnation 8 | revision 8 |
//!         | created 8 | CRC32C 4, zero 4 |
//! frame   | length 4 | entries 4 | CRC32C 4 of both and the bytes | bytes |
//! entry   | key length 2 | kind 1 | who length 1 | value length 4 | revision 8 | time 8 |
//!         | expires 8 | key | who | value |
//! footer  | 0xffffffff 4 | entries 8 | bytes before it 8 | revision 8 | incarnation 8 |
//!         | XXH3 of all before 8 | "MEMBUSFM" |
//! ```
//!
//! Everything is little-endian. A file is whole when its footer is, and nothing comes after it.
//! A length that the file names is never allocated before so many bytes were read.

pub(crate) use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use std::io::{self, Read, Write};
use xxhash_rust::xxh3::Xxh3;

/// First bytes of an image.
pub(crate) const MAGIC: [u8; 8] = *b"MEMBUSIM";
/// Last bytes of an image.
pub(crate) const END: [u8; 8] = *b"MEMBUSFM";
/// Version of the format.
pub(crate) const VERSION: u32 = 1;
const BYTE_ORDER: u32 = 0x0102_0304;
const HEADER: usize = 64;
const FOOTER: usize = 48;
const FOOTER_MARK: u32 = u32::MAX;
/// Bytes from which on a frame is written.
const FRAME: usize = 64 << 10;
const ENTRY_FIXED: usize = 32;

/// What was written or found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Summary {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

/// What is wrong with an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FormatError {
    #[error("it is no membus image")]
    Magic,
    #[error("it has format version {found}, this membus reads {VERSION}")]
    Version { found: u32 },
    #[error("it was written on a machine of another byte order")]
    ByteOrder,
    #[error("the header's checksum is {found:#x}, its bytes give {expected:#x}")]
    Header { found: u32, expected: u32 },
    #[error("the frame at byte {at} has the checksum {found:#x}, its bytes give {expected:#x}")]
    Frame { at: u64, found: u32, expected: u32 },
    #[error("the frame at byte {at} holds an entry that does not fit into it")]
    Entry { at: u64 },
    #[error("it ends at byte {at}, in the middle")]
    Cut { at: u64 },
    #[error("the footer at byte {at} does not fit what comes before it ({what})")]
    Footer { at: u64, what: &'static str },
    #[error("bytes follow the footer, which ends at byte {at}")]
    Trailing { at: u64 },
    #[error("reading at byte {at}: {source}")]
    Io { at: u64, source: io::Error },
}

/// Writes an image as a stream.
pub(crate) struct Writer<W> {
    to: W,
    sum: Xxh3,
    frame: Vec<u8>,
    count: u32,
    head: SnapshotHead,
    summary: Summary,
}

impl<W> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("head", &self.head).finish_non_exhaustive()
    }
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(to: W, head: &SnapshotHead) -> io::Result<Self> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&BYTE_ORDER.to_le_bytes());
        bytes.extend_from_slice(&head.bus_id.to_le_bytes());
        for word in [head.incarnation, head.revision, head.created] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let (sum, frame) = (Xxh3::new(), Vec::with_capacity(2 * FRAME));
        let mut this = Self { to, sum, frame, count: 0, head: *head, summary: Summary::default() };
        this.put(&bytes)?;
        Ok(this)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.summary.bytes += bytes.len() as u64;
        self.to.write_all(bytes)
    }

    pub(crate) fn push(&mut self, entry: &SnapshotEntry) -> io::Result<()> {
        let long = |_| io::Error::other("an entry longer than an image can hold");
        let key = u16::try_from(entry.key.len()).map_err(long)?;
        let who = u8::try_from(entry.who.len()).map_err(long)?;
        let value = u32::try_from(entry.value.len()).map_err(long)?;
        let size = ENTRY_FIXED + entry.key.len() + entry.who.len() + entry.value.len();
        // A frame of just as many bytes as the footer's mark would be taken for it.
        if self.frame.len() + size >= FOOTER_MARK as usize && self.count > 0 {
            self.flush()?;
        }
        self.frame.extend_from_slice(&key.to_le_bytes());
        self.frame.extend_from_slice(&[entry.kind, who]);
        self.frame.extend_from_slice(&value.to_le_bytes());
        for word in [entry.revision, entry.time, entry.expires] {
            self.frame.extend_from_slice(&word.to_le_bytes());
        }
        self.frame.extend_from_slice(&entry.key);
        self.frame.extend_from_slice(&entry.who);
        self.frame.extend_from_slice(&entry.value);
        self.count += 1;
        self.summary.entries += 1;
        if self.frame.len() >= FRAME { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let long = || io::Error::other("a frame longer than an image can hold");
        let len = u32::try_from(self.frame.len()).ok().filter(|len| *len != FOOTER_MARK);
        let len = len.ok_or_else(long)?;
        let mut bytes = [len.to_le_bytes(), self.count.to_le_bytes()].concat();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), &self.frame);
        bytes.extend_from_slice(&crc.to_le_bytes());
        self.put(&bytes)?;
        let frame = std::mem::take(&mut self.frame);
        self.put(&frame)?;
        self.frame = frame;
        self.frame.clear();
        self.count = 0;
        Ok(())
    }

    /// Writes the footer. What was written is whole from here on.
    pub(crate) fn finish(mut self) -> io::Result<(W, Summary)> {
        self.flush()?;
        let mut bytes = FOOTER_MARK.to_le_bytes().to_vec();
        let Summary { entries, bytes: before } = self.summary;
        for word in [entries, before, self.head.revision, self.head.incarnation] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        self.sum.update(&bytes);
        bytes.extend_from_slice(&self.sum.digest().to_le_bytes());
        bytes.extend_from_slice(&END);
        self.to.write_all(&bytes)?;
        self.to.flush()?;
        self.summary.bytes += bytes.len() as u64;
        Ok((self.to, self.summary))
    }
}

/// An entry's parts in its frame.
struct Parts<'a> {
    fixed: &'a [u8],
    key: &'a [u8],
    who: &'a [u8],
    value: &'a [u8],
}

/// Reads an image as a stream. Entries are good one frame at a time; the image is, once the end
/// was reached without an error.
pub(crate) struct Reader<R> {
    from: R,
    sum: Xxh3,
    at: u64,
    head: SnapshotHead,
    frame: Vec<u8>,
    frame_at: u64,
    next: usize,
    left: u32,
    entries: u64,
    ended: bool,
}

impl<R> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("head", &self.head)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    let some = bytes.get(at..at + 8).unwrap_or(&[0; 8]);
    eight.copy_from_slice(some);
    u64::from_le_bytes(eight)
}

fn half(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(bytes.get(at..at + 4).unwrap_or(&[0; 4]));
    u32::from_le_bytes(four)
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(from: R) -> Result<Self, FormatError> {
        let mut this = Self {
            from,
            sum: Xxh3::new(),
            at: 0,
            head: SnapshotHead::default(),
            frame: Vec::new(),
            frame_at: 0,
            next: 0,
            left: 0,
            entries: 0,
            ended: false,
        };
        let bytes = this.take(HEADER)?;
        if bytes.get(..8) != Some(&MAGIC) {
            return Err(FormatError::Magic);
        }
        if half(&bytes, 12) != BYTE_ORDER {
            return Err(FormatError::ByteOrder);
        }
        if half(&bytes, 8) != VERSION {
            return Err(FormatError::Version { found: half(&bytes, 8) });
        }
        let (found, expected) = (half(&bytes, 56), crc32c::crc32c(&bytes[..56]));
        if found != expected || half(&bytes, 60) != 0 {
            return Err(FormatError::Header { found, expected });
        }
        this.sum.update(&bytes);
        this.head = SnapshotHead {
            bus_id: u128::from(word(&bytes, 16)) | u128::from(word(&bytes, 24)) << 64,
            incarnation: word(&bytes, 32),
            revision: word(&bytes, 40),
            created: word(&bytes, 48),
        };
        Ok(this)
    }

    pub(crate) fn head(&self) -> &SnapshotHead {
        &self.head
    }

    /// Reads so many bytes; memory grows only with what is really there.
    fn take(&mut self, len: usize) -> Result<Vec<u8>, FormatError> {
        let mut bytes = Vec::new();
        self.take_into(len, &mut bytes)?;
        Ok(bytes)
    }

    /// The same in place of what `bytes` holds.
    fn take_into(&mut self, len: usize, bytes: &mut Vec<u8>) -> Result<(), FormatError> {
        bytes.clear();
        let end = (&mut self.from).take(len as u64).read_to_end(bytes);
        let read = end.map_err(|source| FormatError::Io { at: self.at, source })?;
        self.at += read as u64;
        if read < len { Err(FormatError::Cut { at: self.at }) } else { Ok(()) }
    }

    /// Reads the next frame: `false` at the footer.
    fn advance(&mut self) -> Result<bool, FormatError> {
        self.frame_at = self.at;
        let mark = self.take(4)?;
        if half(&mark, 0) == FOOTER_MARK {
            self.footer(mark)?;
            return Ok(false);
        }
        let mut bytes = mark;
        bytes.extend(self.take(8)?);
        let len = half(&bytes, 0) as usize;
        let mut frame = std::mem::take(&mut self.frame);
        let end = self.take_into(len, &mut frame);
        self.frame = frame;
        end?;
        let found = half(&bytes, 8);
        let expected = crc32c::crc32c_append(crc32c::crc32c(&bytes[..8]), &self.frame);
        if found != expected {
            return Err(FormatError::Frame { at: self.frame_at, found, expected });
        }
        self.sum.update(&bytes);
        self.sum.update(&self.frame);
        self.left = half(&bytes, 4);
        self.next = 0;
        if self.left == 0 {
            return Err(FormatError::Entry { at: self.frame_at });
        }
        Ok(true)
    }

    fn footer(&mut self, mark: Vec<u8>) -> Result<(), FormatError> {
        let at = self.frame_at;
        let mut bytes = mark;
        bytes.extend(self.take(FOOTER)?);
        let wrong = |what| Err(FormatError::Footer { at, what });
        self.sum.update(&bytes[..36]);
        if bytes.get(44..52) != Some(&END) {
            return wrong("its end mark");
        }
        if word(&bytes, 36) != self.sum.digest() {
            return wrong("the checksum of all");
        }
        if word(&bytes, 4) != self.entries {
            return wrong("the count of entries");
        }
        if word(&bytes, 12) != at {
            return wrong("the count of bytes");
        }
        if (word(&bytes, 20), word(&bytes, 28)) != (self.head.revision, self.head.incarnation) {
            return wrong("revision and incarnation");
        }
        let mut more = Vec::new();
        let end = (&mut self.from).take(1).read_to_end(&mut more);
        match end.map_err(|source| FormatError::Io { at: self.at, source })? {
            0 => Ok(()),
            _ => Err(FormatError::Trailing { at: self.at }),
        }
    }

    /// Passes the frame's next entry, and gives its parts.
    fn parts(&mut self) -> Option<Parts<'_>> {
        let bytes = self.frame.get(self.next..)?;
        let fixed = bytes.get(..ENTRY_FIXED)?;
        let (key_len, who_len) =
            (usize::from(u16::from_le_bytes([fixed[0], fixed[1]])), usize::from(fixed[3]));
        let value_len = half(fixed, 4) as usize;
        let key = bytes.get(ENTRY_FIXED..ENTRY_FIXED + key_len)?;
        let bytes = bytes.get(ENTRY_FIXED + key_len..)?;
        let (who, value) = (bytes.get(..who_len)?, bytes.get(who_len..who_len + value_len)?);
        self.next += ENTRY_FIXED + key_len + who_len + value_len;
        Some(Parts { fixed, key, who, value })
    }

    /// The parts of the next entry, or `None` at the whole image's end.
    fn next_parts(&mut self) -> Result<Option<Parts<'_>>, FormatError> {
        if self.ended {
            return Ok(None);
        }
        if self.left == 0 {
            if self.next != self.frame.len() {
                return Err(FormatError::Entry { at: self.frame_at });
            }
            if !self.advance()? {
                self.ended = true;
                return Ok(None);
            }
        }
        self.left -= 1;
        self.entries += 1;
        let at = self.frame_at;
        self.parts().ok_or(FormatError::Entry { at }).map(Some)
    }

    /// Reads the next entry into `into`, whose buffers are used again: `false` at the whole image's end.
    pub(crate) fn next_into(&mut self, into: &mut SnapshotEntry) -> Result<bool, FormatError> {
        let Some(Parts { fixed, key, who, value }) = self.next_parts()? else { return Ok(false) };
        into.clear();
        into.key.extend_from_slice(key);
        into.value.extend_from_slice(value);
        into.who.extend_from_slice(who);
        into.kind = fixed[2];
        (into.revision, into.time) = (word(fixed, 8), word(fixed, 16));
        into.expires = word(fixed, 24);
        Ok(true)
    }

    /// Reads all that is left, and looks whether it is good.
    pub(crate) fn verify(&mut self) -> Result<(), FormatError> {
        while self.next_parts()?.is_some() {}
        Ok(())
    }

    /// What was read, once the end was reached.
    pub(crate) fn summary(&self) -> Summary {
        Summary { entries: self.entries, bytes: self.at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(count: u64) -> (Vec<u8>, Vec<SnapshotEntry>) {
        let head = SnapshotHead { bus_id: 1 << 100, incarnation: 7, revision: 99, created: 5 };
        let mut writer = Writer::new(Vec::new(), &head).unwrap();
        let mut entries = Vec::new();
        for number in 0..count {
            entries.push(SnapshotEntry {
                key: format!("key{number}").into_bytes(),
                value: vec![number as u8; (number * 37 % 3000) as usize],
                kind: (number % 3) as u8,
                revision: number + 1,
                time: 2,
                who: b"somebody"[..(number % 9) as usize].to_vec(),
                expires: number % 2,
            });
        }
        entries.iter().for_each(|entry| writer.push(entry).unwrap());
        let (bytes, summary) = writer.finish().unwrap();
        assert_eq!((summary.entries, summary.bytes), (count, bytes.len() as u64));
        (bytes, entries)
    }

    fn read(bytes: &[u8]) -> Result<Vec<SnapshotEntry>, FormatError> {
        let mut reader = Reader::new(bytes)?;
        let mut entries = Vec::new();
        let mut entry = SnapshotEntry::default();
        while reader.next_into(&mut entry)? {
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    #[test]
    fn what_goes_in_comes_out() {
        for count in [0, 1, 500] {
            let (bytes, entries) = image(count);
            assert_eq!(read(&bytes).unwrap(), entries);
        }
    }

    /// Plants: without the checksum of all, a frame left out passes; without the look behind the
    /// footer, trailing bytes do.
    #[test]
    fn every_cut_flip_and_splice_is_refused() {
        let (bytes, _) = image(60);
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(read(&bad).is_err(), "flip at {at}");
        }
        for (from, to) in (0..bytes.len()).step_by(97).zip((0..bytes.len()).rev().step_by(89)) {
            let mut bad = bytes.clone();
            bad.splice(from..from, bytes[to..].iter().copied());
            assert!(read(&bad).is_err(), "splice of {to}.. at {from}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(read(&longer), Err(FormatError::Trailing { .. })));
    }
}
