//! Database: the application's own database and roles.

use async_trait::async_trait;
use authsome_contract::model::Step;

use super::tenancy::Tenancy;
use super::{StepContext, StepError};
use crate::credentials::Credentials;
use crate::database::Tenant;
use crate::runtime::Site;

pub(super) struct Database;

pub(super) fn tenant<'a>(cx: &StepContext<'_>, credentials: &'a Credentials, site: &'a Site) -> Tenant<'a> {
    Tenant {
        id: cx.intent.application_id,
        connection_limit: cx.intent.plan.resources().database_connections,
        passwords: credentials.database(),
        site: Some(site),
    }
}

#[async_trait]
impl Tenancy for Database {
    const STEP: Step = Step::Database;
    const DONE: &'static str = "The application has a database of its own, which nobody else can connect to.";

    async fn differences(&self, cx: &StepContext<'_>, credentials: &Credentials) -> Result<Vec<String>, StepError> {
        let site = Site::of(cx.intent, cx.fence);
        Ok(cx
            .database()?
            .differences(&tenant(cx, credentials, &site), cx.fence)
            .await?)
    }

    async fn ensure(&self, cx: &StepContext<'_>, credentials: &Credentials) -> Result<(), StepError> {
        let site = Site::of(cx.intent, cx.fence);
        Ok(cx.database()?.ensure(&tenant(cx, credentials, &site), cx.fence).await?)
    }

    async fn remove(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        Ok(cx.database()?.remove(cx.intent.application_id, cx.fence).await?)
    }
}
