//! Reading the document, whatever its white space, one entry at a time.

use crate::backend::content::Content;
use crate::backend::files::is_passing;
use crate::backend::text::{self, ToPacked};
use crate::backend::{BackendError, Sink};
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::{Deserialize, de};
use std::fmt;
use std::io::{self, BufReader, Read};

/// Bytes that are read at a time.
const BUFFER: usize = 64 << 10;

/// Why a document was not read to its end.
#[derive(Debug)]
pub(super) enum ReadError {
    /// It is not what it should be.
    Wrong(String),
    /// It could not be read, which says nothing about it.
    Passing(io::Error),
    /// The sink wanted no more.
    Sink(BackendError),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        if is_passing(&error) { Self::Passing(error) } else { Self::Wrong(error.to_string()) }
    }
}

/// Reads a whole document; its entries go to `sink`, where there is one. What it says of itself is checked
/// at its end.
pub(super) fn read(
    from: impl Read,
    sink: Option<&mut dyn Sink>,
) -> Result<(SnapshotHead, u64), ReadError> {
    let mut document = Document { sink, failed: None, content: Content::default() };
    // It takes single bytes, which is fast from this type alone.
    let from = BufReader::with_capacity(BUFFER, from);
    let mut reader = serde_json::Deserializer::from_reader(from);
    let read = (&mut document).deserialize(&mut reader);
    match read.and_then(|head| reader.end().map(|()| head)) {
        Ok(head) => Ok((head, document.content.count)),
        Err(error) => Err(match document.failed {
            Some(failed) => ReadError::Sink(failed),
            None => io::Error::from(error).into(),
        }),
    }
}

struct Document<'a> {
    sink: Option<&'a mut dyn Sink>,
    /// Why the sink gave up.
    failed: Option<BackendError>,
    content: Content,
}

impl Document<'_> {
    fn tell<E: Error>(
        &mut self,
        tell: impl FnOnce(&mut dyn Sink) -> Result<(), BackendError>,
    ) -> Result<(), E> {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        tell(&mut **sink).map_err(|error| {
            self.failed = Some(error);
            E::custom("given up")
        })
    }
}

/// The head as it is written; all of it comes before the entries.
#[derive(Default)]
struct Head {
    membus: Option<String>,
    version: Option<u32>,
    bus_id: Option<Hex>,
    incarnation: Option<Hex>,
    revision: Option<u64>,
    created: Option<Time>,
}

impl Head {
    fn whole<E: Error>(&self) -> Result<SnapshotHead, E> {
        if self.membus.as_deref() != Some("snapshot") {
            return Err(E::custom(
                "it is no membus snapshot: `membus` comes first, and is `snapshot`",
            ));
        }
        match self.version {
            Some(super::VERSION) => {}
            found => {
                let (found, own) = (found.unwrap_or_default(), super::VERSION);
                let what = format!("it has format version {found}, this membus reads {own}");
                return Err(E::custom(what));
            }
        }
        let missing = |name| E::custom(format!("`{name}` has to stand before the entries"));
        Ok(SnapshotHead {
            bus_id: self.bus_id.as_ref().ok_or_else(|| missing("bus_id"))?.0,
            incarnation: self
                .incarnation
                .as_ref()
                .and_then(|hex| u64::try_from(hex.0).ok())
                .ok_or_else(|| missing("incarnation"))?,
            revision: self.revision.ok_or_else(|| missing("revision"))?,
            created: self.created.as_ref().ok_or_else(|| missing("created"))?.0,
        })
    }
}

