//! A small explicit-state model checker, and the suite that runs models through it.
//!
//! A [`Model`] says which states a protocol may begin in, which steps each of its processes may
//! take next, and what must hold. [`explore`] visits every state that can be reached, breadth
//! first, so the first violation found is a shortest one. A step is one store, one load, one
//! compare-and-swap or one system call of one process: whatever lies between two steps of a
//! process may be interleaved with all the others, and a death may come there.
//!
//! 1. A state is kept as a 64-bit fingerprint. Two states with the same fingerprint would be taken
//!    for one: with *n* states the chance that this happened anywhere is about *n*² / 2⁶⁵, which
//!    is one in 3,700 for a hundred million.
//! 2. "complete" means that every state was visited, "bound" that the search stopped at the number
//!    of states it was allowed. Every state that is counted was checked.
//! 3. Memory is sequentially consistent here. What the processor may reorder is the business of the
//!    loom tests, which run the real code.
//! 4. A death is a step, but no progress: a state in which nothing but deaths can happen is an end,
//!    and [`Model::end`] says whether it is a good one.
//!
//! A [`Suite`] runs the right protocol, which must hold, and then the protocol with one rule left
//! out, which must not: a check that cannot fail proves nothing.

mod explore;
mod fingerprint;
mod suite;

pub use explore::{Label, Model, Outcome, Steps, Violation, explore};
pub use suite::{Effort, Suite};
