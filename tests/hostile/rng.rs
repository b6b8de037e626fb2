//! Random numbers, and what damage needs of them.

#[path = "../support/rng.rs"]
mod numbers;

pub(crate) use numbers::Rng;

impl Rng {
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
    pub(crate) fn bytes(&mut self, len: u64) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}
