//! K: becoming a member: the seat, and the files of a bus that others create and destroy.
//!
//! Two models, each in a file of its own:
//!
//! * *seat*: a newcomer takes the slot of a dead member and mends what names it, while a writer waits for
//!   the same locks and an undertaker wants to bury; a lock word has its contended bit here.
//! * *files*: processes that open, create and destroy the same bus at once, step by step through the file
//!   `lock`, `region.new`, `members` and what is kept of the bus elsewhere; each may die at any step.

use membus_model::Suite;
use std::process::ExitCode;

#[path = "k_members/files.rs"]
mod files;
#[path = "k_members/seat.rs"]
mod seat;

fn main() -> ExitCode {
    let mut suite = Suite::from_arguments("K: members and files");
    seat::cases(&mut suite);
    files::cases(&mut suite);
    suite.run()
}
