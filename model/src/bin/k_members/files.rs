//! The files: opening, creating and destroying a bus, by several processes at once.
//!
//! A *life* of a bus is one creation of its files; the region, the members file and what is kept
//! elsewhere (settings, snapshots) bear its number. The file `lock` may be unlinked while somebody
//! waits for its lock, and made anew by somebody else.
//!
//! *Checked:* one process at a time creates or destroys; no file of another life is removed or
//! replaced; nobody maps a half-made region or joins one that was unlinked or destroyed; a bus that is
//! in use is not destroyed without force; a destroyed one does not come back from what was kept. At
//! the end, one more process opens the bus, whatever died before, and finds one that is whole.

use membus_model::{Model, Steps, Suite};

#[path = "opener.rs"]
mod opener;

const NAMES: [&str; 4] = ["opener 1", "opener 2", "destroyer", "last opener"];
const DESTROYER: usize = 2;
const LAST: usize = 3;
/// Numbers of lives and of lock files, 0 for none.
const NUMBERS: usize = 8;
const NOBODY: u8 = 255;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// Whoever got the lock does not look whether its file is still the one at the path.
    LockNotChecked,
    /// What is kept of the bus is forgotten after the lock file was unlinked, as the code stood.
    ForgetsLate,
    /// What is kept of a bus whose files are lost is forgotten without the lock, as the code stood.
    ForgetsUnlocked,
    /// A destroyer asks whether members live and does not hold their bytes, as the code stood.
    TestsBytes,
    /// A region that says it is destroyed counts as there, as the code stood.
    DestroyedIsThere,
    /// An attacher does not compare the inodes.
    NoInodeCheck,
    /// The region is built under its name.
    BuiltInPlace,
    /// The members file is made after the region has its name.
    MembersLate,
}

/// What there is to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    Nothing,
    Bus,
    /// What is kept of a bus whose files are lost.
    Lost,
}

