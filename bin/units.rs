//! Sizes, durations, modes and times, as they are written on the command line and in results.

use std::time::{Duration, SystemTime};

/// What each letter of a size stands for, by powers of 1024.
const UNITS: [char; 5] = ['B', 'K', 'M', 'G', 'T'];

/// A size: bytes, or with K, M, G or T (powers of 1024; `8M`, `8MiB` and `8MB` are the same).
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size: give bytes, or a number with K, M, G or T");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.to_ascii_uppercase();
    let letter = unit.chars().next().unwrap_or('B');
    let power = UNITS.iter().position(|one| *one == letter).ok_or_else(wrong)?;
    let rest = unit.get(1..).unwrap_or_default();
    if !matches!((power, rest), (_, "") | (1.., "B" | "IB")) {
        return Err(wrong());
    }
    number
        .checked_shl(10 * power as u32)
        .filter(|size| size >> (10 * power) == number)
        .ok_or_else(|| format!("`{text}` is more bytes than a 64-bit number holds"))
}

/// A size for people.
pub(crate) fn show_size(bytes: u64) -> String {
    let power = (bytes.checked_ilog2().unwrap_or(0) / 10).min(4);
    if power == 0 {
        return format!("{bytes} B");
    }
    let whole = bytes as f64 / (1_u64 << (10 * power)) as f64;
    format!("{whole:.1} {}iB", UNITS.get(power as usize).unwrap_or(&'B'))
}

/// A duration: `300ms`, `5s`, `2h`, also `1m 30s`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text)
        .map_err(|error| format!("`{text}` is no duration such as 300ms, 5s or 2h: {error}"))
}

/// A duration for people, that [`parse_duration`] reads: to the millisecond, where there are any.
pub(crate) fn show_duration(duration: Duration) -> String {
    let whole = Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    let shown = if whole.is_zero() { duration } else { whole };
    humantime::format_duration(shown).to_string()
}

/// A duration that a measurement gave, with three digits that count.
pub(crate) fn show_measured(duration: Duration) -> String {
    let ns = duration.as_nanos() as f64;
    let (value, unit) = match ns {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "us"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = if value >= 100.0 || unit == "ns" { 0 } else { usize::from(value < 10.0) + 1 };
    format!("{value:.digits$} {unit}")
}

/// Permissions in octal.
pub(crate) fn parse_mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8)
        .map_err(|_| format!("`{text}` is no mode: give octal digits such as 0600"))
}

/// A moment as RFC 3339, in UTC to the microsecond; nothing beyond the year 9999.
pub(crate) fn show_time(time: SystemTime) -> Option<String> {
    use std::fmt::Write;
    let mut text = String::new();
    write!(text, "{}", humantime::format_rfc3339_micros(time)).ok()?;
    Some(text)
}

/// A moment as RFC 3339.
pub(crate) fn parse_time(text: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339_weak(text)
        .map_err(|_| format!("`{text}` is no time: give one such as 2026-11-28T12:00:00Z"))
}

/// The moment that is so far away, when there is one.
pub(crate) fn show_deadline(left: Duration) -> Option<String> {
    SystemTime::now().checked_add(left).and_then(show_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: sizes are powers of 1024, and what is no size or no 64-bit number is refused.
    /// Plant: without the `filter`, `16777216T` is 0.
    #[test]
    fn sizes() {
        for (text, size) in [
            ("0", 0),
            ("4096", 4096),
            ("8M", 8 << 20),
            ("8m", 8 << 20),
            ("8MiB", 8 << 20),
            ("3KB", 3 << 10),
            ("1G", 1 << 30),
            ("2T", 2 << 40),
            ("7B", 7),
        ] {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in ["", "M", "-1", "1.5M", "1X", "1MM", "1iB", "8 M", "16777216T", "1\u{e9}"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(show_size(1023), "1023 B");
        assert_eq!(show_size(8 << 20), "8.0 MiB");
        assert_eq!(show_size(u64::MAX), "16777216.0 TiB");
    }

    /// Promise: a duration that was shown can be given again.
    /// Plant: `as_millis` to `as_secs` loses the fraction.
    #[test]
    fn durations() {
        assert_eq!(parse_duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(parse_duration("5"), Ok(Duration::from_secs(5)));
        for text in ["", "s", "-5s", "5 parsecs"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for shown in [Duration::from_millis(4512), Duration::from_nanos(1)] {
            assert_eq!(parse_duration(&show_duration(shown)), Ok(shown));
        }
        assert_eq!(show_measured(Duration::from_nanos(812)), "812 ns");
        assert_eq!(show_measured(Duration::from_nanos(31_450)), "31.4 us");
        assert_eq!(show_measured(Duration::from_millis(1500)), "1.50 s");
    }

    /// Promise: no deadline makes a panic, however far away it is.
    /// Plant: `to_string` in place of `write!` panics after the year 9999.
    #[test]
    fn times() {
        assert_eq!(
            show_time(SystemTime::UNIX_EPOCH).as_deref(),
            Some("1970-01-01T00:00:00.000000Z")
        );
        assert_eq!(show_deadline(Duration::from_secs(1 << 40)), None);
        assert_eq!(show_deadline(Duration::MAX), None);
        assert_eq!(parse_mode("0600"), Ok(0o600));
        assert_eq!(parse_mode("660"), Ok(0o660));
        assert!(parse_mode("0888").is_err());
    }
}
