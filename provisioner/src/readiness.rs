//! How many instances of each application that ought to serve are ready: for the alert that nobody answers.
//!
//! Apart from the drift loop, which waits for recoveries when many applications are down at once: that is when the alert counts.
//! While Postgres is away those are told of that ought to have served when it last answered. A runtime that has not seen everything
//! yet has nothing told of it, rather than that nobody is ready.

use std::sync::Arc;
use std::time::Duration;

use authsome_core::error::Chain;
use authsome_core::id::ApplicationId;
use authsome_db::DbError;
use tokio_util::sync::CancellationToken;

use crate::db::intent;
use crate::execution::Engine;

/// How long Postgres may take to say who ought to serve.
const LOOK: Duration = Duration::from_secs(10);
/// Applications read at a time.
const PAGE: i64 = 500;

/// Tells, again and again.
pub struct Readiness {
    /// The control database and the runtime.
    pub engine: Arc<Engine>,
    /// The region whose applications are this provisioner's.
    pub region: String,
    /// Time between two looks.
    pub interval: Duration,
}

impl Readiness {
    /// Tells until `soft`.
    pub async fn run(self, soft: CancellationToken) {
        let telling = async {
            let mut serving = Vec::new();
            loop {
                match tokio::time::timeout(LOOK, self.serving()).await {
                    Ok(Ok(now)) => serving = now,
                    Ok(Err(error)) => {
                        tracing::warn!(error = %Chain(&error), "cannot read who ought to serve; reading again");
                    }
                    Err(_) => tracing::warn!("nobody says within {LOOK:?} who ought to serve; asking again"),
                }
                self.tell(&serving).await;
                tokio::time::sleep(self.interval).await;
            }
        };
        soft.run_until_cancelled(telling).await;
    }

    async fn serving(&self) -> Result<Vec<ApplicationId>, DbError> {
        let (mut serving, mut after) = (Vec::new(), None);
        loop {
            let page = intent::kept(&self.engine.pool, &self.region, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(serving) };
            after = Some(last.application_id);
            serving.extend(page.iter().filter(|one| one.serves()).map(|one| one.application_id));
        }
    }

    async fn tell(&self, serving: &[ApplicationId]) {
        let mut ready = Vec::with_capacity(serving.len());
        for &application in serving {
            match self.engine.facilities.runtime.observe(application).await {
                Ok(placement) => {
                    ready.push((application, [i64::try_from(placement.ready()).unwrap_or(i64::MAX)]));
                }
                Err(error) => {
                    tracing::debug!(error = %Chain(&error), "the runtime does not say what is ready");
                    return;
                }
            }
        }
        self.engine.metrics.ready(&self.region, &ready);
    }
}
