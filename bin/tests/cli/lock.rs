//! `lock`: a command under a lock; `members --watch`: who comes and goes.

use crate::harness::{Place, TOOL, eventually, hears, json};
use nix::sys::signal::Signal;

/// Promise: while the command runs nobody else has the lock; who waits too long gets its code and the holder's
/// name, and runs nothing; tokens rise.
/// Plant: a guard that is dropped before the command has ended.
#[test]
fn one_command_at_a_time() {
    let place = Place::with_bus();
    let holder = place.spawn(&["lock", "b", "l", "--", "sh", "-c", "echo in; read end; echo out"]);
    holder.until("in");
    let late = place.run(&["lock", "b", "l", "--timeout", "30ms", "--", "echo", "ran"]);
    assert_eq!((late.status.code(), late.text().as_str()), (Some(125), ""));
    let why = late.complaint();
    assert!(why.contains("lock `l`") && why.contains(&format!("pid {}", holder.pid())), "{why}");
    let coded = place.run(&["lock", "b", "l", "--timeout", "0s", "-E", "7", "--", "true"]);
    assert_eq!(coded.status.code(), Some(7));
    // A key of this name, another lock, a clear: not concerned.
    place.run(&["set", "b", "l", "v"]).done();
    place.run(&["clear", "b"]).done();
    place.run(&["lock", "b", "m", "--", "true"]).done();
    let waits = place.spawn(&["lock", "b", "l", "--", "sh", "-c", "echo $MEMBUS_LOCK_TOKEN"]);
    let (status, said) = holder.end();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    let first: u64 = waits.line().unwrap().parse().unwrap();
    assert_eq!(waits.end().0.code(), Some(0));
    let next = place.run(&["lock", "b", "l", "--", "sh", "-c", "echo $MEMBUS_LOCK_TOKEN"]).done();
    assert!(next.trim().parse::<u64>().unwrap() > first);
    place.is_whole("b");
}

/// Promise: the exit status is the command's; 128 and the signal's number; 126 and 127 when it was not run.
#[test]
fn the_status_is_the_commands() {
    let place = Place::with_bus();
    let code = |words: &[&str]| {
        let ran = place.run(&[&["lock", "b", "l", "--"], words].concat());
        ran.status.code().unwrap()
    };
    assert_eq!(code(&["true"]), 0);
    assert_eq!(code(&["sh", "-c", "exit 3"]), 3);
    assert_eq!(code(&["sh", "-c", "kill -TERM $$"]), 128 + Signal::SIGTERM as i32);
    assert_eq!(code(&["no-such-command"]), 127);
    assert_eq!(code(&["/"]), 126);
    assert!(place.run(&["lock", "none", "l", "--", "true"]).failed().contains("no bus"));
    assert_eq!(place.run(&["lock", "b", "l"]).status.code(), Some(2));
    assert_eq!(place.run(&["lock", "b", "", "--", "true"]).status.code(), Some(2));
}

/// Promise: signals go to the command, and its status counts; before it has begun they end the wait, and no
/// dead member stays.
/// Plant: the signals' defaults.
#[test]
fn signals_go_to_the_command() {
    let place = Place::with_bus();
    let script = "trap 'echo got; exit 9' TERM; echo in; while :; do sleep 0.02; done";
    let holder = place.spawn(&["lock", "b", "l", "--", "sh", "-c", script]);
    holder.until("in");
    let waits = place.spawn(&["lock", "b", "l", "--", "true"]);
    eventually("the waiter among the members", || {
        (place.run(&["members", "b"]).done().lines().count() == 3).then_some(())
    });
    waits.signal(Signal::SIGTERM);
    assert_eq!(waits.end().0.code(), Some(128 + Signal::SIGTERM as i32));
    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.rest(), ["got"]);
    assert_eq!(holder.end().0.code(), Some(9));
    assert_eq!(place.run(&["members", "b"]).done().lines().count(), 1);
}

