//! What only a race shows. Plants: mutants of `lock_contended`, a free lock that is not swapped in among them.

use super::*;
use crate::region::layout::stripe;
use crate::table::testing::heap;

/// A lock that is free when somebody would wait for it is his, and nobody is said to sleep.
#[test]
fn who_finds_a_lock_free_meanwhile_has_it() {
    let core = heap();
    let at = core.geometry.stripe(1) + stripe::LOCK;
    let lock = RobustLock::at(&core.region, at, "a stripe");
    assert_eq!(lock.name(), "a stripe");
    let nobody = |_| Err::<bool, LockError>(LockError::Stalled { owner: 0, what: "none died" });
    let outcome = lock.lock_contended(4, &core.patience(), nobody).unwrap();
    assert_eq!(outcome, LockOutcome::Clean);
    let word = core.region.half(at).unwrap();
    assert_eq!(word.load(Relaxed), 5, "its owner, and no waiter");
    word.store(1 << 31, Relaxed);
    assert_eq!(lock.lock_contended(4, &core.patience(), nobody).unwrap(), LockOutcome::Clean);
    assert_eq!(word.load(Relaxed), 1 << 31 | 5, "its owner, and who still sleeps");
}
