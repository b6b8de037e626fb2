//! Where the buses lie, and whose memory that is.

use super::buses::Seen;
use super::host::Host;
use super::{Finding, State};
use crate::error::Failure;
use crate::units::show_size;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::path::{Path, PathBuf};

/// What `/dev/shm` has in a container when nobody said more.
const CONTAINER_SIZE: u64 = 64 << 20;

/// What the largest bus may grow to.
pub(super) fn largest(buses: &[Seen]) -> u64 {
    let known = buses.iter().filter_map(|bus| bus.info.as_ref().ok());
    known.map(|info| info.max_capacity).max().unwrap_or(0)
}

/// What all buses together may still grow by.
fn may_grow(buses: &[Seen]) -> u64 {
    let known = buses.iter().filter_map(|bus| bus.info.as_ref().ok());
    known.map(|info| info.max_capacity.saturating_sub(info.capacity)).sum()
}

/// The file system of the directory of all buses, or of where that would be made.
pub(super) fn file_system(directory: &Path, buses: &[Seen]) -> Result<Vec<Finding>, Failure> {
    let about = "file system";
    let is_there = |path: &&Path| path.exists();
    let place = directory.ancestors().find(is_there).unwrap_or(Path::new("/"));
    let fail = |error: nix::Error| Failure::io("looking at", place)(error.into());
    let (kind, room) = (statfs(place).map_err(fail)?, statvfs(place).map_err(fail)?);
    let size = room.blocks() * room.fragment_size();
    let free = room.blocks_available() * room.fragment_size();
    let shown = format!("{}: {}, {} free", place.display(), show_size(size), show_size(free));
    let mut found = Vec::new();
    if room.flags().contains(FsFlags::ST_RDONLY) {
        found.push(Finding::danger(about, format!("{shown}, read-only"), "mount it writable"));
    }
    if kind.filesystem_type() != TMPFS_MAGIC {
        let what = format!("{shown}, not a tmpfs: pages of the region are written to its disk");
        found.push(Finding::note(about, what, "give --dir or MEMBUS_DIR a directory on a tmpfs"));
    }
    if room.files() > 0 && room.files_available() < 16 {
        let what = format!("{shown}, but {} more files only", room.files_available());
        found.push(Finding::danger(
            about,
            what,
            "remove files, or remount with a larger nr_inodes",
        ));
    }
    let grow = may_grow(buses);
    if free < size / 20 {
        let what = format!("{shown}: it is nearly full, and writes that need more room fail");
        found.push(Finding::danger(about, what, room_advice(place)));
    } else if grow > free {
        let what = format!("{shown}; the buses may grow by {}", show_size(grow));
        found.push(Finding::note(about, what, room_advice(place)));
    } else if size <= CONTAINER_SIZE {
        let what = format!("{shown}; that is what a container gets when nobody says more");
        found.push(Finding::note(about, what, room_advice(place)));
    }
    if found.is_empty() {
        found.push(Finding::good(about, shown));
    }
    Ok(found)
}

fn room_advice(place: &Path) -> String {
    format!(
        "mount -o remount,size=SIZE {} (a container: --shm-size, or an emptyDir with medium Memory)",
        place.display()
    )
}

/// A limit of memory, and what of it is used.
#[derive(Debug)]
struct Group {
    path: PathBuf,
    limit: u64,
    used: u64,
}

/// The memory control group: pages of a tmpfs count where they were first touched.
pub(super) fn control_group(host: &Host, buses: &[Seen]) -> Finding {
    let about = "memory limit";
    let least = groups(host).into_iter().min_by_key(|group| group.limit.saturating_sub(group.used));
    let Some(Group { path, limit, used }) = least else {
        return Finding::good(about, "no control group limits memory");
    };
    let what = format!(
        "{}: {} of at most {} are used, pages of buses included",
        path.display(),
        show_size(used),
        show_size(limit)
    );
    let left = limit.saturating_sub(used);
    let advice = "raise the limit: at its end the kernel kills members (no state is lost by that)";
    if left < limit / 10 {
        return Finding::danger(about, what, advice);
    }
    if may_grow(buses) > left {
        let what = format!("{what}; the buses may grow by {}", show_size(may_grow(buses)));
        return Finding::note(about, what, advice);
    }
    Finding { state: State::Good, ..Finding::good(about, what) }
}

/// The groups of this process that have a limit, from its own one up.
fn groups(host: &Host) -> Vec<Group> {
    let text = host.read("/proc/self/cgroup").unwrap_or_default();
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (base, limit, used) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max", "memory.current")
        } else if controllers.split(',').any(|name| name == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
        } else {
            continue;
        };
        // In a container the path may be one of outside; its own group is at the top then.
        for path in Path::new(path).ancestors() {
            let path = format!("{base}{}", path.display());
            let path = path.trim_end_matches('/');
            let number =
                |name| -> Option<u64> { host.read(&format!("{path}/{name}"))?.trim().parse().ok() };
            // Version 1 says "no limit" by a number beyond any memory.
            let limit = number(limit).filter(|limit| *limit < 1 << 60);
            if let (Some(limit), Some(used)) = (limit, number(used)) {
                found.push(Group { path: path.into(), limit, used });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: the tightest limit counts, of this group or of one above, in both versions.
    /// Plant: a look at the own group alone finds no limit in the first case.
    #[test]
    fn limits_of_control_groups() {
        let place = tempfile::tempdir().unwrap();
        let host = Host::new(place.path());
        let write = |path: &str, text: &str| host.plant(path, text);
        assert_eq!(control_group(&host, &[]).what, "no control group limits memory");
        write("/proc/self/cgroup", "0::/app/worker\n");
        write("/sys/fs/cgroup/app/worker/memory.max", "max\n");
        write("/sys/fs/cgroup/app/worker/memory.current", "1000\n");
        write("/sys/fs/cgroup/app/memory.max", "1073741824\n");
        write("/sys/fs/cgroup/app/memory.current", "1048576\n");
        let found = control_group(&host, &[]);
        assert_eq!(found.state, State::Good, "{found:?}");
        assert!(found.what.contains("/cgroup/app: 1.0 MiB of at most 1.0 GiB"), "{found:?}");
        write("/sys/fs/cgroup/app/memory.current", "1020000000\n");
        assert_eq!(control_group(&host, &[]).state, State::Danger);
        write("/proc/self/cgroup", "4:cpu,memory:/a\n3:cpu:/\n");
        write("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
        write("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1\n");
        assert_eq!(control_group(&host, &[]).what, "no control group limits memory");
        write("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1048576\n");
        assert_eq!(control_group(&host, &[]).state, State::Good);
    }
}
