//! A short circuit: after failures in a row a source is left alone for a moment, so that a miss does not wait for the timeout
//! that the last one has just met.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Circuit {
    start: Instant,
    failures: AtomicU32,
    /// Milliseconds after `start`.
    open_until: AtomicU64,
    threshold: u32,
    pause: Duration,
}

impl Circuit {
    /// Opens for `pause` after `threshold` failures in a row; the next failure after the pause opens it again.
    pub(super) fn new(threshold: u32, pause: Duration) -> Self {
        Self {
            start: Instant::now(),
            failures: AtomicU32::new(0),
            open_until: AtomicU64::new(0),
            threshold,
            pause,
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn is_open(&self) -> bool {
        self.elapsed_ms() < self.open_until.load(Ordering::Relaxed)
    }

    pub(super) fn succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.open_until.store(0, Ordering::Relaxed);
    }

    /// True for the failure that opened it from rest, which is the one worth a line in the log.
    pub(super) fn failed(&self) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures >= self.threshold {
            let pause = u64::try_from(self.pause.as_millis()).unwrap_or(u64::MAX);
            self.open_until
                .store(self.elapsed_ms().saturating_add(pause), Ordering::Relaxed);
        }
        failures == self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_closes_by_itself() {
        let circuit = Circuit::new(2, Duration::from_secs(1));
        assert!(!circuit.failed());
        assert!(!circuit.is_open());
        circuit.succeeded();
        assert!(!circuit.failed());
        assert!(circuit.failed());
        assert!(circuit.is_open());
        tokio::time::advance(Duration::from_millis(1001)).await;
        assert!(!circuit.is_open());
        assert!(!circuit.failed(), "said once, until it works again");
        assert!(circuit.is_open());
    }
}
