//! The files of a new bus, up to the moment when it is there.

use super::files::{FileExtent, io};
use super::grow::{Ungrown, extend};
use super::options::Options;
use crate::config::Persist;
use crate::error::OpenError;
use crate::heap::Space;
use crate::journal::JournalSync;
use crate::region::geometry::{
    FEATURE_JOURNAL, FEATURE_OLD_VALUES, FEATURE_SAVED, FEATURE_SYNCED, Geometry, Shape, align,
};
use crate::region::layout::HEADER_SIZE;
use crate::region::{Memory, Region};
use crate::sys::map::Mapping;
use crate::sys::{clock, file, process};
use crate::types::limits;
use nix::fcntl::OFlag;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The log's size for one that was asked for: the next power of two.
pub(crate) fn log_size(asked: u64) -> u64 {
    asked.clamp(4096, 1 << 36).next_power_of_two()
}

/// The shape of a new bus.
pub(crate) fn shape(options: &Options) -> io::Result<Shape> {
    let max = options.max_capacity.unwrap_or(limits::DEFAULT_MAX_CAPACITY);
    let capacity = options.capacity.unwrap_or(limits::DEFAULT_CAPACITY).min(max);
    let stripes = (max >> 24).next_power_of_two().clamp(4, 64);
    let least = (2 << 20).min(max / 8);
    let log_size = log_size(options.log_size.unwrap_or((capacity / 8).max(least)));
    let block_shift = Geometry::shift_for(max);
    let wide = || {
        Ok::<_, io::Error>(u128::from(process::random()?) << 64 | u128::from(process::random()?))
    };
    let mut features = 0;
    if options.old_values == Some(true) {
        features |= FEATURE_OLD_VALUES;
    }
    match options.journal {
        Some(Some(JournalSync::Always)) => features |= FEATURE_JOURNAL | FEATURE_SYNCED,
        Some(Some(_)) => features |= FEATURE_JOURNAL,
        Some(None) | None => {}
    }
    if options.persist.as_ref().is_some_and(|persist| *persist != Persist::None) {
        features |= FEATURE_SAVED;
    }
    let mut shape = Shape {
        bus_id: wide()?,
        boot_id: clock::boot_id()?,
        incarnation: process::random()? | 1,
        seed: process::random()?,
        capacity,
        max_capacity: max >> block_shift << block_shift,
        block_shift,
        stripes,
        members_max: options.slots.0,
        watches_max: options.slots.1,
        log_size,
        created: clock::wall_ns(),
        mode: u64::from(options.mode.unwrap_or(0o600)),
        first_revision: 0,
        features,
    };
    // Every stripe has an array, and room for something beside it.
    let least = Geometry::new(shape.clone()).heap() + (2 * stripes + 4) * shape.block_size();
    shape.capacity = align(capacity.max(least), shape.block_size());
    Ok(shape)
}

/// Makes the files of a new bus, its region still under the name `region.new`.
pub(crate) fn prepare(shape: Shape, path: &Path) -> Result<NewRegion, OpenError> {
    let geometry = &Geometry::new(shape);
    if geometry.capacity > geometry.max_capacity {
        return Err(OpenError::Setting {
            setting: "max_capacity",
            asked: geometry.max_capacity.to_string(),
            rule: format!("at least {} bytes with this log", geometry.capacity),
        });
    }
    let mode = geometry.mode as u32;
    let bells = path.join("bell");
    file::make_directory(&bells, mode | mode >> 2 & 0o111).map_err(io("making", &bells))?;
    for name in file::names(&bells).map_err(io("reading", &bells))? {
        file::unlink(&bells.join(name)).map_err(io("removing a stale bell of", &bells))?;
    }
    let new = NewRegion::make(geometry, path, mode)?;
    new.format(geometry)
}

/// A region that is not yet under its name; dropped before that, it is gone.
#[derive(Debug)]
pub(crate) struct NewRegion {
    directory: PathBuf,
    file: File,
    pub(crate) space: Option<Space>,
    published: bool,
}

