//! Values: from what was typed to what is stored, and from what is stored to what is shown.
//!
//! | `--as` | stored as | a Rust program reads it with |
//! | --- | --- | --- |
//! | `text` | structure: a MessagePack string | `get::<String>` |
//! | `json` | structure: the same data as MessagePack | `get::<T>` |
//! | `raw` | bytes, as they are | `get_bytes` |
//! | `int` | counter | `get::<i64>`, `add` |

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use membus::{Batch, BatchPut, Kind, Put, Revision, WriteError};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value as Json};
use std::fmt;

/// As what a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    /// A string.
    Text,
    /// The data that this JSON describes.
    Json,
    /// Bytes as they are.
    Raw,
    /// A counter.
    Int,
}

/// A value that is to be stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Given {
    Structure(Json),
    Bytes(Vec<u8>),
    Counter(i64),
}

impl Given {
    /// What was typed, understood as `form` says.
    pub(crate) fn parse(form: Form, bytes: Vec<u8>) -> Result<Self, String> {
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes)
                .map_err(|_| "the value is not UTF-8; store it with --as raw".to_owned())
        };
        match form {
            Form::Raw => Ok(Self::Bytes(bytes)),
            Form::Text => text(bytes).map(|text| Self::Structure(Json::String(text))),
            Form::Json => serde_json::from_slice(&bytes)
                .map(Self::Structure)
                .map_err(|error| format!("the value is not JSON: {error}")),
            Form::Int => {
                let text = text(bytes)?;
                let number = text.trim().parse();
                let wrong = |_| format!("`{}` is no signed 64-bit number", text.trim());
                number.map(Self::Counter).map_err(wrong)
            }
        }
    }

    /// Stores it.
    pub(crate) fn put<K: AsRef<[u8]>>(&self, put: Put<'_, K>) -> Result<Revision, WriteError> {
        match self {
            Self::Structure(json) => put.set(json),
            Self::Bytes(bytes) => put.set_bytes(bytes),
            Self::Counter(number) => put.set_counter(*number),
        }
    }

    /// Puts it into a batch.
    pub(crate) fn batch<'b, K: AsRef<[u8]>>(
        &self,
        put: BatchPut<'b, K>,
    ) -> Result<&'b mut Batch, WriteError> {
        match self {
            Self::Structure(json) => put.set(json),
            Self::Bytes(bytes) => Ok(put.set_bytes(bytes)),
            Self::Counter(number) => Ok(put.set_counter(*number)),
        }
    }
}

/// A stored value, as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shown {
    /// A string, or any other data that JSON can tell.
    Json(Json),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Shown {
    /// From what is stored. A structure that is no MessagePack is shown as the bytes that it is.
    pub(crate) fn of(kind: Kind, bytes: &[u8]) -> Self {
        let whole = || Self::Bytes(bytes.to_vec());
        match kind {
            Kind::Counter => match bytes.try_into() {
                Ok(word) => Self::Json(i64::from_le_bytes(word).into()),
                Err(_) => whole(),
            },
            Kind::Structure => {
                let mut from = rmp_serde::Deserializer::new(std::io::Cursor::new(bytes));
                match Self::deserialize(&mut from) {
                    Ok(shown) if from.position() == bytes.len() as u64 => shown,
                    _ => whole(),
                }
            }
            _ => whole(),
        }
    }

    /// As JSON, with its encoding when there is one.
    pub(crate) fn json(self) -> (Json, Option<&'static str>) {
        match self {
            Self::Json(json) => (json, None),
            Self::Bytes(bytes) => (Json::String(encode(&bytes)), Some("base64")),
        }
    }

    /// For people and pipes: text as it is, bytes as they are, all else as JSON.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Json(Json::String(text)) => text.into_bytes(),
            Self::Json(json) => json.to_string().into_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// Bytes in base64.
pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Bytes out of base64.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| format!("`{text}` is not base64: {error}"))
}

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Data)
    }
}

/// Takes whatever MessagePack holds: binary fields inside become base64, keys of maps that are no
/// strings become their JSON text, numbers that JSON has no word for become `null`.
struct Data;

