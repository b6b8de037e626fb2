//! What is wrong with slot words, arrays and entries.

use super::{CHAINS, Planted, SMALL, TIMED, bump, elsewhere, hex, ring};
use crate::layout::{array, entry, header, stripe};

pub(super) const SLOTS: [Planted; 16] = [
    ("a slot word that names a free room", SMALL, "is not occupied", |i| {
        let named = i.find(b"k1");
        let (at, bit) = i.bit_of(named.at);
        i.set(at, i.word(at) & !(1 << bit));
        hex(named.slot)
    }),
    ("a wrong tag in a slot word", SMALL, "has a key of another hash", |i| {
        let named = i.find(b"k1");
        i.set(named.slot, i.word(named.slot) ^ 1 << 60);
        hex(named.slot)
    }),
    (
        "a slot word that names a place before the heap",
        SMALL,
        "expected an offset inside the heap",
        |i| {
            let named = i.find(b"k1");
            i.set(named.slot, 4096);
            hex(named.slot)
        },
    ),
    ("a slot word that names the middle of an entry", SMALL, "expected an entry of a span", |i| {
        let named = i.find(b"k1");
        bump(i, named.slot, 8);
        hex(named.slot)
    }),
    ("a slot word in another stripe", SMALL, "lies in a block of stripe", |i| {
        let named = i.find(b"k1");
        let to = elsewhere(i, (named.stripe + 1) % 4, b"k1");
        i.set(to, i.word(named.slot));
        hex(to)
    }),
    ("a slot word in another bucket", SMALL, "entries can be reached", |i| {
        let named = i.find(b"k1");
        let to = elsewhere(i, named.stripe, b"k1");
        i.set(to, i.word(named.slot));
        i.set(named.slot, 0);
        format!("stripe {}", named.stripe)
    }),
    ("two slot words for one entry", SMALL, "name the same entry", |i| {
        let named = i.find(b"k1");
        let to = elsewhere(i, named.stripe, b"k1");
        i.set(to, i.word(named.slot));
        hex(to)
    }),
    ("the same key twice", SMALL, "stands at", |i| {
        let one = i.find(b"k1");
        let is_twin = |n: &crate::image::Named| n.stripe == one.stripe && n.slot != one.slot;
        let all = i.named().into_iter().filter(is_twin);
        let two = all.into_iter().find(|n| i.key_of(n.at).len() == 2).expect("a key as long");
        i.set(i.key_at(two.at), i.word(i.key_at(one.at)));
        i.set(two.slot, i.word(one.slot) & !((1 << 48) - 1) | two.at);
        hex(two.slot)
    }),
    ("a key of another stripe's hash", SMALL, "has a key of another hash", |i| {
        let named = i.find(b"k1");
        bump(i, i.key_at(named.at), 1);
        hex(named.at)
    }),
    ("an empty key", SMALL, "has an empty key", |i| {
        let named = i.find(b"k1");
        i.set(named.at + entry::META, i.word(named.at + entry::META) & !(0xffff << 32));
        hex(named.at)
    }),
    ("a cycle of overflow buckets", CHAINS, "expected a chain that ends", |i| {
        let first = i.word(i.link(1, 5));
        i.set(i.link(1, first), first);
        "stripe 1".into()
    }),
    ("two buckets with the same overflow bucket", CHAINS, "two buckets link to", |i| {
        i.set(i.link(1, 6), i.word(i.link(1, 5)));
        "stripe 1".into()
    }),
    ("a link to a line that is not in use", CHAINS, "links to", |i| {
        i.set(i.link(1, 6), i.word(i.array(1) + array::USED));
        "bucket 6".into()
    }),
    ("more lines in use than there are", SMALL, "expected an array's bucket count", |i| {
        i.set(i.array(2) + array::USED, 1 << 20);
        "stripe 2".into()
    }),
    ("a count of buckets that the array word denies", SMALL, "its array word says", |i| {
        bump(i, i.array(2) + array::BUCKETS, 1);
        "stripe 2".into()
    }),
    ("an array word out of the heap", SMALL, "expected an offset inside the heap", |i| {
        i.set(i.stripe(3) + stripe::ARRAY, 7 << 48 | 4096);
        "stripe 3".into()
    }),
];

pub(super) const ENTRIES: [Planted; 14] = [
    ("a length beyond the class", SMALL, "expected lengths inside its room", |i| {
        let named = i.find(b"k1");
        bump(i, named.at + entry::META, 1 << 20);
        hex(named.slot)
    }),
    ("a kind that is none", SMALL, "is of kind 7", |i| {
        let named = i.find(b"k1");
        i.set(named.at + entry::META, i.word(named.at + entry::META) | 7 << 48);
        hex(named.at)
    }),
    ("a counter that is no number", SMALL, "is of kind 2 with 0 bytes", |i| {
        let named = i.find(b"n1");
        bump(i, named.at + entry::META, 8_u64.wrapping_neg());
        hex(named.at)
    }),
    ("a reserved flag", SMALL, "has the flags", |i| {
        let named = i.find(b"k1");
        i.set(named.at + entry::META, i.word(named.at + entry::META) | 8 << 52);
        hex(named.at)
    }),
    ("a key that becomes a lock's", SMALL, "a key of another hash", |i| {
        let named = i.find(b"k1");
        i.set(named.at + entry::META, i.word(named.at + entry::META) | 4 << 52);
        hex(named.at)
    }),
    ("born beyond the head", SMALL, "was born at", |i| {
        let named = i.find(b"k1");
        bump(i, named.at + entry::BORN, 1 << 30);
        hex(named.at)
    }),
    ("named and unborn", SMALL, "was born at 0", |i| {
        let named = i.find(b"k1");
        i.set(named.at + entry::BORN, 0);
        hex(named.at)
    }),
    ("named and dead", SMALL, "died at", |i| {
        let named = i.find(b"k1");
        i.set(named.at + entry::DIED, i.word(header::HEAD));
        hex(named.at)
    }),
    ("died before it was born", SMALL, "and died at 1, the head", |i| {
        let (_, at) = ring(i);
        let dead = i.word(at);
        i.set(dead + entry::DIED, 1);
        hex(dead)
    }),
    ("dead beyond the head", SMALL, "and died at", |i| {
        let (_, at) = ring(i);
        let dead = i.word(at);
        bump(i, dead + entry::DIED, 1 << 30);
        hex(dead)
    }),
    ("a predecessor that is no place", SMALL, "replaces one at 0x1003", |i| {
        let named = i.find(b"k1");
        i.set(named.at + entry::PRED, 0x1003);
        hex(named.at)
    }),
    ("a plain entry among the timed ones", TIMED, "the other sort", |i| {
        let named = i.find(b"hour1");
        i.set(named.at + entry::META, i.word(named.at + entry::META) & !(3 << 52));
        hex(named.at)
    }),
    ("an owner that is no slot", TIMED, "vanishes with slot word 65535", |i| {
        let named = i.find(b"mine1");
        i.set(named.at + entry::FIXED, u64::MAX);
        hex(named.at)
    }),
    ("a deadline before the earliest noted", TIMED, "expires before the noted", |i| {
        let named = i.find(b"hour1");
        i.set(i.stripe(named.stripe) + stripe::DEADLINE, u64::MAX);
        format!("stripe {}", named.stripe)
    }),
];
