//! Renew: new passwords beside those in use. Nothing uses them yet.

use async_trait::async_trait;
use authsome_contract::model::Step;

use super::{Observed, Outcome, StepAction, StepContext, StepError};
use crate::credentials;

pub(super) struct Renew;

#[async_trait]
impl StepAction for Renew {
    fn step(&self) -> Step {
        Step::Renew
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Observed, StepError> {
        let recorded = credentials::recorded(cx.pool, &cx.facilities.ring, cx.intent.application_id).await?;
        let renewed = recorded.is_some_and(|credentials| credentials.are_renewed(cx.intent.generation));
        Ok(if renewed {
            Observed::Done
        } else {
            Observed::Needed("no new passwords are recorded".to_owned())
        })
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<Outcome, StepError> {
        let facilities = cx.facilities;
        let generation = cx.intent.generation;
        credentials::renew(cx.pool, &facilities.ring, cx.fence, generation, &*facilities.entropy).await?;
        Ok(Outcome::done("New credentials are made; those in use stay good."))
    }

    async fn undo(&self, _cx: &StepContext<'_>) -> Result<(), StepError> {
        Ok(())
    }
}
