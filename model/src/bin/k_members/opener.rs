//! Openers: the file `lock`, creating what is not there, attaching to what is.

use super::{At, DESTROYER, Files, NAMES, NOBODY, Plant, Process, State, has};
use membus_model::Steps;

impl Files {
    /// The file `lock`: open it, wait for its lock, and see whether it is still the one at the path.
    pub(super) fn lock(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let mut next = *state;
        let inside = if who == DESTROYER { At::MapOld } else { At::LookAgain };
        let fd = state.process[who].lock;
        let what = match state.process[who].at {
            At::OpenLock => {
                if state.lock == 0 {
                    next.locks += 1;
                    next.lock = next.locks;
                }
                (next.process[who].lock, next.process[who].at) = (next.lock, At::WaitLock);
                "opens the file `lock`, or makes it"
            }
            At::WaitLock if state.lock_holder[usize::from(fd)] != NOBODY => return,
            At::WaitLock => {
                next.lock_holder[usize::from(fd)] = who as u8;
                let unchecked = self.breaks(Plant::LockNotChecked);
                next.process[who].at = if unchecked { inside } else { At::CheckLock };
                "gets the lock"
            }
            _ if state.lock == fd => {
                next.process[who].at = inside;
                "sees that its lock file is the one at the path"
            }
            _ => {
                next.lock_holder[usize::from(fd)] = NOBODY;
                next.process[who].at = At::OpenLock;
                "sees that its lock file was unlinked"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    pub(super) fn create(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        match state.process[who].at {
            At::LookAgain | At::ForgetOld | At::RemoveOld | At::Clean | At::LoadKept => {
                self.prepare(state, who, steps);
            }
            _ => self.make(state, who, steps),
        }
    }

    /// Under the lock: whether there is a bus, and what a dead one left.
    fn prepare(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let mut next = *state;
        let what = match state.process[who].at {
            At::LookAgain if state.region == 0 => {
                next.process[who].at = At::Clean;
                "finds no region"
            }
            At::LookAgain => {
                let dead = has(state.destroyed, state.region);
                let counts = !dead || self.breaks(Plant::DestroyedIsThere);
                next.process[who].at = if counts { At::CloseLock } else { At::ForgetOld };
                "finds a region"
            }
            At::ForgetOld => {
                (next.kept, next.process[who].at) = (0, At::RemoveOld);
                "forgets for a destroyer that died"
            }
            At::RemoveOld => {
                (next.region, next.process[who].at) = (0, At::Clean);
                "removes the destroyed region"
            }
            At::Clean => {
                (next.region_new, next.members, next.process[who].at) = (0, 0, At::LoadKept);
                "removes what a dead creator left"
            }
            _ if state.kept != 0 && has(state.destroyed, state.kept) => {
                let why = "a destroyed bus comes back from what was kept of it";
                return steps.wrong(NAMES[who], "loads what is kept", why, state);
            }
            _ => {
                next.lives += 1;
                (next.process[who].life, next.process[who].at) = (next.lives, At::MakeMembers);
                "loads what is kept"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    /// Makes the files; the region gets its name last.
    fn make(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, p) = (*state, state.process[who]);
        let in_place = self.breaks(Plant::BuiltInPlace);
        let members_late = self.breaks(Plant::MembersLate);
        let what = match p.at {
            At::MakeMembers => {
                if !members_late {
                    next.members = p.life;
                }
                next.process[who].at = At::MakeRegion;
                "makes the members file"
            }
            At::MakeRegion => {
                if in_place {
                    next.region = p.life;
                } else {
                    next.region_new = p.life;
                }
                next.process[who].at = At::Fill;
                "makes `region.new`"
            }
            At::Fill => {
                next.whole |= 1 << p.life;
                next.process[who].at = At::StoreKept;
                "fills it"
            }
            At::StoreKept => {
                next.kept = p.life;
                next.process[who].at = if in_place { At::CloseLock } else { At::Publish };
                "keeps its settings"
            }
            At::Publish if state.region_new == 0 => {
                next.process[who].at = At::Failed;
                "finds no `region.new`"
            }
            At::Publish if state.region != 0 => {
                let why = "a region is replaced by another life's";
                return steps.wrong(NAMES[who], "renames", why, state);
            }
            At::Publish => {
                (next.region, next.region_new) = (state.region_new, 0);
                next.process[who].at = if members_late { At::MembersLate } else { At::CloseLock };
                "renames it: the bus is there"
            }
            At::MembersLate => {
                (next.members, next.process[who].at) = (p.life, At::CloseLock);
                "makes the members file, late"
            }
            _ => {
                next.lock_holder[usize::from(p.lock)] = NOBODY;
                next.process[who] = Process { at: At::Map, left: p.left, ..Process::default() };
                "closes the file `lock`"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    pub(super) fn attach(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, p) = (*state, state.process[who]);
        let life = usize::from(p.life);
        let q = &mut next.process[who];
        let what = match p.at {
            At::Look => {
                q.at = if state.region == 0 { At::OpenLock } else { At::Map };
                "looks for the region"
            }
            At::Map if state.region == 0 => {
                q.at = At::Failed;
                "finds no region any more"
            }
            At::Map if !has(state.whole, state.region) => {
                let why = "a half-made region is mapped";
                return steps.wrong(NAMES[who], "maps the region", why, state);
            }
            At::Map => {
                (q.life, q.at) = (state.region, At::OpenMembers);
                "maps the region"
            }
            At::OpenMembers => {
                q.at = if state.members == p.life { At::TakeByte } else { At::Failed };
                "opens the members file and compares the bus id"
            }
            At::TakeByte if state.closed[life] != NOBODY => return,
            At::TakeByte => {
                next.seats[life] |= 1 << who;
                (q.late, q.at) = (state.region != p.life, At::CheckInode);
                "takes the byte of a slot"
            }
            At::CheckInode if state.region != p.life && !self.breaks(Plant::NoInodeCheck) => {
                next.seats[life] &= !(1 << who);
                q.at = At::Failed;
                "sees that its region was unlinked"
            }
            At::CheckInode => {
                let looks = !self.breaks(Plant::DestroyedIsThere);
                q.at = if looks { At::CheckDestroyed } else { At::Attached };
                "compares the inodes"
            }
            At::CheckDestroyed if has(state.destroyed, p.life) => {
                next.seats[life] &= !(1 << who);
                next.process[who] =
                    Process { at: At::OpenLock, left: p.left, ..Process::default() };
                "sees that its region is destroyed, and goes to create"
            }
            _ if p.late => {
                let why = "a bus is joined that was unlinked";
                return steps.wrong(NAMES[who], "attaches", why, state);
            }
            _ => {
                q.at = At::Attached;
                "attaches"
            }
        };
        steps.go(NAMES[who], what, next);
    }
}
