//! What the leader does on the side: measures how far each target is behind, and deletes what all have received.

use std::{convert::Infallible, time::Duration};

use authsome_db::DbError;
use sqlx::PgPool;
use tokio::time::MissedTickBehavior;

use super::Relay;
use crate::db::outbox;

/// Between two measurements.
const MEASURE: Duration = Duration::from_secs(2);

/// How long delivered entries stay: edges that lost the feed read them from Postgres, and people look at them.
const KEEP: Duration = Duration::from_hours(1);

/// Entries deleted in one statement, so that no lock is held for long.
const BATCH: i64 = 1_000;

/// Works until it is dropped. A failure here is tried again at the next tick.
pub(super) async fn run(relay: &Relay, pool: &PgPool) -> Infallible {
    let mut tick = tokio::time::interval(MEASURE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = once(relay, pool).await {
            tracing::debug!(%error, "the outbox could not be measured or pruned");
        }
    }
}

async fn once(relay: &Relay, pool: &PgPool) -> Result<(), DbError> {
    let mut connection = pool.acquire().await?;
    for lag in outbox::lags(&mut connection).await? {
        relay.metrics.lag(&lag.target, lag.rows, lag.seconds);
    }
    let pruned = outbox::prune(&mut connection, KEEP.as_secs_f64(), BATCH).await?;
    relay.metrics.pruned.inc_by(pruned);
    Ok(())
}
