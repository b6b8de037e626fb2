//! Four processes at full load on a small bus, killed and replaced; an oracle outside of the region.

use super::load;
use super::oracle::Oracle;
use crate::harness::actor::{Actor, actor};
use crate::harness::{
    Place, Rng, Seed, assert_report, assert_whole, earned, eventually, heavy, os, parameter,
    quantile, spread, tell, tree,
};
use membus::Bus;
use nix::sys::signal::Signal;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Processes at a time.
pub(super) const PLACES: usize = 4;
/// Kills on one bus; then a new one grows.
const KILLS_A_BUS: u64 = 50;
/// A bound for keys that only an attaching member removes, not for speed: where a keeper lives 250 ms are
/// promised from the kernel's release of the lock on, and the figures are printed.
const BURIAL: Duration = Duration::from_secs(2);

/// How one bus is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// The test keeps the bus, and is not killed; else the processes do.
    pub(super) keeps: bool,
    /// Clears, and no sums; else sums, and no clears.
    pub(super) clears: bool,
    /// Places whose processes are killed: the first ones. Where some are not, these alone keep the bus.
    pub(super) mortal: usize,
    /// Microseconds from one kill to the next at most.
    pub(super) load: u64,
}

impl Plan {
    /// Whether the process of this place may be keeper.
    fn may_keep(self, place: usize) -> bool {
        !self.keeps && (self.mortal == PLACES || place >= self.mortal)
    }

    /// Whether somebody keeps the bus who is not killed.
    fn is_kept(self) -> bool {
        self.keeps || self.mortal < PLACES
    }
}

/// What was found over all buses.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) kills: u64,
    burials: Vec<Duration>,
    waits: Vec<Duration>,
    pub(super) changes: u64,
    in_doubt: u64,
    happened: u64,
    grown: u64,
}

pub(super) struct Stage {
    plan: Plan,
    pub(super) place: Place,
    pub(super) bus: Bus,
    members: File,
    pub(super) cast: Vec<(Actor, u64)>,
    oracle: Oracle,
}

impl Stage {
    pub(super) fn begin(plan: Plan, rng: &mut Rng) -> Self {
        let place = Place::new();
        let options = place.small().log_size(256 << 10).keeper(plan.keeps);
        let options = options.snapshot_every(Duration::from_millis(50));
        let bus = options.open_at(place.bus()).unwrap();
        let members = File::open(place.bus().join("members")).unwrap();
        let oracle = Oracle::new(PLACES);
        let mut stage = Self { plan, place, bus, members, cast: Vec::new(), oracle };
        for index in 0..PLACES {
            let next = stage.start(index, rng);
            stage.cast.push(next);
        }
        stage.go_on();
        stage
    }

    fn start(&self, index: usize, rng: &mut Rng) -> (Actor, u64) {
        let mut casting = actor("load", &self.place).with("at", index);
        casting = casting.with("seed", rng.next() >> 1).with("label", format!("load {index}"));
        if self.plan.clears {
            casting = casting.with("clears", 1);
        }
        if self.plan.may_keep(index) {
            casting = casting.with("keeper", 1);
        }
        let process = casting.start();
        let slot = process.expect("attached").parse().unwrap();
        (process, slot)
    }

    fn go_on(&mut self) {
        self.cast.iter_mut().for_each(|process| process.0.tell("go"));
    }

    /// Takes what the living have said so far.
    fn listen(&mut self) {
        for (index, process) in self.cast.iter().enumerate() {
            while let Some(line) = process.0.try_line() {
                self.oracle.hear(index, &line);
            }
        }
    }

    /// Kills some at the same moment; takes all that they had said. Gives when the kernel had let their
    /// locks go.
    fn kill(&mut self, victims: &[usize]) -> Instant {
        for victim in victims {
            self.cast[*victim].0.signal(Signal::SIGKILL);
        }
        for victim in victims {
            let slot = self.cast[*victim].1;
            let released = || (!os::is_alive(&self.members, slot)).then_some(());
            eventually("the kernel's release of a lock", released);
        }
        let released = Instant::now();
        for victim in victims {
            let process = &mut self.cast[*victim].0;
            for line in process.rest() {
                self.oracle.hear(*victim, &line);
            }
            let status = process.wait();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
            self.oracle.left(*victim);
        }
        released
    }

    /// Lets the others finish what they have begun, and begin nothing.
    fn pause(&mut self, dead: &[usize]) {
        let living = (0..PLACES).filter(|index| !dead.contains(index));
        for index in living.clone() {
            self.cast[index].0.tell("pause");
        }
        for index in living {
            loop {
                let line = self.cast[index].0.line().unwrap_or_else(|| panic!("a survivor ended"));
                if line == "paused" {
                    break;
                }
                self.oracle.hear(index, &line);
            }
        }
    }

