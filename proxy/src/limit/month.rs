//! When a quota of a calendar month is whole again: at the first instant of the next month, UTC, as it is billed.

use time::{Duration, OffsetDateTime, UtcOffset};

const MILLIS: i64 = 1000;

/// Whole seconds from `now_ms` (milliseconds since the Unix epoch) to the next month, rounded up; at least 1.
pub(super) fn seconds_to_next(now_ms: i64) -> u64 {
    let Ok(now) = OffsetDateTime::from_unix_timestamp(now_ms.div_euclid(MILLIS)) else {
        return 1;
    };
    let now = now.to_offset(UtcOffset::UTC);
    let last = now.month().length(now.year());
    let days_left = last.saturating_sub(now.day());
    let midnight = Duration::days(i64::from(days_left) + 1) - (now.time() - time::Time::MIDNIGHT);
    u64::try_from(midnight.whole_seconds()).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn at(moment: OffsetDateTime) -> u64 {
        seconds_to_next(i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).unwrap())
    }

    #[test]
    fn it_ends_with_the_month_of_the_calendar() {
        assert_eq!(at(datetime!(2026-11-30 23:59:59 UTC)), 1);
        assert_eq!(at(datetime!(2026-12-31 00:00:00 UTC)), 86_400);
        assert_eq!(at(datetime!(2028-02-28 12:00:00 UTC)), 36 * 3600);
        assert_eq!(at(datetime!(2026-02-28 12:00:00 UTC)), 12 * 3600);
        assert_eq!(at(datetime!(2026-11-01 00:00:00 UTC)), 30 * 86_400);
        assert_eq!(at(datetime!(2026-11-30 23:59:59.999 UTC)), 1);
        assert_eq!(seconds_to_next(i64::MAX), 1);
    }
}
