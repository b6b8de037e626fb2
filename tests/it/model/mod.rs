//! Any sequence of operations does what a map would, and what several processes do at once could have been
//! done one after another.

mod map;
mod operations;
pub(crate) mod order;

mod stage;

use crate::harness::{Seed, earned, heavy, parameter, tell};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::time::Instant;

/// Promise: random operations of three handles (single changes with conditions, time to live and owners,
/// updates, batches, clears, reads, scans, watches with and without listing, handles that go and come,
/// snapshots and the loss of all files) do what a map with revisions does: same results, same refusals, same
/// events, same revisions.
/// Method: proptest, against a `BTreeMap`; what fails is made small.
/// Plants: `add` that drops the time to live; a batch in which the first change of a key counts; the record of
/// an expired key left out; a listing that forgets the last stripe.
#[test]
fn any_sequence_does_what_a_map_does() {
    let _alone = heavy();
    let seed = Seed::of("any_sequence_does_what_a_map_does");
    let mut rng = seed.rng();
    let bytes: Vec<u8> = (0..4).flat_map(|_| rng.next().to_le_bytes()).collect();
    let cases = parameter("PROPTEST_CASES", 2000) as u32;
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let begun = Instant::now();
    let mut runner = TestRunner::new_with_rng(config, rng);
    let end = runner.run(&operations::sequences(), |sequence| {
        stage::run(&sequence);
        Ok(())
    });
    if let Err(failure) = end {
        panic!("{failure}");
    }
    earned(cases.into(), "model sequences");
    tell(&format!("model: {cases} sequences of operations in {:?}", begun.elapsed()));
}
