//! The publisher: tells the counters to JetStream, hears what is confirmed, takes over dead writers' files, adds files ahead
//! of need.
//!
//! One round a second. NATS away, the stream not made yet, an acknowledgement missing: the same values are told again in
//! the next round. At shutdown everything is told once more within a deadline; what is not confirmed stays in the file,
//! and the successor tells it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream;
use authsome_contract::wire::{UsageConfirmation, UsageReport, names};
use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use futures::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

use super::file;
use super::hour_of;
use super::ledger::Ledger;
use super::metrics::MeterMetrics;
use super::outstanding::Outstanding;

const ROUND: Duration = Duration::from_secs(1);
/// For each acknowledgement.
const ACK: Duration = Duration::from_secs(2);
/// An hour is over this long after its end, so that a request that read the clock just before is counted in it.
const AFTER_HOUR_MS: i64 = 5_000;
/// How often to look for files whose writers have died.
const TAKE_OVER: Duration = Duration::from_secs(30);
/// How long the sending of one round may take; what is left is sent in the next.
const SENDING: Duration = Duration::from_secs(4);
/// How long telling everything at the end may take.
const FAREWELL: Duration = Duration::from_secs(4);
/// Reports on their way at once.
const IN_FLIGHT: usize = 16;

/// Tells what a [`Meter`](super::Meter) counts.
pub struct Publisher {
    ledger: Arc<Ledger>,
    directory: PathBuf,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: MeterMetrics,
    outstanding: Outstanding,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

type Confirmed = (Uuid, UsageConfirmation);

enum Event {
    Round,
    Confirmed(Uuid, UsageConfirmation),
}

/// Returns once the flag is true or its owner is gone.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

impl Publisher {
    pub(super) fn new(
        ledger: Arc<Ledger>,
        directory: PathBuf,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: MeterMetrics,
    ) -> Self {
        let outstanding = Outstanding::new(Arc::clone(&ledger));
        Self {
            ledger,
            directory,
            clock,
            entropy,
            metrics,
            outstanding,
        }
    }

    /// Publishes until `shutdown` holds true (or its sender is gone), then once more everything. To be stopped after the last
    /// request was counted.
    pub async fn run(mut self, nats: async_nats::Client, mut shutdown: watch::Receiver<bool>) {
        let mut context = jetstream::new(nats.clone());
        context.set_timeout(ACK);
        let (confirmations, mut confirmed) = mpsc::channel::<Confirmed>(64);
        let mut hearing = Hearing {
            nats: nats.clone(),
            confirmations,
            writers: HashMap::new(),
        };
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked: Option<Instant> = None;
        loop {
            let event = tokio::select! {
                () = stopped(&mut shutdown) => break,
                Some((writer, confirmation)) = confirmed.recv() => Event::Confirmed(writer, confirmation),
                _ = rounds.tick() => Event::Round,
            };
            match event {
                Event::Confirmed(writer, confirmation) => self.settle(writer, &confirmation),
                Event::Round => {
                    if looked.is_none_or(|at| at.elapsed() >= TAKE_OVER) {
                        looked = Some(Instant::now());
                        self.take_over().await;
                    }
                    self.extend().await;
                    let over_ms = self.clock.unix_millis().saturating_sub(AFTER_HOUR_MS);
                    self.outstanding.next_round(hour_of(over_ms).saturating_sub(1));
                    hearing.listen_to(&self.outstanding.writers());
                    self.tell(&nats, &context).await;
                    self.metrics
                        .set_counters(self.ledger.used(), self.outstanding.inherited());
                }
            }
        }
        self.farewell(&nats, &context, &mut confirmed).await;
    }

    /// Sends what is due. True when all of it is acknowledged.
    async fn tell(&mut self, nats: &async_nats::Client, context: &jetstream::Context) -> bool {
        let due = self.outstanding.due();
        if due.is_empty() {
            return true;
        }
        // What is sent while there is no connection would pile up in the client, and its values would be old.
        if nats.connection_state() != State::Connected {
            self.metrics.reported(false);
            return false;
        }
        let mut sent = futures::stream::iter(due)
            .map(|report| send(context, report))
            .buffer_unordered(IN_FLIGHT);
        let mut complete = true;
        let end = Instant::now() + SENDING;
        loop {
            let outcome = match tokio::time::timeout_at(end, sent.next()).await {
                Ok(Some(outcome)) => outcome,
                Ok(None) => return complete,
                Err(_) => return false,
            };
            self.metrics.reported(outcome.is_ok());
            match outcome {
                Ok(report) => self.outstanding.acknowledged(&report),
                Err(error) => {
                    tracing::debug!(%error, "a usage report was not acknowledged and is sent again");
                    complete = false;
                }
            }
        }
    }

