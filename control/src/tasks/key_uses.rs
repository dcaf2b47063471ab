//! Takes from the edges which keys were used, and writes it down in batches.
//!
//! Replicas share the messages. A batch is answered once it is in Postgres; an edge that gets no answer keeps it and sends it
//! again, and the later minute wins, so nothing is counted twice. Postgres or NATS away: `lastUsedAt` is late, nothing else.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use authsome_contract::wire::{KeyUses, names};
use authsome_core::clock::Clock;
use authsome_core::id::KeyId;
use authsome_db::DbError;
use futures::StreamExt;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::TaskError;
use crate::db::key_uses;

/// For one batch.
const ANSWER: Duration = Duration::from_secs(5);
/// Before subscribing again.
const RETRY: Duration = Duration::from_secs(1);
/// How far an edge's clock may be ahead; a later use counts as at this moment.
const AHEAD: Duration = Duration::from_mins(2);

/// What the task works with.
pub struct KeyUsesTask {
    /// The control database.
    pub pool: PgPool,
    /// NATS, from [`connect::nats`](super::connect::nats).
    pub nats: async_nats::Client,
    /// To tell a time that cannot be.
    pub clock: Arc<dyn Clock>,
}

impl KeyUsesTask {
    /// Takes batches until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), TaskError> {
        stop.run_until_cancelled(self.listen()).await;
        Ok(())
    }

    async fn listen(&self) -> Infallible {
        let group = names::KEY_USES_GROUP.to_owned();
        loop {
            match self.nats.queue_subscribe(names::KEY_USES, group.clone()).await {
                Ok(mut messages) => {
                    while let Some(message) = messages.next().await {
                        self.take(&message).await;
                    }
                }
                Err(error) => tracing::debug!(%error, "cannot listen for the uses of keys; trying again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn take(&self, message: &Message) {
        match tokio::time::timeout(ANSWER, self.write(&message.payload)).await {
            Ok(Ok(())) => {}
            // What the database refuses as such would be refused again.
            Ok(Err(error)) if !error.is_unavailable() => {
                tracing::error!(%error, "the database refuses the uses of some keys; they are given up");
            }
            Ok(Err(error)) => return tracing::debug!(%error, "the uses of keys cannot be written; they come again"),
            Err(_) => return tracing::debug!("the uses of keys cannot be written in time; they come again"),
        }
        if let Some(reply) = &message.reply {
            let answered = tokio::time::timeout(ANSWER, self.nats.publish(reply.clone(), "".into())).await;
            if !matches!(answered, Ok(Ok(()))) {
                tracing::debug!("the uses of keys cannot be confirmed; they come again");
            }
        }
    }

    async fn write(&self, payload: &[u8]) -> Result<(), DbError> {
        let message: KeyUses = match serde_json::from_slice(payload) {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(%error, bytes = payload.len(), "the uses of keys are not understood and are dropped");
                return Ok(());
            }
        };
        let uses = times(&message, self.clock.now());
        if uses.is_empty() {
            return Ok(());
        }
        let mut connection = self.pool.acquire().await?;
        key_uses::raise(&mut connection, &uses).await?;
        Ok(())
    }
}

/// The time of each use: the start of its minute.
fn times(message: &KeyUses, now: OffsetDateTime) -> Vec<(KeyId, OffsetDateTime)> {
    message
        .uses
        .iter()
        .take(KeyUses::MAX)
        .map(|used| {
            let at = OffsetDateTime::from_unix_timestamp(i64::from(used.minute) * 60).ok();
            (used.id, at.filter(|at| *at <= now + AHEAD).unwrap_or(now))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use authsome_contract::wire::KeyUse;
    use authsome_core::clock::{Clock, ManualClock, SystemClock};
    use authsome_core::entropy::SystemEntropy;

    use super::*;

    #[test]
    fn a_use_is_the_start_of_its_minute_and_never_in_the_future() {
        let now = ManualClock::at_millis(6_000_123).now();
        let id = KeyId::generate(&SystemClock, &SystemEntropy::new());
        let uses = [90, 100, 101, 200, u32::MAX]
            .map(|minute| KeyUse { id, minute })
            .to_vec();
        let times: Vec<i64> = times(&KeyUses { uses }, now)
            .iter()
            .map(|(_, at)| at.unix_timestamp())
            .collect();
        assert_eq!(times, [5_400, 6_000, 6_060, 6_000, 6_000]);
    }
}
