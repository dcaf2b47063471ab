//! Moments in query strings: a time, or how long ago it is.

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// A time, or how long before `now`; or what is expected.
pub(super) fn moment(text: &str, now: OffsetDateTime) -> Result<OffsetDateTime, &'static str> {
    read(text, now).ok_or("must be a time such as 2026-01-31T12:00:00Z, or how long ago: 90s, 15m, 6h, 7d")
}

fn read(text: &str, now: OffsetDateTime) -> Option<OffsetDateTime> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(time);
    }
    let seconds = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)]
        .into_iter()
        .find_map(|(unit, weight)| {
            text.strip_suffix(unit)?
                .parse::<u32>()
                .ok()
                .map(|n| i64::from(n) * weight)
        })?;
    now.checked_sub(Duration::seconds(seconds))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_time_is_one_or_how_long_ago() {
        let now = datetime!(2026-01-31 12:00 UTC);
        for (text, expected) in [
            ("2026-01-31T11:00:00Z", Some(datetime!(2026-01-31 11:00 UTC))),
            ("90s", Some(datetime!(2026-01-31 11:58:30 UTC))),
            ("6h", Some(datetime!(2026-01-31 6:00 UTC))),
            ("7d", Some(datetime!(2026-01-24 12:00 UTC))),
            ("7", None),
            ("-1s", None),
            ("h", None),
            ("", None),
            ("4294967295d", None),
            ("99999999999s", None),
        ] {
            assert_eq!(moment(text, now).ok(), expected, "{text}");
        }
    }
}