impl<'de> DeserializeSeed<'de> for &mut Document<'_> {
    type Value = SnapshotHead;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<SnapshotHead, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Document<'_> {
    type Value = SnapshotHead;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a membus snapshot")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SnapshotHead, A::Error> {
        let (mut head, mut whole) = (Head::default(), None);
        // `None`: not said. `Some(None)`: whoever edited it asks that it is not looked at.
        let (mut count, mut checksum) = (None::<Option<u64>>, None::<Option<String>>);
        while let Some(name) = map.next_key::<String>()? {
            if whole.is_some() && !matches!(name.as_str(), "count" | "checksum") {
                return Err(A::Error::custom(format!("`{name}` stands behind the entries")));
            }
            match name.as_str() {
                "membus" => head.membus = Some(map.next_value()?),
                "version" => head.version = Some(map.next_value()?),
                "bus_id" => head.bus_id = Some(map.next_value()?),
                "incarnation" => head.incarnation = Some(map.next_value()?),
                "revision" => head.revision = Some(map.next_value()?),
                "created" => head.created = Some(map.next_value()?),
                "entries" => {
                    let found = head.whole()?;
                    whole = Some(found);
                    self.tell(|sink| sink.begin(&found))?;
                    map.next_value_seed(Entries(self))?;
                }
                "count" => count = Some(map.next_value()?),
                "checksum" => checksum = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    return Err(A::Error::custom(format!("there is no field `{name}`")));
                }
            }
        }
        let whole = whole.ok_or_else(|| A::Error::custom("it has no entries"))?;
        self.check(&whole, count, checksum)?;
        Ok(whole)
    }
}

impl Document<'_> {
    fn check<E: Error>(
        &self,
        head: &SnapshotHead,
        count: Option<Option<u64>>,
        checksum: Option<Option<String>>,
    ) -> Result<(), E> {
        let (Some(count), Some(checksum)) = (count, checksum) else {
            return Err(E::custom("it has no count and checksum at its end"));
        };
        let Some(checksum) = checksum else { return Ok(()) };
        let refusal = self.content.refusal(head, count.unwrap_or(self.content.count), &checksum);
        refusal.map_or(Ok(()), |what| {
            let what = format!(
                "{what}. If you edited it, write null (without quotes) in place of the checksum"
            );
            Err(E::custom(what))
        })
    }
}

/// The list of entries.
struct Entries<'a, 'b>(&'a mut Document<'b>);

impl<'de> DeserializeSeed<'de> for Entries<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(line) = items.next_element::<Line>()? {
            let entry = line.entry().map_err(A::Error::custom)?;
            self.0.content.add(&entry);
            self.0.tell(|sink| sink.entry(&entry))?;
        }
        Ok(())
    }
}

/// One entry as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    key_encoding: Option<Encoding>,
    value: Value,
    encoding: Option<Encoding>,
    kind: Option<String>,
    revision: Option<u64>,
    time: Option<Time>,
    who: Option<String>,
    who_encoding: Option<Encoding>,
    expires: Option<Time>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Base64,
}

fn bytes(text: String, encoding: Option<&Encoding>) -> Result<Vec<u8>, String> {
    match encoding {
        None => Ok(text.into_bytes()),
        Some(Encoding::Base64) => {
            text::parse_base64(&text).ok_or_else(|| "what is marked so is no base64".to_owned())
        }
    }
}

/// What serde says, without the line: it is the only one.
fn told(error: &serde_json::Error) -> String {
    let (text, column) = (error.to_string(), error.column());
    match text.strip_suffix(&format!(" at line {} column {column}", error.line())) {
        Some(reason) => format!("{reason} at column {column}"),
        None => text,
    }
}

/// Reads a line that stands by itself; what people may leave out is 0, and a value's kind a structure.
pub(crate) fn entry_of(line: &[u8]) -> Result<SnapshotEntry, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| told(&error))?;
    let structure = || "structure".to_owned();
    let (kind, revision, time) = (line.kind.unwrap_or_else(structure), line.revision, line.time);
    let (revision, time) = (revision.unwrap_or(0), time.unwrap_or(Time(0)));
    Line { kind: Some(kind), revision: Some(revision), time: Some(time), ..line }.entry()
}

