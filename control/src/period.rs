//! Accounting periods: calendar months in UTC.

use time::{OffsetDateTime, UtcOffset};

/// The month of a moment as `YYYY-MM`.
pub fn of(moment: OffsetDateTime) -> String {
    let moment = moment.to_offset(UtcOffset::UTC);
    format!("{:04}-{:02}", moment.year(), u8::from(moment.month()))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_month_ends_with_its_last_second_in_utc() {
        assert_eq!(of(datetime!(2026-12-31 23:59:59 UTC)), "2026-12");
        assert_eq!(of(datetime!(2027-01-01 00:30:00 +01:00)), "2026-12");
    }
}
