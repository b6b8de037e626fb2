//! How fast a save may go.
//!
//! A bucket of tokens, told by the moment at which it would be full: each entry costs its bytes divided by
//! the rate, and what was not used is kept for [`BURST`] at most.

use std::time::Duration;

/// For how long what was not used is kept.
const BURST: Duration = Duration::from_millis(100);
/// For how long an entry is waited for at once; what it costs beyond that is waited for with those behind it. A backend may have
/// to give a sign of life between two entries.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// What an entry has beside its key, its value and its label, about, as an image has it.
pub(super) const OVERHEAD: u64 = 48;

/// Bytes a second, and what was spent of them.
#[derive(Debug)]
pub(super) struct Pace {
    rate: u64,
    /// Since the beginning: when all that was spent is paid.
    paid: Duration,
}

impl Pace {
    /// Nothing for a rate of 0, which is none.
    pub(super) fn new(rate: u64) -> Option<Self> {
        (rate > 0).then_some(Self { rate, paid: Duration::ZERO })
    }

    /// Spends so many bytes, `now` after the beginning. Gives how long to wait, [`WAIT_MAX`] at most.
    pub(super) fn spend(&mut self, bytes: u64, now: Duration) -> Duration {
        let cost = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate);
        let cost = Duration::from_nanos(u64::try_from(cost).unwrap_or(u64::MAX));
        let begin = self.paid.max(now.saturating_sub(BURST));
        self.paid = begin.saturating_add(cost);
        self.paid.saturating_sub(now).min(WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: of no stretch of time does more come than its rate and a tenth of a second's burst, whatever was
    /// not used before; what is waited for is not longer than that takes.
    /// Plant: without the bound by `BURST` an hour's rest is spent at once.
    #[test]
    fn no_faster_than_the_rate() {
        let mut pace = Pace::new(1_000_000).unwrap();
        let mut now = Duration::ZERO;
        let mut spend_for = |now: &mut Duration, time: Duration| {
            let (begun, mut spent) = (*now, 0);
            while *now - begun < time {
                spent += 500;
                *now += pace.spend(500, *now);
                *now += Duration::from_micros(1);
            }
            spent
        };
        let second = Duration::from_secs(1);
        let first = spend_for(&mut now, second);
        assert!((990_000..=1_001_000).contains(&first), "{first}");
        now += Duration::from_secs(3600);
        let after_a_rest = spend_for(&mut now, second);
        assert!((1_090_000..=1_101_000).contains(&after_a_rest), "{after_a_rest}");
        assert!(Pace::new(0).is_none());
        let mut slow = Pace::new(1).unwrap();
        assert_eq!(slow.spend(u64::MAX, Duration::ZERO), WAIT_MAX);
    }

    /// Promise: no wait is so long that a backend is thought dead meanwhile; what a large value costs is paid all the same.
    /// Plants: a wait as long as its value costs; what is beyond the longest wait forgotten.
    #[test]
    fn a_large_value_is_waited_for_in_parts() {
        let (mut pace, mut now) = (Pace::new(1_000_000).unwrap(), Duration::ZERO);
        let mut waits = Vec::new();
        for bytes in [90_000_000, 0, 0, 0, 0, 0, 1_000_000] {
            waits.push(pace.spend(bytes, now));
            now += *waits.last().unwrap();
        }
        assert_eq!(waits.iter().sum::<Duration>(), Duration::from_secs(91), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(20)), "{waits:?}");
    }
}
