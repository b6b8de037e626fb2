//! System calls that the kernel refuses, in the real tool: those too that do not pass the library's seam, of the
//! standard library and of dependencies.
//!
//! A first run under `strace` tells which calls a command makes; then each of them fails in a run of its own, with
//! each error, in a place of its own (`strace -e inject`; a thread counts its own calls). Left out are what comes
//! before `main`, what hands out memory or sets up threads and signals (an allocator that is refused ends a Rust
//! program), and errors that the kernel does not have for a call, of which the standard library or a dependency
//! says that they can't be.
//!
//! `MEMBUS_REFUSALS` says how many of a command, 30 unless said; `all`: all of them. `MEMBUS_SEED`: another choice.

use crate::harness::{Place, Ran, Running};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::{Command, Stdio};

const ALL: &[&str] = &["ENOSPC", "EIO", "EINTR", "ENOMEM", "EMFILE", "ENOLCK", "EAGAIN"];
/// Calls, and what they may fail with.
const CALLS: &[(&str, &[&str])] = &[
    ("bind", ALL),
    ("clone3", ALL),
    ("close", &["EINTR"]),
    ("connect", ALL),
    ("fallocate", ALL),
    ("fchmod", ALL),
    ("fcntl", ALL),
    ("fdatasync", ALL),
    ("fsync", ALL),
    ("ftruncate", ALL),
    ("futex", &["EAGAIN", "EINTR"]),
    ("getdents64", ALL),
    ("getrandom", &["EINTR"]),
    ("ioctl", ALL),
    ("lseek", ALL),
    ("madvise", ALL),
    ("mkdir", ALL),
    ("newfstatat", ALL),
    ("openat", ALL),
    ("poll", &["EINTR", "ENOMEM", "EAGAIN"]),
    ("prctl", ALL),
    ("prlimit64", ALL),
    ("read", ALL),
    ("recvfrom", &["EINTR", "EAGAIN"]),
    ("rename", ALL),
    ("rmdir", ALL),
    ("sched_getaffinity", ALL),
    ("sendto", ALL),
    ("setsockopt", ALL),
    ("socket", ALL),
    ("socketpair", ALL),
    ("statx", ALL),
    ("unlink", ALL),
    ("unlinkat", ALL),
    ("write", ALL),
];

/// The `nth` call of this name fails so.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    call: &'static str,
    nth: usize,
    error: &'static str,
}

/// Named when its run fails the test.
struct Told(Refusal);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{:?}", self.0);
        }
    }
}

/// A command, what comes before it, and what must be so after it, however it ended.
struct Scene {
    prepare: fn(&Place),
    words: &'static [&'static str],
    whole: fn(&Place, &Ran, Refusal),
}

fn bus(place: &Place) {
    let images = format!("image:{}", place.path("tmp/images").display());
    place.run(&["create", "b", "--persist", &images]).done();
    place.run(&["set", "b", "k", "old"]).done();
}

fn bus_and_snapshot(place: &Place) {
    bus(place);
    place.run(&["snapshot", "b"]).done();
    place.run(&["set", "b", "k", "new"]).done();
}

fn bus_and_backup(place: &Place) {
    bus(place);
    place.run(&["backup", "b", "tmp/backup"]).done();
    place.run(&["set", "b", "k", "new"]).done();
}

fn lost(place: &Place) {
    bus_and_snapshot(place);
    place.run(&["snapshot", "b"]).done();
    std::fs::remove_dir_all(place.bus("b")).unwrap();
}

/// The bus can be made or is there; it is whole, holds one of these, and works.
fn holds(place: &Place, allowed: &[Option<&str>], what: &str) {
    let made = place.run(&["create", "b"]);
    assert!(matches!(made.status.code(), Some(0 | 1)), "{what}: {made:?}");
    assert!(!place.bus("b").join("region.new").exists(), "{what}: a half-made region");
    let checked = place.run(&["check", "b"]);
    assert_eq!(checked.status.code(), Some(0), "{what}: {checked:?}");
    let got = place.run(&["get", "b", "k"]);
    let value = (got.status.code() == Some(0)).then(|| got.text());
    let value = value.as_deref().map(str::trim_end);
    assert!(allowed.contains(&value), "{what}: {got:?}");
    let set = place.run(&["set", "b", "k", "next"]);
    assert_eq!(set.status.code(), Some(0), "{what}: {set:?}");
    assert_eq!(place.run(&["get", "b", "k"]).done(), "next\n", "{what}");
    place.is_whole("b");
}

