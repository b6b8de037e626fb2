//! Where an operation is stepped: a bus, and the process that does it.

use crate::files::{self, Story};
use crate::operations::Operation;
use membus::{Bus, Options, Persist, Watch};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Bytes that a bus may grow to: as few as there may be.
pub(crate) const MAX: usize = 4 << 20;
/// The least that a log may have; the copies are smaller.
const LOG: u64 = 4096;

const PART: &str = "MEMBUS_STEPPED_PART";
const PLACE: &str = "MEMBUS_STEPPED_PLACE";

/// What becomes of the victim's slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Who comes next gets it.
    Inherited,
    /// It is another one, and who comes next buries its owner.
    Buried,
}

/// What the victim has.
pub(crate) struct Stage {
    place: PathBuf,
    pub(crate) bus: Option<Bus>,
    /// Keeps the slot that comes before the victim's.
    pub(crate) neighbour: Option<Bus>,
    pub(crate) watch: Option<Watch>,
}

pub(crate) fn options(place: &Path) -> Options {
    let options = Bus::options().keeper(false).state(place.join("state"));
    let images = Persist::Image(place.join("images"));
    options.persist(images).max_capacity(MAX as u64).capacity(0).log_size(LOG)
}

pub(crate) fn bus_at(place: &Path) -> PathBuf {
    place.join("bus")
}

impl Stage {
    pub(crate) fn attach(&self) -> Bus {
        options(&self.place).attach_at(bus_at(&self.place)).unwrap()
    }
    pub(crate) fn bus(&self) -> &Bus {
        self.bus.as_ref().unwrap()
    }
}

/// A bus that nobody is attached to.
pub(crate) struct Workshop {
    pub(crate) place: tempfile::TempDir,
}

impl Workshop {
    pub(crate) fn new(operation: &Operation) -> Self {
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        let bus = options(place.path()).create_at(bus_at(place.path())).unwrap();
        for number in 0..12 {
            bus.set_bytes(format!("k{number}"), vec![number; 40]).unwrap();
        }
        bus.add("n", 7).unwrap();
        (operation.fill)(&bus);
        drop(bus);
        let this = Self { place };
        if operation.has_dead {
            kill("dead", this.place.path());
        }
        this
    }

    /// Who does the operation.
    pub(crate) fn victim(&self, operation: &Operation, role: Role) -> Command {
        command(&format!("{role:?} {}", operation.name), self.place.path())
    }
}

/// This binary, to play `part` in a place.
pub(crate) fn command(part: &str, place: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["victim", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(PART, part).env(PLACE, place);
    command
}

/// Lets somebody play `part` who kills itself.
pub(crate) fn kill(part: &str, place: &Path) {
    let end = command(part, place).status().unwrap();
    assert_eq!(end.signal(), Some(Signal::SIGKILL as i32), "{part}: {end:?}");
}

/// Plays the part that the environment names.
pub(crate) fn play() {
    let (Some(part), Some(place)) = (std::env::var_os(PART), std::env::var_os(PLACE)) else {
        return;
    };
    let (part, place) = (part.into_string().unwrap(), PathBuf::from(place));
    if let Some(name) = part.strip_prefix("story ") {
        return between_stops(|| (Story::named(name).run)(&place));
    }
    if part == "story's dead" {
        return die(|| files::options(&place).attach_at(bus_at(&place)).unwrap());
    }
    let mut stage = Stage { place, bus: None, neighbour: None, watch: None };
    match part.split_once(' ') {
        Some((role, name)) => step_here(&mut stage, role == "Buried", Operation::named(name)),
        None => die(|| stage.attach()),
    }
}

/// Does an operation between two stops.
fn step_here(stage: &mut Stage, buried: bool, operation: &Operation) {
    stage.neighbour = buried.then(|| stage.attach());
    if operation.attaches {
        stage.bus = Some(stage.attach());
        stage.neighbour = None;
    }
    (operation.prepare)(stage);
    between_stops(|| (operation.run)(stage));
}

fn between_stops(run: impl FnOnce()) {
    if let Err(refused) = ptrace::traceme() {
        return println!("@refused: {refused}");
    }
    println!("@ready: {}", nix::unistd::gettid());
    raise(Signal::SIGSTOP).unwrap();
    run();
    raise(Signal::SIGSTOP).unwrap();
}

/// Dies with ephemeral keys, a watch and two slots.
fn die(attach: impl Fn() -> Bus) {
    let (one, two) = (attach(), attach());
    for (bus, key) in [(&one, "mine 1"), (&two, "mine 2"), (&two, "mine 3")] {
        bus.put(key).ephemeral().set_bytes(key).unwrap();
    }
    let _watch = two.watch("k").unwrap();
    std::thread::sleep(Duration::from_millis(1));
    raise(Signal::SIGKILL).unwrap();
}
