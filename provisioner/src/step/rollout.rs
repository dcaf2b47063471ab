//! Rollout: wait until the instances answer their health check.

use std::time::Duration;

use async_trait::async_trait;
use authsome_contract::model::Step;
use tokio::time::Instant;

use super::{Observed, Outcome, StepAction, StepContext, StepError, failure};
use crate::plan::Desired;

pub(super) struct Rollout;

/// How long instances may take to come up.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long an instance may go on failing: what it says may date from before its last start, and it is started again every
/// few seconds.
const FAILING: Duration = Duration::from_secs(12);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

#[async_trait]
impl StepAction for Rollout {
    fn step(&self) -> Step {
        Step::Rollout
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Observed, StepError> {
        if cx.intent.desired != Desired::Running {
            return Ok(Observed::Done);
        }
        let placement = cx.facilities.runtime.observe(cx.intent.application_id).await?;
        Ok(if placement.is_healthy(cx.intent.generation) {
            Observed::Done
        } else {
            Observed::Needed("not every instance answers its health check".to_owned())
        })
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<Outcome, StepError> {
        if cx.intent.desired != Desired::Running {
            return Ok(Outcome::skipped("No instance is to run."));
        }
        let begun = Instant::now();
        let generation = cx.intent.generation;
        loop {
            cx.fence.check(Duration::ZERO)?;
            let placement = cx.facilities.runtime.observe(cx.intent.application_id).await?;
            if placement.is_healthy(generation) {
                return Ok(Outcome::done("The instance answers its health check."));
            }
            let failure = placement.failure(generation).filter(|_| begun.elapsed() >= FAILING);
            if let Some(why) = failure {
                return Err(failure::retry("The instance does not come up.", why.to_owned()));
            }
            if begun.elapsed() >= PATIENCE {
                let seen = format!("not healthy within {PATIENCE:?}: {:?}", placement.instances);
                return Err(failure::retry("The instance did not become healthy in time.", seen));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn undo(&self, _cx: &StepContext<'_>) -> Result<(), StepError> {
        Ok(())
    }
}
