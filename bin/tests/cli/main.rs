//! The tool as its users have it: processes, exit statuses, lines.
//!
//! Each test says first which promise it keeps, and names a fault that was planted to see it fail.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that can not go on has failed; what was refused or skipped is told"
)]

mod backup;
mod batch;
mod changes;
mod death;
mod demo;
mod doctor;
mod errors;
mod harness;
mod journal;
mod keep;
mod lock;
mod look;
mod messages;
mod metrics;
mod persist;
mod queue;
mod refused;
mod top;
mod values;
mod wait;
mod watch;
