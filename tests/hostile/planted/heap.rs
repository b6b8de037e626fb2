//! What is wrong with blocks, spans and what a stripe notes of them.

use super::{
    Planted, SMALL, bump, first_listed, free_block, hex, ring, span_head, spare, stripe_of,
};
use crate::image::{ARRAY, LIST};
use crate::layout::{span, stripe};

pub(super) const HEAP: [Planted; 21] = [
    ("a bit for an entry that nothing names", SMALL, "named by nothing: lost", |i| {
        let named = i.find(b"k1");
        i.set(named.slot, 0);
        hex(named.at)
    }),
    ("a bit beyond the last entry", SMALL, "is set beyond the last entry", |i| {
        let block = span_head(i, |class| class < 64);
        let count = i.cut(i.class(block)).1;
        let at = i.block(block) + span::BITMAP + 8 * (count / 64);
        i.set(at, i.word(at) | 1 << 63);
        format!("block {block}")
    }),
    ("a count of entries that is wrong", SMALL, "counts", |i| {
        bump(i, i.stripe(2) + stripe::COUNT, 1);
        "stripe 2".into()
    }),
    ("a span of no blocks", SMALL, "expected a span's block count", |i| {
        let block = span_head(i, |class| class < 64);
        i.set(i.block(block) + span::BLOCKS, 0);
        format!("stripe {}", stripe_of(i, block))
    }),
    ("a span of more blocks than its class has", SMALL, "is not a part of the span", |i| {
        let block = span_head(i, |class| class < 64);
        bump(i, i.block(block) + span::BLOCKS, 1);
        format!("at block {block}")
    }),
    ("a block that two spans claim", "big values", "is not a part of the span", |i| {
        let block = span_head(i, |class| class == 255);
        bump(i, i.block(block) + span::BLOCKS, 1);
        format!("at block {block}")
    }),
    ("a span of another class", SMALL, "expected an entry of a span", |i| {
        let block = span_head(i, |class| class < 8);
        bump(i, i.block_word(block), 20 << 4);
        format!("stripe {}", stripe_of(i, block))
    }),
    ("a tail at a wrong distance", "big values", "is not a part of the span", |i| {
        let block = span_head(i, |class| class == 255) + 1;
        bump(i, i.block_word(block), 1 << 24);
        format!("block {block}")
    }),
    ("a block of a stripe that is none", SMALL, "belongs to stripe 9", |i| {
        let block = free_block(i);
        i.set(i.block_word(block), 1 | ARRAY << 4 | 9 << 12);
        format!("block {block}")
    }),
    ("a block in a state that is none", SMALL, "is in state 9", |i| {
        let block = free_block(i);
        i.set(i.block_word(block), 9);
        format!("block {block}")
    }),
    ("a block claimed for no span", SMALL, "belong to no span", |i| {
        let block = free_block(i);
        i.set(i.block_word(block), 1 | ARRAY << 4 | 1 << 12 | 1 << 32);
        format!("[{block}]")
    }),
    ("a block beyond the file", SMALL, "is in use, beyond the", |i| {
        let block = i.blocks() + 1;
        i.set(i.block_word(block), 1 | ARRAY << 4 | 1 << 32);
        format!("block {block}")
    }),
    ("a list of a batch that is over", SMALL, "is left over", |i| {
        let block = free_block(i);
        i.set(i.block_word(block), 2 | LIST << 4 | 1 << 12 | 1 << 32);
        i.set(i.block(block) + span::BLOCKS, 1);
        format!("block {block}")
    }),
    ("an array that no array word names", SMALL, "is named by nothing", |i| {
        let block = free_block(i);
        i.set(i.block_word(block), 2 | ARRAY << 4 | 1 << 12 | 1 << 32);
        i.set(i.block(block) + span::BLOCKS, 1);
        format!("block {block}")
    }),
    ("a list of spans that names one of another class", SMALL, "is broken at link", |i| {
        let block = span_head(i, |class| class == ARRAY);
        let index = stripe_of(i, block);
        i.set(i.stripe(index) + stripe::CLASSES, block + 1);
        format!("stripe {index}")
    }),
    ("a span that denies to be in a list", SMALL, "is broken at link", |i| {
        let (block, _) = first_listed(i);
        i.set(i.block(block) + span::LISTED, 0);
        hex(block + 1)
    }),
    ("a span in no list that says it is in one", SMALL, "says 1 of being in a list", |i| {
        let (block, list) = first_listed(i);
        i.set(list, 0);
        format!("block {block}")
    }),
    ("a ring that names a living entry", SMALL, "as dead, which it is not", |i| {
        let (index, at) = ring(i);
        let living = i.named().into_iter().find(|n| n.stripe == index).expect("one").at;
        i.set(at, living);
        hex(living)
    }),
    ("an entry that is dead twice", SMALL, "note the entry", |i| {
        let (index, at) = ring(i);
        i.set(at, i.word(at + 8));
        format!("stripe {index}")
    }),
    ("a spare of another class", SMALL, "as spare, which it is not", |i| {
        let (index, at) = spare(i);
        bump(i, at, 1 << 48);
        format!("stripe {index}")
    }),
    ("more dead entries than a ring holds", SMALL, "notes 33 dead", |i| {
        i.set(i.stripe(0) + stripe::RETIRED_COUNT, 33);
        "stripe 0".into()
    }),
];
