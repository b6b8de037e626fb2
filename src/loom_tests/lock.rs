//! The lock, and what becomes of it when its owner dies.

use super::{Image, explore, far, geometry};
use crate::commit::Stored;
use crate::lock::{Liveness, LockError, LockOutcome, PROBE_AFTER, Patience, Probe, RobustLock};
use crate::member::{Bytes, Prober};
use crate::region::layout::{header, stripe};
use crate::sync::Ordering::Relaxed;
use crate::sync::{Mutex, MutexGuard};
use crate::table::Core;
use loom::thread;
use std::io;
use std::sync::Arc;

/// A word that only the lock's holder touches.
const GUARDED: u64 = 8;

/// The locks of the members file's bytes: which description holds which.
#[derive(Debug, Clone)]
struct Members(Arc<Mutex<[Option<u32>; 2]>>);

impl Members {
    /// Member 1 lives; member 0 has just died.
    fn new() -> Self {
        Self(Arc::new(Mutex::new([None, Some(1)])))
    }
    fn holders(&self) -> MutexGuard<'_, [Option<u32>; 2]> {
        self.0.lock().unwrap()
    }
    /// One more description of the file.
    fn description(&self, number: u32) -> Description {
        Description { members: self.clone(), number }
    }
    /// A member that probes through this description.
    fn member(&self, number: u32) -> Member {
        Member(Prober::new(self.description(number)))
    }
}

#[derive(Debug)]
struct Description {
    members: Members,
    number: u32,
}

