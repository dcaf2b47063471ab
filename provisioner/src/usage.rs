//! How much of its database every application uses, beside what it may: for alerts and the dashboard.
//!
//! Each tenants' server is asked once every few minutes, with one statement for all of its applications. A server that does not
//! answer in time leaves the figures as they were, and is asked again the next time. Dedicated servers are nobody's to ask but
//! their application's, and have no figures here: how full one is, the kubelet tells of its volume.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use authsome_core::error::Chain;
use authsome_core::id::ApplicationId;
use authsome_db::DbError;
use tokio_util::sync::CancellationToken;

use crate::database::{DatabaseError, Usage};
use crate::db::limits;
use crate::execution::Engine;
use crate::lease::Fence;
use crate::step::LONGEST_CALL;

/// How long Postgres may take to tell the limits.
const LOOK: Duration = Duration::from_secs(10);

/// What one application uses and may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// The application.
    pub application: ApplicationId,
    /// Size of its database, in bytes.
    pub bytes: i64,
    /// Sessions on it.
    pub connections: i64,
    /// How large it may become, in bytes.
    pub storage_limit: i64,
    /// How many sessions it may have.
    pub connection_limit: i64,
}

/// Why nothing was measured this time.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The control database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The control database did not answer.
    #[error("the control database did not answer within {LOOK:?}")]
    Silent,
    /// A tenants' server.
    #[error(transparent)]
    Server(#[from] DatabaseError),
}

/// Measures, again and again.
pub struct Meter {
    /// The strategies and the control database.
    pub engine: Arc<Engine>,
    /// The regions whose applications are this process's.
    pub regions: Vec<String>,
    /// Time between two measurements.
    pub interval: Duration,
}

impl Meter {
    /// Measures until `soft`.
    pub async fn run(self, soft: CancellationToken) {
        loop {
            match soft.run_until_cancelled(self.measure()).await {
                None => return,
                Some(Ok(measured)) => self.engine.metrics.usage(&measured),
                Some(Err(error)) => {
                    self.engine.metrics.error("usage");
                    tracing::warn!(error = %Chain(&error), "cannot measure databases; measuring again");
                }
            }
            if soft
                .run_until_cancelled(tokio::time::sleep(self.interval))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    /// One measurement: one statement on the control database, and one on each tenants' server.
    pub async fn measure(&self) -> Result<Vec<Measured>, UsageError> {
        let limits = limits::all(&self.engine.pool, &self.regions);
        let limits = tokio::time::timeout(LOOK, limits)
            .await
            .map_err(|_| UsageError::Silent)??;
        let mut used: HashMap<String, Usage> = HashMap::new();
        let fence = Fence::observer(ApplicationId::from_uuid(uuid::Uuid::nil()), LONGEST_CALL * 2);
        for strategy in self.engine.facilities.databases.all() {
            used.extend(
                strategy
                    .usage(&fence)
                    .await?
                    .into_iter()
                    .map(|usage| (usage.suffix.clone(), usage)),
            );
        }
        let measured = limits.into_iter().filter_map(|limit| {
            let usage = used.get(&*limit.application.suffix())?;
            Some(Measured {
                application: limit.application,
                bytes: usage.bytes,
                connections: usage.connections,
                storage_limit: limit.storage?,
                connection_limit: limit.connections,
            })
        });
        Ok(measured.collect())
    }
}
