//! Bytes of a region by `docs/layout.md`: to damage a header on purpose.

#[expect(dead_code, reason = "all constants are here, and few are named")]
#[path = "../../../src/region/layout.rs"]
mod constants;

pub(crate) use constants::{LAYOUT_PRINT, LAYOUT_VERSION, MAGIC, header};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A header, as bytes of its own.
pub(crate) struct Header(Vec<u8>);

impl Header {
    pub(crate) fn read(region: &Path) -> Self {
        let mut bytes = vec![0; constants::HEADER_SIZE as usize];
        std::fs::File::open(region).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        Self(bytes)
    }
    pub(crate) fn write(&self, region: &Path) {
        let file = std::fs::OpenOptions::new().write(true).open(region).unwrap();
        file.write_all_at(&self.0, 0).unwrap();
    }
    pub(crate) fn word(&self, at: u64) -> u64 {
        let at = at as usize;
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }
    pub(crate) fn put(&mut self, at: u64, word: u64) -> &mut Self {
        self.0[at as usize..at as usize + 8].copy_from_slice(&word.to_le_bytes());
        self
    }
    /// The checksum that these words want: of {offset, word} of all but itself.
    pub(crate) fn sum(&self) -> u64 {
        let words = (0..header::IMMUTABLE_END).step_by(8).filter(|at| *at != header::CHECKSUM);
        let bytes = words.flat_map(|at| [at.to_le_bytes(), self.word(at).to_le_bytes()].concat());
        xxhash_rust::xxh3::xxh3_64(&bytes.collect::<Vec<_>>())
    }
    /// With the checksum that these words want.
    pub(crate) fn seal(&mut self) -> &mut Self {
        self.put(header::CHECKSUM, self.sum())
    }
}
