//! Snapshot images that are whole by all their checksums, and say what no bus would.

use crate::rng::Rng;
use xxhash_rust::xxh3::Xxh3;

/// What an image file is called; nobody compares it with the content.
pub(crate) const NAME: &str = "snapshot-00000000000000000180-0000000000000001.membus";

/// An image to be: its head, and entries as they stand in a frame.
#[derive(Debug, Default)]
pub(crate) struct Forged {
    pub(crate) revision: u64,
    pub(crate) entries: Vec<Vec<u8>>,
    /// What the frame says of its length and of its entries, beyond the truth.
    pub(crate) off: (u32, u32),
}

impl Forged {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let revision = rng.pick(&[180, 180, 180, 0, 1 << 60, 1 << 61, 1 << 62, u64::MAX]);
        let entries = (0..rng.below(20)).map(|_| entry(rng)).collect();
        let off = rng.pick(&[(0, 0), (0, 0), (0, 0), (0, 1), (u32::MAX / 2, 0), (0, u32::MAX / 2)]);
        Self { revision, entries, off }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"MEMBUSIM".to_vec();
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(0x0102_0304_u32.to_le_bytes());
        bytes.extend(1_u128.to_le_bytes());
        for word in [1, self.revision, 5] {
            bytes.extend(u64::to_le_bytes(word));
        }
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend([0; 4]);
        if !self.entries.is_empty() {
            let frame = self.entries.concat();
            let (len, count) = (frame.len() as u32, self.entries.len() as u32);
            let said = [len.wrapping_add(self.off.0), count.wrapping_add(self.off.1)];
            let head = said.map(u32::to_le_bytes).concat();
            let sum = crc32c::crc32c_append(crc32c::crc32c(&head), &frame);
            bytes.extend([&head[..], &sum.to_le_bytes(), &frame].concat());
        }
        let before = bytes.len() as u64;
        bytes.extend(u32::MAX.to_le_bytes());
        for word in [self.entries.len() as u64, before, self.revision, 1] {
            bytes.extend(u64::to_le_bytes(word));
        }
        let mut sum = Xxh3::new();
        sum.update(&bytes);
        bytes.extend(sum.digest().to_le_bytes());
        bytes.extend(b"MEMBUSFM");
        bytes
    }
}

fn entry(rng: &mut Rng) -> Vec<u8> {
    let (key, who) =
        (rng.pick(&[1, 5, 5, 5, 0, 1024, 1025, 65_535]), rng.pick(&[0, 0, 64, 65, 255]));
    let value = rng.pick(&[8, 8, 0, 100, 300_000, 5_000_000]);
    let said = rng.pick(&[value, value, value, value + 1, u64::from(u32::MAX)]);
    let mut bytes = (key as u16).to_le_bytes().to_vec();
    bytes.extend([rng.pick(&[0, 1, 2, 3, 255]), who as u8]);
    bytes.extend((said as u32).to_le_bytes());
    for word in [
        rng.pick(&[7, 7, 7, 0, 181, u64::MAX]),
        rng.pick(&[1, u64::MAX]),
        rng.pick(&[0, 0, 1, u64::MAX, u64::MAX / 2]),
    ] {
        bytes.extend(u64::to_le_bytes(word));
    }
    bytes.extend(rng.bytes(key));
    bytes.extend(rng.bytes(who));
    bytes.extend(vec![7; value as usize]);
    bytes
}
