//! Latencies: a histogram of some of the operations of a sort.

use crate::region::layout::TIMES_MAX;
use crate::tally::{BUCKETS, LONGEST, SUM, bucket_from};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use std::time::Duration;

/// How long operations of one sort took: a histogram of those that were timed, one of many.
///
/// It has 30 buckets: below 32 ns; two for each doubling up to 4.1 us; one for each up to 67 ms; all
/// beyond. A quantile is interpolated within its bucket: at the worst it is off by a half up to 4.1 us, and
/// by a factor of two beyond. The longest and the mean are exact, of those that were timed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Latencies {
    buckets: [u64; BUCKETS],
    sum: u64,
    longest: u64,
}

impl Latencies {
    pub(crate) fn of(words: &[u64; TIMES_MAX as usize]) -> Self {
        let mut buckets = [0; BUCKETS];
        buckets.copy_from_slice(&words[..BUCKETS]);
        Self { buckets, sum: words[SUM], longest: words[LONGEST] }
    }

    /// How many operations were timed.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// How long these took together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// How long they took on average; 0 when none was timed.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum.checked_div(self.samples()).unwrap_or(0))
    }

    /// The longest of all; of a difference ([`Metrics::since`](crate::Metrics::since)), of the whole time.
    #[must_use]
    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    /// The time that this part of them (0.0 to 1.0) did not exceed; 0 when none was timed.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        let all: u128 = self.buckets.iter().map(|count| u128::from(*count)).sum();
        // What is no number counts as 0.
        let rank = (part.clamp(0.0, 1.0) * all as f64).ceil().max(1.0);
        let mut before = 0.0;
        for (index, count) in self.buckets.iter().enumerate() {
            let count = *count as f64;
            if count > 0.0 && before + count >= rank {
                let from = bucket_from(index).min(self.longest);
                let to = if index + 1 == BUCKETS { u64::MAX } else { bucket_from(index + 1) };
                let inside =
                    (rank - before) / count * to.min(self.longest).saturating_sub(from) as f64;
                return Duration::from_nanos(from.saturating_add(inside as u64));
            }
            before += count;
        }
        Duration::from_nanos(if all == 0 { 0 } else { self.longest })
    }

    /// The buckets: the time that each ends before, and how many operations are in it. The last has no end.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + '_ {
        let end =
            |index| (index + 1 < BUCKETS).then(|| Duration::from_nanos(bucket_from(index + 1)));
        self.buckets.iter().enumerate().map(move |(index, count)| (end(index), *count))
    }

    pub(crate) fn since(&self, before: &Self) -> Self {
        let mut buckets = self.buckets;
        for (count, before) in buckets.iter_mut().zip(before.buckets) {
            *count = count.saturating_sub(before);
        }
        Self { buckets, sum: self.sum.saturating_sub(before.sum), longest: self.longest }
    }
}

/// As `samples`, and in seconds `mean`, `p50`, `p99`, `p999` and `longest`.
impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Latencies", 6)?;
        fields.serialize_field("samples", &self.samples())?;
        fields.serialize_field("mean", &self.mean().as_secs_f64())?;
        fields.serialize_field("p50", &self.quantile(0.5).as_secs_f64())?;
        fields.serialize_field("p99", &self.quantile(0.99).as_secs_f64())?;
        fields.serialize_field("p999", &self.quantile(0.999).as_secs_f64())?;
        fields.serialize_field("longest", &self.longest().as_secs_f64())?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::bucket;

    fn of(times: &[u64]) -> Latencies {
        let mut words = [0; TIMES_MAX as usize];
        for ns in times {
            words[bucket(*ns)] += 1;
            words[SUM] += ns;
            words[LONGEST] = words[LONGEST].max(*ns);
        }
        Latencies::of(&words)
    }

    /// Promise: at the worst a quantile is off by a half up to 4.1 us, and by a factor of two beyond.
    /// Plant: a quantile that does not add the buckets before it: p999 is that of the first bucket.
    #[test]
    fn quantiles_are_near_the_true_ones() {
        let mut times: Vec<u64> = (0..10_000_u64).map(|n| 40 + n * n / 100).collect();
        times.sort_unstable();
        let seen = of(&times);
        assert_eq!(seen.samples(), 10_000);
        assert_eq!(seen.mean().as_nanos() as u64, times.iter().sum::<u64>() / 10_000);
        for part in [0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let true_one = times[((part * 10_000.0) as usize).min(9_999)] as f64;
            let error = (seen.quantile(part).as_nanos() as f64 / true_one - 1.0).abs();
            let bound = if true_one < 4096.0 { 0.5 } else { 1.0 };
            assert!(error <= bound, "{part}: {:?}, not {true_one}", seen.quantile(part));
        }
        assert_eq!(seen.quantile(1.0), seen.longest());
        assert_eq!(seen.quantile(f64::NAN), seen.quantile(0.0));
        assert_eq!(of(&[]).quantile(0.5), Duration::ZERO);
        assert_eq!(of(&[5_000_000_000]).quantile(0.5), Duration::from_secs(5));
    }

    /// Promise: any content of the words is a figure. Plant: a plain sum of the buckets.
    #[test]
    fn any_words_give_figures() {
        for word in [u64::MAX, u64::MAX / 2 + 1] {
            let wild = Latencies::of(&[word; TIMES_MAX as usize]);
            assert_eq!(wild.samples(), u64::MAX);
            for part in [0.0, 0.5, 1.0] {
                assert!(wild.quantile(part) <= wild.longest());
            }
            assert_eq!(wild.buckets().count(), BUCKETS);
            assert_eq!(wild.since(&wild).samples(), 0);
            assert!(of(&[1]).since(&wild).samples() == 0);
        }
    }
}
