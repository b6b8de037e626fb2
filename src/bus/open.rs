//! Creating and attaching.
//!
//! A creator that dies leaves a `region.new` that the next one replaces; its lock is gone with it.

use super::counters::Counting;
use super::create::{log_size, shape};
use super::destroy;
use super::files::{
    CREATE_PATIENCE, absent_or, check_foreign, exists, incomplete_or, io, lock_directory, map,
};
use super::keeper::KeeperThread;
use super::options::Options;
use super::persist::{self, Saving};
use super::reader::BusReader;
use super::seat::Seats;
use super::{Bus, Inner};
use crate::config;
use crate::error::OpenError;
use crate::region::geometry::Geometry;
use crate::region::layout::header;
use crate::sync::Ordering::Relaxed;
use crate::sys::directory::Directory;
use crate::sys::file;
use crate::sys::socket::Ringer;
use crate::table::{Core, Nobody};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What may be done when there is a bus, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intent {
    Open,
    Create,
    Attach,
}

/// By which a bus is found, opened, made or removed.
impl Options {
    /// Removes a bus with its files. Handles that are still open say that it is gone.
    ///
    /// # Errors
    /// [`OpenError::InUse`] while members live, unless `force`.
    pub fn destroy(&self, name: &str, force: bool) -> Result<(), OpenError> {
        destroy::destroy(&self.state_directory(), &absolute(&self.path(name)?)?, force)
    }
    /// Like [`destroy`](Self::destroy), by path.
    ///
    /// # Errors
    /// As there.
    pub fn destroy_at(&self, path: impl AsRef<Path>, force: bool) -> Result<(), OpenError> {
        destroy::destroy(&self.state_directory(), &absolute(path.as_ref())?, force)
    }

    /// Whether something is kept of a bus: settings, by which it is built anew where it is lost.
    ///
    /// # Errors
    /// [`OpenError::Io`] when what is kept can't be read.
    pub fn is_kept_at(&self, path: impl AsRef<Path>) -> Result<bool, OpenError> {
        let kept = config::load(&self.state_directory(), &absolute(path.as_ref())?)?;
        Ok(kept.is_some())
    }

    /// Where the bus with this name is: in the [`directory`](Self::directory) of all buses, else in
    /// `$MEMBUS_DIR`, else in `/dev/shm/membus-UID`. It need not be there.
    ///
    /// # Errors
    /// [`OpenError::Name`] for a name against the rules.
    pub fn path(&self, name: &str) -> Result<PathBuf, OpenError> {
        crate::name::check(name)?;
        Ok(crate::name::directory(self.directory.as_deref()).join(name))
    }

    /// Attaches, or creates what is not there.
    ///
    /// # Errors
    /// [`OpenError`] says what is in the way; nothing was changed then.
    pub fn open(&self, name: &str) -> Result<Bus, OpenError> {
        open(self, &self.path(name)?, Intent::Open)
    }
    /// Attaches; never creates.
    ///
    /// # Errors
    /// [`OpenError::Absent`] when there is no such bus.
    pub fn attach(&self, name: &str) -> Result<Bus, OpenError> {
        open(self, &self.path(name)?, Intent::Attach)
    }
    /// Creates; never attaches to what is there.
    ///
    /// # Errors
    /// [`OpenError::Exists`] when there is one.
    pub fn create(&self, name: &str) -> Result<Bus, OpenError> {
        open(self, &self.path(name)?, Intent::Create)
    }
    /// Like [`open`](Self::open), by path.
    ///
    /// # Errors
    /// As there.
    pub fn open_at(&self, path: impl AsRef<Path>) -> Result<Bus, OpenError> {
        open(self, path.as_ref(), Intent::Open)
    }
    /// Like [`attach`](Self::attach), by path.
    ///
    /// # Errors
    /// As there.
    pub fn attach_at(&self, path: impl AsRef<Path>) -> Result<Bus, OpenError> {
        open(self, path.as_ref(), Intent::Attach)
    }
    /// Like [`create`](Self::create), by path.
    ///
    /// # Errors
    /// As there.
    pub fn create_at(&self, path: impl AsRef<Path>) -> Result<Bus, OpenError> {
        open(self, path.as_ref(), Intent::Create)
    }

    /// Opens a bus for reading alone, by name; never creates.
    ///
    /// # Errors
    /// [`OpenError::Absent`] when there is none, and each check of the files has its own.
    pub fn reader(&self, name: &str) -> Result<BusReader, OpenError> {
        self.reader_at(self.path(name)?)
    }
    /// Like [`reader`](Self::reader), by path.
    ///
    /// # Errors
    /// As there.
    pub fn reader_at(&self, path: impl AsRef<Path>) -> Result<BusReader, OpenError> {
        Ok(BusReader { inner: Arc::new(read_only(self, path.as_ref())?) })
    }
}

/// What it is called wherever the process goes.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, OpenError> {
    std::path::absolute(path).map_err(io("resolving the path", path))
}

/// Opens a bus as `intent` allows.
fn open(options: &Options, path: &Path, intent: Intent) -> Result<Bus, OpenError> {
    options.check()?;
    let path = &absolute(path)?;
    if intent == Intent::Create {
        create(options, path, intent)?;
    }
    let (begun, mut is_again) = (Instant::now(), false);
    loop {
        let lost = match attach(options, path) {
            Err(error @ (OpenError::Absent { .. } | OpenError::OtherBoot { .. })) => error,
            end => return end,
        };
        // One that was just made may have been destroyed since.
        if intent == Intent::Attach || begun.elapsed() > CREATE_PATIENCE {
            return Err(lost);
        }
        // There is a region, and what belongs to it is not there yet, or not any more.
        if std::mem::replace(&mut is_again, true) {
            std::thread::sleep(Duration::from_millis(1));
        }
        create(options, path, intent)?;
    }
}

