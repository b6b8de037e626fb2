//! `batch`: changes and conditions, all or none.

use crate::error::{Failure, Outcome};
use crate::output::{object_of, write_json};
use crate::tool::Tool;
use crate::units::parse_duration;
use crate::value::{Form, Given, decode};
use membus::{Batch, BatchPut, Revision, WriteError};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

/// Make changes that become visible together, or none of them
///
/// Reads one JSON object a line; prints the revision of the last change. A condition that does not
/// hold is exit status 1 and names its line; then nothing was changed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LINES)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// Where the lines are; `-` is standard input
    #[arg(value_name = "FILE|-", default_value = "-")]
    from: OsString,
    /// Who makes the changes [default: cli]
    #[arg(long, value_name = "LABEL")]
    who: Option<String>,
}

const LINES: &str = r#"Lines:
  {"op":"set","key":"a","value":"text"}            a string, or any other JSON, as a structure
  {"op":"set","key":"a","value":"text","as":"raw"} as bytes; with "encoding":"base64" they are decoded
  {"op":"set","key":"a","value":7,"as":"int"}      a counter; further forms: "text", "json"
  {"op":"set","key":"a","value":1,"ttl":"5s","if_absent":true,"ephemeral":true}
  {"op":"add","key":"n","by":-2}                   to a counter; by 1 when nothing is said
  {"op":"delete","key":"a","if_revision":17}
  {"op":"require_absent","key":"a"}                a condition alone
  {"op":"require_revision","key":"a","revision":17}

set, add and delete take "if_absent":true or "if_revision":N. A key that is not UTF-8 is given in
base64 with "key_encoding":"base64". The same key twice: the last change counts. An ephemeral entry
belongs to this command and goes when it ends. Empty lines are skipped."#;

/// What a line says. Unknown fields are refused: a misspelt condition must not be no condition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    op: Op,
    key: String,
    key_encoding: Option<Encoding>,
    #[serde(default, deserialize_with = "given")]
    value: Option<Json>,
    encoding: Option<Encoding>,
    #[serde(rename = "as")]
    form: Option<Form>,
    ttl: Option<String>,
    ephemeral: Option<bool>,
    by: Option<i64>,
    if_absent: Option<bool>,
    if_revision: Option<u64>,
    revision: Option<u64>,
}

/// A value that stands there, `null` too.
fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(from).map(Some)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Set,
    Add,
    Delete,
    RequireAbsent,
    RequireRevision,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Base64,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let (batch, lines) = self.read()?;
        let bus = tool.attach(&self.name, self.who.as_deref())?;
        let refused = match bus.commit(&batch) {
            Ok(Some(revision)) => return tell(tool, out, revision.get()),
            // Conditions alone, and they held.
            Ok(None) => return tell(tool, out, bus.info()?.revision),
            Err(refused) => refused,
        };
        let line = lines.get(refused.index).copied().unwrap_or_default();
        let reason = refused.source.to_string();
        match refused.source {
            WriteError::Conflict { .. } => Ok(Outcome::Refused(format!("line {line}: {reason}"))),
            _ => Err(Failure::Line { line, reason }),
        }
    }

    /// The batch, and the line of each of its changes.
    fn read(&self) -> Result<(Batch, Vec<usize>), Failure> {
        if self.from == "-" {
            return read(std::io::stdin().lock(), Path::new("standard input"));
        }
        let path = Path::new(&self.from);
        let file = File::open(path).map_err(Failure::io("opening", path))?;
        read(BufReader::new(file), path)
    }
}

fn tell(tool: &Tool, out: &mut impl Write, revision: u64) -> Result<Outcome, Failure> {
    if tool.json {
        write_json(out, object_of(json!({"revision": revision})))?;
    } else {
        writeln!(out, "{revision}")?;
    }
    Ok(Outcome::Done)
}

fn read(from: impl BufRead, path: &Path) -> Result<(Batch, Vec<usize>), Failure> {
    let (mut batch, mut lines) = (Batch::new(), Vec::new());
    for (index, text) in from.split(b'\n').enumerate() {
        let text = text.map_err(Failure::io("reading", path))?;
        if text.trim_ascii().is_empty() {
            continue;
        }
        let line = index + 1;
        let wrong = |reason: String| Failure::Line { line, reason };
        let parsed: Line = serde_json::from_slice(&text).map_err(|error| wrong(told(&error)))?;
        parsed.push(&mut batch).map_err(wrong)?;
        lines.push(line);
    }
    Ok((batch, lines))
}

/// What serde says, without the place: each line is read by itself, so that its `line 1` misleads.
fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(reason) => format!("{reason} at column {}", error.column()),
        None => text,
    }
}

