//! The generic cell rate algorithm (ITU-T I.371): so many requests in so much time, spread or at once. Pure.

/// A rate: `burst` requests at once, and one more after every `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Microseconds for one request.
    pub interval: i64,
    /// Requests that may come at once.
    pub burst: i64,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// It may pass.
    pub allowed: bool,
    /// Requests that may still come at once.
    pub remaining: i64,
    /// Microseconds until as many may come as ever.
    pub reset: i64,
    /// Microseconds until the next one may pass; 0 if one may.
    pub retry: i64,
}

impl Rate {
    /// `requests` in `seconds`, all of them at once if need be.
    pub const fn per(requests: i64, seconds: i64) -> Self {
        Self {
            interval: seconds * 1_000_000 / requests,
            burst: requests,
        }
    }

    /// Decides one request at `now`, and moves `arrival`, the theoretical time of the next, if it passes. All in microseconds.
    pub fn decide(self, arrival: &mut i64, now: i64) -> Verdict {
        let window = self.interval.saturating_mul(self.burst);
        let due = (*arrival).max(now);
        let next = due.saturating_add(self.interval);
        if next - window > now {
            return Verdict {
                allowed: false,
                remaining: 0,
                reset: due - now,
                retry: next - window - now,
            };
        }
        *arrival = next;
        Verdict {
            allowed: true,
            remaining: (window - (next - now)) / self.interval,
            reset: next - now,
            retry: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_burst_passes_and_then_one_for_each_interval() {
        let rate = Rate::per(10, 60);
        let mut arrival = 0;
        for left in (0..10).rev() {
            let verdict = rate.decide(&mut arrival, 0);
            assert!(verdict.allowed);
            assert_eq!(verdict.remaining, left);
        }
        let refused = rate.decide(&mut arrival, 0);
        assert_eq!(
            (refused.allowed, refused.remaining, refused.retry),
            (false, 0, 6 * SECOND)
        );
        assert!(!rate.decide(&mut arrival, 6 * SECOND - 1).allowed);
        assert!(rate.decide(&mut arrival, 6 * SECOND).allowed);
        assert!(!rate.decide(&mut arrival, 6 * SECOND).allowed);
    }

    #[test]
    fn in_no_window_do_more_pass_than_the_burst_and_what_flows_in() {
        for step in [1, 7, 100, 1_000] {
            let rate = Rate::per(100, 60);
            let (mut arrival, mut passed, mut now) = (0, 0, 0);
            while now < 120 * SECOND {
                passed += i64::from(rate.decide(&mut arrival, now).allowed);
                now += step * 1_000;
            }
            assert!(passed <= 300, "{passed}");
        }
    }

    #[test]
    fn after_a_rest_everything_is_as_at_the_beginning() {
        let rate = Rate::per(5, 10);
        let mut arrival = 0;
        while rate.decide(&mut arrival, 0).allowed {}
        let verdict = rate.decide(&mut arrival, 100 * SECOND);
        assert_eq!((verdict.allowed, verdict.remaining), (true, 4));
    }
}
