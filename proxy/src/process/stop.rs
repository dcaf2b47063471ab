//! Stopping, in order: nothing new is accepted, requests end, what is still open at the deadline is closed, the counters are
//! sent. What does not end in time is logged and ends with the process.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::EdgeError;
use crate::drain::{Drain, InFlight, Stage};
use crate::live::Live;
use crate::store::StoreError;

/// Kept from the stop's deadline for the counters, however long requests take.
pub(super) const FLUSH: Duration = Duration::from_secs(6);
/// For connections that are closed at the deadline to be counted and logged.
const CLOSED: Duration = Duration::from_secs(1);
/// Kept from the stop's deadline for the process itself.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// For connections of HTTP/2 that were told to go: so long a request may be on its way that was sent before that was heard.
const FAREWELL: Duration = Duration::from_secs(2);

/// The parts that stopping needs.
pub(super) struct Running {
    pub(super) in_flight: InFlight,
    pub(super) drain: Drain,
    pub(super) live: Live,
    /// Ends the forwarding library's own services.
    pub(super) terminate: watch::Sender<bool>,
    pub(super) stop_store: watch::Sender<bool>,
    /// How long requests may take from then on.
    pub(super) requests: Duration,
    /// When all of it must be over.
    pub(super) deadline: Duration,
}

impl Running {
    /// Runs until the soft stop, then ends everything in order.
    pub(super) async fn until(
        self,
        soft: CancellationToken,
        server_ended: oneshot::Receiver<()>,
        mut store: oneshot::Receiver<Result<(), StoreError>>,
    ) -> Result<(), EdgeError> {
        tokio::select! {
            () = soft.cancelled() => {}
            _ = server_ended => return Err(EdgeError::ServerEnded),
            ended = &mut store => return Err(match ended {
                Ok(Err(error)) => error.into(),
                Ok(Ok(())) | Err(_) => StoreError::Part { part: "the store", source: None }.into(),
            }),
        }
        let began = Instant::now();
        self.drain.go(Stage::Closing);
        self.terminate.send_replace(true);
        self.drain.left(FAREWELL.min(self.requests)).await;
        if let Err(left) = self.in_flight.ended(self.requests).await {
            tracing::warn!(requests = left, "requests are cut off: they did not end in time");
            self.live.end_all();
            // Those that do not end now end with the process.
            let _ = self.in_flight.ended(CLOSED).await;
        }
        self.stop_store.send_replace(true);
        // What is not sent now is sent at the next start: nothing that the stop should fail for.
        let left = self.deadline.saturating_sub(began.elapsed() + LAST_WORDS);
        match tokio::time::timeout(FLUSH.min(left), store).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => return Err(error.into()),
            Ok(Err(_)) | Err(_) => {
                tracing::warn!("the store did not end in time; what it has not sent is sent at the next start");
            }
        }
        Ok(())
    }
}

/// Tells Pingora's own services to stop.
pub(super) struct Terminate(pub(super) watch::Receiver<bool>);

#[async_trait]
impl ShutdownSignalWatch for Terminate {
    async fn recv(&self) -> ShutdownSignal {
        let mut terminated = self.0.clone();
        // An error means that the main thread is gone, and the process with it.
        let _ = terminated.wait_for(|stop| *stop).await;
        ShutdownSignal::GracefulTerminate
    }
}
