//! Jobs from JetStream: a wake-up, nothing more.
//!
//! Owns the durable pull consumer of the region, and what is said to the server of each message:
//! progress while it is worked on, acknowledgement once nothing is left to do, a delayed return otherwise. The operation
//! itself, its attempts and who may work on it are in Postgres, so a message that is late, doubled or lost changes nothing
//! but the time it takes: without NATS the reconciler does the work, a few seconds later.
//!
//! Pull consumers are known to fall silent after reconnects, lame-duck servers and wiped stores. So nothing here waits on a
//! long-lived subscription: every pull asks for one message and ends within ten seconds; one that the server did not end in
//! time, any error and every reconnect make the stream and the consumer anew before the next pull. Idle heartbeats are not
//! used: async-nats 0.51's `Batch` forgets to wake its task after one, and a message that follows is seen only when the
//! pull times out.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{RetentionPolicy, StorageType};
use async_nats::jetstream::{self, AckKind, Message};
use authsome_contract::wire::{Job, names};
use authsome_core::error::Chain;
use authsome_core::retry::{Backoff, Dependency, until_ready};
use authsome_core::secret::SecretUrl;
use futures::StreamExt;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::execution::{Engine, Execution};
use crate::metrics::JobOutcome;
use crate::nats::{self, ANSWER};

/// A message that was neither acknowledged nor reported in progress for this long goes to another worker.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// How long the stream knows a job again that was published twice; as the relay has it.
const REMEMBER: Duration = Duration::from_mins(2);
/// How often the server is told that a message is worked on. Twice it may be lost.
const PROGRESS: Duration = Duration::from_secs(10);
/// How long one pull waits for a message. The server ends it then, and is taken for gone [`GRACE`] later.
const PULL: Duration = Duration::from_secs(10);
/// How late the server's end of a pull may be.
const GRACE: Duration = Duration::from_secs(2);
/// A message whose application another worker has comes back after at most this.
const BUSY: Duration = Duration::from_secs(5);
/// A message that could not be worked on, for want of Postgres, comes back after this.
const UNAVAILABLE: Duration = Duration::from_secs(5);
/// A message whose worker lost its lease comes back after this.
const FENCED: Duration = Duration::from_secs(1);

