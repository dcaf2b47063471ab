//! The stages of the edge's life towards its clients, how many requests are in the edge, and the wait until there are none.
//!
//! Stopping waits for this instead of for a fixed time: an idle edge stops at once, a busy one when its last request is
//! answered or its time is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// How far the edge is, as its connections see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It has the sockets of a predecessor, which serves until this process can.
    Waiting,
    /// It accepts. Also while readiness is off already and answers say `Connection: close`.
    Serving,
    /// A successor accepts from the same sockets; this process does not any more. Connections stay.
    Shut,
    /// Nothing is accepted; idle connections are closed and those of HTTP/2 told to go (GOAWAY).
    Closing,
}

/// Tells the stage. Clones share it.
#[derive(Debug, Clone)]
pub struct Drain {
    stage: watch::Sender<Stage>,
    leaving: InFlight,
}

impl Drain {
    /// Begins at this stage.
    pub fn at(stage: Stage) -> Self {
        Self {
            stage: watch::Sender::new(stage),
            leaving: InFlight::default(),
        }
    }

    /// The present stage.
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Goes on to `stage`; never back.
    pub fn go(&self, stage: Stage) {
        self.stage.send_if_modified(|now| {
            let later = stage > *now;
            *now = stage.max(*now);
            later
        });
    }

    /// Returns once this process is to accept, or is past that.
    pub async fn serving(&self) {
        self.reached(Stage::Serving).await;
    }

    /// Returns once nothing is to be accepted.
    pub async fn shut(&self) {
        self.reached(Stage::Shut).await;
    }

    /// Returns once connections are to be closed.
    pub async fn closing(&self) {
        self.reached(Stage::Closing).await;
    }

    async fn reached(&self, stage: Stage) {
        // The sender is ours, so the wait cannot fail.
        let _ = self.stage.subscribe().wait_for(|now| *now >= stage).await;
    }

    /// Counts a connection that was told to go, until the guard is dropped.
    pub fn leave(&self) -> Entered {
        self.leaving.enter()
    }

    /// Returns once every connection that was told to go has gone, or after `limit`.
    pub async fn left(&self, limit: Duration) {
        // Whoever is still there after that is not waited for.
        let _ = self.leaving.ended(limit).await;
    }
}

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

    #[tokio::test]
    async fn stages_only_go_forward() {
        let drain = Drain::at(Stage::Waiting);
        drain.go(Stage::Serving);
        drain.serving().await;
        let waiting = tokio::spawn({
            let drain = drain.clone();
            async move { drain.closing().await }
        });
        drain.go(Stage::Shut);
        drain.shut().await;
        assert!(!waiting.is_finished());
        drain.go(Stage::Closing);
        waiting.await.unwrap();
        drain.go(Stage::Shut);
        assert_eq!(drain.stage(), Stage::Closing);
    }
}
