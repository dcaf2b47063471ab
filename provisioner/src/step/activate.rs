//! Activate: tell the edge where the instances are. Writing the row is what tells it; the status follows when the operation
//! is recorded as done.

use async_trait::async_trait;
use authsome_contract::model::Step;

use super::{Observed, Outcome, StepAction, StepContext, StepError, failure};
use crate::db::{self, placement::Addresses};
use crate::plan::Desired;
use crate::runtime::{Placement, Site};

pub(super) struct Activate;

/// What the edge is told, and the address for the platform itself, as they should be recorded.
fn wanted(cx: &StepContext<'_>, placement: &Placement) -> Addresses {
    if cx.intent.desired != Desired::Running {
        return Addresses::default();
    }
    if let Some(service) = &placement.service {
        return Addresses {
            endpoints: Vec::new(),
            internal_url: Some(format!("http://{service}{}", cx.intent.base_path)),
            service: Some(service.clone()),
        };
    }
    let endpoints: Vec<String> = placement
        .endpoints(cx.intent.generation)
        .iter()
        .map(ToString::to_string)
        .collect();
    let internal_url = endpoints
        .first()
        .map(|endpoint| format!("http://{endpoint}{}", cx.intent.base_path));
    Addresses {
        endpoints,
        internal_url,
        service: None,
    }
}

fn has_older(placement: &Placement, generation: i64) -> bool {
    placement
        .instances
        .iter()
        .any(|instance| instance.generation < generation)
}

#[async_trait]
impl StepAction for Activate {
    fn step(&self) -> Step {
        Step::Activate
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Observed, StepError> {
        let placement = cx.facilities.runtime.observe(cx.intent.application_id).await?;
        let wanted = wanted(cx, &placement);
        let recorded = Addresses {
            endpoints: cx.intent.endpoints.clone(),
            internal_url: cx.intent.internal_url.clone(),
            service: cx.intent.instance_service.clone(),
        };
        Ok(if recorded != wanted {
            Observed::Needed("the edge does not know where the instances are".to_owned())
        } else if wanted.service.is_none() && has_older(&placement, cx.intent.generation) {
            Observed::Needed("instances of an older generation are running".to_owned())
        } else {
            Observed::Done
        })
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<Outcome, StepError> {
        let runtime = &cx.facilities.runtime;
        let placement = runtime.observe(cx.intent.application_id).await?;
        let wanted = wanted(cx, &placement);
        let generation = cx.intent.generation;
        if cx.intent.desired == Desired::Running && placement.endpoints(generation).is_empty() {
            return Err(failure::retry(
                "The instance stopped answering.",
                "no instance is healthy any more",
            ));
        }
        db::placement::record_addresses(cx.pool, cx.fence, generation, &wanted).await?;
        // Only now: until the edge was told, requests go to the older ones.
        runtime.retire(&Site::of(cx.intent, cx.fence)).await?;
        Ok(match cx.intent.desired {
            Desired::Running => Outcome::done("The application is open for requests."),
            Desired::Stopped | Desired::Absent => Outcome::done("The application is closed for requests."),
        })
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        let nowhere = Addresses::default();
        db::placement::record_addresses(cx.pool, cx.fence, cx.intent.generation, &nowhere).await?;
        Ok(())
    }
}
