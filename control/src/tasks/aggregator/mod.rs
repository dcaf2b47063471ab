//! The aggregator: merges the usage counters that edges report into Postgres.
//!
//! Reports wait in the `USAGE` stream, shared by all replicas through one durable consumer, and are acknowledged after
//! their transaction has committed. Values are absolute, so a report that comes twice, late or out of order changes
//! nothing. Postgres down: reports wait in the stream for up to seven days, and the edges keep their counters until they
//! are confirmed. NATS down: the edges keep them.

mod metrics;
mod report;
mod thresholds;

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{
    self, AckKind,
    consumer::{AckPolicy, PullConsumer, pull},
    stream::{Config, RetentionPolicy, StorageType},
};
use authsome_contract::wire::{UsageConfirmation, names};
use authsome_core::{clock::Clock, entropy::Entropy, retry::Backoff};
use authsome_db::DbError;
use futures::StreamExt;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

pub use metrics::AggregatorMetrics;

use super::TaskError;
use crate::db::usage;
use report::Merge;

/// Reports in one transaction. With 512 counters each, a transaction has at most 16,384 rows.
const BATCH: usize = 32;

/// How long one look waits for the first report. Afterwards stream and consumer are made sure of again.
const WAIT: Duration = Duration::from_secs(5);

/// How long after [`WAIT`] the server's word that there was none may take. A pull whose stream was lost meanwhile gets no word
/// at all, and is given up then.
const GRACE: Duration = Duration::from_secs(2);

/// How long the rest of a batch, an answer of JetStream, or a transaction may take.
const ANSWER: Duration = Duration::from_secs(15);

/// After a failure.
const RETRY: Backoff = Backoff {
    base: Duration::from_millis(100),
    factor: 2.0,
    max: Duration::from_secs(5),
};

/// What the aggregator works with.
pub struct Aggregator {
    /// The control database.
    pub pool: PgPool,
    /// NATS, from [`connect::nats`](super::connect::nats).
    pub nats: async_nats::Client,
    /// To tell an hour that cannot be.
    pub clock: Arc<dyn Clock>,
    /// For waits with jitter.
    pub entropy: Arc<dyn Entropy>,
    /// What it measures.
    pub metrics: AggregatorMetrics,
}

#[derive(Debug, thiserror::Error)]
enum AggregatorError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error("nats: {0}")]
    Nats(#[source] async_nats::Error),
    #[error("no answer within {ANSWER:?}")]
    Silent,
}

impl AggregatorError {
    fn nats(error: impl Into<async_nats::Error>) -> Self {
        Self::Nats(error.into())
    }
}

impl Aggregator {
    /// Merges reports until `stop`. What is fetched and not yet acknowledged then comes again elsewhere.
    pub async fn run(self, stop: CancellationToken) -> Result<(), TaskError> {
        stop.run_until_cancelled(Box::pin(self.batches())).await;
        Ok(())
    }

    async fn batches(&self) {
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(Duration::from_secs(3))
            .build(self.nats.clone());
        let mut failed = 0;
        loop {
            let error = match self.take_batches(&jetstream, &mut failed).await {
                Ok(()) => continue,
                Err(error) => error,
            };
            self.metrics.failures.inc();
            if failed == 0 {
                tracing::warn!(%error, "usage reports cannot be merged; trying again");
            }
            tokio::time::sleep(RETRY.delay(failed, self.entropy.as_ref())).await;
            failed = failed.saturating_add(1);
        }
    }

    /// Batch after batch, until there was none for a while.
    async fn take_batches(&self, jetstream: &jetstream::Context, failed: &mut u32) -> Result<(), AggregatorError> {
        let consumer = consumer(jetstream).await?;
        loop {
            let messages = fetch(&consumer).await?;
            if messages.is_empty() {
                return Ok(());
            }
            tokio::time::timeout(ANSWER, self.take(&messages))
                .await
                .map_err(|_| AggregatorError::Silent)??;
            if std::mem::take(failed) > 0 {
                tracing::info!("usage reports are merged again");
            }
        }
    }

    async fn take(&self, messages: &[jetstream::Message]) -> Result<(), AggregatorError> {
        let payloads: Vec<&[u8]> = messages.iter().map(|message| message.payload.as_ref()).collect();
        match self.merge(&payloads).await {
            Ok(confirmations) => {
                for message in messages {
                    message.ack().await.map_err(AggregatorError::Nats)?;
                }
                self.confirm(confirmations).await
            }
            Err(AggregatorError::Db(error)) if !error.is_unavailable() => self.take_singly(messages, &error).await,
            Err(error) => Err(error),
        }
    }

