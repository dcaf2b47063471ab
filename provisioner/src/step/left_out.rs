//! The steps that a runtime may have no use for: namespace, migrate, bootstrap, monitoring. The runtime says why, and that is
//! what is recorded.

use async_trait::async_trait;
use authsome_contract::model::Step;

use super::{Observed, Outcome, StepAction, StepContext, StepError, failure};

/// A step that the runtime leaves out.
pub(super) struct LeftOut(pub(super) Step);

#[async_trait]
impl StepAction for LeftOut {
    fn step(&self) -> Step {
        self.0
    }

    async fn observe(&self, _cx: &StepContext<'_>) -> Result<Observed, StepError> {
        Ok(Observed::Needed("nobody recorded why it is left out".to_owned()))
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<Outcome, StepError> {
        let runtime = &cx.facilities.runtime;
        if let Some(why) = runtime.skips(self.0) {
            return Ok(Outcome::skipped(why));
        }
        let source = format!("the {} runtime has no way to take the step {}", runtime.name(), self.0);
        Err(failure::fatal(
            "This installation cannot take a step that it needs.",
            source,
        ))
    }

    /// What was left out left nothing behind.
    async fn undo(&self, _cx: &StepContext<'_>) -> Result<(), StepError> {
        Ok(())
    }
}
