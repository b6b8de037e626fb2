//! Where an operation is stepped: a bus, and the process that does it.

use crate::operations::Operation;
use membus::{Bus, Options, Persist, Watch};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
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
            let mut dead = this.command("dead").spawn().unwrap();
            assert!(!dead.wait().unwrap().success(), "it kills itself");
        }
        this
    }

    /// This binary, to play `part` here.
    fn command(&self, part: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["victim", "--exact", "--nocapture", "--test-threads=1"]);
        command.env(PART, part).env(PLACE, self.place.path());
        command
    }

    /// Who does the operation, and the bus that it does it on.
    pub(crate) fn victim(&self, operation: &Operation, role: Role) -> (Command, PathBuf) {
        (self.command(&format!("{role:?} {}", operation.name)), bus_at(self.place.path()))
    }
}

/// Plays the part that the environment names.
pub(crate) fn play() {
    let (Some(part), Some(place)) = (std::env::var_os(PART), std::env::var_os(PLACE)) else {
        return;
    };
    let (part, place) = (part.into_string().unwrap(), PathBuf::from(place));
    let mut stage = Stage { place, bus: None, neighbour: None, watch: None };
    match part.split_once(' ') {
        Some((role, name)) => step_here(&mut stage, role == "Buried", Operation::named(name)),
        None => die(&stage),
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
    if let Err(refused) = ptrace::traceme() {
        return println!("@refused: {refused}");
    }
    println!("@ready: {}", nix::unistd::gettid());
    raise(Signal::SIGSTOP).unwrap();
    (operation.run)(stage);
    raise(Signal::SIGSTOP).unwrap();
}

/// Dies with ephemeral keys, a watch and two slots.
fn die(stage: &Stage) {
    let (one, two) = (stage.attach(), stage.attach());
    for (bus, key) in [(&one, "mine 1"), (&two, "mine 2"), (&two, "mine 3")] {
        bus.put(key).ephemeral().set_bytes(key).unwrap();
    }
    let _watch = two.watch("k").unwrap();
    std::thread::sleep(Duration::from_millis(1));
    raise(Signal::SIGKILL).unwrap();
}
