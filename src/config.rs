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
use crate::sys::file::{self, Kind};
use crate::sys::process;
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
    base.unwrap_or_else(homeless).join("membus")
}

#[cfg(test)]
thread_local! {
    /// In the place of `/var/tmp`.
    static ANYBODYS: std::cell::RefCell<Option<PathBuf>> = const { std::cell::RefCell::new(None) };
}

/// Where the state directory is of who has no home.
fn homeless() -> PathBuf {
    #[cfg(test)]
    if let Some(at) = ANYBODYS.take() {
        ANYBODYS.set(Some(at.clone()));
        return at.join("membus");
    }
    PathBuf::from(format!("/var/tmp/membus-{}", process::uid()))
}

/// Refuses a directory that is not this user's alone, where anybody could have made it first.
pub(crate) fn check_own(directory: &Path) -> Result<(), OpenError> {
    let stat = file::stat_path(directory);
    let stat = stat.map_err(|source| failed("looking at", directory, source))?;
    let (path, found, expected) = (directory.to_owned(), stat.uid, process::uid());
    if stat.kind != Kind::Directory {
        let (found, expected) = (stat.kind.to_string(), "a directory");
        return Err(OpenError::WrongFile { path, found, expected });
    }
    if found != expected {
        return Err(OpenError::Owner { path, found, expected });
    }
    if stat.mode & 0o022 != 0 {
        return Err(OpenError::Mode { path, found: stat.mode, expected: 0o700 });
    }
    Ok(())
}

/// The same of what stands in a state directory that is where anybody may write, or would: if it is there.
pub(crate) fn check_state(below: &Path) -> Result<(), OpenError> {
    match check_there(below) {
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        end => end,
    }
}

/// The same, and it is there.
fn check_there(below: &Path) -> Result<(), OpenError> {
    let base = homeless();
    if below.starts_with(&base) { check_own(&base) } else { Ok(()) }
}

/// A path without links, as far as it is there.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    match (std::fs::canonicalize(path), path.parent(), path.file_name()) {
        (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
            Ok(resolved(parent)?.join(name))
        }
        (end, _, _) => end,
    }
}

/// The directory of all buses, as far as nobody else may put something there.
fn standard() -> io::Result<PathBuf> {
    let at = crate::name::standard();
    match (at.parent(), at.file_name()) {
        // A link that somebody has put in its place is no way to it.
        (Some(above), Some(name)) => Ok(resolved(above)?.join(name)),
        _ => Ok(at),
    }
}

/// What the files of a bus are called: its name, or a hash of its path, by whichever way it was come to.
pub(crate) fn stem(path: &Path) -> io::Result<String> {
    let path = resolved(&std::path::absolute(path)?)?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = if crate::name::check(name).is_ok() { name } else { "at" };
    if path.parent() == Some(&standard()?) {
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
    check_state(state)?;
    let at = place(state, path)?;
    let text = match file::read_text(&at) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|source| failed("reading", &at, source))?,
    };
    // It may have come between the look and the reading.
    check_there(state)?;
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
    let what = "making the state directory (XDG_STATE_HOME may name another one)";
    file::make_directories(state).map_err(|source| failed(what, state, source))?;
    // Somebody may have been faster.
    check_there(state)?;
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
    check_state(state)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: a bus has one state, by whichever way it is come to. Plants: the path as it was given; a link that is not
    /// followed because the bus is not there yet.
    #[test]
    fn a_bus_has_one_stem() {
        let place = tempfile::tempdir().unwrap();
        let real = place.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, place.path().join("link")).unwrap();
        let names = ["real/new/bus", "link/new/bus", "real/../link/new/bus", "./link//new/bus"];
        let stems = || names.map(|name| stem(&place.path().join(name)).unwrap());
        let before = stems();
        assert!(before.iter().all(|stem| *stem == before[0]), "{before:?}");
        std::fs::create_dir_all(real.join("new/bus")).unwrap();
        assert_eq!(stems(), before, "it has another one when it is there");
        assert_ne!(stem(&real.join("new/other")).unwrap(), before[0]);
    }

    /// Promise: what others may have put where anybody may write is not believed.
    /// Plants: a look at the kind alone, at the owner alone.
    #[test]
    fn what_is_not_ours_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let at = place.path().join("state");
        let mode = |mode| std::fs::set_permissions(&at, PermissionsExt::from_mode(mode)).unwrap();
        std::os::unix::fs::symlink(place.path(), &at).unwrap();
        assert!(matches!(check_own(&at), Err(OpenError::WrongFile { .. })));
        std::fs::remove_file(&at).unwrap();
        std::fs::create_dir(&at).unwrap();
        mode(0o755);
        check_own(&at).unwrap();
        mode(0o775);
        assert!(matches!(check_own(&at), Err(OpenError::Mode { .. })));
        mode(0o700);
        // As root alone.
        if std::os::unix::fs::chown(&at, Some(process::uid() + 1), None).is_ok() {
            assert!(matches!(check_own(&at), Err(OpenError::Owner { .. })));
        }
    }

    /// Promise: nor is what stands below it, wherever it is looked for.
    /// Plants: no look before the reading, after it, or before what is there is forgotten.
    #[test]
    fn what_stands_below_what_is_not_ours_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        ANYBODYS.set(Some(place.path().to_owned()));
        let (base, bus) = (place.path().join("membus"), place.path().join("bus"));
        let state = base.join("membus");
        assert!(load(&state, &bus).unwrap().is_none(), "there is nothing");
        forget(&state, &bus).unwrap();
        std::fs::create_dir_all(&state).unwrap();
        let file = super::place(&state, &bus).unwrap();
        std::fs::write(&file, "persist = 'json:/etc/passwd'").unwrap();
        std::fs::set_permissions(&base, PermissionsExt::from_mode(0o777)).unwrap();
        assert!(matches!(load(&state, &bus), Err(OpenError::Mode { .. })));
        assert!(matches!(forget(&state, &bus), Err(OpenError::Mode { .. })));
        assert!(file.exists());
        std::fs::set_permissions(&base, PermissionsExt::from_mode(0o700)).unwrap();
        assert!(matches!(load(&state, &bus), Err(OpenError::Io { .. })), "half of a file");
        forget(&state, &bus).unwrap();
        assert!(!file.exists());
    }
}
