//! dashmap 6 with the standard hasher: a map of one process, sharded, a lock per shard.

use dashmap::DashMap;

use super::{Engine, Fail, Memory, Name, anonymous_memory};
use crate::workload::Key;

/// The map.
#[derive(Debug, Default)]
pub(super) struct Dash {
    map: DashMap<Vec<u8>, Vec<u8>>,
}

impl Engine for Dash {
    fn name(&self) -> Name {
        Name::Dashmap
    }

    #[inline]
    fn get(&mut self, key: &Key, buffer: &mut Vec<u8>) -> Result<bool, Fail> {
        let Some(value) = self.map.get(key.as_slice()) else { return Ok(false) };
        buffer.clear();
        buffer.extend_from_slice(&value);
        Ok(true)
    }

    #[inline]
    fn set(&mut self, key: &Key, value: &[u8]) -> Result<(), Fail> {
        self.map.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn add(&mut self, key: &Key, by: i64) -> Result<i64, Fail> {
        let mut value = self.map.entry(key.to_vec()).or_insert_with(|| vec![0; 8]);
        let sum = i64::from_le_bytes(value.as_slice().try_into()?) + by;
        value.copy_from_slice(&sum.to_le_bytes());
        Ok(sum)
    }

    fn memory(&mut self) -> Result<Memory, Fail> {
        anonymous_memory()
    }

    fn close(self: Box<Self>) -> Result<(), Fail> {
        Ok(())
    }
}
