//! The face of a bus in single calls, for whom a path or a name is all there is to say.
//!
//! Thin: each is one call of what has all the choices (`Options`, `Backend`, `restore`).

use super::Bus;
use super::persist::SnapshotInfo;
use super::restore::RestoreInfo;
use crate::backend::Backend;
use crate::config::{Persist, PersistError};
use crate::error::{OpenError, SnapshotError};
use crate::sys::clock;
use std::path::Path;
use std::sync::Arc;

fn setting(error: &PersistError) -> SnapshotError {
    SnapshotError::Setting(error.to_string())
}

fn backend_at(persist: &Persist) -> Result<Arc<dyn Backend>, SnapshotError> {
    let backend = persist.backend(1).map_err(|error| setting(&error))?;
    backend.ok_or(SnapshotError::NoBackend)
}

impl Bus {
    /// Opens or creates the bus with this name, whose snapshots are a JSON document: `file`, compressed when its name
    /// ends with `.gz`. All else is as [`open`](Self::open) has it: the keeper saves each 300 s what changed,
    /// [`close`](Self::close) what is left.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::Differs`] when the bus has another backend.
    #[cfg(feature = "json")]
    pub fn open_json(name: &str, file: impl Into<std::path::PathBuf>) -> Result<Self, OpenError> {
        Self::options().persist(Persist::Json(file.into())).open(name)
    }

    /// Opens or creates the bus with this name, whose snapshots are the table `membus` of a SQLite database. As
    /// [`open_json`](Self::open_json) else.
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "sqlite")]
    pub fn open_sqlite(name: &str, file: impl Into<std::path::PathBuf>) -> Result<Self, OpenError> {
        Self::options().persist(Persist::sqlite(file)).open(name)
    }

    /// Opens or creates the bus with this name, of which there are no snapshots: it lives in memory, as long as its files
    /// do, and goes with the host.
    ///
    /// # Errors
    /// As [`open_json`](Self::open_json).
    pub fn open_memory_only(name: &str) -> Result<Self, OpenError> {
        Self::options().persist(Persist::None).open(name)
    }

    /// [`snapshot`](Self::snapshot): saves now what there is to where the bus's snapshots go.
    ///
    /// # Errors
    /// As there.
    pub fn persist(&self) -> Result<SnapshotInfo, SnapshotError> {
        self.snapshot()
    }

    /// A [`backup`](Self::backup) with a name, or with the time (seconds since 1970) in place of one; of the same name the
    /// newest stays. It is a directory with an image in `NAME.backups` of the state directory, outlives
    /// [`destroy`](Self::destroy), and is removed by nobody. [`SnapshotInfo::path`] is what
    /// [`restore_path`](Self::restore_path) takes.
    ///
    /// # Errors
    /// [`SnapshotError::Setting`] for a name against the rules of [names](crate::limits); else as there.
    pub fn backup_named(&self, name: Option<&str>) -> Result<SnapshotInfo, SnapshotError> {
        let name = name.map_or_else(now, str::to_owned);
        crate::name::check(&name).map_err(|error| SnapshotError::Setting(error.to_string()))?;
        let directory = self.inner.saving.backups.join(name);
        let saved = self.backup(&*backend_at(&Persist::Image(directory.clone()))?)?;
        Ok(SnapshotInfo { path: Some(directory), ..saved })
    }

    /// A [`restore`](Self::restore) from a path, which says what it is as [`Persist::of_path`] has it; its name is the path.
    ///
    /// # Errors
    /// [`SnapshotError::Setting`] for a path of nothing that has snapshots; else as there.
    pub fn restore_path(&self, path: impl AsRef<Path>) -> Result<RestoreInfo, SnapshotError> {
        let path = path.as_ref();
        let persist = Persist::of_path(path).map_err(|error| setting(&error))?;
        self.restore(&*backend_at(&persist)?, &path.display().to_string())
    }
}

/// The time, to the millisecond.
fn now() -> String {
    let ms = clock::wall_ns() / 1_000_000;
    format!("{}.{:03}", ms / 1000, ms % 1000)
}
