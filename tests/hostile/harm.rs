//! What is done to a region's bytes.

use crate::image::{ARRAY, Image};
use crate::layout::{
    HEADER_SIZE, WATCH_GROUPS, array, header, member, record, span, stripe, watch,
};
use crate::rng::Rng;

/// Bytes that go to an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) at: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Write {
    fn word(at: u64, word: u64) -> Self {
        Self { at, bytes: word.to_le_bytes().to_vec() }
    }
    pub(crate) fn apply(&self, image: &mut Image) {
        let (at, end) = (self.at as usize, self.at as usize + self.bytes.len());
        if let Some(place) = image.0.get_mut(at..end) {
            place.copy_from_slice(&self.bytes);
        }
    }
}

/// One piece of damage; `other` is a region from which bytes may come.
pub(crate) fn damage(image: &Image, other: &Image, rng: &mut Rng) -> Vec<Write> {
    match rng.below(40) {
        0 => vec![splice(image, other, rng)],
        1 => {
            let at = place(image, rng);
            let len = rng.pick(&[64, 512, 4096, 20_000]).min(image.len() - at);
            vec![Write { at, bytes: vec![rng.pick(&[0, 0, 0xff]); len as usize] }]
        }
        2 => resealed(image, rng),
        _ => {
            let at = place(image, rng);
            vec![Write::word(at, value(image, at, rng))]
        }
    }
}

/// Bytes of another region, from the same place.
fn splice(image: &Image, other: &Image, rng: &mut Rng) -> Write {
    let end = image.len().min(other.len());
    let at = place(image, rng).min(end - 8);
    let len = rng.pick(&[64, 2048, 1 << 14, 1 << 16]).min(end - at);
    Write { at, bytes: other.0[at as usize..(at + len) as usize].to_vec() }
}

/// A word of the header that should never change, with a checksum that is right again.
fn resealed(image: &Image, rng: &mut Rng) -> Vec<Write> {
    let at = 8 * rng.below(header::IMMUTABLE_END / 8);
    let mut forged = Image(image.0[..HEADER_SIZE as usize].to_vec());
    let old = forged.word(at);
    let near = [old.wrapping_add(1), old.wrapping_sub(1)];
    let new = rng.pick(&[old << 1, old >> 1, near[0], near[1], 0, u64::MAX]);
    forged.set(at, new);
    vec![Write::word(at, new), Write::word(header::CHECKSUM, forged.checksum())]
}

/// A word's place, most often one that means something.
fn place(image: &Image, rng: &mut Rng) -> u64 {
    let words = |from: u64, bytes: u64, rng: &mut Rng| from + 8 * rng.below(bytes / 8);
    let stripe = rng.below(image.stripes());
    let (heads, shift) = (image.spans(), image.shift());
    let at = match rng.below(14) {
        0 | 1 => words(header::SIZE, header::SNAP_OWNER + 8 - header::SIZE, rng),
        2 => words(image.stripe(stripe), stripe::SIZE, rng),
        3 => image.block_word(rng.below(image.blocks())),
        4 => words(image.member(rng.pick(&[0, 0, 1, 7])), member::SIZE, rng),
        5 => {
            let (watch, slot) = (image.watch(rng.below(4)), rng.below(2));
            let far = words(watch, watch::SIZE, rng);
            let row = image.asleep(image.word(watch + watch::GROUP) % WATCH_GROUPS);
            rng.pick(&[far, image.pinned(), row + 8 * slot])
        }
        6 => words(image.index(), 8 * image.index_len(), rng),
        7 => {
            let tail = image.word(header::LOG_TAIL);
            let back = 8 * rng.below(60);
            words(image.ring(tail.wrapping_sub(back)), record::BYTES + 8, rng)
        }
        8 if !heads.is_empty() => words(image.block(rng.pick(&heads).0), span::BITMAP + 32, rng),
        9 => words(image.array(stripe) + array::BUCKETS, 24, rng),
        10 => words(image.bucket(stripe, 0), 64 * 160, rng),
        11 | 12 => match image.named().as_slice() {
            [] => words(image.heap(), 4 << shift, rng),
            named => words(rng.pick(named).at, 80, rng),
        },
        _ => words(0, image.len(), rng),
    };
    let at = at & !7;
    if at + 8 <= image.len() { at } else { 0 }
}

/// What a word becomes.
fn value(image: &Image, at: u64, rng: &mut Rng) -> u64 {
    let old = image.word(at);
    match rng.below(17) {
        0 => 0,
        16 => rng.below(256),
        1 => u64::MAX,
        2 => old.wrapping_add(1),
        3 => old.wrapping_sub(1),
        4 | 5 => old ^ 1 << rng.below(64),
        6 => image.word(place(image, rng)),
        7 => image.len() - rng.pick(&[0, 8, 16, 64]),
        8 => image.word(header::MAX_CAPACITY) - rng.pick(&[0, 8, 64]),
        9 => image.heap() + rng.pick(&[0, 8, 16, 80]) - 8,
        10 => place(image, rng) | old & !((1 << 48) - 1),
        11 => place(image, rng) + rng.below(8),
        12 => rng.next(),
        13 => 1 << rng.below(64),
        14 => u64::MAX >> rng.below(64),
        _ => {
            let array = image.spans().into_iter().find(|(_, class)| *class == ARRAY);
            array.map_or(old, |(block, _)| image.block(block) | rng.below(64) << 48)
        }
    }
}
