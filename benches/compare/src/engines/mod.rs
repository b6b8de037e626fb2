//! What is measured: each store behind one trait, with the loops that the clock surrounds.
//!
//! The loops are the trait's provided methods. The compiler makes one of each per engine, with the
//! engine's `get` and `set` called directly in it; only a whole pass is a call through a table.

mod dashmap;
mod lmdb;
mod membus;
mod redis;
mod rwlock;

use std::error::Error;
use std::fmt;
use std::fs;
use std::hint::black_box;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::membus::Bus;
use serde::{Deserialize, Serialize};

pub(crate) use self::redis::Redis as RedisServer;
use crate::workload::{Key, Step};

/// Why a run ended early. A bench has one reader of its errors, and nobody tells them apart.
pub(crate) type Fail = Box<dyn Error + Send + Sync>;

/// Operations between two looks at the clock in a pass that has a time instead of a length.
const STEPS_PER_LOOK: usize = 256;
/// Longest wait for an engine to finish what its load began.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// The stores there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Name {
    /// The subject.
    Membus,
    /// `dashmap` 6, in this process.
    Dashmap,
    /// `RwLock<HashMap>`, in this process.
    RwLock,
    /// LMDB through heed.
    Lmdb,
    /// Redis over a Unix socket.
    Redis,
}

impl Name {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 5] =
        [Self::Membus, Self::Dashmap, Self::RwLock, Self::Lmdb, Self::Redis];

    /// The word for it, also in `--only`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Membus => "membus",
            Self::Dashmap => "dashmap",
            Self::RwLock => "rwlock",
            Self::Lmdb => "lmdb",
            Self::Redis => "redis",
        }
    }

    /// The store that `word` names.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.word() == word)
    }

    /// Passes of a slow store are shorter by this factor; its figure is per operation all the same.
    pub(crate) fn slowness(self) -> usize {
        if self == Self::Redis { 20 } else { 1 }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What a store says it takes, in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// In use by entries and what finds them.
    pub(crate) used: u64,
    /// Taken from the system.
    pub(crate) held: u64,
}

/// One store, opened by one process. Keys and values are bytes.
pub(crate) trait Engine {
    /// Which one it is.
    fn name(&self) -> Name;

    /// Copies the value of `key` into `buffer` and says whether there is one.
    fn get(&mut self, key: &Key, buffer: &mut Vec<u8>) -> Result<bool, Fail>;

    /// Makes `value` the value of `key`.
    fn set(&mut self, key: &Key, value: &[u8]) -> Result<(), Fail>;

    /// Adds to a counter; a missing one counts as zero.
    fn add(&mut self, key: &Key, by: i64) -> Result<i64, Fail>;

    /// What it takes now.
    fn memory(&mut self) -> Result<Memory, Fail>;

    /// Ends it and removes what it left.
    fn close(self: Box<Self>) -> Result<(), Fail>;

    /// Sets every key, as fast as the store allows.
    fn load(&mut self, keys: &[Key], value: &[u8]) -> Result<(), Fail> {
        keys.iter().try_for_each(|key| self.set(key, value))
    }

    /// Waits until its size has stood still for a fifth of a second.
    fn settle(&mut self) -> Result<(), Fail> {
        let (start, mut before, mut same) = (Instant::now(), self.memory()?, 0);
        while same < 4 && start.elapsed() < SETTLE_MAX {
            std::thread::sleep(Duration::from_millis(50));
            let now = self.memory()?;
            same = if now.held == before.held { same + 1 } else { 0 };
            before = now;
        }
        Ok(())
    }

    /// Gets each key, and says how many were there.
    fn run_gets(&mut self, keys: &[Key]) -> Result<(Duration, usize), Fail> {
        let (mut buffer, mut hits) = (Vec::with_capacity(4096), 0);
        let start = Instant::now();
        for key in keys {
            hits += usize::from(self.get(key, &mut buffer)?);
            black_box(buffer.as_slice());
        }
        Ok((start.elapsed(), hits))
    }