struct Files {
    begin: Begin,
    /// Whether the bus is destroyed whoever uses it.
    force: bool,
    /// Whether somebody removes region and members file without asking.
    outsider: bool,
    /// How often an opener leaves and opens again.
    again: u8,
    deaths: u8,
    plant: Option<Plant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum At {
    #[default]
    Look,
    // The file `lock`.
    OpenLock,
    WaitLock,
    CheckLock,
    // Creating.
    LookAgain,
    ForgetOld,
    RemoveOld,
    Clean,
    LoadKept,
    MakeMembers,
    MakeRegion,
    Fill,
    StoreKept,
    Publish,
    MembersLate,
    CloseLock,
    // Attaching.
    Map,
    OpenMembers,
    TakeByte,
    CheckInode,
    CheckDestroyed,
    Attached,
    Failed,
    // Destroying.
    MapOld,
    TakeBytes,
    Mark,
    ForgetLost,
    Forget,
    UnlinkRegion,
    UnlinkNew,
    UnlinkMembers,
    UnlinkLock,
    ForgetLate,
    CloseAll,
    Done,
    Dead,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
struct Process {
    at: At,
    /// The lock file that it has open.
    lock: u8,
    /// The life that it maps or makes.
    life: u8,
    /// Whether the region was unlinked already when it got its byte.
    late: bool,
    /// How often it has left.
    left: u8,
}

#[derive(Debug, Clone, Copy, Hash)]
struct State {
    // What the names in the directory lead to, by number; 0: no such name.
    region: u8,
    region_new: u8,
    members: u8,
    lock: u8,
    /// The life of which settings and snapshots are kept elsewhere.
    kept: u8,
    // By life: who holds bytes, who holds all the others, whether it is whole, and destroyed.
    seats: [u8; NUMBERS],
    closed: [u8; NUMBERS],
    whole: u8,
    destroyed: u8,
    /// By lock file: who holds its lock.
    lock_holder: [u8; NUMBERS],
    lives: u8,
    locks: u8,
    process: [Process; 4],
    deaths: u8,
    /// Whether the outsider has removed something.
    removed: bool,
}

fn has(bits: u8, number: u8) -> bool {
    bits & 1 << number != 0
}

impl Files {
    fn breaks(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    fn destroy(&self, state: &State, steps: &mut Steps<State>) {
        let (mut next, p, who) = (*state, state.process[DESTROYER], DESTROYER);
        let life = usize::from(p.life);
        let q = &mut next.process[who];
        let late = self.breaks(Plant::ForgetsLate);
        let what = match p.at {
            At::Look => {
                q.at = match (state.region, state.kept) {
                    (0, 0) => At::Done,
                    (0, _) if self.breaks(Plant::ForgetsUnlocked) => At::ForgetLost,
                    _ => At::OpenLock,
                };
                "looks for the region, and for what is kept"
            }
            At::MapOld => {
                (q.life, q.at) = (state.region, At::TakeBytes);
                if state.region == 0 {
                    q.at = At::ForgetLost;
                }
                "maps the region"
            }
            At::ForgetLost if state.keeps_of_the_living() => {
                let why = "what is kept of a bus that is there is forgotten";
                return steps.wrong(NAMES[who], "forgets a lost bus", why, state);
            }
            At::ForgetLost => {
                next.kept = 0;
                let unlocked = self.breaks(Plant::ForgetsUnlocked);
                q.at = if unlocked { At::Done } else { At::UnlinkLock };
                "forgets a lost bus"
            }
            At::TakeBytes if !self.force && state.seats[life] != 0 => {
                q.at = At::CloseAll;
                "finds the bus in use"
            }
            At::TakeBytes => {
                if !self.force && !self.breaks(Plant::TestsBytes) {
                    next.closed[life] = who as u8;
                }
                q.at = At::Mark;
                "takes the bytes of all slots"
            }
            At::Mark if !self.force && state.is_joined(p.life) => {
                let why = "a bus is destroyed while somebody uses it";
                return steps.wrong(NAMES[who], "stores `destroyed`", why, state);
            }
            At::Mark => {
                next.destroyed |= 1 << p.life;
                q.at = if late { At::UnlinkRegion } else { At::Forget };
                "stores `destroyed`"
            }
            _ => return self.unlink(state, steps),
        };
        steps.go(NAMES[who], what, next);
    }

    /// A destroyer removes the files, the file `lock` last.
    fn unlink(&self, state: &State, steps: &mut Steps<State>) {
        let (mut next, p, who) = (*state, state.process[DESTROYER], DESTROYER);
        let q = &mut next.process[who];
        let late = self.breaks(Plant::ForgetsLate);
        let foreign = |name: u8| name != 0 && name != p.life;
        let what = match p.at {
            At::Forget | At::ForgetLate if foreign(state.kept) => {
                let why = "what is kept of another life is forgotten";
                return steps.wrong(NAMES[who], "forgets the bus", why, state);
            }
            At::Forget | At::ForgetLate => {
                q.at = if p.at == At::Forget { At::UnlinkRegion } else { At::CloseAll };
                next.kept = 0;
                "forgets what is kept of the bus"
            }
            At::UnlinkRegion | At::UnlinkMembers
                if foreign(state.region) || foreign(state.members) =>
            {
                let why = "files of another life are removed";
                return steps.wrong(NAMES[who], "unlinks", why, state);
            }
            At::UnlinkRegion => {
                (next.region, q.at) = (0, At::UnlinkNew);
                "unlinks the region"
            }
            At::UnlinkNew => {
                (next.region_new, q.at) = (0, At::UnlinkMembers);
                "unlinks `region.new`"
            }
            At::UnlinkMembers => {
                (next.members, q.at) = (0, At::UnlinkLock);
                "unlinks the members file"
            }
            At::UnlinkLock => {
                (next.lock, q.at) = (0, if late { At::ForgetLate } else { At::CloseAll });
                "unlinks the file `lock`"
            }
            _ => {
                next.process[who] = Process { at: At::Done, ..Process::default() };
                next.leave(who);
                "closes its files"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    /// An opener closes the bus, and opens it again as often as it may.
    fn leave(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let left = state.process[who].left + 1;
        if state.last_has_come() || left > self.again {
            return;
        }
        let mut next = *state;
        next.leave(who);
        next.process[who] = Process { left, ..Process::default() };
        steps.go(NAMES[who], "leaves and comes again", next);
    }

    fn remove_from_outside(&self, state: &State, steps: &mut Steps<State>) {
        let inside = state.process.iter().any(|process| is_inside(process.at));
        let comes = self.outsider && !state.removed && !state.last_has_come();
        if !comes || inside || state.region == 0 {
            return;
        }
        let mut next = *state;
        (next.region, next.members, next.removed) = (0, 0, true);
        steps.go("outsider", "removes region and members file", next);
    }

    fn deaths(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        if who == LAST || state.deaths == self.deaths {
            return;
        }
        let mut next = *state;
        next.deaths += 1;
        next.process[who] = Process { at: At::Dead, ..Process::default() };
        next.leave(who);
        steps.dies(NAMES[who], next);
    }
}

impl State {
    /// The kernel closes a process's descriptors.
    fn leave(&mut self, who: usize) {
        self.seats.iter_mut().for_each(|seats| *seats &= !(1 << who));
        for holder in self.closed.iter_mut().chain(&mut self.lock_holder) {
            if *holder == who as u8 {
                *holder = NOBODY;
            }
        }
    }

    /// Whether the life of which something is kept is there, or about to be.
    fn keeps_of_the_living(&self) -> bool {
        let makes = |p: &Process| p.life == self.kept && is_inside(p.at);
        self.kept != 0 && (self.region == self.kept || self.process.iter().any(makes))
    }

    /// The last opener comes when nobody else does anything any more.
    fn last_has_come(&self) -> bool {
        self.process[LAST].at != At::Look
    }

    fn is_joined(&self, life: u8) -> bool {
        self.process.iter().any(|p| p.at == At::Attached && p.life == life)
    }

    /// Whether a process has done what it was there for; it may come again.
    fn has_ended(&self, who: usize) -> bool {
        matches!(self.process[who].at, At::Attached | At::Failed | At::Done | At::Dead)
    }
}

/// Whether a process creates or destroys, as the only one.
fn is_inside(at: At) -> bool {
    use At::{
        Clean, CloseAll, Fill, Forget, ForgetLate, ForgetOld, LoadKept, LookAgain, MakeMembers,
        MakeRegion, MapOld, Mark, MembersLate, Publish, RemoveOld, StoreKept, TakeBytes,
        UnlinkLock, UnlinkMembers, UnlinkNew, UnlinkRegion,
    };
    let creates = matches!(at, LookAgain | ForgetOld | RemoveOld | Clean | LoadKept | MakeMembers)
        || matches!(at, MakeRegion | Fill | StoreKept | Publish | MembersLate);
    let destroys = matches!(at, MapOld | TakeBytes | Mark | Forget | UnlinkRegion | UnlinkNew)
        || matches!(at, UnlinkMembers | UnlinkLock);
    // Once the lock file is unlinked, the next one may be in.
    creates || destroys && !matches!(at, ForgetLate | CloseAll)
}

impl Model for Files {
    type State = State;

    fn begin(&self) -> Vec<State> {
        let life = u8::from(self.begin == Begin::Bus);
        let past = u8::from(self.begin != Begin::Nothing);
        vec![State {
            region: life,
            region_new: 0,
            members: life,
            lock: life,
            kept: past,
            seats: [0; NUMBERS],
            closed: [NOBODY; NUMBERS],
            whole: life << 1,
            destroyed: 0,
            lock_holder: [NOBODY; NUMBERS],
            lives: past,
            locks: life,
            process: [Process::default(); 4],
            deaths: 0,
            removed: false,
        }]
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        self.remove_from_outside(state, steps);
        for who in 0..NAMES.len() {
            let waits_for_turn = who == LAST && !(0..LAST).all(|other| state.has_ended(other));
            if matches!(state.process[who].at, At::Failed | At::Done | At::Dead) || waits_for_turn {
                continue;
            }
            match state.process[who].at {
                At::Attached => self.leave(state, who, steps),
                At::OpenLock | At::WaitLock | At::CheckLock => self.lock(state, who, steps),
                at if is_inside(at) && who != DESTROYER => self.create(state, who, steps),
                At::CloseLock => self.create(state, who, steps),
                _ if who == DESTROYER => self.destroy(state, steps),
                _ => self.attach(state, who, steps),
            }
            self.deaths(state, who, steps);
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        let inside = state.process.iter().filter(|process| is_inside(process.at)).count();
        if inside > 1 {
            return Err("two create or destroy at the same time".to_owned());
        }
        let region = state.region;
        if region != 0 && !has(state.destroyed, region) && state.members != region {
            return Err("a region is there without its members file".to_owned());
        }
        Ok(())
    }

    fn end(&self, state: &State) -> Result<(), String> {
        if let Some(who) = (0..LAST).find(|who| !state.has_ended(*who)) {
            return Err(format!("{} waits for ever", NAMES[who]));
        }
        let last = &state.process[LAST];
        if last.at != At::Attached {
            return Err("what happened before keeps the bus from being opened".to_owned());
        }
        let whole = state.region == last.life && state.members == last.life;
        if !whole || state.kept != last.life || has(state.destroyed, last.life) {
            return Err("the bus that is there in the end is not whole".to_owned());
        }
        Ok(())
    }
}

pub(super) fn cases(suite: &mut Suite<'_>) {
    let base =
        |begin, force| Files { begin, force, outsider: false, again: 1, deaths: 1, plant: None };
    let open = || base(Begin::Bus, false);
    let lost = || base(Begin::Lost, false);
    let outsider = || Files { outsider: true, deaths: 0, ..base(Begin::Bus, true) };
    let quick = 1_500_000;
    suite.holds("files: two create, one destroys; 1 death", quick, base(Begin::Nothing, false));
    suite.holds("files: two open, one destroys; 1 death", quick, open());
    suite.holds("files: two open, one destroys by force; 1 death", quick, base(Begin::Bus, true));
    suite.holds("files: two open what is lost, one destroys it; 1 death", quick, lost());
    suite.holds("files: two open, one destroys by force, an outsider; no death", quick, outsider());
    for (name, begin, force) in [
        ("files: two create, one destroys; 3 deaths", Begin::Nothing, false),
        ("files: two open, one destroys; 3 deaths", Begin::Bus, false),
        ("files: two open, one destroys by force; 3 deaths", Begin::Bus, true),
        ("files: two open what is lost, one destroys it; 3 deaths", Begin::Lost, false),
    ] {
        suite.holds_in_full(name, Files { deaths: 3, again: 2, ..base(begin, force) });
    }
    for (name, plant, model) in [
        ("files: the lock file is not looked at again", Plant::LockNotChecked, open()),
        ("as the code stood: the bus is forgotten last", Plant::ForgetsLate, open()),
        ("as the code stood: a lost bus is forgotten unlocked", Plant::ForgetsUnlocked, lost()),
        ("as the code stood: bytes are tested, not held", Plant::TestsBytes, open()),
        ("as the code stood: a destroyed region is there", Plant::DestroyedIsThere, open()),
        ("files: the inodes are not compared", Plant::NoInodeCheck, outsider()),
        ("files: the region is built in place", Plant::BuiltInPlace, open()),
        ("files: the members file is made last", Plant::MembersLate, open()),
    ] {
        suite.plant(name, Files { plant: Some(plant), ..model });
    }
}
