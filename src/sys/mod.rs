//! Every system call of membus, and the one seam that all but the clocks' pass.
//!
//! | file | what |
//! | --- | --- |
//! | `seam` | where tests make a call fail and record what is asked of files |
//! | `file` | files and directories |
//! | `lock` | locks of single bytes, of the open file description |
//! | `map` | a file's mapping, and the page that is wiped in a forked child |
//! | `futex` | sleeping on a word that processes share |
//! | `socket` | doorbells, who rings them, and a timer |
//! | `clock` | clocks |
//! | `process` | who we are, random bytes, forks |
//!
//! 1. Nothing here knows a region: bytes, descriptors and names, no layout.
//! 2. A call that a signal interrupted is made again here. A caller sees `EINTR` from none.
//! 3. Descriptors are closed by `exec`, and owned: whoever dies leaves none behind.
//! 4. Unsafe code stands in the files that say so.

pub(crate) mod clock;
pub(crate) mod file;
pub(crate) mod futex;
pub(crate) mod lock;
pub(crate) mod map;
pub(crate) mod process;
pub(crate) mod seam;
pub(crate) mod socket;
