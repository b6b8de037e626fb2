//! `set` and `get`: every kind of value, in and out.

use crate::harness::Place;
use base64::Engine;
use membus::{Kind, ReadBus};
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Promise: what was set is got, by the tool and by a Rust program, for each form of a value.
/// Plant: text stored as bytes is refused by `get::<String>`.
#[test]
fn each_form_comes_back() {
    let place = Place::with_bus();
    let bus = place.attach("b");
    assert_eq!(place.run(&["set", "b", "text", "caf\u{e9} 1"]).done(), "1\n");
    assert_eq!(place.run(&["get", "b", "text"]).done(), "caf\u{e9} 1\n");
    assert_eq!(place.run(&["get", "b", "text", "--raw"]).done(), "caf\u{e9} 1");
    assert_eq!(bus.get::<String>("text").unwrap().unwrap(), "caf\u{e9} 1");

    let data = r#"{"z":[1,-2,2.5,null],"a":{"b":"x"}}"#;
    assert_eq!(place.run(&["set", "b", "json", data, "--as", "json"]).done(), "2\n");
    assert_eq!(place.run(&["get", "b", "json"]).done(), format!("{data}\n"));
    #[derive(serde::Deserialize)]
    struct Inner {
        b: String,
    }
    #[derive(serde::Deserialize)]
    struct Data {
        a: Inner,
        z: Vec<Option<f64>>,
    }
    let read: Data = bus.get("json").unwrap().unwrap();
    assert_eq!((read.a.b.as_str(), read.z.len()), ("x", 4));

    place.run(&["set", "b", "int", "-9223372036854775808", "--as", "int"]).done();
    assert_eq!(place.run(&["get", "b", "int"]).done(), "-9223372036854775808\n");
    assert_eq!(bus.get::<i64>("int").unwrap(), Some(i64::MIN));

    for words in [["--as", "raw"].as_slice(), &["--raw"]] {
        let words = [["set", "b", "raw", "r\tw"].as_slice(), words].concat();
        place.run(&words).done();
        assert_eq!(place.run(&["get", "b", "raw"]).done(), "r\tw\n");
        assert_eq!(bus.get_bytes("raw").unwrap().unwrap(), b"r\tw");
        assert_eq!(bus.stat("raw").unwrap().unwrap().kind, Kind::Bytes);
    }
    bus.set("float", &0.1_f32).unwrap();
    bus.set("list", &(1, "two")).unwrap();
    assert_eq!(place.run(&["get", "b", "float"]).done(), "0.1\n");
    assert_eq!(place.run(&["get", "b", "list"]).done(), "[1,\"two\"]\n");
}

/// Promise: `-` reads the value from standard input, every byte of it.
/// Plant: trimming the input loses the newline and the spaces.
#[test]
fn a_dash_is_standard_input() {
    let place = Place::with_bus();
    place.run_with(&["set", "b", "text", "-"], b" two\nlines\n").done();
    assert_eq!(place.run(&["get", "b", "text", "--raw"]).done(), " two\nlines\n");
    let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    place.run_with(&["set", "b", "raw", "-", "--raw"], &all).done();
    assert_eq!(place.run(&["get", "b", "raw", "--raw"]).stdout, all);
    place.run_with(&["set", "b", "int", "-", "--as", "int"], b"41\n").done();
    assert_eq!(place.run(&["add", "b", "int"]).done(), "42\n");
    place.run_with(&["set", "b", "empty", "-"], b"").done();
    assert_eq!(place.run(&["get", "b", "empty"]).done(), "\n");
    assert!(place.run_with(&["set", "b", "bad", "-"], b"\xff").failed().contains("--as raw"));
}

/// Promise: negative numbers are arguments; what else begins with a dash goes behind `--`.
/// Plant: without `allow_negative_numbers` these are usage errors.
#[test]
fn negative_numbers_are_arguments() {
    let place = Place::with_bus();
    assert_eq!(place.run(&["add", "b", "n", "-2"]).done(), "-2\n");
    assert_eq!(
        place.run(&["add", "b", "n", "-3", "--json"]).json(),
        [json!({"key": "n", "value": -5})]
    );
    place.run(&["set", "b", "t", "-1.5e3"]).done();
    assert_eq!(place.run(&["get", "b", "t"]).done(), "-1.5e3\n");
    place.run(&["set", "b", "t", "--", "--who"]).done();
    assert_eq!(place.run(&["get", "b", "t"]).done(), "--who\n");
}

/// Promise: `--stat` shows revision, kind, who, when, size and expiry; `--json` has them as fields.
/// Plant: `--who` that is not passed on shows `cli`.
#[test]
fn who_and_when_are_shown() {
    let place = Place::with_bus();
    place.run(&["set", "b", "k", "v", "--who", "ops"]).done();
    place.run(&["set", "b", "soon", "v", "--ttl", "1h"]).done();
    let shown = place.run(&["get", "b", "k", "--stat"]).done();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[..4], ["v", "revision  1", "kind      structure", "who       ops"]);
    assert!(lines[4].starts_with("time      20") && lines[4].ends_with('Z'), "{shown}");
    assert_eq!(lines[5..], ["size      2 B", "expires   never"]);
    assert!(place.run(&["get", "b", "soon", "--stat"]).done().contains("expires   in 59m "));

    let fields = &place.run(&["get", "b", "k", "--json"]).json()[0];
    assert_eq!(fields["key"], "k");
    assert_eq!(fields["value"], "v");
    assert_eq!(fields["revision"], 1);
    assert_eq!(fields["kind"], "structure");
    assert_eq!(fields["who"], "ops");
    assert_eq!(fields["size"], 2);
    assert!(fields["expires"].is_null() && fields.get("encoding").is_none());
    humantime::parse_rfc3339(fields["time"].as_str().unwrap()).unwrap();
    let fields = &place.run(&["get", "b", "soon", "--json"]).json()[0];
    humantime::parse_rfc3339(fields["expires"].as_str().unwrap()).unwrap();
}

/// Promise: keys and values that are not UTF-8 go in and come out, escaped for people, in base64 in
/// JSON.
/// Plant: `to_string_lossy` for the key sets another one.
#[test]
fn bytes_that_are_no_text() {
    let place = Place::with_bus();
    let key = OsString::from_vec(b"\xfe\tk".to_vec());
    let words = |words: &[&OsStr]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<OsString>>();
    let (set, get) = (OsStr::new("set"), OsStr::new("get"));
    let value = OsStr::from_bytes(b"\xff\x01");
    let raw = OsStr::new("--raw");
    place.run(&words(&[set, "b".as_ref(), &key, value, raw])).done();
    assert_eq!(place.run(&words(&[get, "b".as_ref(), &key])).stdout, b"\xff\x01\n");
    assert_eq!(place.attach("b").get_bytes(key.as_bytes()).unwrap().unwrap(), b"\xff\x01");
    assert_eq!(place.run(&["keys", "b"]).done(), "\\xfe\\tk\n");
    assert_eq!(place.run(&["keys", "b", "-0"]).stdout, b"\xfe\tk\0");
    assert_eq!(place.run(&["scan", "b"]).done(), "\\xfe\\tk\t\\xff\\x01\n");
    let object = &place.run(&["scan", "b", "--json"]).json()[0];
    let coded = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    assert_eq!(object["key"], coded(b"\xfe\tk"));
    assert_eq!(object["key_encoding"], "base64");
    assert_eq!(object["value"], coded(b"\xff\x01"));
    assert_eq!(object["encoding"], "base64");
    assert_eq!(object["kind"], "bytes");
}
