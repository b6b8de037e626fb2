//! The step hook: a test lets a thread die after its n-th step, a store to the region or a system
//! call; another one says at each step and each load which thread goes on.
//!
//! A death leaves exactly a prefix of a process's steps. So the crash tests run an operation, let
//! nothing through after step n, and look at the bytes. The threads of a schedule take turns here and
//! nowhere else. In other builds this is nothing.

#[cfg(not(test))]
#[inline(always)]
pub(crate) fn step() -> bool {
    true
}

/// Whether this thread is dead: such a one must not wait for what it can't take.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn dead() -> bool {
    false
}

/// A load of what others may store meanwhile: a place where a schedule may turn to another thread.
#[cfg(not(all(test, not(loom))))]
#[inline(always)]
pub(crate) fn turn() {}

/// Lets others go first; whether a schedule says who. If none does, the caller has to wait by itself.
#[cfg(not(all(test, not(loom))))]
#[inline(always)]
pub(crate) fn give_way() -> bool {
    false
}

#[cfg(test)]
pub(crate) use armed::*;
#[cfg(all(test, not(loom)))]
pub(crate) use schedule::*;

#[cfg(test)]
mod armed {
    use std::cell::Cell;

    #[cfg(not(loom))]
    thread_local! {
        pub(super) static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
        static SEEN: Cell<u64> = const { Cell::new(0) };
    }

    // The threads of a model share one thread of the system.
    #[cfg(loom)]
    loom::thread_local! {
        static LEFT: Cell<Option<u64>> = Cell::new(None);
        static SEEN: Cell<u64> = Cell::new(0);
    }

    /// Thrown out of a thread that died.
    #[derive(Debug)]
    pub(crate) struct Died;

    /// Whether the next step takes place. The first one that does not unwinds with [`Died`]; what
    /// runs while unwinding does nothing.
    pub(crate) fn step() -> bool {
        #[cfg(not(loom))]
        super::turn();
        SEEN.with(|seen| seen.set(seen.get() + 1));
        match LEFT.with(Cell::get) {
            None => true,
            Some(0) if std::thread::panicking() => false,
            Some(0) => std::panic::resume_unwind(Box::new(Died)),
            Some(left) => {
                LEFT.with(|cell| cell.set(Some(left - 1)));
                true
            }
        }
    }

    /// Whether this thread is past its last step.
    pub(crate) fn dead() -> bool {
        LEFT.with(Cell::get) == Some(0)
    }

    /// Runs `operation` and lets it die after so many steps: `None` when it died.
    pub(crate) fn dying_after<T>(steps: u64, operation: impl FnOnce() -> T) -> Option<T> {
        LEFT.with(|left| left.set(Some(steps)));
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(operation));
        LEFT.with(|left| left.set(None));
        match end {
            Ok(value) => Some(value),
            Err(cause) if cause.is::<Died>() => None,
            Err(cause) => std::panic::resume_unwind(cause),
        }
    }

    /// Steps that `operation` makes.
    pub(crate) fn count<T>(operation: impl FnOnce() -> T) -> (u64, T) {
        let before = SEEN.with(Cell::get);
        let value = operation();
        (SEEN.with(Cell::get) - before, value)
    }
}

/// Threads of a schedule: shuttle runs them on one thread of the system, and turns from one to another
/// only here.
#[cfg(all(test, not(loom)))]
mod schedule {
    use super::armed::LEFT;
    use shuttle::sync::atomic::AtomicBool;
    use std::cell::Cell;

    thread_local! {
        /// Turns in which whoever goes on does so unasked; `None` where nothing is scheduled.
        static UNASKED: Cell<Option<u64>> = const { Cell::new(None) };
        /// Nobody stores to it: shuttle turns at each load, whose order is nothing to it. Each thread's schedules have their own:
        /// shuttle's atomics are not made for more than one thread of the system.
        static GATE: AtomicBool = const { AtomicBool::new(false) };
    }

    /// The death that is ahead of a thread is its own: it is put aside while others go first.
    fn aside(turn: impl FnOnce()) {
        let left = LEFT.replace(None);
        turn();
        LEFT.set(left);
    }

    pub(crate) fn turn() {
        match UNASKED.get() {
            None => {}
            Some(0) if LEFT.get() == Some(0) => {}
            Some(0) => {
                aside(|| _ = GATE.with(|gate| gate.load(std::sync::atomic::Ordering::SeqCst)))
            }
            Some(turns) => UNASKED.set(Some(turns - 1)),
        }
    }

    pub(crate) fn give_way() -> bool {
        if UNASKED.get().is_some() {
            aside(shuttle::thread::yield_now);
        }
        UNASKED.get().is_some()
    }

    /// A scheduler that would choose the same thread for so many turns need not be asked at each: that is most of what they cost.
    pub(crate) fn unasked(turns: u64) {
        UNASKED.set(Some(turns));
    }

    /// Turns that are left until the scheduler is asked.
    pub(crate) fn left_unasked() -> u64 {
        UNASKED.get().unwrap_or(0)
    }

    /// Runs what shuttle schedules.
    pub(crate) fn scheduled<T>(run: impl FnOnce() -> T) -> T {
        UNASKED.set(Some(0));
        let value = run();
        UNASKED.set(None);
        value
    }
}
