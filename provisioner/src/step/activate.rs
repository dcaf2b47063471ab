//! Activate: tell the edge where the instances are. Writing the row is what tells it; the status follows when the operation
//! is recorded as done.

use async_trait::async_trait;
use authsome_contract::model::Step;

use super::{Observed, Outcome, StepAction, StepContext, StepError, failure};
use crate::db;
use crate::plan::Desired;
use crate::runtime::Placement;

pub(super) struct Activate;

/// The endpoints and the address for the platform itself, as they should be recorded.
fn wanted(cx: &StepContext<'_>, placement: &Placement) -> (Vec<String>, Option<String>) {
    if cx.intent.desired != Desired::Running {
        return (Vec::new(), None);
    }
    let endpoints: Vec<String> = placement
        .endpoints(cx.intent.generation)
        .iter()
        .map(ToString::to_string)
        .collect();
    let internal_url = endpoints
        .first()
        .map(|endpoint| format!("http://{endpoint}{}", cx.intent.base_path));
    (endpoints, internal_url)
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
        let (endpoints, internal_url) = wanted(cx, &placement);
        Ok(
            if cx.intent.endpoints != endpoints || cx.intent.internal_url != internal_url {
                Observed::Needed("the edge does not know where the instances are".to_owned())
            } else if has_older(&placement, cx.intent.generation) {
                Observed::Needed("instances of an older generation are running".to_owned())
            } else {
                Observed::Done
            },
        )
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<Outcome, StepError> {
        let runtime = &cx.facilities.runtime;
        let placement = runtime.observe(cx.intent.application_id).await?;
        let (endpoints, internal_url) = wanted(cx, &placement);
        if cx.intent.desired == Desired::Running && endpoints.is_empty() {
            return Err(failure::retry(
                "The instance stopped answering.",
                "no instance is healthy any more",
            ));
        }
        let generation = cx.intent.generation;
        db::placement::record_endpoints(cx.pool, cx.fence, generation, &endpoints, internal_url.as_deref()).await?;
        // Only now: until the edge was told, requests go to the older ones.
        runtime.retire(cx.intent.application_id, generation).await?;
        Ok(match cx.intent.desired {
            Desired::Running => Outcome::done("The application is open for requests."),
            Desired::Stopped | Desired::Absent => Outcome::done("The application is closed for requests."),
        })
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        db::placement::record_endpoints(cx.pool, cx.fence, cx.intent.generation, &[], None).await?;
        Ok(())
    }
}
