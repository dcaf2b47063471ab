//! How many edges there are, from what is heard of them.
//!
//! More edges count at once, fewer only when that was so for a while: a Redis that has just lost its data, or an edge that
//! was slow for a moment, must not make every other edge believe that it is alone.

use std::time::Duration;

use tokio::time::Instant;

/// For how long fewer edges must be heard of before they count.
const HOLD: Duration = Duration::from_secs(2);

/// The number that counts.
#[derive(Debug)]
pub(super) struct Census {
    count: u32,
    /// Since when fewer are heard of, and the most of those.
    fewer: Option<(Instant, u32)>,
}

impl Census {
    pub(super) fn new(count: u32) -> Self {
        Self { count, fewer: None }
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// So many were heard of at `now`.
    pub(super) fn heard_of(&mut self, count: u32, now: Instant) {
        if count >= self.count {
            *self = Self::new(count);
            return;
        }
        let (since, most) = self
            .fewer
            .map_or((now, count), |(since, most)| (since, most.max(count)));
        if now.saturating_duration_since(since) >= HOLD {
            *self = Self::new(most);
        } else {
            self.fewer = Some((since, most));
        }
    }

    /// The first word of all: what was assumed before it counts no more.
    pub(super) fn begin(&mut self, count: u32) {
        *self = Self::new(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_count_at_once_and_fewer_after_a_while() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut census = Census::new(1);
        census.heard_of(3, at(0));
        assert_eq!(census.count(), 3);
        for (ms, heard) in [(250, 1), (500, 2), (1000, 1), (2000, 2)] {
            census.heard_of(heard, at(ms));
            assert_eq!(census.count(), 3, "{ms}");
        }
        census.heard_of(1, at(2250));
        assert_eq!(census.count(), 2, "the most that were heard of meanwhile");
        census.heard_of(4, at(2300));
        assert_eq!(census.count(), 4);
        census.heard_of(1, at(2400));
        census.heard_of(4, at(4300));
        census.heard_of(1, at(4500));
        assert_eq!(census.count(), 4, "begun anew");
    }
}