impl Bytes for Description {
    fn try_lock(&self, byte: u64) -> io::Result<bool> {
        let holder = &mut self.members.holders()[byte as usize];
        // Locks belong to the description, not to the thread: it gets once more what it has.
        let granted = holder.is_none_or(|holder| holder == self.number);
        if granted {
            *holder = Some(self.number);
        }
        Ok(granted)
    }
    fn unlock(&self, byte: u64) -> io::Result<()> {
        let holder = &mut self.members.holders()[byte as usize];
        if *holder == Some(self.number) {
            *holder = None;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Member(Prober<Description>);

impl Liveness for Member {
    fn probe(&self) -> Option<Box<dyn Probe + '_>> {
        Some(Box::new(self.0.try_begin()?))
    }
}

/// Adds one to a word that a lock guards: a lost one tells of two holders.
fn count(core: &Core) {
    let seen = core.region.load(GUARDED, Relaxed).unwrap();
    core.region.store(GUARDED, seen + 1, Relaxed).unwrap();
}

/// Two threads under one lock see each other's stores. Plant: Relaxed in `swap_in` or `unlock`.
#[test]
fn a_lock_excludes() {
    let image = Image::of(geometry()).words([GUARDED], 0);
    explore("a_lock_excludes", 3, move || {
        let bus = image.start();
        let hold = |core: Core, me| {
            let lock = RobustLock::at(&core.region, header::GROW_LOCK, "a lock");
            let outcome = lock.lock(me, &far(), |_| Ok::<_, LockError>(false)).unwrap();
            assert_eq!(outcome, LockOutcome::Clean);
            count(&core);
            lock.unlock();
        };
        let (one, two) = (bus.core(), bus.core());
        let other = thread::spawn(move || hold(one, 0));
        hold(two, 1);
        other.join().unwrap();
        assert_eq!(bus.core().region.load(GUARDED, Relaxed), Ok(2));
    });
}

/// Member 0 died after its commit's last store, with the commit lock and perhaps its stripe's;
/// revision 1 is to be finished.
fn dead(with_stripe: bool) -> Image {
    let base = geometry().stripe(0);
    let words = [GUARDED, base + stripe::ARRAY];
    Image::of(geometry()).commit().words(words, 0).after(move |core| {
        if with_stripe {
            std::mem::forget(core.lock_stripe(0, 0, &far()).unwrap());
        }
        std::mem::forget(core.lock_commit(0, &far()).unwrap());
        core.commit_record(std::iter::once(Stored::default()), 0, 1, 0, 0).unwrap();
    })
}

/// Waits that a model's thread has the patience for: one before it probes, and two more.
const WAITS: u32 = 3;

/// Has the commit, or the stripe, as member `me`; `false` when it did not get it in time.
fn hold(core: &Core, me: u32, with_stripe: bool) -> bool {
    let word = |at| core.region.load(at, Relaxed);
    let patience = Patience::new(PROBE_AFTER * WAITS);
    let (stripe, commit) = match with_stripe {
        true => (core.lock_stripe(0, me, &patience).map(Some), Ok(None)),
        false => (Ok(None), core.lock_commit(me, &patience).map(Some)),
    };
    match (stripe, commit) {
        (Ok(stripe), Ok(commit)) => {
            assert_eq!((word(header::READY), word(header::HEAD)), (Ok(0), Ok(1)), "not finished");
            count(core);
            drop((stripe, commit));
            true
        }
        (Err(LockError::Stalled { .. }), _) | (_, Err(LockError::Stalled { .. })) => false,
        other => panic!("{other:?}"),
    }
}

/// A newcomer takes the dead one's byte, and mends what names its slot; then it uses the slot.
fn come(core: &Core, members: &Members, with_stripe: bool) -> bool {
    // Refused: somebody probes, and the newcomer takes another slot.
    if !members.description(20).try_lock(0).unwrap() {
        return false;
    }
    let undertaker = Prober::new(members.description(21));
    let patience = Patience::new(PROBE_AFTER * WAITS);
    match core.mend_slot(0, 0, &patience, &mut undertaker.begin()) {
        Ok(_) => hold(core, 0, with_stripe),
        Err(LockError::Stalled { owner, .. }) => {
            assert_ne!(owner, 0, "waits for itself");
            // It does not attach, and its byte goes with its process.
            members.description(20).unlock(0).unwrap();
            false
        }
        Err(LockError::Bad(bad)) => panic!("{bad}"),
    }
}

/// After all have ended nobody holds the lock, and it was held by one at a time.
fn is_left_free(core: &Core, with_stripe: bool, held: [bool; 3]) {
    assert!(hold(core, 9, with_stripe), "the lock names somebody who does not know of it");
    let holders = held.iter().filter(|held| **held).count() as u64;
    assert_eq!(core.region.load(GUARDED, Relaxed), Ok(holders + 1), "two at a time");
}

/// Promise "robust": of two survivors one takes the dead one's lock over, the other waits for it.
/// Plants: `take_over` without its comparison with the owner; `commit_taken` does not finish.
#[test]
fn two_survivors() {
    let image = dead(false);
    explore("two_survivors", 5, move || {
        let (bus, members) = (image.start(), Members::new());
        let (one, two) = (bus.process(members.member(11)), bus.process(members.member(12)));
        let other = thread::spawn(move || hold(&one, 1, false));
        let held = hold(&two, 2, false);
        is_left_free(&bus.process(members.member(13)), false, [held, other.join().unwrap(), false]);
    });
}

/// Promise "robust": a newcomer in the dead one's slot meets a survivor that wants the same stripe:
/// no living owner is robbed, and nobody has the stripe before the commit is finished.
/// Plants: the survivor takes the stripe before it has passed the commit. The newcomer mends its
/// stripes before the commit; tries once to take them, though the survivor marks the word as contended
/// meanwhile.
#[test]
fn a_newcomer_meets_a_survivor() {
    let image = dead(true);
    explore("a_newcomer_meets_a_survivor", 5, move || {
        let (bus, members) = (image.start(), Members::new());
        let (newcomer, survivor) = (bus.core(), bus.process(members.member(11)));
        let all = members.clone();
        let newcomer = thread::spawn(move || come(&newcomer, &all, true));
        let held = hold(&survivor, 1, true);
        is_left_free(&survivor, true, [held, newcomer.join().unwrap(), false]);
    });
}

/// Promise "robust": two threads of one member find the same owner dead, while a newcomer takes its
/// slot. Plant: each thread has a mutex of its own before the one description.
#[test]
fn two_threads_of_a_member() {
    let image = dead(false);
    explore("two_threads_of_a_member", 2, move || {
        let (bus, members) = (image.start(), Members::new());
        let one = Arc::new(bus.process(members.member(11)));
        let (two, newcomer, all) = (Arc::clone(&one), bus.core(), members.clone());
        let other = thread::spawn(move || hold(&one, 1, false));
        let newcomer = thread::spawn(move || come(&newcomer, &all, false));
        let held = [hold(&two, 1, false), other.join().unwrap(), newcomer.join().unwrap()];
        is_left_free(&two, false, held);
    });
}
