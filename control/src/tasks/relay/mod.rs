//! The relay: brings what is committed in Postgres to Redis, to the `EDGE` stream and to the `JOBS` queue.
//!
//! Every replica runs one; the one that holds an advisory lock leads, the others wait for it. The leader gives committed
//! outbox rows dense positions (`positions`) and three receivers (`redis`, `stream`, `jobs`) follow, each on its
//! own cursor and with its own retries, so that a dead Redis never delays JetStream.
//!
//! What protects against two leaders: positions are given on the session that holds the lock; JetStream refuses a publish
//! that expects another last sequence; Redis compares versions; cursors only grow. Postgres down: nothing commits, so there
//! is nothing to relay; edges see the heartbeat stop and keep what they have.

mod delivery;
mod jobs;
mod leader;
mod metrics;
mod positions;
mod records;
mod redis;
mod stream;
mod tombstones;
mod upkeep;

use std::{sync::Arc, time::Duration};

use authsome_core::{entropy::Entropy, retry::Backoff};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio_util::sync::CancellationToken;

pub use metrics::RelayMetrics;

use super::TaskError;

/// Between two terms, and between two attempts of a receiver.
const RETRY: Backoff = Backoff {
    base: Duration::from_millis(50),
    factor: 2.0,
    max: Duration::from_secs(2),
};

/// What the relay works with.
pub struct Relay {
    /// The control database. Only its connection options are used: the relay has connections of its own, so that a flood
    /// of API requests cannot delay a revocation.
    pub pool: PgPool,
    /// Redis, from [`connect::redis`](super::connect::redis).
    pub redis: fred::clients::Client,
    /// NATS, from [`connect::nats`](super::connect::nats).
    pub nats: async_nats::Client,
    /// For waits with jitter.
    pub entropy: Arc<dyn Entropy>,
    /// What it measures.
    pub metrics: RelayMetrics,
}

impl Relay {
    /// Leads, or waits to lead, until `stop`. Nothing needs to be finished then: whoever leads next continues.
    pub async fn run(self, stop: CancellationToken) -> Result<(), TaskError> {
        let pool = PgPoolOptions::new()
            .max_connections(5)
            .acquire_timeout(Duration::from_secs(3))
            .connect_lazy_with((*self.pool.connect_options()).clone());
        stop.run_until_cancelled(Box::pin(leader::terms(&self, &pool))).await;
        Ok(())
    }
}
