//! A traced process: one instruction at a time, and what it has written.
//!
//! Where no file is mapped yet, or hundreds of thousands of instructions store nothing to it, each would be looked
//! at for nothing. There a process is *guarded*: it runs from system call to system call, and the mapping of what
//! is looked at is protected, so that the kernel stops it at each instruction that stores there; that one alone is
//! stepped.
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

/// What is looked at while a process is stepped.
pub(crate) trait Eye {
    /// What others would find if the process were killed now.
    type Look: Clone;
    /// Looks; whether anything changed since the last time. `called`: the kernel may have changed it.
    fn update(&mut self, called: bool) -> bool;
    /// What was seen last.
    fn look(&self) -> Self::Look;
    /// Whether the victim is stopped at what may change it alone: at system calls, and at each instruction
    /// that stores to a mapping of these files; else, after each instruction.
    const IS_GUARDED: bool;
    /// Where the victim has mapped them to store to them.
    fn mapped(&self) -> &[Range<u64>];
}

/// A region, and names of sockets.
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

/// Looks at the region of a bus that is there.
pub(crate) struct RegionEye {
    bus: PathBuf,
    file: File,
    map: Mmap,
    last: Look,
}

/// The region where it is mapped. It may get longer.
pub(crate) fn map_region(file: &File) -> Mmap {
    // SAFETY: a test's own file, which is never made shorter; its writer is stopped whenever it is
    // read.
    unsafe { memmap2::MmapOptions::new().len(crate::stage::MAX).map(file) }.unwrap()
}

impl RegionEye {
    pub(crate) fn new(bus: PathBuf) -> Self {
        let file = File::open(bus.join("region")).unwrap();
        let map = map_region(&file);
        let mut this = Self { bus, file, map, last: Look::default() };
        this.update(true);
        this
    }
}

impl Eye for RegionEye {
    type Look = Look;
    const IS_GUARDED: bool = false;

    fn update(&mut self, _called: bool) -> bool {
        let size = self.file.metadata().unwrap().len() as usize;
        let (region, bells) = (&self.map[..size], names(&self.bus.join("bell")));
        if region == self.last.region && bells == self.last.bells {
            return false;
        }
        self.last = Look { region: region.to_vec(), bells };
        true
    }
    fn look(&self) -> Look {
        self.last.clone()
    }
    fn mapped(&self) -> &[Range<u64>] {
        &[]
    }
}

/// A process that stands before an operation, or within it. Killed when it is dropped.
pub(crate) struct Traced<E: Eye> {
    child: Child,
    /// The one that does the operation; the test harness has another one.
    thread: Pid,
    /// Where it reads clocks: a loop that begins anew whenever the kernel has moved them on meanwhile, and
    /// under a slow stepper never ends. It stores nothing to the region.
    clocks: Range<u64>,
    eye: E,
    /// What is write-protected in the victim: a store there stops it.
    guarded: Vec<Range<u64>>,
    /// Where it has an instruction that calls the kernel.
    gate: u64,
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

impl<E: Eye> Traced<E> {
    /// Starts a victim and waits until it stands before its operation; `Err` says why it can not be
    /// traced. `eye` is opened then.
    pub(crate) fn start(mut command: Command, eye: impl FnOnce(Pid) -> E) -> Result<Self, String> {
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
        let options = ptrace::Options::PTRACE_O_EXITKILL | ptrace::Options::PTRACE_O_TRACESYSGOOD;
        ptrace::setoptions(thread, options).unwrap();
        let clocks = clocks_of(thread);
        Ok(Self { child, thread, clocks, eye: eye(thread), guarded: Vec::new(), gate: 0 })
    }

    /// What others would find now.
    pub(crate) fn look(&self) -> E::Look {
        self.eye.look()
    }

    /// Goes on by one instruction; gives how it was stopped.
    fn step(&self) -> WaitStatus {
        ptrace::step(self.thread, None).unwrap();
        waitpid(self.thread, Some(WaitPidFlag::__WALL)).unwrap()
    }

    /// Goes on to where something may have changed; whether it has. `None`: the operation is done.
    fn advance(&mut self) -> Option<bool> {
        if E::IS_GUARDED {
            return self.advance_guarded();
        }
        match self.step() {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            WaitStatus::Stopped(_, Signal::SIGSTOP) => return None,
            status => panic!("{status:?}"),
        }
        let reads_clocks = self.clocks.contains(&ptrace::getregs(self.thread).unwrap().rip);
        Some(!reads_clocks && self.eye.update(true))
    }

    /// To the next system call, its return, or over the next store to what is guarded.
    fn advance_guarded(&mut self) -> Option<bool> {
        ptrace::syscall(self.thread, None).unwrap();
        match waitpid(self.thread, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::PtraceSyscall(_) => {
                let changed = self.eye.update(true);
                self.guard();
                Some(changed)
            }
            WaitStatus::Stopped(_, Signal::SIGSEGV) => {
                self.protect(&self.guarded, libc::PROT_READ | libc::PROT_WRITE);
                assert_eq!(self.step(), WaitStatus::Stopped(self.thread, Signal::SIGTRAP));
                self.protect(&self.guarded, libc::PROT_READ);
                Some(self.eye.update(false))
            }
            WaitStatus::Stopped(_, Signal::SIGSTOP) => None,
            status => panic!("{status:?}"),
        }
    }

    /// Guards what was mapped by a system call that has returned.
    fn guard(&mut self) {
        let registers = ptrace::getregs(self.thread).unwrap();
        if registers.rax == (-libc::ENOSYS) as u64 {
            return;
        }
        self.gate = registers.rip - 2;
        let mapped = self.eye.mapped().to_vec();
        let new: Vec<_> = mapped.iter().filter(|at| !self.guarded.contains(at)).cloned().collect();
        self.protect(&new, libc::PROT_READ);
        self.guarded = mapped;
    }

    /// Lets the victim call the kernel, and stand as it stood.
    fn protect(&self, ranges: &[Range<u64>], access: i32) {
        for range in ranges {
            let stood = ptrace::getregs(self.thread).unwrap();
            let mut call = stood;
            (call.rip, call.rax, call.orig_rax) = (self.gate, libc::SYS_mprotect as u64, u64::MAX);
            (call.rdi, call.rsi) = (range.start, range.end - range.start);
            call.rdx = access as u64;
            ptrace::setregs(self.thread, call).unwrap();
            assert_eq!(self.step(), WaitStatus::Stopped(self.thread, Signal::SIGTRAP));
            assert_eq!(ptrace::getregs(self.thread).unwrap().rax, 0, "mprotect of {range:x?}");
            ptrace::setregs(self.thread, stood).unwrap();
        }
    }

    /// Steps until the operation is done, or `each` says that it is enough. Gives the number of
    /// steps; `each` gets the states, the first one too.
    pub(crate) fn step_to_the_end(&mut self, mut each: impl FnMut(u64, E::Look) -> bool) -> u64 {
        let (mut steps, mut goes_on) = (0, each(0, self.look()));
        while goes_on && let Some(changed) = self.advance() {
            steps += 1;
            if changed {
                goes_on = each(steps, self.look());
            }
        }
        assert!(!goes_on || !self.eye.update(true), "a change that no step has made");
        steps
    }
}

impl<E: Eye> Drop for Traced<E> {
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
