//! Savers, sweeps, deaths and losses in any order. A save's steps are scripts, which nothing interrupts, and between any
//! two of them others come: whole saves, savers whose claim runs out, sweeps, savers that go on.
//!
//! Promise: each snapshot that is whole is what was saved under its revision; one whose key was lost is refused; when all
//! is over, nothing is left that no index lists.
//!
//! | variable | what | default |
//! | --- | --- | --- |
//! | `MEMBUS_REDIS_ORDERS` | how many histories | 30 |
//! | `MEMBUS_SEED` | the seed, as it was told | a fresh one |
//!
//! Plants, each seen to fail here: a sweep that regards the indexes of whole snapshots alone; a step that takes what the
//! snapshot before lists for there.

use super::tests::TestServer;
use super::*;
use crate::backend::FromFn;
use crate::backend::conformance_tests;
use crate::backend::content::Content;
use crate::rng::Rng;
use crate::snapshot_entry::SnapshotEntry;
use std::collections::{BTreeMap, BTreeSet};

/// Of each key the revision.
type State = BTreeMap<u64, u64>;

struct History<'a> {
    store: &'a RedisStore,
    /// Saves that have written all and not moved the pointer, with their revisions.
    open: Vec<(Saving<'a>, u64, Content)>,
    connection: Connection,
    random: Rng,
    /// What was saved under each revision.
    saved: BTreeMap<u64, State>,
    newest: u64,
    revision: u64,
    /// The last save that had begun when keys were lost.
    lossy: u64,
    moved: u64,
}

fn entry((number, revision): (&u64, &u64)) -> SnapshotEntry {
    SnapshotEntry {
        key: number.to_string().into_bytes(),
        value: revision.to_le_bytes().to_vec(),
        revision: *revision,
        ..SnapshotEntry::default()
    }
}

