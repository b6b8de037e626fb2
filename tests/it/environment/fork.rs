//! Forks of every make: the child reads, takes a seat of its own before it writes, and touches nothing of
//! its parent's.

use crate::harness::actor::{Actor, actor};
use crate::harness::os::{Fork, fork, in_child};
use crate::harness::part::Part;
use crate::harness::{Place, assert_whole, caught_up, eventually, heavy, living, next_change};
use membus::{Bus, Calls, Cursor, Event, ReadBus, Subscription, ValueGuard, Watch, WatchError};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::panic::AssertUnwindSafe;
use std::process::{Command, Stdio};
use std::time::Duration;

const BOTH: [Fork; 2] = [Fork::Library, Fork::Bare];

fn how(part: &Part) -> Fork {
    if part.has("bare") { Fork::Bare } else { Fork::Library }
}

fn start(part: &'static str, place: &Place, how: Fork) -> Actor {
    let casting = actor(part, place).with("label", "parent");
    if how == Fork::Bare { casting.with("bare", 1).start() } else { casting.start() }
}

#[track_caller]
fn ended_well(child: Pid) {
    let status = waitpid(child, None).unwrap();
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
}

/// What a child does with the copies of its parent's handle, guard, watch and subscription.
fn child_of_holder(
    part: &Part,
    bus: &Bus,
    (guard, mut watch, calls): (ValueGuard<'_>, Watch, Subscription),
) {
    assert_eq!(bus.get::<u32>("k").unwrap(), Some(7), "it reads at once");
    // The hook of a part ends its process.
    let ends = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let read = std::panic::catch_unwind(AssertUnwindSafe(|| guard.len()));
    std::panic::set_hook(ends);
    assert!(read.is_err(), "its bytes are pinned for the parent alone");
    assert_eq!(calls.calls(), Calls::default());
    assert!(matches!(watch.try_recv(), Err(WatchError::Forked)));
    let waited = watch.recv_timeout(Duration::from_millis(1));
    assert!(matches!(waited, Err(WatchError::Forked)), "{waited:?}");
    drop((guard, watch, calls));
    bus.set_bytes("held", b"").unwrap();
    bus.put("child's").ephemeral().set_bytes(b"").unwrap();
    for _ in 0..2000 {
        bus.set_bytes("held", vec![2; 600]).unwrap();
    }
    let guard = bus.read("held").unwrap().unwrap();
    assert!(guard.is_in_place() && guard.iter().all(|byte| *byte == 2));
    let mut watch = bus.watch("child").unwrap();
    assert!(matches!(watch.recv().unwrap(), Event::Current(_)));
    let members = bus.members().unwrap();
    let mine: Vec<_> = members.iter().filter(|m| m.pid == std::process::id()).collect();
    assert!(mine.len() == 1 && mine[0].alive, "{members:?}");
    bus.set("child", &std::process::id()).unwrap();
    part.say(&format!("child {} {}", mine[0].pid, mine[0].slot));
}

/// Forks with a guard, a watch and a subscription in its hands; of each of the latter there is something to tell.
pub(crate) fn holder(part: &Part) {
    let bus = part.attach();
    bus.set("k", &7_u32).unwrap();
    bus.put("mine").ephemeral().set_bytes(b"").unwrap();
    bus.set_bytes("held", vec![1; 600]).unwrap();
    let guard = bus.read("held").unwrap().unwrap();
    assert!(guard.is_in_place());
    let mut watch = bus.watch_from("child", Cursor::NOW).unwrap();
    caught_up(&mut watch);
    let calls = bus.on("t", |_| {}).unwrap();
    bus.publish("t", &1).unwrap();
    eventually("a call", || (calls.calls().made == 1).then_some(()));
    bus.set("child/pending", &1).unwrap();
    let child = match fork(how(part)) {
        Some(child) => child,
        None => in_child(|| child_of_holder(part, &bus, (guard, watch, calls))),
    };
    assert_eq!(&*next_change(&mut watch).key, b"child/pending");
    assert_eq!(&*next_change(&mut watch).key, b"child's");
    assert_eq!(&*next_change(&mut watch).key, b"child");
    ended_well(child);
    assert!(guard.iter().all(|byte| *byte == 1), "the child let the parent's guard go");
    for _ in 0..2000 {
        bus.set_bytes("held", vec![3; 600]).unwrap();
    }
    assert!(guard.iter().all(|byte| *byte == 1));
    assert!(watch.try_recv().unwrap().is_none_or(|event| matches!(event, Event::Change(_))));
    part.say("parent");
    while part.hear().is_some() {}
}

/// Promise "fork": the child reads at once and writes by a seat of its own; copies of a guard and of a
/// watch do its parent no harm; its keys that vanish go with it, the parent's stay.
/// Plants: a guard that reads whoever pinned; `unpin` without the look at the fork lets the parent's guard go; `is_ours` that
/// answers true takes the parent's doorbell; a wait whose first looks do not ask it tells the parent's change; `calls` without
/// the look at the fork; `leave` that does nothing keeps the parent alive (next test).
#[test]
fn a_child_has_a_seat_of_its_own_and_leaves_its_parent_alone() {
    for how in BOTH {
        let place = Place::new();
        let bus = place.open_small();
        let parent = start("fork_holder", &place, how);
        let child = parent.expect("child");
        let (pid, slot) = child.split_once(' ').unwrap();
        parent.expect("parent");
        eventually("the end of the child's keys", || {
            (!bus.contains("child's").unwrap()).then_some(())
        });
        assert!(bus.contains("mine").unwrap(), "{how:?}: the parent's key is the parent's");
        let members = bus.members().unwrap();
        let found = members.iter().find(|m| m.label.as_deref() == Some("parent")).unwrap();
        assert!(found.alive && found.pid == parent.pid(), "{members:?}");
        assert_ne!(found.slot.to_string(), slot);
        assert_eq!(bus.get::<u32>("child").unwrap().unwrap().to_string(), pid);
        parent.end();
        assert!(!bus.contains("mine").unwrap());
        assert_whole(&bus);
    }
}

/// Forks a child that lives on.
pub(crate) fn orphan(part: &Part) {
    let bus = part.attach();
    bus.put("mine").ephemeral().set_bytes(b"").unwrap();
    if fork(how(part)).is_none() {
        in_child(|| {
            if !part.has("reads") {
                bus.set("child", &1).unwrap();
            }
            assert!(bus.contains("mine").unwrap());
            part.say(&format!("child {}", std::process::id()));
            nix::unistd::pause();
        });
    }
    part.say("parent");
    while part.hear().is_some() {}
}

/// Promise "fork": a parent's death is noticed although its child lives, and what it held goes; the
/// child's own seat stays.
/// Plant: `leave` that points nothing elsewhere: the child keeps its parent's lock, and the parent never
/// seems dead.
#[test]
fn a_parent_that_is_killed_is_dead_although_its_child_lives() {
    for (how, reads) in [(Fork::Library, true), (Fork::Library, false), (Fork::Bare, false)] {
        let place = Place::new();
        let bus = place.open_small();
        let casting = actor("fork_orphan", &place).with("label", "parent");
        let casting = if how == Fork::Bare { casting.with("bare", 1) } else { casting };
        let mut parent = if reads { casting.with("reads", 1).start() } else { casting.start() };
        let (mut child, mut said) = (None, 0);
        while said < 2 {
            let line = parent.line().unwrap();
            child = line.strip_prefix("child ").map(|pid| pid.parse().unwrap()).or(child);
            said += 1;
        }
        let child = Pid::from_raw(child.unwrap());
        parent.kill();
        eventually("the end of the dead parent's key", || {
            (!bus.contains("mine").unwrap()).then_some(())
        });
        eventually("the end of its burial", || {
            (bus.members().unwrap().iter().all(|m| m.pid != parent.pid())).then_some(())
        });
        let members = bus.members().unwrap();
        let lives = members.iter().any(|m| m.pid == child.as_raw() as u32 && m.alive);
        assert_eq!(lives, !reads, "{how:?} {members:?}");
        kill(child, Signal::SIGKILL).unwrap();
        assert_eq!(parent.rest(), [""; 0]);
        eventually("the child's end", || (living(&bus) == 1).then_some(()));
        assert_whole(&bus);
    }
}

/// Detaches while a child has copies of all its descriptors, and destroys the bus.
pub(crate) fn leaver(part: &Part) {
    let bus = part.options().keeper(true).open_at(part.place.bus()).unwrap();
    eventually("the keeper's first turn", || bus.info().unwrap().keeper);
    let child = match fork(Fork::Bare) {
        Some(child) => child,
        None => in_child(nix::unistd::pause),
    };
    drop(bus);
    let end = part.options().destroy_at(part.place.bus(), false);
    kill(child, Signal::SIGKILL).unwrap();
    waitpid(child, None).unwrap();
    part.say(&format!("{end:?}"));
}

/// Promise (life): whoever detaches is gone at once, also while another thread starts a process, which has a copy of
/// every descriptor until its `exec`.
/// Method: a child made past the C library stands where such a process does for a moment.
/// Plant: the bytes left to the descriptor's end: a bus that nobody uses can't be destroyed.
#[test]
fn who_detaches_while_a_process_is_started_is_gone() {
    let place = Place::new();
    let leaver = actor("fork_leaver", &place).start();
    assert_eq!(leaver.line().as_deref(), Some("Ok(())"));
    leaver.end();
    assert!(!place.bus().exists());
}

/// Forks again and again while its threads read, write and watch.
pub(crate) fn crowd(part: &Part) {
    let bus = part.options().keeper(true).open_at(part.place.bus()).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let is_done = || done.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        for thread in 0..2_u32 {
            let bus = bus.clone();
            scope.spawn(move || {
                for number in 0_u32.. {
                    bus.set_bytes(format!("t{thread}/{}", number % 50), vec![1; 300]).unwrap();
                    let guard = bus.read(format!("t{thread}/{}", number / 2 % 50)).unwrap();
                    assert!(guard.is_none_or(|guard| guard.len() == 300));
                    if is_done() {
                        return;
                    }
                }
            });
        }
        let mut watch = bus.watch("t0/").unwrap();
        scope.spawn(move || {
            while !is_done() {
                watch.recv_timeout(Duration::from_millis(10)).unwrap();
            }
        });
        for number in 0..part.number("forks") as u32 {
            let child = match fork(Fork::Library) {
                Some(child) => child,
                None => in_child(|| {
                    bus.set(format!("child/{number}"), &number).unwrap();
                    assert!(bus.add("children", 1).unwrap() > i64::from(number));
                    assert!(bus.keys("t1/").unwrap().len() <= 50);
                }),
            };
            ended_well(child);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    part.say("over");
}

/// Promise "fork": a process with many threads, all in the bus, may fork; the child goes on and ends,
/// the parent's threads notice nothing.
/// Plant: `hold` left out of the fork's handler: a child finds the list of descriptors half-way.
#[test]
fn a_busy_process_may_fork() {
    let _alone = heavy();
    let place = Place::new();
    let bus = place.open_small();
    let parent = actor("fork_crowd", &place).with("forks", 150).start();
    parent.expect("over");
    parent.end();
    assert_eq!(bus.get::<i64>("children").unwrap(), Some(150));
    assert_eq!(bus.keys("child/").unwrap().len(), 150);
    assert_whole(&bus);
}

/// What a shell says of its own descriptors.
const LIST: &str = "for f in /proc/$$/fd/*; do echo \"@fd $(readlink $f)\"; done; echo @done; cat";

/// Holds everything that a bus has descriptors for, and becomes another program that lists its own.
pub(crate) fn becomes(part: &Part) {
    let bus = part.options().keeper(true).open_at(part.place.bus()).unwrap();
    bus.put("mine").ephemeral().set_bytes(b"").unwrap();
    let _guard = bus.read("mine").unwrap();
    let _watch = bus.watch("").unwrap();
    let reader = membus::BusReader::open_at(part.place.bus()).unwrap();
    let _polls = reader.watch("").unwrap();
    let error = Command::new("/bin/sh").arg("-c").arg(LIST).exec();
    panic!("exec: {error}");
}

/// Promise "fork": `exec` closes every descriptor of the bus, and the member is gone with it.
/// Plant: `open` without `O_CLOEXEC`.
#[test]
fn nothing_of_a_bus_outlives_exec() {
    let place = Place::new();
    let bus = place.open_small();
    let other = actor("fork_becomes", &place).start();
    let mut descriptors = Vec::new();
    while let Some(path) = other.line().unwrap().strip_prefix("fd ") {
        descriptors.push(path.to_owned());
    }
    // As many as a shell has that this process starts: what the test itself was given.
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(LIST).stdin(Stdio::piped()).stderr(Stdio::inherit());
    let fresh = String::from_utf8(shell.output().unwrap().stdout).unwrap();
    assert_eq!(descriptors.len(), fresh.matches("@fd").count(), "{descriptors:?} {fresh}");
    eventually("the end of its key", || (!bus.contains("mine").unwrap()).then_some(()));
    eventually("the end of its burial", || (living(&bus) == 1).then_some(()));
    other.end();
    assert_whole(&bus);
}