/// Promise: when `lock` is killed, its command is killed and the lock is free.
/// Plant: no `PR_SET_PDEATHSIG`: the command goes on.
#[test]
fn a_killed_holder_takes_its_command_with_it() {
    let place = Place::with_bus();
    let holder = place.spawn(&["lock", "b", "l", "--", "sh", "-c", "echo $$; exec sleep 1000"]);
    let command = holder.line().unwrap();
    holder.signal(Signal::SIGKILL);
    assert!(place.run(&["lock", "b", "l", "--timeout", "20s", "--", "true"]).status.success());
    let status = format!("/proc/{command}/stat");
    eventually("the command's end", || {
        let stat = std::fs::read_to_string(&status).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
    drop(holder);
    place.is_whole("b");
}

/// Promise: those who are there, then who joins, leaves and is killed, a line each.
/// Plant: no look for the dead where nobody keeps the bus.
#[test]
fn members_that_come_and_go() {
    let place = Place::with_bus();
    let watch = place.spawn(&["members", "b", "--watch"]);
    watch.until(&format!("joined 0:2 {} cli", watch.pid()));
    let objects = place.spawn(&["members", "b", "--watch", "--count", "3", "--json"]);
    let line = |what: &str, pid: u32| {
        let line = watch.line().unwrap();
        line.starts_with(&format!("{what} ")) && line.contains(&format!(" {pid} "))
    };
    assert!(line("joined", objects.pid()));
    let killed = place.spawn(&["wait", "b", "never"]);
    let told: Vec<_> = objects.rest().iter().map(|line| json(line)).collect();
    let pids: Vec<_> = told.iter().map(|object| object["pid"].as_u64().unwrap() as u32).collect();
    assert_eq!(pids, [watch.pid(), objects.pid(), killed.pid()]);
    assert!(told.iter().all(|object| object["event"] == "joined" && object["label"] == "cli"));
    // One left as soon as it had seen the other join: in one look they come in the order of slots.
    let mut words: Vec<_> = (0..2).map(|_| watch.line().unwrap()).collect();
    words.sort_unstable();
    let begins =
        |line: &String, what: &str, slot: u32| line.starts_with(&format!("{what} {slot}:"));
    assert!(begins(&words[0], "joined", 2) && begins(&words[1], "left", 1), "{words:?}");
    killed.signal(Signal::SIGKILL);
    assert!(line("died", killed.pid()));
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.end().0.code(), Some(128 + Signal::SIGTERM as i32));
    let ended = place.run(&["members", "b", "--watch", "--timeout", "10ms"]);
    assert_eq!(ended.status.code(), Some(1));
}

/// Promise: who waits for the lock runs its command also when the tool's file was replaced meanwhile.
/// Plant: the file's name in place of the program that runs.
#[test]
fn the_tool_may_be_replaced_meanwhile() {
    let place = Place::with_bus();
    let tool = place.path("tmp/membus");
    std::fs::copy(TOOL, &tool).unwrap();
    let bus = place.attach("b");
    let held = bus.lock("l").unwrap();
    let waits = place.spawn_by(&[tool.to_str().unwrap()], &["lock", "b", "l", "--", "echo", "ran"]);
    eventually("the waiter among the members", || {
        (place.run(&["members", "b"]).done().lines().count() == 3).then_some(())
    });
    std::fs::remove_file(&tool).unwrap();
    held.release().unwrap();
    assert_eq!(waits.rest(), ["ran"]);
    assert_eq!(waits.end().0.code(), Some(0));
}

/// Promise: a signal that was ignored at the start stays ignored, as `nohup` wants it.
/// Plant: handlers for all that say to end.
#[test]
fn what_is_ignored_stays_ignored() {
    let place = Place::with_bus();
    let words = ["sh", "-c", r#"trap "" HUP; exec "$0" "$@""#, TOOL];
    let keep = place.spawn_by(&words, &["keep", "b"]);
    keep.says("keeping");
    assert!(hears(keep.pid(), Signal::SIGTERM) && !hears(keep.pid(), Signal::SIGHUP));
    keep.signal(Signal::SIGHUP);
    keep.signal(Signal::SIGTERM);
    let (status, said) = keep.end();
    assert!(status.success() && said.contains("signal 15: closing"), "{said}");
    // And so it does for a command: the first bit of the mask.
    let command = ["lock", "b", "l", "--", "grep", "SigIgn", "/proc/self/status"];
    let mask = place.spawn_by(&words, &command).until("SigIgn:");
    let mask = u64::from_str_radix(mask.trim_start_matches("SigIgn:").trim(), 16).unwrap();
    assert_eq!(mask & 1, 1, "{mask:x}");
}
