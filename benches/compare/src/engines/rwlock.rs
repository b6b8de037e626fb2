//! `RwLock<HashMap>` with the standard hasher: what one writes before looking for a store.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use super::{Engine, Fail, Memory, Name, anonymous_memory};
use crate::workload::Key;

/// The map and its lock.
#[derive(Debug, Default)]
pub(super) struct Locked {
    map: RwLock<HashMap<Vec<u8>, Vec<u8>>>,
}

impl Engine for Locked {
    fn name(&self) -> Name {
        Name::RwLock
    }

    #[inline]
    fn get(&mut self, key: &Key, buffer: &mut Vec<u8>) -> Result<bool, Fail> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let Some(value) = map.get(key.as_slice()) else { return Ok(false) };
        buffer.clear();
        buffer.extend_from_slice(value);
        Ok(true)
    }

    #[inline]
    fn set(&mut self, key: &Key, value: &[u8]) -> Result<(), Fail> {
        let (key, value) = (key.to_vec(), value.to_vec());
        self.map.write().unwrap_or_else(PoisonError::into_inner).insert(key, value);
        Ok(())
    }

    fn add(&mut self, key: &Key, by: i64) -> Result<i64, Fail> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let value = map.entry(key.to_vec()).or_insert_with(|| vec![0; 8]);
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
