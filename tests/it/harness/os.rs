//! What only the kernel's own calls do: forks of every make, mounts, limits, identities, and a look
//! at the locks that say who lives.
#![expect(unsafe_code, reason = "system calls that have no safe face among the dependencies")]

use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::Pid;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

/// How a child is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fork {
    /// By the C library, whose handlers run.
    Library,
    /// By the bare system call: no handler runs.
    Bare,
}

/// Forks: the child's id in the parent, nothing in the child, which goes on [`in_child`].
pub(crate) fn fork(how: Fork) -> Option<Pid> {
    let made = match how {
        // SAFETY: the child goes on with code that ends by `_exit`; whether it may allocate with other
        // threads about is the C library's business.
        Fork::Library => unsafe { libc::fork() },
        // SAFETY: the same; it is made where nobody else is in the allocator.
        Fork::Bare => unsafe { libc::syscall(libc::SYS_fork) as libc::pid_t },
    };
    assert!(made >= 0, "fork: {}", io::Error::last_os_error());
    (made > 0).then(|| Pid::from_raw(made))
}

/// What a forked child does; it ends with it: 0, or 101 when it panicked.
pub(crate) fn in_child(play: impl FnOnce()) -> ! {
    let end = std::panic::catch_unwind(AssertUnwindSafe(play));
    exit_at_once(if end.is_ok() { 0 } else { 101 })
}

/// Ends the process: no destructor runs, no lock is waited for.
pub(crate) fn exit_at_once(status: i32) -> ! {
    // SAFETY: it does not return, and touches nothing of ours.
    unsafe { libc::_exit(status) }
}

/// Whether somebody holds byte `slot` of a bus's members file.
pub(crate) fn is_alive(members: &File, slot: u64) -> bool {
    let mut found = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: 0,
        l_start: slot as i64,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(members, FcntlArg::F_OFD_GETLK(&mut found)).unwrap();
    i32::from(found.l_type) != libc::F_UNLCK
}

/// Lets this process have so many open files; says what it got when that is too few.
pub(crate) fn allow_files(count: u64) -> Result<(), u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a local of the right type.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    if limit.rlim_cur >= count {
        return Ok(());
    }
    limit.rlim_cur = count.min(limit.rlim_max);
    // SAFETY: the pointer is to a local of the right type.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    if set == 0 && limit.rlim_cur >= count { Ok(()) } else { Err(limit.rlim_cur) }
}

/// Becomes another user, for good.
pub(crate) fn become_user(uid: u32) -> io::Result<()> {
    // SAFETY: plain numbers.
    let group = unsafe { libc::setresgid(uid, uid, uid) };
    // SAFETY: plain numbers.
    let user = unsafe { libc::setresuid(uid, uid, uid) };
    if group == 0 && user == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A file system in memory of its own size; gone with this.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of so many bytes on a directory.
    pub(crate) fn mount(on: &Path, bytes: u64) -> io::Result<Self> {
        Self::call(on, bytes, 0)?;
        Ok(Self(on.to_owned()))
    }

    /// Gives it another size.
    pub(crate) fn resize(&self, bytes: u64) -> io::Result<()> {
        Self::call(&self.0, bytes, libc::MS_REMOUNT)
    }

    fn call(on: &Path, bytes: u64, flags: libc::c_ulong) -> io::Result<()> {
        let text = |text: &str| CString::new(text).map_err(io::Error::other);
        let (kind, size) = (text("tmpfs")?, text(&format!("size={bytes},mode=700"))?);
        let target = text(&on.to_string_lossy())?;
        // SAFETY: all four are strings that end and live until the call returns.
        let mounted = unsafe {
            libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, size.as_ptr().cast())
        };
        if mounted == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let Ok(target) = CString::new(self.0.to_string_lossy().as_bytes()) else { return };
        // SAFETY: a string that ends and lives until the call returns.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}
