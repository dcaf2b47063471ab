//! Where a caller stands with its limit, as headers say it.
//!
//! Owns the fields `X-RateLimit-Limit`, `-Remaining` and `-Reset` (whole numbers, the last in seconds from now), and
//! `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10, structured fields of RFC 9651).

use http::HeaderValue;

use super::gcra::{Allowance, Verdict};
use crate::filter::lines::Lines;
use crate::filter::name::{Name, name};
use crate::filter::short::Short;

static LIMIT: Name = name!("x-ratelimit-limit");
static REMAINING: Name = name!("x-ratelimit-remaining");
static RESET: Name = name!("x-ratelimit-reset");
static RATE_LIMIT: Name = name!("ratelimit");
static POLICY: Name = name!("ratelimit-policy");

/// Longer than any `RateLimit` value: a name and two numbers.
const VALUE_BYTES: usize = 80;
/// Of the largest number.
const DIGITS: usize = 20;

/// By which limit a request was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// That of its key.
    Key,
    /// That of the application for requests without a key.
    Application,
    /// That of the month.
    Month,
}

impl By {
    /// The name of the policy in `RateLimit` and `RateLimit-Policy`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Application => "application",
            Self::Month => "month",
        }
    }
}

/// Where a caller stands after a request was judged.
#[derive(Debug, Clone)]
pub struct Standing {
    by: By,
    policy: HeaderValue,
    /// Requests at once after a pause; 0 if that is not what the limit is about.
    limit: u32,
    remaining: u32,
    reset_seconds: u64,
}

impl Standing {
    /// After `verdict` on `allowance`, which `policy` tells of.
    pub fn new(by: By, policy: HeaderValue, allowance: Allowance, verdict: &Verdict) -> Self {
        Self {
            by,
            policy,
            limit: allowance.burst(),
            remaining: verdict.remaining,
            reset_seconds: verdict.reset_ms.div_ceil(1000),
        }
    }

    /// The month's requests are used up; the next month begins in so many seconds.
    pub fn month_is_used_up(policy: HeaderValue, limit: u32, seconds: u64) -> Self {
        Self {
            by: By::Month,
            policy,
            limit,
            remaining: 0,
            reset_seconds: seconds,
        }
    }

    /// Adds the fields to the head of an answer, in which none of them is.
    pub fn tell(&self, answer: &mut impl Lines) {
        let number = |number: u64| Short::<DIGITS>::default().with_number(number);
        answer.say(&LIMIT, number(self.limit.into()).as_bytes());
        answer.say(&REMAINING, number(self.remaining.into()).as_bytes());
        answer.say(&RESET, number(self.reset_seconds).as_bytes());
        answer.say_ref(&POLICY, &self.policy);
        let stands = Short::<VALUE_BYTES>::default()
            .with("\"")
            .with(self.by.as_str())
            .with("\";r=");
        let stands = stands.with_number(self.remaining.into()).with(";t=");
        answer.say(&RATE_LIMIT, stands.with_number(self.reset_seconds).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use http::HeaderMap;

    use super::super::gcra::{Moment, Share, fresh, step};
    use super::*;

    fn fields(standing: &Standing) -> Vec<(String, String)> {
        let mut answer = HeaderMap::new();
        standing.tell(&mut answer);
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        answer
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect()
    }

    #[test]
    fn the_fields_say_limit_rest_and_seconds() {
        let ten = NonZeroU32::new(10).unwrap();
        let allowance = Allowance::new(ten, ten);
        let now = Moment::after_nanos(0);
        let verdict = step(fresh(now), allowance, Share::WHOLE, now).verdict;
        let policy = HeaderValue::from_static("\"key\";q=10;w=1");
        let standing = Standing::new(By::Key, policy, allowance, &verdict);
        let expected = [
            ("x-ratelimit-limit", "10"),
            ("x-ratelimit-remaining", "9"),
            ("x-ratelimit-reset", "1"),
            ("ratelimit-policy", "\"key\";q=10;w=1"),
            ("ratelimit", "\"key\";r=9;t=1"),
        ];
        assert_eq!(fields(&standing), expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn the_longest_values_fit() {
        let standing = Standing::month_is_used_up(HeaderValue::from_static("x"), u32::MAX, u64::MAX);
        let last = fields(&standing).pop().unwrap();
        assert_eq!(last, ("ratelimit".to_owned(), format!("\"month\";r=0;t={}", u64::MAX)));
    }
}
