//! Limits of a process: what they refuse is an error of the call, never the end of the process.

use crate::harness::actor::{Actor, actor_under};
use crate::harness::part::Part;
use crate::harness::{Place, assert_whole, tree};
use membus::{Bus, Cursor, Error, Options, ReadBus};

const MIB: usize = 1 << 20;

/// Lives under limits. `use` attaches, writes, reads, watches and goes; `fill` sets values of 1 MiB until
/// one is refused; `snapshot` takes one. Says how it ended.
pub(crate) fn user(part: &Part) {
    part.say("here");
    while let Some(what) = part.hear() {
        match act(&part.options(), part, &what) {
            Ok(()) => part.say("done"),
            Err(error) => part.say(&format!("error {error}")),
        }
    }
}

fn act(options: &Options, part: &Part, what: &str) -> Result<(), Error> {
    let bus = options.attach_at(part.place.bus())?;
    match what {
        "fill" => fill(&bus)?,
        "snapshot" => drop(bus.snapshot()?),
        _ => {
            bus.set("used", &1)?;
            let mut watch = bus.watch_from("used", Cursor::NOW)?;
            while watch.try_recv()?.is_some() {}
            bus.set("used", &2)?;
            drop(watch.recv()?);
            assert_eq!(bus.get::<i32>("used")?, Some(2));
            drop(bus.snapshot()?);
        }
    }
    Ok(())
}

fn fill(bus: &Bus) -> Result<(), Error> {
    for number in 0..32 {
        bus.set_bytes(format!("big/{number}"), vec![number; MIB])?;
    }
    Ok(())
}

/// Somebody who lives under a limit that the shell sets.
fn under(limit: &str, place: &Place) -> Actor {
    let command = format!("ulimit {limit} && exec \"$@\"");
    let actor = actor_under(&["sh", "-c", &command, "sh"], "limits_user", place).start();
    actor.expect("here");
    actor
}

/// What it says to this; it must live on.
fn answer(actor: &mut Actor, what: &str) -> String {
    actor.tell(what);
    actor.line().unwrap_or_else(|| panic!("it did not survive `{what}`"))
}

/// Promise: however few files a process may open, it is told so; nobody is left in the members, nothing
/// stays locked, and with enough of them all goes well.
/// Plant: the doorbell's socket is unwrapped in `attach`.
#[test]
fn too_few_open_files_are_an_error() {
    let place = Place::new();
    let bus = place.small().keeper(false).open_at(place.bus()).unwrap();
    let (mut refused, mut done) = (0, 0);
    for files in 8..40 {
        let mut actor = under(&format!("-n {files}"), &place);
        let said = answer(&mut actor, "use");
        match said.strip_prefix("error ") {
            Some(error) => {
                assert!(error.contains("os error 24"), "{files} files: {error}");
                refused += 1;
            }
            None => done += 1,
        }
        actor.end();
        assert_eq!(bus.members().unwrap().len(), 1, "{files} files");
        assert_whole(&bus);
    }
    assert!(refused > 3 && done > 3, "{refused} refused, {done} done");
}

/// Promise: the limit of a file's size is an error of growth and of snapshots, with what was there before
/// still there; the kernel would end a process that wrote beyond it.
/// Plant: `within_limit` left out: the part is gone without a word.
#[test]
fn files_too_large_for_the_process_are_an_error() {
    let place = Place::new();
    let options = place.options().keeper(false).max_capacity(128 << 20);
    let bus = options.open_at(place.bus()).unwrap();
    bus.set("kept", &1).unwrap();
    bus.snapshot().unwrap();
    let images = place.image_files();
    // In units of 512 bytes: 16 MiB.
    let mut actor = under("-f 32768", &place);
    let said = answer(&mut actor, "fill");
    assert!(said.starts_with("error the bus is full") && said.contains("os error 27"), "{said}");
    let stored = bus.keys("big/").unwrap().len();
    assert!((4..16).contains(&stored), "{stored}");
    // Another process may go beyond; the snapshot of that is too large for this one.
    fill(&bus).unwrap();
    let said = answer(&mut actor, "snapshot");
    assert!(said.starts_with("error") && said.contains("os error 27"), "{said}");
    assert_eq!(place.image_files(), images, "the last good one stays");
    assert_eq!(tree(&place.images()).len(), 1, "nothing half-made stays");
    assert_eq!(answer(&mut actor, "fill"), "done", "there is room by now");
    actor.end();
    bus.snapshot().unwrap();
    assert_eq!(bus.get("kept").unwrap(), Some(1));
    assert_whole(&bus);
}

/// Promise: too little address space is an error of attaching.
/// Plant: `Mapping::new` that unwraps.
#[test]
fn too_little_address_space_is_an_error() {
    let place = Place::new();
    let bus = place.options().keeper(false).max_capacity(8 << 30).open_at(place.bus()).unwrap();
    let mut actor = under("-v 4000000", &place);
    let said = answer(&mut actor, "use");
    assert!(said.starts_with("error mapping") && said.contains("os error 12"), "{said}");
    actor.end();
    assert_eq!(bus.members().unwrap().len(), 1);
}