    fn settle(&mut self, writer: Uuid, confirmation: &UsageConfirmation) {
        self.metrics.freed(self.outstanding.confirmed(writer, confirmation));
    }

    async fn take_over(&mut self) {
        let directory = self.directory.clone();
        let found = match tokio::task::spawn_blocking(move || file::take_over(&directory)).await {
            Ok(found) => found,
            Err(error) => return tracing::error!(%error, "looking for counter files failed"),
        };
        self.metrics.taken_over(found.predecessors.len(), found.corrupt);
        for predecessor in found.predecessors {
            let (writer, counters) = (predecessor.writer, predecessor.counters.len());
            if self.outstanding.inherit(predecessor) {
                tracing::info!(%writer, counters, "took over the counter file of a writer that ended");
            }
        }
    }

    async fn extend(&mut self) {
        if !self.ledger.is_short() {
            return;
        }
        let (ledger, entropy) = (Arc::clone(&self.ledger), Arc::clone(&self.entropy));
        match tokio::task::spawn_blocking(move || ledger.extend(&*entropy)).await {
            Ok(Ok(())) => tracing::info!("added a counter file"),
            Ok(Err(error)) => tracing::debug!(%error, "a counter file cannot be made"),
            Err(error) => tracing::error!(%error, "adding a counter file failed"),
        }
    }

    /// The last round, repeated until everything is acknowledged or time is up. The file stays for the successor, which tells
    /// its values as final, unless it holds nothing.
    async fn farewell(
        &mut self,
        nats: &async_nats::Client,
        context: &jetstream::Context,
        confirmed: &mut mpsc::Receiver<Confirmed>,
    ) {
        let told = tokio::time::timeout(FAREWELL, async {
            while !self.tell(nats, context).await {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        if told.await.is_err() {
            tracing::warn!("not all usage was acknowledged at the end; the counter file keeps it");
        }
        while let Ok((writer, confirmation)) = confirmed.try_recv() {
            self.settle(writer, &confirmation);
        }
        for segment in self.ledger.segments() {
            let empty = segment.touched().iter().all(|cell| cell.owner().is_none());
            if empty {
                segment.remove_file();
            } else if !segment.is_on_disk() {
                tracing::warn!(writer = %segment.writer, "usage counted in memory ends with this process");
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("encode: {0}")]
    Encode(#[from] serde_json::Error),
    #[error("publish: {0}")]
    Publish(#[from] jetstream::context::PublishError),
    #[error("no acknowledgement")]
    Timeout(#[from] tokio::time::error::Elapsed),
}

async fn send(context: &jetstream::Context, report: UsageReport) -> Result<UsageReport, SendError> {
    let payload = serde_json::to_vec(&report)?;
    let publish = async {
        let acknowledgement = context
            .publish(names::usage_counters(report.writer), payload.into())
            .await?;
        acknowledgement.await
    };
    tokio::time::timeout(ACK, publish).await??;
    Ok(report)
}

/// Subscriptions to the confirmations of the writers that matter, each with a task that passes them on.
struct Hearing {
    nats: async_nats::Client,
    confirmations: mpsc::Sender<Confirmed>,
    writers: HashMap<Uuid, Subscription>,
}

struct Subscription(AbortHandle);

impl Drop for Subscription {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Hearing {
    fn listen_to(&mut self, writers: &[Uuid]) {
        self.writers
            .retain(|writer, subscription| writers.contains(writer) && !subscription.0.is_finished());
        for writer in writers {
            let (nats, confirmations) = (&self.nats, &self.confirmations);
            self.writers.entry(*writer).or_insert_with(|| {
                Subscription(tokio::spawn(pass_on(nats.clone(), *writer, confirmations.clone())).abort_handle())
            });
        }
    }
}

/// Ends only when it cannot go on; it is then started again in the next round.
async fn pass_on(nats: async_nats::Client, writer: Uuid, confirmations: mpsc::Sender<Confirmed>) {
    let subscription = tokio::time::timeout(ACK, nats.subscribe(names::usage_confirmed(writer))).await;
    let Ok(Ok(mut messages)) = subscription else { return };
    while let Some(message) = messages.next().await {
        match serde_json::from_slice(&message.payload) {
            Ok(confirmation) => {
                if confirmations.send((writer, confirmation)).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::error!(%error, "a usage confirmation cannot be understood and is skipped"),
        }
    }
}
