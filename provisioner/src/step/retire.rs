//! Retire: what a rotation replaced opens nothing any more. Waits until no instance uses it.

use std::time::Duration;

use async_trait::async_trait;
use authsome_contract::model::Step;
use tokio::time::Instant;

use super::{Observed, Outcome, StepAction, StepContext, StepError, database, failure, redis};
use crate::credentials::{self, Kind};
use crate::db;
use crate::runtime::Site;

pub(super) struct Retire;

/// Waits until every instance is of the intent's generation: those before it use what is to be taken away.
async fn older_instances_end(cx: &StepContext<'_>) -> Result<(), StepError> {
    let (runtime, begun) = (&cx.facilities.runtime, Instant::now());
    let patience = runtime.patience();
    loop {
        cx.fence.check(Duration::ZERO)?;
        let older = runtime.former(cx.intent.application_id, cx.intent.generation).await?;
        if older == 0 {
            return Ok(());
        }
        if begun.elapsed() >= patience.rollout {
            return Err(failure::retry(
                "Instances with the old credentials have not ended yet.",
                format!("{older} instances of older generations after {:?}", patience.rollout),
            ));
        }
        tokio::time::sleep(patience.look).await;
    }
}

#[async_trait]
impl StepAction for Retire {
    fn step(&self) -> Step {
        Step::Retire
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Observed, StepError> {
        let recorded = credentials::recorded(cx.pool, &cx.facilities.ring, cx.intent.application_id).await?;
        let left = recorded.is_some_and(|credentials| credentials.without_replaced().is_some());
        Ok(if left {
            Observed::Needed("the old credentials are still good".to_owned())
        } else {
            Observed::Done
        })
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<Outcome, StepError> {
        let (facilities, id) = (cx.facilities, cx.intent.application_id);
        let credentials = credentials::ensure(cx.pool, &facilities.ring, cx.fence, &*facilities.entropy).await?;
        if let Some(rest) = credentials.without_replaced() {
            older_instances_end(cx).await?;
            let site = Site::of(cx.intent, cx.fence);
            cx.database()?
                .ensure(&database::tenant(cx, &rest, &site), cx.fence)
                .await?;
            cx.cache()?.ensure(&redis::tenant(cx, &rest, &site), cx.fence).await?;
            // Instances of this generation began after the password was made that they use.
            let used = Kind::Redis(rest.active_redis()).as_str();
            if let Some(age) = db::credentials::age(cx.pool, id, used).await? {
                cx.cache()?.end_sessions(id, age, cx.fence).await?;
            }
            // Last: a worker that dies before this leaves everything above to be done again.
            credentials::close(cx.pool, cx.fence, &credentials).await?;
        }
        Ok(Outcome::done("The old credentials open nothing any more."))
    }

    async fn undo(&self, _cx: &StepContext<'_>) -> Result<(), StepError> {
        Ok(())
    }
}
