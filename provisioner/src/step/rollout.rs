//! Rollout: wait until the instances answer their health check.

use std::time::Duration;

use async_trait::async_trait;
use authsome_contract::model::Step;
use tokio::time::Instant;

use super::waiting::{Waiting, given_up};
use super::{Observed, Outcome, StepAction, StepContext, StepError, failure};
use crate::plan::Desired;
use crate::runtime::{Phase, Placement};

pub(super) struct Rollout;

/// What people who watch read while they wait.
fn progress(placement: &Placement, generation: i64, trouble: Option<&str>) -> String {
    let healthy = placement
        .of_generation(generation)
        .filter(|instance| instance.phase == Phase::Healthy)
        .count();
    let mut text = format!("{healthy} of {} instances are ready.", placement.wanted);
    if let Some(trouble) = trouble {
        text = format!("{text} {trouble}");
    }
    text
}

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
        let runtime = &cx.facilities.runtime;
        let patience = runtime.patience();
        let mut waiting = Waiting::default();
        loop {
            cx.fence.check(Duration::ZERO)?;
            let mut placement = runtime.observe(cx.intent.application_id).await?;
            if placement.is_healthy(generation) {
                return Ok(Outcome::done("The instance answers its health check."));
            }
            if let Some(trouble) = waiting.see(placement.trouble.take(), patience.failing) {
                return Err(given_up(cx, trouble).await);
            }
            // A runtime that knows no more than that they fail.
            if waiting.public().is_none()
                && begun.elapsed() >= patience.failing
                && let Some(why) = placement.failure(generation)
            {
                return Err(failure::retry("The instance does not come up.", why.to_owned()));
            }
            if begun.elapsed() >= patience.rollout {
                let seen = format!("not healthy within {:?}: {:?}", patience.rollout, placement.instances);
                return Err(failure::retry("The instance did not become healthy in time.", seen));
            }
            let progress = progress(&placement, generation, waiting.public());
            waiting.tell(cx, Step::Rollout, progress).await?;
            tokio::time::sleep(patience.look).await;
        }
    }

    async fn undo(&self, _cx: &StepContext<'_>) -> Result<(), StepError> {
        Ok(())
    }
}
