//! LMDB through heed, with NOSYNC and WRITEMAP in a directory of memory: its fastest settings.
//!
//! Each operation is a transaction of its own, as each operation of membus stands for itself.

use std::fs;
use std::path::{Path, PathBuf};

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions};

use super::{Engine, Fail, Memory, Name, file_memory};
use crate::workload::Key;

/// Bytes of a page, for counting pages in use.
const PAGE_SIZE: u64 = 4096;

/// The environment and its one database.
#[derive(Debug)]
pub(super) struct Lmdb {
    env: Env,
    entries: Database<Bytes, Bytes>,
    directory: PathBuf,
}

impl Lmdb {
    /// Opens the environment in `directory`, made if missing, for `data_size` bytes of data.
    pub(super) fn open(directory: &Path, data_size: u64) -> Result<Self, Fail> {
        fs::create_dir_all(directory)?;
        let env = open_environment(directory, usize::try_from(data_size * 4 + (64 << 20))?)?;
        let mut txn = env.write_txn()?;
        let entries = env.create_database(&mut txn, None)?;
        txn.commit()?;
        Ok(Self { env, entries, directory: directory.to_owned() })
    }
}

#[expect(unsafe_code, reason = "heed marks these calls: it cannot rule out misuse of the files")]
fn open_environment(directory: &Path, map_size: usize) -> Result<Env, Fail> {
    let mut options = EnvOpenOptions::new();
    options.map_size(map_size).max_readers(16);
    // SAFETY: the flags give up durability, which a store that is deleted at the end does not need,
    // and let stray writes of this process reach the map, of which safe Rust makes none.
    unsafe { options.flags(EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP) };
    // SAFETY: the directory is in the bench's own temporary one, on a local file system, opened
    // once in each process, and its files are touched through LMDB alone.
    let env = unsafe { options.open(directory) }?;
    Ok(env)
}

impl Engine for Lmdb {
    fn name(&self) -> Name {
        Name::Lmdb
    }

    #[inline]
    fn get(&mut self, key: &Key, buffer: &mut Vec<u8>) -> Result<bool, Fail> {
        let txn = self.env.read_txn()?;
        let Some(value) = self.entries.get(&txn, key)? else { return Ok(false) };
        buffer.clear();
        buffer.extend_from_slice(value);
        Ok(true)
    }

    #[inline]
    fn set(&mut self, key: &Key, value: &[u8]) -> Result<(), Fail> {
        let mut txn = self.env.write_txn()?;
        self.entries.put(&mut txn, key, value)?;
        txn.commit()?;
        Ok(())
    }

    fn add(&mut self, key: &Key, by: i64) -> Result<i64, Fail> {
        let mut txn = self.env.write_txn()?;
        let before = match self.entries.get(&txn, key)? {
            Some(value) => i64::from_le_bytes(value.try_into()?),
            None => 0,
        };
        self.entries.put(&mut txn, key, &(before + by).to_le_bytes())?;
        txn.commit()?;
        Ok(before + by)
    }

    fn memory(&mut self) -> Result<Memory, Fail> {
        let pages = self.env.info().last_page_number as u64 + 1;
        Ok(Memory { used: pages * PAGE_SIZE, held: file_memory(&self.directory)? })
    }

    fn close(self: Box<Self>) -> Result<(), Fail> {
        let Self { env, directory, .. } = *self;
        env.prepare_for_closing().wait();
        fs::remove_dir_all(directory)?;
        Ok(())
    }
}
