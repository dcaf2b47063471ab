//! Sends what is due of webhooks.
//!
//! Replicas share the queue in Postgres: a delivery belongs to one of them for a minute. A server that fails is tried again with
//! growing waits for about a day, and delays nothing but its own workspace's deliveries: a workspace has a few attempts at a time, and
//! what has ended makes room at once. A server that says 410 is disabled. Postgres away: later.
//! What a replica took and could not record is sent again: receivers tell by `webhook-id`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use authsome_core::error::Chain;
use authsome_core::id::WorkspaceId;
use authsome_core::seal::{Aad, PlatformRing, SealError};
use authsome_core::secret::SecretString;
use authsome_db::DbError;
use prometheus::{IntCounterVec, Opts, Registry};
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use tokio::task::{self, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::TaskError;
use crate::db::webhooks::{self, Attempted, Due};
use crate::state::App;
use crate::webhook::{signature, wait_after};

/// Between two looks at the queue.
const LOOK: Duration = Duration::from_secs(1);
/// Attempts at once.
const AT_ONCE: usize = 128;
/// Deliveries that are taken together. A workspace with as many attempts under way gets no more, so it has less than twice this.
const TOGETHER: usize = 8;
/// For how long a taken delivery is nobody else's; longer than an attempt.
const TAKEN: Duration = Duration::from_mins(1);
/// For how long messages are kept.
const KEPT: time::Duration = time::Duration::days(30);
/// Where secrets of endpoints are sealed.
pub const SECRET: &str = "webhook_endpoints.secret";

/// What is counted.
#[derive(Debug, Clone)]
pub struct WebhookMetrics {
    attempts: IntCounterVec,
}

impl WebhookMetrics {
    /// Registers everything once.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let attempts = IntCounterVec::new(
            Opts::new(
                "authsome_control_webhook_attempts_total",
                "Attempts to deliver, by outcome",
            ),
            &["outcome"],
        )?;
        registry.register(Box::new(attempts.clone()))?;
        Ok(Self { attempts })
    }
}

/// What the task works with.
#[derive(Clone)]
pub struct WebhookSender {
    /// The platform.
    pub app: App,
    /// What it counts.
    pub metrics: WebhookMetrics,
}

