//! Redis: the application's own user, confined to its own keys.

use async_trait::async_trait;
use authsome_contract::model::Step;

use super::tenancy::Tenancy;
use super::{StepContext, StepError};
use crate::credentials::Credentials;
use crate::redis::Tenant;
use crate::runtime::Site;

pub(super) struct Redis;

pub(super) fn tenant<'a>(cx: &StepContext<'_>, credentials: &'a Credentials, site: &'a Site) -> Tenant<'a> {
    Tenant {
        id: cx.intent.application_id,
        passwords: credentials.redis(),
        site: Some(site),
    }
}

#[async_trait]
impl Tenancy for Redis {
    const STEP: Step = Step::Redis;
    const DONE: &'static str = "The application has a Redis user of its own, confined to its own keys.";

    async fn differences(&self, cx: &StepContext<'_>, credentials: &Credentials) -> Result<Vec<String>, StepError> {
        let site = Site::of(cx.intent, cx.fence);
        Ok(cx
            .cache()?
            .differences(&tenant(cx, credentials, &site), cx.fence)
            .await?)
    }

    async fn ensure(&self, cx: &StepContext<'_>, credentials: &Credentials) -> Result<(), StepError> {
        let site = Site::of(cx.intent, cx.fence);
        Ok(cx.cache()?.ensure(&tenant(cx, credentials, &site), cx.fence).await?)
    }

    async fn remove(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        Ok(cx.cache()?.remove(cx.intent.application_id, cx.fence).await?)
    }

    async fn clear(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        // Without the user nobody writes behind this search. It is not held: it may take longer than a lease lasts without
        // being renewed, which a held row prevents, and each of its calls looks at the lease.
        Ok(cx.cache()?.remove_keys(cx.intent.application_id, cx.fence).await?)
    }
}