impl Line {
    fn entry(self) -> Result<SnapshotEntry, String> {
        let key = bytes(self.key, self.key_encoding.as_ref())?;
        let at = |what: &str| format!("`{}`: {what}", key.escape_ascii());
        let (Some(kind), Some(revision), Some(time)) = (self.kind, self.revision, self.time) else {
            return Err(at("it has no `kind`, `revision` or `time`"));
        };
        let kind = text::parse_kind(&kind).ok_or_else(|| at("there is no such kind"))?;
        let value = match (self.value, self.encoding, kind) {
            (Value::Text(text), encoding @ Some(_), _) | (Value::Text(text), encoding, 0) => {
                bytes(text, encoding.as_ref()).map_err(|what| at(&what))?
            }
            (_, Some(_), _) => return Err(at("what is marked as base64 is no text")),
            (Value::Number(number), None, 2) => number.to_le_bytes().to_vec(),
            (value, None, 1) => value.packed().map_err(|what| at(&what))?,
            (_, None, _) => return Err(at("its value is not of its kind")),
        };
        let who = self.who.map_or(Ok(Vec::new()), |who| bytes(who, self.who_encoding.as_ref()))?;
        let time = time.0;
        let expires = self.expires.map_or(0, |expires| expires.0);
        Ok(SnapshotEntry { key, value, kind, revision, time, who, expires })
    }
}

/// Any JSON value: what is neither a text nor a number of a counter is MessagePack already.
enum Value {
    Text(String),
    Number(i64),
    Packed(Vec<u8>),
}

impl Value {
    fn packed(self) -> Result<Vec<u8>, String> {
        let mut packed = Vec::new();
        let end: Result<(), de::value::Error> = match self {
            Self::Text(text) => ToPacked(&mut packed).visit_str(&text),
            Self::Number(number) => ToPacked(&mut packed).visit_i64(number),
            Self::Packed(bytes) => {
                packed = bytes;
                Ok(())
            }
        };
        end.map(|()| packed).map_err(|error| error.to_string())
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyValue)
    }
}

struct AnyValue;

fn packed<E>(pack: impl FnOnce(ToPacked<'_>) -> Result<(), E>) -> Result<Value, E> {
    let mut packed = Vec::new();
    pack(ToPacked(&mut packed)).map(|()| Value::Packed(packed))
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        packed(|to| to.visit_bool(value))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        i64::try_from(value)
            .map_or_else(|_| packed(|to| to.visit_u64(value)), |n| Ok(Value::Number(n)))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        packed(|to| to.visit_f64(value))
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }
    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }
    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        packed(|to| to.visit_unit())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Value, A::Error> {
        packed(|to| to.visit_seq(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, items: A) -> Result<Value, A::Error> {
        let mut packed = Vec::new();
        ToPacked(&mut packed).visit_map(items)?;
        // A number may come as a map; it is packed as what it is.
        let number = rmp::decode::read_int(&mut packed.as_slice());
        Ok(number.map_or(Value::Packed(packed), Value::Number))
    }
}

/// A moment, in nanoseconds since 1970.
struct Time(u64);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let wrong = || {
            Error::invalid_value(
                Unexpected::Str(&text),
                &"a time in UTC, RFC 3339, from 1970 to 2554",
            )
        };
        text::parse_time(&text).map(Self).ok_or_else(wrong)
    }
}

/// A number in hexadecimal digits.
struct Hex(u128);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let wrong = || Error::invalid_value(Unexpected::Str(&text), &"hexadecimal digits");
        u128::from_str_radix(&text, 16).map(Self).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::value::MapDeserializer;

    /// Promise: a counter is read also where its number comes as a map with its text, as serde_json has it when another crate of
    /// the program has switched `arbitrary_precision` on.
    /// Plant: what was packed not looked at.
    #[test]
    fn a_counter_that_comes_as_a_map() {
        let read = |text: &str| {
            let pair = [("$serde_json::private::Number", text)];
            Value::deserialize(MapDeserializer::<_, de::value::Error>::new(pair.into_iter()))
        };
        for number in [0, -1, 127, 128, -129, i64::MIN, i64::MAX] {
            let value = read(&number.to_string()).unwrap();
            assert!(matches!(value, Value::Number(found) if found == number), "{number}");
        }
        for text in ["18446744073709551615", "1.0", "x"] {
            assert!(matches!(read(text).unwrap(), Value::Packed(_)), "{text}");
        }
    }
}
