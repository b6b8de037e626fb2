//! The disk: what it is, and how fast it takes bytes.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::engines::Fail;
use crate::workload::value;

/// Bytes of a write.
const CHUNK: usize = 1 << 20;

/// What file system a directory is on: its kind, where it is mounted, and from what.
pub(super) fn file_system(directory: &Path) -> Result<String, Fail> {
    let directory = directory.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let under = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (device, mount, kind) = (words.next()?, words.next()?, words.next()?);
        directory.starts_with(mount).then_some((mount.len(), device, mount, kind))
    });
    // Of two at one place the later one hides the other.
    let (_, device, mount, kind) = under.max_by_key(|found| found.0).ok_or("no file system")?;
    Ok(format!("{kind} at {mount} ({device})"))
}

/// How long the disk takes for so many bytes in a file of its own: made, written, synced.
pub(super) fn write(directory: &Path, bytes: u64) -> Result<Duration, Fail> {
    let (path, chunk) = (directory.join("raw"), value(CHUNK));
    let start = Instant::now();
    let mut file = File::create(&path)?;
    let mut left = usize::try_from(bytes)?;
    while left > 0 {
        let part = left.min(CHUNK);
        file.write_all(chunk.get(..part).unwrap_or_default())?;
        left -= part;
    }
    file.sync_all()?;
    let took = start.elapsed();
    fs::remove_file(path)?;
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plant: the shortest of the mounts that a directory is under, which is the root's.
    #[test]
    fn a_file_system_is_the_nearest_mount() {
        assert!(file_system(Path::new("/proc/self/fd")).unwrap().starts_with("proc at /proc ("));
    }

    /// Plant: the file stays.
    #[test]
    fn a_raw_write_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        write(place.path(), (CHUNK + 1) as u64).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
