//! Fingerprints of states: 64 bits, made of all bytes that a state's `Hash` feeds.

use std::hash::{BuildHasherDefault, Hash, Hasher};

/// An odd number without pattern, the golden ratio's fraction.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Collects bytes into words and mixes each word in: for a given word a permutation of the state,
/// so that no difference is lost.
#[derive(Debug, Default)]
struct Mixer {
    state: u64,
    word: u64,
    bits: u32,
}

impl Mixer {
    #[inline]
    fn mix(&mut self, word: u64) {
        let mut state = (self.state ^ word).wrapping_mul(FACTOR);
        state ^= state >> 32;
        state = state.wrapping_mul(FACTOR);
        self.state = state ^ (state >> 29);
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        let mut last = Self { ..*self };
        last.mix(last.word);
        last.mix(u64::from(last.bits));
        last.state
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }
    #[inline]
    fn write_u8(&mut self, byte: u8) {
        self.word |= u64::from(byte) << self.bits;
        self.bits += 8;
        if self.bits == 64 {
            self.mix(self.word);
            (self.word, self.bits) = (0, 0);
        }
    }
    fn write_u64(&mut self, word: u64) {
        self.write(&word.to_le_bytes());
    }
    /// Lengths and the numbers of enum variants: models have fewer than 256 of either.
    fn write_usize(&mut self, number: usize) {
        match u8::try_from(number) {
            Ok(byte) => self.write_u8(byte),
            Err(_) => self.write(&number.to_le_bytes()),
        }
    }
    fn write_isize(&mut self, number: isize) {
        self.write_usize(number.cast_unsigned());
    }
}

/// The fingerprint of a state.
pub(crate) fn fingerprint<S: Hash>(state: &S) -> u64 {
    let mut mixer = Mixer::default();
    state.hash(&mut mixer);
    mixer.finish()
}

/// For maps whose keys are fingerprints: these are mixed already.
#[derive(Debug, Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

/// How such maps are built.
pub(crate) type Mixed = BuildHasherDefault<AsIs>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Plant: a `finish` that forgets the last, incomplete word.
    #[test]
    fn every_byte_counts() {
        let mut seen = HashSet::new();
        for at in 0..13 {
            for value in 0..=255_u8 {
                let mut state = [7_u8; 13];
                state[at] = value;
                seen.insert(fingerprint(&state));
            }
        }
        // Each place has 255 values beside the common one.
        assert_eq!(seen.len(), 13 * 255 + 1);
    }
}