    /// The database refused the batch as such. One report of it must not hold up the others for ever.
    async fn take_singly(&self, messages: &[jetstream::Message], refused: &DbError) -> Result<(), AggregatorError> {
        tracing::warn!(error = %refused, "a batch of usage reports was refused; merging them one by one");
        for message in messages {
            match self.merge(&[&message.payload]).await {
                Ok(confirmations) => {
                    message.ack().await.map_err(AggregatorError::Nats)?;
                    self.confirm(confirmations).await?;
                }
                Err(AggregatorError::Db(error)) if !error.is_unavailable() => {
                    let report = String::from_utf8_lossy(&message.payload);
                    tracing::error!(%error, %report, "the database refuses a usage report; it is given up");
                    self.metrics.refused("database");
                    message.ack_with(AckKind::Term).await.map_err(AggregatorError::Nats)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One transaction. Returns what may be confirmed once it has committed: it has.
    async fn merge(&self, payloads: &[&[u8]]) -> Result<Vec<(uuid::Uuid, UsageConfirmation)>, AggregatorError> {
        let merge = Merge::of(payloads, self.clock.now(), &self.metrics);
        let standing = if merge.counters().is_empty() {
            Vec::new()
        } else {
            let mut transaction = self.pool.begin().await.map_err(DbError::from)?;
            let standing = usage::merge(&mut transaction, merge.counters()).await?;
            thresholds::tell(&mut transaction, &*self.clock, &*self.entropy, &standing).await?;
            transaction.commit().await.map_err(DbError::from)?;
            standing
        };
        self.metrics.reports.inc_by(payloads.len() as u64);
        Ok(merge.confirmations(&standing, &self.metrics))
    }

    async fn confirm(&self, confirmations: Vec<(uuid::Uuid, UsageConfirmation)>) -> Result<(), AggregatorError> {
        for (writer, confirmation) in confirmations {
            match serde_json::to_vec(&confirmation) {
                Ok(payload) => {
                    let subject = names::usage_confirmed(writer);
                    self.nats
                        .publish(subject, payload.into())
                        .await
                        .map_err(AggregatorError::nats)?;
                }
                Err(error) => tracing::error!(%writer, %error, "usage confirmation cannot be written as JSON"),
            }
        }
        Ok(())
    }
}

/// The shared consumer; makes stream and consumer where they are absent.
async fn consumer(jetstream: &jetstream::Context) -> Result<PullConsumer, AggregatorError> {
    let stream = jetstream
        .get_or_create_stream(Config {
            name: names::USAGE_STREAM.to_owned(),
            subjects: vec![names::USAGE_SUBJECTS.to_owned()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            max_age: Duration::from_hours(7 * 24),
            ..Config::default()
        })
        .await
        .map_err(AggregatorError::nats)?;
    let config = pull::Config {
        durable_name: Some(names::USAGE_CONSUMER.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: Duration::from_secs(30),
        max_ack_pending: 4_096,
        ..pull::Config::default()
    };
    stream
        .get_or_create_consumer(names::USAGE_CONSUMER, config)
        .await
        .map_err(AggregatorError::nats)
}

/// Waits for a report, then takes what else is there.
async fn fetch(consumer: &PullConsumer) -> Result<Vec<jetstream::Message>, AggregatorError> {
    let first = consumer
        .batch()
        .max_messages(1)
        .expires(WAIT)
        .messages()
        .await
        .map_err(AggregatorError::nats)?;
    let mut messages = collect(first, WAIT + GRACE).await?;
    if !messages.is_empty() {
        let rest = consumer
            .fetch()
            .max_messages(BATCH - 1)
            .messages()
            .await
            .map_err(AggregatorError::nats)?;
        messages.extend(collect(rest, ANSWER).await?);
    }
    Ok(messages)
}

async fn collect(mut batch: pull::Batch, patience: Duration) -> Result<Vec<jetstream::Message>, AggregatorError> {
    let mut messages = Vec::new();
    let all = async {
        while let Some(message) = batch.next().await {
            messages.push(message.map_err(AggregatorError::Nats)?);
        }
        Ok(())
    };
    match tokio::time::timeout(patience, all).await {
        // What came before an error or a silence is worth taking.
        _ if !messages.is_empty() => Ok(messages),
        Ok(outcome) => outcome.map(|()| messages),
        Err(_) => Err(AggregatorError::Silent),
    }
}