impl NewRegion {
    fn make(geometry: &Geometry, directory: &Path, mode: u32) -> Result<Self, OpenError> {
        let (new, members) = (directory.join("region.new"), directory.join("members"));
        for stale in [&new, &members] {
            file::unlink(stale).map_err(io("removing", stale))?;
        }
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        let ids = file::open_file(&members, flags, mode).map_err(io("creating", &members))?;
        file::set_mode(&ids, mode).map_err(io("setting the mode of", &members))?;
        let id = geometry.bus_id.to_le_bytes();
        file::write_all(&ids, &id).map_err(io("writing", &members))?;
        let file = file::open_file(&new, flags, mode).map_err(io("creating", &new))?;
        let this = Self { directory: directory.to_owned(), file, space: None, published: false };
        file::set_mode(&this.file, mode).map_err(io("setting the mode of", &new))?;
        this.reserve(0, geometry.capacity)?;
        Ok(this)
    }

    fn path(&self) -> PathBuf {
        self.directory.join("region.new")
    }

    fn reserve(&self, from: u64, len: u64) -> Result<(), OpenError> {
        let path = self.path();
        file::reserve(&self.file, from, len).map_err(|source| OpenError::NoSpace {
            path,
            asked: from + len,
            source,
        })
    }

    fn format(mut self, geometry: &Geometry) -> Result<Self, OpenError> {
        let new = self.path();
        let map = Mapping::new(&self.file, geometry.max_capacity, true);
        let map = map.map_err(io("mapping", &new))?;
        let extent = self.file.try_clone().map(FileExtent).map_err(io("opening", &new))?;
        let region = Region::new(Memory::map(map, true, Box::new(extent)));
        let bad = |source| OpenError::Bad { path: new.clone(), source };
        geometry.format(&region, geometry.capacity).map_err(bad)?;
        let space = Space::new(region, geometry.clone());
        space.format_stripes().map_err(|error| match error {
            crate::heap::HeapError::Bad(source) => bad(source),
            crate::heap::HeapError::NoRoom(_) => OpenError::NoSpace {
                path: new.clone(),
                asked: geometry.capacity,
                source: io::ErrorKind::StorageFull.into(),
            },
        })?;
        self.space = Some(space);
        Ok(self)
    }

    /// Makes the file longer, so that a run of so many blocks fits.
    pub(crate) fn grow(&self, space: &Space, blocks: u64) -> Result<(), OpenError> {
        let path = self.path();
        let bad = |source| OpenError::Bad { path: path.clone(), source };
        let (asked, source) = match extend(space, &self.file, blocks).map_err(bad)? {
            Ok(()) => return Ok(()),
            Err(Ungrown::Refused { asked, source }) => (asked, source),
            Err(Ungrown::Max { size, needed, .. }) => {
                (size + needed, io::ErrorKind::StorageFull.into())
            }
        };
        Err(OpenError::NoSpace { path, asked, source })
    }

    /// Gives the region its name: from here on the bus is there.
    pub(crate) fn publish(mut self) -> Result<(), OpenError> {
        let new = self.path();
        if let Some(space) = &self.space {
            // On a real disk the name may outlive a power cut that the bytes do not: by its header a region of another boot is
            // known for one, and set aside.
            file::sync_mapped(&self.file, || space.region.sync(HEADER_SIZE))
                .map_err(io("writing the header of", &new))?;
        }
        file::rename(&new, &self.directory.join("region")).map_err(io("renaming", &new))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for NewRegion {
    fn drop(&mut self) {
        if !self.published {
            // What stays is removed by the next creator.
            let _new = file::unlink(&self.path());
            let _members = file::unlink(&self.directory.join("members"));
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::testing::Place;
    use crate::sys::seam::{Deed, recorded};

    /// Promise: whatever a power cut leaves of a region on a real disk, it is known for one.
    /// Plant: the region gets its name before its header is on the disk.
    #[test]
    fn a_region_has_its_name_when_its_header_is_on_the_disk() {
        let place = Place::new();
        let (deeds, bus) = recorded(|| place.make());
        let region = place.bus().join("region");
        let inode = crate::sys::file::stat_path(&region).unwrap().inode;
        let at = |wanted: &dyn Fn(&Deed) -> bool| deeds.iter().position(wanted).unwrap();
        let named = at(&|deed| matches!(deed, Deed::Rename { to, .. } if *to == region));
        let synced = at(&|deed| *deed == Deed::Sync { inode });
        assert!(synced < named, "{deeds:?}");
        drop(bus);
    }
}
