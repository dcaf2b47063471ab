//! Preflight: can it work at all. Looks at every dependency before anything is made, so that what cannot work fails early and
//! with a plain reason.

use async_trait::async_trait;
use authsome_contract::model::Step;

use super::{Observed, Outcome, StepAction, StepContext, StepError, failure};
use crate::runtime::Site;
use crate::{db, instance_config};

pub(super) struct Preflight;

#[async_trait]
impl StepAction for Preflight {
    fn step(&self) -> Step {
        Step::Preflight
    }

    /// Always needed: what was reachable a moment ago need not be now.
    async fn observe(&self, _cx: &StepContext<'_>) -> Result<Observed, StepError> {
        Ok(Observed::Needed("dependencies may have changed".to_owned()))
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<Outcome, StepError> {
        let facilities = cx.facilities;
        if !cx.intent.config.is_object() {
            return Err(StepError::Fatal {
                reason: "The application's configuration is not a JSON object.".to_owned(),
                remediation: "Correct the application's configuration and try again.".to_owned(),
                source: "configuration is not an object".into(),
            });
        }
        facilities.runtime.check().await?;
        let config = instance_config::effective(cx.intent, &facilities.public_base_url);
        facilities.runtime.accepts(&Site::of(cx.intent, cx.fence), &config)?;
        // What the namespace has room for depends on it.
        cx.record_strategies().await?;
        let exposed = cx.database()?.check(cx.fence).await?;
        let control = db::placement::control_database(cx.pool).await?;
        if exposed.contains(&control) {
            let source =
                format!("PUBLIC may connect to the database {control}, and the administrator may not revoke it");
            return Err(failure::fatal(
                "The database server does not keep applications apart from the platform.",
                source,
            ));
        }
        for database in exposed {
            tracing::warn!(
                database,
                "every tenant may connect to this database of the tenant server, and we cannot revoke it"
            );
        }
        for remark in cx.cache()?.check(cx.fence).await? {
            tracing::warn!(remark, "tenant Redis server");
        }
        let mut detail = "The database server, the Redis server and the runtime are ready.".to_owned();
        if let Some(room) = facilities.runtime.room(&Site::of(cx.intent, cx.fence)).await? {
            detail = format!("{detail} {room}");
        }
        Ok(Outcome::done(detail))
    }

    async fn undo(&self, _cx: &StepContext<'_>) -> Result<(), StepError> {
        Ok(())
    }
}
