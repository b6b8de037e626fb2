//! Promise "safe on bad bytes": damaged regions, snapshots, settings and messages give errors or
//! answers, never a panic, a signal, a hang or an absurd allocation.
//!
//! | variable | what |
//! | --- | --- |
//! | `MEMBUS_HOSTILE` | damaged regions to try, 20,000 unless said |
//! | `MEMBUS_SEED` | only the region, or the input, of this seed |
//! | `MEMBUS_FUZZ_SECONDS` | how long hostile input is tried, 10 unless said |

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can not go on has failed"
)]
#![expect(clippy::print_stdout, reason = "a test reports what it did")]

mod clock;
mod crew;
mod forge;
mod harm;
mod image;
mod input;
mod known;
mod operations;
mod place;
mod planted;
mod regions;
mod rng;
mod scribble;
mod sealed;

#[expect(dead_code, reason = "all constants are here, and not all are needed")]
#[path = "../../src/region/layout.rs"]
mod layout;

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}
