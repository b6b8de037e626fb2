//! How results look: lines for people, JSON objects for programs.
//!
//! A line for people holds one result, whatever the keys and values hold: text without control
//! characters stands as it is; in other text control characters and the backslash are escaped; what
//! is not UTF-8 is escaped as ASCII. `get` alone writes a value as it is.

use crate::units::{show_deadline, show_time};
use crate::value::{Shown, encode};
use membus::{Entry, Stat};
use serde_json::{Map, Value as Json, json};
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

/// A JSON object in the making.
pub(crate) type Object = Map<String, Json>;

/// What stands where somebody did not say who they are.
pub(crate) const NOBODY: &str = "-";

/// Key or value on a line.
pub(crate) fn on_a_line(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return bytes.escape_ascii().to_string() };
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if letter.is_control() || letter == '\\' {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Any text on a line, an error's for one: only what would end the line or steer a terminal is
/// escaped.
pub(crate) fn one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// `key`, with `key_encoding` when it is not UTF-8.
pub(crate) fn key_fields(key: &[u8], object: &mut Object) {
    if let Ok(text) = std::str::from_utf8(key) {
        object.insert("key".into(), text.into());
    } else {
        object.insert("key".into(), encode(key).into());
        object.insert("key_encoding".into(), "base64".into());
    }
}

/// `value`, with `encoding` when it is bytes.
pub(crate) fn value_fields(shown: Shown, object: &mut Object) {
    let (value, encoding) = shown.json();
    object.insert("value".into(), value);
    if let Some(encoding) = encoding {
        object.insert("encoding".into(), encoding.into());
    }
}

/// What is known of an entry beside its value.
pub(crate) fn stat_fields(stat: &Stat, object: &mut Object) {
    object.insert("revision".into(), stat.revision.get().into());
    object.insert("kind".into(), stat.kind.to_string().into());
    object.insert("who".into(), stat.who.clone().into());
    object.insert("time".into(), show_time(stat.time).into());
    object.insert("expires".into(), stat.expires_in.and_then(show_deadline).into());
    object.insert("size".into(), stat.size.into());
    object.insert("ephemeral".into(), stat.ephemeral.into());
}

/// An entry, whole.
pub(crate) fn entry_object(entry: &Entry) -> Object {
    let mut object = Object::new();
    key_fields(&entry.key, &mut object);
    value_fields(Shown::of(entry.stat.kind, &entry.value), &mut object);
    stat_fields(&entry.stat, &mut object);
    object
}

/// The outcome of a change of one key.
pub(crate) fn change_object(key: &[u8], revision: u64) -> Object {
    let mut object = Object::new();
    key_fields(key, &mut object);
    object.insert("revision".into(), revision.into());
    object
}

/// One JSON object on a line.
pub(crate) fn write_json(out: &mut impl Write, object: Object) -> io::Result<()> {
    writeln!(out, "{}", Json::Object(object))
}

/// Fields with their names in a column.
pub(crate) fn write_fields(out: &mut impl Write, fields: &[(&str, String)]) -> io::Result<()> {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in fields {
        writeln!(out, "{name:width$}  {}", one_line(value))?;
    }
    Ok(())
}

/// Rows under their headings, in columns.
pub(crate) fn write_table(
    out: &mut impl Write,
    headings: &[&str],
    rows: &[Vec<String>],
) -> io::Result<()> {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let headings = headings.iter().map(|heading| (*heading).to_owned()).collect();
    for row in std::iter::once(&headings).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a string does not fail.
            let _written = write!(line, "{cell:width$}  ");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Whether standard output may have colours: a terminal that did not say `NO_COLOR`.
pub(crate) fn may_colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|value| value == "dumb");
    !refused && !dumb && io::stdout().is_terminal()
}

/// A colour of the terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Colour {
    Red = 31,
    Green = 32,
}

/// The text in a colour, where there are colours.
pub(crate) fn paint(colours: bool, colour: Colour, text: &str) -> String {
    if colours { format!("\x1b[{}m{text}\x1b[0m", colour as u8) } else { text.to_owned() }
}

/// The last line of a command that did not do what it should; one line whatever the text is.
pub(crate) fn say(text: &str) {
    // Nobody is left to tell when standard error is gone too.
    let _told = writeln!(io::stderr().lock(), "membus: {}", one_line(text));
}

/// How an optional text is shown to people.
pub(crate) fn or_nobody(text: Option<&str>) -> String {
    text.map_or_else(|| NOBODY.to_owned(), |text| on_a_line(text.as_bytes()))
}

/// A JSON object from literals.
pub(crate) fn object_of(value: Json) -> Object {
    match value {
        Json::Object(object) => object,
        other => Object::from_iter([("value".to_owned(), json!(other))]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: a result is one line, and no key or value steers the terminal.
    /// Plant: without the look for control characters, the second assertion shows two lines.
    #[test]
    fn lines_are_lines() {
        assert_eq!(on_a_line("pl\u{e4}in \\ text".as_bytes()), "pl\u{e4}in \\ text");
        assert_eq!(on_a_line(b"two\nlines\\\x1b[2J"), "two\\nlines\\\\\\u{1b}[2J");
        assert_eq!(on_a_line(b"\xff\t\\"), "\\xff\\t\\\\");
        assert_eq!(one_line("a\nb\\"), "a\\nb\\");
    }

    /// Promise: keys that are not UTF-8 survive JSON.
    /// Plant: `from_utf8_lossy` in `key_fields`.
    #[test]
    fn keys_survive_json() {
        let mut object = Object::new();
        key_fields(b"\xff\x00", &mut object);
        assert_eq!(Json::Object(object), json!({"key": "/wA=", "key_encoding": "base64"}));
    }

    /// Promise: columns hold, and nothing stands behind the last one.
    /// Plant: without `trim_end`, spaces at the line's end.
    #[test]
    fn tables() {
        let mut out = Vec::new();
        let rows = [vec!["long name".to_owned(), "1".to_owned()]];
        write_table(&mut out, &["NAME", "SIZE"], &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME       SIZE\nlong name  1\n");
        assert_eq!(paint(false, Colour::Red, "x"), "x");
    }
}
