//! Rollout: wait until the instances answer their health check.

use std::time::Duration;

use async_trait::async_trait;
use authsome_contract::model::Step;
use authsome_core::error::Chain;
use tokio::time::Instant;

use super::{Observed, Outcome, StepAction, StepContext, StepError, failure};
use crate::plan::Desired;
use crate::redaction::excerpt;
use crate::runtime::{Phase, Placement, Trouble};
use crate::{db, instance_logs};

pub(super) struct Rollout;

/// What people who watch read while they wait.
fn progress(placement: &Placement, generation: i64) -> String {
    let healthy = placement
        .of_generation(generation)
        .filter(|instance| instance.phase == Phase::Healthy)
        .count();
    let mut text = format!("{healthy} of {} instances are ready.", placement.wanted);
    if let Some(trouble) = &placement.trouble {
        text = format!("{text} {}", trouble.public);
    }
    text
}

/// Told with the last lines of the instance, where it wrote any. Lines that cannot be cleaned of secrets are not told.
async fn troubled(cx: &StepContext<'_>, trouble: Trouble) -> StepError {
    let id = cx.intent.application_id;
    let mut lines = cx.facilities.runtime.last_lines(id, &trouble).await.unwrap_or_default();
    if !lines.is_empty() {
        lines = match instance_logs::known_secrets(cx.facilities, cx.pool, id).await {
            Ok(redaction) => excerpt(&lines, &redaction),
            Err(error) => {
                tracing::warn!(application = %id, error = %Chain(&error), "cannot tell the last lines of an instance");
                String::new()
            }
        };
    }
    let public = if lines.is_empty() {
        trouble.public
    } else {
        format!("{} Its log ends with:\n{lines}", trouble.public)
    };
    failure::retry(&public, trouble.detail)
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
        let mut told = String::new();
        loop {
            cx.fence.check(Duration::ZERO)?;
            let placement = runtime.observe(cx.intent.application_id).await?;
            if placement.is_healthy(generation) {
                return Ok(Outcome::done("The instance answers its health check."));
            }
            if begun.elapsed() >= patience.failing {
                if let Some(trouble) = placement.trouble {
                    return Err(troubled(cx, trouble).await);
                }
                if let Some(why) = placement.failure(generation) {
                    return Err(failure::retry("The instance does not come up.", why.to_owned()));
                }
            }
            if begun.elapsed() >= patience.rollout {
                let seen = format!("not healthy within {:?}: {:?}", patience.rollout, placement.instances);
                return Err(failure::retry("The instance did not become healthy in time.", seen));
            }
            let progress = progress(&placement, generation);
            if progress != told {
                db::ledger::tell(cx.pool, cx.fence, Step::Rollout, &progress).await?;
                told = progress;
            }
            tokio::time::sleep(patience.look).await;
        }
    }

    async fn undo(&self, _cx: &StepContext<'_>) -> Result<(), StepError> {
        Ok(())
    }
}