impl Line {
    /// Puts the line into the batch, or says what is wrong with it.
    fn push(self, batch: &mut Batch) -> Result<(), String> {
        self.refuse_strangers()?;
        let key = match self.key_encoding {
            Some(Encoding::Base64) => decode(&self.key)?,
            None => self.key.clone().into_bytes(),
        };
        match self.op {
            Op::RequireAbsent => drop(batch.require_absent(key)),
            Op::RequireRevision => {
                let revision = self.revision.and_then(Revision::new);
                let revision = revision.ok_or("require_revision wants a revision from 1")?;
                batch.require_revision(key, revision);
            }
            Op::Add => drop(self.conditions(batch.put(key))?.add(self.by.unwrap_or(1))),
            Op::Delete => drop(self.conditions(batch.put(key))?.delete()),
            Op::Set => {
                let given = self.given()?;
                let mut put = self.conditions(batch.put(key))?;
                if let Some(ttl) = &self.ttl {
                    put = put.ttl(parse_duration(ttl)?);
                }
                if self.ephemeral == Some(true) {
                    put = put.ephemeral();
                }
                given.batch(put).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    fn conditions<'b, K: AsRef<[u8]>>(
        &self,
        mut put: BatchPut<'b, K>,
    ) -> Result<BatchPut<'b, K>, String> {
        if self.if_absent == Some(true) {
            put = put.if_absent();
        }
        if let Some(revision) = self.if_revision {
            let revision = Revision::new(revision).ok_or("there is no revision 0")?;
            put = put.if_revision(revision);
        }
        Ok(put)
    }

    /// The value in its form: as JSON, unless something else is said.
    fn given(&self) -> Result<Given, String> {
        let value = self.value.clone().ok_or("set wants a value")?;
        if self.encoding == Some(Encoding::Base64) {
            let text = value.as_str().ok_or("a value in base64 is a string")?;
            let bytes = decode(text)?;
            return Given::parse(self.form.unwrap_or(Form::Raw), bytes);
        }
        match (self.form.unwrap_or(Form::Json), value) {
            (Form::Json, value) => Ok(Given::Structure(value)),
            (form, Json::String(text)) => Given::parse(form, text.into_bytes()),
            (Form::Int, Json::Number(number)) => Given::parse(Form::Int, number.to_string().into()),
            (form, _) => {
                Err(format!("a value of this kind can't be stored as {form:?}").to_lowercase())
            }
        }
    }

    /// Fields that belong to another operation are mistakes.
    fn refuse_strangers(&self) -> Result<(), String> {
        let (set, changes) =
            (self.op == Op::Set, matches!(self.op, Op::Set | Op::Add | Op::Delete));
        let strangers = [
            ("value", self.value.is_some() && !set),
            ("encoding", self.encoding.is_some() && !set),
            ("as", self.form.is_some() && !set),
            ("ttl", self.ttl.is_some() && !set),
            ("ephemeral", self.ephemeral.is_some() && !set),
            ("by", self.by.is_some() && self.op != Op::Add),
            ("if_absent", self.if_absent.is_some() && !changes),
            ("if_revision", self.if_revision.is_some() && !changes),
            ("revision", self.revision.is_some() && self.op != Op::RequireRevision),
        ];
        if let Some((name, _)) = strangers.iter().find(|(_, there)| *there) {
            return Err(format!("`{name}` has no meaning for this op"));
        }
        if self.if_absent == Some(true) && self.if_revision.is_some() {
            return Err("if_absent and if_revision can't both hold".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(text: &str) -> Result<usize, String> {
        let mut batch = Batch::new();
        let line: Line = serde_json::from_str(text).map_err(|error| told(&error))?;
        line.push(&mut batch)?;
        Ok(batch.len())
    }

    /// Promise: a line that says something else than its operation understands is refused, so that
    /// no condition is lost by a slip.
    /// Plant: without `deny_unknown_fields`, `if_absnt` is no condition at all.
    #[test]
    fn lines_say_what_they_mean() {
        for good in [
            r#"{"op":"set","key":"a","value":null}"#,
            r#"{"op":"set","key":"a","value":"x","as":"raw","ttl":"5s","if_absent":true}"#,
            r#"{"op":"set","key":"/wA=","key_encoding":"base64","value":"/wA=","encoding":"base64"}"#,
            r#"{"op":"set","key":"a","value":-7,"as":"int","if_revision":3,"ephemeral":true}"#,
            r#"{"op":"add","key":"a"}"#,
            r#"{"op":"delete","key":"a","if_revision":3}"#,
            r#"{"op":"require_absent","key":"a"}"#,
            r#"{"op":"require_revision","key":"a","revision":3}"#,
        ] {
            assert_eq!(push(good), Ok(1), "{good}");
        }
        for bad in [
            r#"{"op":"set","key":"a"}"#,
            r#"{"op":"set","key":"a","value":1,"if_absnt":true}"#,
            r#"{"op":"set","key":"a","value":1,"if_absent":true,"if_revision":3}"#,
            r#"{"op":"set","key":"a","value":1,"as":"raw"}"#,
            r#"{"op":"set","key":"a","value":1.5,"as":"int"}"#,
            r#"{"op":"set","key":"a","value":1,"ttl":"soon"}"#,
            r#"{"op":"set","key":"a","value":"&","encoding":"base64"}"#,
            r#"{"op":"delete","key":"a","ttl":"5s"}"#,
            r#"{"op":"delete","key":"a","if_revision":0}"#,
            r#"{"op":"require_revision","key":"a"}"#,
            r#"{"op":"increase","key":"a"}"#,
            r#"{"op":"add"}"#,
            "[]",
            "{",
        ] {
            assert!(push(bad).is_err(), "{bad}");
        }
        assert!(push(r#"{"op":"add"}"#).unwrap_err().ends_with("at column 12"));
    }
}
