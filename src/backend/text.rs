//! Values as people read them, where that is exact.
//!
//! A structure (MessagePack) is written as JSON when the JSON gives back the same bytes, which is tried each
//! time; else it stays MessagePack. So no reader has to know which MessagePack is written as JSON. Times are
//! RFC 3339 with nanoseconds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How deep a structure may be that is written as JSON.
const DEPTH_MAX: usize = 100;

/// Nanoseconds since 1970 as RFC 3339.
pub(super) fn time(nanos: u64) -> String {
    humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(nanos)).to_string()
}

/// What [`time`] wrote.
pub(super) fn parse_time(text: &str) -> Option<u64> {
    let time = humantime::parse_rfc3339(text).ok()?;
    let since: Duration = SystemTime::duration_since(&time, UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn parse_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

const KINDS: [&str; 3] = ["bytes", "structure", "counter"];

/// The name of a kind of value; of one that this version does not know, its number.
pub(super) fn kind(kind: u8) -> String {
    KINDS.get(usize::from(kind)).map_or_else(|| kind.to_string(), |name| (*name).to_owned())
}

pub(super) fn parse_kind(text: &str) -> Option<u8> {
    let known = KINDS.iter().position(|name| *name == text);
    known.map_or_else(|| text.parse().ok(), |kind| u8::try_from(kind).ok())
}

/// A structure as JSON on one line, when that gives back the same bytes.
pub(super) fn json_of(structure: &[u8]) -> Option<Vec<u8>> {
    let mut json = Vec::with_capacity(structure.len() + structure.len() / 2);
    let mut reader = rmp_serde::Deserializer::from_read_ref(structure);
    reader.set_max_depth(DEPTH_MAX);
    ToJson(&mut json).deserialize(&mut reader).ok()?;
    (structure_of(&json).ok()?.as_slice() == structure).then_some(json)
}

/// The structure that a JSON text stands for.
pub(super) fn structure_of(json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let mut packed = Vec::with_capacity(json.len());
    let mut reader = serde_json::Deserializer::from_slice(json);
    ToPacked(&mut packed).deserialize(&mut reader)?;
    reader.end()?;
    Ok(packed)
}

/// Writes JSON of what is read. Maps are written in their order, with a key as often as it comes.
struct ToJson<'a>(&'a mut Vec<u8>);

impl ToJson<'_> {
    fn put<E: Error>(self, value: impl serde::Serialize) -> Result<(), E> {
        serde_json::to_writer(self.0, &value).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for ToJson<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ToJson<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what JSON has as well")
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.put(value)
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.put(value)
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.put(value)
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.put(value)
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.put(value)
    }
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.put(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.push(b'[');
        let begin = self.0.len();
        loop {
            let end = self.0.len();
            if end > begin {
                self.0.push(b',');
            }
            if items.next_element_seed(ToJson(self.0))?.is_none() {
                self.0.truncate(end);
                break;
            }
        }
        self.0.push(b']');
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.push(b'{');
        let begin = self.0.len();
        loop {
            let end = self.0.len();
            if end > begin {
                self.0.push(b',');
            }
            if items.next_key_seed(Name(ToJson(self.0)))?.is_none() {
                self.0.truncate(end);
                break;
            }
            self.0.push(b':');
            items.next_value_seed(ToJson(self.0))?;
        }
        self.0.push(b'}');
        Ok(())
    }
}

/// A key of a map: a text, or it can not be written as JSON.
struct Name<T>(T);

impl<'de> DeserializeSeed<'de> for Name<ToJson<'_>> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Name<ToJson<'_>> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.0.put(value)
    }
}

/// Under this key serde_json hands out each number, as its text, as soon as any crate of the program has switched its feature
/// `arbitrary_precision` on.
const NUMBER: &str = "$serde_json::private::Number";

/// The text of such a number, when a pair of key and value is one.
fn number_of(pair: &[u8]) -> Option<&str> {
    let (name, rest) = rmp::decode::read_str_from_slice(pair).ok()?;
    let (text, rest) = rmp::decode::read_str_from_slice(rest).ok()?;
    let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    (name == NUMBER && is_number && rest.is_empty()).then_some(text)
}

/// Writes MessagePack of what is read, each number and length in its shortest form.
pub(super) struct ToPacked<'a>(pub(super) &'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for ToPacked<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl ToPacked<'_> {
    /// A number by its text, as serde_json tells it otherwise.
    fn number<E: Error>(self, text: &str) -> Result<(), E> {
        match (text.parse(), text.parse(), text.parse()) {
            (Ok(number), ..) if text != "-0" => self.visit_i64(number),
            (_, Ok(number), _) => self.visit_u64(number),
            (.., Ok(number)) if f64::is_finite(number) => self.visit_f64(number),
            _ => Err(E::custom("a number out of range")),
        }
    }
}

fn length<E: Error>(count: u64) -> Result<u32, E> {
    u32::try_from(count).map_err(|_| E::custom("more than 4,294,967,295 parts"))
}

