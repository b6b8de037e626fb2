//! A backend of a program's own: snapshots as tab-separated lines, one file each.
//!
//! The contract is three rules (`membus::Backend`): whole or absent, exact, refuses. Here a temporary file is
//! synced and renamed, so there is the old file or the new one; binary parts are hexadecimal; the last line
//! has the count and a checksum, without which a file is refused.

#![expect(clippy::print_stdout, reason = "it shows what it does")]

use membus::{
    Backend, BackendError, Bus, Loaded, Persist, ReadBus, Saved, Sink, SnapshotEntry, SnapshotHead,
    Source, copy_snapshot,
};
use std::fmt::Write as _;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug)]
struct Lines {
    path: PathBuf,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(digits).collect()
}

fn line_of(entry: &SnapshotEntry) -> String {
    let SnapshotEntry { key, value, kind, revision, time, who, expires } = entry;
    let (key, value, who) = (hex(key), hex(value), hex(who));
    format!("{key}\t{kind}\t{revision}\t{time}\t{expires}\t{who}\t{value}")
}

fn entry_of(line: &str) -> Option<SnapshotEntry> {
    let mut parts = line.split('\t');
    let mut next = || parts.next();
    Some(SnapshotEntry {
        key: unhex(next()?)?,
        kind: next()?.parse().ok()?,
        revision: next()?.parse().ok()?,
        time: next()?.parse().ok()?,
        expires: next()?.parse().ok()?,
        who: unhex(next()?)?,
        value: unhex(next()?)?,
    })
}

impl Lines {
    fn damaged(&self, reason: &str) -> BackendError {
        BackendError::Damaged { at: self.path.display().to_string(), reason: reason.to_owned() }
    }

    /// Reads it all; the entries go to `sink`, where there is one.
    fn read(&self, file: File, sink: Option<&mut dyn Sink>) -> Result<Loaded, BackendError> {
        let mut lines = BufReader::new(file).lines();
        let mut sum = DefaultHasher::new();
        let mut sink = sink;
        let first = lines.next().transpose().map_err(BackendError::io(&self.path))?;
        let numbers: Vec<u128> =
            first.iter().flat_map(|line| line.split('\t')).map_while(|n| n.parse().ok()).collect();
        let &[bus_id, incarnation, revision, created] = numbers.as_slice() else {
            return Err(self.damaged("it has no head"));
        };
        let word = |number: u128| u64::try_from(number).unwrap_or_default();
        let (incarnation, revision, created) = (word(incarnation), word(revision), word(created));
        let head = SnapshotHead { bus_id, incarnation, revision, created };
        sum.write(first.unwrap_or_default().as_bytes());
        if let Some(sink) = &mut sink {
            sink.begin(&head)?;
        }
        for (number, line) in lines.enumerate() {
            let entries = number as u64;
            let line = line.map_err(BackendError::io(&self.path))?;
            if let Some(foot) = line.strip_prefix("end\t") {
                let right = foot == format!("{entries}\t{}", sum.finish());
                let whole = Loaded { head, entries, refused: Vec::new() };
                return if right { Ok(whole) } else { Err(self.damaged("its checksum is wrong")) };
            }
            sum.write(line.as_bytes());
            let entry = entry_of(&line).ok_or_else(|| self.damaged("a line makes no sense"))?;
            if let Some(sink) = &mut sink {
                sink.entry(&entry)?;
            }
        }
        Err(self.damaged("it has no end"))
    }
}

impl Backend for Lines {
    fn save(&self, head: &SnapshotHead, entries: &mut dyn Source) -> Result<Saved, BackendError> {
        let fail = BackendError::io(&self.path);
        let new = self.path.with_extension("new");
        let mut out = BufWriter::new(File::create(&new).map_err(&fail)?);
        let mut sum = DefaultHasher::new();
        let SnapshotHead { bus_id, incarnation, revision, created } = head;
        let first = format!("{bus_id}\t{incarnation}\t{revision}\t{created}");
        sum.write(first.as_bytes());
        writeln!(out, "{first}").map_err(&fail)?;
        let mut count = 0;
        // When the source gives up, the old file is still the one that counts.
        while let Some(entry) = entries.next_entry()? {
            let line = line_of(&entry);
            sum.write(line.as_bytes());
            writeln!(out, "{line}").map_err(&fail)?;
            count += 1;
        }
        writeln!(out, "end\t{count}\t{}", sum.finish()).map_err(&fail)?;
        let file = out.into_inner().map_err(|error| fail(error.into_error()))?;
        file.sync_all().map_err(&fail)?;
        let bytes = file.metadata().map_err(&fail)?.len();
        std::fs::rename(&new, &self.path).map_err(&fail)?;
        if let Some(directory) = self.path.parent() {
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(&fail)?;
        }
        Ok(Saved { entries: count, bytes, path: Some(self.path.clone()) })
    }

    fn load(&self, sink: &mut dyn Sink) -> Result<Option<Loaded>, BackendError> {
        let open = || match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some).map_err(BackendError::io(&self.path)),
        };
        let (Some(once), Some(again)) = (open()?, open()?) else { return Ok(None) };
        // All of it is looked at before any of it is handed out.
        self.read(once, None)?;
        self.read(again, Some(sink)).map(Some)
    }

    fn exists(&self) -> Result<bool, BackendError> {
        self.path.try_exists().map_err(BackendError::io(&self.path))
    }

    fn delete(&self) -> Result<(), BackendError> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            end => end.map_err(BackendError::io(&self.path)),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = tempfile::tempdir()?;
    let lines = Arc::new(Lines { path: place.path().join("orders.tsv") });
    let options = || Bus::options().state(place.path().join("state")).label("example");
    let mine = || options().backend(Arc::<Lines>::clone(&lines));
    let path = place.path().join("orders");

    let bus = mine().open_at(&path)?;
    bus.set("price/ACME", &101.5)?;
    bus.set_bytes("raw", b"\0\t\n\xff")?;
    bus.add("orders", 3)?;
    bus.close()?;

    // The host was restarted: the bus is built anew from the lines.
    std::fs::remove_dir_all(&path)?;
    let bus = mine().open_at(&path)?;
    assert_eq!(bus.get::<f64>("price/ACME")?, Some(101.5));
    assert_eq!(bus.get_bytes("raw")?.as_deref(), Some(&b"\0\t\n\xff"[..]));
    assert_eq!(bus.get::<i64>("orders")?, Some(3));
    println!("{} entries came back from {}", bus.len()?, lines.path.display());

    // Copied to a format of membus's own.
    let images: Persist = format!("image:{}", place.path().join("images").display()).parse()?;
    let to = images.backend(1)?.ok_or("there is no such backend")?;
    let copied = copy_snapshot(&*lines, &*to, |_| ControlFlow::Continue(()))?
        .ok_or("there is no snapshot")?;
    println!("{} entries copied to {images}", copied.1.entries);

    // What was damaged is refused.
    let text = std::fs::read_to_string(&lines.path)?;
    std::fs::write(&lines.path, text.replace("\t2\t", "\t1\t"))?;
    let refused = copy_snapshot(&*lines, &*to, |_| ControlFlow::Continue(()));
    println!("refused: {}", refused.err().ok_or("it was accepted")?);
    Ok(())
}
