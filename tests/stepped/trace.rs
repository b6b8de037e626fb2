//! A traced process: one instruction at a time, and what it has written.
#![expect(unsafe_code, reason = "the region is compared where it is mapped: a read takes longer")]

use memmap2::Mmap;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What others would find of a process that is killed: the region, and names of sockets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) region: Vec<u8>,
    pub(crate) bells: Vec<String>,
}

impl Look {
    pub(crate) fn hash(&self) -> u64 {
        self.bells.iter().fold(xxh3_64_with_seed(&self.region, 0), |hash, name| {
            xxh3_64_with_seed(name.as_bytes(), hash)
        })
    }
}

/// A process that stands before an operation, or within it. Killed when it is dropped.
pub(crate) struct Traced {
    child: Child,
    /// The one that does the operation; the test harness has another one.
    thread: Pid,
    /// Where it reads clocks: a loop that begins anew whenever the kernel has moved them on meanwhile, and
    /// under a slow stepper never ends. It stores nothing to the region.
    clocks: Range<u64>,
    bus: PathBuf,
    file: File,
    map: Mmap,
    last: Look,
}

/// Stays on one processor: the victim too, which inherits it. To hand over takes less time then.
fn stay_here() {
    let (here, mut one) = (Pid::from_raw(0), CpuSet::new());
    let allowed = sched_getaffinity(here).unwrap();
    let mine: Vec<_> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap()).collect();
    let place = std::process::id() as usize + std::thread::current().name().map_or(0, str::len);
    one.set(mine[place % mine.len()]).unwrap();
    // Where that is not permitted it takes longer.
    let _pinned = sched_setaffinity(here, &one);
}

/// Where the kernel's own code stands in a process.
fn clocks_of(thread: Pid) -> Range<u64> {
    let maps = std::fs::read_to_string(format!("/proc/{thread}/maps")).unwrap();
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap_or_default();
    let range = line.split(' ').next().unwrap().split_once('-').unwrap_or(("0", "0"));
    let number = |text| u64::from_str_radix(text, 16).unwrap();
    number(range.0)..number(range.1)
}

impl Traced {
    /// Starts a victim and waits until it stands before its operation; `Err` says why it can not be
    /// traced.
    pub(crate) fn start((mut command, bus): (Command, PathBuf)) -> Result<Self, String> {
        stay_here();
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        // The test harness may have begun the line.
        let said =
            said.filter_map(|line| line.split_once('@').map(|(_, said)| said.to_owned())).next();
        let thread = match said.as_ref().and_then(|said| said.split_once(": ")) {
            Some(("ready", thread)) => Pid::from_raw(thread.parse().unwrap()),
            Some((_, refused)) => {
                child.wait().unwrap();
                return Err(refused.to_owned());
            }
            None => panic!("the victim failed: {:?}", child.wait()),
        };
        let stopped = WaitStatus::Stopped(thread, Signal::SIGSTOP);
        assert_eq!(waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap(), stopped);
        ptrace::setoptions(thread, ptrace::Options::PTRACE_O_EXITKILL).unwrap();
        let file = File::open(bus.join("region")).unwrap();
        // SAFETY: a test's own file, which is never made shorter; its writer is stopped whenever it is
        // read.
        let map = unsafe { memmap2::MmapOptions::new().len(crate::stage::MAX).map(&file) }.unwrap();
        let clocks = clocks_of(thread);
        let mut this = Self { child, thread, clocks, bus, file, map, last: Look::default() };
        this.update();
        Ok(this)
    }

    /// Whether anything changed since the last time.
    fn update(&mut self) -> bool {
        let size = self.file.metadata().unwrap().len() as usize;
        let (region, bells) = (&self.map[..size], names(&self.bus.join("bell")));
        if region == self.last.region && bells == self.last.bells {
            return false;
        }
        self.last = Look { region: region.to_vec(), bells };
        true
    }

    /// What others would find now.
    pub(crate) fn look(&self) -> Look {
        self.last.clone()
    }

    /// Steps until the operation is done, or `each` says that it is enough. Gives the number of
    /// steps; `each` gets the states, the first one too.
    pub(crate) fn step_to_the_end(&mut self, mut each: impl FnMut(u64, Look) -> bool) -> u64 {
        let (mut steps, mut goes_on) = (0, each(0, self.look()));
        while goes_on {
            ptrace::step(self.thread, None).unwrap();
            match waitpid(self.thread, Some(WaitPidFlag::__WALL)).unwrap() {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
                WaitStatus::Stopped(_, Signal::SIGSTOP) => break,
                status => panic!("after {steps} steps: {status:?}"),
            }
            steps += 1;
            let reads_clocks = self.clocks.contains(&ptrace::getregs(self.thread).unwrap().rip);
            if !reads_clocks && self.update() {
                goes_on = each(steps, self.look());
            }
        }
        steps
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        // A traced thread is waited for by itself.
        let _thread = waitpid(self.thread, Some(WaitPidFlag::__WALL));
        let _waited = self.child.wait();
    }
}

/// Names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}
