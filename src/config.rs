//! What outlives a region: sizes, mode and backend of a bus, in a file of this user.
//!
//! `$XDG_STATE_HOME/membus/NAME.toml` (by default below `~/.local/state`); for a bus elsewhere than
//! in `/dev/shm/membus-UID`, `NAME-HASH.toml` with a hash of its path. There are no passwords in it.
//! It goes with `destroy`.

mod persist;
mod redis;

pub use persist::{Persist, PersistError};
pub use redis::RedisPlace;
#[cfg(not(loom))]
pub(crate) use redis::RedisServer;

use crate::error::OpenError;
use crate::sys::{file, process};
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is kept of a bus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Config {
    /// Where the bus is, for people to read.
    pub(crate) path: String,
    pub(crate) capacity: u64,
    pub(crate) max_capacity: u64,
    pub(crate) log_size: u64,
    pub(crate) mode: u32,
    #[serde(default)]
    pub(crate) old_values: bool,
    pub(crate) persist: String,
    pub(crate) every_seconds: f64,
    /// 0: no number of changes.
    #[serde(default)]
    pub(crate) after_changes: u64,
    /// 0: full speed.
    #[serde(default)]
    pub(crate) rate_bytes: u64,
    pub(crate) keep: usize,
    /// When the journal is synced; no journal without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) journal: Option<String>,
}

impl Config {
    pub(crate) fn persist(&self) -> Result<Persist, PersistError> {
        self.persist.parse()
    }
    pub(crate) fn every(&self) -> Duration {
        Duration::try_from_secs_f64(self.every_seconds).unwrap_or(Duration::MAX)
    }
}

/// The directory of all that outlives regions.
pub(crate) fn state_directory() -> PathBuf {
    let given = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = given("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| given("HOME").map(|home| home.join(".local/state")));
    base.unwrap_or_else(|| PathBuf::from(format!("/var/tmp/membus-{}", process::uid())))
        .join("membus")
}

/// What the files of a bus are called: its name, or a hash of its path.
pub(crate) fn stem(path: &Path) -> io::Result<String> {
    let path = std::path::absolute(path)?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = if crate::name::check(name).is_ok() { name } else { "at" };
    if path.parent() == Some(&crate::name::standard()) {
        return Ok(name.to_owned());
    }
    let hash = xxhash_rust::xxh3::xxh3_64(path.as_os_str().as_encoded_bytes());
    Ok(format!("{name}-{hash:016x}"))
}

fn place(state: &Path, path: &Path) -> Result<PathBuf, OpenError> {
    let stem = stem(path).map_err(|source| failed("naming", path, source))?;
    Ok(state.join(format!("{stem}.toml")))
}

fn default_images(state: &Path, path: &Path) -> Result<PathBuf, OpenError> {
    let stem = stem(path).map_err(|source| failed("naming", path, source))?;
    Ok(state.join(format!("{stem}.snapshots")))
}

/// Where images go of what restores replace.
pub(crate) fn before_restore(state: &Path, path: &Path) -> Result<PathBuf, OpenError> {
    let stem = stem(path).map_err(|source| failed("naming", path, source))?;
    Ok(state.join(format!("{stem}.before-restore")))
}

/// Where backups go that have a name and no place.
pub(crate) fn backups(state: &Path, path: &Path) -> Result<PathBuf, OpenError> {
    let stem = stem(path).map_err(|source| failed("naming", path, source))?;
    Ok(state.join(format!("{stem}.backups")))
}

/// Where the journal goes.
pub(crate) fn journal(state: &Path, path: &Path) -> Result<PathBuf, OpenError> {
    let stem = stem(path).map_err(|source| failed("naming", path, source))?;
    Ok(state.join(format!("{stem}.journal")))
}

/// Where snapshots go when nobody says.
pub(crate) fn default_persist(state: &Path, path: &Path) -> Result<Persist, OpenError> {
    default_images(state, path).map(Persist::Image)
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { what, path: path.to_owned(), source }
}

/// Reads what is kept of the bus at `path`.
pub(crate) fn load(state: &Path, path: &Path) -> Result<Option<Config>, OpenError> {
    let at = place(state, path)?;
    let text = match file::read_text(&at) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|source| failed("reading", &at, source))?,
    };
    let config = toml::from_str(&text);
    config.map(Some).map_err(|error| failed("reading", &at, io::Error::other(error.to_string())))
}

/// The file before it has its name. Who writes it has the lock of the bus's directory.
fn unfinished(at: &Path) -> PathBuf {
    at.with_extension("toml.new")
}

/// Keeps it, whole or not at all.
pub(crate) fn store(state: &Path, path: &Path, config: &Config) -> Result<(), OpenError> {
    let at = place(state, path)?;
    let fail = |source| failed("writing", &at, source);
    let text = toml::to_string(config).map_err(|error| fail(io::Error::other(error)))?;
    file::make_directories(state).map_err(fail)?;
    let new = unfinished(&at);
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_TRUNC;
    let to = file::open_file(&new, flags, 0o600).map_err(fail)?;
    let written = file::write_all(&to, text.as_bytes())
        .and_then(|()| file::sync(&to))
        .and_then(|()| file::rename(&new, &at))
        .and_then(|()| file::sync_directory(state));
    if written.is_err() {
        // The old file is whole; what is left of the new one is overwritten by the next.
        let _removed = file::unlink(&new);
    }
    written.map_err(fail)
}

/// Forgets the bus at `path`, and snapshots that went where nobody said: all at once, by another name
/// of their directory, since a power cut after half of them would bring an older state back.
pub(crate) fn forget(state: &Path, path: &Path) -> Result<(), OpenError> {
    let (at, images) = (place(state, path)?, default_images(state, path)?);
    let replaced = before_restore(state, path)?;
    let (gone, journal) = (images.with_extension("destroyed"), journal(state, path)?);
    let no_journal = journal.with_extension("journal-destroyed");
    let if_there = |end: io::Result<()>| match end {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        end => end,
    };
    let forget = || {
        // What one left that died.
        file::remove_all(&gone)?;
        file::remove_all(&no_journal)?;
        file::unlink(&unfinished(&at))?;
        if_there(file::rename(&journal, &no_journal))?;
        if_there(file::rename(&images, &gone))?;
        file::unlink(&at)?;
        if_there(file::sync_directory(state))?;
        file::remove_all(&replaced)?;
        file::remove_all(&no_journal)?;
        file::remove_all(&gone)
    };
    forget().map_err(|source| failed("removing", &at, source))
}
