//! Every system call of membus (stub).
#![expect(unsafe_code, reason = "system calls")]
pub(crate) mod clock {
    use nix::time::{ClockId, clock_gettime};
    fn ns(id: ClockId) -> u64 { clock_gettime(id).map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64) }
    pub(crate) fn boottime_ns() -> u64 { ns(ClockId::CLOCK_BOOTTIME) }
    pub(crate) fn wall_ns() -> u64 { ns(ClockId::CLOCK_REALTIME) }
}
pub(crate) mod futex {
    use crate::sync::AtomicU32; use std::time::Duration;
    pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Duration) {
        let ts = libc::timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos() as i64 };
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &ts); }
    }
    pub(crate) fn wake_one(word: &AtomicU32) { unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1); } }
}
pub(crate) mod map {
    #[derive(Debug)]
    pub(crate) struct Mapping { map: memmap2::MmapRaw }
    impl Mapping { pub(crate) fn as_ptr(&self) -> *mut u8 { self.map.as_mut_ptr() } pub(crate) fn len(&self) -> usize { self.map.len() } }
}
