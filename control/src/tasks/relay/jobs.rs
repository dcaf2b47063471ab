//! Jobs for the provisioners: each entry once into the `JOBS` work queue.
//!
//! A job that the queue loses is enqueued again by the provisioner's reconciler; a job that is published twice within two
//! minutes is dropped by the queue, and later ones find their generation done.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::{
        self,
        stream::{Config, RetentionPolicy, StorageType},
    },
};
use authsome_contract::wire::{Job, names};

use super::{
    Relay,
    delivery::{DeliveryError, Receiver},
    metrics::RelayMetrics,
    stream::jetstream,
};
use crate::db::outbox::{Entry, Pulse, Target, Topic};

/// How long the queue remembers what it was given.
const REMEMBER: Duration = Duration::from_mins(2);

pub(super) struct Jobs {
    jetstream: jetstream::Context,
    metrics: RelayMetrics,
}

impl Jobs {
    pub(super) fn new(relay: &Relay) -> Self {
        Self {
            jetstream: jetstream(&relay.nats),
            metrics: relay.metrics.clone(),
        }
    }
}

impl Receiver for Jobs {
    const TARGET: Target = Target::Jobs;

    async fn prepare(&mut self, _: Pulse, cursor: i64) -> Result<i64, DeliveryError> {
        let config = Config {
            name: names::JOBS_STREAM.to_owned(),
            subjects: vec![names::JOBS_SUBJECTS.to_owned()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            duplicate_window: REMEMBER,
            ..Config::default()
        };
        self.jetstream
            .get_or_create_stream(config)
            .await
            .map_err(DeliveryError::nats)?;
        Ok(cursor)
    }

    async fn deliver(&mut self, entries: &[Entry], _: Pulse) -> Result<(), DeliveryError> {
        let mut acks = Vec::new();
        for entry in entries.iter().filter(|entry| entry.topic == Topic::Job) {
            let job: Job = match serde_json::from_value(entry.payload.clone().unwrap_or_default()) {
                Ok(job) => job,
                Err(error) => {
                    tracing::error!(id = entry.id, operation = entry.reference, %error, "job is not understood and is skipped");
                    self.metrics.inconsistent.inc();
                    continue;
                }
            };
            let mut headers = HeaderMap::new();
            // Each attempt of an operation is an entry of its own.
            headers.insert(NATS_MESSAGE_ID, format!("{}.{}", job.operation_id, entry.id));
            let payload = serde_json::to_vec(&job)?.into();
            let ack = self
                .jetstream
                .publish_with_headers(job.subject(), headers, payload)
                .await;
            acks.push(ack.map_err(DeliveryError::nats)?);
        }
        for ack in acks {
            ack.await.map_err(DeliveryError::nats)?;
        }
        Ok(())
    }

    /// Nobody reads a heartbeat of the queue. A queue that vanished shows at the next publish, and its jobs come back
    /// through the reconciler.
    async fn beat(&mut self, _: Pulse, _: i64) -> Result<(), DeliveryError> {
        Ok(())
    }
}
