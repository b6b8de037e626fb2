//! `batch`: all or none, from JSON lines.

use crate::harness::Place;
use serde_json::json;

/// Promise: all changes of a batch are made, and the last revision is printed.
/// Plant: reading only the first line.
#[test]
fn all_changes_are_made() {
    let place = Place::with_bus();
    let lines = r#"
        {"op":"require_absent","key":"text"}
        {"op":"set","key":"text","value":"a\u0000b"}
        {"op":"set","key":"data","value":{"x":[1]},"if_absent":true}

        {"op":"set","key":"raw","value":"/wA=","encoding":"base64"}
        {"op":"set","key":"/wA=","key_encoding":"base64","value":"r","as":"raw"}
        {"op":"set","key":"n","value":40,"as":"int"}
        {"op":"set","key":"soon","value":null,"ttl":"1h"}
        {"op":"set","key":"mine","value":1,"ephemeral":true}"#;
    assert_eq!(place.run_with(&["batch", "b", "-"], lines.as_bytes()).done(), "7\n");
    let scan = place.run(&["scan", "b"]).done();
    let expected =
        "data\t{\"x\":[1]}\nn\t40\nraw\t\\xff\\x00\nsoon\tnull\ntext\ta\\u{0}b\n\\xff\\x00\tr\n";
    assert_eq!(scan, expected, "an ephemeral entry goes with the command");
    let more = r#"{"op":"add","key":"n","by":2}
        {"op":"delete","key":"text"}
        {"op":"delete","key":"nothing"}
        {"op":"require_revision","key":"data","revision":2}"#;
    let ran = place.run_with(&["batch", "b", "--json", "--who", "ops"], more.as_bytes());
    // Seven, the end of the ephemeral entry, an addition, a delete.
    assert_eq!(ran.json(), [json!({"revision": 10})]);
    assert_eq!(place.run(&["get", "b", "n", "--json"]).json()[0]["who"], "ops");
    place.run(&["get", "b", "text"]).absent();
}

/// Promise: one condition that does not hold, or one line that is wrong, and nothing is changed; its
/// line is named.
/// Plants: `index` in place of `index + 1`; without `if_absent` in `conditions`, the third case is made.
#[test]
fn none_when_one_is_wrong() {
    let place = Place::with_bus();
    place.run(&["set", "b", "there", "1"]).done();
    let begin = "{\"op\":\"set\",\"key\":\"new\",\"value\":1}\n\n";
    let cases = [
        (r#"{"op":"require_absent","key":"there"}"#, 1),
        (r#"{"op":"require_revision","key":"there","revision":7}"#, 1),
        (r#"{"op":"set","key":"there","value":2,"if_absent":true}"#, 1),
        (r#"{"op":"delete","key":"there","if_revision":7}"#, 1),
        (r#"{"op":"add","key":"there"}"#, 2),
        (r#"{"op":"set","key":"","value":1}"#, 2),
        (r#"{"op":"set","key":"k","value":1,"iff_absent":true}"#, 2),
        ("nonsense", 2),
    ];
    for (line, code) in cases {
        let ran = place.run_with(&["batch", "b", "-"], format!("{begin}{line}\n").as_bytes());
        assert_eq!(ran.status.code(), Some(code), "{line}: {ran:?}");
        assert!(ran.complaint().starts_with("line 3: "), "{line}: {ran:?}");
        assert_eq!(place.run(&["keys", "b"]).done(), "there\n", "{line}");
    }
    assert_eq!(place.run(&["get", "b", "there", "--json"]).json()[0]["revision"], 1);
}

/// Promise: a batch comes from a file too; without a change it prints the newest revision, on a bus
/// without a change 0.
/// Plant: without the special case, conditions alone on a new bus are an error.
#[test]
fn batches_without_changes() {
    let place = Place::with_bus();
    let condition = br#"{"op":"require_absent","key":"a"}"#;
    assert_eq!(place.run_with(&["batch", "b"], condition).done(), "0\n");
    assert_eq!(place.run_with(&["batch", "b"], b"").done(), "0\n");
    std::fs::write(place.path("lines"), r#"{"op":"add","key":"n"}"#).unwrap();
    assert_eq!(place.run(&["batch", "b", "lines"]).done(), "1\n");
    assert_eq!(place.run_with(&["batch", "b"], condition).done(), "1\n");
    assert!(place.run(&["batch", "b", "no-file"]).failed().contains("no-file"));
    let many: String =
        (0..16_384).map(|n| format!("{{\"op\":\"add\",\"key\":\"k{n}\"}}\n")).collect();
    assert_eq!(place.run_with(&["batch", "b"], many.as_bytes()).done(), "16385\n");
}
