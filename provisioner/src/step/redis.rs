//! Redis: the application's own user, confined to its own keys.

use async_trait::async_trait;
use authsome_contract::model::Step;

use super::{Observed, Outcome, StepAction, StepContext, StepError, observed};
use crate::credentials::{self, Credentials};
use crate::db;
use crate::redis::Tenant;

pub(super) struct Redis;

fn tenant<'a>(cx: &StepContext<'_>, credentials: &'a Credentials) -> Tenant<'a> {
    Tenant {
        id: cx.intent.application_id,
        passwords: credentials.redis(),
    }
}

#[async_trait]
impl StepAction for Redis {
    fn step(&self) -> Step {
        Step::Redis
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Observed, StepError> {
        let facilities = cx.facilities;
        let recorded = credentials::recorded(cx.pool, &facilities.ring, cx.intent.application_id).await?;
        let Some(credentials) = recorded else {
            return Ok(Observed::Needed("no credentials are recorded".to_owned()));
        };
        Ok(observed(
            &facilities
                .caches
                .differences(&tenant(cx, &credentials), cx.fence)
                .await?,
        ))
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<Outcome, StepError> {
        let facilities = cx.facilities;
        // Recorded first: a worker that dies in the next line leaves passwords that its successor knows.
        let credentials = credentials::ensure(cx.pool, &facilities.ring, cx.fence, &*facilities.entropy).await?;
        facilities.caches.ensure(&tenant(cx, &credentials), cx.fence).await?;
        Ok(Outcome::done(
            "The application has a Redis user of its own, confined to its own keys.",
        ))
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        // While this transaction lives, nobody can take the lease over and begin to build what is being destroyed.
        let mut hold = cx.pool.begin().await.map_err(db::RecordError::from)?;
        db::lease::hold(&mut hold, cx.fence).await?;
        cx.facilities.caches.remove(cx.intent.application_id, cx.fence).await?;
        hold.commit().await.map_err(db::RecordError::from)?;
        // Without the user nobody writes behind this search. It is not held: it may take longer than a lease lasts without
        // being renewed, which a held row prevents, and each of its calls looks at the lease.
        cx.facilities
            .caches
            .remove_keys(cx.intent.application_id, cx.fence)
            .await?;
        Ok(())
    }
}
