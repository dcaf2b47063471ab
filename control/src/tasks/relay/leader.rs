//! Leadership: an advisory lock on a session of its own. When that session is lost, so is the lead, and everything that a
//! term started stops with it.

use std::{convert::Infallible, time::Duration};

use authsome_db::DbError;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::{sync::watch, time::timeout};

use super::{RETRY, Relay, delivery, jobs::Jobs, positions, redis::Redis, stream::Stream, tombstones, upkeep};
use crate::db::outbox;

/// How long one statement on the leader's session may take. Longer, and the session counts as lost.
const STATEMENT: Duration = Duration::from_secs(3);

/// How often a follower asks for the lock. A killed leader is succeeded within about this time.
const FOLLOW: Duration = Duration::from_millis(250);

/// Why a term ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum TermError {
    /// The session failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The session did not answer.
    #[error("the leader's database session did not answer within {STATEMENT:?}")]
    Silent,
    /// Somebody else published to the stream.
    #[error("the stream has another publisher")]
    Deposed,
}

/// Term after term, for ever.
pub(super) async fn terms(relay: &Relay, pool: &PgPool) -> Infallible {
    let mut failed = 0;
    loop {
        let Err(error) = Box::pin(term(relay, pool, &mut failed)).await;
        tracing::warn!(%error, "the relay's term ended; trying again");
        tokio::time::sleep(RETRY.delay(failed, relay.entropy.as_ref())).await;
        failed = failed.saturating_add(1);
    }
}

async fn term(relay: &Relay, pool: &PgPool, failed: &mut u32) -> Result<Infallible, TermError> {
    let mut session = bounded(async {
        let mut session = PgConnection::connect_with(&relay.pool.connect_options()).await?;
        outbox::prepare_leader_session(&mut session).await?;
        Ok(session)
    })
    .await?;
    while !bounded(outbox::try_lead(&mut session)).await? {
        tokio::time::sleep(FOLLOW).await;
    }
    *failed = 0;
    let pulse = bounded(outbox::pulse(&mut session)).await?;
    let _lead = Lead::taken(relay, pulse);

    let (pulses, received) = watch::channel(pulse);
    // One task polls them all, so the end of any is the end of all.
    tokio::select! {
        error = positions::give(&relay.pool, &mut session, &pulses) => Err(error),
        delivery::Deposed = delivery::follow(relay, pool, received.clone(), Stream::new(relay, pool)) => Err(TermError::Deposed),
        delivery::Deposed = delivery::follow(relay, pool, received.clone(), Redis::new(relay, pool)) => Err(TermError::Deposed),
        delivery::Deposed = delivery::follow(relay, pool, received.clone(), Jobs::new(relay)) => Err(TermError::Deposed),
        never = upkeep::run(relay, pool) => match never {},
        never = tombstones::run(relay, pool) => match never {},
    }
}

/// The outcome of work on the session, or [`TermError::Silent`].
pub(super) async fn bounded<T>(work: impl Future<Output = Result<T, DbError>>) -> Result<T, TermError> {
    timeout(STATEMENT, work)
        .await
        .map_err(|_| TermError::Silent)?
        .map_err(TermError::Db)
}

/// Shows the lead in metrics and log for as long as it lasts, however it ends.
struct Lead<'a>(&'a Relay);

impl<'a> Lead<'a> {
    fn taken(relay: &'a Relay, pulse: outbox::Pulse) -> Self {
        tracing::info!(
            epoch = pulse.epoch,
            position = pulse.last,
            "this process leads the relay"
        );
        relay.metrics.leader.set(1);
        Self(relay)
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.0.metrics.leader.set(0);
        self.0.metrics.forget_lag();
    }
}
