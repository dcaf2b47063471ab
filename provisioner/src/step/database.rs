//! Database: the application's own database and roles.

use async_trait::async_trait;
use authsome_contract::model::Step;

use super::tenancy::Tenancy;
use super::{StepContext, StepError};
use crate::credentials::Credentials;
use crate::database::Tenant;

pub(super) struct Database;

fn tenant<'a>(cx: &StepContext<'_>, credentials: &'a Credentials) -> Tenant<'a> {
    Tenant {
        id: cx.intent.application_id,
        connection_limit: cx.intent.plan.resources().database_connections,
        passwords: credentials.database(),
    }
}

#[async_trait]
impl Tenancy for Database {
    const STEP: Step = Step::Database;
    const DONE: &'static str = "The application has a database of its own, which nobody else can connect to.";

    async fn differences(&self, cx: &StepContext<'_>, credentials: &Credentials) -> Result<Vec<String>, StepError> {
        let databases = &cx.facilities.databases;
        Ok(databases.differences(&tenant(cx, credentials), cx.fence).await?)
    }

    async fn ensure(&self, cx: &StepContext<'_>, credentials: &Credentials) -> Result<(), StepError> {
        let databases = &cx.facilities.databases;
        Ok(databases.ensure(&tenant(cx, credentials), cx.fence).await?)
    }

    async fn remove(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        let databases = &cx.facilities.databases;
        Ok(databases.remove(cx.intent.application_id, cx.fence).await?)
    }
}
