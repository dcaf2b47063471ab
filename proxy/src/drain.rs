//! How many requests are in the edge, and the wait until there are none.
//!
//! Stopping waits for this instead of for a fixed time: an idle edge stops at once, a busy one when its last request is
//! answered or its time is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long there must be nothing in flight: a connection that was accepted in the last moment becomes a request within
/// this time.
const QUIET: Duration = Duration::from_millis(50);

/// Counts requests. Clones count the same ones.
#[derive(Debug, Clone, Default)]
pub struct InFlight(Arc<AtomicUsize>);

/// One request in the count, for as long as it lives.
#[derive(Debug)]
pub struct Entered(Arc<AtomicUsize>);

impl InFlight {
    /// Counts one more.
    pub fn enter(&self) -> Entered {
        self.0.fetch_add(1, Ordering::SeqCst);
        Entered(Arc::clone(&self.0))
    }

    /// How many there are now.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Returns once there were none for a moment, or with the number that is left after `limit`.
    pub async fn ended(&self, limit: Duration) -> Result<(), usize> {
        let wait = async {
            let mut quiet = Duration::ZERO;
            while quiet < QUIET {
                tokio::time::sleep(QUIET / 5).await;
                quiet = if self.count() == 0 {
                    quiet + QUIET / 5
                } else {
                    Duration::ZERO
                };
            }
        };
        tokio::time::timeout(limit, wait).await.map_err(|_| self.count())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_with_the_last_request() {
        let in_flight = InFlight::default();
        let request = in_flight.enter();
        assert_eq!(in_flight.ended(Duration::from_secs(1)).await, Err(1));
        let waiting = tokio::spawn({
            let in_flight = in_flight.clone();
            async move { in_flight.ended(Duration::from_mins(1)).await }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!waiting.is_finished());
        drop(request);
        assert_eq!(waiting.await.unwrap(), Ok(()));
    }
}
