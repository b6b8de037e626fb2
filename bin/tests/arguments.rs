//! Arguments of any bytes: the command ends with a status of its own, never by a panic or a signal.
//!
//! `MEMBUS_FUZZ_SECONDS` says how long they are tried, 10 unless said; `MEMBUS_SEED` tries one seed.

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// All commands but `demo`, which starts processes of its own.
const COMMANDS: [&str; 32] = [
    "create",
    "set",
    "get",
    "delete",
    "clear",
    "keys",
    "scan",
    "add",
    "batch",
    "ttl",
    "watch",
    "snapshot",
    "info",
    "members",
    "check",
    "destroy",
    "keep",
    "buses",
    "help",
    "publish",
    "subscribe",
    "wait",
    "doctor",
    "queue",
    "backup",
    "restore",
    "convert",
    "export",
    "import",
    "metrics",
    "health",
    "top",
];
/// What follows `queue`.
const OF_QUEUES: [&str; 7] = ["put", "take", "ack", "release", "extend", "list", "purge"];
/// Words that mean something somewhere.
const WORDS: [&str; 36] = [
    "orders",
    "k",
    "-",
    "--",
    "--json",
    "--stat",
    "--prefix",
    "--ttl",
    "--timeout",
    "--from",
    "--who",
    "--capacity",
    "--max-capacity",
    "--persist",
    "--mode",
    "--if-absent",
    "--if-revision",
    "--every",
    "--dir",
    "--type",
    "5s",
    "8M",
    "-1",
    "0",
    "18446744073709551616",
    "1e999",
    "none",
    "image:x",
    "--for",
    "--after",
    "--limit",
    "1-2",
    "--rate",
    "--interval",
    "--once",
    "x.json",
];
/// How long a command may take that is not told to wait.
const LIMIT: Duration = Duration::from_secs(10);
/// After which those that wait by nature are ended.
const ENOUGH: Duration = Duration::from_millis(300);

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Any bytes but the two that the kernel or the place of this test would stumble over.
fn junk(rng: &mut fastrand::Rng) -> OsString {
    let len = *rng.choice(&[0, 1, 3, 20, 300, 5000, 100_000]).unwrap();
    let bytes = (0..len).map(|_| rng.u8(1..)).map(|byte| if byte == b'/' { b'.' } else { byte });
    OsString::from_vec(bytes.collect())
}

fn arguments(rng: &mut fastrand::Rng) -> Vec<OsString> {
    let word = |rng: &mut fastrand::Rng| -> OsString {
        match rng.u8(..8) {
            0 => junk(rng),
            1 => [rng.choice(&WORDS).unwrap(), "=", rng.choice(&WORDS).unwrap()].concat().into(),
            _ => rng.choice(&WORDS).unwrap().into(),
        }
    };
    let mut words: Vec<OsString> = Vec::new();
    if rng.u8(..8) == 0 {
        words.push(word(rng));
    }
    let command = *rng.choice(&COMMANDS).unwrap();
    words.push(command.into());
    if command == "queue" {
        words.push(rng.choice(&OF_QUEUES).unwrap().into());
    }
    if rng.u8(..4) > 0 {
        words.push("orders".into());
    }
    words.extend((0..rng.usize(..5)).map(|_| word(rng)));
    words
}

/// Runs the command, and ends it when it waits for something.
fn run(place: &Path, words: &[OsString], input: &[u8]) -> (Option<ExitStatus>, String) {
    let errors = std::fs::File::create(place.join("errors")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_membus"))
        .args(words)
        .current_dir(place.join("here"))
        .env("MEMBUS_DIR", place.join("buses"))
        .env("XDG_STATE_HOME", place.join("state"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .unwrap();
    // Who does not read its input has closed it.
    let _sent = child.stdin.take().unwrap().write_all(input);
    let waits = words.iter().any(|word| {
        ["watch", "keep", "subscribe", "wait", "take", "top"].iter().any(|waits| word == waits)
    });
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if begun.elapsed() > if waits { ENOUGH } else { LIMIT } {
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(waits, "it does not end");
            break None;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let errors = std::fs::read(place.join("errors")).unwrap();
    (status, String::from_utf8_lossy(&errors).into_owned())
}

/// Plant: a panic in a command (`unwrap` of an argument that is no UTF-8) ends with status 101.
#[test]
fn arguments_of_any_bytes_end_with_a_status() {
    let place = tempfile::tempdir_in("/dev/shm").unwrap();
    for name in ["here", "buses", "state"] {
        std::fs::create_dir(place.path().join(name)).unwrap();
    }
    let long = Duration::from_secs(setting("MEMBUS_FUZZ_SECONDS").unwrap_or(10));
    let (begun, mut sums) = (Instant::now(), [0_u64; 4]);
    let first = setting("MEMBUS_SEED").or_else(|| setting("MEMBUS_FIRST"));
    for seed in first.unwrap_or(0).. {
        let mut rng = fastrand::Rng::with_seed(seed);
        let words = arguments(&mut rng);
        let mut input = vec![0; rng.usize(..200)];
        rng.fill(&mut input);
        let (status, errors) = run(place.path(), &words, &input);
        let code = status.map(|status| status.code());
        // A command that it is to run and that is not there.
        let is_run = words.iter().any(|word| word == "take");
        let is_own = matches!(code, None | Some(Some(0..=2)));
        let is_none = is_run && matches!(code, Some(Some(126 | 127)));
        let is_fine = (is_own || is_none) && !errors.contains("panicked");
        assert!(is_fine, "MEMBUS_SEED={seed}: {words:?}: {status:?}: {errors}");
        sums[code.flatten().map_or(3, |code| code.min(2) as usize)] += 1;
        if begun.elapsed() > long || setting("MEMBUS_SEED").is_some() {
            break;
        }
    }
    println!("done, absent, errors, ended: {sums:?}");
    println!("earned {} hostile command lines", sums.iter().sum::<u64>());
}