/// What is there after something that did all or nothing.
fn did(place: &Place, ran: &Ran, old: &str, new: &str, what: Refusal) {
    let both = [Some(new), Some(old)];
    let is_done = ran.status.code() == Some(0);
    holds(place, if is_done { &both[..1] } else { &both }, &format!("{what:?}"));
}

const CREATE: Scene = Scene {
    prepare: |_| {},
    words: &["create", "b"],
    whole: |place, _, what| holds(place, &[None], &format!("{what:?}")),
};

const REBUILD: Scene = Scene {
    prepare: lost,
    words: &["create", "b"],
    whole: |place, _, what| {
        // An image of which the disk says that it can't be read is damaged; what is lacking for now is not.
        let is_damage = matches!(what.error, "EIO" | "ENOSPC" | "ENOLCK");
        let allowed = [Some("new"), Some("old")];
        holds(place, &allowed[..1 + usize::from(is_damage)], &format!("{what:?}"));
    },
};

const SET: Scene = Scene {
    prepare: bus,
    words: &["set", "b", "k", "new"],
    whole: |place, ran, what| did(place, ran, "old", "new", what),
};

const GET: Scene = Scene {
    prepare: bus,
    words: &["get", "b", "k"],
    whole: |place, ran, what| {
        let is_whole = ran.status.code() != Some(0) || ran.text() == "old\n";
        assert!(is_whole, "{what:?}: {ran:?}");
        holds(place, &[Some("old")], &format!("{what:?}"));
    },
};

const SNAPSHOT: Scene = Scene {
    prepare: bus_and_snapshot,
    words: &["snapshot", "b"],
    whole: |place, ran, what| {
        std::fs::remove_dir_all(place.bus("b")).unwrap();
        did(place, ran, "old", "new", what);
    },
};

const WATCH: Scene = Scene {
    prepare: bus,
    words: &["watch", "b", "--timeout", "30ms"],
    whole: |place, _, what| holds(place, &[Some("old")], &format!("{what:?}")),
};

const RESTORE: Scene = Scene {
    prepare: bus_and_backup,
    words: &["restore", "b", "tmp/backup"],
    whole: |place, ran, what| did(place, ran, "new", "old", what),
};

const DESTROY: Scene = Scene {
    prepare: bus_and_snapshot,
    words: &["destroy", "b", "--force"],
    whole: |place, ran, what| {
        if ran.status.code() == Some(0) {
            assert!(!place.bus("b").join("region").exists(), "{what:?}: a region is left");
        }
        let again = place.run(&["destroy", "b", "--force"]);
        assert!(matches!(again.status.code(), Some(0 | 2)), "{what:?}: {again:?}");
        holds(place, &[None], &format!("{what:?}"));
    },
};

const KEEP: Scene = Scene {
    prepare: bus,
    words: &["keep", "b"],
    whole: |place, _, what| holds(place, &[Some("old")], &format!("{what:?}")),
};

/// Starts the tool under `strace`, which stands aside (`-D`): the child is the tool.
fn start(place: &Place, words: &[&str], how: &[String]) -> Running {
    let plain = place.command(words);
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq"]).args(how).arg(plain.get_program()).args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(plain.get_current_dir().unwrap());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running::new(command.spawn().unwrap())
}

/// Runs it to its end; a keeper is told to end once it keeps, or as soon as it can be told.
fn run(place: &Place, scene: &Scene, how: &[String], is_mute: bool) -> Ran {
    let mut running = start(place, scene.words, how);
    if scene.words[0] == "keep" && running.says_or_ends(if is_mute { "" } else { "keeping" }) {
        running.signal(Signal::SIGTERM);
    }
    let stdout = running.rest().iter().fold(String::new(), |text, line| text + line + "\n");
    let (status, stderr) = running.end();
    Ran { what: scene.words.join(" "), status, stdout: stdout.into_bytes(), stderr }
}

