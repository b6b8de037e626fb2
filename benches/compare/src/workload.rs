//! The data and the orders in which it is asked for, all of it made before a clock runs.
//!
//! A key is the 16 hexadecimal digits of its number after a bijective mix, so that neighbours in
//! number are nothing to each other as bytes. Key numbers `0..count` are stored; those from `count`
//! on are absent. A zipf rank is sent through a permutation, so that the hot keys do not lie side by
//! side in the order of insertion. A sequence holds the keys themselves, not their numbers: reading
//! it is one stream the prefetcher follows, the same for every engine.

/// Bytes of a key.
pub(crate) const KEY_SIZE: usize = 16;
/// The skew of the zipf sequences, that of the YCSB workloads.
const ZIPF_THETA: f64 = 0.99;

/// A key of the data.
pub(crate) type Key = [u8; KEY_SIZE];

/// One operation of a mixed sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// What it touches.
    pub(crate) key: Key,
    /// Whether it writes.
    pub(crate) is_set: bool,
}

/// A small generator of evenly spread numbers (splitmix64), the same on every machine.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The generator that `seed` starts.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Evenly from `0..bound`, by the high half of a product.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Evenly from `[0, 1)`.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The finishing mix of splitmix64, a bijection.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// The key with this number.
pub(crate) fn key(number: u64) -> Key {
    let mixed = mix(number.wrapping_add(0x5851_F42D_4C95_7F2D));
    std::array::from_fn(|digit| b"0123456789abcdef"[(mixed >> (60 - 4 * digit)) as usize & 15])
}

/// Keys by rank, after Gray et al., "Quickly generating billion-record synthetic databases".
#[derive(Debug)]
struct Zipf {
    count: f64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    fn new(count: u64) -> Self {
        let zeta_of = |n: u64| (1..=n).map(|i| (i as f64).powf(-ZIPF_THETA)).sum::<f64>();
        let zeta = zeta_of(count);
        let share = 1.0 - (2.0 / count as f64).powf(1.0 - ZIPF_THETA);
        let eta = share / (1.0 - zeta_of(2) / zeta);
        Self { count: count as f64, alpha: 1.0 / (1.0 - ZIPF_THETA), zeta, eta }
    }

    /// A rank from `0..count`; 0 is the most frequent.
    fn rank(&self, random: &mut Random) -> u64 {
        let unit = random.unit();
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(ZIPF_THETA) {
            return 1;
        }
        let rank = self.count * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
        rank.min(self.count - 1.0) as u64
    }
}

/// The data of one run.
#[derive(Debug)]
pub(crate) struct Data {
    count: u64,
    zipf: Zipf,
    /// From zipf rank to key number.
    scattered: Vec<u32>,
}

impl Data {
    /// `count` keys.
    pub(crate) fn new(count: u32) -> Self {
        let mut scattered: Vec<u32> = (0..count).collect();
        let mut random = Random::new(0x0070_6572_6D75_7465);
        for end in (1..scattered.len()).rev() {
            scattered.swap(end, random.below(end as u64 + 1) as usize);
        }
        Self { count: u64::from(count), zipf: Zipf::new(u64::from(count)), scattered }
    }

    /// Every key once, in the order of insertion.
    pub(crate) fn all(&self) -> Vec<Key> {
        (0..self.count).map(key).collect()
    }

    /// Stored keys, each as likely as the other.
    pub(crate) fn uniform(&self, length: usize, seed: u64) -> Vec<Key> {
        let mut random = Random::new(seed);
        (0..length).map(|_| key(random.below(self.count))).collect()
    }

    /// Absent keys.
    pub(crate) fn missing(&self, length: usize, seed: u64) -> Vec<Key> {
        let mut random = Random::new(seed);
        (0..length).map(|_| key(self.count + random.below(self.count))).collect()
    }

    /// Stored keys, few of them often.
    pub(crate) fn zipf(&self, length: usize, seed: u64) -> Vec<Key> {
        let mut random = Random::new(seed);
        (0..length).map(|_| self.zipf_key(&mut random)).collect()
    }

    /// Zipf keys, of which `reads` in a hundred are read and the rest written.
    pub(crate) fn mixed(&self, length: usize, reads: u32, seed: u64) -> Vec<Step> {
        let mut random = Random::new(seed);
        let step = |_| {
            let is_set = random.below(100) >= u64::from(reads);
            Step { key: self.zipf_key(&mut random), is_set }
        };
        (0..length).map(step).collect()
    }

    fn zipf_key(&self, random: &mut Random) -> Key {
        let rank = self.zipf.rank(random) as usize;
        let number = self.scattered.get(rank).copied().unwrap_or_default();
        key(u64::from(number))
    }
}

/// A value of `size` bytes that does not compress to nothing.
pub(crate) fn value(size: usize) -> Vec<u8> {
    let mut random = Random::new(size as u64);
    (0..size).map(|_| random.next() as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeSet, HashMap};

    #[test]
    fn keys_are_distinct_and_absent_keys_are_absent() {
        let data = Data::new(10_000);
        let stored: BTreeSet<Key> = data.all().into_iter().collect();
        assert_eq!(stored.len(), 10_000);
        assert!(data.missing(10_000, 1).iter().all(|key| !stored.contains(key)));
        assert!(data.uniform(10_000, 1).iter().all(|key| stored.contains(key)));
        assert!(data.zipf(10_000, 1).iter().all(|key| stored.contains(key)));
    }

    #[test]
    fn the_first_rank_has_its_share() {
        let data = Data::new(10_000);
        let mut seen: HashMap<Key, u32> = HashMap::new();
        for key in data.zipf(200_000, 7) {
            *seen.entry(key).or_default() += 1;
        }
        let zeta: f64 = (1..=10_000).map(|i| f64::from(i).powf(-ZIPF_THETA)).sum();
        let top = f64::from(seen.values().copied().max().unwrap()) / 200_000.0;
        assert!((top * zeta - 1.0).abs() < 0.05, "{top} for {}", 1.0 / zeta);
    }

    #[test]
    fn a_mix_has_its_share_of_writes() {
        let steps = Data::new(1_000).mixed(100_000, 95, 3);
        let sets = steps.iter().filter(|step| step.is_set).count();
        assert!((4_500..5_500).contains(&sets), "{sets}");
    }
}
