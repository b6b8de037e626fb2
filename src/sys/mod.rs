//! Every system call of membus, and one seam that all but the fast clocks pass.
//!
//! Nothing here knows a region. Unsafe code stands in the files that say so.

pub(crate) mod clock;
pub(crate) mod directory;
pub(crate) mod file;
#[cfg(not(loom))]
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod lock;
#[cfg(not(loom))]
pub(crate) mod map;
pub(crate) mod process;
pub(crate) mod seam;
pub(crate) mod socket;
pub(crate) mod writeback;