/// What of its calls may be refused, by the trace of a run.
fn refusals(trace: &Path) -> Vec<Refusal> {
    let trace = std::fs::read_to_string(trace).unwrap();
    let calls = trace.lines().filter_map(|line| {
        let (thread, call) = line.split_once(' ')?;
        Some((thread, call.trim_start().split_once('(')?.0))
    });
    let mut begun: BTreeMap<&str, usize> = BTreeMap::new();
    let mut made: HashMap<(&str, &str), usize> = HashMap::new();
    let mut is_begun = false;
    for (thread, call) in calls {
        *made.entry((thread, call)).or_default() += 1;
        if !is_begun {
            *begun.entry(call).or_default() += 1;
            // With it the standard library looks at the first three descriptors, before `main`.
            is_begun = call == "poll";
        }
    }
    let mut refusals = Vec::new();
    for (call, errors) in CALLS {
        let most = made.iter().filter(|((_, name), _)| name == call).map(|(_, count)| *count).max();
        for nth in begun.get(call).copied().unwrap_or(0)..most.unwrap_or(0) {
            refusals.extend(errors.iter().map(|error| Refusal { call, nth: nth + 1, error }));
        }
    }
    refusals
}

/// Each refusal, or a choice of them, in a run of its own.
fn refuse(scene: &Scene) {
    let probe = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    if !probe.as_ref().is_ok_and(|output| output.status.success()) {
        return println!("skipped: no `strace` here, or it may not trace: {probe:?}");
    }
    let place = Place::new();
    (scene.prepare)(&place);
    let trace = place.path("trace");
    let ran = run(&place, scene, &["-o".into(), trace.display().to_string()], false);
    assert!(matches!(ran.status.code(), Some(0 | 1)), "{ran:?}");
    let mut all = refusals(&trace);
    assert!(all.len() > 100, "{}: {} refusals", ran.what, all.len());
    let asked = std::env::var("MEMBUS_REFUSALS").unwrap_or_else(|_| "30".to_owned());
    let seed = std::env::var("MEMBUS_SEED").map_or(1, |text| text.parse().unwrap());
    let count = if asked == "all" { all.len() } else { asked.parse().unwrap() };
    fastrand::Rng::with_seed(seed).shuffle(&mut all);
    all.truncate(count);
    for refusal in &all {
        let Refusal { call, nth, error } = refusal;
        let _told = Told(*refusal);
        let place = Place::new();
        (scene.prepare)(&place);
        let inject = format!("inject={call}:error={error}:when={nth}");
        let how = ["-o".into(), "/dev/null".into(), "-e".into(), inject];
        let ran = run(&place, scene, &how, *call == "write");
        let is_end = matches!(ran.status.code(), Some(0..=2)) && !ran.stderr.contains("panicked");
        assert!(is_end, "{refusal:?}: {ran:?}");
        (scene.whole)(&place, &ran, *refusal);
    }
    println!("MEMBUS_SEED={seed}: {}: each of {} calls refused alone", ran.what, all.len());
    println!("earned {} system calls of the tool refused", all.len());
}

/// Promise: whatever call is refused, the tool ends in time with status 0, 1 or 2 and no panic, and
/// leaves a bus that is whole and works: all was done, or nothing.
/// Plants: the newest image passed over when it can't be opened or read for now (`create`, rebuilding); a thread
/// for the spinner that must be had (`snapshot`, `restore`); a keeper that hears of a signal by its bell alone.
#[test]
fn creating() {
    refuse(&CREATE);
}
#[test]
fn rebuilding() {
    refuse(&REBUILD);
}
#[test]
fn setting() {
    refuse(&SET);
}
#[test]
fn getting() {
    refuse(&GET);
}
#[test]
fn saving() {
    refuse(&SNAPSHOT);
}
#[test]
fn watching() {
    refuse(&WATCH);
}
#[test]
fn restoring() {
    refuse(&RESTORE);
}
#[test]
fn destroying() {
    refuse(&DESTROY);
}
#[test]
fn keeping() {
    refuse(&KEEP);
}
