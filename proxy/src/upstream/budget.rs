//! How many requests may be tried again.
//!
//! When an instance fails, every retry is more load on what is left. A bucket of tokens keeps retries below a share of the
//! requests: each request puts in a fifth of a token, each retry takes a whole one out, and a few tokens a second come by
//! themselves, so that the retry of a rare request is not refused. Depends on nothing; cannot fail. Cf. Twitter Finagle's
//! `RetryBudget` and gRFC A6 (retry throttling).

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// How many retries there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetPolicy {
    /// Retries for a hundred requests.
    pub percent: u32,
    /// Retries that may come at once, after calm.
    pub burst: u32,
    /// Retries a second that are always allowed.
    pub floor: u32,
}

/// A thousandth of a retry.
const RETRY: i64 = 1000;

/// A bucket. Reads only while it is full, so that calm times cost a request nothing.
#[derive(Debug)]
pub struct Budget {
    policy: BudgetPolicy,
    tokens: AtomicI64,
    /// Until when the floor has been put in, milliseconds.
    filled_to: AtomicU64,
}

impl Budget {
    /// A full one. `now`: since any fixed point in time, here and everywhere.
    pub fn new(policy: BudgetPolicy, now: Duration) -> Self {
        Self {
            policy,
            tokens: AtomicI64::new(i64::from(policy.burst) * RETRY),
            filled_to: AtomicU64::new(millis(now)),
        }
    }

    /// A request came (its first attempt).
    pub fn deposit(&self) {
        if self.tokens.load(Ordering::Relaxed) < self.limit() {
            self.tokens
                .fetch_add(i64::from(self.policy.percent) * RETRY / 100, Ordering::Relaxed);
        }
    }

    /// May one be tried again? Takes the token if so.
    pub fn withdraw(&self, now: Duration) -> bool {
        self.fill(millis(now));
        self.tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| {
                let tokens = tokens.min(self.limit());
                (tokens >= RETRY).then(|| tokens - RETRY)
            })
            .is_ok()
    }

    /// Gives back what [`Self::withdraw`] took for a retry that was not made.
    pub fn give_back(&self) {
        self.tokens.fetch_add(RETRY, Ordering::Relaxed);
    }

    fn limit(&self) -> i64 {
        i64::from(self.policy.burst) * RETRY
    }

    fn fill(&self, now: u64) {
        let before = self.filled_to.fetch_max(now, Ordering::Relaxed);
        let elapsed = i64::try_from(now.saturating_sub(before)).unwrap_or(i64::MAX);
        let floor = elapsed.saturating_mul(i64::from(self.policy.floor)).min(self.limit());
        if floor > 0 {
            self.tokens.fetch_add(floor, Ordering::Relaxed);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: BudgetPolicy = BudgetPolicy {
        percent: 20,
        burst: 10,
        floor: 1,
    };

    fn granted(budget: &Budget, tries: usize, now: Duration) -> usize {
        (0..tries).filter(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn a_full_outage_is_retried_for_a_fifth_of_the_requests_after_the_burst() {
        let budget = Budget::new(POLICY, Duration::ZERO);
        let mut retries = 0;
        for _ in 0..10_000 {
            budget.deposit();
            retries += granted(&budget, 2, Duration::ZERO);
        }
        // The first request finds the bucket full.
        assert_eq!(retries, 10 + 9_999 / 5);
    }

    #[test]
    fn rare_requests_may_always_be_retried() {
        let budget = Budget::new(POLICY, Duration::ZERO);
        assert_eq!(granted(&budget, 100, Duration::ZERO), 10);
        for second in 1..100 {
            assert_eq!(
                granted(&budget, 100, Duration::from_secs(second)),
                1,
                "after {second} s"
            );
        }
        assert_eq!(
            granted(&budget, 100, Duration::from_hours(1)),
            10,
            "no more than the burst is saved up"
        );
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let budget = Budget::new(POLICY, Duration::ZERO);
        assert_eq!(granted(&budget, 100, Duration::ZERO), 10);
        budget.give_back();
        assert_eq!(granted(&budget, 100, Duration::ZERO), 1);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let budget = Budget::new(POLICY, Duration::from_secs(100));
        assert_eq!(granted(&budget, 100, Duration::from_secs(100)), 10);
        assert_eq!(granted(&budget, 100, Duration::from_secs(50)), 0);
        assert_eq!(granted(&budget, 100, Duration::from_secs(100)), 0);
        assert_eq!(granted(&budget, 100, Duration::from_secs(101)), 1);
    }

    proptest! {
        /// In every window of every history.
        #[test]
        fn retries_never_exceed_the_share_the_burst_and_the_floor(
            steps in prop::collection::vec((0..50_u32, 0..50_usize, 0..2_000_u64), 1..200),
        ) {
            let budget = Budget::new(POLICY, Duration::ZERO);
            let mut now = Duration::ZERO;
            let history: Vec<(u32, usize, Duration)> = steps
                .into_iter()
                .map(|(requests, tries, pause)| {
                    now += Duration::from_millis(pause);
                    for _ in 0..requests {
                        budget.deposit();
                    }
                    (requests, granted(&budget, tries, now), now)
                })
                .collect();
            for begin in 0..history.len() {
                let start = if begin == 0 { Duration::ZERO } else { history[begin - 1].2 };
                let (mut requests, mut retries) = (0_u64, 0_u64);
                for (more, granted, at) in &history[begin..] {
                    requests += u64::from(*more);
                    retries += *granted as u64;
                    let milli = 10_000 + 200 * requests + u64::try_from(at.saturating_sub(start).as_millis()).unwrap();
                    // The last deposit into an almost full bucket may exceed it by less than its own size.
                    prop_assert!(retries * 1000 <= milli + 200, "{retries} of {requests}");
                }
            }
        }
    }
}
