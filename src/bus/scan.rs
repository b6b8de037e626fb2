//! Walks over the entries whose keys begin with a prefix.

use super::Inner;
use super::counters::Counter;
use crate::error::ReadError;
use crate::types::Key;
use crate::value::Entry;
use serde::de::DeserializeOwned;

/// A walk over entries.
#[derive(Debug)]
pub struct EntryScan<'a> {
    inner: &'a Inner,
    prefix: Vec<u8>,
    stripe: u64,
    keys: Vec<Vec<u8>>,
}

impl<'a> EntryScan<'a> {
    pub(crate) fn over(inner: &'a Inner, prefix: &[u8]) -> Self {
        inner.count(Counter::Scans);
        Self { inner, prefix: prefix.to_vec(), stripe: 0, keys: Vec::new() }
    }
}

impl Iterator for EntryScan<'_> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some(key) = self.keys.pop() {
                if let Some(found) = self.inner.entry(&key).transpose() {
                    return Some(found);
                }
            }
            if self.stripe == self.inner.core.geometry.stripes {
                return None;
            }
            match self.inner.core.stripe_keys(self.stripe, &self.prefix) {
                Ok(keys) => self.keys = keys,
                Err(error) => {
                    self.stripe = self.inner.core.geometry.stripes;
                    return Some(Err(error.into()));
                }
            }
            self.stripe += 1;
        }
    }
}

/// A walk over values of a type.
#[derive(Debug)]
pub struct Scan<'a, T> {
    pub(crate) entries: EntryScan<'a>,
    pub(crate) kind: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Iterator for Scan<'_, T> {
    type Item = Result<(Key, T), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.entries.next()?;
        Some(entry.and_then(|entry| Ok((entry.key.clone(), entry.decode()?))))
    }
}
