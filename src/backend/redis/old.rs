//! Version 1 of the keys, which is read and removed, and written no more: each snapshot has entries of its own.
//!
//! ```text
//! PREFIXID:chunks          how many parts of the index were begun
//! PREFIXID:index:N         list of keys, a part of the index
//! PREFIXID:entry:KEY       hash: the entry
//! ```

use super::RedisStore;
use crate::backend::BackendError;
use redis::{Connection, RedisResult};

/// The version that the head names.
pub(super) const VERSION: u64 = 1;

/// A part of the index.
pub(super) fn part(
    store: &RedisStore,
    of: &mut Connection,
    id: &str,
    number: u64,
) -> RedisResult<Vec<Vec<u8>>> {
    let index = store.key_of(id, &format!("index:{number}"));
    redis::cmd("LRANGE").arg(index).arg(0).arg(-1).query(of)
}

/// The name of an entry.
pub(super) fn name(store: &RedisStore, id: &str, key: &[u8]) -> Vec<u8> {
    [store.key_of(id, "entry:").as_bytes(), key].concat()
}

/// Removes what a version has of these.
pub(super) fn discard(
    store: &RedisStore,
    of: &mut Connection,
    id: &str,
) -> Result<(), BackendError> {
    let chunks = redis::cmd("GET").arg(store.key_of(id, "chunks")).query::<Option<u64>>(of);
    let chunks = store.said(chunks)?.unwrap_or(0);
    for number in 0.. {
        let keys = store.said(part(store, of, id, number))?;
        // When the number was lost, the first part that is not there is the end.
        if number >= chunks && keys.is_empty() {
            break;
        }
        let mut unlink = redis::pipe();
        for key in keys {
            unlink.cmd("UNLINK").arg(name(store, id, &key));
        }
        unlink.cmd("UNLINK").arg(store.key_of(id, &format!("index:{number}")));
        store.exchange(of, &unlink)?;
    }
    let rest = redis::cmd("UNLINK").arg(store.key_of(id, "chunks")).query::<()>(of);
    store.said(rest)
}
