//! `demo`: right counts, and nothing left behind however it ends.

use crate::harness::{Place, eventually, json, processes_with};
use nix::sys::signal::Signal;
use std::path::Path;

/// A directory with a few texts and what is no text.
fn texts(place: &Place) -> String {
    let root = place.path("texts");
    std::fs::create_dir_all(root.join("deep/er")).unwrap();
    for number in 0..20 {
        let words: String =
            (0..3000).map(|n| format!("word{} Wort{number}\n", n % (50 + number))).collect();
        std::fs::write(root.join(format!("deep/er/{number}.txt")), words).unwrap();
    }
    std::fs::write(root.join("picture"), b"\x89PNG\0\0").unwrap();
    std::fs::write(root.join("odd"), b"caf\xc3\xa9 \xff\xfe caf\xc3\xa9").unwrap();
    root.to_str().unwrap().to_owned()
}

/// Nothing of a demo is there any more: no file, no process.
fn is_gone(place: &Place) -> bool {
    place.tree("buses").is_empty()
        && place.tree("state").is_empty()
        && place.tree("tmp").is_empty()
        && processes_with(&place.path("buses")).is_empty()
}

/// Promise: workers are killed, the region is destroyed and rebuilt, and every count is right; nothing
/// is left behind.
/// Plants: the counts in a batch before the mark's own, which counts pieces of the dead twice; a store
/// that is kept.
#[test]
fn counts_are_right_and_nothing_is_left() {
    let place = Place::new();
    let root = texts(&place);
    let ran = place.run(&["demo", &root, "--workers", "3", "--kills", "4", "--json"]);
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let report = json(ran.text().trim_end());
    assert_eq!(report["equal"], true);
    assert_eq!((&report["files"], &report["skipped_binary"]), (&21.into(), &1.into()));
    assert_eq!(report["words"], 20 * 6000 + 2);
    // word0 to word68, Wort0 to Wort19, caf\u{e9}
    assert_eq!(report["distinct_words"], 69 + 20 + 1);
    assert_eq!(report["kills"], 4);
    assert_eq!(report["check"]["clean"], true);
    for part in [
        "/operations_per_second",
        "/latency/p50_ns",
        "/latency/p99_ns",
        "/snapshot/size",
        "/recoveries",
        "/burials",
    ] {
        assert!(report.pointer(part).unwrap().as_u64().unwrap() > 0, "{part} of {report}");
    }
    let rebuild = &report["rebuild"];
    assert!(rebuild["pieces_after"].as_u64() < rebuild["pieces_before"].as_u64(), "{report}");
    assert!(report["snapshot"]["seconds"].as_f64().unwrap() > 0.0);
    assert!(ran.stderr.contains("100 %"), "{ran:?}");
    assert!(is_gone(&place), "{:?}", place.tree(""));
}

/// Promise: a demo that is interrupted, or killed, leaves nothing behind either.
/// Plants: without the signal handler, the directories stay at SIGTERM; without the watcher's clean-up,
/// at SIGKILL; without the look at the signal in `reason`, the end of a worker is told at SIGINT.
#[test]
fn an_interrupted_demo_leaves_nothing() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGKILL] {
        let place = Place::new();
        let root = texts(&place);
        let demo = place.spawn(&["demo", &root, "--workers", "3", "--kills", "2"]);
        eventually("three workers and a watcher", || {
            (processes_with(&place.path("buses")).len() == 4).then_some(())
        });
        if signal == Signal::SIGINT {
            demo.signal_all(signal);
        } else {
            demo.signal(signal);
        }
        if signal == Signal::SIGKILL {
            // Its standard error stays open until the watcher has ended.
            demo.end();
        } else {
            let (status, stderr) = demo.end();
            assert_eq!(status.code(), Some(128 + signal as i32), "{stderr}");
            assert!(stderr.ends_with(&format!(
                "membus: demo: ended by signal {}; nothing is left behind\n",
                signal as i32
            )));
            assert!(is_gone(&place), "{signal}: {:?}", place.tree(""));
        }
        eventually("the last process", || is_gone(&place).then_some(()));
    }
}

/// Promise: where there is nothing to count, it says so: exit status 2, nothing left.
/// Plant: without the look at the bytes, a demo of no files is equal.
#[test]
fn nothing_to_count() {
    let place = Place::new();
    let empty = place.path("empty");
    std::fs::create_dir(&empty).unwrap();
    std::fs::write(empty.join("binary"), b"\0").unwrap();
    assert!(place.run(&["demo", empty.to_str().unwrap()]).failed().contains("no text files"));
    assert!(place.run(&["demo", "nowhere"]).failed().contains("nowhere"));
    assert!(is_gone(&place));
    assert!(Path::new(&empty).exists());
}

/// Promise: a single small file is enough, and many workers do no harm.
/// Plant: a `moments` that wants a span of pieces has none here.
#[test]
fn a_single_file() {
    let place = Place::new();
    let root = place.path("one");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("file"), "a few words, no more: a few").unwrap();
    let root = root.to_str().unwrap();
    let ran = place.run(&["demo", root, "--workers", "8", "--kills", "1", "--json"]);
    let report = &ran.json()[0];
    assert_eq!((&report["words"], &report["distinct_words"]), (&7.into(), &5.into()));
    assert_eq!(report["equal"], true);
    assert!(is_gone(&place));
}