impl WebhookSender {
    /// Sends until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), TaskError> {
        stop.run_until_cancelled(self.send()).await;
        Ok(())
    }

    async fn send(&self) -> Infallible {
        let mut flights = Flights::default();
        loop {
            match self.take_off(&mut flights).await {
                // There may be more.
                Ok(taken) if taken > 0 => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(error = %Chain(&error), "webhooks are not sent; trying again"),
            }
            let _ = tokio::time::timeout(LOOK, flights.landed()).await;
        }
    }

    /// Attempts what is due now, and says how many deliveries that were.
    pub async fn look(&self) -> Result<usize, DbError> {
        let (mut flights, mut sent) = (Flights::default(), 0);
        loop {
            let taken = self.take_off(&mut flights).await?;
            sent += taken;
            if taken == 0 && flights.under_way.is_empty() {
                return Ok(sent);
            }
            if taken == 0 {
                flights.landed().await;
            }
        }
    }

    /// Begins with some of what is due, where there is room, and says with how many.
    async fn take_off(&self, flights: &mut Flights) -> Result<usize, DbError> {
        let Some(ring) = self.app.ring() else { return Ok(0) };
        let room = AT_ONCE.saturating_sub(flights.under_way.len()).min(TOGETHER);
        if room == 0 {
            return Ok(0);
        }
        let now = self.app.clock().now();
        let due = {
            let mut connection = self.app.pool().acquire().await?;
            webhooks::forget_some(&mut connection, now - KEPT).await?;
            let limit = i64::try_from(room).unwrap_or(1);
            webhooks::take(&mut connection, now, now + TAKEN, limit, &flights.busy()).await?
        };
        let taken = due.len();
        for due in due {
            let (sender, ring, workspace) = (self.clone(), Arc::clone(ring), due.workspace_id);
            let flight = flights.under_way.spawn(async move { sender.attempt(&ring, due).await });
            flights.of.insert(flight.id(), workspace);
        }
        Ok(taken)
    }

    async fn attempt(&self, ring: &Arc<PlatformRing>, due: Due) -> Result<(), DbError> {
        let now = self.app.clock().now();
        let begun = Instant::now();
        let outcome = match secrets(ring, &due) {
            Ok(secrets) => {
                let body = json!({
                    "event": due.event, "timestamp": due.created_at.format(&Rfc3339).unwrap_or_default(), "data": due.data,
                })
                .to_string();
                let timestamp = now.unix_timestamp();
                let headers = [
                    ("webhook-id", due.message_id.clone()),
                    ("webhook-timestamp", timestamp.to_string()),
                    (
                        "webhook-signature",
                        signature::sign(&secrets, &due.message_id, timestamp, &body),
                    ),
                ];
                match self.app.webhooks().post(&due.url, &headers, body).await {
                    Ok(status) => Ok(status),
                    Err(error) => {
                        tracing::debug!(endpoint = %due.endpoint_id, error = %Chain(&error), "a webhook was not delivered");
                        Err(error.to_string())
                    }
                }
            }
            Err(error) => {
                tracing::error!(endpoint = %due.endpoint_id, %error, "the secret of a webhook endpoint cannot be opened");
                Err("The platform cannot sign the request; contact support".to_owned())
            }
        };
        let answered = outcome.as_ref().ok().copied();
        let error = match &outcome {
            Ok(200..=299) => None,
            Ok(status) => Some(format!("The server answered {status}")),
            Err(error) => Some(error.clone()),
        };
        let wait = wait_after(due.attempts);
        let (status, counted) = match (&error, wait) {
            (None, _) => ("succeeded", "succeeded"),
            (Some(_), Some(_)) => ("pending", "retried"),
            (Some(_), None) => ("failed", "given_up"),
        };
        self.metrics.attempts.with_label_values(&[counted]).inc();
        let gone = answered == Some(410);
        let attempted = Attempted {
            id: due.id,
            status: if gone { "failed" } else { status },
            next_attempt_at: now + wait.unwrap_or_default(),
            response_status: answered.map(i32::from),
            error: error.as_deref(),
            duration_ms: i32::try_from(begun.elapsed().as_millis()).unwrap_or(i32::MAX),
        };
        let mut transaction = self.app.pool().begin().await?;
        webhooks::record(&mut transaction, &attempted).await?;
        if gone {
            webhooks::disable(
                &mut transaction,
                due.endpoint_id,
                "The server answered 410: it wants no more",
            )
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// The attempts that are under way. They end with it.
#[derive(Default)]
struct Flights {
    under_way: JoinSet<Result<(), DbError>>,
    of: HashMap<task::Id, WorkspaceId>,
}

impl Flights {
    /// Workspaces that have enough under way.
    fn busy(&self) -> Vec<String> {
        let mut counts: HashMap<WorkspaceId, usize> = HashMap::new();
        for workspace in self.of.values() {
            *counts.entry(*workspace).or_default() += 1;
        }
        let busy = counts.into_iter().filter(|(_, count)| *count >= TOGETHER);
        busy.map(|(workspace, _)| workspace.to_string()).collect()
    }

    /// Until an attempt has ended; for ever where there is none.
    async fn landed(&mut self) {
        let (id, recorded) = match self.under_way.join_next_with_id().await {
            Some(Ok((id, recorded))) => (id, recorded),
            Some(Err(error)) => {
                tracing::error!(%error, "an attempt to deliver a webhook broke off");
                (error.id(), Ok(()))
            }
            None => return std::future::pending().await,
        };
        self.of.remove(&id);
        if let Err(error) = recorded {
            tracing::warn!(error = %Chain(&error), "a delivery of a webhook is not recorded; it is made again");
        }
    }
}

/// The secrets that sign, newest first.
fn secrets(ring: &PlatformRing, due: &Due) -> Result<Vec<SecretString>, SealError> {
    let row = due.endpoint_id.to_string();
    let aad = Aad {
        table_column: SECRET,
        row: &row,
    };
    let mut secrets = vec![ring.open_text(aad, &due.secret)?];
    if let Some(previous) = &due.previous_secret {
        secrets.push(ring.open_text(aad, previous)?);
    }
    Ok(secrets)
}
