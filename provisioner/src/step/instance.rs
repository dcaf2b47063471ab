//! Instance: the process or pods that serve the application, started or stopped as the intent says.

use async_trait::async_trait;
use authsome_contract::model::Step;
use authsome_contract::wire::names;

use super::{Observed, Outcome, StepAction, StepContext, StepError, observed, secrets};
use crate::plan::Desired;
use crate::runtime::{Site, Workload};
use crate::{application_secrets, instance_config};

pub(super) struct Instance;

/// What the application's instances are given.
pub(super) async fn workload(cx: &StepContext<'_>) -> Result<Workload, StepError> {
    let id = cx.intent.application_id;
    let addresses = secrets::needed(cx)?;
    let edge = &cx.facilities.public_base_url;
    Ok(Workload {
        site: Site::of(cx.intent, cx.fence),
        application: id,
        generation: cx.intent.generation,
        base_path: cx.intent.base_path.clone(),
        database_url: addresses.database,
        redis_url: addresses.redis,
        redis_prefix: names::redis_tenant_prefix(&id),
        public_base_url: instance_config::public_base_url(edge, id),
        config: instance_config::effective(cx.intent, edge),
        secrets: application_secrets::load(cx.pool, &cx.facilities.ring, id).await?,
        previous: cx
            .intent
            .endpoints
            .iter()
            .filter_map(|endpoint| endpoint.parse().ok())
            .collect(),
    })
}

#[async_trait]
impl StepAction for Instance {
    fn step(&self) -> Step {
        Step::Instance
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Observed, StepError> {
        let runtime = &cx.facilities.runtime;
        let placement = runtime.observe(cx.intent.application_id).await?;
        let complete = placement.is_complete(cx.intent.generation);
        if cx.intent.desired == Desired::Running
            && complete
            && !runtime.is_verified(Step::Instance, &Site::of(cx.intent, cx.fence))
        {
            return Ok(observed(&runtime.differences(&workload(cx).await?).await?));
        }
        Ok(match cx.intent.desired {
            Desired::Running if complete => Observed::Done,
            Desired::Running => Observed::Needed("instances are missing".to_owned()),
            Desired::Stopped | Desired::Absent if placement.instances.is_empty() => Observed::Done,
            Desired::Stopped | Desired::Absent => Observed::Needed("instances are running".to_owned()),
        })
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<Outcome, StepError> {
        let runtime = &cx.facilities.runtime;
        match cx.intent.desired {
            Desired::Running => {
                runtime.ensure(&workload(cx).await?).await?;
                Ok(Outcome::done("The instance is started."))
            }
            Desired::Stopped | Desired::Absent => {
                runtime.stop(&Site::of(cx.intent, cx.fence)).await?;
                Ok(Outcome::done("The instance is stopped."))
            }
        }
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        cx.facilities.runtime.remove(&Site::of(cx.intent, cx.fence)).await?;
        Ok(())
    }
}
