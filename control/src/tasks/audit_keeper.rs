//! Signs the heads of the audit trail, and drops what is older than plans keep.
//!
//! Every replica looks every few minutes; an advisory lock lets one of them work. Only whole ranges that end with a checkpoint are
//! dropped, and the chain says from where it begins since then. Without a signing key nothing is signed, and so nothing is
//! dropped. Postgres away: later.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use authsome_core::id::EventId;
use authsome_db::DbError;
use authsome_db::audit::{self, ActorType, Event};
use serde_json::json;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::TaskError;
use crate::audit::checkpoint::Signer;
use crate::db::audit_trail::{self, Range};

/// Between two looks.
const LOOK: Duration = Duration::from_mins(5);
/// Chains of one transaction.
const BATCH: i64 = 100;

/// For how many days each plan keeps its trail: free, pro, enterprise.
pub const RETENTION_DAYS: [i64; 3] = [7, 30, 365];

/// What the task works with.
pub struct AuditKeeper {
    /// The control database.
    pub pool: PgPool,
    /// Signs; without it the task has nothing to do.
    pub signer: Option<Signer>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for ids.
    pub entropy: Arc<dyn Entropy>,
}

impl AuditKeeper {
    /// Looks until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), TaskError> {
        stop.run_until_cancelled(self.keep()).await;
        Ok(())
    }

    async fn keep(&self) -> Infallible {
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "the audit trail could not be signed; trying again");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// One look: signs all heads that have grown, then drops what is too old. Returns how many events were dropped.
    pub async fn look(&self) -> Result<u64, DbError> {
        let Some(signer) = &self.signer else { return Ok(0) };
        loop {
            let mut transaction = self.pool.begin().await?;
            if !audit_trail::try_keep(&mut transaction).await? {
                return Ok(0);
            }
            let grown = audit_trail::unsigned(&mut transaction, BATCH).await?;
            for chain in &grown {
                let checkpoint = signer.sign(&chain.chain, chain.seq, &chain.hash, self.clock.now());
                audit_trail::sign(&mut transaction, &checkpoint).await?;
            }
            transaction.commit().await?;
            if i64::try_from(grown.len()).unwrap_or(BATCH) < BATCH {
                break;
            }
        }
        let now = self.clock.now();
        let [free, pro, enterprise] = RETENTION_DAYS.map(|days| now - time::Duration::days(days));
        let mut dropped = 0;
        loop {
            let mut transaction = self.pool.begin().await?;
            if !audit_trail::try_keep(&mut transaction).await? {
                return Ok(dropped);
            }
            let ranges = audit_trail::expired(&mut transaction, free, pro, enterprise, BATCH).await?;
            if ranges.is_empty() {
                // Now: a transaction that is only dropped ends, with its lock, when its connection is next used.
                transaction.rollback().await?;
                return Ok(dropped);
            }
            for range in &ranges {
                let count = audit_trail::drop_range(&mut transaction, range).await?;
                self.tell(&mut transaction, range, count).await?;
                dropped += count;
            }
            transaction.commit().await?;
        }
    }

    /// The trail itself says that it was cut.
    async fn tell(&self, connection: &mut sqlx::PgConnection, range: &Range, count: u64) -> Result<(), DbError> {
        tracing::info!(
            chain = range.chain,
            seq = range.seq,
            count,
            "audit events past their retention were dropped"
        );
        let event = Event {
            id: EventId::generate(&*self.clock, &*self.entropy),
            workspace_id: range.chain.parse().ok(),
            application_id: None,
            actor_id: None,
            actor_type: ActorType::Service,
            action: "audit.retain",
            resource: "audit",
            resource_id: None,
            changes: json!({ "droppedUpTo": range.seq, "events": count }),
            ip_address: None,
            user_agent: None,
            succeeded: true,
            request_id: None,
        };
        audit::record(connection, &event).await
    }
}
