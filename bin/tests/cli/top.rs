//! `top`: what goes on, live.

use crate::harness::{Place, eventually};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

/// Promise: where nobody looks, one frame as text; with `--json` an object a tick until a signal, or one with `--once`;
/// it shows who does what since the look before, and what is wrong.
/// Plant: totals in place of what was done since: rates that never fall.
#[test]
fn frames_and_objects() {
    let place = Place::with_bus();
    for number in 0..20 {
        place.run(&["set", "b", &format!("k{number}"), "v"]).done();
    }
    let bus = place.options().label("feeder").attach_at(place.bus("b")).unwrap();
    for options in [&["--once"] as &[&str], &[]] {
        let shown = place.run(&[&["top", "b", "--interval", "60ms"], options].concat()).done();
        for part in ["b  revision 20, 20 entries, 1 members", "PER SECOND", "feeder", "no_keeper"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        let row = shown.lines().find(|line| line.starts_with("sets ")).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["sets", "0", "20"]);
    }
    let one = place.run(&["top", "b", "--interval", "60ms", "--once", "--json"]).json();
    assert_eq!((one.len(), &one[0]["rates"]["sets"]), (1, &0.0.into()));
    let top = place.spawn(&["top", "b", "--json", "--interval", "60ms"]);
    let tick = |what: &str, is_it: &dyn Fn(&serde_json::Value) -> bool| {
        while !is_it(&crate::harness::json(&top.line().unwrap_or_else(|| panic!("{what}")))) {}
    };
    tick("the first", &|_| true);
    for _ in 0..200 {
        bus.add("n", 1).unwrap();
    }
    tick("it is busy", &|at| {
        let feeder = &at["members"][0];
        feeder["label"] == "feeder" && feeder["adds"].as_f64() > Some(0.0)
    });
    tick("it is quiet", &|at| at["rates"]["adds"] == 0.0);
    top.signal(Signal::SIGINT);
    assert_eq!(top.end().0.code(), Some(130));
    assert!(place.run(&["top", "none", "--once"]).failed().contains("none"));
}

/// Promise: on a terminal it draws until q, Ctrl-C or a signal, and gives the terminal back as it was.
/// Plant: no `Drop` of the screen: what is typed is not shown any more.
#[test]
fn the_terminal_is_given_back() {
    let place = Place::with_bus();
    for how in ["q", "\x03", "TERM"] {
        let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        assert!(before.local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON));
        let end = || File::from(pty.slave.try_clone().unwrap());
        let mut command = place.command(&["top", "b", "--interval", "100ms"]);
        command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end());
        let mut child = command.spawn().unwrap();
        let (mut master, shown) = (File::from(pty.master), Arc::new(Mutex::new(Vec::new())));
        let (mut from, to) = (master.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut part) {
                to.lock().unwrap().extend_from_slice(&part[..count]);
            }
        });
        let has = |text: &str| {
            let shown = shown.lock().unwrap();
            shown.windows(text.len()).any(|part| part == text.as_bytes()).then_some(())
        };
        eventually("a frame", || has("PER SECOND"));
        assert!(!tcgetattr(&pty.slave).unwrap().local_flags.contains(LocalFlags::ECHO));
        match how {
            "TERM" => kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap(),
            keys => master.write_all(keys.as_bytes()).unwrap(),
        }
        let status = eventually("the end", || child.try_wait().unwrap());
        let due = if how == "TERM" { 128 + 15 } else { 0 };
        assert_eq!(status.code(), Some(due), "{how:?}");
        assert_eq!(tcgetattr(&pty.slave).unwrap().local_flags, before.local_flags, "{how:?}");
        eventually("the screen as it was", || has("\x1b[?1049l"));
    }
}

/// Promise: an interval that no clock can tell the end of is waited out as one that is longer than anybody waits.
/// Plant: its end computed as it is given: a panic.
#[test]
fn the_longest_interval() {
    let place = Place::with_bus();
    let longest = u64::MAX.to_string();
    let mut top = place.spawn(&["top", "b", "--once", "--interval", &longest]);
    top.says_or_ends("");
    top.signal(Signal::SIGINT);
    assert_eq!(top.end().0.code(), Some(130));
}
