//! H: growing the file, and claiming its blocks.
//!
//! Two models, each in a file of its own:
//!
//! * *growth*: several members find no room at once and grow the file under the grow lock, `fallocate`
//!   first and the size word last; each may die at any step, and a newcomer takes a dead slot.
//! * *blocks*: the holders of two stripes claim runs of free blocks by compare-and-swap, make spans of
//!   them and end them; each may die at any step, and so may who repairs its stripe.

use membus_model::Suite;
use std::process::ExitCode;

#[path = "h_growth/blocks.rs"]
mod blocks;
#[path = "h_growth/growth.rs"]
mod growth;

fn main() -> ExitCode {
    let mut suite = Suite::from_arguments("H: growth and blocks");
    growth::cases(&mut suite);
    blocks::cases(&mut suite);
    suite.run()
}
