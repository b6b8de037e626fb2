//! Clocks, read through the vDSO: no system call, so no gate.
//!
//! A coarse clock is the time of the kernel's last tick (1 to 10 ms old) and costs a third of a
//! fine one. There is no coarse `CLOCK_BOOTTIME`.

use super::file;
use nix::time::{ClockId, clock_gettime};
use std::io;
use std::path::Path;

fn nanoseconds(clock: ClockId) -> u64 {
    // The kernel refuses only clocks that it does not have; these are older than Linux 3. A time
    // before 1970 is 0.
    clock_gettime(clock).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec().cast_unsigned())
    })
}

/// `CLOCK_BOOTTIME` in nanoseconds: goes on while the host sleeps.
pub(crate) fn boottime_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_BOOTTIME)
}

/// Nanoseconds since 1970.
pub(crate) fn wall_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_REALTIME)
}

/// Nanoseconds since 1970 at the kernel's last tick.
pub(crate) fn coarse_wall_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_REALTIME_COARSE)
}

/// Nanoseconds that the host was awake, at the kernel's last tick: it stands still where
/// [`boottime_ns`] goes on.
pub(crate) fn coarse_monotonic_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC_COARSE)
}

/// A number that differs from boot to boot.
pub(crate) fn boot_id() -> io::Result<u128> {
    parse_boot_id(&file::read_text(Path::new("/proc/sys/kernel/random/boot_id"))?)
}

/// A UUID as a number. Fewer digits would be a number too, of another boot.
fn parse_boot_id(text: &str) -> io::Result<u128> {
    let digits = text.trim_end().replace('-', "");
    let is_whole = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let parsed = is_whole.then(|| u128::from_str_radix(&digits, 16).ok()).flatten();
    parsed.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the boot id is no UUID"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    /// Hundredths of a second since the boot, as the kernel prints them.
    fn uptime() -> u64 {
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        text.split(' ').next().unwrap().replace('.', "").parse().unwrap()
    }

    /// Plant: `CLOCK_REALTIME` for the boot's time, or microseconds for nanoseconds.
    #[test]
    fn the_boot_time_is_that_of_the_kernel() {
        let before = uptime();
        let now = boottime_ns() / 10_000_000;
        assert!((before..=uptime()).contains(&now), "{before} {now}");
    }

    /// Plant: dropping the nanoseconds of the time leaves it before `before`.
    #[test]
    fn the_wall_clock_is_that_of_the_standard_library() {
        let since = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let (before, now, after) = (since(), wall_ns(), since());
        assert!((before..=after).contains(&now), "{before} {now} {after}");
    }

    /// Plant: each coarse clock swapped for the other one.
    #[test]
    fn a_coarse_clock_is_a_little_behind() {
        const SECOND: u64 = 1_000_000_000;
        let (wall, boot) = (wall_ns(), boottime_ns());
        let (coarse, monotonic) = (coarse_wall_ns(), coarse_monotonic_ns());
        assert!(coarse <= wall_ns() && coarse + SECOND >= wall, "{coarse} {wall}");
        assert!(monotonic > 0 && monotonic <= boottime_ns(), "{monotonic} {boot}");
        let seen = coarse_monotonic_ns();
        while coarse_monotonic_ns() == seen {
            std::hint::spin_loop();
        }
    }

    /// Plant: a parser that skips what is no digit takes half an id for an id.
    #[test]
    fn a_boot_id_is_whole_or_refused() {
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert_ne!(boot_id().unwrap(), 0);
        let whole = "01234567-89ab-cdef-0123-456789abcdef\n";
        assert_eq!(parse_boot_id(whole).unwrap(), 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        for bad in ["", "\n", "01234567-89ab", &whole[1..], "+1234567-89ab-cdef-0123-456789abcdef"]
        {
            assert!(parse_boot_id(bad).is_err(), "{bad}");
        }
    }
}