    /// Sets each key.
    fn run_sets(&mut self, keys: &[Key], value: &[u8]) -> Result<Duration, Fail> {
        let start = Instant::now();
        for key in keys {
            self.set(key, black_box(value))?;
        }
        Ok(start.elapsed())
    }

    /// Adds one to one counter, `count` times.
    fn run_adds(&mut self, key: &Key, count: usize) -> Result<Duration, Fail> {
        let start = Instant::now();
        for _ in 0..count {
            black_box(self.add(key, 1)?);
        }
        Ok(start.elapsed())
    }

    /// Goes round `steps` until `limit` has passed; the operations done and the time they took.
    fn run_steps(
        &mut self,
        steps: &[Step],
        value: &[u8],
        limit: Duration,
    ) -> Result<(u64, Duration), Fail> {
        let (mut buffer, mut done) = (Vec::with_capacity(4096), 0u64);
        let start = Instant::now();
        for chunk in steps.chunks(STEPS_PER_LOOK).cycle() {
            for step in chunk {
                if step.is_set {
                    self.set(&step.key, black_box(value))?;
                } else {
                    self.get(&step.key, &mut buffer)?;
                    black_box(buffer.as_slice());
                }
            }
            done += chunk.len() as u64;
            if start.elapsed() >= limit {
                break;
            }
        }
        Ok((done, start.elapsed()))
    }
}

/// Opens the store `name` for `keys` keys with values of `value_size` bytes, under `directory`.
/// `None` when this machine does not have it.
pub(crate) fn open(
    name: Name,
    directory: &Path,
    keys: u32,
    value_size: usize,
) -> Result<Option<Box<dyn Engine>>, Fail> {
    let data_size = u64::from(keys) * (value_size as u64 + 128);
    Ok(match name {
        Name::Membus => Some(Box::new(membus::Membus::open(&directory.join("membus"))?)),
        Name::Dashmap => Some(Box::new(dashmap::Dash::default())),
        Name::RwLock => Some(Box::new(rwlock::Locked::default())),
        Name::Lmdb => Some(Box::new(lmdb::Lmdb::open(&directory.join("lmdb"), data_size)?)),
        Name::Redis => match redis::Redis::start_in(&directory.join("redis"))? {
            Some(server) => Some(Box::new(server)),
            None => None,
        },
    })
}

/// Joins the store that another process opened under `directory`.
pub(crate) fn join(
    name: Name,
    directory: &Path,
    keys: u32,
    value_size: usize,
) -> Result<Box<dyn Engine>, Fail> {
    let data_size = u64::from(keys) * (value_size as u64 + 128);
    Ok(match name {
        Name::Membus => Box::new(membus::Membus::join(&directory.join("membus"))?),
        Name::Lmdb => Box::new(lmdb::Lmdb::open(&directory.join("lmdb"), data_size)?),
        other => return Err(format!("{other} is not measured from two processes").into()),
    })
}

/// Joins the bus that another process opened under `directory`.
pub(crate) fn join_bus(directory: &Path) -> Result<Bus, Fail> {
    membus::attach(&directory.join(Name::Membus.word()))
}

/// The socket of the Redis server that another process started under `directory`.
pub(crate) fn redis_socket(directory: &Path) -> PathBuf {
    redis::socket(&directory.join(Name::Redis.word()))
}

/// The anonymous memory of this process that is resident: what a map in it takes.
pub(crate) fn anonymous_memory() -> Result<Memory, Fail> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no RssAnon")?;
    let bytes = kib.trim().parse::<u64>()? * 1024;
    Ok(Memory { used: bytes, held: bytes })
}

/// Bytes that the files directly in `directory` really take, holes left out.
pub(crate) fn file_memory(directory: &Path) -> Result<u64, Fail> {
    let mut bytes = 0;
    for file in fs::read_dir(directory)? {
        bytes += file?.metadata()?.blocks() * 512;
    }
    Ok(bytes)
}
