//! What is wrong with the header's words, locks, members, watches and the log.

use super::{COMMIT, LOG, MEMBERS, Planted, SMALL, TIMED, bump, hex, last_record};
use crate::layout::{WATCH_GROUPS, header, member, record, stripe, watch};

pub(super) const WORDS: [Planted; 31] = [
    ("a clear beyond the head", SMALL, "lies beyond the head", |i| {
        bump(i, header::CLEARED_AT, 1 << 30);
        "cleared_at".into()
    }),
    ("a commit that nobody carries out", SMALL, "nobody holds the commit lock", |i| {
        i.set(header::READY, i.word(header::HEAD));
        "commit".into()
    }),
    ("a commit of more changes than there is room for", COMMIT, "changes, and room for 16", |i| {
        i.set(header::COUNT, 17);
        "17".into()
    }),
    ("a commit that ends beyond its changes", COMMIT, "end at revision", |i| {
        bump(i, header::READY, 5);
        "commit record".into()
    }),
    ("a commit of an entry that is none", COMMIT, "where no entry stands", |i| {
        bump(i, header::INLINE + 8, 8);
        hex(i.word(header::INLINE + 8) & ((1 << 48) - 1))
    }),
    ("a size that is no block's end", SMALL, "the size word says", |i| {
        bump(i, header::SIZE, 8_u64.wrapping_neg());
        i.word(header::SIZE).to_string()
    }),
    ("a size before the heap", SMALL, "the size word says 4096", |i| {
        i.set(header::SIZE, 4096);
        "4096".into()
    }),
    ("a commit lock that names no member", SMALL, "which nobody ever had", |i| {
        i.set(header::COMMIT_LOCK, 900);
        "the commit lock is held by slot 899".into()
    }),
    ("a grow lock that names no member", SMALL, "which nobody ever had", |i| {
        i.set(header::GROW_LOCK, 900);
        "the grow lock is held by slot 899".into()
    }),
    ("a stripe's lock that names no member", SMALL, "which nobody ever had", |i| {
        i.set(i.stripe(1) + stripe::LOCK, 900);
        "the lock of stripe 1 is held by slot 899".into()
    }),
    ("more member slots in use than there are", SMALL, "members_high is", |i| {
        i.set(header::MEMBERS_HIGH, 5000);
        "5000".into()
    }),
    ("a member in a state that is none", MEMBERS, "is in state 3", |i| {
        i.set(i.member(1) + member::STATE, 3);
        "member slot 1".into()
    }),
    ("a member without a generation", MEMBERS, "without a generation", |i| {
        i.set(i.member(1) + member::GENERATION, 0);
        "member slot 1".into()
    }),
    ("a member beyond the slots in use", MEMBERS, "beyond members_high", |i| {
        i.set(i.member(77) + member::STATE, 1);
        "member slot 77".into()
    }),
    ("a label beyond its place", MEMBERS, "has a label of 65 bytes", |i| {
        i.set(i.member(1) + member::LABEL_LEN, 65);
        "member slot 1".into()
    }),
    ("a pin where no entry is", TIMED, "where no entry stands", |i| {
        bump(i, i.member(0) + member::PINS, 8);
        hex(i.word(i.member(0) + member::PINS))
    }),
    ("a pin of a slot that is free", TIMED, "is free and pins", |i| {
        i.set(i.member(0) + member::STATE, 0);
        "member slot 0".into()
    }),
    ("a pin that no bit tells of", TIMED, "no bit says so", |i| {
        i.set(i.pinned(), 0);
        "member slot 0".into()
    }),
    ("a watch without a member", MEMBERS, "whose member is gone", |i| {
        bump(i, i.watch(1) + watch::STATE, 1 << 16);
        "watch 1".into()
    }),
    ("a watch of a slot that is none", MEMBERS, "has owner", |i| {
        i.set(i.watch(1) + watch::STATE, 0xffff);
        "watch 1".into()
    }),
    ("a prefix beyond its place", MEMBERS, "a prefix of 97", |i| {
        i.set(i.watch(1) + watch::FILTER, 97);
        "watch 1".into()
    }),
    ("a watch beyond the slots in use", MEMBERS, "beyond watches_high", |i| {
        i.set(i.watch(70) + watch::STATE, i.word(i.watch(0) + watch::STATE));
        "watch 70".into()
    }),
    ("nobody who sleeps", MEMBERS, "sleeps, but nobody has it", |i| {
        i.set(i.asleep(7), i.word(i.asleep(7)) | 1 << 40);
        "watch 40".into()
    }),
    ("a sleeper in another group", MEMBERS, "sleeps in group", |i| {
        let other = (i.word(i.watch(1) + watch::GROUP) + 1) % WATCH_GROUPS;
        i.set(i.asleep(other), i.word(i.asleep(other)) | 1 << 1);
        "watch 1".into()
    }),
    ("a watch in a group that is none", MEMBERS, "is in group 1024", |i| {
        i.set(i.watch(1) + watch::GROUP, WATCH_GROUPS);
        "watch 1".into()
    }),
    ("a filter of no sort", MEMBERS, "a filter of sort 5", |i| {
        i.set(i.watch(1) + watch::FILTER, 5 << 32);
        "watch 1".into()
    }),
    ("a length that nobody noted", MEMBERS, "its length is not noted", |i| {
        i.set(header::BELL_LENGTHS, 0);
        "watch".into()
    }),
    ("an end that is none", MEMBERS, "ended by 3", |i| {
        i.set(i.member(0) + member::ENDED, 3);
        "slot 0".into()
    }),
    ("locks that nobody named", SMALL, "counts 3 locks", |i| {
        i.set(i.stripe(1) + stripe::LOCKS, 3);
        "stripe 1".into()
    }),
    ("a keeper that is no slot", SMALL, "the keeper's word is 5000", |i| {
        i.set(header::KEEPER, 5000);
        "5000".into()
    }),
    ("a reserved word", SMALL, "the reserved word 2040", |i| {
        i.set(i.stripe(3) + 2040, 1);
        "stripe 3".into()
    }),
];