impl<'de> Visitor<'de> for ToPacked<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        rmp::encode::write_bool(self.0, value).map_err(E::custom)
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        rmp::encode::write_sint(self.0, value).map(drop).map_err(E::custom)
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        rmp::encode::write_uint(self.0, value).map(drop).map_err(E::custom)
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        rmp::encode::write_f64(self.0, value).map_err(E::custom)
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        rmp::encode::write_str(self.0, value).map_err(E::custom)
    }
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        rmp::encode::write_nil(self.0).map_err(E::custom)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let (mut count, mut body) = (0, Vec::new());
        while items.next_element_seed(ToPacked(&mut body))?.is_some() {
            count += 1;
        }
        let head = rmp::encode::write_array_len(self.0, length(count)?);
        head.map_err(A::Error::custom)?;
        self.0.append(&mut body);
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let (mut count, mut body) = (0, Vec::new());
        while items.next_key_seed(ToPacked(&mut body))?.is_some() {
            items.next_value_seed(ToPacked(&mut body))?;
            count += 1;
        }
        if let (1, Some(number)) = (count, number_of(&body)) {
            return self.number(number);
        }
        let head = rmp::encode::write_map_len(self.0, length(count)?);
        head.map_err(A::Error::custom)?;
        self.0.append(&mut body);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: a structure is written as JSON where that is exact, and is left alone elsewhere.
    /// Plant: the comparison left out: a single-precision number comes back as another one.
    #[test]
    fn json_where_it_is_exact() {
        let shown = |packed: &[u8]| json_of(packed).map(|json| String::from_utf8(json).unwrap());
        let packed = |json: &str| structure_of(json.as_bytes()).unwrap();
        for json in [
            "null",
            "true",
            "0",
            "-1",
            "18446744073709551615",
            "-9223372036854775808",
            "0.1",
            "1.0",
            "-0.0",
            "5e-324",
            "\"a\\n\\\"\u{e9}\"",
            "[]",
            "{}",
            "[1,[2,{\"a\":[]}],\"x\"]",
            "{\"b\":1,\"a\":2,\"b\":3}",
        ] {
            assert_eq!(shown(&packed(json)).as_deref(), Some(json));
        }
        let odd: [&[u8]; 8] = [
            &[],
            &[0xc4, 1, 0],
            &[0xca, 0x3f, 0x80, 0, 0],
            &[0xd1, 0, 5],
            &[0x81, 1, 2],
            &[1, 1],
            &[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0],
            &[0xc1],
        ];
        for odd in odd {
            assert_eq!(shown(odd), None, "{odd:?}");
        }
    }

    /// Promise: a number is read as it was written also where another crate of the program has switched serde_json's
    /// `arbitrary_precision` on, which hands out a map with its text.
    /// Plant: `number_of` that gives nothing.
    #[test]
    fn numbers_that_come_as_a_map() {
        use serde::de::value::{Error, MapDeserializer};
        let read = |key, text| {
            let mut packed = Vec::new();
            let map = MapDeserializer::<_, Error>::new([(key, text)].into_iter());
            ToPacked(&mut packed).deserialize(map).map(|()| packed)
        };
        for json in [
            "0",
            "-0",
            "-1",
            "127",
            "128",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775808",
            "-9223372036854775809",
            "0.1",
            "1.0",
            "-0.0",
            "1e5",
            "5e-324",
            "1.7976931348623157e308",
        ] {
            let number = read(NUMBER, json).unwrap();
            assert_eq!(number, structure_of(json.as_bytes()).unwrap(), "{json}");
        }
        assert!(read(NUMBER, "1e400").is_err(), "as without");
        for (key, text) in [(NUMBER, "x"), (NUMBER, ""), (NUMBER, "+1"), ("number", "1")] {
            let map = rmp_serde::to_vec(&std::collections::BTreeMap::from([(key, text)])).unwrap();
            assert_eq!(read(key, text).unwrap(), map);
            assert_eq!(structure_of(&json_of(&map).unwrap()).unwrap(), map, "a map is one");
        }
        // Nor is what is written mistaken for a number when it is read.
        let map = rmp_serde::to_vec(&std::collections::BTreeMap::from([(NUMBER, "1")])).unwrap();
        assert_eq!(json_of(&map), None);
    }

    /// Promise: times are exact to the nanosecond, from the first to the last.
    #[test]
    fn times_come_back() {
        for nanos in [0, 1, 999_999_999, 1_700_000_000_123_456_789, u64::MAX] {
            assert_eq!(parse_time(&time(nanos)), Some(nanos), "{}", time(nanos));
        }
        for text in ["", "1969-12-31T23:59:59Z", "2600-01-01T00:00:00Z", "2020-01-01", "x"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        assert_eq!(parse_time("2020-01-01T00:00:00.5Z"), Some(1_577_836_800_500_000_000));
    }

    #[test]
    fn kinds_have_names() {
        for number in 0..=255 {
            assert_eq!(parse_kind(&kind(number)), Some(number));
        }
        assert_eq!((parse_kind("256"), parse_kind("")), (None, None));
    }
}