/// Why the consumer is made anew.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("stream: {0}")]
    Stream(#[source] jetstream::context::CreateStreamError),
    #[error("consumer: {0}")]
    Consumer(#[source] jetstream::stream::ConsumerError),
    #[error("pull: {0}")]
    Pull(#[source] async_nats::Error),
    #[error("the server did not answer within {0:?}")]
    Silent(Duration),
    #[error("the connection was made again")]
    Reconnected,
}

/// Takes jobs of one region.
pub struct Consumer {
    /// Carries out one operation.
    pub engine: Arc<Engine>,
    /// The region whose jobs are taken.
    pub region: String,
    /// Where NATS is; several addresses separated by commas.
    pub nats: SecretUrl,
    /// One permit for each operation at a time, shared with the reconciler.
    pub permits: Arc<Semaphore>,
}

impl Consumer {
    /// Takes jobs until `soft`; then waits for what was begun, which ends after its present step.
    pub async fn run(self, soft: CancellationToken) {
        let mut jobs = JoinSet::new();
        // Never `Ok`: it runs until it is stopped.
        let _ = soft.run_until_cancelled(Box::pin(self.take(&mut jobs, &soft))).await;
        self.engine.metrics.connected(false);
        while jobs.join_next().await.is_some() {}
    }

    async fn take(&self, jobs: &mut JoinSet<()>, soft: &CancellationToken) -> Option<Infallible> {
        let reconnected = Arc::new(Notify::new());
        let server = Dependency::new("NATS", &self.nats);
        let entropy = &*self.engine.entropy;
        let connecting = || nats::connect(&self.nats, Arc::clone(&reconnected));
        let client = until_ready(&server, Backoff::CONNECT, entropy, soft, connecting)
            .await
            .ok()?;
        let mut context = jetstream::new(client);
        context.set_timeout(ANSWER);

        let mut failures = 0;
        loop {
            let trouble = match self.prepare(&context).await {
                Ok(consumer) => {
                    failures = 0;
                    self.engine.metrics.consumer_made();
                    self.engine.metrics.connected(true);
                    self.follow(&consumer, &reconnected, jobs).await
                }
                Err(trouble) => trouble,
            };
            self.engine.metrics.connected(false);
            if matches!(trouble, Trouble::Reconnected) {
                tracing::info!("connected to NATS; making the consumer anew");
                continue;
            }
            self.engine.metrics.error("consumer");
            let delay = Backoff::CONNECT.delay(failures, entropy);
            failures += 1;
            tracing::warn!(error = %Chain(&trouble), "no jobs from NATS; the reconciler goes on without");
            tokio::time::sleep(delay).await;
        }
    }

    /// The stream as the relay makes it, and the consumer of the region; both may exist.
    async fn prepare(&self, context: &jetstream::Context) -> Result<PullConsumer, Trouble> {
        let stream = jetstream::stream::Config {
            name: names::JOBS_STREAM.to_owned(),
            subjects: vec![names::JOBS_SUBJECTS.to_owned()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            duplicate_window: REMEMBER,
            ..jetstream::stream::Config::default()
        };
        let consumer = pull::Config {
            durable_name: Some(names::jobs_consumer(&self.region)),
            filter_subject: names::jobs_of_region(&self.region),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_deliver: -1,
            ..pull::Config::default()
        };
        let preparing = async {
            let stream = context.get_or_create_stream(stream).await.map_err(Trouble::Stream)?;
            stream.create_consumer(consumer).await.map_err(Trouble::Consumer)
        };
        tokio::time::timeout(ANSWER * 2, preparing)
            .await
            .unwrap_or(Err(Trouble::Silent(ANSWER * 2)))
    }

    /// Pulls one message after the other, and only while an operation more may be worked on.
    async fn follow(&self, consumer: &PullConsumer, reconnected: &Notify, jobs: &mut JoinSet<()>) -> Trouble {
        loop {
            while jobs.try_join_next().is_some() {}
            // Waited for and given back: the reconciler, too, lives off these permits, and a pull may last.
            let free = Arc::clone(&self.permits).acquire_owned();
            let pulled = tokio::select! {
                biased;
                () = reconnected.notified() => return Trouble::Reconnected,
                pulled = async { drop(free.await); pull_one(consumer).await } => pulled,
            };
            match pulled {
                Ok(Some(message)) => {
                    let (engine, permits) = (Arc::clone(&self.engine), Arc::clone(&self.permits));
                    jobs.spawn(async move { handle(&engine, &permits, &message).await });
                }
                Ok(None) => {}
                Err(trouble) => return trouble,
            }
        }
    }
}

/// One message, or none within [`PULL`].
async fn pull_one(consumer: &PullConsumer) -> Result<Option<Message>, Trouble> {
    let pulling = async {
        let batch = consumer.batch().max_messages(1).expires(PULL).messages().await;
        batch
            .map_err(|error| Trouble::Pull(Box::new(error)))?
            .next()
            .await
            .transpose()
            .map_err(Trouble::Pull)
    };
    tokio::time::timeout(PULL + GRACE, pulling)
        .await
        .unwrap_or(Err(Trouble::Silent(PULL + GRACE)))
}

/// Works on one message and tells the server what became of it.
async fn handle(engine: &Engine, permits: &Semaphore, message: &Message) {
    let job = match serde_json::from_slice::<Job>(&message.payload) {
        Ok(job) => job,
        Err(error) => {
            // The error tells where the text is wrong, not what it says.
            tracing::error!(subject = %message.subject, %error, "a message that is not a job was dropped");
            engine.metrics.job(JobOutcome::Undecodable);
            return tell_surely(message, AckKind::Term).await;
        }
    };
    let executing = async {
        // The semaphore is never closed.
        let _permit = permits.acquire().await;
        let _executing = engine.metrics.executing();
        engine.execute(job.operation_id).await
    };
    let result = tokio::select! {
        result = executing => result,
        never = report_progress(message) => match never {},
    };
    let delay = match result {
        Ok(Execution::Over) => {
            engine.metrics.job(JobOutcome::Done);
            return tell_surely(message, AckKind::Ack).await;
        }
        Ok(Execution::Later(delay)) => delay,
        Ok(Execution::Busy(remaining)) => remaining.min(BUSY),
        Ok(Execution::Stopped) => Duration::ZERO,
        Ok(Execution::Fenced) => FENCED,
        Err(error) => {
            engine.metrics.error("consumer");
            tracing::warn!(operation = %job.operation_id, error = %Chain(&error), "job not carried out; it comes back");
            UNAVAILABLE
        }
    };
    engine.metrics.job(JobOutcome::Returned);
    tell_surely(message, AckKind::Nak(Some(delay))).await;
}

/// Tells the server again and again that the message is worked on. One that does not arrive costs nothing but a second
/// delivery, which finds the lease taken.
async fn report_progress(message: &Message) -> Infallible {
    loop {
        tokio::time::sleep(PROGRESS).await;
        if let Err(error) = message.ack_with(AckKind::Progress).await {
            tracing::debug!(%error, "progress not reported");
        }
    }
}

/// Tells the server the last word on a message and waits until it has it: what a stopping process has only queued may never
/// leave it. A word that is lost costs a second delivery after [`ACK_WAIT`], which finds the operation as it is.
async fn tell_surely(message: &Message, last: AckKind) {
    match tokio::time::timeout(ANSWER, message.double_ack_with(last)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "NATS did not confirm what became of a job; it is delivered again");
        }
        Err(_) => tracing::warn!("NATS did not confirm in time what became of a job; it is delivered again"),
    }
}