impl<'de> Visitor<'de> for Data {
    type Value = Shown;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any data")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Shown, E> {
        Ok(Shown::Json(value.into()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Shown, E> {
        Ok(Shown::Json(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Shown, E> {
        Ok(Shown::Json(value.into()))
    }
    fn visit_f32<E: Error>(self, value: f32) -> Result<Shown, E> {
        // By way of its shortest text: 0.1 stays 0.1.
        let wide = value.to_string().parse().unwrap_or_else(|_| f64::from(value));
        self.visit_f64(wide)
    }
    fn visit_f64<E>(self, value: f64) -> Result<Shown, E> {
        Ok(Shown::Json(Number::from_f64(value).map_or(Json::Null, Json::Number)))
    }
    fn visit_str<E>(self, value: &str) -> Result<Shown, E> {
        Ok(Shown::Json(value.into()))
    }
    fn visit_bytes<E>(self, value: &[u8]) -> Result<Shown, E> {
        Ok(Shown::Bytes(value.to_vec()))
    }
    fn visit_unit<E>(self) -> Result<Shown, E> {
        Ok(Shown::Json(Json::Null))
    }
    fn visit_none<E: Error>(self) -> Result<Shown, E> {
        self.visit_unit()
    }
    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Shown, D::Error> {
        from.deserialize_any(self)
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Shown, D::Error> {
        from.deserialize_any(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Shown, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element::<Shown>()? {
            items.push(item.json().0);
        }
        Ok(Shown::Json(Json::Array(items)))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Shown, A::Error> {
        let mut fields = Map::new();
        while let Some((key, value)) = from.next_entry::<Shown, Shown>()? {
            let key = match key.json().0 {
                Json::String(key) => key,
                other => other.to_string(),
            };
            fields.insert(key, value.json().0);
        }
        Ok(Shown::Json(Json::Object(fields)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn packed<T: serde::Serialize>(value: &T) -> Shown {
        Shown::of(Kind::Structure, &rmp_serde::to_vec_named(value).unwrap())
    }

    /// Promise: whatever MessagePack a program stored is shown, and no byte of it makes a panic.
    /// Plant: a map visitor that asks for `String` keys shows the integer keys as bytes.
    #[test]
    fn structures_of_any_shape_are_shown() {
        assert_eq!(packed(&"text"), Shown::Json(json!("text")));
        assert_eq!(
            packed(&(1_u8, -1, 0.1_f32, f64::NAN, ())),
            Shown::Json(json!([1, -1, 0.1, null, null]))
        );
        let numbered = std::collections::BTreeMap::from([(7, "a"), (8, "b")]);
        assert_eq!(packed(&numbered), Shown::Json(json!({"7": "a", "8": "b"})));
        let binary = Shown::of(Kind::Structure, b"\xc4\x02\x00\xff");
        assert_eq!(binary, Shown::Bytes(vec![0, 255]));
        let inside = Shown::of(Kind::Structure, b"\x91\xc4\x02\x00\xff");
        assert_eq!(inside, Shown::Json(json!(["AP8="])));
        let extension = Shown::of(Kind::Structure, b"\xd4\x05\x01");
        assert_eq!(extension, Shown::Json(json!([5, "AQ=="])));
        let order = json!({"z": 1, "a": {"y": [], "b": null}});
        assert_eq!(packed(&order).into_bytes(), order.to_string().into_bytes());
    }

    /// Promise: what is no MessagePack, or has bytes left over, or nests without end, is bytes.
    /// Plant: without the look at the position, `\x01\x02` is shown as 1.
    #[test]
    fn damaged_structures_are_bytes() {
        for bytes in [&b""[..], b"\xc1", b"\x01\x02", b"\xa5ab", b"\xdd\xff\xff\xff\xff"] {
            let shown = Shown::of(Kind::Structure, bytes);
            assert_eq!(shown, Shown::Bytes(bytes.to_vec()), "{}", bytes.escape_ascii());
        }
        let no_text = Shown::of(Kind::Structure, b"\xa1\xff");
        assert_eq!(no_text, Shown::Bytes(vec![255]), "a string that is no UTF-8");
        let deep = vec![0x91; 100_000];
        assert_eq!(Shown::of(Kind::Structure, &deep), Shown::Bytes(deep.clone()));
        let counter = Shown::of(Kind::Counter, &(-2_i64).to_le_bytes());
        assert_eq!(counter.into_bytes(), b"-2");
        assert_eq!(Shown::of(Kind::Counter, b"short"), Shown::Bytes(b"short".to_vec()));
    }

    /// Promise: each form takes what it says and refuses the rest.
    /// Plant: without the trim, a counter from `echo 5 |` is refused.
    #[test]
    fn forms() {
        let parse = |form, text: &[u8]| Given::parse(form, text.to_vec());
        assert_eq!(parse(Form::Text, b"5\n"), Ok(Given::Structure(json!("5\n"))));
        assert_eq!(parse(Form::Json, b" [1]\n"), Ok(Given::Structure(json!([1]))));
        assert_eq!(parse(Form::Int, b"-5\n"), Ok(Given::Counter(-5)));
        assert_eq!(parse(Form::Raw, b"\xff"), Ok(Given::Bytes(vec![255])));
        for (form, wrong) in [(Form::Text, &b"\xff"[..]), (Form::Json, b"{"), (Form::Int, b"1.5")] {
            assert!(parse(form, wrong).is_err(), "{form:?}");
        }
        assert!(parse(Form::Int, b"9223372036854775808").is_err());
    }
}
