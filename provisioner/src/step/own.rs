//! The steps that only a runtime can take: namespace, monitoring. One that it leaves out is recorded with its reason.

use async_trait::async_trait;
use authsome_contract::model::Step;

use super::{Observed, Outcome, StepAction, StepContext, StepError, observed};
use crate::runtime::Site;

/// A step of the runtime's own.
pub(super) struct Own(pub(super) Step);

#[async_trait]
impl StepAction for Own {
    fn step(&self) -> Step {
        self.0
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Observed, StepError> {
        let runtime = &cx.facilities.runtime;
        if runtime.skips(self.0).is_some() {
            return Ok(Observed::Needed("nobody recorded why it is left out".to_owned()));
        }
        let site = Site::of(cx.intent, cx.fence);
        if runtime.is_verified(self.0, &site) {
            return Ok(Observed::Done);
        }
        Ok(observed(&runtime.lacks(self.0, &site).await?))
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<Outcome, StepError> {
        let runtime = &cx.facilities.runtime;
        match runtime.skips(self.0) {
            Some(why) => Ok(Outcome::skipped(why)),
            None => Ok(runtime.settle(self.0, &Site::of(cx.intent, cx.fence)).await?),
        }
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        let runtime = &cx.facilities.runtime;
        if runtime.skips(self.0).is_some() {
            // What was left out left nothing behind.
            return Ok(());
        }
        Ok(runtime.unsettle(self.0, &Site::of(cx.intent, cx.fence)).await?)
    }
}