impl History<'_> {
    fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.connection).unwrap()
    }

    /// One of the keys that match.
    fn one_of(&mut self, pattern: &str) -> Option<String> {
        let mut keys: Vec<String> = self.ask(&["KEYS", pattern]);
        keys.sort_unstable();
        let place = self.random.below(keys.len().max(1) as u64) as usize;
        (place < keys.len()).then(|| keys.swap_remove(place))
    }

    /// The newest, and a little else: few entries, or more than two batches.
    fn next_state(&mut self) -> State {
        let mut state = self.saved.get(&self.newest).cloned().unwrap_or_default();
        let limit = [8, 8, 1200][self.random.below(3) as usize];
        state.retain(|number, _| *number < limit);
        for number in 0..limit {
            state.entry(number).or_insert(self.revision);
        }
        for _ in 0..3 {
            state.insert(self.random.below(limit), self.revision);
            state.remove(&self.random.below(limit));
        }
        state
    }

    fn save(&mut self, depth: u32) {
        self.revision += 1;
        let (revision, state) = (self.revision, self.next_state());
        self.saved.insert(revision, state.clone());
        let mut saving = Saving::begin(self.store).unwrap();
        let (mut left, mut count) = (state.iter(), 0);
        let next = || {
            count += 1;
            if depth < 2 && (count % save::BATCH == 1 || count > state.len()) {
                self.meanwhile(depth + 1);
            }
            Ok(left.next().map(entry))
        };
        let content = saving.write(&mut FromFn(next));
        match content {
            // The others are dead.
            Ok(content) if !self.random.once_in(4) => self.open.push((saving, revision, content)),
            Err(_) if self.random.once_in(2) => {
                self.store.discard(&mut saving.connection, &saving.id).unwrap();
            }
            _ => {}
        }
        if self.random.once_in(2) {
            self.finish();
        }
    }

    /// One of those that have written all goes on.
    fn finish(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let place = self.random.below(self.open.len() as u64) as usize;
        let (mut saving, revision, content) = self.open.swap_remove(place);
        let head = SnapshotHead { revision, ..SnapshotHead::default() };
        if saving.finish(&head, &content).is_ok() {
            (self.newest, self.moved) = (revision, self.moved + 1);
            if self.random.once_in(2) {
                self.store.sweep(&mut saving.connection).unwrap();
            }
        } else if self.random.once_in(2) {
            self.store.discard(&mut saving.connection, &saving.id).unwrap();
        }
    }

    /// What others do.
    fn meanwhile(&mut self, depth: u32) {
        match self.random.below(7) {
            0 => self.save(depth),
            6 => self.finish(),
            1 => {
                if let Some(claim) = self.one_of("t:*:saving") {
                    self.ask::<()>(&["DEL", &claim]);
                }
            }
            2 => self.store.sweep(&mut self.store.connect().unwrap()).unwrap(),
            3 if self.random.once_in(4) => {
                if let Some(lost) = self.one_of("t:entry:*") {
                    self.ask::<()>(&["DEL", &lost]);
                    self.lossy = self.revision;
                }
            }
            _ => {}
        }
    }

    /// Each snapshot that is whole.
    fn check(&mut self) {
        let ids: Vec<String> = self.ask(&["ZRANGE", "t:versions", "0", "-1"]);
        let heads = ids.iter().filter_map(|id| {
            let head = format!("t:{id}:head");
            self.ask::<Option<u64>>(&["HGET", &head, "revision"])
        });
        let heads: BTreeSet<u64> = heads.collect();
        assert!(self.newest == 0 || heads.contains(&self.newest), "{heads:?}");
        for revision in heads {
            let mut found = conformance_tests::Collected::default();
            let end = self.store.load_where(&|head| head.revision == revision, &mut found);
            match end {
                Ok(loaded) => {
                    assert_eq!(loaded.unwrap().head.revision, revision);
                    let mut expected: Vec<_> = self.saved[&revision].iter().map(entry).collect();
                    for entries in [&mut expected, &mut found.entries] {
                        entries.sort_by(|one, two| one.key.cmp(&two.key));
                    }
                    assert!(found.entries == expected, "another one as {revision}");
                }
                Err(BackendError::Damaged { .. }) if revision <= self.lossy => {}
                Err(error) => panic!("{revision} of {:?}: {error}", self.newest),
            }
        }
        self.forget("t:*:loading");
    }

    fn forget(&mut self, claims: &str) {
        while let Some(claim) = self.one_of(claims) {
            self.ask::<()>(&["DEL", &claim]);
        }
    }
}

#[test]
fn savers_sweeps_and_deaths_in_any_order() {
    let place = tempfile::tempdir_in("/dev/shm").unwrap();
    let Some(server) = TestServer::start(place.path(), &[]) else { return };
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("MEMBUS_SEED");
    let seed = seed.unwrap_or_else(|| crate::sys::process::random().unwrap() >> 16);
    let (mut moved, histories) = (0, number("MEMBUS_REDIS_ORDERS").unwrap_or(30));
    for seed in seed..seed + histories {
        println!("MEMBUS_SEED={seed}");
        let mut random = Rng::new(seed);
        let store = RedisStore { keep: 1 + random.below(3) as usize, ..server.store() };
        let connection = store.connect().unwrap();
        let mut history = History {
            store: &store,
            open: Vec::new(),
            connection,
            random,
            saved: BTreeMap::new(),
            newest: 0,
            revision: 0,
            lossy: 0,
            moved,
        };
        history.ask::<()>(&["FLUSHALL"]);
        for _ in 0..12 {
            history.save(0);
            history.check();
        }
        moved = history.moved;
        history.forget("t:*:saving");
        let store = RedisStore { keep: 1, ..store.clone() };
        let one = [entry((&0, &1_000_000))];
        conformance_tests::save(&store, &SnapshotHead::default(), &one).unwrap();
        let mut left: Vec<String> = history.ask(&["KEYS", "*"]);
        // It is about a snapshot that was refused.
        left.retain(|key| key != "t:doubt");
        // Current, versions, sequence, head, index, entry.
        assert_eq!(left.len(), 6, "{left:?}");
    }
    println!("{moved} snapshots of {histories} histories");
    assert!(moved > histories);
    crate::earned(histories, "histories of savers to Redis");
}