/// Creates a bus, unless somebody was faster.
fn create(options: &Options, path: &Path, intent: Intent) -> Result<(), OpenError> {
    check_foreign(path)?;
    let was_there = file::stat_path(path).is_ok();
    let _lock = lock_directory(path, options.mode.unwrap_or(0o600), CREATE_PATIENCE)?;
    if !make_way(options, path)? {
        return match intent {
            Intent::Create => Err(OpenError::Exists { path: path.to_owned() }),
            _ => Ok(()),
        };
    }
    let end = persist::create(options, path);
    if end.is_err() && !was_there {
        destroy::tidy(path);
    }
    end
}

/// Makes way for a new region: one of an earlier boot may be torn and is set aside, what a dead
/// destroyer left is removed. `false`: there is one. The directory's lock is held.
fn make_way(options: &Options, path: &Path) -> Result<bool, OpenError> {
    if !exists(path)? {
        return Ok(true);
    }
    match map(path, false) {
        Err(OpenError::OtherBoot { path: region, .. }) => {
            let aside = path.join("region.torn");
            file::rename(&region, &aside).map_err(io("setting aside", &region))?;
            Ok(true)
        }
        Err(OpenError::Absent { .. }) => {
            destroy::finish(&options.state_directory(), path)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn differs(options: &Options, path: &Path, geometry: &Geometry) -> Result<(), OpenError> {
    let max = options.max_capacity.map(|max| max >> geometry.block_shift << geometry.block_shift);
    // What a bus with this capacity, and all else as it is, would begin with.
    let capacity = match options.capacity {
        None => None,
        Some(_) => {
            let (max_capacity, log_size) = (geometry.max_capacity, geometry.log_size);
            let like = options.clone().max_capacity(max_capacity).log_size(log_size);
            Some(shape(&like).map_err(io("preparing", path))?.capacity)
        }
    };
    let asked = [
        ("capacity", capacity, geometry.capacity),
        ("max_capacity", max, geometry.max_capacity),
        ("log_size", options.log_size.map(log_size), geometry.log_size),
        ("old_values", options.old_values.map(u64::from), geometry.tells_old_values().into()),
    ];
    if let Some(asked) = options.mode.filter(|mode| u64::from(*mode) != geometry.mode) {
        let (asked, found) = (format!("{asked:o}"), format!("{:o}", geometry.mode));
        return Err(OpenError::Differs { setting: "mode", asked, found });
    }
    for (setting, asked, found) in asked {
        if let Some(asked) = asked.filter(|asked| *asked != found) {
            let (asked, found) = (asked.to_string(), found.to_string());
            return Err(OpenError::Differs { setting, asked, found });
        }
    }
    Ok(())
}

/// Attaches to what is there.
pub(crate) fn attach(options: &Options, path: &Path) -> Result<Bus, OpenError> {
    let (space, region, stat) = map(path, true)?;
    differs(options, path, &space.geometry)?;
    let saving = Saving::of(options, path)?.proved(&space);
    let directory = Directory::open(path).map_err(absent_or("opening", path, path))?;
    let bells = Directory::open(&path.join("bell"));
    let bells = bells.map_err(incomplete_or("bell", &directory, path))?;
    let seats = Seats::take(&directory, path, &space)?;
    // Whoever unlinks the files does not wait for us: nobody joins a bus that is gone.
    let now = directory.stat("region");
    let now = now.map_err(absent_or("looking at", &path.join("region"), path))?;
    let bad = |source| OpenError::Bad { path: path.join("region"), source };
    if !now.is_same(&stat) || space.region.load(header::DESTROYED, Relaxed).map_err(bad)? != 0 {
        return Err(OpenError::Absent { path: path.to_owned() });
    }
    let may_keep = options.keeper && saving.can_keep(&space.geometry);
    let liveness = Box::new(Arc::clone(&seats));
    let inner = Inner {
        core: Core::new(space, liveness, options.deadline),
        path: path.to_owned(),
        name: name_of(path),
        label: options.label.clone().unwrap_or_default(),
        may_keep,
        region,
        directory,
        bells: Some(bells),
        ringer: Ringer::new().map_err(io("making a socket for", path))?,
        seats: Some(Arc::clone(&seats)),
        counting: Counting::of_member(options.metrics),
        saving,
    };
    inner.sit_down(seats.first(), inner.may_keep)?;
    if !inner.may_keep {
        // Nobody needs it to succeed.
        let _end = inner.tend_unkept();
    }
    let inner = Arc::new(inner);
    let keeper = if inner.may_keep { Some(KeeperThread::start(&inner)?) } else { None };
    Ok(Bus { keeper: Arc::new(keeper), inner })
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Opens what is there for reading alone.
pub(crate) fn read_only(options: &Options, path: &Path) -> Result<Inner, OpenError> {
    let path = &absolute(path)?;
    let (space, region, _) = map(path, false)?;
    Ok(Inner {
        core: Core::new(space, Box::new(Nobody), options.deadline),
        path: path.to_owned(),
        name: name_of(path),
        label: String::new(),
        may_keep: false,
        region,
        directory: Directory::open(path).map_err(io("opening", path))?,
        bells: None,
        ringer: Ringer::new().map_err(io("making a socket for", path))?,
        seats: None,
        counting: Counting::of_reader().map_err(io("drawing an id for", path))?,
        // Who may read the bus need not be able to read what its owner keeps of it.
        saving: Saving::of(options, path)
            .unwrap_or_else(|_| Saving { state: options.state_directory(), ..Saving::none() }),
    })
}
