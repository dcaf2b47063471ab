//! The `Date` of answers (RFC 9110, section 5.6.7), made once a second on each thread.

use std::cell::RefCell;

use time::OffsetDateTime;
use time::macros::format_description;

thread_local! {
    static LATEST: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// Appends the date of this moment, milliseconds since the Unix epoch. Nothing, if no calendar has it.
pub(crate) fn append(unix_ms: i64, out: &mut Vec<u8>) {
    let seconds = unix_ms.div_euclid(1000);
    LATEST.with_borrow_mut(|(made, text)| {
        if *made != seconds {
            *text = of(seconds).unwrap_or_default();
            *made = seconds;
        }
        out.extend_from_slice(text.as_bytes());
    });
}

fn of(seconds: i64) -> Option<String> {
    let format =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(format).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_that_of_the_moment_whichever_came_before() {
        for (unix_ms, expected) in [
            (784_111_777_999, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_778_000, "Sun, 06 Nov 1994 08:49:38 GMT"),
            (784_111_777_000, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (-1, "Wed, 31 Dec 1969 23:59:59 GMT"),
            (i64::MAX, ""),
        ] {
            let mut out = Vec::new();
            append(unix_ms, &mut out);
            assert_eq!(out, expected.as_bytes());
        }
    }
}
