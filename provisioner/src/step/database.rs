//! Database: the application's own database and roles.

use async_trait::async_trait;
use authsome_contract::model::Step;

use super::{Observed, Outcome, StepAction, StepContext, StepError, observed};
use crate::credentials::{self, Credentials};
use crate::database::Tenant;
use crate::db;

pub(super) struct Database;

fn tenant<'a>(cx: &StepContext<'_>, credentials: &'a Credentials) -> Tenant<'a> {
    Tenant {
        id: cx.intent.application_id,
        connection_limit: cx.intent.plan.resources().database_connections,
        passwords: credentials.database(),
    }
}

#[async_trait]
impl StepAction for Database {
    fn step(&self) -> Step {
        Step::Database
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Observed, StepError> {
        let facilities = cx.facilities;
        let recorded = credentials::recorded(cx.pool, &facilities.ring, cx.intent.application_id).await?;
        let Some(credentials) = recorded else {
            return Ok(Observed::Needed("no credentials are recorded".to_owned()));
        };
        Ok(observed(
            &facilities
                .databases
                .differences(&tenant(cx, &credentials), cx.fence)
                .await?,
        ))
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<Outcome, StepError> {
        let facilities = cx.facilities;
        // Recorded first: a worker that dies in the next line leaves passwords that its successor knows.
        let credentials = credentials::ensure(cx.pool, &facilities.ring, cx.fence, &*facilities.entropy).await?;
        facilities.databases.ensure(&tenant(cx, &credentials), cx.fence).await?;
        Ok(Outcome::done(
            "The application has a database of its own, which nobody else can connect to.",
        ))
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        // While this transaction lives, nobody can take the lease over and begin to build what is being destroyed.
        let mut hold = cx.pool.begin().await.map_err(db::RecordError::from)?;
        db::lease::hold(&mut hold, cx.fence).await?;
        cx.facilities
            .databases
            .remove(cx.intent.application_id, cx.fence)
            .await?;
        hold.commit().await.map_err(db::RecordError::from)?;
        Ok(())
    }
}
