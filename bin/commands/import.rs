//! `import`: entries from JSON lines.

use crate::error::{Failure, Outcome};
use crate::output::{object_of, write_json};
use crate::tool::{Tool, options};
use membus::{BackendError, SnapshotEntry, Source, limits};
use serde_json::json;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

/// Set the entries that JSON lines describe; prints how many
///
/// Reads what `membus export` writes. "key" and "value" are enough: a value is then a structure, any JSON, and
/// its time is now. What is there under other keys stays; `membus restore` replaces everything. Lines are set
/// some hundred at a time: after a line that is wrong those before it may be there. A bus that is not there is made.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// Where the lines are; `-` is standard input
    #[arg(value_name = "FILE|-", default_value = "-")]
    from: OsString,
    /// Who sets what says of nobody that he made it [default: cli]
    #[arg(long, value_name = "LABEL")]
    who: Option<String>,
}

/// Refuses what no bus has, while the line is known.
fn checked(entry: SnapshotEntry) -> Result<SnapshotEntry, String> {
    match (entry.key.len(), entry.who.len()) {
        (1..=limits::KEY_MAX, ..=limits::LABEL_MAX) => Ok(entry),
        (1..=limits::KEY_MAX, label) => {
            Err(format!("a label of {label} bytes; {} at most", limits::LABEL_MAX))
        }
        (key, _) => Err(format!("a key of {key} bytes; 1 to {}", limits::KEY_MAX)),
    }
}

/// The lines, as they come.
struct Lines<'a, R> {
    from: R,
    path: &'a Path,
    line: usize,
    wrong: Option<Failure>,
}

impl<R: BufRead> Lines<'_, R> {
    fn next(&mut self) -> Result<Option<SnapshotEntry>, Failure> {
        let mut text = Vec::new();
        loop {
            text.clear();
            let read = self.from.read_until(b'\n', &mut text);
            if read.map_err(Failure::io("reading", self.path))? == 0 {
                return Ok(None);
            }
            self.line += 1;
            if !text.trim_ascii().is_empty() {
                let wrong = |reason| Failure::Line { line: self.line, reason };
                let entry = SnapshotEntry::from_json(&text).and_then(checked);
                return entry.map(Some).map_err(wrong);
            }
        }
    }
}

impl<R: BufRead> Source for Lines<'_, R> {
    fn next_entry(&mut self) -> Result<Option<SnapshotEntry>, BackendError> {
        self.next().map_err(|wrong| {
            self.wrong = Some(wrong);
            BackendError::GivenUp
        })
    }
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        if self.from == "-" {
            return self.import(tool, out, std::io::stdin().lock(), Path::new("standard input"));
        }
        let path = Path::new(&self.from);
        let file = File::open(path).map_err(Failure::io("opening", path))?;
        self.import(tool, out, BufReader::new(file), path)
    }

    fn import(
        &self,
        tool: &Tool,
        out: &mut impl Write,
        from: impl BufRead,
        path: &Path,
    ) -> Result<Outcome, Failure> {
        crate::report::begin();
        let bus = options(self.who.as_deref()).open_at(tool.path(&self.name)?)?;
        let mut lines = Lines { from, path, line: 0, wrong: None };
        let end = bus.import(&mut lines);
        if let Some(wrong) = lines.wrong {
            return Err(wrong);
        }
        let entries = end?;
        if tool.json {
            write_json(out, object_of(json!({"entries": entries})))?;
        } else {
            writeln!(out, "{entries}")?;
        }
        Ok(Outcome::Done)
    }
}
