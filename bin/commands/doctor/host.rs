//! The kernel, and what it allows this process.

use super::Finding;
use crate::units::show_size;
use std::path::{Path, PathBuf};

/// The first kernel with everything that membus asks for.
const OLDEST_KERNEL: (u32, u32) = (5, 10);
/// Files that a handle opens, and as many watches as a process may well have.
const FILES: u64 = 64;

/// Where the files of the system are read: below `/`, or elsewhere in tests.
#[derive(Debug)]
pub(super) struct Host {
    root: PathBuf,
}

impl Host {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
    /// A file that may well be missing.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.at(path)).ok()
    }

    pub(super) fn kernel(&self) -> Finding {
        let about = "kernel";
        let release = self.read("/proc/sys/kernel/osrelease").unwrap_or_default();
        let release = release.trim();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            return Finding::note(about, "its version is not told", "mount /proc");
        };
        if (major, minor) >= OLDEST_KERNEL {
            return Finding::good(about, format!("Linux {release}"));
        }
        let (major, minor) = OLDEST_KERNEL;
        let what = format!("Linux {release} is older than {major}.{minor}");
        Finding::danger(about, what, "membus is not tested there: use a newer kernel")
    }

    /// The limits of this process, which those that it starts inherit, when a bus may grow to `largest`
    /// bytes.
    pub(super) fn limits(&self, largest: u64) -> Vec<Finding> {
        let about = "limits";
        let text = self.read("/proc/self/limits").unwrap_or_default();
        let soft = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let mut found = Vec::new();
        if let Some(files) = soft("Max open files").filter(|files| *files < FILES) {
            let what = format!("{files} open files at most: attaching and watching may fail");
            found.push(Finding::danger(about, what, format!("ulimit -n {FILES}, or more")));
        }
        if let Some(size) = soft("Max file size").filter(|size| *size < largest) {
            let (size, largest) = (show_size(size), show_size(largest));
            let what = format!(
                "files of {size} at most, but a bus may grow to {largest}: writes that need more are refused as Full"
            );
            found.push(Finding::danger(about, what, "ulimit -f unlimited"));
        }
        if let Some(space) = soft("Max address space").filter(|space| *space < largest) {
            let (space, largest) = (show_size(space), show_size(largest));
            let what = format!(
                "address space of {space} at most, but a bus of {largest} is mapped as a whole: attaching fails"
            );
            found.push(Finding::danger(about, what, "ulimit -v unlimited"));
        }
        if found.is_empty() {
            let files = soft("Max open files").map_or("any".to_owned(), |files| files.to_string());
            found.push(Finding::good(about, format!("{files} open files, files of any size")));
        }
        found
    }

    /// Deadlines are kept in `CLOCK_BOOTTIME`, which a time namespace shifts.
    pub(super) fn time(&self) -> Finding {
        let about = "clock";
        let offsets = self.read("/proc/self/timens_offsets").unwrap_or_default();
        let boot = offsets.lines().find_map(|line| line.strip_prefix("boottime"));
        let shift = boot.and_then(|rest| rest.split_whitespace().next()?.parse::<i64>().ok());
        match shift {
            None | Some(0) => Finding::good(about, "boot time is the host's"),
            Some(shift) => Finding::danger(
                about,
                format!(
                    "this time namespace shifts boot time by {shift} s: times to live are off by that for members outside"
                ),
                "keep all members of a bus in one time namespace",
            ),
        }
    }
}

#[cfg(test)]
impl Host {
    /// Writes a file of this system, which stands elsewhere.
    pub(super) fn plant(&self, path: &str, text: &str) {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    /// Promise: kernels that are too old, limits that are too low and shifted clocks are found.
    /// Plant: versions compared as text call 5.4 newer than 5.10.
    #[test]
    fn what_the_kernel_says() {
        let place = tempfile::tempdir().unwrap();
        let host = Host::new(place.path());
        let write = |path: &str, text: &str| host.plant(path, text);
        assert_eq!(host.kernel().state, State::Note);
        for (release, state) in [
            ("5.10.0-32-amd64\n", State::Good),
            ("6.1\n", State::Good),
            ("5.4.0\n", State::Danger),
            ("4.19.0\n", State::Danger),
        ] {
            write("/proc/sys/kernel/osrelease", release);
            assert_eq!(host.kernel().state, state, "{release}");
        }
        let limits =
            "Limit Soft Hard Units\nMax file size  unlimited unlimited bytes\nMax open files  ";
        write("/proc/self/limits", &format!("{limits}1024 4096 files\n"));
        assert_eq!(host.limits(0)[0].state, State::Good);
        write("/proc/self/limits", &format!("{limits}20 4096 files\n"));
        assert!(host.limits(0)[0].what.starts_with("20 open files"));
        assert_eq!(host.time().state, State::Good);
        write("/proc/self/timens_offsets", "monotonic 5 0\nboottime -86400 0\n");
        assert!(host.time().what.contains("-86400 s"));
    }
}
