//! One attempt at the steps of an operation: observe, apply, record, in their order, until one of them says otherwise.

use std::panic::AssertUnwindSafe;

use authsome_contract::model::Step;
use authsome_core::error::Chain;
use futures::FutureExt;

use super::Engine;
use crate::db::RecordError;
use crate::ledger::Ledger;
use crate::metrics::StepOutcome;
use crate::plan::{self, Intent, Mode, Planned, Verdict};
use crate::step::{Observed, Outcome, StepError};

/// How the steps of one attempt ended.
pub(super) enum Attempt {
    /// Every step is settled; the last one's end is still to be recorded, unless it was settled before.
    Complete(Option<(Step, Outcome)>),
    /// A step failed; the operation may be tried again.
    Retry {
        step: Step,
        reason: String,
        log: String,
    },
    /// It does not work by itself; the operation is to be given up, if it may be.
    Fail {
        step: Step,
        verdict: Verdict,
        log: String,
    },
    /// The intent is another by now.
    MovedOn,
    Stopped,
    Fenced,
}

impl Engine {
    /// Goes through the plan. The intent is read again before every step, since what one step wrote the next one reads, and
    /// since a newer intent makes the rest pointless.
    pub(super) async fn take_steps(&self, ledger: &Ledger<'_>, plan: &[Planned]) -> Result<Attempt, RecordError> {
        let operation = ledger.operation;
        let mut last = None;
        for (position, planned) in plan.iter().enumerate() {
            if self.stop.is_cancelled() {
                return Ok(Attempt::Stopped);
            }
            let Some(intent) = self.intent(operation.application_id).await? else {
                return Ok(Attempt::MovedOn);
            };
            if !plan::is_current(&intent, operation.kind, operation.generation) {
                return Ok(Attempt::MovedOn);
            }
            let begun = tokio::time::Instant::now();
            let left = plan::time_left(operation.kind, operation.deadline_at, self.clock.now());
            let taken = tokio::time::timeout(left, self.take_step(ledger, *planned, &intent)).await;
            let step = planned.step;
            let outcome = match taken {
                Ok(Ok(Some(outcome))) => outcome,
                Ok(Ok(None)) => continue,
                Ok(Err(Interrupted::Record(error))) => return Err(error),
                Ok(Err(Interrupted::Step(StepError::Fenced))) => return Ok(Attempt::Fenced),
                Ok(Err(Interrupted::Step(error))) => {
                    self.metrics.step(step, StepOutcome::Failed, begun.elapsed());
                    return Ok(failed(step, error));
                }
                Err(_) => {
                    self.metrics.step(step, StepOutcome::Failed, begun.elapsed());
                    let log = format!("{step}: not done in the {left:?} that it had");
                    return Ok(Attempt::Fail {
                        step,
                        verdict: Verdict::too_late(),
                        log,
                    });
                }
            };
            let counted = if outcome.skipped {
                StepOutcome::Skipped
            } else {
                StepOutcome::Done
            };
            self.metrics.step(step, counted, begun.elapsed());
            if position + 1 == plan.len() {
                last = Some((step, outcome));
            } else {
                ledger.settle_step(step, &outcome).await?;
            }
        }
        Ok(Attempt::Complete(last))
    }

    /// Observes and, where something is missing, applies. `None`: recorded before and still so.
    async fn take_step(
        &self,
        ledger: &Ledger<'_>,
        planned: Planned,
        intent: &Intent,
    ) -> Result<Option<Outcome>, Interrupted> {
        let action = self.actions.of(planned.step);
        let cx = self.context(intent, ledger.fence);
        if planned.mode == Mode::Undo {
            ledger.begin_step(planned.step).await.map_err(Interrupted::Record)?;
            caught(action.undo(&cx)).await.map_err(Interrupted::Step)?;
            return Ok(Some(Outcome::undone()));
        }
        match (
            planned.mode,
            caught(action.observe(&cx)).await.map_err(Interrupted::Step)?,
        ) {
            (Mode::Confirm, Observed::Done) => return Ok(None),
            (Mode::Settle, Observed::Done) => return Ok(Some(Outcome::done("Already in place."))),
            (Mode::Confirm, Observed::Needed(why)) => {
                tracing::warn!(
                    operation = %ledger.operation.id, step = %planned.step, why, "settled before and gone; applying again"
                );
            }
            (Mode::Settle, Observed::Needed(why)) => {
                tracing::debug!(operation = %ledger.operation.id, step = %planned.step, why, "step begins");
            }
            // Returned above.
            (Mode::Undo, _) => {}
        }
        ledger.begin_step(planned.step).await.map_err(Interrupted::Record)?;
        caught(action.apply(&cx)).await.map(Some).map_err(Interrupted::Step)
    }
}

/// Why a step did not come to its end.
enum Interrupted {
    Step(StepError),
    Record(RecordError),
}

fn failed(step: Step, error: StepError) -> Attempt {
    let log = format!("{step}: {}", Chain(&error));
    match error {
        StepError::Retry { reason, .. } => Attempt::Retry { step, reason, log },
        StepError::Fatal {
            reason, remediation, ..
        } => Attempt::Fail {
            step,
            verdict: Verdict { reason, remediation },
            log,
        },
        StepError::Fenced => Attempt::Fenced,
    }
}

/// A step that panics failed like any other: it must not take the worker with it, nor be tried for ever.
pub(crate) async fn caught<T>(step: impl Future<Output = Result<T, StepError>>) -> Result<T, StepError> {
    AssertUnwindSafe(step).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        Err(StepError::Retry {
            reason: "An internal error interrupted this step.".to_owned(),
            source: format!("panic: {text}").into(),
        })
    })
}
