//! How a target follows the outbox: prepare, deliver in order, move the cursor, beat once a second, and start over after a
//! failure. An operator's request for a rewrite makes it start over too, and is fulfilled with the whole table.

use std::time::Duration;

use authsome_db::DbError;
use sqlx::PgPool;
use tokio::sync::watch;

use super::{RETRY, Relay};
use crate::db::outbox::{self, Entry, Pulse, Target};
use crate::db::rebuild;

/// Entries in one batch.
const BATCH: i64 = 500;

/// Between two beats, by the database's clock. A little less than a second, since pulses come at their own pace.
const BEAT_MS: u64 = 950;

/// One delivery, whole-table rewrite aside, takes no longer than this.
const DELIVERY: Duration = Duration::from_secs(15);

/// Somebody else leads.
#[derive(Debug)]
pub(super) struct Deposed;

/// Why a delivery failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeliveryError {
    /// Postgres, where the records are.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Redis.
    #[error("redis: {0}")]
    Redis(#[from] fred::error::Error),
    /// NATS.
    #[error("nats: {0}")]
    Nats(#[source] async_nats::Error),
    /// What should be sent has no JSON form.
    #[error("cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The target lost what it had.
    #[error("the target lost data: {0}")]
    Lost(&'static str),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// The database was restored.
    #[error("the restore epoch is now {0}")]
    Epoch(i64),
    /// Somebody else publishes.
    #[error("the stream has another publisher")]
    Deposed,
}

impl DeliveryError {
    /// From any error of the NATS client.
    pub(super) fn nats(error: impl Into<async_nats::Error>) -> Self {
        Self::Nats(error.into())
    }
}

/// A target of the outbox.
pub(super) trait Receiver {
    /// Its name and cursor.
    const TARGET: Target;

    /// Makes the target ready: its place exists and holds all that Postgres had at some position, which is returned.
    /// Rewrites the whole table if the target has none or lost some, or if [`Pulse::rebuild`] asks for it. May take minutes.
    async fn prepare(&mut self, pulse: Pulse, cursor: i64) -> Result<i64, DeliveryError>;

    /// Delivers these, in order. On `Ok` the target holds them, or newer ones.
    async fn deliver(&mut self, entries: &[Entry], pulse: Pulse) -> Result<(), DeliveryError>;

    /// Tells the target's readers, at the time of `pulse`, that it holds everything up to `position`.
    async fn beat(&mut self, pulse: Pulse, position: i64) -> Result<(), DeliveryError>;
}

/// Why a round of following ended without a failure.
enum Ended {
    Deposed,
    /// A rewrite is asked for.
    Rebuild,
}

/// Follows the outbox until somebody else turns out to lead.
pub(super) async fn follow<R: Receiver>(
    relay: &Relay,
    pool: &PgPool,
    mut pulses: watch::Receiver<Pulse>,
    mut receiver: R,
) -> Deposed {
    let mut failed = 0;
    loop {
        let error = match follow_once(relay, pool, &mut pulses, &mut receiver, &mut failed).await {
            Ok(Ended::Deposed) | Err(DeliveryError::Deposed) => return Deposed,
            Ok(Ended::Rebuild) => continue,
            Err(error) => error,
        };
        relay.metrics.failed(R::TARGET);
        if pulses.borrow().rebuild(R::TARGET).is_some() {
            tell_failure(pool, R::TARGET, &error).await;
        }
        // The first failure is news; the rest of the same outage shows in the metrics.
        if failed == 0 {
            tracing::warn!(target_name = R::TARGET.as_str(), %error, "delivery failed; trying again");
        } else {
            tracing::debug!(target_name = R::TARGET.as_str(), %error, failed, "delivery failed; trying again");
        }
        tokio::time::sleep(RETRY.delay(failed, relay.entropy.as_ref())).await;
        failed = failed.saturating_add(1);
    }
}

async fn follow_once<R: Receiver>(
    relay: &Relay,
    pool: &PgPool,
    pulses: &mut watch::Receiver<Pulse>,
    receiver: &mut R,
    failed: &mut u32,
) -> Result<Ended, DeliveryError> {
    let start = *pulses.borrow_and_update();
    let cursor = outbox::cursor(&mut *connection(pool).await?, R::TARGET).await?;
    let mut position = receiver.prepare(start, cursor).await?;
    outbox::advance(&mut *connection(pool).await?, R::TARGET, position).await?;
    let rebuilt = start.rebuild(R::TARGET);
    if let Some(id) = rebuilt {
        rebuild::finish(&mut *connection(pool).await?, R::TARGET, id).await?;
    }
    let mut beaten: Option<i64> = None;
    loop {
        let mut pulse = *pulses.borrow_and_update();
        loop {
            if pulse.epoch != start.epoch {
                return Err(DeliveryError::Epoch(pulse.epoch));
            }
            // A pulse may still show the request that was just fulfilled.
            if pulse.rebuild(R::TARGET) > rebuilt {
                return Ok(Ended::Rebuild);
            }
            if beaten.is_none_or(|at| at.abs_diff(pulse.database_time_ms) >= BEAT_MS) {
                bounded(receiver.beat(pulse, position)).await?;
                beaten = Some(pulse.database_time_ms);
                if *failed > 0 {
                    tracing::info!(target_name = R::TARGET.as_str(), position, "delivery works again");
                    *failed = 0;
                }
            }
            if position >= pulse.last {
                break;
            }
            let entries = outbox::entries_after(&mut *connection(pool).await?, position, BATCH).await?;
            if let Some(last) = entries.last() {
                bounded(receiver.deliver(&entries, pulse)).await?;
                position = last.position;
            } else {
                // Pruned: they were delivered before the cursor was set.
                position = pulse.last;
            }
            outbox::advance(&mut *connection(pool).await?, R::TARGET, position).await?;
            relay.metrics.delivered(R::TARGET, entries.len());
            pulse = *pulses.borrow_and_update();
        }
        if pulses.changed().await.is_err() {
            return Ok(Ended::Deposed);
        }
    }
}

/// Best effort: whoever waits for the rewrite learns why it takes so long.
async fn tell_failure(pool: &PgPool, target: Target, error: &DeliveryError) {
    let told = async { rebuild::fail(&mut *connection(pool).await?, target, &error.to_string()).await };
    if let Ok(Err(error)) = tokio::time::timeout(DELIVERY, told).await {
        tracing::debug!(%error, "the failure of a rewrite could not be recorded");
    }
}

async fn connection(pool: &PgPool) -> Result<sqlx::pool::PoolConnection<sqlx::Postgres>, DbError> {
    Ok(pool.acquire().await?)
}

async fn bounded(work: impl Future<Output = Result<(), DeliveryError>>) -> Result<(), DeliveryError> {
    tokio::time::timeout(DELIVERY, work)
        .await
        .map_err(|_| DeliveryError::Silent(DELIVERY))?
}
