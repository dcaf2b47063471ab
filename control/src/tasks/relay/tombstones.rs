//! Drops tombstones once nothing older can remain anywhere.
//!
//! What may still hold the row that a tombstone hides: an edge's memory and snapshot, which are not used for longer than a
//! day without being confirmed; a fill under way (seconds); a message that is delivered again (minutes). So after 25 hours
//! a tombstone hides nothing. It is dropped only where it still stands, by comparing versions, and only after both copies
//! have received everything of its time. A failure leaves it for the next round.

use std::{convert::Infallible, time::Duration};

use async_nats::jetstream::{self, stream::LastRawMessageErrorKind};
use authsome_contract::wire::{Change, change::redis_version, names};
use fred::interfaces::LuaInterface;
use sqlx::PgPool;
use tokio::time::MissedTickBehavior;

use super::{Relay, delivery::DeliveryError, records::buried, stream::jetstream};
use crate::db::tombstones::{self, Tombstone};

/// What an edge may go on without being confirmed (24 h), and an hour for clocks and slow rounds.
const AGE: Duration = Duration::from_hours(25);

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(5);

/// Tombstones in one round, so that deliveries are not held up.
const BATCH: i64 = 200;

/// One round takes no longer than this.
const PATIENCE: Duration = Duration::from_secs(15);

/// Deletes a value that begins with this version. Versions are of one row, so nothing else can have it.
const DROP: &str = r"
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])";

/// Works until it is dropped.
pub(super) async fn run(relay: &Relay, pool: &PgPool) -> Infallible {
    let mut tick = tokio::time::interval(ROUND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let jetstream = jetstream(&relay.nats);
    loop {
        tick.tick().await;
        match tokio::time::timeout(PATIENCE, once(relay, pool, &jetstream)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "tombstones could not be dropped"),
            Err(_) => tracing::debug!("tombstones could not be dropped in time"),
        }
    }
}

async fn once(relay: &Relay, pool: &PgPool, jetstream: &jetstream::Context) -> Result<(), DeliveryError> {
    let mut connection = pool.acquire().await.map_err(authsome_db::DbError::from)?;
    for tombstone in tombstones::outlived(&mut connection, AGE, BATCH).await? {
        if let Some(change) = buried(&tombstone) {
            if !from_stream(jetstream, &change).await? {
                continue;
            }
            from_redis(relay, &change).await?;
        } else {
            unknown(&tombstone);
        }
        tombstones::forget(&mut connection, &tombstone).await?;
        relay.metrics.tombstones.inc();
    }
    Ok(())
}

/// Whether it is gone there. The last message of the stream stays: by it a stream that lost its end is found out.
async fn from_stream(jetstream: &jetstream::Context, change: &Change) -> Result<bool, DeliveryError> {
    let stream = jetstream
        .get_stream(names::EDGE_STREAM)
        .await
        .map_err(DeliveryError::nats)?;
    let subject = change.subject();
    let message = match stream.get_last_raw_message_by_subject(&subject).await {
        Ok(message) => message,
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(true),
        Err(error) => return Err(DeliveryError::nats(error)),
    };
    let stands = Change::decode(&subject, &message.payload).is_ok_and(|standing| standing == *change);
    if !stands {
        // Something newer: it is not this tombstone that hides what is older.
        return Ok(true);
    }
    if message.sequence >= stream.cached_info().state.last_sequence {
        return Ok(false);
    }
    stream
        .purge()
        .filter(subject)
        .sequence(message.sequence + 1)
        .await
        .map_err(DeliveryError::nats)?;
    Ok(true)
}

async fn from_redis(relay: &Relay, change: &Change) -> Result<(), DeliveryError> {
    if let (Some(key), Some(version)) = (change.redis_key(), change.version()) {
        relay
            .redis
            .eval::<i64, _, _, _>(DROP, key, redis_version(version))
            .await?;
    }
    Ok(())
}

/// Of a neighbouring release that knows more kinds of things; that release drops it from the copies, or has.
fn unknown(tombstone: &Tombstone) {
    tracing::warn!(
        topic = tombstone.topic,
        reference = tombstone.reference,
        "a tombstone names nothing that this release knows"
    );
}
