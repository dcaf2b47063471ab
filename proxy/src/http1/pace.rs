//! How slowly a client may send a body.
//!
//! Owns the bound on the time that the edge waits for a client's body: a connection that sends a byte now and then would
//! otherwise be held for as long as its sender likes. Only waiting for the client counts; while the instance is the slow one,
//! nothing does. Pure: time comes in as durations.

use std::time::Duration;

/// The bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaceRules {
    /// Waiting that is always allowed.
    pub grace: Duration,
    /// Bytes that earn another second of waiting; 0: no least rate.
    pub rate: u64,
    /// Waiting that is allowed at most, for a whole body.
    pub deadline: Duration,
}

/// The waiting for one body so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    waited: Duration,
    received: u64,
}

impl Pace {
    /// So much longer may be waited for the next byte.
    pub fn left(&self, rules: &PaceRules) -> Duration {
        let allowed = match rules.rate {
            0 => rules.deadline,
            rate => {
                let earned = Duration::from_millis(self.received.saturating_mul(1000) / rate);
                rules.grace.saturating_add(earned).min(rules.deadline)
            }
        };
        allowed.saturating_sub(self.waited)
    }

    /// The next bytes came after this waiting.
    pub fn received(&mut self, bytes: usize, waited: Duration) {
        self.received = self.received.saturating_add(bytes as u64);
        self.waited = self.waited.saturating_add(waited);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: PaceRules = PaceRules {
        grace: Duration::from_secs(10),
        rate: 100,
        deadline: Duration::from_mins(1),
    };

    #[test]
    fn bytes_earn_time_up_to_the_deadline() {
        let mut pace = Pace::default();
        assert_eq!(pace.left(&RULES), Duration::from_secs(10));
        pace.received(200, Duration::from_secs(4));
        assert_eq!(pace.left(&RULES), Duration::from_secs(8));
        pace.received(1_000_000, Duration::from_secs(6));
        assert_eq!(pace.left(&RULES), Duration::from_secs(50));
        pace.received(1_000_000, Duration::from_secs(50));
        assert_eq!(pace.left(&RULES), Duration::ZERO);
    }

    #[test]
    fn without_a_rate_only_the_deadline_counts() {
        let rules = PaceRules { rate: 0, ..RULES };
        let mut pace = Pace::default();
        pace.received(1, Duration::from_secs(20));
        assert_eq!(pace.left(&rules), Duration::from_secs(40));
    }

    proptest! {
        #[test]
        fn no_body_is_waited_for_beyond_the_deadline(
            parts in proptest::collection::vec((0_usize..1_000_000, 0_u64..100_000), 0..50),
            rate in 0_u64..1000,
        ) {
            let rules = PaceRules { rate, ..RULES };
            let (mut pace, mut waited) = (Pace::default(), Duration::ZERO);
            for (bytes, wait) in parts {
                let wait = Duration::from_millis(wait).min(pace.left(&rules));
                waited += wait;
                pace.received(bytes, wait);
            }
            prop_assert!(waited <= rules.deadline);
        }
    }
}
