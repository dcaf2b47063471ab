//! Migrate: the database's schema, where the image does not prepare it when it starts.

use async_trait::async_trait;
use authsome_contract::model::Step;

use super::waiting::unless_hindered;
use super::{Observed, Outcome, StepAction, StepContext, StepError, instance};
use crate::plan::Desired;

pub(super) struct Migrate;

#[async_trait]
impl StepAction for Migrate {
    fn step(&self) -> Step {
        Step::Migrate
    }

    /// Always needed: a migration that is done does nothing.
    async fn observe(&self, _cx: &StepContext<'_>) -> Result<Observed, StepError> {
        Ok(Observed::Needed("a newer image may have migrations".to_owned()))
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<Outcome, StepError> {
        let runtime = &cx.facilities.runtime;
        if let Some(why) = runtime.skips(Step::Migrate) {
            return Ok(Outcome::skipped(why));
        }
        if cx.intent.desired != Desired::Running {
            return Ok(Outcome::skipped("No instance is to run."));
        }
        let workload = instance::workload(cx).await?;
        let migrating = async { Ok(runtime.migrate(&workload).await?) };
        unless_hindered(cx, Step::Migrate, Step::Migrate, migrating).await
    }

    /// A schema goes with its database.
    async fn undo(&self, _cx: &StepContext<'_>) -> Result<(), StepError> {
        Ok(())
    }
}
