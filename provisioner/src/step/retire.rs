//! Retire: what a rotation replaced opens nothing any more. Waits until no instance uses it.

use std::time::Duration;

use async_trait::async_trait;
use authsome_contract::model::Step;
use tokio::time::Instant;

use super::waiting::{Waiting, given_up, unless_hindered};
use super::{Observed, Outcome, StepAction, StepContext, StepError, database, failure, redis};
use crate::credentials::{self, Kind};
use crate::db;
use crate::runtime::Site;

pub(super) struct Retire;

/// Waits until every instance is of the intent's generation: those before it use what is to be taken away, and stay for as
/// long as those that replace them do not come up.
async fn older_instances_end(cx: &StepContext<'_>) -> Result<(), StepError> {
    let (runtime, begun) = (&cx.facilities.runtime, Instant::now());
    let (application, generation) = (cx.intent.application_id, cx.intent.generation);
    let patience = runtime.patience();
    let mut waiting = Waiting::default();
    loop {
        cx.fence.check(Duration::ZERO)?;
        let older = runtime.former(application, generation).await?;
        if older == 0 {
            return Ok(());
        }
        let trouble = runtime.observe(application).await?.trouble;
        if let Some(trouble) = waiting.see(trouble, patience.failing) {
            return Err(given_up(cx, trouble).await);
        }
        if begun.elapsed() >= patience.rollout {
            return Err(failure::retry(
                "Instances with the old credentials have not ended yet.",
                format!("{older} instances of older generations after {:?}", patience.rollout),
            ));
        }
        let mut progress = format!("Instances that use the old credentials: {older}.");
        if let Some(trouble) = waiting.public() {
            progress = format!("{progress} {trouble}");
        }
        waiting.tell(cx, Step::Retire, progress).await?;
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
            // A server of the application's own is told by its keeper, and may have to start for it.
            let closing = async {
                let tenant = database::tenant(cx, &rest, &site);
                Ok(cx.database()?.ensure(&tenant, cx.fence).await?)
            };
            unless_hindered(cx, Step::Retire, Step::Database, closing).await?;
            let closing = async {
                let tenant = redis::tenant(cx, &rest, &site);
                Ok(cx.cache()?.ensure(&tenant, cx.fence).await?)
            };
            unless_hindered(cx, Step::Retire, Step::Redis, closing).await?;
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
