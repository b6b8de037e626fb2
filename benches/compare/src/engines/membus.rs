//! membus as a user has it: default capacity, grown by the keeper, logged, not persisted.

use std::fs;
use std::path::{Path, PathBuf};

use membus::{Bus, Persist, ReadBus};

use super::{Engine, Fail, Memory, Name, file_memory};
use crate::workload::Key;

/// Room to grow to; the bus begins at the default capacity.
const CAPACITY_MAX: u64 = 4 << 30;

/// A handle, and where the bus lies.
#[derive(Debug)]
pub(super) struct Membus {
    bus: Bus,
    path: PathBuf,
    is_owner: bool,
}

impl Membus {
    /// Makes the bus at `path`, which is removed at the end.
    pub(super) fn open(path: &Path) -> Result<Self, Fail> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let options = Bus::options().max_capacity(CAPACITY_MAX).keeper(true).label("compare");
        let bus = options.persist(Persist::None).create_at(path)?;
        Ok(Self { bus, path: path.to_owned(), is_owner: true })
    }

    /// Joins the bus at `path`.
    pub(super) fn join(path: &Path) -> Result<Self, Fail> {
        Ok(Self { bus: attach(path)?, path: path.to_owned(), is_owner: false })
    }
}

/// Attaches to the bus at `path`.
pub(super) fn attach(path: &Path) -> Result<Bus, Fail> {
    Ok(Bus::options().label("compare-worker").attach_at(path)?)
}

impl Engine for Membus {
    fn name(&self) -> Name {
        Name::Membus
    }

    #[inline]
    fn get(&mut self, key: &Key, buffer: &mut Vec<u8>) -> Result<bool, Fail> {
        Ok(self.bus.get_into(key, buffer)?.is_some())
    }

    #[inline]
    fn set(&mut self, key: &Key, value: &[u8]) -> Result<(), Fail> {
        self.bus.set_bytes(key, value)?;
        Ok(())
    }

    fn add(&mut self, key: &Key, by: i64) -> Result<i64, Fail> {
        Ok(self.bus.add(key, by)?)
    }

    fn memory(&mut self) -> Result<Memory, Fail> {
        Ok(Memory { used: self.bus.info()?.used, held: file_memory(&self.path)? })
    }

    fn close(self: Box<Self>) -> Result<(), Fail> {
        let Self { bus, path, is_owner } = *self;
        bus.close()?;
        if is_owner {
            Bus::destroy_at(&path, true)?;
        }
        Ok(())
    }
}
