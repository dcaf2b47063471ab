//! Quantities with a unit: `30s`, `64MiB`.

use std::fmt;
use std::time::Duration;

/// A number of bytes, written `512B`, `64KiB`, `64MiB`, `2GiB`, or in powers of ten `64kB`, `64MB`, `2GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

impl ByteSize {
    /// This many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// This many KiB.
    pub const fn kib(kib: u64) -> Self {
        Self(kib.saturating_mul(1 << 10))
    }

    /// This many MiB.
    pub const fn mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// In bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// In bytes; the largest `usize` where it does not fit.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shift, unit) = [(30, "GiB"), (20, "MiB"), (10, "KiB")]
            .into_iter()
            .find(|(shift, _)| self.0 > 0 && self.0.trailing_zeros() >= *shift)
            .unwrap_or((0, "B"));
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

const MILLI: u64 = 1;
const SECOND: u64 = 1000 * MILLI;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// `250ms`, `30s`, `5m`, `24h`, `7d`: one whole number and one unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let millis = match unit {
        "ms" => MILLI,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

pub(super) fn byte_size(text: &str) -> Option<ByteSize> {
    let (number, unit) = split(text)?;
    let bytes = match unit {
        "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes).map(ByteSize)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_one_number_and_one_unit() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Some(Duration::from_mins(5)));
        assert_eq!(duration("24h"), Some(Duration::from_hours(24)));
        assert_eq!(duration("7d"), Some(Duration::from_hours(168)));
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "30 s",
            "30S",
            "1h30m",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_tell_powers_of_two_and_ten_apart() {
        assert_eq!(byte_size("64MiB"), Some(ByteSize::mib(64)));
        assert_eq!(byte_size("64MB"), Some(ByteSize::bytes(64_000_000)));
        assert_eq!(byte_size("0B"), Some(ByteSize::bytes(0)));
        for text in ["64", "64M", "64mib", "MiB", "99999999999GiB"] {
            assert_eq!(byte_size(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_prints_in_the_largest_whole_unit() {
        for text in ["0B", "1B", "1000B", "1KiB", "64MiB", "3GiB", "1025KiB"] {
            assert_eq!(byte_size(text).unwrap().to_string(), text);
        }
    }
}
