//! What the figures were taken on, and the pinning of a thread to a core.

use std::fs;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::engines::Fail;

/// The machine's facts that move the figures.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    cache: String,
    kernel: String,
    huge_pages: String,
    memory_gib: u64,
}

impl Machine {
    /// This machine's.
    pub(crate) fn here() -> Result<Self, Fail> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':')).map(|(_, value)| value);
            value.unwrap_or("unknown").trim().to_owned()
        };
        let meminfo = read("/proc/meminfo");
        let total = meminfo.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        Ok(Self {
            cpu: format!("{} (model {})", field("model name"), field("model\t")),
            cores: cores()?.len(),
            cache: field("cache size"),
            kernel: read("/proc/sys/kernel/osrelease"),
            huge_pages: read("/sys/kernel/mm/transparent_hugepage/enabled"),
            memory_gib: total.unwrap_or_default() >> 20,
        })
    }

    /// One line of them.
    pub(crate) fn line(&self) -> String {
        format!(
            "{}, {} cores, cache {}, {} GiB, Linux {}, huge pages {}",
            self.cpu, self.cores, self.cache, self.memory_gib, self.kernel, self.huge_pages
        )
    }
}

/// The cores that this thread may run on.
pub(crate) fn cores() -> Result<Vec<usize>, Fail> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect())
}

/// Keeps this thread, and the threads and processes it makes from now on, on `cores`.
pub(crate) fn pin(cores: &[usize]) -> Result<(), Fail> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}
