//! I: entries that expire, and keys that vanish with their owner.
//!
//! Two models, each in a file of its own:
//!
//! * *deadline*: a writer sets a key with and without a deadline, and by conditions; a keeper logs what
//!   has expired; a reader looks the key up; time passes at any moment; writer and keeper may die at
//!   every step.
//! * *ephemeral*: workers claim a piece by an ephemeral key, and end the claim and count the piece in
//!   one batch; each may die at every step, its slot may go to a newcomer, and an undertaker buries.

use membus_model::Suite;
use std::process::ExitCode;

#[path = "i_expiry/deadline.rs"]
mod deadline;
#[path = "i_expiry/ephemeral.rs"]
mod ephemeral;

fn main() -> ExitCode {
    let mut suite = Suite::from_arguments("I: expiry and ephemeral keys");
    deadline::cases(&mut suite);
    ephemeral::cases(&mut suite);
    suite.run()
}
