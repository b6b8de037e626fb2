//! The step hook: a test lets a thread die after its n-th step, a store to the region or a system
//! call.
//!
//! A death leaves exactly a prefix of a process's steps. So the crash tests run an operation, let
//! nothing through after step n, and look at the bytes. In other builds this is nothing.

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

#[cfg(test)]
pub(crate) use armed::*;

#[cfg(test)]
mod armed {
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
        static SEEN: Cell<u64> = const { Cell::new(0) };
    }

    /// Thrown out of a thread that died.
    #[derive(Debug)]
    pub(crate) struct Died;

    /// Whether the next step takes place. The first one that does not unwinds with [`Died`]; what
    /// runs while unwinding does nothing.
    pub(crate) fn step() -> bool {
        SEEN.set(SEEN.get() + 1);
        match LEFT.get() {
            None => true,
            Some(0) if std::thread::panicking() => false,
            Some(0) => std::panic::resume_unwind(Box::new(Died)),
            Some(left) => {
                LEFT.set(Some(left - 1));
                true
            }
        }
    }

    /// Whether this thread is past its last step.
    pub(crate) fn dead() -> bool {
        LEFT.get() == Some(0)
    }

    /// Runs `operation` and lets it die after so many steps: `None` when it died.
    pub(crate) fn dying_after<T>(steps: u64, operation: impl FnOnce() -> T) -> Option<T> {
        LEFT.set(Some(steps));
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(operation));
        LEFT.set(None);
        match end {
            Ok(value) => Some(value),
            Err(cause) if cause.is::<Died>() => None,
            Err(cause) => std::panic::resume_unwind(cause),
        }
    }

    /// Steps that `operation` makes.
    pub(crate) fn count<T>(operation: impl FnOnce() -> T) -> (u64, T) {
        let before = SEEN.get();
        let value = operation();
        (SEEN.get() - before, value)
    }
}