pub(super) const REST: [Planted; 11] = [
    ("a stripe swept beyond the last clear", SMALL, "was swept to", |i| {
        bump(i, i.stripe(1) + stripe::SWEPT_TO, 1 << 40);
        "stripe 1".into()
    }),
    ("a stripe read by a snapshot that was none", SMALL, "was read by snapshot", |i| {
        bump(i, i.stripe(1) + stripe::SNAP_DONE, 1 << 40);
        "stripe 1".into()
    }),
    ("a snapshot that is on and more", SMALL, "word of a running snapshot is 2", |i| {
        i.set(header::SNAP_ON, 2);
        "2".into()
    }),
    ("a head before the first revision", SMALL, "before the region's first revision", |i| {
        i.set(header::FIRST_REVISION, 1 << 50);
        i.reseal();
        "head".into()
    }),
    ("a record of a wrong length", SMALL, "expected a log record", |i| {
        let at = last_record(i);
        bump(i, at + record::META, 8);
        at.to_string()
    }),
    ("a record of a kind that is none", SMALL, "expected a log record", |i| {
        let at = last_record(i);
        i.set(at + record::META, i.word(at + record::META) | 0xff << 32);
        at.to_string()
    }),
    ("a gap in the revisions of the log", SMALL, "the log record of the next revision", |i| {
        let at = last_record(i);
        bump(i, at, 1);
        at.to_string()
    }),
    ("a tail before the head's record", SMALL, "the log's tail is", |i| {
        bump(i, header::LOG_TAIL, 64_u64.wrapping_neg());
        i.word(header::LOG_TAIL).to_string()
    }),
    ("a tail beyond its intent", SMALL, "lies beyond its intent", |i| {
        bump(i, header::LOG_TAIL, 4096);
        i.word(header::LOG_TAIL).to_string()
    }),
    ("a head behind the last record", SMALL, "the head's record ends at", |i| {
        bump(i, header::HEAD, 1_u64.wrapping_neg());
        i.word(header::LOG_TAIL).to_string()
    }),
    ("an index that leads to another record", LOG, "does not lead to revision 640", |i| {
        let at = i.index() + 8 * ((640 / 64) & (i.index_len() - 1));
        bump(i, at, 8);
        "640".into()
    }),
];