    /// Lets them work for a while, kills one or two, and compares; `look` sees what is there when nobody writes.
    pub(super) fn round(&mut self, rng: &mut Rng, totals: &mut Totals, look: impl FnOnce(&Self)) {
        let begun = Instant::now();
        let load = rng.micros(self.plan.load);
        while begun.elapsed() < load {
            self.listen();
            std::thread::sleep(Duration::from_micros(50).min(load));
        }
        let mortal = self.plan.mortal;
        let first = rng.below(mortal as u64) as usize;
        let second = (first + 1 + rng.below(mortal as u64 - 1) as usize) % mortal;
        let victims = if rng.once_in(6) { vec![first, second] } else { vec![first] };
        let released = self.kill(&victims);
        totals.kills += victims.len() as u64;
        if self.plan.is_kept() && rng.once_in(2) {
            eventually("the end of what vanishes with the dead", || {
                self.listen();
                victims.iter().all(|v| !Oracle::is_left(&self.bus, *v)).then_some(())
            });
            totals.burials.push(released.elapsed());
        }
        self.pause(&victims);
        self.oracle.compare(&self.bus);
        assert_whole(&self.bus);
        look(self);
        for victim in victims {
            self.cast[victim] = self.start(victim, rng);
        }
        self.go_on();
    }

    /// Lets the living leave, and compares; `look` sees what is there then.
    pub(super) fn end(mut self, totals: &mut Totals, look: impl FnOnce(&Self)) {
        for (index, process) in std::mem::take(&mut self.cast).into_iter().enumerate() {
            for line in process.0.end() {
                self.oracle.hear(index, &line);
            }
            self.oracle.left(index);
        }
        self.oracle.compare(&self.bus);
        let info = self.bus.info().unwrap();
        totals.grown += u64::from(info.capacity > 4 << 20);
        eventually("the burial of all the dead", || {
            let attached = self.bus.members().unwrap();
            let last = if self.plan.keeps { attached.len() } else { 1 };
            (last == 1).then_some(())
        });
        if self.plan.keeps {
            assert_eq!(self.bus.info().unwrap().watches, 0, "watches of the dead are left");
            assert_eq!(tree(&self.place.bus().join("bell")), [""; 0].map(PathBuf::from));
        }
        totals.changes += self.oracle.changes;
        totals.in_doubt += self.oracle.in_doubt;
        totals.happened += self.oracle.happened;
        totals.waits.append(&mut self.oracle.waits);
        look(&self);
        self.bus.close().unwrap();
        assert_report(|| membus::check(self.place.bus()).unwrap());
    }
}

/// Promise "robust": a process may be killed at any moment: every acknowledged change stays, the one in doubt
/// is there whole or not at all, no value is torn, no space is lost, no lock is left, the others go on, and
/// what vanishes with the dead is gone within 250 ms of the kernel's release where a keeper lives.
/// Method: four processes set values of all sizes, delete, commit batches, add, clear, set keys that vanish
/// or expire, scan, watch and pin on a bus that begins small, grows and doubles, while snapshots are taken;
/// one or two at a time are killed at a random moment. They say through a pipe what they begin and what is
/// acknowledged; after each kill the others pause, everything is compared, and the region is checked.
/// Plants: `READY` stored after the finish; `retired &= occupied` alone as the repair; a burial without
/// `delete_owned`, or that leaves the bells; `take_back` left out.
#[test]
fn killed_at_any_moment_under_load() {
    let _alone = heavy();
    let seed = Seed::of("killed_at_any_moment_under_load");
    let mut rng = seed.rng();
    let (begun, wanted) = (Instant::now(), parameter("MEMBUS_IT_KILLS", 300));
    let mut totals = Totals::default();
    for bus in 0.. {
        if totals.kills >= wanted {
            break;
        }
        let (keeps, clears) = (bus % 2 == 0, bus / 2 % 2 == 1);
        let plan = Plan { keeps, clears, mortal: PLACES, load: 20_000 };
        let mut stage = Stage::begin(plan, &mut rng);
        let until = (totals.kills + KILLS_A_BUS).min(wanted);
        while totals.kills < until {
            stage.round(&mut rng, &mut totals, |_| {});
        }
        stage.end(&mut totals, |_| {});
    }
    let Totals { kills, changes, in_doubt, happened, grown, .. } = totals;
    earned(kills, "kills under load");
    tell(&format!(
        "kills: {kills} in {:?}, {changes} changes acknowledged, {in_doubt} in doubt of which \
         {happened} at least had happened, none torn, lost or leaked; {grown} buses grew",
        begun.elapsed()
    ));
    tell(&format!("  changes that waited 5 ms or more: {}", spread(&mut totals.waits)));
    tell(&format!("  what vanishes with the dead, gone after {}", spread(&mut totals.burials)));
    assert!(quantile(&mut totals.burials, 0.75) <= BURIAL);
    assert!(grown > 0 && changes > kills * 10);
}

/// The load's values say what they are.
#[test]
fn a_torn_value_is_seen() {
    let mut value = load::value(77, 500);
    assert_eq!(load::tag_of(&value), 77);
    value[300] ^= 1;
    assert!(std::panic::catch_unwind(|| load::tag_of(&value)).is_err());
}
