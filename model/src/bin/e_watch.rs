//! E: watches: sleeping and ringing, listing and following, and the ring of log records.
//!
//! Three models, each in a file of its own:
//!
//! * *doorbell*: a watch that goes to sleep, writers that ring it or die over it, burials that ring
//!   for the dead and may be interrupted by a death themselves. No wake-up is lost, and a watch that
//!   has nothing to do sleeps.
//! * *listing*: a watch lists two keys and then follows the log, while a writer sets, deletes, clears
//!   and commits a batch. What the watch was told is the bus at its cursor, nothing is told twice,
//!   and a writer that stands still does not keep it from its end.
//! * *ring*: writers that overwrite old records or die over it, and a reader that copies one. No copy
//!   that was overwritten is believed.

use membus_model::Suite;
use std::process::ExitCode;

#[path = "e_watch/doorbell.rs"]
mod doorbell;
#[path = "e_watch/listing.rs"]
mod listing;
#[path = "e_watch/ring.rs"]
mod ring;

fn main() -> ExitCode {
    let mut suite = Suite::from_arguments("E: watches, doorbells, log ring");
    doorbell::cases(&mut suite);
    listing::cases(&mut suite);
    ring::cases(&mut suite);
    suite.run()
}
