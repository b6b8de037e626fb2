//! Namespaces: who lives is told by the kernel's locks, which know none; pids are for people.

use crate::harness::actor::{actor, actor_under};
use crate::harness::part::Part;
use crate::harness::{Place, assert_whole, eventually, living, skipped};
use membus::{Cursor, ReadBus};
use std::process::{Command, Stdio};

/// Whether the machine lets us have such namespaces.
fn can(test: &str, words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg("true").stdout(Stdio::null()).stderr(Stdio::piped());
    match command.output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            skipped(test, String::from_utf8_lossy(&output.stderr).trim());
            false
        }
        Err(error) => {
            skipped(test, &format!("{}: {error}", words[0]));
            false
        }
    }
}

/// Says its pid as it sees it, holds a key, and answers each line with a change.
pub(crate) fn native(part: &Part) {
    let bus = part.attach();
    bus.put(part.word("label")).ephemeral().set(&std::process::id()).unwrap();
    let mut watch = bus.watch_from("ask", Cursor::NOW).unwrap();
    crate::harness::caught_up(&mut watch);
    part.say(&format!("here {}", std::process::id()));
    while part.hear().is_some() {
        crate::harness::next_change(&mut watch);
        bus.set(format!("answer/{}", part.word("label")), &std::process::id()).unwrap();
        part.say("answered");
    }
}

/// Promise (members): processes of different PID namespaces, each of them pid 1 of its own, share a bus;
/// one that is killed is found dead and buried, the other stays.
/// Plant: `alive` decided by `kill(pid, 0)` calls the wrong ones dead.
#[test]
fn members_of_several_pid_namespaces() {
    let words = ["unshare", "-p", "-f", "--kill-child"];
    if !can("members_of_several_pid_namespaces", &words) {
        return;
    }
    let place = Place::new();
    let bus = place.open_small();
    let start = |label| actor_under(&words, "native", &place).with("label", label).start();
    let (mut one, mut two) = (start("one"), start("two"));
    assert_eq!((one.expect("here"), two.expect("here")), ("1".to_owned(), "1".to_owned()));
    let pids: Vec<_> = bus.members().unwrap().iter().map(|m| m.pid).collect();
    assert_eq!(pids.iter().filter(|pid| **pid == 1).count(), 2, "{pids:?}");
    for (number, native) in [&mut one, &mut two].into_iter().enumerate() {
        native.tell("ask");
        bus.set("ask", &number).unwrap();
        native.expect("answered");
    }
    one.kill();
    eventually("the end of the dead one's key", || (!bus.contains("one").unwrap()).then_some(()));
    assert_eq!(bus.get::<u32>("two").unwrap(), Some(1));
    eventually("the end of its burial", || (living(&bus) == 2).then_some(()));
    // What it slept through while the other was told.
    two.tell("ask");
    bus.set("ask", &9).unwrap();
    two.expect("answered");
    assert_eq!(two.end(), [""; 0]);
    assert_whole(&bus);
}

/// Promise (watching): a member of another mount namespace, which sees the directory by a mount of its
/// own, is woken and wakes.
/// Plant: a doorbell named by its absolute path in this namespace.
#[test]
fn a_member_of_another_mount_namespace_is_woken() {
    let test = "a_member_of_another_mount_namespace_is_woken";
    let place = Place::new();
    let elsewhere = Place::new();
    let (here, there) = (place.path().to_str().unwrap(), elsewhere.path().to_str().unwrap());
    // The place is bound over the other one, and what it was is hidden.
    let bind = format!("mount --bind {here} {there} && mount -t tmpfs none {here} && exec \"$@\"");
    let words = ["unshare", "-m", "--propagation", "private", "sh", "-c", &bind, "sh"];
    if !can(test, &words) {
        return;
    }
    let bus = place.open_small();
    let mut other = actor_under(&words, "native", &elsewhere).with("label", "other").start();
    other.expect("here");
    other.tell("ask");
    bus.set("ask", &1).unwrap();
    other.expect("answered");
    assert!(bus.contains("answer/other").unwrap() && bus.contains("other").unwrap());
    other.kill();
    eventually("the end of its key", || (!bus.contains("other").unwrap()).then_some(()));
    let nearby = actor("native", &place).with("label", "nearby").start();
    nearby.expect("here");
    nearby.end();
    assert_whole(&bus);
}
