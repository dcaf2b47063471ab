//! The time of day, as a parameter.
//!
//! Owns the one place that reads the system clock for a wall time. It depends on nothing that can fail; a clock that is
//! set back by the operating system shows here as time going back, and callers that need a monotonic measure take
//! [`std::time::Instant`] instead.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

const NANOS_PER_MILLI: i128 = 1_000_000;

/// A source of the current wall time.
pub trait Clock: Send + Sync + Debug {
    /// The current time, in UTC.
    fn now(&self) -> OffsetDateTime;

    /// The current time in milliseconds since 1970-01-01T00:00:00Z.
    fn unix_millis(&self) -> i64 {
        let millis = self.now().unix_timestamp_nanos().div_euclid(NANOS_PER_MILLI);
        // `OffsetDateTime` ends with the year 9999 (or 999,999 at most): about 3.2e16 ms, far inside an i64.
        i64::try_from(millis).unwrap_or(i64::MAX)
    }
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    // Without the calendar, which costs more than all else that a warm request asks the clock for.
    fn unix_millis(&self) -> i64 {
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => millis(since),
            // Rounded down, as time that has begun is counted elsewhere.
            Err(before) => -millis(before.duration().saturating_add(Duration::from_nanos(999_999))),
        }
    }
}

/// A clock that stands still until it is told otherwise; for tests.
///
/// Clones share the same time, so a test keeps one and hands the other to what it tests. Millisecond resolution.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows `start`, cut to the millisecond.
    pub fn new(start: OffsetDateTime) -> Self {
        let clock = Self(Arc::new(AtomicI64::new(0)));
        clock.set(start);
        clock
    }

    /// A clock that shows this many milliseconds since the Unix epoch.
    pub fn at_millis(millis: i64) -> Self {
        Self(Arc::new(AtomicI64::new(millis)))
    }

    /// Moves the clock to `now`, forwards or backwards.
    pub fn set(&self, now: OffsetDateTime) {
        let millis = now.unix_timestamp_nanos().div_euclid(NANOS_PER_MILLI);
        self.0
            .store(i64::try_from(millis).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Moves the clock forwards.
    pub fn advance(&self, by: Duration) {
        self.0
            .fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    /// 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::at_millis(1_767_225_600_000)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        let nanos = i128::from(self.0.load(Ordering::SeqCst)) * NANOS_PER_MILLI;
        OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn clones_of_a_manual_clock_share_its_time() {
        let clock = ManualClock::new(datetime!(2026-03-01 12:00:00.5 UTC));
        let other = clock.clone();
        clock.advance(Duration::from_millis(1500));
        assert_eq!(other.now(), datetime!(2026-03-01 12:00:02 UTC));
        assert_eq!(other.unix_millis(), 1_772_366_402_000);
    }

    #[test]
    fn millis_before_the_epoch_round_down() {
        let clock = ManualClock::new(datetime!(1969-12-31 23:59:59.9999 UTC));
        assert_eq!(clock.unix_millis(), -1);
    }

    #[test]
    fn default_manual_clock_is_the_documented_date() {
        assert_eq!(ManualClock::default().now(), datetime!(2026-01-01 0:00 UTC));
    }

    #[test]
    fn system_clock_is_after_this_was_written() {
        assert!(SystemClock.unix_millis() > 1_760_000_000_000);
    }
}
